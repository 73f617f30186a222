//! Sessions under any entries, and under any snapshot's section: no command takes effect twice, the
//! table keeps within its limits, and what is written out is read back as the same table. What comes
//! after the section in a snapshot is not known here.

use super::input::Input;
use bytes::{BufMut, Bytes};
use quorate::parts::rewrite_session_entry;
use quorate::{
    Applier, ApplyBatch, Committed, Fatal, Fate, QueryError, Replies, SnapshotView, StateMachine,
    Ticket, Waiter,
};
use quorate_core::{Configuration, Entry, LogId, LogIndex, Payload, SnapshotMeta, Term};
use quorate_wal::codec::{encode_bytes, encode_log_id, encode_varint};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

const ENTRIES_COUNT_MAX: usize = 300;
/// Where a snapshot that somebody sent ends.
const SNAPSHOT_END: u64 = 10;
/// All sessions here have it, but for a few that are wrong about it.
const SECRET: u64 = 5;

/// An entry of the log that a session's request stands in. What decodes is encoded to bytes that
/// decode to the same.
pub(super) fn session_entry(data: &[u8]) {
    let Ok(written) = rewrite_session_entry(Bytes::copy_from_slice(data)) else { return };
    let again = rewrite_session_entry(written.clone());
    assert_eq!(again, Ok(written), "a session's entry survives being encoded");
}

/// Perhaps a section that anybody may have written, then entries, and restarts among them.
pub(super) fn session_table(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut bench) = Bench::new() else { return };
    if input.below(3) == 0 && !bench.take_over(&section(&mut input)) {
        return;
    }
    for _ in 0..ENTRIES_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        let is_sound = if input.below(16) == 0 { bench.restart() } else { bench.step(&mut input) };
        if !is_sound {
            return;
        }
    }
    bench.restart();
}

/// A table with what its clients were told.
struct Bench {
    applier: Applier,
    next: LogIndex,
    /// Set when a session is opened: the most that there may be from then on.
    limits: Option<Limits>,
    told: BTreeMap<(u64, u64), Fate>,
}

#[derive(Clone, Copy)]
struct Limits {
    sessions_count: u64,
    replies_count: u64,
    reply_bytes: u64,
}

/// What an entry is about, if it makes sense.
enum Request {
    Open(Limits),
    Command { session: u64, number: u64 },
    Other,
}

fn fresh() -> Option<Applier> {
    Applier::new(Box::new(Ledger), LogId::ORIGIN, Arc::new(Configuration::default())).ok()
}

fn meta(end: LogIndex) -> SnapshotMeta {
    let last_included = LogId::new(Term::new(1), end);
    SnapshotMeta { last_included, configuration: Arc::new(Configuration::default()) }
}

impl Bench {
    fn new() -> Option<Self> {
        let (limits, told) = (None, BTreeMap::new());
        Some(Self { applier: fresh()?, next: LogIndex::new(1), limits, told })
    }

    /// Starts from a snapshot that came from somewhere; says whether it was taken.
    fn take_over(&mut self, section: &[u8]) -> bool {
        let end = LogIndex::new(SNAPSHOT_END);
        self.next = end.next();
        self.applier.restore(&meta(end), &mut &*section).is_ok()
    }

    /// Another node takes over from the own snapshot, which must be one, and goes on.
    fn restart(&mut self) -> bool {
        let Some(mut other) = fresh() else { return false };
        let written = self.written();
        let end = LogIndex::new(self.next.get().saturating_sub(1));
        let restored = other.restore(&meta(end), &mut written.as_slice());
        assert!(restored.is_ok(), "what was written out can be read: {restored:?}");
        assert_eq!(other.sessions().kept(), self.applier.sessions().kept());
        self.applier = other;
        assert_eq!(self.written(), written, "the same table");
        true
    }

    fn written(&self) -> Vec<u8> {
        let mut written = Vec::new();
        let done = self.applier.sessions().write_to(&mut written);
        assert!(done.is_ok(), "a table can be written out");
        written
    }

    /// Applies one entry; says whether the node goes on.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        let (request, bytes) = request(input);
        let is_sound = rewrite_session_entry(bytes.clone()).is_ok();
        let log_id = LogId::new(Term::new(1), self.next);
        let entries = vec![Entry { log_id, payload: Payload::Session(bytes) }];
        let waiters = vec![(0, Waiter::Local(Ticket(1)))];
        let outcome = self.applier.apply(&ApplyBatch { entries, waiters, place: None });
        assert_eq!(outcome.is_ok(), is_sound, "an entry that makes no sense stops the node");
        let Ok(outcome) = outcome else { return false };
        self.next = self.next.next();
        for (_, fate) in outcome.local {
            self.check(&request, log_id, &fate);
        }
        self.check_limits(&request);
        true
    }

    /// A command that was applied once is told of as it was then, or not at all.
    fn check(&mut self, request: &Request, log_id: LogId, fate: &Fate) {
        let (Request::Command { session, number }, Fate::Applied { log_id: at, reply }) =
            (request, fate)
        else {
            return;
        };
        if *at == log_id {
            assert!(reply.starts_with(&log_id.index.get().to_le_bytes()), "its own reply");
        }
        let first = self.told.entry((*session, *number)).or_insert_with(|| fate.clone());
        assert_eq!(first, fate, "a command takes effect once");
    }

    fn check_limits(&mut self, request: &Request) {
        if let Request::Open(limits) = request {
            self.limits = Some(*limits);
        }
        let Some(limits) = self.limits else { return };
        let sessions = self.applier.sessions();
        let (_, kept_bytes) = sessions.kept();
        let count = u64::try_from(sessions.count()).unwrap_or(u64::MAX);
        assert!(count <= limits.sessions_count.max(1), "no more sessions");
        assert!(kept_bytes <= limits.reply_bytes, "no more bytes of replies");
    }
}

