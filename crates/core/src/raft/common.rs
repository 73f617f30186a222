//! What a server has in every role: identity, term and vote, log, writes, commit index.
//! Knows no rule of any role.

use super::apply::Applier;
use super::gone::Haste;
use super::install::Installing;
use super::lost::Lost;
use crate::chance::Chance;
use crate::log::Log;
use crate::persistence::Persistence;
use crate::{
    Effect, Entry, HardState, LogId, LogIndex, LostEntries, Message, NodeId, Options, ProposalId,
    ProposalRefusal, ProtocolVersion, ReadId, ReadRefusal, SnapshotMeta, Term, Time,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a server takes part in nothing any more. Mostly proof that the protocol is broken somewhere: a
/// lost disk under an old name, two clusters mixed, or a bug; whatever the server did next could
/// only spread it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Hash, Serialize, Deserialize)]
pub enum Poison {
    /// A term has at most one leader (Election Safety, §3.4).
    #[error("term {term} has two leaders: {known} and {other}")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader known first.
        known: NodeId,
        /// The other one.
        other: NodeId,
    },
    /// A leader has every committed entry (Leader Completeness, §3.6).
    #[error(
        "leader {leader} asks to overwrite a committed entry with {received}; the log is \
         committed up to {commit_index}"
    )]
    CommittedConflict {
        /// Who asked.
        leader: NodeId,
        /// What it has instead.
        received: LogId,
        /// How far our log is committed.
        commit_index: LogIndex,
    },
    /// The disk does not return entries that it reported durable.
    #[error("the log cannot be read at {index}")]
    LogUnreadable {
        /// The first entry asked for.
        index: LogIndex,
    },
    /// The disk took no more ([`crate::Event::DiskFailed`]): what the server promised from here on
    /// would not be kept.
    #[error("the disk took no more")]
    DiskFailed,
    /// The state machine is not what the log says ([`crate::Event::Diverged`]).
    #[error("its state machine has diverged from a majority's, from entry {index} on")]
    Diverged {
        /// The first entry whose reply is another one.
        index: LogIndex,
    },
}

/// The state that outlives roles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Common {
    pub(crate) id: NodeId,
    pub(crate) options: Options,
    /// The time of the present step.
    pub(crate) now: Time,
    /// The effects of the present step.
    #[serde(skip)]
    pub(crate) effects: Vec<Effect>,
    pub(crate) chance: Chance,
    pub(crate) current_term: Term,
    pub(crate) voted_for: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) persistence: Persistence,
    pub(crate) commit_index: LogIndex,
    pub(crate) applier: Applier,
    /// A snapshot on its way in.
    pub(crate) installing: Option<Installing>,
    /// A piece of a snapshot is being written.
    pub(crate) is_writing_chunk: bool,
    /// Since when no leader was heard and no vote given (§3.4).
    pub(crate) election_timer_started: Time,
    pub(crate) election_timeout: Duration,
    /// When a leader of the current term was last heard.
    pub(crate) heard_from_leader_at: Option<Time>,
    /// No promise is longer: so long was the election timeout at the start.
    pub(crate) promise_length_max: Duration,
    /// Until then this server helps nobody to be elected: it said so to a leader (§6.4.1). `None` if
    /// it has promised nothing.
    pub(crate) promised_until: Option<Time>,
    /// The longest that it has ever promised for.
    pub(crate) promised_length: Duration,
    /// Set while the leader is said to be gone, and nobody has followed it.
    pub(crate) haste: Option<Haste>,
    /// Names the batches of forwarded reads; starts somewhere else in each life of a server.
    pub(crate) next_batch: u64,
    pub(crate) poison: Option<Poison>,
    /// The highest version of a configuration by which others say that this server is no member.
    pub(crate) dismissed_by: Option<Dismissal>,
    /// What of the log was lost to damage, until it is there again.
    pub(crate) lost: Option<Lost>,
    /// What the state machine had applied at the start.
    pub(crate) applied_at_start: LogIndex,
    /// What others have asked for that lost entries, while it is being read from the disk.
    pub(crate) questions: BTreeMap<NodeId, LostEntries>,
    /// Which disks nodes say that they have. Those of strangers go at the next change of members.
    pub(crate) introduced: BTreeMap<NodeId, Introduction>,
    /// The newest protocol that nodes say they speak.
    pub(crate) speaks: BTreeMap<NodeId, ProtocolVersion>,
}

/// Which disk a node says that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) storage_id: u128,
    /// It holds all that the node has ever promised.
    pub(crate) is_proven: bool,
}

/// A configuration that does not have this server, and that is committed, as somebody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Dismissal {
    pub(crate) version: u64,
    /// Where it stands.
    pub(crate) position: LogId,
}

impl Common {
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    pub(crate) fn refuse_proposal(&mut self, id: ProposalId, reason: ProposalRefusal) {
        self.effects.push(Effect::ProposalRefused { id, reason });
    }

    pub(crate) fn refuse_read(&mut self, id: ReadId, reason: ReadRefusal) {
        self.effects.push(Effect::ReadRefused { id, reason });
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { current_term: self.current_term, voted_for: self.voted_for }
    }

