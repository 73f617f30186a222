//! Who the members are, and which sets of them decide (§4). A configuration is membership only;
//! settings are [`crate::Options`].

use crate::NodeId;
use std::collections::BTreeMap;

/// The members of the cluster. In a joint configuration (§4.3) a decision needs a majority of the
/// incoming voters *and* a majority of the outgoing ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Counts the changes; a change names the version that it starts from.
    pub version: u64,
    /// Every member, whatever its role.
    pub members: BTreeMap<NodeId, Member>,
}

/// One member: what it may do and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Configuration {
    /// How many members there are, learners included.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }
}
