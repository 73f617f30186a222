//! The table of sessions, alone: against a model that is slow and simple, and at its limits.

use super::table::Verdict;
use super::*;
use crate::{Fate, Note, Replies};
use proptest::prelude::*;
use quorate_core::{LogIndex, Term};
use std::collections::{BTreeMap, BTreeSet};

/// The table as one would write it without a thought of speed.
#[derive(Clone, Debug, Default)]
struct Model {
    time_us: u64,
    limits: SessionLimits,
    sessions: Vec<ModelSession>,
}

#[derive(Clone, Debug)]
struct ModelSession {
    key: SessionKey,
    used_at: u64,
    used_us: u64,
    first_open: u64,
    answers: Vec<(u64, LogId, Option<Bytes>)>,
}

impl Model {
    fn decide(&mut self, log_id: LogId, entry: &SessionEntry) -> Verdict {
        self.time_us = self.time_us.max(entry.stamp.as_micros());
        let (time_us, idle_max) = (self.time_us, self.limits.idle_max.as_micros());
        self.sessions.retain(|it| u128::from(it.used_us) + idle_max >= u128::from(time_us));
        let session = match &entry.request {
            SessionRequest::Open { secret } => return self.open(log_id, entry, *secret),
            SessionRequest::Command { session, .. }
            | SessionRequest::KeepAlive { session }
            | SessionRequest::Close { session } => *session,
        };
        let Some(found) = self.sessions.iter_mut().find(|it| it.key == session) else {
            return Verdict::Say(Fate::Refused(SessionRefusal::Expired));
        };
        (found.used_at, found.used_us) = (log_id.index.get(), time_us);
        if let SessionRequest::Command { number, first_open, command, .. } = &entry.request {
            return found.command(*number, *first_open, command, self.limits.replies_count_max);
        }
        if matches!(entry.request, SessionRequest::Close { .. }) {
            self.sessions.retain(|it| it.key != session);
        }
        Verdict::Say(Fate::Applied { log_id, reply: Bytes::new() })
    }

    fn open(&mut self, log_id: LogId, entry: &SessionEntry, secret: u64) -> Verdict {
        self.limits = entry.limits;
        self.forget();
        while self.sessions.len() >= self.limits.sessions_count_max.max(1) as usize {
            let oldest = self.sessions.iter().map(|it| it.used_at).min().unwrap();
            self.sessions.retain(|it| it.used_at != oldest);
        }
        let index = log_id.index.get();
        let key = SessionKey { id: SessionId::new(index), secret };
        let (used_at, used_us) = (index, self.time_us);
        self.sessions.push(ModelSession { key, used_at, used_us, first_open: 1, answers: vec![] });
        Verdict::Say(Fate::Applied { log_id, reply: Bytes::new() })
    }

    fn record(&mut self, log_id: LogId, id: SessionId, number: u64, reply: Bytes) {
        let session = self.sessions.iter_mut().find(|it| it.key.id == id).unwrap();
        session.answers.push((number, log_id, Some(reply)));
        self.forget();
    }

    fn kept_bytes(&self) -> u64 {
        let answers = self.sessions.iter().flat_map(|it| &it.answers);
        answers.filter_map(|it| it.2.as_ref()).map(|it| it.len() as u64).sum()
    }

    fn forget(&mut self) {
        while self.kept_bytes() > self.limits.reply_bytes_max {
            let answers = self.sessions.iter_mut().flat_map(|it| &mut it.answers);
            answers.filter(|it| it.2.is_some()).min_by_key(|it| it.1.index).unwrap().2 = None;
        }
    }
}

impl ModelSession {
    fn command(&mut self, number: u64, first_open: u64, command: &Bytes, max: u32) -> Verdict {
        let refused = |refusal| Verdict::Say(Fate::Refused(refusal));
        self.first_open = self.first_open.max(first_open);
        let first_open = self.first_open;
        self.answers.retain(|it| it.0 >= first_open);
        if number < first_open {
            return refused(SessionRefusal::Settled { first_open });
        }
        match self.answers.iter().find(|it| it.0 == number) {
            Some((_, log_id, Some(reply))) => {
                Verdict::Say(Fate::Applied { log_id: *log_id, reply: reply.clone() })
            }
            Some((_, log_id, None)) => refused(SessionRefusal::Forgotten { log_id: *log_id }),
            None if number >= first_open + u64::from(max.max(1)) => {
                refused(SessionRefusal::TooFarAhead { limit_count: max.max(1) })
            }
            None => Verdict::Run { session: self.key.id, number, command: command.clone() },
        }
    }
}

