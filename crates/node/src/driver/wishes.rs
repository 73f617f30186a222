//! Wishes for other members, from the caller to their end: held until there is a leader to ask,
//! asked of it, and watched in what is applied. Knows where a wish is, not how a change goes.

use super::io::Ticket;
use crate::{Doubt, MembershipError, MembershipFate};
use quorate_core::{
    ChangeId, Configuration, Entry, LogId, LogIndex, Members, MembershipCommand, MembershipRefusal,
    NodeId, Payload, Term, Time,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An answer that has not come for so long was lost: the leader is asked again. It does not begin
/// twice what it has begun.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Wishes that wait at the same time.
pub(super) const WISHES_COUNT_MAX: usize = 64;

/// A wish of a local caller.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) ticket: Ticket,
    pub(super) command: MembershipCommand,
    pub(super) deadline: Time,
}

/// Whose wish the core was asked for.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    Local(Wish),
    Remote { node: NodeId, incarnation: u64, request: u64 },
}

/// A wish that another node was asked for.
#[derive(Clone, Debug)]
struct AtLeader {
    leader: NodeId,
    asked_at: Time,
    wish: Wish,
}

/// A wish that stands in the log.
#[derive(Clone, Debug)]
struct InLog {
    log_id: LogId,
    wish: Wish,
}

/// Fates that became known.
pub(super) type MembershipFates = Vec<(Ticket, MembershipFate)>;

/// All wishes whose end is open.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    next_id: u64,
    /// To be asked for, with why it was not begun when it was, if it was.
    held: Vec<(Wish, Option<MembershipRefusal>)>,
    at_leader: BTreeMap<u64, AtLeader>,
    in_core: BTreeMap<ChangeId, Asker>,
    in_log: Vec<InLog>,
    /// The highest request seen of each life of each node, in `seen_term`.
    seen: BTreeMap<(NodeId, u64), u64>,
    seen_term: Term,
}

impl Wishes {
    pub(super) fn count(&self) -> usize {
        self.held.len() + self.at_leader.len() + self.in_core.len() + self.in_log.len()
    }

    pub(super) fn hold(&mut self, wish: Wish) {
        self.held.push((wish, None));
    }

    pub(super) fn take_held(&mut self) -> Vec<Wish> {
        self.held.drain(..).map(|(wish, _)| wish).collect()
    }

    /// Notes that the core is asked; returns under which name.
    pub(super) fn ask_core(&mut self, asker: Asker) -> ChangeId {
        self.next_id += 1;
        let id = ChangeId::new(self.next_id);
        self.in_core.insert(id, asker);
        id
    }

    /// Notes that `leader` is asked; returns under which number.
    pub(super) fn ask_leader(&mut self, now: Time, leader: NodeId, wish: Wish) -> u64 {
        self.next_id += 1;
        self.at_leader.insert(self.next_id, AtLeader { leader, asked_at: now, wish });
        self.next_id
    }

    /// Whether another node's wish is new: its message may arrive twice.
    pub(super) fn is_new(&mut self, term: Term, node: NodeId, life: u64, request: u64) -> bool {
        if self.seen_term != term {
            self.seen.clear();
            self.seen_term = term;
        }
        let highest = self.seen.entry((node, life)).or_default();
        let is_new = request > *highest;
        *highest = request.max(*highest);
        is_new
    }

    /// Whom the core's answer is for.
    pub(super) fn answered_by_core(&mut self, id: ChangeId) -> Option<Asker> {
        self.in_core.remove(&id)
    }

    /// Whose wish another node's answer is for.
    pub(super) fn answered_by_leader(&mut self, request: u64) -> Option<Wish> {
        self.at_leader.remove(&request).map(|asked| asked.wish)
    }

    /// The wish stands in the log. If what stands there is committed already, `committed` tells.
    pub(super) fn appended(
        &mut self,
        log_id: LogId,
        wish: Wish,
        committed: Committed<'_>,
        fates: &mut MembershipFates,
    ) {
        let Committed { through, term, configuration } = committed;
        let fate = if log_id.index > through {
            None
        } else if term.is_some_and(|term| term != log_id.term) {
            Some(Err(MembershipError::Lost))
        } else {
            fate_by(&wish.command, configuration)
        };
        match fate {
            Some(fate) => fates.push((wish.ticket, fate)),
            None => self.in_log.push(InLog { log_id, wish }),
        }
    }

