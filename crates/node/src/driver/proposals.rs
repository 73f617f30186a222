//! Who waits for the fate of which proposal, from the first call to the answer. Knows where a
//! proposal is (held, forwarded, in the log), not how it travels.

use super::io::{ApplyBatch, Forwarded, Proposed, RemoteFate, Requester, Ticket, Waiter};
use crate::{Doubt, Fate, Refusal};
use quorate_core::{Entry, LogId, LogIndex, NodeId, Term, Time};
use std::collections::{BTreeMap, VecDeque};

/// A local proposal that is not in our log.
#[derive(Clone, Debug)]
pub(super) struct Outstanding {
    pub(super) ticket: Ticket,
    pub(super) proposed: Proposed,
    pub(super) deadline: Time,
    /// When it is refused if there is still no leader.
    pub(super) leaderless_until: Time,
}

/// A proposal in our log, not yet applied.
#[derive(Clone, Copy, Debug)]
struct InLog {
    log_id: LogId,
    waiter: Waiter,
    deadline: Time,
}

/// A proposal that another node has been asked to append.
#[derive(Clone, Debug)]
struct AtLeader {
    leader: NodeId,
    outstanding: Outstanding,
}

/// The fates that became known, and to whom they are owed.
pub(super) type Fates = Vec<(Waiter, Fate)>;

/// All proposals whose fate is open.
#[derive(Debug)]
pub(super) struct Proposals {
    incarnation: u64,
    next_request: u64,
    held: VecDeque<Outstanding>,
    /// Those that were sent before, until the next sweep.
    resting: Vec<Outstanding>,
    at_leader: BTreeMap<u64, AtLeader>,
    /// Sorted by log id's index; entries of several terms may stand at one index, since only the
    /// applied one decides.
    in_log: VecDeque<InLog>,
    outstanding_bytes: usize,
    /// The highest request seen of each life of each node, in `seen_term`.
    seen: BTreeMap<(NodeId, u64), u64>,
    seen_term: Term,
    /// An earlier life of this node may have led up to this term.
    started_in: Term,
}

impl Proposals {
    pub(super) fn new(incarnation: u64, started_in: Term) -> Self {
        Self {
            incarnation,
            started_in,
            next_request: 0,
            held: VecDeque::new(),
            resting: Vec::new(),
            at_leader: BTreeMap::new(),
            in_log: VecDeque::new(),
            outstanding_bytes: 0,
            seen: BTreeMap::new(),
            seen_term: Term::default(),
        }
    }

    pub(super) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many proposals wait, wherever they are.
    pub(super) fn count(&self) -> usize {
        self.held.len() + self.resting.len() + self.at_leader.len() + self.in_log.len()
    }

