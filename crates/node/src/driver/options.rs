//! The settings of a driver: every limit it has, by name.

use crate::SessionLimits;
use quorate_core::ProtocolVersion;
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
    /// Have the state made durable, and release the log, once there are this many bytes of it that
    /// a restart would apply again. Where that writes the whole state, the log may grow as large as
    /// the state was the last time.
    pub compact_log_bytes: u64,
    /// The same, once a restart would take this long to apply it again, by how long it took...
    pub replay_time_max: Duration,
    /// ...or once it has this many entries.
    pub compact_log_count: u64,
    /// Keep this many entries for followers that are a little behind...
    pub retain_log_count: u64,
    /// ...but not more bytes of them than this.
    pub retain_log_bytes: u64,
    /// For a follower that is sent a snapshot, and until it has caught up, keep what it will need,
    /// unless the log has grown to this many bytes.
    pub catch_up_log_bytes_max: u64,
    /// How many bytes a second of snapshots the node sends, to all followers together; 0 for as many
    /// as they take.
    pub snapshot_bytes_per_second: u64,
    /// How many bytes a second of the sealed part of its log and of its snapshots the node reads
    /// again, over and over, to find damage before they are needed; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// How many bytes of what the core was given lately are kept, so that it can be played again; 0
    /// for none.
    pub flight_recorder_bytes: usize,
    /// The replies of so many entries at a time are hashed and compared with the other nodes'; 0 for no
    /// comparison, and [`crate::DIGEST_WINDOW_COUNT_MAX`] at most. Only nodes that have the same
    /// number here compare.
    pub digest_window_count: u32,
    /// The newest protocol that this node speaks, as if its program were no newer: for upgrades that are
    /// rehearsed. It stays what it was at the start.
    pub protocol_version: ProtocolVersion,
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
            compact_log_bytes: 64 << 20,
            replay_time_max: Duration::from_secs(10),
            compact_log_count: u64::MAX,
            retain_log_count: 5_000,
            retain_log_bytes: 64 << 20,
            catch_up_log_bytes_max: 1 << 30,
            snapshot_bytes_per_second: 0,
            scrub_bytes_per_second: 0,
            flight_recorder_bytes: 8 << 20,
            digest_window_count: 1024,
            protocol_version: ProtocolVersion::NEWEST,
            session_limits: SessionLimits::default(),
        }
    }
}
