//! One number for what a node may hold in memory, and the limits that follow from it. Knows what
//! holds bytes, and not why.

use super::NodeOptions;
use super::builder::FRAME_OVERHEAD_BYTES;
use super::settings::SettingsError;
use crate::{DriverOptions, TransportOptions};
use quorate_core::Options;

/// For so many other members there is room: a cluster of seven.
const PEERS_COUNT: usize = 6;
/// What is not set aside for frames is given out in so many parts.
const PARTS_COUNT: usize = 32;
/// What is kept with a command.
const COMMAND_OVERHEAD_BYTES: usize = 1 << 10;
/// What is kept of a caller who waits.
const CALLER_BYTES: usize = 512;

/// Bytes that a node may hold, see [`NodeBuilder::memory_bytes_max`](crate::NodeBuilder::memory_bytes_max).
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    bytes: usize,
}

/// All settings that limit bytes in memory.
pub(super) struct Limits<'a> {
    pub(super) core: &'a mut Options,
    pub(super) driver: &'a mut DriverOptions,
    pub(super) transport: &'a mut TransportOptions,
    pub(super) node: &'a mut NodeOptions,
}

impl Budget {
    pub(super) const fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    /// Lowers every limit to its share; one that is lower already stays.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Budget`] if the largest command would not fit into a share.
    pub(super) fn lower(self, limits: &mut Limits<'_>) -> Result<(), SettingsError> {
        let Limits { core, driver, transport, node } = limits;
        let command_bytes = node.command_bytes_max.saturating_add(COMMAND_OVERHEAD_BYTES);
        let chunk_bytes = core.snapshot_chunk_bytes_max;
        let content_bytes = node.command_bytes_max.max(core.append_bytes_max).max(chunk_bytes);
        let frame_bytes = content_bytes.saturating_mul(2).saturating_add(FRAME_OVERHEAD_BYTES);
        // To each peer there are two connections and from it two, and each holds a frame.
        let connections_bytes = frame_bytes.saturating_mul(4 * PEERS_COUNT);
        // Whatever is limited takes one command at least: so does what is read for each peer.
        let for_commands = command_bytes.saturating_mul(PEERS_COUNT).div_ceil(2);
        let least = for_commands.max(chunk_bytes.saturating_mul(PEERS_COUNT));
        let needed_bytes = least.saturating_mul(PARTS_COUNT).saturating_add(connections_bytes);
        if self.bytes < needed_bytes {
            return Err(SettingsError::Budget {
                bytes: self.bytes,
                command_bytes: node.command_bytes_max,
                chunk_bytes,
                needed_bytes,
            });
        }
        let part = (self.bytes - connections_bytes) / PARTS_COUNT;
        let lower = |limit: &mut usize, bytes: usize| *limit = bytes.min(*limit);
        lower(&mut transport.frame_bytes_max, frame_bytes);
        lower(&mut node.queued_requests_bytes_max, 2 * part);
        lower(&mut driver.outstanding_bytes_max, 3 * part);
        lower(&mut core.uncommitted_bytes_max, 3 * part);
        lower(&mut core.log_cache_bytes_max, 4 * part);
        lower(&mut transport.intake_bytes_max, 3 * part);
        // Six parts: what is being written is encoded once more, whoever it comes from.
        lower(&mut core.applying_bytes_max, 2 * part);
        lower(&mut core.load_bytes_max, 2 * part / PEERS_COUNT);
        lower(&mut transport.queue_bytes_max, 4 * part / (2 * PEERS_COUNT));
        // What is in flight and not yet sent stands in the queue.
        lower(&mut core.in_flight_bytes_max, transport.queue_bytes_max);
        // One part: a piece of a snapshot for each peer.
        lower(&mut driver.flight_recorder_bytes, part);
        lower(&mut node.waiting_requests_count_max, part / CALLER_BYTES);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Settings {
        core: Options,
        driver: DriverOptions,
        transport: TransportOptions,
        node: NodeOptions,
    }

    impl Settings {
        fn new(content_bytes: usize) -> Self {
            Self {
                core: Options {
                    append_bytes_max: content_bytes,
                    snapshot_chunk_bytes_max: content_bytes,
                    ..Options::default()
                },
                driver: DriverOptions::default(),
                transport: TransportOptions::default(),
                node: NodeOptions { command_bytes_max: content_bytes, ..NodeOptions::default() },
            }
        }

        fn lower(&mut self, bytes: usize) -> Result<(), SettingsError> {
            let Self { core, driver, transport, node } = self;
            Budget::new(bytes).lower(&mut Limits { core, driver, transport, node })
        }

        /// What the node holds if everything is full.
        fn most_bytes(&self, peers_count: usize) -> usize {
            let Self { core, driver, transport, node } = self;
            let connection = transport.frame_bytes_max;
            let incoming = 2 * peers_count * connection;
            let outgoing = 2 * peers_count * (connection + transport.queue_bytes_max);
            let being_written = core.uncommitted_bytes_max + transport.intake_bytes_max;
            let to_peers = peers_count * (core.load_bytes_max + core.snapshot_chunk_bytes_max);
            incoming
                + outgoing
                + to_peers
                + 2 * being_written
                + node.queued_requests_bytes_max
                + driver.outstanding_bytes_max
                + core.log_cache_bytes_max
                + core.applying_bytes_max
                + driver.flight_recorder_bytes
                + CALLER_BYTES * node.waiting_requests_count_max
        }
    }

    #[test]
    fn all_that_may_be_held_at_once_is_within_the_budget_and_uses_most_of_it() {
        for content_bytes in [64 << 10, 1 << 20] {
            let mut settings = Settings::new(content_bytes);
            let Err(SettingsError::Budget { needed_bytes, .. }) = settings.lower(1) else {
                panic!("a byte is enough for nobody");
            };
            for bytes in [needed_bytes, needed_bytes + 1, needed_bytes * 3 / 2] {
                let mut settings = Settings::new(content_bytes);
                assert_eq!(settings.lower(bytes), Ok(()), "{bytes}");
                let most_bytes = settings.most_bytes(PEERS_COUNT);
                assert!(most_bytes <= bytes, "{most_bytes} of {bytes}");
                assert!(most_bytes > bytes / 4 * 3, "{most_bytes} of {bytes}");
                let command = content_bytes + COMMAND_OVERHEAD_BYTES;
                assert!(settings.node.queued_requests_bytes_max >= command);
                assert!(settings.driver.outstanding_bytes_max >= command);
                assert!(settings.core.uncommitted_bytes_max >= command);
            }
        }
    }

    #[test]
    fn less_than_is_needed_is_refused_to_the_byte_and_changes_nothing() {
        let mut settings = Settings::new(1 << 20);
        let Err(SettingsError::Budget { needed_bytes, .. }) = settings.lower(0) else {
            panic!("nothing is enough for nobody");
        };
        let refused = settings.lower(needed_bytes - 1);
        assert!(matches!(refused, Err(SettingsError::Budget { .. })), "{refused:?}");
        assert_eq!(settings.transport, TransportOptions::default());
        assert_eq!(settings.driver, DriverOptions::default());
    }

    #[test]
    fn a_limit_that_is_lower_already_stays() {
        let mut settings = Settings::new(64 << 10);
        settings.driver.outstanding_bytes_max = 1 << 10;
        assert_eq!(settings.lower(1 << 30), Ok(()));
        assert_eq!(settings.driver.outstanding_bytes_max, 1 << 10);
        // What is plenty lowers nothing but what a frame may hold.
        assert_eq!(settings.core.log_cache_bytes_max, Options::default().log_cache_bytes_max);
    }
}
