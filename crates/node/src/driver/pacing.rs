//! When the next piece of a snapshot is read for a follower: so many bytes a second on average, to all
//! of them together. Decides; must not know what a piece is, nor whether anybody still wants it.

use crate::Output;
use quorate_core::{NodeId, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// However low the rate is, the next piece is not further away.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Pacing {
    bytes_per_second: u64,
    /// What has been read is paid for then.
    free_at: Time,
    /// At most one for each peer, in the order in which they came.
    waiting: VecDeque<(NodeId, usize, Output)>,
}

impl Pacing {
    /// With a rate of 0 nothing ever waits.
    pub(super) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free_at: Time::ZERO, waiting: VecDeque::new() }
    }

    /// Another rate, from the next piece on. With none, what waits may be read at once.
    pub(super) const fn set_rate(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
        if bytes_per_second == 0 {
            self.free_at = Time::ZERO;
        }
    }

    /// A piece of this size is to be read for a peer, in place of what it waits for: given back if
    /// that may happen now.
    pub(super) fn want(
        &mut self,
        now: Time,
        peer: NodeId,
        size_bytes: usize,
        read: Output,
    ) -> Option<Output> {
        if self.bytes_per_second == 0 {
            return Some(read);
        }
        match self.waiting.iter_mut().find(|(waiting, ..)| *waiting == peer) {
            Some(place) => *place = (peer, size_bytes, read),
            None => self.waiting.push_back((peer, size_bytes, read)),
        }
        self.due(now)
    }

    /// When something that waits may be read.
    pub(super) fn next_at(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then_some(self.free_at)
    }

    /// What may be read now.
    pub(super) fn due(&mut self, now: Time) -> Option<Output> {
        if self.free_at > now {
            return None;
        }
        let (_, size_bytes, read) = self.waiting.pop_front()?;
        let size_bytes = u128::try_from(size_bytes).unwrap_or(u128::MAX);
        let micros =
            size_bytes.saturating_mul(1_000_000) / u128::from(self.bytes_per_second.max(1));
        let pause = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.free_at = now.after(pause.min(PAUSE_MAX));
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{LogId, LogIndex, Term};

    const MIB: usize = 1 << 20;
    const RATE: u64 = 1 << 18;

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    fn read(peer: u64, offset: u64) -> Output {
        let last_included = LogId::new(Term::new(1), LogIndex::new(1));
        Output::ReadSnapshotChunk { peer: NodeId::new(peer), last_included, offset, max_bytes: MIB }
    }

    fn want(pacing: &mut Pacing, now: Time, peer: u64, offset: u64) -> Option<(u64, u64)> {
        found(pacing.want(now, NodeId::new(peer), MIB, read(peer, offset)))
    }

    fn found(output: Option<Output>) -> Option<(u64, u64)> {
        let Output::ReadSnapshotChunk { peer, offset, .. } = output? else { panic!("a read") };
        Some((peer.get(), offset))
    }

    #[test]
    fn pieces_for_all_followers_together_are_never_faster_than_the_rate() {
        let mut pacing = Pacing::new(RATE);
        assert_eq!(want(&mut pacing, at(0), 2, 0), Some((2, 0)));
        assert_eq!(want(&mut pacing, at(1), 3, 0), None);
        assert_eq!(want(&mut pacing, at(1), 2, 5), None);
        assert_eq!((pacing.next_at(), found(pacing.due(at(3)))), (Some(at(4)), None));
        assert_eq!(found(pacing.due(at(4))), Some((3, 0)), "in turn");
        assert_eq!(want(&mut pacing, at(5), 2, 7), None);
        assert_eq!((pacing.next_at(), found(pacing.due(at(9)))), (Some(at(8)), Some((2, 7))));
        assert_eq!(pacing.next_at(), None, "what it waited for was replaced");
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pacing = Pacing::new(0);
        for offset in 0..3 {
            assert_eq!(want(&mut pacing, at(0), 2, offset), Some((2, offset)));
        }
        assert_eq!(pacing.next_at(), None);
    }
}