/// A session's request as an entry; see `docs/wal-format.md`.
fn request(input: &mut Input<'_>) -> (Request, Bytes) {
    let mut out = vec![1];
    let kind = input.below(8);
    if kind == 7 {
        let size = usize::from(input.byte());
        return (Request::Other, Bytes::copy_from_slice(input.bytes(size)));
    }
    encode_varint(input.number(), &mut out);
    let request = match kind {
        0 | 1 => Request::Open(open(input, &mut out)),
        2 => {
            out.put_u8(3 + input.below(2));
            key(input, &mut out);
            Request::Other
        }
        _ => {
            out.put_u8(2);
            let session = key(input, &mut out);
            let first_open = input.number();
            let number = first_open.saturating_add(u64::from(input.below(4)));
            encode_varint(number, &mut out);
            encode_varint(first_open, &mut out);
            out.put_u8(input.byte());
            Request::Command { session, number }
        }
    };
    (request, out.into())
}

fn open(input: &mut Input<'_>, out: &mut Vec<u8>) -> Limits {
    let limits = Limits {
        sessions_count: u64::from(input.below(4)),
        replies_count: u64::from(input.below(4)),
        reply_bytes: u64::from(input.byte()),
    };
    limits.encode(input.number(), out);
    out.put_u8(1);
    out.put_u64_le(SECRET);
    limits
}

impl Limits {
    fn encode(self, idle_us: u64, out: &mut Vec<u8>) {
        out.put_u8(0);
        encode_varint(self.sessions_count, out);
        encode_varint(self.replies_count, out);
        encode_varint(self.reply_bytes, out);
        encode_varint(idle_us, out);
    }
}

/// A session's name, and its secret, which is wrong at times. Returns the name.
fn key(input: &mut Input<'_>, out: &mut Vec<u8>) -> u64 {
    let session = u64::from(input.below(32));
    encode_varint(session, out);
    out.put_u64_le(if input.below(16) == 0 { 0 } else { SECRET });
    session
}

/// The part of a snapshot that holds the sessions: rows, mostly of the right form.
fn section(input: &mut Input<'_>) -> Vec<u8> {
    let mut rows = Vec::new();
    for _ in 0..input.below(12) {
        let (key, value) = row(input);
        encode_bytes(&key, &mut rows);
        encode_bytes(&value, &mut rows);
    }
    let mut section = Vec::new();
    section.put_u64_le(u64::try_from(rows.len()).unwrap_or_default());
    section.extend_from_slice(&rows);
    section
}

fn row(input: &mut Input<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    match input.below(5) {
        0 => {
            key.push(b'a');
            value.push(1);
            encode_varint(input.number(), &mut value);
            let sessions_count = u64::from(input.below(4));
            let limits = Limits { sessions_count, replies_count: 4, reply_bytes: 400 };
            limits.encode(input.number(), &mut value);
        }
        1 | 2 => {
            key.push(b'b');
            key.put_u64(input.number());
            value.put_u64_le(SECRET);
            for _ in 0..3 {
                encode_varint(input.number(), &mut value);
            }
        }
        3 => {
            key.push(b'c');
            key.put_u64(input.number());
            key.put_u64(input.number());
            let log_id = LogId::new(Term::new(1), LogIndex::new(input.number()));
            encode_log_id(log_id, &mut value);
            value.push(input.below(2));
            if value.ends_with(&[1]) {
                value.extend_from_slice(&[7; 20]);
            }
        }
        _ => {
            let (key_size, value_size) = (input.below(32), input.below(64));
            key.extend_from_slice(input.bytes(key_size.into()));
            value.extend_from_slice(input.bytes(value_size.into()));
        }
    }
    (key, value)
}

/// A machine whose reply says at which entry it was given.
struct Ledger;

impl StateMachine for Ledger {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { log_id, command } in batch {
            let mut reply = log_id.index.get().to_le_bytes().to_vec();
            reply.resize(reply.len() + usize::from(command.first().copied().unwrap_or(0)), 7);
            replies.push(reply);
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Self))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Ok(())
    }
}

impl SnapshotView for Ledger {
    fn write_to(self: Box<Self>, _: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
}
