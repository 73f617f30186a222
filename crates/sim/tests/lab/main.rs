//! Every test of the Raft lab of MIT 6.5840 (6.824), A to D, and of the key-value lab on top of
//! it, by its name and with its thresholds, in virtual time on the shipped core, driver, log and
//! store. Each ends with all judges of the simulator: what they find is no test's own business.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod clerk;
mod compaction;
mod election;
mod forwarding;
mod journal;
mod kv;
mod kv_snapshots;
mod log;
mod persistence;
mod raft;
mod stage;