    /// Term and vote are written together, in one write (§3.8).
    pub(crate) fn set_term(&mut self, term: Term) {
        self.current_term = term;
        self.voted_for = None;
        self.persistence.store_hard_state(self.hard_state());
    }

    pub(crate) fn vote_for(&mut self, candidate: NodeId) {
        assert!(self.voted_for.is_none_or(|given| given == candidate), "one vote a term");
        if self.voted_for.is_none() {
            self.voted_for = Some(candidate);
            self.persistence.store_hard_state(self.hard_state());
        }
    }

    /// Whether a restart would find the current term.
    pub(crate) fn term_is_durable(&self) -> bool {
        self.persistence.durable_hard_state().current_term == self.current_term
    }

    /// Whether a restart would find the current term and the vote given in it.
    pub(crate) fn vote_is_durable(&self) -> bool {
        self.persistence.durable_hard_state() == self.hard_state()
    }

    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        self.log.append(&entries);
        self.persistence.append(entries);
    }

    pub(crate) fn truncate_after(&mut self, index: LogIndex) {
        assert!(index >= self.commit_index, "committed entries stay");
        self.log.truncate_after(index);
        self.persistence.truncate_after(index);
    }

    pub(crate) fn flush_persist(&mut self) {
        if let Some(persist) = self.persistence.flush(self.now) {
            self.effects.push(Effect::Persist(persist));
        }
    }

    /// The commit index never falls (§3.5), and never leaves the log.
    pub(crate) fn commit_through(&mut self, index: LogIndex) {
        self.commit_index = self.commit_index.max(index.min(self.log.last().index));
    }

    /// Whether a write has been under way for too long: such a server neither leads nor campaigns,
    /// since heartbeats alone would keep a leader in office that cannot do its work.
    pub(crate) fn disk_is_stalled(&self) -> bool {
        self.disk_stall_deadline().is_some_and(|deadline| deadline <= self.now)
    }

    pub(crate) fn disk_stall_deadline(&self) -> Option<Time> {
        self.persistence.oldest_asked_at().map(|at| at.after(self.options.disk_stall_timeout))
    }

    /// Draws the next election timeout: at random, so that split votes are rare and resolve
    /// (§3.4), from the slot that the server's rank has in `[timeout, 2 * timeout)`. A higher rank
    /// has an earlier slot; every slot ends, so a rank that cannot win holds nobody up.
    pub(crate) fn draw_election_timeout(&mut self) {
        if let Some(timeout) = self.hasty_timeout() {
            self.election_timeout = timeout;
            return;
        }
        let (slot, slot_count) = self.log.configuration().rank_slot(self.id);
        let timeout = self.options.election_timeout;
        let count = u32::try_from(slot_count).unwrap_or(u32::MAX).max(1);
        let width = timeout / count;
        let within = self.chance.below(u64::try_from(width.as_micros()).unwrap_or(u64::MAX));
        let slot_start = width * u32::try_from(slot).unwrap_or(0);
        self.election_timeout = timeout + slot_start + Duration::from_micros(within);
    }

    /// Whether the state machine has nothing of what the log leaves out, and is to be sent it.
    pub(crate) fn lacks_state(&self) -> bool {
        self.applier.applied() == LogIndex::ORIGIN && self.log.base_index() > LogIndex::ORIGIN
    }

    pub(crate) fn restart_election_timer(&mut self) {
        self.election_timer_started = self.now;
    }

    /// The log up to `through` is covered by the state machine's durable state (§5.1).
    pub(crate) fn compact(&mut self, through: LogIndex) {
        let through = through.min(self.applier.applied()).min(self.persistence.durable_index());
        // The state may be ahead of what is left of a damaged log.
        let through = through.min(self.commit_index);
        if through <= self.log.base_index() {
            return;
        }
        self.log.release_through(through);
        let base: SnapshotMeta = self.log.base().clone();
        self.effects.push(Effect::ReleasePrefix { base });
    }

    /// Keeps memory bounded: what is durable can be read back. Entries that the state machine has
    /// not been handed yet get a second allowance before they go.
    pub(crate) fn evict(&mut self) {
        let cache = self.options.log_cache_bytes_max;
        while let Some(first) = self.log.first_over(cache) {
            let spare = first > self.applier.handed()
                && self.log.tail_bytes() <= cache.saturating_add(self.options.applying_bytes_max);
            if first > self.persistence.durable_index() || spare {
                break;
            }
            self.log.evict_first();
        }
    }

    /// What must hold after every step.
    pub(crate) fn assert_consistent(&self) {
        let last = self.log.last();
        assert!(self.commit_index <= last.index, "what is committed is in the log");
        assert!(self.log.base_index() <= self.commit_index, "the base is committed");
        // What was applied before the log was damaged was committed.
        let before = if self.lost.is_some() { self.applied_at_start } else { LogIndex::ORIGIN };
        let committed = self.commit_index.max(before);
        assert!(self.applier.handed() <= committed, "only committed entries are applied");
        assert!(last.term <= self.current_term, "no entry comes from a future term");
    }
}

#[cfg(test)]
mod tests;
