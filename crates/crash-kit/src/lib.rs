//! For whoever implements [`Disk`](quorate_wal::Disk), or a log of their own for `quorate-core`: does it
//! keep its word when the power fails?
//!
//! [`check_disk`] and [`check_log`] run it through crashes at every operation, torn writes, lost pages,
//! names that were not synced, errors and short reads, on a [`CrashDisk`], and return the first promise
//! that is broken, with what led there. Everything is decided by fixed numbers: the same code finds the
//! same again. What is promised is in [`Promise`]; `docs/crash-kit.md` tells the whole story.
//!
//! ```
//! use quorate_crash_kit::{Layered, QuorateWal, check_disk, check_log, crash_machine};
//!
//! // A disk of yours is a layer above another one: put it together here, as a process would. This
//! // one adds nothing.
//! let machine = || Layered::new(|beneath| beneath);
//! println!("{}", check_disk(machine)?);
//! // The log that will run on it.
//! println!("{}", check_log(machine, &QuorateWal)?);
//!
//! // A log of yours, on a disk that does everything that a disk may do.
//! println!("{}", check_log(crash_machine, &QuorateWal)?);
//! # Ok::<(), quorate_crash_kit::Finding>(())
//! ```
//!
//! It must not know sockets, threads, clocks, or any real disk.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod crash_disk;
mod disk_check;
mod finding;
mod log_check;
mod machine;
mod own_log;
mod rng;

pub use crash_disk::{CrashDisk, Survives};
pub use disk_check::check_disk;
pub use finding::{Finding, Promise, Report};
pub use log_check::{Contents, LogError, LogStore, OpenLog, check_log};
pub use machine::{Crash, InPlace, Layered, Machine, NoLayer, crash_machine};
pub use own_log::QuorateWal;
