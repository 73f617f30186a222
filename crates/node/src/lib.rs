//! A Raft library: driver, runtime, transport and the API that people import.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

mod applier;
#[cfg(doctest)]
mod book;
mod digest;
mod driver;
mod explanation;
mod failure;
mod fate;
mod metrics;
mod node;
mod recording;
mod runtime;
mod session;
mod state_machine;
mod status;
mod transport;
mod typed;
pub mod wire;
mod work;

pub use applier::{Applier, Outcome};
pub use digest::{
    DIGEST_WINDOW_COUNT_MAX, Digest, DigestMessage, DigestNews, DigestRules, Divergence,
};
pub use driver::{
    Admission, Applied, ApplyBatch, Beginning, Differing, Driver, DriverOptions, Flight, Forwarded,
    Input, Introduction, Output, OwnDisk, PeerMessage, Proposed, Recovering, RemoteFate, Requester,
    Seen, Ticket, Waiter,
};
pub use explanation::{Cause, Explanation};
pub use failure::{NodeFailure, StartError};
pub use fate::{Consistency, Doubt, Fate, MembershipError, MembershipFate, ReadError, Refusal};
pub use metrics::{Counter, Gauge, Histogram, Metrics, PeerMetrics, ProposalTimes};
pub use node::{
    MembershipWish, Node, NodeBuilder, NodeMembers, NodeOptions, OpenSessionError, Session,
    SessionCommand, SettingsError, TransferError,
};
pub use recording::{Recording, RecordingError, Replay, Step};
pub use runtime::{DiskWatch, LogNote, LogPlace, LogPlaceError, find_log};
pub use session::{
    SessionId, SessionKey, SessionLimits, SessionRefusal, SessionRequest, SessionTable, SessionTime,
};
pub(crate) use state_machine::ReplyNote;
pub use state_machine::{
    Checkpoint, Committed, Fatal, Note, Notebook, QueryError, Replies, SnapshotView, StateMachine,
};
pub use status::NodeStatus;
pub use transport::{AskError, PEER_PROTOCOL, PeerTls, TransportOptions, ask_cluster};
#[cfg(feature = "json")]
pub use typed::Json;
pub use typed::{
    Codec, CodecError, ProposeError, Typed, TypedCommand, TypedMachine, TypedNode, TypedSession,
};
pub use wire::{ADDRESS_BYTES_MAX, ClusterView};
pub use work::{DiskRoom, Rot};

/// The parts of a node before threads, sockets and clocks are put around them: for those who bring
/// their own, such as the simulator.
pub mod parts {
    pub use crate::runtime::{EmptyMachine, OpenMachine, OpenRequest, Opened, open};
    pub use crate::session::{
        read_entry as read_session_entry, rewrite_entry as rewrite_session_entry,
    };
    pub use crate::work::{
        FileDone, FileJob, FilesWorker, Job, LogDone, LogJob, LogWorker, MachineDone, MachineJob,
        MachineWorker, RoomKeeper, ScrubDone, SharedStore, SnapshotJob,
    };
}

// What users of the library need of the rooms below.
pub use quorate_core as core;
pub use quorate_core::{
    Change, ChangeWait, Configuration, Drift, LeaderWait, LogId, LogIndex, Member, MemberRole,
    Members, MembershipCommand, MembershipRefusal, NodeId, Options, OptionsError, PeerWait,
    ProtocolVersion, ReadWait, Reason, Role, Term,
};
pub use quorate_wal as wal;
pub use quorate_wal::WalOptions;
