//! The settings of a driver: every limit it has, by name.

use crate::SessionLimits;
use std::time::Duration;

/// Settings; [`DriverOptions::default`] suits a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverOptions {
    /// Bytes of proposals that wait for a leader to be known, or for its answer.
    pub outstanding_bytes_max: usize,
    /// Local reads that wait, for a proof of leadership or for the state machine.
    pub barriers_count_max: usize,
    /// How long a request waits for a leader to be known before it is refused; its own deadline
    /// may be sooner.
    pub leaderless_wait: Duration,
    /// How late a passed deadline may be noticed.
    pub sweep_interval: Duration,
    /// Release the log once the state machine covers this many entries of it...
    pub compact_log_count: u64,
    /// ...or this many bytes...
    pub compact_log_bytes: u64,
    /// ...but keep this many entries for followers that are a little behind.
    pub retain_log_count: u64,
    /// How many bytes a second of the sealed part of its log and of its snapshots the node reads
    /// again, over and over, to find damage before they are needed; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// The limits of sessions that are opened while this node leads.
    pub session_limits: SessionLimits,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            outstanding_bytes_max: 64 << 20,
            barriers_count_max: 65_536,
            leaderless_wait: Duration::from_secs(3),
            sweep_interval: Duration::from_millis(100),
            compact_log_count: 100_000,
            compact_log_bytes: 64 << 20,
            retain_log_count: 5_000,
            scrub_bytes_per_second: 0,
            session_limits: SessionLimits::default(),
        }
    }
}
