//! The Raft protocol as a deterministic function: no IO, no clock, no threads.
//!
//! One entry point, [`Raft::step`]: an [`Event`] goes in, [`Effect`]s come out. The caller carries
//! the effects out, in any order it likes, and brings every completion back as another event. All
//! ordering that safety needs is inside: an answer that depends on a disk write leaves the core
//! only after the matching [`Event::Persisted`].
//!
//! Section numbers (`§3.6.2`) are those of Ongaro's dissertation, "Consensus: Bridging Theory and
//! Practice" (2014).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod chance;
mod configuration;
mod effect;
mod entry;
mod event;
mod explain;
pub mod invariants;
mod log;
mod membership;
mod message;
mod options;
mod persistence;
mod progress;
mod quorum;
mod raft;
pub mod recording;
mod types;
mod version;

pub use configuration::{Configuration, Member, MemberRole};
pub use effect::{Effect, LoadFor, LoadRequest, Persist, ProposalRefusal, ReadRefusal};
pub use entry::{Entry, Payload};
pub use event::{CommandKind, Event, Proposal, Restored};
pub use explain::{LeaderWait, LostWait, PeerWait, ReadWait, Reason};
pub use membership::{
    Change, ChangeWait, MEMBER_BYTES_MAX, MEMBERS_COUNT_MAX, Members, MembershipCommand,
    MembershipRefusal,
};
pub use message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, ConflictHint, Heartbeat,
    HeartbeatResponse, InstallSnapshot, InstallSnapshotResponse, Lent, LostEntries,
    LostEntriesResponse, Message, NotAMember, ReadIndex, ReadIndexResponse, RequestVote,
    RequestVoteResponse, SnapshotMeta, TimeoutNow, VotePhase,
};
pub use options::{Options, OptionsError};
pub use raft::{PeerState, Poison, ProgressStatus, Raft, StartError, Status};
pub use types::{
    ChangeId, Drift, HardState, LogId, LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Role,
    Term, Time,
};
pub use version::ProtocolVersion;
