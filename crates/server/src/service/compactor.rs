//! Automatic compaction, in etcd's two modes: which revision is compacted when. The rules are pure and
//! know time only as it is told; the task below them lets the leader carry them out through the log.

use super::Service;
use crate::errors::Rejection;
use crate::options::AutoCompaction;
use prost::Message;
use quorate_kv::api::CompactionRequest;
use quorate_kv::{CallerMessage, Command, CommandTag, OpError};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How often etcd looks in revision mode.
const REVISION_PAUSE: Duration = Duration::from_mins(5);
/// In periodic mode etcd compacts at least so often, however long the period.
const PERIODIC_INTERVAL_MAX: Duration = Duration::from_hours(1);
/// How many looks it takes in that time.
const LOOKS_PER_INTERVAL: u32 = 10;

/// Which revision to compact, look by look.
#[derive(Debug)]
pub(super) struct Compactor {
    mode: AutoCompaction,
    /// In periodic mode: the revisions at the last looks; the first is a period old once it is full.
    seen: VecDeque<u64>,
    /// The last compaction that was done, and when.
    last: u64,
    last_at: Duration,
    /// Whether there was one.
    has_compacted: bool,
}

impl Compactor {
    pub(super) const fn new(mode: AutoCompaction) -> Self {
        let seen = VecDeque::new();
        Self { mode, seen, last: 0, last_at: Duration::ZERO, has_compacted: false }
    }

    /// How long to wait before each look; `None` if there is nothing to look for.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revision { .. } => Some(REVISION_PAUSE),
            AutoCompaction::Periodic { period } => {
                let pause = period.min(PERIODIC_INTERVAL_MAX) / LOOKS_PER_INTERVAL;
                Some(pause.max(Duration::from_millis(1)))
            }
        }
    }

    /// What the revision is before a pause begins.
    pub(super) fn note(&mut self, revision: u64) {
        let AutoCompaction::Periodic { period } = self.mode else { return };
        let pause = self.pause().unwrap_or(period).max(Duration::from_millis(1));
        let looks = usize::try_from(period.as_millis() / pause.as_millis().max(1));
        self.seen.push_back(revision);
        while self.seen.len() > looks.unwrap_or(usize::MAX).saturating_add(1) {
            self.seen.pop_front();
        }
    }

    /// A pause has ended: what to compact now, if this member leads.
    pub(super) fn look(&self, now: Duration, revision: u64) -> Option<u64> {
        let target = match self.mode {
            AutoCompaction::Off => return None,
            AutoCompaction::Revision { kept_count } => revision.saturating_sub(kept_count),
            AutoCompaction::Periodic { period } => {
                // The first waits for a whole period, later ones for an hour at most.
                let interval =
                    if self.has_compacted { period.min(PERIODIC_INTERVAL_MAX) } else { period };
                if now.saturating_sub(self.last_at) < interval {
                    return None;
                }
                self.seen.front().copied().unwrap_or(0)
            }
        };
        (target > 0 && target != self.last).then_some(target)
    }

    /// The compaction was done, by us or by somebody else.
    pub(super) const fn done(&mut self, target: u64, now: Duration) {
        self.last = target;
        self.last_at = now;
        self.has_compacted = true;
    }
}

impl Service {
    /// Compacts from time to time for as long as it is polled and this member leads. Every member
    /// keeps the account, so that a new leader goes on.
    pub(crate) async fn compact_by_itself(&self) {
        let mut compactor = Compactor::new(self.options.auto_compaction);
        let Some(pause) = compactor.pause() else { return };
        let start = Instant::now();
        loop {
            compactor.note(self.reader.revision().get());
            tokio::time::sleep(pause).await;
            if !self.node.status().is_leader() {
                continue;
            }
            let now = start.elapsed();
            let Some(target) = compactor.look(now, self.reader.revision().get()) else { continue };
            match self.compact_to(target).await {
                Ok(()) => {
                    tracing::info!(revision = target, "compacted automatically");
                    compactor.done(target, now);
                }
                Err(Rejection::Op(OpError::Compacted)) => compactor.done(target, now),
                Err(rejection) => {
                    let (_, error) = rejection.status();
                    tracing::warn!(revision = target, %error, "automatic compaction failed");
                }
            }
        }
    }

    async fn compact_to(&self, target: u64) -> Result<(), Rejection> {
        let revision = i64::try_from(target).unwrap_or(i64::MAX);
        let request = CompactionRequest { revision, physical: false }.encode_to_vec();
        let deadline = Instant::now() + self.options.request_timeout;
        let own_account = CallerMessage::system();
        let command = Command::wrap_for(CommandTag::Compact, &request, Some(&own_account));
        self.outcome_of(command, deadline).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks after each pause for as long as `time`, with one revision more at each; returns when
    /// what was compacted, in pauses.
    fn compactions(mode: AutoCompaction, time: Duration) -> Vec<(u32, u64)> {
        let mut compactor = Compactor::new(mode);
        let pause = compactor.pause().unwrap();
        let mut found = Vec::new();
        for look in 1.. {
            let now = pause * look;
            if now > time {
                break;
            }
            compactor.note(u64::from(look) - 1);
            if let Some(target) = compactor.look(now, u64::from(look)) {
                compactor.done(target, now);
                found.push((look, target));
            }
        }
        found
    }

    #[test]
    fn off_is_off() {
        assert_eq!(Compactor::new(AutoCompaction::Off).pause(), None);
    }

    #[test]
    fn the_latest_revisions_are_kept_in_revision_mode() {
        let mode = AutoCompaction::Revision { kept_count: 3 };
        let found = compactions(mode, REVISION_PAUSE * 6);
        assert_eq!(found, [(4, 1), (5, 2), (6, 3)]);
    }

    #[test]
    fn a_short_period_is_compacted_once_a_period_to_where_it_began() {
        let mode = AutoCompaction::Periodic { period: Duration::from_mins(10) };
        assert_eq!(Compactor::new(mode).pause(), Some(Duration::from_mins(1)));
        // Eleven looks are remembered, so that the first of them is up to eleven minutes old, as in
        // etcd; the first compaction waits until that is not revision 0.
        let found = compactions(mode, Duration::from_mins(30));
        assert_eq!(found, [(12, 1), (22, 11)]);
    }

    #[test]
    fn a_long_period_is_compacted_every_hour_after_the_first() {
        let mode = AutoCompaction::Periodic { period: Duration::from_hours(5) };
        assert_eq!(Compactor::new(mode).pause(), Some(Duration::from_mins(6)));
        let found = compactions(mode, Duration::from_hours(7));
        let looks: Vec<u32> = found.iter().map(|(look, _)| *look).collect();
        // Within the first period nothing is old enough but revision 0, which there is not.
        assert_eq!(looks, [52, 62]);
        assert!(found.iter().all(|(look, target)| u64::from(*look) - target == 51), "{found:?}");
    }

    #[test]
    fn a_store_that_nobody_writes_to_is_compacted_once() {
        let mode = AutoCompaction::Revision { kept_count: 3 };
        let mut compactor = Compactor::new(mode);
        assert_eq!(compactor.look(REVISION_PAUSE, 10), Some(7));
        compactor.done(7, REVISION_PAUSE);
        assert_eq!(compactor.look(REVISION_PAUSE * 2, 10), None);
    }
}
