//! Who the members are, and which sets of them decide (§4). A configuration is membership only;
//! settings are [`crate::Options`].

use crate::membership::Change;
use crate::{LogIndex, NodeId, ProtocolVersion, quorum};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Removed ids that a configuration remembers.
pub(crate) const TOMBSTONES_COUNT_MAX: usize = 256;

/// No cluster changes that often: a message with a configuration of a later version is damaged or
/// forged, and counting on from there would overflow.
pub(crate) const VERSION_MAX: u64 = 1 << 62;

/// The members of the cluster. In a joint configuration (§4.3) a decision needs a majority of the
/// incoming voters *and* a majority of the outgoing ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Configuration {
    /// Counts the changes; a change names the version that it starts from.
    pub version: u64,
    /// Every member, whatever its role.
    pub members: BTreeMap<NodeId, Member>,
    /// The change under way, if one is.
    pub change: Option<Box<Change>>,
    /// Ids of members that were removed, the oldest first: none of them comes back.
    pub removed: Vec<NodeId>,
    /// The disk that each member has, as far as it is known. Of a member with another disk than
    /// this no vote and no acknowledgement counts: what it had promised is on the one recorded.
    pub storages: BTreeMap<NodeId, u128>,
    /// Which protocol the cluster speaks: one that every member knows. Whoever does not is none.
    pub cluster_version: ProtocolVersion,
}

/// One member: what it may do and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its part in decisions.
    pub role: MemberRole,
    /// Its election rank: among caught-up members the highest rank leads. 0 unless set.
    pub rank: u32,
    /// Where its transport listens, `host:port`.
    pub address: String,
    /// What the embedding program wants every member to know of it (a name, client addresses).
    pub context: bytes::Bytes,
}

/// A member's part in decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemberRole {
    /// Votes and counts.
    Voter,
    /// Voter of the incoming half of a joint configuration only.
    Incoming,
    /// Voter of the outgoing half of a joint configuration only.
    Outgoing,
    /// Receives the log; neither votes nor counts (§4.2.1).
    Learner,
}

impl MemberRole {
    /// Whether its voice counts in the incoming half; outside of a change there is only this half.
    #[must_use]
    pub const fn is_incoming_voter(self) -> bool {
        matches!(self, Self::Voter | Self::Incoming)
    }

    /// Whether its voice counts in the outgoing half.
    #[must_use]
    pub const fn is_outgoing_voter(self) -> bool {
        matches!(self, Self::Voter | Self::Outgoing)
    }
}

impl Configuration {
    /// A configuration in which no change is under way.
    #[must_use]
    pub fn new(version: u64, members: BTreeMap<NodeId, Member>) -> Self {
        Self { version, members, ..Self::default() }
    }

