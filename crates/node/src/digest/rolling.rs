//! The hash of the window that is being applied. What it is made of: of each entry its index, its kind,
//! its command, and what the state machine replied. Must not know how replies come about.

use super::hash::Hash;
use super::{DIGEST_WINDOW_COUNT_MAX, Digest};
use crate::{Doubt, Fate, SessionRefusal, StateMachine};
use quorate_core::{Entry, LogIndex, Payload};

/// Kinds of entries.
const NOOP: u64 = 0;
const COMMAND: u64 = 1;
const SESSION: u64 = 2;
const CONFIGURATION: u64 = 3;

/// What became of an entry.
const APPLIED: u64 = 0;
const EXPIRED: u64 = 1;
const FORGOTTEN: u64 = 2;
const SETTLED: u64 = 3;
const TOO_FAR_AHEAD: u64 = 4;
const NO_FATE: u64 = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rolling {
    window_count: u64,
    /// Absent while the window's beginning was not applied in this life.
    hash: Option<Hash>,
    /// The hash after each entry of this window.
    list: Vec<u64>,
    finished: Vec<Digest>,
}

impl Rolling {
    /// With windows of so many entries; of none, nothing is hashed.
    pub(crate) fn new(window_count: u32) -> Self {
        let window_count = u64::from(window_count.min(DIGEST_WINDOW_COUNT_MAX));
        Self { window_count, hash: None, list: Vec::new(), finished: Vec::new() }
    }

    /// These entries were applied, and this is what became of them.
    pub(crate) fn applied(&mut self, entries: &[Entry], fates: &[Fate], by: &dyn StateMachine) {
        if self.window_count == 0 {
            return;
        }
        for (entry, fate) in entries.iter().zip(fates) {
            self.entry(entry, fate, by);
        }
    }

    /// The state is another one: the present window is not applied as a whole.
    pub(crate) fn interrupt(&mut self) {
        self.hash = None;
        self.list.clear();
    }

    /// The windows that were finished since this was last asked.
    pub(crate) fn take_finished(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.finished)
    }

    fn entry(&mut self, entry: &Entry, fate: &Fate, by: &dyn StateMachine) {
        let last = entry.log_id.index;
        let place = last.get() % self.window_count;
        // There is no entry 0: the first window lacks its first.
        if place == 0 || last == LogIndex::ORIGIN.next() {
            self.interrupt();
            self.hash = Some(Hash::new());
        }
        let Some(hash) = &mut self.hash else { return };
        hash.number(last.get());
        take_command(hash, &entry.payload);
        take_fate(hash, fate, by);
        self.list.push(hash.get());
        if place + 1 == self.window_count {
            let hashes = std::mem::take(&mut self.list);
            self.hash = None;
            self.finished.push(Digest { last, list: hashes.into() });
        }
    }
}

fn take_command(hash: &mut Hash, payload: &Payload) {
    match payload {
        Payload::Noop => hash.number(NOOP),
        Payload::Command(command) => {
            hash.number(COMMAND);
            hash.bytes(command);
        }
        Payload::Session(request) => {
            hash.number(SESSION);
            hash.bytes(request);
        }
        Payload::Configuration(_) => hash.number(CONFIGURATION),
    }
}

fn take_fate(hash: &mut Hash, fate: &Fate, by: &dyn StateMachine) {
    match fate {
        Fate::Applied { log_id, reply } => {
            hash.number(APPLIED);
            // A reply that is given again stands elsewhere.
            hash.number(log_id.index.get());
            let reply = if reply.is_empty() { &[] } else { by.digest_of_reply(reply) };
            hash.bytes(reply);
        }
        Fate::Refused(refusal) => take_refusal(hash, *refusal),
        // What was applied has none of these.
        Fate::NotAppended(_)
        | Fate::Lost { .. }
        | Fate::Unknown(
            Doubt::Deadline | Doubt::ConnectionLost { .. } | Doubt::Superseded | Doubt::Stopped,
        ) => hash.number(NO_FATE),
    }
}

fn take_refusal(hash: &mut Hash, refusal: SessionRefusal) {
    let (kind, number) = match refusal {
        SessionRefusal::Expired => (EXPIRED, 0),
        SessionRefusal::Forgotten { log_id } => (FORGOTTEN, log_id.index.get()),
        SessionRefusal::Settled { first_open } => (SETTLED, first_open),
        SessionRefusal::TooFarAhead { limit_count } => (TOO_FAR_AHEAD, u64::from(limit_count)),
    };
    hash.number(kind);
    hash.number(number);
}
