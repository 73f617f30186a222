//! What a log should hold, as plain vectors, and every state on the way through a batch: what a crash may
//! leave. Must not know how a log keeps it.

use crate::rng::Rng;
use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, Member, MemberRole, NodeId, Payload, Persist,
    SnapshotMeta, Term,
};
use std::sync::Arc;

/// The size of a large entry: several sectors.
pub(super) const LARGE: usize = 2_000;

/// What a log shows when it is opened: all that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What the log starts after; that of a new log is [`Contents::of_a_new_log`].
    pub base: SnapshotMeta,
    /// Every entry after that, in order.
    pub entries: Vec<Entry>,
    /// Term and vote.
    pub hard_state: HardState,
}

impl Contents {
    /// Nothing, after nothing, with the configuration that the check begins with.
    #[must_use]
    pub fn of_a_new_log() -> Self {
        Self { base: base(0, 0), entries: Vec::new(), hard_state: HardState::default() }
    }

    /// The last entry, or what the log starts after.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.base.last_included, |entry| entry.log_id)
    }

    /// The state after each part of a batch, in the order of its parts: drop, cut, append one by one.
    /// Term and vote are left out.
    fn steps(&self, batch: &[Persist]) -> Vec<Self> {
        let mut now = self.clone();
        let mut steps = vec![now.clone()];
        for write in batch {
            if let Some(base) = &write.reset {
                now.base = base.clone();
                now.entries.clear();
                steps.push(now.clone());
            }
            if let Some(after) = write.truncate_after {
                now.entries.retain(|entry| entry.log_id.index <= after);
                steps.push(now.clone());
            }
            for entry in &write.entries {
                now.entries.push(entry.clone());
                steps.push(now.clone());
            }
        }
        steps
    }

    /// The state after a whole batch.
    #[must_use]
    pub fn after(&self, batch: &[Persist]) -> Self {
        let mut after = self.steps(batch).pop().unwrap_or_else(|| self.clone());
        if let Some(hard_state) = batch.iter().rev().find_map(|write| write.hard_state) {
            after.hard_state = hard_state;
        }
        after
    }

    /// What a log may hold of which the prefix up to here was released.
    pub(super) fn released(&self, base: &SnapshotMeta) -> Self {
        let mut next = self.clone();
        next.base = base.clone();
        next.entries.retain(|entry| entry.log_id.index > base.last_included.index);
        next
    }

    /// Whether a log may hold this that crashed in the middle of a batch: any step of it, with the term
    /// and vote from before it or of any of its parts. A term below that of the last entry may be raised,
    /// without a vote.
    pub(super) fn may_become(&self, batch: &[Persist], found: &Self) -> bool {
        let votes = batch.iter().filter_map(|write| write.hard_state);
        let mut votes: Vec<HardState> = std::iter::once(self.hard_state).chain(votes).collect();
        let last_term = found.last().term;
        if last_term > self.hard_state.current_term {
            votes.push(HardState { current_term: last_term, voted_for: None });
        }
        let has_kept = |step: &Self| step.base == found.base && step.entries == found.entries;
        votes.contains(&found.hard_state) && self.steps(batch).iter().any(has_kept)
    }

    /// The first entry found that is neither here nor in this batch, byte for byte.
    pub(super) fn stranger(&self, batch: &[Persist], found: &Self) -> Option<LogIndex> {
        let known = self.entries.iter().chain(batch.iter().flat_map(|write| &write.entries));
        let is_known = |entry: &Entry| known.clone().any(|it| it == entry);
        found.entries.iter().find(|entry| !is_known(entry)).map(|entry| entry.log_id.index)
    }

    pub(super) fn described(&self) -> String {
        let HardState { current_term, voted_for } = self.hard_state;
        format!(
            "{} entries after {:?} up to {:?}, term {current_term:?}, vote {voted_for:?}",
            self.entries.len(),
            self.base.last_included,
            self.last(),
        )
    }
}

fn configuration(version: u64) -> Arc<Configuration> {
    let member = Member {
        role: MemberRole::Voter,
        rank: 0,
        address: "127.0.0.1:2380".to_owned(),
        context: Bytes::from_static(b"kit"),
    };
    Arc::new(Configuration::new(version, [(NodeId::new(1), member)].into()))
}

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

pub(super) fn base(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last_included: log_id(term, index), configuration: configuration(index) }
}

/// An entry whose bytes say which it is.
pub(super) fn command(term: u64, index: u64, size: usize) -> Entry {
    let [fill, ..] = index.wrapping_mul(31).wrapping_add(term).to_le_bytes();
    let payload = Payload::Command(Bytes::from(vec![fill; size]));
    Entry { log_id: log_id(term, index), payload }
}

/// A write that appends these.
pub(super) fn commands(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Persist {
    let entries = indexes.map(|index| command(term, index, 100)).collect();
    Persist { entries, ..Persist::default() }
}

/// One to three writes that a core could ask for in this state.
pub(super) fn random_batch(state: &Contents, rng: &mut Rng) -> Vec<Persist> {
    let mut now = state.clone();
    let mut batch = Vec::new();
    for _ in 0..=rng.below(3) {
        let write = random_write(&now, rng);
        now = now.after(std::slice::from_ref(&write));
        batch.push(write);
    }
    batch
}

fn random_write(state: &Contents, rng: &mut Rng) -> Persist {
    let mut write = Persist::default();
    let mut last = state.last();
    if rng.chance(25) {
        let next = base(last.term.get() + rng.below(2), last.index.get() + 1 + rng.below(9));
        last = next.last_included;
        write.reset = Some(next);
    } else if rng.chance(4)
        && let Some(kept) = rng.pick(&state.entries)
    {
        last = kept.log_id;
        write.truncate_after = Some(last.index);
    }
    // A log that was cut goes on in a later term: an entry is never another one.
    let term = last.term.get().max(state.hard_state.current_term.get()).max(1);
    let term = term + u64::from(write.truncate_after.is_some() || rng.chance(5));
    for offset in 1..=rng.below(6) {
        write.entries.push(random_entry(rng, term, last.index.get() + offset));
    }
    if rng.chance(3) || write.truncate_after.is_some() {
        let voted_for = rng.chance(2).then(|| NodeId::new(rng.below(3)));
        let current_term = Term::new(term + rng.below(2));
        write.hard_state = Some(HardState { current_term, voted_for });
    }
    write
}

fn random_entry(rng: &mut Rng, term: u64, index: u64) -> Entry {
    let log_id = log_id(term, index);
    match rng.below(8) {
        0 => Entry { log_id, payload: Payload::Noop },
        1 => Entry { log_id, payload: Payload::Configuration(configuration(rng.below(99))) },
        2 => command(term, index, LARGE),
        3 => command(term, index, usize::try_from(rng.below(50)).unwrap_or(0)),
        // Few sizes, so that a new record often ends exactly where an old one did.
        _ => command(term, index, 100),
    }
}
