//! The settings of one core. Every limit of the core is here, by name.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings; [`Options::default`] suits a local network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether this server promises leaders not to vote against them for an election timeout after
    /// each heartbeat, and believes such promises: reads by lease (§6.4.1) need a majority that does.
    /// A leader whose process has ended is then replaced no sooner than such a promise ends.
    pub lease_reads: bool,
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
            lease_reads: false,
        }
    }
}

impl Options {
    /// Checks that the settings can work together.
    ///
    /// # Errors
    ///
    /// [`OptionsError::ElectionTimeoutTooShort`] if followers would campaign between heartbeats;
    /// [`OptionsError::ZeroLimit`] if a limit or an interval is zero.
    pub fn validate(&self) -> Result<(), OptionsError> {
        // §3.9: the time to broadcast must be well below the election timeout.
        if self.election_timeout < self.heartbeat_interval.saturating_mul(5) {
            return Err(OptionsError::ElectionTimeoutTooShort {
                election_timeout: self.election_timeout,
                heartbeat_interval: self.heartbeat_interval,
            });
        }
        match self.limits().into_iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(OptionsError::ZeroLimit { name }),
            None => Ok(()),
        }
    }

    fn limits(&self) -> [(&'static str, usize); 11] {
        let micros = |time: Duration| usize::try_from(time.as_micros()).unwrap_or(usize::MAX);
        [
            ("heartbeat_interval", micros(self.heartbeat_interval)),
            ("disk_stall_timeout", micros(self.disk_stall_timeout)),
            ("append_bytes_max", self.append_bytes_max),
            ("in_flight_count_max", self.in_flight_count_max),
            ("in_flight_bytes_max", self.in_flight_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("log_cache_bytes_max", self.log_cache_bytes_max),
            ("applying_bytes_max", self.applying_bytes_max),
            ("load_bytes_max", self.load_bytes_max),
            ("snapshot_chunk_bytes_max", self.snapshot_chunk_bytes_max),
            ("waiting_reads_count_max", self.waiting_reads_count_max),
        ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Options::default().validate(), Ok(()));
    }

    #[test]
    fn an_election_timeout_below_five_heartbeats_is_refused() {
        let heartbeat_interval = Duration::from_millis(201);
        let options = Options { heartbeat_interval, ..Options::default() };
        assert!(matches!(
            options.validate(),
            Err(OptionsError::ElectionTimeoutTooShort { heartbeat_interval: found, .. })
                if found == heartbeat_interval
        ));
        let heartbeat_interval = options.election_timeout / 5;
        assert_eq!(Options { heartbeat_interval, ..options }.validate(), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_name() {
        let options = Options { load_bytes_max: 0, ..Options::default() };
        assert_eq!(options.validate(), Err(OptionsError::ZeroLimit { name: "load_bytes_max" }));
    }
}
