//! Streams that want a leader end without one: not at once, since elections are short. Must not know
//! what a stream is for.

use super::Service;
use crate::patience::until;
use std::future::pending;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Of one stream.
#[derive(Clone, Debug)]
pub(crate) struct LeaderNeed {
    /// How long it goes on without a leader; `None` if it needs none.
    patience: Option<Duration>,
    is_known: watch::Receiver<bool>,
    /// When the leader was missed first.
    missed_since: Option<Instant>,
}

impl Service {
    /// What a stream needs whose client said so, or did not.
    pub(crate) fn leader_need(&self, requires_leader: bool) -> LeaderNeed {
        let patience = requires_leader.then_some(self.options.leaderless_timeout);
        LeaderNeed::new(patience, self.leader_known.subscribe())
    }
}

impl LeaderNeed {
    pub(super) const fn new(patience: Option<Duration>, is_known: watch::Receiver<bool>) -> Self {
        Self { patience, is_known, missed_since: None }
    }

    /// Returns when there has been no leader for too long. Dropping the future loses nothing.
    pub(crate) async fn lost(&mut self) {
        loop {
            let end = self.ends_at(Instant::now());
            tokio::select! {
                () = until(end) => return,
                // The service itself is gone if this fails, and says so elsewhere.
                changed = self.is_known.changed() => if changed.is_err() { pending().await },
            }
        }
    }

    /// When the stream has to end, as it looks now.
    fn ends_at(&mut self, now: Instant) -> Option<Instant> {
        let patience = self.patience?;
        if *self.is_known.borrow_and_update() {
            self.missed_since = None;
            return None;
        }
        Some(*self.missed_since.get_or_insert(now) + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    #[test]
    fn the_time_without_a_leader_counts_from_when_it_was_missed_first_and_anew_after_it_was_there()
    {
        let (known, receiver) = watch::channel(true);
        let mut need = LeaderNeed::new(Some(PATIENCE), receiver);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(need.ends_at(at(0)), None);
        known.send_replace(false);
        assert_eq!(need.ends_at(at(1)), Some(at(4)));
        // Asking again does not begin anew.
        assert_eq!(need.ends_at(at(2)), Some(at(4)));
        known.send_replace(true);
        assert_eq!(need.ends_at(at(3)), None);
        known.send_replace(false);
        assert_eq!(need.ends_at(at(9)), Some(at(12)));
    }

    #[test]
    fn who_needs_none_goes_on_without() {
        let (_known, receiver) = watch::channel(false);
        let mut need = LeaderNeed::new(None, receiver);
        assert_eq!(need.ends_at(Instant::now()), None);
    }
}
