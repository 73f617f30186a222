//! Renewals of leases that wait for a place in the log: those that arrive while others are on their
//! way go together, as one command. Must not know what a lease is for.

use crate::errors::Rejection;
use quorate_kv::api::ResponseHeader;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How many renewals one command holds.
const BATCH_COUNT_MAX: usize = 1024;

/// How many may wait; the next one is refused.
const WAITING_COUNT_MAX: usize = 65_536;

/// A renewal as it is in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewed {
    pub(super) header: Option<ResponseHeader>,
    /// In seconds; 0 if there is no such lease.
    pub(super) ttl: i64,
}

/// Somebody who waits for a renewal.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: i64,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Renewed, Rejection>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    waiting: Mutex<VecDeque<Waiting>>,
    pub(super) arrived: Notify,
}

impl Renewals {
    /// Asks for a renewal before `deadline`.
    pub(super) fn ask(
        &self,
        id: i64,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Renewed, Rejection>>, Rejection> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_COUNT_MAX {
            return Err(Rejection::TooManyRequests);
        }
        waiting.push_back(Waiting { id, deadline, answer });
        drop(waiting);
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// Those who wait longest and are not too late, as many as fit into one command; `None` if
    /// there are none. Whoever is too late is told.
    pub(super) fn take(&self, now: Instant) -> Option<Vec<Waiting>> {
        let mut waiting = self.lock();
        let mut batch = Vec::new();
        while batch.len() < BATCH_COUNT_MAX
            && let Some(next) = waiting.pop_front()
        {
            if next.answer.is_closed() {
                continue;
            }
            if next.deadline <= now {
                // Whoever dropped the other end meanwhile need not know.
                let _ = next.answer.send(Err(Rejection::TimedOut));
            } else {
                batch.push(next);
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Lets these wait on: what they asked for did not happen, or may not have. Renewing twice
    /// does no harm.
    pub(super) fn put_back(&self, batch: Vec<Waiting>) {
        let mut waiting = self.lock();
        for one in batch.into_iter().rev() {
            waiting.push_front(one);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells all of these that what they asked for is refused, for good.
pub(super) fn refuse(batch: Vec<Waiting>, why: &Rejection) {
    for waiting in batch {
        let told = if let Rejection::Op(error) = why {
            Rejection::Op(*error)
        } else {
            Rejection::Internal
        };
        // Whoever left meanwhile need not know.
        let _ = waiting.answer.send(Err(told));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_kv::OpError;
    use std::time::Duration;

    fn ids(batch: Option<Vec<Waiting>>) -> Vec<i64> {
        batch.into_iter().flatten().map(|waiting| waiting.id).collect()
    }

    #[test]
    fn those_who_come_together_go_together_in_order_and_no_more_than_a_command_holds() {
        let renewals = Renewals::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let count = i64::try_from(BATCH_COUNT_MAX).unwrap();
        let receivers: Vec<_> = (0..=count).map(|id| renewals.ask(id, later).unwrap()).collect();
        assert_eq!(ids(renewals.take(now)), (0..count).collect::<Vec<_>>());
        assert_eq!(ids(renewals.take(now)), [count]);
        assert!(renewals.take(now).is_none());
        drop(receivers);
    }

    #[test]
    fn whoever_is_too_late_is_told_and_whoever_left_is_forgotten() {
        let renewals = Renewals::default();
        let now = Instant::now();
        let mut late = renewals.ask(1, now).unwrap();
        drop(renewals.ask(2, now + Duration::from_secs(1)).unwrap());
        assert!(renewals.take(now).is_none());
        assert!(matches!(late.try_recv(), Ok(Err(Rejection::TimedOut))));
    }

    #[test]
    fn what_is_put_back_goes_first() {
        let renewals = Renewals::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let first = renewals.ask(1, later).unwrap();
        let batch = renewals.take(now).unwrap();
        let second = renewals.ask(2, later).unwrap();
        renewals.put_back(batch);
        assert_eq!(ids(renewals.take(now)), [1, 2]);
        drop((first, second));
    }

    #[test]
    fn a_refusal_is_told_to_everybody_in_the_batch_and_none_waits_on() {
        let renewals = Renewals::default();
        let now = Instant::now();
        let ask = || renewals.ask(1, now + Duration::from_secs(1)).unwrap();
        let (mut first, mut second) = (ask(), ask());
        refuse(renewals.take(now).unwrap(), &Rejection::Op(OpError::Corrupt));
        for answer in [&mut first, &mut second] {
            let told = answer.try_recv();
            assert!(matches!(told, Ok(Err(Rejection::Op(OpError::Corrupt)))), "{told:?}");
        }
        assert!(renewals.take(now).is_none());
    }

    #[test]
    fn the_limit_of_those_who_wait_is_exact() {
        let renewals = Renewals::default();
        let later = Instant::now() + Duration::from_secs(1);
        let receivers: Vec<_> =
            (0..WAITING_COUNT_MAX).map(|_| renewals.ask(1, later).unwrap()).collect();
        assert!(matches!(renewals.ask(1, later), Err(Rejection::TooManyRequests)));
        drop(receivers);
    }
}