    /// Nothing was appended. What will pass is tried again until the caller's deadline.
    pub(super) fn refused(
        &mut self,
        wish: Wish,
        reason: MembershipRefusal,
        fates: &mut MembershipFates,
    ) {
        match reason {
            MembershipRefusal::NotLeader { .. }
            | MembershipRefusal::LeaderTooNew { .. }
            | MembershipRefusal::Transferring { .. }
            | MembershipRefusal::CannotCancelYet { .. } => self.held.push((wish, Some(reason))),
            MembershipRefusal::UnderWay { .. }
            | MembershipRefusal::VersionMismatch { .. }
            | MembershipRefusal::NoVoters
            | MembershipRefusal::NotARole { .. }
            | MembershipRefusal::Tombstoned { .. }
            | MembershipRefusal::Strangers { .. }
            | MembershipRefusal::WouldLoseQuorum { .. }
            | MembershipRefusal::TooManyMembers { .. }
            | MembershipRefusal::MemberTooLarge { .. }
            | MembershipRefusal::NothingToCancel
            | MembershipRefusal::Poisoned => {
                fates.push((wish.ticket, Err(reason.into())));
            }
        }
    }

    /// Committed entries, in order: they decide the wishes in the log.
    pub(super) fn applying(&mut self, entries: &[Entry], fates: &mut MembershipFates) {
        if self.in_log.is_empty() {
            return;
        }
        for entry in entries {
            self.in_log.retain(|waiting| match fate_at(waiting, entry) {
                Some(fate) => {
                    fates.push((waiting.wish.ticket, fate));
                    false
                }
                None => true,
            });
        }
    }

    /// A snapshot replaced the log up to `through`.
    pub(super) fn superseded(
        &mut self,
        through: LogIndex,
        configuration: &Arc<Configuration>,
        fates: &mut MembershipFates,
    ) {
        self.in_log.retain(|waiting| {
            let is_covered = waiting.log_id.index <= through;
            match fate_by(&waiting.wish.command, configuration).filter(|_| is_covered) {
                Some(fate) => {
                    // What else has been in between is not known.
                    let fate = fate.map_err(|_| MembershipError::Unknown(Doubt::Superseded));
                    fates.push((waiting.wish.ticket, fate));
                    false
                }
                None => true,
            }
        });
    }

    /// This node, `own`, is no member any more, by `version` of the configuration, and hears of nothing
    /// committed beyond the `known` one. If that was on the way to the wish, and the next one, which could
    /// only finish it or take it back, has not this node, it was finished.
    pub(super) fn removed(
        &mut self,
        own: NodeId,
        version: u64,
        known: &Configuration,
        fates: &mut MembershipFates,
    ) {
        let is_next = known.change.is_some() && known.version.checked_add(1) == Some(version);
        for InLog { wish, .. } in self.in_log.drain(..) {
            let is_done = match &wish.command {
                MembershipCommand::Set { target, .. } => {
                    is_next && known.leads_to() == target && !target.contains_key(&own)
                }
                MembershipCommand::Cancel => false,
            };
            let unknown = Err(MembershipError::Unknown(Doubt::Superseded));
            fates.push((wish.ticket, if is_done { Ok(version) } else { unknown }));
        }
    }

    /// The connection to `peer` broke, and with it every answer it owed us: the leader is asked
    /// again, whoever it is then.
    pub(super) fn disconnected(&mut self, peer: NodeId) {
        let owed = self.at_leader.extract_if(.., |_, asked| asked.leader == peer);
        self.held.extend(owed.map(|(_, asked)| (asked.wish, None)));
    }