    /// Bytes of local proposals that are not in our log.
    pub(super) const fn outstanding_bytes(&self) -> usize {
        self.outstanding_bytes
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn hold(&mut self, outstanding: Outstanding) {
        self.outstanding_bytes += outstanding.proposed.size_bytes();
        self.held.push_back(outstanding);
    }

    /// Keeps a proposal until [`Self::rested`].
    pub(super) fn rest(&mut self, outstanding: Outstanding) {
        self.outstanding_bytes += outstanding.proposed.size_bytes();
        self.resting.push(outstanding);
    }

    /// Those that rested are held like others.
    pub(super) fn rested(&mut self) {
        self.held.extend(self.resting.drain(..));
    }

    pub(super) fn take_held(&mut self) -> Vec<Outstanding> {
        for outstanding in &self.held {
            self.outstanding_bytes -= outstanding.proposed.size_bytes();
        }
        self.held.drain(..).collect()
    }

    /// Notes that `batch` goes to `leader`, and returns it in the form that travels.
    pub(super) fn forward(&mut self, leader: NodeId, batch: Vec<Outstanding>) -> Vec<Forwarded> {
        let mut requests = Vec::with_capacity(batch.len());
        for outstanding in batch {
            self.next_request += 1;
            self.outstanding_bytes += outstanding.proposed.size_bytes();
            let proposed = outstanding.proposed.clone();
            requests.push(Forwarded { request: self.next_request, proposed });
            self.at_leader.insert(self.next_request, AtLeader { leader, outstanding });
        }
        requests
    }

    /// A leader's answer. A refusal by a node that no longer leads puts the proposal back in hold:
    /// it provably entered no log.
    /// Returns whether that happened.
    pub(super) fn forward_reply(&mut self, request: u64, fate: Fate, fates: &mut Fates) -> bool {
        let Some(AtLeader { outstanding, .. }) = self.at_leader.remove(&request) else {
            return false;
        };
        self.outstanding_bytes -= outstanding.proposed.size_bytes();
        match fate {
            Fate::NotAppended(Refusal::NoLeader | Refusal::Transferring { .. }) => {
                self.hold(outstanding);
                true
            }
            Fate::Applied { .. }
            | Fate::NotAppended(_)
            | Fate::Lost { .. }
            | Fate::Unknown(_)
            | Fate::Refused(_) => {
                fates.push((Waiter::Local(outstanding.ticket), fate));
                false
            }
        }
    }

    /// Whether a forwarded request is new. A message may arrive twice, and a command that is
    /// appended twice would be applied twice.
    pub(super) fn is_new(&mut self, term: Term, requester: Requester) -> bool {
        if self.seen_term != term {
            self.seen.clear();
            self.seen_term = term;
        }
        let highest = self.seen.entry((requester.node, requester.incarnation)).or_default();
        let is_new = requester.request > *highest;
        *highest = requester.request.max(*highest);
        is_new
    }

    /// Whether no copy of a forwarded request that was meant for our leadership of `term`, which
    /// is over, can have been appended by us.
    pub(super) fn never_appended(&mut self, term: Term, requester: Requester) -> bool {
        let is_remembered = term > self.started_in && term >= self.seen_term;
        is_remembered && (term > self.seen_term || self.is_new(term, requester))
    }

    /// The proposal is in our log.
    pub(super) fn appended(&mut self, log_id: LogId, waiter: Waiter, deadline: Time) {
        let place = self.in_log.partition_point(|other| other.log_id.index <= log_id.index);
        self.in_log.insert(place, InLog { log_id, waiter, deadline });
    }

    /// Attaches to committed entries those who wait for them. Whoever waits for another entry at
    /// one of these indexes has lost: what is committed at an index never changes.
    pub(super) fn attach(&mut self, entries: Vec<Entry>, fates: &mut Fates) -> ApplyBatch {
        let mut waiters = Vec::new();
        let first = entries.first().map_or(LogIndex::ORIGIN, |entry| entry.log_id.index);
        let last = entries.last().map_or(LogIndex::ORIGIN, |entry| entry.log_id.index);
        while let Some(waiting) = self.in_log.pop_front_if(|waiting| waiting.log_id.index <= last) {
            let position = waiting.log_id.index.distance_from(first);
            let position = usize::try_from(position).unwrap_or(usize::MAX);
            let is_same = entries.get(position).is_some_and(|entry| entry.log_id == waiting.log_id);
            if is_same {
                waiters.push((position, waiting.waiter));
            } else {
                fates.push((waiting.waiter, Fate::Lost { log_id: waiting.log_id }));
            }
        }
        ApplyBatch { entries, waiters, place: None }
    }

    /// A snapshot replaced the log up to `through`: what stood there can't be told any more.
    pub(super) fn superseded(&mut self, through: LogIndex, fates: &mut Fates) {
        while let Some(waiting) =
            self.in_log.pop_front_if(|waiting| waiting.log_id.index <= through)
        {
            fates.push((waiting.waiter, Fate::Unknown(Doubt::Superseded)));
        }
    }

    /// The connection to `peer` broke, and with it every reply it owed us.
    pub(super) fn disconnected(&mut self, peer: NodeId, fates: &mut Fates) {
        let owed = self.at_leader.extract_if(.., |_, waiting| waiting.leader == peer);
        for (_, AtLeader { outstanding, .. }) in owed {
            self.outstanding_bytes -= outstanding.proposed.size_bytes();
            let fate = Fate::Unknown(Doubt::ConnectionLost { leader: peer });
            fates.push((Waiter::Local(outstanding.ticket), fate));
        }
    }

    /// Answers those whose time is up.
    pub(super) fn expire(&mut self, now: Time, fates: &mut Fates) {
        let freed = &mut self.outstanding_bytes;
        self.held.retain(|held| {
            let keep = now < held.deadline.min(held.leaderless_until);
            if !keep {
                *freed -= held.proposed.size_bytes();
                fates.push((Waiter::Local(held.ticket), Fate::NotAppended(Refusal::NoLeader)));
            }
            keep
        });
        let late = self.at_leader.extract_if(.., |_, waiting| waiting.outstanding.deadline <= now);
        for (_, AtLeader { outstanding, .. }) in late {
            *freed -= outstanding.proposed.size_bytes();
            let fate = Fate::Unknown(Doubt::Deadline);
            fates.push((Waiter::Local(outstanding.ticket), fate));
        }
        self.in_log.retain(|waiting| {
            let keep = now < waiting.deadline;
            if !keep {
                fates.push((waiting.waiter, Fate::Unknown(Doubt::Deadline)));
            }
            keep
        });
    }
}

/// Collects what is owed to other nodes into one message each.
#[derive(Debug, Default)]
pub(super) struct RemoteReplies {
    replies: BTreeMap<(NodeId, u64), Vec<(u64, Fate)>>,
}

impl RemoteReplies {
    pub(super) fn push(&mut self, requester: Requester, fate: Fate) {
        let key = (requester.node, requester.incarnation);
        self.replies.entry(key).or_default().push((requester.request, fate));
    }

    pub(super) fn extend(&mut self, fates: Vec<RemoteFate>) {
        for RemoteFate { requester, fate } in fates {
            self.push(requester, fate);
        }
    }

    /// The messages to send: (to whom, their incarnation, the replies).
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (NodeId, u64, Vec<(u64, Fate)>)> {
        std::mem::take(&mut self.replies)
            .into_iter()
            .map(|((node, incarnation), replies)| (node, incarnation, replies))
    }
}
