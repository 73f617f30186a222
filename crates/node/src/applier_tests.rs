//! Appliers over a durable state machine that crashes: what it has applied and what its notes say
//! of sessions must go together, or a command would be applied twice, or never.

use super::*;
use crate::session::SessionTime;
use crate::{Note, Notebook, QueryError, SessionId, SessionKey, SessionLimits, SessionRequest};
use proptest::prelude::*;
use quorate_core::Term;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq)]
struct Disk {
    applied: LogIndex,
    words: Vec<Bytes>,
    notes: BTreeMap<Bytes, Bytes>,
}

/// A list of words that is durable whenever its disk is told so.
struct Durable {
    now: Disk,
    disk: Arc<Mutex<Disk>>,
    restoring: Option<BTreeMap<Bytes, Bytes>>,
    keeps_notes: bool,
}

impl Durable {
    fn on(disk: &Arc<Mutex<Disk>>) -> Self {
        let now = disk.lock().unwrap().clone();
        Self { now, disk: Arc::clone(disk), restoring: None, keeps_notes: true }
    }
}

fn write(notes: &mut BTreeMap<Bytes, Bytes>, changed: Vec<Note>) {
    for Note { key, value } in changed {
        match value {
            Some(value) => notes.insert(key, value),
            None => notes.remove(&key),
        };
    }
}

impl StateMachine for Durable {
    fn applied(&self) -> LogIndex {
        self.disk.lock().unwrap().applied
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { log_id, command } in batch {
            self.now.words.push(command.clone());
            replies.push(self.now.words.len().to_string());
            write(&mut self.now.notes, replies.take_notes());
            self.now.applied = log_id.index;
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.now.words.join(&b' ').into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Written(self.now.words.join(&b' '))))
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        *self.disk.lock().unwrap() = self.now.clone();
        Ok(Checkpoint::Begun)
    }

    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        if self.keeps_notes { Some(self) } else { None }
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut text = Vec::new();
        source.read_to_end(&mut text).map_err(|error| Fatal::caused_by("read", error))?;
        let words = text.split(|byte| *byte == b' ').map(Bytes::copy_from_slice);
        let words = words.filter(|word| !word.is_empty()).collect();
        let notes = self.restoring.take().expect("the notes come before the restore");
        self.now = Disk { applied: last_included.index, words, notes };
        self.checkpoint().map(|_| ())
    }
}

impl Notebook for Durable {
    fn rows(&self) -> Result<Vec<(Bytes, Bytes)>, Fatal> {
        Ok(self.now.notes.clone().into_iter().collect())
    }

    fn keep(&mut self, through: LogIndex, notes: Vec<Note>) -> Result<(), Fatal> {
        write(&mut self.now.notes, notes);
        self.now.applied = through;
        Ok(())
    }

    fn replace_with_restore(&mut self, rows: Vec<(Bytes, Bytes)>) {
        self.restoring = Some(rows.into_iter().collect());
    }
}

struct Written(Vec<u8>);

impl SnapshotView for Written {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        target.write_all(&self.0)
    }
}

fn log_id(index: u64) -> LogId {
    LogId::new(Term::new(1), LogIndex::new(index))
}

fn new(machine: Durable) -> Applier {
    let applied = LogId { index: machine.applied(), ..log_id(0) };
    Applier::new(Box::new(machine), applied, Arc::default()).unwrap()
}

fn apply(applier: &mut Applier, entries: Vec<Entry>) -> Vec<Fate> {
    let waiters = (0..entries.len()).map(|at| (at, Waiter::Local(Ticket(at as u64)))).collect();
    let outcome = applier.apply(&ApplyBatch { entries, waiters }).unwrap();
    outcome.local.into_iter().map(|(_, fate)| fate).collect()
}

fn of_session(index: u64, request: SessionRequest) -> Entry {
    let (stamp, limits) = (SessionTime::default().after_micros(index), limits());
    let payload = Payload::Session(SessionEntry { stamp, limits, request }.encode());
    Entry { log_id: log_id(index), payload }
}

fn limits() -> SessionLimits {
    SessionLimits {
        sessions_count_max: 3,
        replies_count_max: 4,
        reply_bytes_max: 8,
        ..SessionLimits::default()
    }
}

fn key(index: u64) -> SessionKey {
    SessionKey { id: SessionId::new(index), secret: 9 }
}

