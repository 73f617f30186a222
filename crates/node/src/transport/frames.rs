//! Reads a connection frame by frame. Knows nothing of what is in them.

use super::link::LinkError;
use super::stream::Reading;
use crate::metrics::PeerMetrics;
use crate::wire::{FrameBuffer, Taken};
use bytes::Bytes;
use std::sync::Arc;

/// Room for what a peer says in one go. Commands stay slices of this buffer for as long as the log
/// keeps them in memory, so a bigger one would only be held longer.
const BUFFER_BYTES: usize = 64 << 10;
/// Less room than this is not worth a system call.
const ROOM_BYTES_MIN: usize = 8 << 10;

/// The receiving half of a connection.
#[derive(Debug)]
pub(crate) struct FrameReader {
    read: Reading,
    buffer: FrameBuffer,
    turn_bytes_max: usize,
    /// Read without a pause for others.
    turn_bytes: usize,
    metrics: Option<Arc<PeerMetrics>>,
}

impl FrameReader {
    /// A reader for a stranger: frames larger than a handshake's are refused.
    pub(super) fn for_stranger(read: Reading, frame_bytes_max: usize) -> Self {
        let mut buffer = FrameBuffer::new(frame_bytes_max);
        buffer.received_mut().reserve(frame_bytes_max * 2);
        Self { read, buffer, turn_bytes_max: frame_bytes_max, turn_bytes: 0, metrics: None }
    }

    /// The other side is one of us.
    pub(super) fn admit(&mut self, options: &super::TransportOptions, metrics: Arc<PeerMetrics>) {
        self.buffer.set_frame_bytes_max(options.frame_bytes_max);
        self.turn_bytes_max = options.turn_bytes_max;
        self.metrics = Some(metrics);
    }

    /// The next frame's body.
    pub(super) async fn next(&mut self) -> Result<Bytes, LinkError> {
        loop {
            match self.buffer.take()? {
                Taken::Body(body) => return Ok(body),
                Taken::Need { total_bytes } => self.fill(total_bytes).await?,
            }
        }
    }

    async fn fill(&mut self, total_bytes: usize) -> Result<(), LinkError> {
        if self.turn_bytes >= self.turn_bytes_max {
            self.turn_bytes = 0;
            tokio::task::yield_now().await;
        }
        let received = self.buffer.received_mut();
        let missing_bytes = total_bytes.saturating_sub(received.len());
        let room_bytes = received.capacity() - received.len();
        if self.metrics.is_none() {
            received.reserve(missing_bytes);
        } else if room_bytes < missing_bytes.max(ROOM_BYTES_MIN) {
            received.reserve(missing_bytes.max(BUFFER_BYTES));
        }
        let count = self.read.read_into(received).await?;
        if count == 0 {
            return Err(LinkError::Closed);
        }
        self.turn_bytes += count;
        if let Some(metrics) = &self.metrics {
            metrics.received_bytes.add(count);
        }
        Ok(())
    }
}
