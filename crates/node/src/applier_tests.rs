//! Appliers over a durable state machine that crashes: what it has applied and what its notes say
//! of sessions must go together, or a command would be applied twice, or never.

use super::*;
use crate::session::SessionTime;
use crate::{
    Digest, Note, Notebook, QueryError, SessionId, SessionKey, SessionLimits, SessionRequest,
};
use proptest::prelude::*;
use quorate_core::{Configuration, ProtocolVersion, Term};
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
    let outcome = applier.apply(&ApplyBatch { entries, waiters, place: None }).unwrap();
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
    let batch = ApplyBatch { entries: vec![entry(3, 9, 1, 1)], waiters: Vec::new(), place: None };
    let refused = applier.apply(&batch).unwrap_err();
    assert!(refused.to_string().contains("notebook"), "{refused}");
}

#[test]
fn an_entry_that_is_no_request_stops_the_node_and_not_the_process() {
    let mut applier = new(Durable::on(&Arc::default()));
    let payload = Payload::Session(Bytes::from_static(b"\xff"));
    let entries = vec![Entry { log_id: log_id(1), payload }];
    let refused =
        applier.apply(&ApplyBatch { entries, waiters: Vec::new(), place: None }).unwrap_err();
    assert!(refused.to_string().contains("entry 1@1"), "{refused}");
}

/// Replies with the command and what this life of it goes by besides.
struct Moody(&'static [u8]);

impl StateMachine for Moody {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }
    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            replies.push([command.as_ref(), self.0].concat());
        }
        Ok(())
    }
    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }
    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Written(Vec::new())))
    }
    fn digest_of_reply<'a>(&self, reply: &'a [u8]) -> &'a [u8] {
        reply.strip_suffix(b" at home").unwrap_or(reply)
    }
    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Ok(())
    }
}

fn plain(index: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(format!("command {index}")));
    Entry { log_id: log_id(index), payload }
}

/// The windows of four that come of applying entries one after the other, so many at a time.
fn windows(mood: &'static [u8], after: u64, at_a_time: usize, entries: &[Entry]) -> Vec<Digest> {
    let applier = Applier::new(Box::new(Moody(mood)), log_id(after), Arc::default()).unwrap();
    let mut applier = applier.hashing(4);
    let batches = entries.chunks(at_a_time).map(<[Entry]>::to_vec);
    let outcomes = batches.map(|entries| {
        applier
            .apply(&ApplyBatch { entries, waiters: Vec::new(), place: None })
            .unwrap()
            .applied
            .digests
    });
    outcomes.flatten().collect()
}

fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(plain).collect()
}

fn lasts(digests: &[Digest]) -> Vec<u64> {
    digests.iter().map(|digest| digest.last.get()).collect()
}

#[test]
fn a_window_is_the_same_however_its_entries_are_batched() {
    let one_by_one = windows(b"", 0, 1, &entries(1..=12));
    assert_eq!(lasts(&one_by_one), [3, 7, 11]);
    assert_eq!(windows(b"", 0, 5, &entries(1..=12)), one_by_one);
    assert_eq!(windows(b"", 0, 12, &entries(1..=12)), one_by_one);
}

#[test]
fn a_window_that_was_not_applied_from_its_beginning_is_not_spoken_of() {
    let whole = windows(b"", 0, 1, &entries(1..=12));
    assert_eq!(windows(b"", 1, 1, &entries(2..=12)), whole[1..]);
    assert_eq!(windows(b"", 3, 1, &entries(4..=12)), whole[1..]);
    assert_eq!(windows(b"", 4, 1, &entries(5..=12)), whole[2..]);
}

#[test]
fn a_snapshot_in_the_middle_of_a_window_ends_it() {
    let mut applier =
        Applier::new(Box::new(Moody(b"")), log_id(0), Arc::default()).unwrap().hashing(4);
    let apply = |applier: &mut Applier, entries| {
        applier
            .apply(&ApplyBatch { entries, waiters: Vec::new(), place: None })
            .unwrap()
            .applied
            .digests
    };
    assert_eq!(apply(&mut applier, entries(1..=5)).len(), 1);
    let meta = SnapshotMeta { last_included: log_id(6), configuration: Arc::default() };
    let mut section = Vec::new();
    write_section(&SessionTable::default(), &mut section).unwrap();
    applier.restore(&meta, &mut section.as_slice()).unwrap();
    assert_eq!(lasts(&apply(&mut applier, entries(7..=11))), [11]);
}

#[test]
fn another_command_or_another_reply_shows_in_the_window_from_there_on() {
    let sound = windows(b"", 0, 1, &entries(1..=7));
    let moody = windows(b"!", 0, 1, &entries(1..=7));
    let mut other = entries(1..=7);
    other[5] = Entry { log_id: log_id(6), ..plain(60) };
    let other = windows(b"", 0, 1, &other);
    assert_ne!(moody[0].list[0], sound[0].list[0]);
    assert_eq!(other[0], sound[0]);
    let same = sound[1].list.iter().zip(other[1].list.iter()).map(|(one, other)| one == other);
    assert_eq!(same.collect::<Vec<_>>(), [true, true, false, false]);
    let noop = Entry { log_id: log_id(1), payload: Payload::Noop };
    assert_ne!(windows(b"", 0, 1, &[&[noop], &entries(2..=3)[..]].concat()), sound[..1]);
}

