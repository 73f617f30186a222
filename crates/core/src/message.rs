//! What servers say to each other: the four RPCs of the dissertation as one-way messages, and the
//! few that the extensions need. The sender's id travels beside the message, not in it.

use crate::recording::payload;
use crate::{Configuration, Drift, Entry, LogId, LogIndex, ReadId, Term};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Any message between two cores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// A candidate asks for a vote (Figure 3.1; pre-vote §9.6).
    RequestVote(RequestVote),
    /// The answer.
    RequestVoteResponse(RequestVoteResponse),
    /// A leader replicates entries (Figure 3.1).
    AppendEntries(AppendEntries),
    /// The answer.
    AppendEntriesResponse(AppendEntriesResponse),
    /// A leader shows that it leads, and how far the log is committed.
    Heartbeat(Heartbeat),
    /// The answer.
    HeartbeatResponse(HeartbeatResponse),
    /// A leader sends a piece of a snapshot (Figure 5.3).
    InstallSnapshot(InstallSnapshot),
    /// The answer.
    InstallSnapshotResponse(InstallSnapshotResponse),
    /// A leader tells a caught-up follower to campaign at once (§3.10).
    TimeoutNow(TimeoutNow),
    /// A follower asks the leader for a read index (§6.4).
    ReadIndex(ReadIndex),
    /// The answer.
    ReadIndexResponse(ReadIndexResponse),
    /// The answer to a candidate that was removed and does not know it (§4.2.3).
    NotAMember(NotAMember),
    /// A server whose log was damaged asks for what it lost (decision 43).
    LostEntries(LostEntries),
    /// The answer.
    LostEntriesResponse(LostEntriesResponse),
}

/// Which election a vote is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VotePhase {
    /// "Would you vote for me?" Nobody's term or vote changes (§9.6).
    PreVote,
    /// A vote.
    Vote,
    /// A vote in an election that the leader itself asked for: followers answer although they
    /// have a leader (§3.10, §4.2.3).
    Transfer,
}

/// See [`Message::RequestVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVote {
    /// The term of the election: the candidate's, or in a pre-vote the one it would start.
    pub term: Term,
    /// The candidate's last entry, for the election restriction (§3.6.1).
    pub last_log: LogId,
    /// Which election.
    pub phase: VotePhase,
}

/// See [`Message::RequestVoteResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVoteResponse {
    /// The election's term if granted, else the voter's current term.
    pub term: Term,
    /// Which election.
    pub phase: VotePhase,
    /// Whether the vote was given.
    pub granted: bool,
}

/// See [`Message::AppendEntries`]. `entries` follow `prev_log` without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntries {
    /// The leader's term.
    pub term: Term,
    /// The entry right before `entries`; the follower must have it (consistency check, §3.5).
    pub prev_log: LogId,
    /// The new entries; empty for a probe.
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    pub leader_commit: LogIndex,
}

/// See [`Message::AppendEntriesResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntriesResponse {
    /// The follower's current term.
    pub term: Term,
    /// What became of the request.
    pub outcome: AppendOutcome,
}

/// What became of an [`AppendEntries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The follower durably holds the leader's log up to here.
    Accepted {
        /// The last index known to match.
        matched: LogIndex,
    },
    /// The follower does not have `prev_log`.
    Rejected {
        /// The index of the `prev_log` that was refused; tells stale refusals from fresh ones.
        prev_index: LogIndex,
        /// Where to look next.
        hint: ConflictHint,
    },
    /// The request's term was stale; see the response's term.
    StaleTerm,
}

/// Lets a leader skip a whole term of conflicting entries at a time (§3.5, end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConflictHint {
    /// The follower's last entry whose term is not above that of the refused `prev_log`, at an
    /// index not above it: no later entry of the follower can match.
    pub candidate: LogId,
}

/// See [`Message::Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// What this follower may commit: the leader's commit index, capped at the follower's match
    /// index, since a heartbeat has no consistency check.
    pub leader_commit: LogIndex,
    /// Numbers the rounds of proof of leadership (§6.4). `None` is a mere commit notice: no answer.
    pub round: Option<u64>,
}

