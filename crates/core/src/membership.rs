//! A change of the members, as a plan (§4.3): what is asked for, why it may be refused, and which
//! configuration follows which. Knows neither terms, logs nor who is alive; the leader does.

use crate::configuration::TOMBSTONES_COUNT_MAX;
use crate::{Configuration, LogIndex, Member, MemberRole, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Members of one configuration, learners included.
pub const MEMBERS_COUNT_MAX: usize = 64;

/// Bytes of one member's address and context together.
pub const MEMBER_BYTES_MAX: usize = 4 << 10;

/// Members by their ids.
pub type Members = BTreeMap<NodeId, Member>;

/// A change under way. It stands in the log with every configuration on its way, so that whoever
/// leads next can finish it, or take it back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Who the members shall be: voters and learners.
    pub target: Members,
    /// Who they were before.
    pub origin: Members,
}

/// What an operator wants of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipCommand {
    /// The members shall be these. The leader plans the way: new voters first catch up as learners
    /// (§4.2.1), then two majorities decide (§4.3), then these members alone.
    Set {
        /// Voters and learners, with their ranks, addresses and contexts.
        target: Members,
        /// The version of the configuration that the caller has seen; `None` for any.
        expected_version: Option<u64>,
        /// Do it although most of the voters would be strangers, or a majority of them seems to be
        /// down.
        force: bool,
    },
    /// The change under way shall be taken back.
    Cancel,
}

/// Why a change of the members is not begun. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipRefusal {
    /// Another node leads, or none is known to.
    #[error("this node does not lead{}", match leader {
        Some(leader) => format!("; node {leader} does"),
        None => String::new(),
    })]
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// The leader has not committed an entry of its term yet; it will in a moment. Before that it
    /// may not know of a change that another leader has begun.
    #[error("the leader is new: entry {term_start} has to be committed first")]
    LeaderTooNew {
        /// Its first entry.
        term_start: LogIndex,
    },
    /// The leader is handing over (§3.10).
    #[error("leadership is being transferred to node {to}")]
    Transferring {
        /// The successor.
        to: NodeId,
    },
    /// One change at a time.
    #[error("another change is under way, in configuration version {version}")]
    UnderWay {
        /// The version of the configuration in force.
        version: u64,
    },
    /// The members have changed since the caller looked.
    #[error("the configuration has version {actual}, not {expected}")]
    VersionMismatch {
        /// What the caller has seen.
        expected: u64,
        /// What is in force.
        actual: u64,
    },
    /// A cluster without voters could decide nothing.
    #[error("there is no voter among the members asked for")]
    NoVoters,
    /// A member is to be a voter or a learner; halves are the leader's business.
    #[error("node {member} can be asked to be a voter or a learner, and nothing else")]
    NotARole {
        /// Who.
        member: NodeId,
    },
    /// A removed member does not come back under its old id: it may have forgotten what it voted.
    #[error("node {member} was removed; a node that takes its place needs an id of its own")]
    Tombstoned {
        /// Who.
        member: NodeId,
    },
    /// More of the voters would be nodes that never were members than not. If their addresses are
    /// wrong, nobody is left to say so. Add them as learners first, or insist.
    #[error(
        "{} of the voters would be new here and {known_count} known; add them as learners first, \
         or force it", strangers.len()
    )]
    Strangers {
        /// Who is new.
        strangers: Vec<NodeId>,
        /// How many voters are members already.
        known_count: usize,
    },
    /// A majority of the voters asked for cannot be reached.
    #[error(
        "{needed_count} of the voters asked for make a majority; not heard of: {}",
        list(silent)
    )]
    WouldLoseQuorum {
        /// Who does not answer.
        silent: Vec<NodeId>,
        /// How many make a majority.
        needed_count: usize,
    },
    /// Too many members.
    #[error("{count} members are more than the limit of {limit_count}")]
    TooManyMembers {
        /// How many were asked for.
        count: usize,
        /// The limit.
        limit_count: usize,
    },
    /// A member's address and context are too long.
    #[error("address and context of node {member} take {bytes} bytes; the limit is {limit_bytes}")]
    MemberTooLarge {
        /// Who.
        member: NodeId,
        /// How much they take.
        bytes: usize,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// There is no change to take back.
    #[error("no change is under way")]
    NothingToCancel,
    /// The change can only go forward: an earlier leader may have finished it already. Ask again
    /// once entry `index` is committed.
    #[error("the change cannot be taken back before entry {index} is committed")]
    CannotCancelYet {
        /// What has to be committed.
        index: LogIndex,
    },
    /// The core is poisoned and takes part in nothing any more.
    #[error("this node takes part in nothing any more")]
    Poisoned,
}