#[test]
fn what_a_machine_says_is_of_its_own_node_is_left_out() {
    let home = windows(b" at home", 0, 1, &entries(1..=7));
    assert_eq!(home, windows(b"", 0, 1, &entries(1..=7)));
    assert_ne!(home, windows(b" abroad", 0, 1, &entries(1..=7)));
}

#[test]
fn a_reply_that_is_given_again_is_the_same_on_a_node_that_was_sent_its_session() {
    let disk = Arc::new(Mutex::new(Disk::default()));
    let entry = |index, request| of_session(index, request);
    let key = SessionKey { id: SessionId::new(1), secret: 7 };
    let command = |number| SessionRequest::Command {
        session: key,
        number,
        first_open: 1,
        command: Bytes::from_static(b"word"),
    };
    let opening = vec![entry(1, SessionRequest::Open { secret: 7 }), entry(2, command(1))];
    let later = vec![
        entry(3, command(2)),
        entry(4, command(1)),
        entry(5, command(2)),
        entry(6, SessionRequest::KeepAlive { session: key }),
        entry(7, SessionRequest::Close { session: key }),
        entry(8, command(3)),
        entry(9, command(1)),
        plain(10),
        plain(11),
    ];
    let mut first = new(Durable::on(&disk)).hashing(4);
    apply(&mut first, opening);
    let (meta, view) = first.view().unwrap();
    let mut snapshot = Vec::new();
    view.write_to(&mut snapshot).unwrap();
    let mut sent = new(Durable::on(&Arc::default())).hashing(4);
    sent.restore(&meta, &mut snapshot.as_slice()).unwrap();
    first.checkpoint().unwrap();
    let mut restarted = new(Durable::on(&disk)).hashing(4);
    let finished = [&mut first, &mut sent, &mut restarted].map(|applier| {
        let batch = ApplyBatch { entries: later.clone(), waiters: Vec::new(), place: None };
        applier.apply(&batch).unwrap().applied.digests
    });
    let [first, sent, restarted] = finished;
    assert_eq!((lasts(&first), lasts(&sent)), (vec![3, 7, 11], vec![7, 11]));
    assert_eq!(first[1..], sent);
    assert_eq!(sent, restarted);
}

/// Notes between which commands it was told what the cluster speaks.
#[derive(Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl StateMachine for Listener {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }
    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for committed in batch {
            self.0.lock().unwrap().push(committed.log_id.index.to_string());
            replies.push("");
        }
        Ok(())
    }
    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }
    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Written(Vec::new())))
    }
    fn cluster_version(&mut self, version: ProtocolVersion) {
        self.0.lock().unwrap().push(format!("v{version}"));
    }
    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Ok(())
    }
}

#[test]
fn a_machine_is_told_what_the_cluster_speaks_at_the_same_place_however_entries_are_batched() {
    let speaking = |version| {
        let cluster_version = ProtocolVersion::new(version);
        Arc::new(Configuration { cluster_version, ..Configuration::default() })
    };
    let configuration = |index, version| Entry {
        log_id: log_id(index),
        payload: Payload::Configuration(speaking(version)),
    };
    let entries =
        || vec![plain(1), configuration(2, 5), plain(3), configuration(4, 6), plain(5), plain(6)];
    for at_a_time in 1..=6 {
        let heard = Arc::default();
        let machine = Box::new(Listener(Arc::clone(&heard)));
        let mut applier = Applier::new(machine, LogId::ORIGIN, speaking(5)).unwrap();
        for batch in entries().chunks(at_a_time) {
            apply(&mut applier, batch.to_vec());
        }
        assert_eq!(*heard.lock().unwrap(), ["v5", "1", "3", "v6", "5", "6"], "{at_a_time}");
        let (meta, view) = applier.view().unwrap();
        let mut written = Vec::new();
        view.write_to(&mut written).unwrap();
        heard.lock().unwrap().clear();
        applier.restore(&meta, &mut written.as_slice()).unwrap();
        assert_eq!(*heard.lock().unwrap(), ["v6"]);
    }
}

#[test]
fn a_state_that_was_ahead_of_a_damaged_log_learns_which_entry_it_ends_with() {
    let applier = Applier::new(Box::new(Moody(b"")), log_id(4), Arc::default()).unwrap();
    let mut applier = applier.displaced();
    assert!(!applier.is_placed());
    let place = LogId::new(Term::new(7), LogIndex::new(4));
    let configuration = Arc::new(Configuration { version: 3, ..Configuration::default() });
    let place = Some((place, Arc::clone(&configuration)));
    let batch = ApplyBatch { entries: Vec::new(), waiters: Vec::new(), place };
    applier.apply(&batch).unwrap();
    assert!(applier.is_placed());
    assert_eq!(applier.applied().term, Term::new(7));
    assert_eq!(applier.configuration, configuration);
}
