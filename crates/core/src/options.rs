//! The settings of one core. Every limit of the core is here, by name.

use std::time::Duration;

/// Settings; [`Options::default`] suits a local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a leader shows that it leads.
    pub heartbeat_interval: Duration,
    /// The least time without a leader after which a follower campaigns; the actual one is drawn
    /// between this and twice this (§3.4, §3.9).
    pub election_timeout: Duration,
    /// A leader whose disk has not finished a write for this long gives up its office.
    pub disk_stall_timeout: Duration,
    /// Entries of one `AppendEntries`, in bytes, unless a single entry is larger.
    pub append_bytes_max: usize,
    /// `AppendEntries` under way to one follower.
    pub in_flight_count_max: usize,
    /// Bytes of entries under way to one follower.
    pub in_flight_bytes_max: usize,
    /// Bytes of entries that are proposed and not committed; more proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// Bytes of the log that are kept in memory for followers, beside what is not yet applied.
    pub log_cache_bytes_max: usize,
    /// Bytes of entries handed to the state machine and not yet applied.
    pub applying_bytes_max: usize,
    /// Bytes of entries asked for by one `Load`.
    pub load_bytes_max: usize,
    /// Bytes of one piece of a snapshot.
    pub snapshot_chunk_bytes_max: usize,
    /// Reads that wait for a proof of leadership.
    pub waiting_reads_count_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            disk_stall_timeout: Duration::from_secs(3),
            append_bytes_max: 1 << 20,
            in_flight_count_max: 256,
            in_flight_bytes_max: 16 << 20,
            uncommitted_bytes_max: 64 << 20,
            log_cache_bytes_max: 32 << 20,
            applying_bytes_max: 16 << 20,
            load_bytes_max: 4 << 20,
            snapshot_chunk_bytes_max: 1 << 20,
            waiting_reads_count_max: 65_536,
        }
    }
}

/// Settings that cannot work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Followers would campaign between two heartbeats.
    #[error(
        "the election timeout ({election_timeout:?}) must be at least five times the heartbeat \
         interval ({heartbeat_interval:?})"
    )]
    ElectionTimeoutTooShort {
        /// The setting found.
        election_timeout: Duration,
        /// The other setting.
        heartbeat_interval: Duration,
    },
    /// A limit of zero would stop everything.
    #[error("the limit {name} is zero")]
    ZeroLimit {
        /// The setting's name.
        name: &'static str,
    },
}
