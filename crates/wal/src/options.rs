//! What the user of a log may set.
//! Must not know how the log is written.

use crate::segment::RECORDS_START;

/// Settings of the log. The defaults suit a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// The size at which the log goes on to the next file, in bytes. A single larger batch makes
    /// a larger file.
    pub segment_size_bytes: u64,
    /// The size of the first file. Each following one is four times as large, up to
    /// `segment_size_bytes`: creating a node must not cost a large write.
    pub first_segment_size_bytes: u64,
    /// How much of the log's end [`crate::Recovered::tail`] holds, in bytes as [`quorate_core::Entry::size_bytes`]
    /// counts them.
    pub tail_bytes_max: usize,
    /// So much of the disk is left free when the next file is filled ahead of time, in bytes.
    pub kept_free_bytes: u64,
    /// A log that has lost durable entries, and of which it is known how far they reached, is opened
    /// without them ([`crate::Recovered::lost`]). Otherwise it is refused, and nothing is changed.
    pub mends: bool,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_size_bytes: 64 << 20,
            first_segment_size_bytes: 1 << 20,
            tail_bytes_max: 32 << 20,
            kept_free_bytes: 0,
            mends: false,
        }
    }
}

impl WalOptions {
    /// The size of the segment after one of `capacity_bytes`.
    pub(crate) fn next_capacity(&self, capacity_bytes: u64) -> u64 {
        capacity_bytes.saturating_mul(4).min(self.segment_size_bytes).max(RECORDS_START)
    }
}