    /// How many members there are, learners included.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Every member that votes, in either half.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ids(|role| role != MemberRole::Learner)
    }

    /// Every member that only receives the log (§4.2.1).
    pub fn learners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ids(|role| role == MemberRole::Learner)
    }

    /// Whether `id` is a member that votes, in either half.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| member.role != MemberRole::Learner)
    }

    /// Whether `id` votes, and will when the change under way is done.
    #[must_use]
    pub fn is_staying_voter(&self, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| member.role.is_incoming_voter())
    }

    /// Whether a change is under way, so that two majorities are needed (§4.3).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.members.values().any(|m| matches!(m.role, MemberRole::Incoming | MemberRole::Outgoing))
    }

    /// Whether `id` was a member, was removed, and is not forgotten yet.
    #[must_use]
    pub fn is_tombstoned(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    /// The same members, some of whose disks are recorded, whatever was recorded of them before.
    pub(crate) fn with_storages(&self, of: impl IntoIterator<Item = (NodeId, u128)>) -> Self {
        let mut next = Self { version: self.version + 1, ..self.clone() };
        next.storages.extend(of);
        next
    }

    /// The same members, who speak this version from now on.
    pub(crate) fn with_version(&self, cluster_version: ProtocolVersion) -> Self {
        Self { cluster_version, ..self.clone() }
    }

    /// What is recorded of those who are among these members.
    pub(crate) fn storages_of(&self, members: &BTreeMap<NodeId, Member>) -> BTreeMap<NodeId, u128> {
        let kept = self.storages.iter().filter(|(id, _)| members.contains_key(id));
        kept.map(|(id, storage_id)| (*id, *storage_id)).collect()
    }

    /// What the configuration counts for in limits, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        const MEMBER_BYTES: usize = 64;
        let size = |members: &BTreeMap<NodeId, Member>| -> usize {
            members.values().map(|member| MEMBER_BYTES + member.size_bytes()).sum()
        };
        let change = self.change.as_ref();
        let change = change.map_or(0, |change| size(&change.target) + size(&change.origin));
        let storages = self.storages.len() * (size_of::<NodeId>() + size_of::<u128>());
        size(&self.members) + change + self.removed.len() * size_of::<NodeId>() + storages
    }

    /// The election rank of `id`; 0 for strangers.
    #[must_use]
    pub fn rank(&self, id: NodeId) -> u32 {
        self.members.get(&id).map_or(0, |member| member.rank)
    }

    /// Whether the members for which `agrees` holds decide: a majority of the voters, in a joint
    /// configuration a majority of each half (§4.3). Learners never count. Without voters, nobody
    /// decides.
    #[must_use]
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        let (mut incoming, mut outgoing) = (Tally::default(), Tally::default());
        for (id, member) in &self.members {
            let yes = member.role != MemberRole::Learner && agrees(*id);
            incoming.count(member.role.is_incoming_voter(), yes);
            outgoing.count(member.role.is_outgoing_voter(), yes);
        }
        incoming.is_majority() && outgoing.is_majority()
    }

    /// The greatest index that a quorum has reached, where `match_index` says what each voter
    /// durably holds (`None`: nothing is known of it). `None` without voters.
    #[must_use]
    pub fn committed_index(
        &self,
        match_index: impl Fn(NodeId) -> Option<LogIndex>,
    ) -> Option<LogIndex> {
        self.quorum_reached(|id| match_index(id).unwrap_or_default())
    }

    /// The greatest value that a quorum has reached (both halves, when joint).
    pub(crate) fn quorum_reached<T: Ord + Copy + Default>(
        &self,
        value: impl Fn(NodeId) -> T,
    ) -> Option<T> {
        let half = |counts: fn(MemberRole) -> bool| {
            let voters = self.members.iter().filter(move |(_, member)| counts(member.role));
            quorum::majority_reached(voters.map(|(id, _)| value(*id)))
        };
        let incoming = half(MemberRole::is_incoming_voter)?;
        if !self.is_joint() {
            return Some(incoming);
        }
        Some(incoming.min(half(MemberRole::is_outgoing_voter)?))
    }

    /// Where the rank of `id` stands among the voters' ranks: how many distinct ranks are above
    /// it, and how many distinct ranks there are (at least 1).
    pub(crate) fn rank_slot(&self, id: NodeId) -> (usize, usize) {
        let own = self.rank(id);
        let mut ranks: BTreeSet<u32> = self.voters().map(|voter| self.rank(voter)).collect();
        ranks.insert(own);
        (ranks.iter().filter(|rank| **rank > own).count(), ranks.len())
    }

    fn ids(&self, wanted: fn(MemberRole) -> bool) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(move |(_, member)| wanted(member.role)).map(|(id, _)| *id)
    }
}

impl Member {
    /// What its address and context take, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.address.len() + self.context.len()
    }
}

impl fmt::Display for Configuration {
    /// `v3{1 2 3out 4in}+`: the version, the members, `+` while a change is under way, and at the
    /// end who was removed, as in `-[7 8]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.members.iter().map(|(id, member)| match member.role {
            MemberRole::Voter => id.to_string(),
            MemberRole::Incoming => format!("{id}in"),
            MemberRole::Outgoing => format!("{id}out"),
            MemberRole::Learner => format!("{id}learner"),
        });
        let members: Vec<String> = members.collect();
        write!(f, "v{}{{{}}}", self.version, members.join(" "))?;
        if self.change.is_some() {
            f.write_str("+")?;
        }
        if !self.removed.is_empty() {
            let removed: Vec<String> = self.removed.iter().map(ToString::to_string).collect();
            write!(f, "-[{}]", removed.join(" "))?;
        }
        Ok(())
    }
}

/// Counts the voices of one half.
#[derive(Default)]
struct Tally {
    voters: usize,
    yes: usize,
}

impl Tally {
    fn count(&mut self, votes: bool, yes: bool) {
        self.voters += usize::from(votes);
        self.yes += usize::from(votes && yes);
    }