/// See [`Message::HeartbeatResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// The follower's current term.
    pub term: Term,
    /// The round of the heartbeat that this answers; they count from 1. 0 proves nothing: that
    /// heartbeat was of an earlier term.
    pub round: u64,
    /// For so long after it had that heartbeat the follower helps nobody else to be elected, by its
    /// own clock; zero if it promises nothing (§6.4.1).
    pub promise: Duration,
}

/// What a snapshot stands for (§5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that it replaces.
    pub last_included: LogId,
    /// The configuration as of that entry.
    pub configuration: Arc<Configuration>,
}

/// See [`Message::InstallSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallSnapshot {
    /// The leader's term.
    pub term: Term,
    /// Which snapshot.
    pub meta: SnapshotMeta,
    /// Where `chunk` belongs in the snapshot, in bytes.
    pub offset: u64,
    /// A piece of it.
    #[serde(with = "payload")]
    pub chunk: Bytes,
    /// Whether this is the last piece.
    pub done: bool,
}

/// See [`Message::InstallSnapshotResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallSnapshotResponse {
    /// The follower's current term.
    pub term: Term,
    /// Which snapshot.
    pub last_included: LogId,
    /// The offset that the follower wants next.
    pub next_offset: u64,
    /// Whether the snapshot is installed, or was not needed.
    pub installed: bool,
}

/// See [`Message::TimeoutNow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeoutNow {
    /// The leader's term.
    pub term: Term,
}

/// See [`Message::ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadIndex {
    /// The follower's current term.
    pub term: Term,
    /// The follower's name for the read.
    pub id: ReadId,
    /// By how much clocks may be off, if the leader may answer by its lease (§6.4.1).
    pub max_drift: Option<Drift>,
}

/// See [`Message::ReadIndexResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadIndexResponse {
    /// The leader's current term.
    pub term: Term,
    /// The follower's name for the read.
    pub id: ReadId,
    /// The state machine must have applied this much before it answers; `None` if refused.
    pub index: Option<LogIndex>,
}

/// See [`Message::NotAMember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NotAMember {
    /// The sender's current term.
    pub term: Term,
    /// The version of a committed configuration that does not have the receiver.
    pub version: u64,
    /// Where it stands in the log.
    pub position: LogId,
}

/// See [`Message::LostEntries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LostEntries {
    /// The sender's current term. It moves nobody to that term.
    pub term: Term,
    /// The last entry that the sender holds; it asks for what follows.
    pub after: LogId,
    /// A later entry that its log is known to have held.
    pub known: LogId,
}

/// See [`Message::LostEntriesResponse`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LostEntriesResponse {
    /// The sender's current term. It moves nobody to that term.
    pub term: Term,
    /// The last entry that the asker held when it asked.
    pub after: LogId,
    /// What can be lent; `None` if the sender has nothing of it.
    pub lent: Option<Lent>,
}

/// A stretch of some server's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lent {
    /// The entry right before `entries` in that log; `None` if that was lost too.
    pub previous: Option<LogId>,
    /// Entries without a gap.
    pub entries: Vec<Entry>,
    /// That log goes on from there without a gap up to this entry at least, which the asker held if it
    /// is of the term of what it is known to have held, and not behind it.
    pub reaches: LogId,
}

impl Message {
    /// The term that the message carries.
    #[must_use]
    pub fn term(&self) -> Term {
        match self {
            Self::RequestVote(message) => message.term,
            Self::RequestVoteResponse(message) => message.term,
            Self::AppendEntries(message) => message.term,
            Self::AppendEntriesResponse(message) => message.term,
            Self::Heartbeat(message) => message.term,
            Self::HeartbeatResponse(message) => message.term,
            Self::InstallSnapshot(message) => message.term,
            Self::InstallSnapshotResponse(message) => message.term,
            Self::TimeoutNow(message) => message.term,
            Self::ReadIndex(message) => message.term,
            Self::ReadIndexResponse(message) => message.term,
            Self::NotAMember(message) => message.term,
            Self::LostEntries(message) => message.term,
            Self::LostEntriesResponse(message) => message.term,
        }
    }
}