/// What happens next, in small numbers so that things meet.
#[derive(Clone, Debug)]
struct Act {
    kind: u8,
    /// Which of the sessions that were opened.
    session: usize,
    number: u64,
    settled: u64,
    elapsed_us: u64,
    reply_size: usize,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = (0_u8..20, 0_usize..6, 1_u64..12, 0_u64..6, 0_u64..40, 0_usize..30).prop_map(
        |(kind, session, number, settled, elapsed_us, reply_size)| Act {
            kind,
            session,
            number,
            settled,
            elapsed_us,
            reply_size,
        },
    );
    prop::collection::vec(act, 0..120)
}

fn small(sessions_count_max: u32) -> SessionLimits {
    SessionLimits {
        sessions_count_max,
        replies_count_max: 6,
        reply_bytes_max: 60,
        idle_max: Duration::from_micros(200),
    }
}

/// Makes requests out of acts.
#[derive(Default)]
struct Client {
    opened: Vec<SessionKey>,
    index: u64,
    time_us: u64,
}

impl Client {
    fn next(&mut self, act: &Act) -> (LogId, SessionEntry) {
        self.index += 1 + act.elapsed_us % 3;
        self.time_us += act.elapsed_us;
        let log_id = LogId::new(Term::new(1), LogIndex::new(self.index));
        let any = |at: usize| self.opened.get(at % self.opened.len().max(1)).copied();
        let session = any(act.session).unwrap_or(SessionKey { id: SessionId::new(999), secret: 0 });
        let request = match act.kind {
            0 | 1 => {
                let secret = act.number;
                self.opened.push(SessionKey { id: SessionId::new(self.index), secret });
                SessionRequest::Open { secret }
            }
            2 => SessionRequest::KeepAlive { session },
            3 => SessionRequest::Close { session },
            4 => SessionRequest::KeepAlive { session: SessionKey { secret: 99, ..session } },
            _ => SessionRequest::Command {
                session,
                number: act.number,
                first_open: act.number.saturating_sub(act.settled).max(1),
                command: Bytes::from(vec![act.kind]),
            },
        };
        // Clocks of leaders need not agree.
        let stamp = SessionTime::default().after_micros(self.time_us.saturating_sub(act.number));
        let limits = small(3 + u32::from(act.kind % 2));
        (log_id, SessionEntry { stamp, limits, request })
    }
}