    fn is_majority(&self) -> bool {
        quorum::is_majority(self.yes, self.voters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [MemberRole; 4] =
        [MemberRole::Voter, MemberRole::Incoming, MemberRole::Outgoing, MemberRole::Learner];

    fn configuration(roles: &[MemberRole]) -> Configuration {
        let member =
            |role| Member { role, rank: 0, address: String::new(), context: bytes::Bytes::new() };
        let members = roles.iter().zip(1..).map(|(role, id)| (NodeId::new(id), member(*role)));
        Configuration::new(0, members.collect())
    }

    /// Every configuration of up to five members, with every subset that agrees.
    fn every_case(mut check: impl FnMut(&Configuration, &dyn Fn(NodeId) -> bool)) {
        for size in 1..=5_u32 {
            for code in 0..4_usize.pow(size) {
                let roles: Vec<_> =
                    (0..size).map(|place| ROLES[code / 4_usize.pow(place) % 4]).collect();
                let configuration = configuration(&roles);
                for agreeing in 0..1_u64 << size {
                    check(&configuration, &|id| agreeing >> (id.get() - 1) & 1 == 1);
                }
            }
        }
    }

    fn naive_half(
        configuration: &Configuration,
        half: [MemberRole; 2],
        agrees: &dyn Fn(NodeId) -> bool,
    ) -> bool {
        let voters: Vec<NodeId> = configuration
            .members
            .iter()
            .filter(|(_, member)| half.contains(&member.role))
            .map(|(id, _)| *id)
            .collect();
        voters.iter().filter(|id| agrees(**id)).count() * 2 > voters.len()
    }

    #[test]
    fn has_quorum_equals_the_definition_for_every_configuration_of_up_to_five() {
        every_case(|configuration, agrees| {
            let expected =
                naive_half(configuration, [MemberRole::Voter, MemberRole::Incoming], agrees)
                    && naive_half(configuration, [MemberRole::Voter, MemberRole::Outgoing], agrees);
            assert_eq!(configuration.has_quorum(agrees), expected, "{configuration:?}");
        });
    }

    #[test]
    fn committed_index_is_what_a_quorum_has_reached() {
        every_case(|configuration, agrees| {
            let index = |id| Some(LogIndex::new(if agrees(id) { 7 } else { 3 }));
            let halves = [MemberRole::is_incoming_voter, MemberRole::is_outgoing_voter];
            let complete = halves
                .iter()
                .all(|half| configuration.members.values().any(|member| half(member.role)));
            let reached = u64::from(configuration.has_quorum(agrees)) * 4 + 3;
            let expected = complete.then(|| LogIndex::new(reached));
            assert_eq!(configuration.committed_index(index), expected, "{configuration:?}");
        });
    }

    #[test]
    fn a_configuration_counts_for_its_members_both_ends_of_its_change_and_who_was_removed() {
        let members = |addresses: &[&str]| -> BTreeMap<NodeId, Member> {
            let member = |address: &&str| Member {
                role: MemberRole::Voter,
                rank: 0,
                address: (*address).to_owned(),
                context: bytes::Bytes::from_static(b"ab"),
            };
            (1..).map(NodeId::new).zip(addresses.iter().map(member)).collect()
        };
        let mut configuration = Configuration::new(0, members(&["a:1"]));
        assert_eq!(configuration.size_bytes(), 64 + 3 + 2);
        let (target, origin) = (members(&["a:1", "b:22"]), members(&["c:333"]));
        configuration.change = Some(Box::new(Change { target, origin }));
        let change = (64 + 3 + 2) + (64 + 4 + 2) + (64 + 5 + 2);
        assert_eq!(configuration.size_bytes(), 69 + change);
        configuration.removed = [7, 8, 9].map(NodeId::new).to_vec();
        assert_eq!(configuration.size_bytes(), 69 + change + 3 * 8);
        configuration.storages.insert(NodeId::new(1), 7);
        assert_eq!(configuration.size_bytes(), 69 + change + 3 * 8 + 24);
    }

    #[test]
    fn learners_neither_vote_nor_count() {
        let configuration = configuration(&[ROLES[0], ROLES[3], ROLES[3]]);
        assert!(configuration.has_quorum(|id| id == NodeId::new(1)));
        assert!(!configuration.has_quorum(|id| id != NodeId::new(1)));
        assert!(!configuration.is_voter(NodeId::new(2)));
        assert_eq!(configuration.voters().count(), 1);
        assert_eq!(configuration.learners().count(), 2);
    }
}