/// What a change of the members waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeWait {
    /// The leader's first entry is not committed yet.
    #[error("the leader is new: entry {index} has to be committed first")]
    LeaderTooNew {
        /// That entry.
        index: LogIndex,
    },
    /// The configuration in force is not committed yet.
    #[error("configuration entry {index} is not committed; it is missing on {}", list(missing))]
    Commit {
        /// Where the configuration stands.
        index: LogIndex,
        /// Voters that are not known to hold it.
        missing: Vec<NodeId>,
    },
    /// A new voter has to catch up first (§4.2.1).
    #[error("node {member} has to catch up: {behind_count} entries behind{}", if *is_reachable {
        ""
    } else {
        ", and it does not answer"
    })]
    CatchUp {
        /// Who.
        member: NodeId,
        /// How many entries it lacks.
        behind_count: u64,
        /// Whether it answered within the last election timeout.
        is_reachable: bool,
    },
    /// Too many of the voters asked for are silent to go on without losing the majority.
    #[error("{needed_count} voters make a majority of the new ones; silent are {}", list(silent))]
    Majority {
        /// Who does not answer.
        silent: Vec<NodeId>,
        /// How many make a majority.
        needed_count: usize,
    },
    /// The leader is not among the voters asked for, and hands over first.
    #[error("leadership is handed over to node {to} first")]
    Handover {
        /// To whom.
        to: NodeId,
    },
}

