//! One direction between two nodes: its order, its capacity, its connection, and what it loses by
//! rule. Knows nothing of chance's intensities or of the other links.

use crate::rng::Rng;
use bytes::Bytes;
use quorate_core::Time;
use std::time::Duration;

/// A link in one direction.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The latest arrival, for links that keep their order.
    pub(super) latest: Time,
    /// Which connection it is; what is on its way on an earlier one never arrives.
    pub(super) connection: u64,
    /// No connection before this.
    pub(super) down_until: Time,
    /// What it loses.
    pub(super) omission: Option<Omission>,
    bytes_per_second: Option<u64>,
    /// When everything that was sent so far has left.
    busy_until: Time,
    sent_count: u64,
    /// What waits at a cut, in order.
    held: Vec<Bytes>,
}

/// A rule by which a link loses messages, unlike chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omission {
    /// One of so many.
    EveryNth(u64),
    /// Whatever is larger than so many bytes, as a path with too small a packet size does it.
    LargerThan(usize),
    /// Runs of about this many, with as long runs between them.
    Bursts(u64),
}

impl Link {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, ..Self::default() }
    }

    /// A new connection without the old one's burdens. What is under way on it still arrives.
    pub(super) fn renew(&mut self) {
        *self = Self { connection: self.connection, ..Self::default() };
    }

    /// Sends so many bytes, behind everything that was sent before; returns when the last of them
    /// has left, or `None` if more than `queue_bytes_max` would wait.
    pub(super) fn transmit(
        &mut self,
        now: Time,
        size: usize,
        queue_bytes_max: u64,
    ) -> Option<Time> {
        let Some(bytes_per_second) = self.bytes_per_second else { return Some(now) };
        let takes = |bytes: u64| {
            Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_second.max(1))
        };
        let start = self.busy_until.max(now);
        if start.since(now) > takes(queue_bytes_max) {
            return None;
        }
        self.busy_until = start.after(takes(u64::try_from(size).unwrap_or(u64::MAX)));
        Some(self.busy_until)
    }

    /// Whether the rule takes this message.
    pub(super) fn omits(&mut self, size: usize, rng: &mut Rng) -> bool {
        if self.omission.is_none() {
            return false;
        }
        self.sent_count += 1;
        match self.omission {
            None => false,
            Some(Omission::EveryNth(n)) => self.sent_count.is_multiple_of(n.max(1)),
            Some(Omission::LargerThan(limit)) => size > limit,
            Some(Omission::Bursts(length)) => {
                let is_bad = (self.sent_count / length.max(1)).is_multiple_of(2);
                is_bad && rng.below(10) > 0
            }
        }
    }

    /// The connection is gone; returns whether something was on its way.
    pub(super) fn break_off(&mut self, now: Time, until: Time) -> bool {
        let was_sending = self.latest > now || !self.held.is_empty();
        self.connection += 1;
        self.down_until = self.down_until.max(until);
        self.held.clear();
        (self.latest, self.busy_until) = (Time::ZERO, Time::ZERO);
        was_sending
    }

    pub(super) fn hold(&mut self, bytes: Bytes) {
        self.held.push(bytes);
    }

    pub(super) const fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn take_held(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.held)
    }
}
