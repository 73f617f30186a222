//! Whole clusters in one thread and virtual time: the shipped core, driver, log, snapshot files, wire
//! format and store run here unchanged; disk, network, clock, threads and schedule are simulated, and
//! one seed decides them all. Of the store everything runs but the engine under it: its rows are kept
//! in memory ([`kv`]), not in redb, whose file no world has.
//!
//! A state machine of your own: say by [`Subject`] how it is opened and what clients ask of it, and
//! let `main` call [`examine`], which makes that a program with every flag of `quorate sim`; in tests,
//! run a [`Case`] with [`Subjects`]. Volatile machines and those that keep files (in their [`Home`])
//! both go. `docs/simulation.md`, "Your own state machine", says what is simulated and what is not.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod application;
mod campaign;
mod case;
mod cluster;
pub mod command;
mod counts;
mod disk;
pub mod explore;
mod faults;
pub mod fuzz;
mod hash;
mod json;
pub mod judge;
mod kinds;
pub mod kv;
mod network;
mod ordinals;
mod pace;
mod progress;
mod progress_file;
mod pulse;
mod queue;
mod record;
mod report;
mod rng;
mod run;
mod sessions;
mod shrink;
mod subject;
mod timeline;
mod trace;
mod words;

pub use application::{Application, Complaint, Findings, Home, Machine, OpId, Outcome, Request};
pub use campaign::{Campaign, CampaignEnd, Standing, Watch};
pub use case::{Case, CaseError, Changes};
pub use cluster::{Cluster, ClusterOptions, ReadKinds, RpcCounts, member, seconds, voters};
pub use counts::{Counts, MessageCounts};
pub use disk::{CrashStyle, Damage, DamageKind, DiskFailures, DiskFaults, SimDisk, Task, Work};
pub use faults::{Clocks, Crashes, DiskPace, Faults, NetworkFaults, Rhythm, SessionFault};
pub use hash::{TraceHash, hash_of};
pub use json::{event_json, summary_json, violation_json};
pub use judge::Breach;
pub use kinds::{FAULT_KINDS, FaultKind, SABOTAGES, UnknownName};
pub use ordinals::{Ordinals, OrdinalsError};
pub use pace::Pace;
pub use progress::{FAILURES_KEPT_MAX, Failure, Identity, Progress, ProgressError, SeedSet};
pub use pulse::Pulse;
pub use record::{Detail, Event, NodeState, Record, Recording, Told};
pub use report::{
    campaign_json, campaign_markdown, campaign_text, progress_line, stuck_text, summary_text,
    violation_text,
};
pub use rng::{Chance, Rng};
pub use run::{Ended, Summary, Violation, World, Worlds, kv_world};
pub use sessions::SessionOptions;
pub use shrink::{ShrinkProgress, shrink};
pub use subject::{ClientOptions, Examined, Sequential, Subject, Subjects, examine, examine_from};
pub use timeline::{LEGEND, Look, timeline};