pub(crate) fn list(members: &[NodeId]) -> String {
    let ids: Vec<String> = members.iter().map(|id| format!("node {id}")).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

impl Change {
    /// Whether `id` is a voter in the end.
    pub(crate) fn is_to_vote(&self, id: NodeId) -> bool {
        self.target.get(&id).is_some_and(|member| member.role == MemberRole::Voter)
    }

    /// Members of `configuration` that are to vote and do not yet.
    pub(crate) fn new_voters(&self, configuration: &Configuration) -> impl Iterator<Item = NodeId> {
        let learners = configuration.learners().filter(|id| self.is_to_vote(*id));
        learners.collect::<Vec<_>>().into_iter()
    }
}

fn voters_of(members: &Members) -> BTreeSet<NodeId> {
    let voters = members.iter().filter(|(_, member)| member.role == MemberRole::Voter);
    voters.map(|(id, _)| *id).collect()
}

/// Whether members that are asked for make sense at all, whoever asks.
///
/// # Errors
///
/// [`MembershipRefusal::NoVoters`], `NotARole`, `TooManyMembers`, `MemberTooLarge`.
pub(crate) fn check_target(target: &Members) -> Result<(), MembershipRefusal> {
    let (count, limit_count) = (target.len(), MEMBERS_COUNT_MAX);
    if count > limit_count {
        return Err(MembershipRefusal::TooManyMembers { count, limit_count });
    }
    for (&id, member) in target {
        if matches!(member.role, MemberRole::Incoming | MemberRole::Outgoing) {
            return Err(MembershipRefusal::NotARole { member: id });
        }
        let (bytes, limit_bytes) = (member.size_bytes(), MEMBER_BYTES_MAX);
        if bytes > limit_bytes {
            return Err(MembershipRefusal::MemberTooLarge { member: id, bytes, limit_bytes });
        }
    }
    if voters_of(target).is_empty() {
        return Err(MembershipRefusal::NoVoters);
    }
    Ok(())
}

impl Configuration {
    /// The members at the end of the change under way; without one, the members.
    #[must_use]
    pub fn leads_to(&self) -> &Members {
        self.change.as_ref().map_or(&self.members, |change| &change.target)
    }

    /// Whether these members may follow the present ones.
    ///
    /// # Errors
    ///
    /// [`MembershipRefusal::Tombstoned`]; unless `force`d, [`MembershipRefusal::Strangers`].
    pub(crate) fn check_newcomers(
        &self,
        target: &Members,
        force: bool,
    ) -> Result<(), MembershipRefusal> {
        let is_new = |id: &&NodeId| !self.members.contains_key(id);
        if let Some(&member) = target.keys().filter(is_new).find(|id| self.is_tombstoned(**id)) {
            return Err(MembershipRefusal::Tombstoned { member });
        }
        let voters = voters_of(target);
        let strangers: Vec<NodeId> = voters.iter().filter(is_new).copied().collect();
        let known_count = voters.len() - strangers.len();
        if strangers.len() > known_count && !force {
            return Err(MembershipRefusal::Strangers { strangers, known_count });
        }
        Ok(())
    }

    /// The first configuration on the way to these members: nobody's vote changes, new voters come
    /// as learners. If no vote is to change at all, it is the last one too.
    pub(crate) fn begin_change(&self, target: &Members) -> Self {
        if voters_of(&self.members) == voters_of(target) {
            return self.settled(target, self.removed_with(target));
        }
        let mut members = self.members.clone();
        for (id, wanted) in target {
            let role = members.get(id).map_or(MemberRole::Learner, |member| member.role);
            members.insert(*id, Member { role, ..wanted.clone() });
        }
        let change = Change { target: target.clone(), origin: self.members.clone() };
        Self {
            version: self.version + 1,
            members,
            change: Some(Box::new(change)),
            removed: self.removed.clone(),
            storages: self.storages.clone(),
            cluster_version: self.cluster_version,
        }
    }

    /// The joint configuration of the change under way (§4.3): decisions need a majority of the
    /// voters before and of those after.
    pub(crate) fn enter_joint(&self, change: &Change) -> Self {
        let mut joint = Self { version: self.version + 1, ..self.clone() };
        for (id, member) in &mut joint.members {
            let stays = change.is_to_vote(*id);
            member.role = match (member.role == MemberRole::Voter, stays) {
                (true, true) => MemberRole::Voter,
                (true, false) => MemberRole::Outgoing,
                (false, true) => MemberRole::Incoming,
                (false, false) => MemberRole::Learner,
            };
        }
        joint
    }

    /// The last configuration of the change under way: these members alone.
    pub(crate) fn leave_joint(&self, change: &Change) -> Self {
        self.settled(&change.target, self.removed_with(&change.target))
    }

    /// The configuration that takes the change back. Who came with it may come again.
    pub(crate) fn revert_change(&self, change: &Change) -> Self {
        self.settled(&change.origin, self.removed.clone())
    }

    fn settled(&self, members: &Members, removed: Vec<NodeId>) -> Self {
        let storages = self.storages_of(members);
        let (version, members) = (self.version + 1, members.clone());
        let cluster_version = self.cluster_version;
        Self { version, members, change: None, removed, storages, cluster_version }
    }

    /// The ids that must not come back, if only these members stay; the oldest are forgotten.
    fn removed_with(&self, target: &Members) -> Vec<NodeId> {
        let mut removed = self.removed.clone();
        removed.extend(self.members.keys().filter(|id| !target.contains_key(id)));
        let excess = removed.len().saturating_sub(TOMBSTONES_COUNT_MAX);
        removed.split_off(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Members {
        let member = |word: &str| {
            let id = word.trim_end_matches(char::is_alphabetic);
            let role = match &word[id.len()..] {
                "" => MemberRole::Voter,
                "in" => MemberRole::Incoming,
                "out" => MemberRole::Outgoing,
                _ => MemberRole::Learner,
            };
            let member = Member { role, rank: 0, address: String::new(), context: "".into() };
            (NodeId::new(id.parse().unwrap()), member)
        };
        text.split(' ').map(member).collect()
    }

    fn settled(text: &str) -> Configuration {
        Configuration { version: 1, members: members(text), ..Configuration::default() }
    }

    /// Every configuration on the way, drawn.
    fn way(from: &str, to: &str) -> Vec<String> {
        let mut way = Vec::new();
        let mut configuration = settled(from).begin_change(&members(to));
        loop {
            way.push(configuration.to_string());
            let Some(change) = configuration.change.clone() else { return way };
            configuration = if configuration.is_joint() {
                configuration.leave_joint(&change)
            } else {
                configuration.enter_joint(&change)
            };
        }
    }

    #[test]
    fn new_voters_come_as_learners_then_both_majorities_decide_then_the_new_one() {
        assert_eq!(
            way("1 2 3", "1 2 4"),
            ["v2{1 2 3 4learner}+", "v3{1 2 3out 4in}+", "v4{1 2 4}-[3]",]
        );
    }

    #[test]
    fn whoever_loses_its_vote_becomes_a_learner_or_goes() {
        let demoted = ["v2{1 2 3}+", "v3{1 2 3out}+", "v4{1 2 3learner}"];
        assert_eq!(way("1 2 3", "1 2 3learner"), demoted);
        assert_eq!(way("1 2 3", "1"), ["v2{1 2 3}+", "v3{1 2out 3out}+", "v4{1}-[2 3]"]);
    }

    #[test]
    fn what_concerns_no_vote_takes_one_step() {
        assert_eq!(way("1 2 3learner", "1 2 4learner"), ["v2{1 2 4learner}-[3]"]);
    }

    #[test]
    fn a_change_that_is_taken_back_leaves_the_members_as_they_were_and_no_tombstone() {
        let before = settled("1 2 3");
        let first = before.begin_change(&members("4 5 6"));
        let change = first.change.clone().unwrap();
        for configuration in [first.clone(), first.enter_joint(&change)] {
            let after = configuration.revert_change(&change);
            assert_eq!(after.members, before.members);
            assert_eq!((after.change, after.removed), (None, vec![]));
            assert!(after.version > configuration.version);
        }
    }

    #[test]
    fn the_disks_of_those_who_stay_are_kept_and_those_of_others_forgotten() {
        let mut before = settled("1 2 3");
        before.storages = (1..=3).map(|id| (NodeId::new(id), 10 * u128::from(id))).collect();
        let recorded = |configuration: &Configuration| -> Vec<u64> {
            configuration.storages.keys().map(|id| id.get()).collect()
        };
        let first = before.begin_change(&members("1 2 4"));
        let change = first.change.clone().unwrap();
        let joint = first.enter_joint(&change);
        assert_eq!((recorded(&first), recorded(&joint)), (vec![1, 2, 3], vec![1, 2, 3]));
        let joint = joint.with_storages([(NodeId::new(4), 40)]);
        assert_eq!(recorded(&joint.leave_joint(&change)), [1, 2, 4]);
        assert_eq!(recorded(&joint.revert_change(&change)), [1, 2, 3]);
        let replaced = before.with_storages([(NodeId::new(3), 33)]);
        assert_eq!((replaced.version, replaced.storages[&NodeId::new(3)]), (2, 33));
    }

    #[test]
    fn old_tombstones_are_forgotten_beyond_the_limit() {
        let mut configuration = settled("1");
        for id in 2..1000 {
            configuration = configuration.begin_change(&members(&format!("1 {id}learner")));
        }
        assert_eq!(configuration.removed.len(), TOMBSTONES_COUNT_MAX);
        assert_eq!(configuration.removed.last(), Some(&NodeId::new(998)));
        assert!(configuration.is_tombstoned(NodeId::new(998)));
    }

    #[test]
    fn a_majority_of_strangers_needs_force_and_learners_are_no_strangers() {
        let check = |from: &str, to: &str| settled(from).check_newcomers(&members(to), false);
        assert_eq!(check("1 2 3", "1 2 3 4 5"), Ok(()));
        assert_eq!(check("1", "1 2"), Ok(()));
        assert_eq!(check("1 2learner 3learner", "1 2 3"), Ok(()));
        let strangers = vec![NodeId::new(2), NodeId::new(3)];
        let refusal = MembershipRefusal::Strangers { strangers, known_count: 1 };
        assert_eq!(check("1", "1 2 3"), Err(refusal));
        assert_eq!(settled("1").check_newcomers(&members("1 2 3"), true), Ok(()));
    }

    #[test]
    fn a_removed_member_does_not_come_back_even_if_forced() {
        let configuration = settled("1 2learner").begin_change(&members("1"));
        let refusal = MembershipRefusal::Tombstoned { member: NodeId::new(2) };
        assert_eq!(configuration.check_newcomers(&members("1 2"), true), Err(refusal));
    }

    #[test]
    fn members_that_make_no_sense_are_refused() {
        let member = NodeId::new(2);
        assert_eq!(check_target(&members("1learner")), Err(MembershipRefusal::NoVoters));
        assert_eq!(check_target(&members("1 2in")), Err(MembershipRefusal::NotARole { member }));
        let many = (1..=65).map(|id| id.to_string()).collect::<Vec<_>>().join(" ");
        let refused = check_target(&members(&many));
        assert!(matches!(refused, Err(MembershipRefusal::TooManyMembers { count: 65, .. })));
        let mut large = members("1 2");
        large.get_mut(&member).unwrap().context = vec![0; MEMBER_BYTES_MAX + 1].into();
        let refused = check_target(&large);
        assert!(matches!(refused, Err(MembershipRefusal::MemberTooLarge { .. })), "{refused:?}");
    }
}
