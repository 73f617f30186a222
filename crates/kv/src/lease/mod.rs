//! Leases: keys that live only as long as somebody renews them. The replicated half of it: which
//! leases there are, how often each was renewed, which keys are attached. Must not know what time it
//! is: *that* a lease expires is a command of the log, *when* is for others to decide.
//!
//! [`LeaseFeed`] tells those others what to time. `docs/decisions/0015-leases.md` says how the two
//! halves fit together.

pub mod api;
mod apply;
mod bonds;
mod feed;
mod record;
mod table;

pub use feed::{LeaseFeed, LeaseNews, LeaseReport};
pub use table::{Lease, TTL_SECONDS_MAX};

pub(crate) use apply::{expire, grant, renew, revoke};
pub(crate) use bonds::{Bond, LeaseChanges, keys_of};
pub(crate) use record::{read_all, write_bond, write_record};
pub(crate) use table::Leases;
