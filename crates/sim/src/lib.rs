//! Whole clusters in one thread and virtual time: the shipped core, driver, log and store run here
//! unchanged; only disk, network, clock and schedule are simulated, and one seed decides them all.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod application;
mod campaign;
mod cluster;
mod counts;
mod disk;
mod faults;
mod hash;
pub mod judge;
mod kinds;
pub mod kv;
mod network;
mod ordinals;
mod pace;
mod queue;
mod rng;
mod run;
mod trace;

pub use application::{Application, Complaint, Findings, Machine, OpId, Outcome, Request};
pub use campaign::{SimError, SimOptions, run};
pub use cluster::{Cluster, ClusterOptions, RpcCounts, seconds};
pub use counts::{Counts, MessageCounts};
pub use disk::{CrashStyle, Damage, DamageKind, DiskFailures, DiskFaults, SimDisk, Task, Work};
pub use faults::{Clocks, Crashes, DiskPace, Faults, NetworkFaults, Rhythm};
pub use hash::{TraceHash, hash_of};
pub use judge::Breach;
pub use kinds::{FAULT_KINDS, FaultKind};
pub use ordinals::{Ordinals, OrdinalsError};
pub use pace::Pace;
pub use rng::{Chance, Rng};
pub use run::{Summary, Violation, World};