    /// Asks again where an answer was lost, and answers those whose time is up. `waits` is what a
    /// change in the log waits for, as far as this node knows.
    pub(super) fn expire(
        &mut self,
        now: Time,
        waits: impl Fn() -> Vec<quorate_core::ChangeWait>,
        fates: &mut MembershipFates,
    ) {
        self.held.retain(|(wish, reason)| {
            let keep = now < wish.deadline;
            if !keep {
                let no_leader = MembershipRefusal::NotLeader { leader: None };
                let reason = reason.clone().unwrap_or(no_leader);
                fates.push((wish.ticket, Err(reason.into())));
            }
            keep
        });
        let late = |asked: &AtLeader| asked.asked_at.after(ANSWER_PATIENCE) <= now;
        for (_, AtLeader { wish, .. }) in self.at_leader.extract_if(.., |_, asked| late(asked)) {
            if wish.deadline <= now {
                fates.push((wish.ticket, Err(MembershipError::Unknown(Doubt::Deadline))));
            } else {
                self.held.push((wish, None));
            }
        }
        self.in_log.retain(|waiting| {
            let keep = now < waiting.wish.deadline;
            if !keep {
                fates
                    .push((waiting.wish.ticket, Err(MembershipError::UnderWay { waits: waits() })));
            }
            keep
        });
    }
}

/// What is known of the committed log when a wish turns out to stand in it.
#[derive(Clone, Copy)]
pub(super) struct Committed<'a> {
    /// Everything up to here has been handed to the state machine.
    pub(super) through: LogIndex,
    /// The term of the committed entry where the wish stands, if the log still has it.
    pub(super) term: Option<Term>,
    /// The configuration as of `through`.
    pub(super) configuration: &'a Configuration,
}

fn fate_at(waiting: &InLog, entry: &Entry) -> Option<MembershipFate> {
    if entry.log_id.index < waiting.log_id.index {
        return None;
    }
    if entry.log_id.index == waiting.log_id.index && entry.log_id != waiting.log_id {
        return Some(Err(MembershipError::Lost));
    }
    match &entry.payload {
        Payload::Configuration(configuration) => fate_by(&waiting.wish.command, configuration),
        Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
    }
}

/// What a committed configuration, where the wish stands or later, says of it; `None` while it is
/// still on its way.
fn fate_by(command: &MembershipCommand, configuration: &Configuration) -> Option<MembershipFate> {
    let version = configuration.version;
    let goes_on = configuration.change.is_some();
    let is_wanted = |target: &Members| configuration.leads_to() == target;
    match command {
        MembershipCommand::Set { target, .. } if !is_wanted(target) => {
            Some(Err(MembershipError::Superseded { version }))
        }
        MembershipCommand::Set { .. } => (!goes_on).then_some(Ok(version)),
        // A cancelled change is over where the wish stands; whatever came later began anew.
        MembershipCommand::Cancel => Some(Ok(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{Change, Member, MemberRole};

    fn members(ids: &[u64]) -> Members {
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: String::new(),
            context: bytes::Bytes::new(),
        };
        ids.iter().map(|id| (NodeId::new(*id), member.clone())).collect()
    }

    /// What node 1 is told of its wish for nodes 2 and 3, if it was removed by `version` and knows
    /// version 4, which leads to `target`, or is settled.
    fn told(version: u64, target: Option<&[u64]>) -> Vec<(Ticket, MembershipFate)> {
        let command = MembershipCommand::Set {
            target: members(&[2, 3]),
            expected_version: None,
            force: false,
        };
        let wish = Wish { ticket: Ticket(7), command, deadline: Time::ZERO };
        let mut wishes = Wishes::default();
        wishes.in_log.push(InLog { log_id: LogId::ORIGIN, wish });
        let mut known = Configuration::new(4, members(&[1, 2]));
        known.change = target
            .map(|target| Box::new(Change { target: members(target), origin: members(&[1, 2]) }));
        let mut fates = MembershipFates::new();
        wishes.removed(NodeId::new(1), version, &known, &mut fates);
        assert_eq!(wishes.count(), 0, "a removed node hears no more of it");
        fates
    }

    #[test]
    fn whoever_is_removed_by_its_own_wish_is_told_that_it_is_done_and_else_that_nobody_knows() {
        assert_eq!(told(5, Some(&[2, 3])), [(Ticket(7), Ok(5))]);
        let unknown = [(Ticket(7), Err(MembershipError::Unknown(Doubt::Superseded)))];
        assert_eq!(told(6, Some(&[2, 3])), unknown, "it may have been taken back in between");
        assert_eq!(told(5, Some(&[2, 4])), unknown, "that was somebody else's wish");
        assert_eq!(told(5, None), unknown, "its wish was on no way");
    }
}
