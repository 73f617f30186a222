//! A Raft library: driver, runtime, transport and the API that people import.

mod applier;
mod driver;
mod fate;
mod state_machine;

pub use applier::{Applier, Outcome};
pub use driver::{
    Applied, ApplyBatch, Driver, DriverOptions, Forwarded, Input, Output, PeerMessage, RemoteFate,
    Requester, Ticket, Waiter,
};
pub use fate::{Consistency, Doubt, Fate, ReadError, Refusal};
pub use state_machine::{
    Committed, Fatal, QueryError, Replies, SnapshotView, StateMachine,
};
pub use quorate_core as core;