fn keep(notebook: &mut BTreeMap<Bytes, Bytes>, notes: Vec<Note>) {
    for Note { key, value } in notes {
        match value {
            Some(value) => notebook.insert(key, value),
            None => notebook.remove(&key),
        };
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_simple_model_does(acts in acts()) {
        let (mut table, mut model, mut client) =
            (SessionTable::default(), Model::default(), Client::default());
        for act in acts {
            let (log_id, entry) = client.next(&act);
            let expected = model.decide(log_id, &entry);
            let verdict = table.decide(log_id, entry);
            prop_assert_eq!(&verdict, &expected);
            if let Verdict::Run { session, number, .. } = verdict {
                let reply = Bytes::from(vec![7; act.reply_size]);
                model.record(log_id, session, number, reply.clone());
                table.record(log_id, session, number, reply);
            }
            prop_assert_eq!(table.count(), model.sessions.len());
            prop_assert_eq!(table.kept().1, model.kept_bytes());
        }
    }

    #[test]
    fn no_command_runs_twice_whatever_expires_and_returns(acts in acts()) {
        let (mut table, mut client) = (SessionTable::default(), Client::default());
        let mut ran = BTreeSet::new();
        for act in acts {
            let (log_id, entry) = client.next(&act);
            if let Verdict::Run { session, number, .. } = table.decide(log_id, entry) {
                prop_assert!(ran.insert((session, number)));
                table.record(log_id, session, number, Bytes::new());
            }
        }
    }

    #[test]
    fn a_table_comes_back_from_a_snapshot_as_it_was(acts in acts()) {
        let (mut table, mut client) = (SessionTable::default(), Client::default());
        for act in acts {
            let (log_id, entry) = client.next(&act);
            if let Verdict::Run { session, number, .. } = table.decide(log_id, entry) {
                table.record(log_id, session, number, Bytes::from(vec![7; act.reply_size]));
            }
        }
        let mut written = Vec::new();
        write_section(&table, &mut written).unwrap();
        written.extend_from_slice(b"the machine's");
        let mut source = written.as_slice();
        let through = LogIndex::new(client.index);
        let read = read_section(&mut source, through).unwrap();
        prop_assert_eq!(source, b"the machine's");
        prop_assert_eq!(read.rows(), table.rows());
        prop_assert_eq!((read.kept(), &read.idle), (table.kept(), &table.idle));
    }

    #[test]
    fn notes_make_the_table_as_of_every_command(acts in acts()) {
        let (mut table, mut client) = (SessionTable::default(), Client::default());
        table.record_changes();
        let mut notebook = BTreeMap::new();
        for act in acts {
            let (log_id, entry) = client.next(&act);
            if let Verdict::Run { session, number, .. } = table.decide(log_id, entry) {
                let note = SessionTable::reply_row(session, number, log_id);
                let mut replies = Replies::noting(table.take_changes(), Some(note));
                let reply = Bytes::from(vec![7; act.reply_size]);
                replies.push(reply.clone());
                keep(&mut notebook, replies.take_notes());
                table.record(log_id, session, number, reply);
                // The machine may be durable up to here and no further: a crash.
                let read = SessionTable::from_notes(notebook.clone(), log_id.index).unwrap();
                prop_assert_eq!(read.rows(), table.rows());
            }
        }
        keep(&mut notebook, table.take_changes());
        if !notebook.is_empty() {
            let read = SessionTable::from_notes(notebook, LogIndex::new(client.index)).unwrap();
            prop_assert_eq!(read.rows(), table.rows());
        }
    }

    #[test]
    fn a_table_read_from_notes_again_and_again_is_the_one_that_never_stopped(acts in acts()) {
        let (mut steady, mut client) = (SessionTable::default(), Client::default());
        let (mut table, mut notebook) = (SessionTable::default(), BTreeMap::new());
        table.record_changes();
        for act in acts {
            let (log_id, entry) = client.next(&act);
            let verdict = steady.decide(log_id, entry.clone());
            prop_assert_eq!(&table.decide(log_id, entry), &verdict);
            if let Verdict::Run { session, number, .. } = verdict {
                let reply = Bytes::from(vec![7; act.reply_size]);
                steady.record(log_id, session, number, reply.clone());
                let note = SessionTable::reply_row(session, number, log_id);
                let mut replies = Replies::noting(table.take_changes(), Some(note));
                replies.push(reply);
                keep(&mut notebook, replies.take_notes());
                // The node stops before the next entry, and goes on from its notes.
                table = SessionTable::from_notes(notebook.clone(), log_id.index).unwrap();
                prop_assert_eq!(table.rows(), steady.rows());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_section_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut section = (bytes.len() as u64).to_le_bytes().to_vec();
        section.extend_from_slice(&bytes);
        if let Ok(table) = read_section(&mut section.as_slice(), LogIndex::new(9)) {
            table.rows();
        }
        drop(read_section(&mut bytes.as_slice(), LogIndex::new(9)));
    }
}

fn at(index: u64) -> LogId {
    LogId::new(Term::new(1), LogIndex::new(index))
}

fn open(table: &mut SessionTable, index: u64, limits: SessionLimits) -> SessionKey {
    let (stamp, request) = (table.time(), SessionRequest::Open { secret: 5 });
    table.decide(at(index), SessionEntry { stamp, limits, request });
    SessionKey { id: SessionId::new(index), secret: 5 }
}

fn command(session: SessionKey, number: u64, first_open: u64) -> SessionRequest {
    SessionRequest::Command { session, number, first_open, command: Bytes::new() }
}

fn send(table: &mut SessionTable, index: u64, request: SessionRequest) -> Verdict {
    let (stamp, limits) = (table.time(), SessionLimits::default());
    let verdict = table.decide(at(index), SessionEntry { stamp, limits, request });
    if let Verdict::Run { session, number, .. } = verdict {
        table.record(at(index), session, number, Bytes::from_static(b"0123456789"));
    }
    verdict
}

#[test]
fn one_session_more_than_the_limit_ends_the_one_that_was_idle_for_longest() {
    let mut table = SessionTable::default();
    let keys: Vec<SessionKey> = (1..=3).map(|index| open(&mut table, index, small(3))).collect();
    send(&mut table, 4, command(keys[0], 1, 1));
    open(&mut table, 5, small(3));
    assert_eq!(table.count(), 3);
    let expired = Verdict::Say(Fate::Refused(SessionRefusal::Expired));
    assert_eq!(send(&mut table, 6, command(keys[1], 1, 1)), expired);
    assert!(matches!(send(&mut table, 7, command(keys[0], 2, 1)), Verdict::Run { .. }));
}

#[test]
fn a_session_expires_by_the_time_in_the_log_and_not_before() {
    let mut table = SessionTable::default();
    let key = open(&mut table, 1, small(3));
    let stamp = SessionTime::default().after_micros(200);
    let request = SessionRequest::KeepAlive { session: key };
    let entry = SessionEntry { stamp, limits: small(3), request };
    let applied = Fate::Applied { log_id: at(2), reply: Bytes::new() };
    assert_eq!(table.decide(at(2), entry.clone()), Verdict::Say(applied));
    let late = SessionEntry { stamp: stamp.after_micros(201), ..entry };
    let expired = Verdict::Say(Fate::Refused(SessionRefusal::Expired));
    assert_eq!(table.decide(at(3), late), expired);
    assert_eq!(table.count(), 0);
}

#[test]
fn the_window_of_open_commands_ends_at_its_limit() {
    let mut table = SessionTable::default();
    let key = open(&mut table, 1, small(3));
    assert!(matches!(send(&mut table, 2, command(key, 6, 1)), Verdict::Run { .. }));
    let refused = Verdict::Say(Fate::Refused(SessionRefusal::TooFarAhead { limit_count: 6 }));
    assert_eq!(send(&mut table, 3, command(key, 7, 1)), refused);
    assert!(matches!(send(&mut table, 4, command(key, 7, 2)), Verdict::Run { .. }));
}

#[test]
fn a_reply_beyond_the_limit_of_bytes_is_forgotten_and_its_command_is_not_applied_again() {
    let mut table = SessionTable::default();
    let key = open(&mut table, 1, small(3));
    for number in 1..=6 {
        send(&mut table, 1 + number, command(key, number, 1));
    }
    assert_eq!(table.kept(), (6, 60));
    let other = open(&mut table, 8, small(3));
    send(&mut table, 9, command(other, 1, 1));
    assert_eq!(table.kept(), (6, 60), "the limit is 60 bytes");
    let forgotten = SessionRefusal::Forgotten { log_id: at(2) };
    let told = send(&mut table, 10, command(key, 1, 1));
    assert_eq!(told, Verdict::Say(Fate::Refused(forgotten)));
}

#[test]
fn a_wrong_secret_is_no_key() {
    let mut table = SessionTable::default();
    let key = open(&mut table, 1, small(3));
    let wrong = SessionKey { secret: 6, ..key };
    let expired = Verdict::Say(Fate::Refused(SessionRefusal::Expired));
    assert_eq!(send(&mut table, 2, SessionRequest::Close { session: wrong }), expired);
    assert_eq!(table.count(), 1);
}

/// The rows of a table of two sessions, opened at 1 and 2, with an answer of the first at 3.
fn two_sessions() -> Vec<(Bytes, Bytes)> {
    let mut table = SessionTable::default();
    let limits = SessionLimits::default();
    let first = open(&mut table, 1, limits);
    open(&mut table, 2, limits);
    send(&mut table, 3, command(first, 1, 1));
    table.present_rows()
}

#[test]
fn rows_that_no_log_makes_are_not_taken_for_sessions() {
    let read = |rows: Vec<_>, through| SessionTable::from_notes(rows, LogIndex::new(through));
    let (common, first, second, answer) = (0, 1, 2, 3);
    let rows = two_sessions();
    assert!(read(rows.clone(), 3).is_ok());
    assert!(read(rows.clone(), 2).is_err(), "used where the log has not come to yet");
    let mut twice = rows.clone();
    twice.insert(answer, rows[answer].clone());
    assert!(read(twice, 3).is_err(), "an answer that counts twice");
    let mut longer = rows.clone();
    longer[second].0 = [&rows[second].0[..], b"x"].concat().into();
    assert!(read(longer, 3).is_err(), "another key for the same session");
    let mut swapped = rows.clone();
    (swapped[first].1, swapped[second].1) = (rows[second].1.clone(), rows[first].1.clone());
    assert!(read(swapped, 3).is_err(), "used before it was opened");
    let mut later = rows.clone();
    later[answer].1 = [&[1, 9][..], &rows[answer].1[2..]].concat().into();
    assert!(read(later, 9).is_err(), "an answer after the last use");
    assert!(read(vec![rows[common].clone(), rows[answer].clone()], 3).is_err(), "no session");
}