/// An entry of some kind; sessions are those that were opened at the first indexes.
fn entry(index: u64, kind: u8, session: u64, number: u64) -> Entry {
    let command = Bytes::from(format!("w{session}.{number}"));
    match kind {
        0 => Entry { log_id: log_id(index), payload: Payload::Noop },
        1..=3 => Entry { log_id: log_id(index), payload: Payload::Command(command) },
        4 => of_session(index, SessionRequest::Open { secret: 9 }),
        5 => of_session(index, SessionRequest::KeepAlive { session: key(session) }),
        6 => of_session(index, SessionRequest::Close { session: key(session) }),
        _ => {
            let first_open = number.saturating_sub(2).max(1);
            let session = key(session);
            let request = SessionRequest::Command { session, number, first_open, command };
            of_session(index, request)
        }
    }
}

proptest! {
    #[test]
    fn a_durable_machine_that_crashes_anywhere_is_one_that_never_did(
        kinds in prop::collection::vec((0_u8..14, 1_u64..6, 1_u64..9, 0_u8..10), 1..80),
    ) {
        let opened = (1..=2).map(|index| entry(index, 4, 0, 0));
        let rest = (3..).zip(&kinds).map(|(index, (kind, session, number, _))| {
            entry(index, *kind, *session, *number)
        });
        let log: Vec<Entry> = opened.chain(rest).collect();
        let mut steady = new(Durable::on(&Arc::default()));
        let disk = Arc::default();
        let mut crashing = new(Durable::on(&disk));
        let mut expected = Vec::new();
        for (at, act) in (0..log.len()).zip([0, 0].into_iter().chain(kinds.iter().map(|it| it.3))) {
            let entry = log[at].clone();
            expected.push(apply(&mut steady, vec![entry.clone()]));
            let fates = apply(&mut crashing, vec![entry]);
            prop_assert_eq!(&fates, expected.last().unwrap());
            match act {
                0 => drop(crashing.checkpoint().unwrap()),
                1 => {
                    // The machine by itself, at some moment.
                    crashing.machine.checkpoint().unwrap();
                }
                2 => {
                    crashing = new(Durable::on(&disk));
                    let from = usize::try_from(crashing.applied().index.get()).unwrap();
                    let fates = apply(&mut crashing, log[from..=at].to_vec());
                    prop_assert_eq!(fates, expected[from..].concat());
                }
                3 => {
                    let (meta, view) = steady.view().unwrap();
                    let mut bytes = Vec::new();
                    view.write_to(&mut bytes).unwrap();
                    crashing.restore(&meta, &mut bytes.as_slice()).unwrap();
                }
                _ => {}
            }
            prop_assert_eq!(crashing.sessions().rows(), steady.sessions().rows());
            prop_assert_eq!(crashing.machine().query(b""), steady.machine().query(b""));
        }
    }
}

#[test]
fn entries_without_a_command_are_noted_at_a_checkpoint_and_need_no_replay() {
    let disk = Arc::default();
    let mut applier = new(Durable::on(&disk));
    apply(&mut applier, vec![entry(1, 4, 0, 0)]);
    assert_eq!(applier.durable(), LogIndex::ORIGIN);
    applier.checkpoint().unwrap();
    assert_eq!(applier.durable(), LogIndex::new(1));
    assert_eq!(new(Durable::on(&disk)).sessions().count(), 1);
}

#[test]
fn a_durable_machine_without_a_notebook_stops_before_a_session_could_be_forgotten() {
    let disk = Arc::default();
    let mut applier = new(Durable { keeps_notes: false, ..Durable::on(&disk) });
    apply(&mut applier, vec![entry(1, 4, 0, 0), entry(2, 9, 1, 1)]);
    applier.checkpoint().unwrap();
    assert!(!applier.keeps_sessions());
    let batch = ApplyBatch { entries: vec![entry(3, 9, 1, 1)], waiters: Vec::new() };
    let refused = applier.apply(&batch).unwrap_err();
    assert!(refused.to_string().contains("notebook"), "{refused}");
}

#[test]
fn an_entry_that_is_no_request_stops_the_node_and_not_the_process() {
    let mut applier = new(Durable::on(&Arc::default()));
    let payload = Payload::Session(Bytes::from_static(b"\xff"));
    let entries = vec![Entry { log_id: log_id(1), payload }];
    let refused = applier.apply(&ApplyBatch { entries, waiters: Vec::new() }).unwrap_err();
    assert!(refused.to_string().contains("entry 1@1"), "{refused}");
}
