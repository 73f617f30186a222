//! The threads of a node and what they share.
//!
//! ```text
//!            callers                       peers
//!               |                            |
//!            mailbox <--------------------- raft thread: event loop, sockets
//!               ^                            |  |  |
//!               |   Persisted, Loaded        |  |  |
//!               +---- wal thread <-----------+  |  |
//!               |   Applied                     |  |
//!               +---- apply thread <------------+  |   (answers callers by itself)
//!               |   SnapshotChunk, ...             |
//!               +---- files thread <---------------+
//! ```
//!
//! Architecture invariant: the raft thread never waits for a disk or for the state machine, and
//! nobody else touches the driver.

mod apply_thread;
mod black_box;
mod clock;
mod disk_watch;
mod event_loop;
mod files_thread;
mod found;
mod launch;
mod log_place;
mod mailbox;
mod open;
mod passage;
mod promises;
mod queue;
mod rebuilding;
mod shared;
mod waiters;
mod wal_thread;

pub(crate) use apply_thread::ApplyJob;
pub use disk_watch::DiskWatch;
pub(crate) use found::{FoundRequest, found};
pub(crate) use launch::{Launch, Launched, Opening, launch};
pub use log_place::{LogNote, LogPlace, LogPlaceError, find as find_log};
pub(crate) use mailbox::{CallerLimit, Mailbox, Question};
pub use open::{EmptyMachine, OpenMachine, OpenRequest, Opened, open};
pub(crate) use passage::Passage;
pub(crate) use queue::lock;
pub(crate) use shared::Shared;
pub(crate) use waiters::Waiting;
