//! How many requests reach a node, by kind: a request and its answer are one RPC, as in the lab's
//! tests. Counts; must not decide anything.

use quorate::PeerMessage;
use quorate_core::{Message, VotePhase};

/// Requests that reached a node. Answers are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RpcCounts {
    /// Questions of a candidate that only sounds the others out (§9.6).
    pub pre_votes: u64,
    /// Requests for a vote.
    pub votes: u64,
    /// `AppendEntries`, empty ones included.
    pub appends: u64,
    /// Heartbeats, which in this design are messages of their own.
    pub heartbeats: u64,
    /// News of commitment, a kind of heartbeat that nobody answers.
    pub commit_notices: u64,
    /// Pieces of snapshots.
    pub snapshots: u64,
    /// Nodes that say which disk they have; what they are answered is not counted.
    pub introductions: u64,
    /// Read indexes asked for, orders to campaign at once, and wishes for other members.
    pub others: u64,
    /// Batches of clients' commands that a follower passes on.
    pub forwards: u64,
}

impl RpcCounts {
    /// All together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { pre_votes, votes, appends, heartbeats, .. } = *self;
        let Self { commit_notices, snapshots, introductions, others, forwards, .. } = *self;
        let to_elect = pre_votes + votes + introductions;
        to_elect + appends + heartbeats + commit_notices + snapshots + others + forwards
    }

    /// A message arrives.
    pub(super) const fn count(&mut self, message: &PeerMessage) {
        let counter = match message {
            PeerMessage::Forward { .. } => &mut self.forwards,
            PeerMessage::ChangeMembership { .. }
            | PeerMessage::Digest(_)
            | PeerMessage::StateWanted { .. } => &mut self.others,
            PeerMessage::Introduce(introduction) => match introduction.answers {
                None => &mut self.introductions,
                Some(_) => return,
            },
            PeerMessage::ForwardReplies { .. } | PeerMessage::MembershipReply { .. } => return,
            PeerMessage::Raft(message) => match message {
                Message::RequestVote(request) => match request.phase {
                    VotePhase::PreVote => &mut self.pre_votes,
                    VotePhase::Vote | VotePhase::Transfer => &mut self.votes,
                },
                Message::AppendEntries(_) => &mut self.appends,
                Message::Heartbeat(heartbeat) if heartbeat.round.is_none() => {
                    &mut self.commit_notices
                }
                Message::Heartbeat(_) => &mut self.heartbeats,
                Message::InstallSnapshot(_) => &mut self.snapshots,
                Message::TimeoutNow(_) | Message::ReadIndex(_) | Message::LostEntries(_) => {
                    &mut self.others
                }
                Message::RequestVoteResponse(_)
                | Message::AppendEntriesResponse(_)
                | Message::HeartbeatResponse(_)
                | Message::InstallSnapshotResponse(_)
                | Message::ReadIndexResponse(_)
                | Message::NotAMember(_)
                | Message::LostEntriesResponse(_) => return,
            },
        };
        *counter += 1;
    }

    /// What came since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            pre_votes: self.pre_votes - earlier.pre_votes,
            votes: self.votes - earlier.votes,
            appends: self.appends - earlier.appends,
            heartbeats: self.heartbeats - earlier.heartbeats,
            commit_notices: self.commit_notices - earlier.commit_notices,
            snapshots: self.snapshots - earlier.snapshots,
            introductions: self.introductions - earlier.introductions,
            others: self.others - earlier.others,
            forwards: self.forwards - earlier.forwards,
        }
    }
}

impl std::ops::Add for RpcCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pre_votes: self.pre_votes + other.pre_votes,
            votes: self.votes + other.votes,
            appends: self.appends + other.appends,
            heartbeats: self.heartbeats + other.heartbeats,
            commit_notices: self.commit_notices + other.commit_notices,
            snapshots: self.snapshots + other.snapshots,
            introductions: self.introductions + other.introductions,
            others: self.others + other.others,
            forwards: self.forwards + other.forwards,
        }
    }
}
