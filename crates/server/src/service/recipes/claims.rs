//! The keys that stand in a line for calls of this member which wait for their turn. A call that ends
//! without having won takes its key out of the line, however it ends: that is an errand for a task of
//! its own, because the call itself may be gone. So is entering the line: else nobody would know of a
//! key whose caller left meanwhile. Must not know how an errand is run.

use super::requests::Entry;
use crate::errors::Rejection;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// What a call that waits counts for beside its key: its watches, and what it is itself.
const CALL_BYTES: usize = 4 << 10;

/// How often its key is kept: by the call, by its watches, by an errand.
const KEY_COPIES_COUNT: usize = 4;

/// See the module. Clones are the same.
#[derive(Clone)]
pub(crate) struct Claims {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Bytes that those who wait may take up.
    room: Arc<Semaphore>,
    room_bytes: usize,
    /// Signalled when there is an errand.
    arrived: Notify,
    /// Signalled when a key was taken out of its line.
    left: Notify,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Bytes, Standing>,
    errands: VecDeque<Errand>,
}

/// What is known of a key. More than one call may wait with it: those that name one lease.
#[derive(Default)]
struct Standing {
    calls_count: usize,
    /// The creation of the newest one; none if no call is known to have a key.
    revision: Option<i64>,
    /// Whether a call has won with that one: it is the client's from then on.
    is_won: bool,
    /// Whether it is being taken out of the line.
    is_leaving: bool,
}

/// Something that the task does.
pub(super) enum Errand {
    Enter(Enter),
    Leave(Leave),
}

/// Puts a key into the line.
pub(super) struct Enter {
    pub(super) claim: Claim,
    pub(super) command: Bytes,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<(Claim, Entry), Rejection>>,
}

/// Takes a key out of the line. Dropping it says that it was done.
pub(super) struct Leave {
    pub(super) key: Bytes,
    pub(super) revision: i64,
    inner: Arc<Inner>,
    _room: OwnedSemaphorePermit,
}

/// The part of a key that one call has; see the module.
pub(super) struct Claim {
    inner: Arc<Inner>,
    key: Bytes,
    revision: Option<i64>,
    room: Option<OwnedSemaphorePermit>,
}

impl Claims {
    pub(crate) fn new(room_bytes: usize) -> Self {
        // No more than can be waited for at once when the server stops.
        let room_bytes = room_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let inner = Inner {
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
            arrived: Notify::new(),
            left: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A claim to `key`, which is not in the line yet as far as is known here. While a key is taken
    /// out of the line, nobody may believe that it is there: they wait.
    pub(super) async fn begin(&self, key: Bytes) -> Result<Claim, Rejection> {
        let cost = CALL_BYTES.saturating_add(key.len().saturating_mul(KEY_COPIES_COUNT));
        let cost = u32::try_from(cost).map_err(|_| Rejection::TooManyRequests)?;
        let room = Arc::clone(&self.inner.room).try_acquire_many_owned(cost);
        let room = room.map_err(|_| Rejection::TooManyRequests)?;
        loop {
            let mut left = pin!(self.inner.left.notified());
            left.as_mut().enable();
            if self.inner.lock().join(&key) {
                let inner = Arc::clone(&self.inner);
                return Ok(Claim { inner, key, revision: None, room: Some(room) });
            }
            left.await;
        }
    }

    pub(super) fn send(&self, errand: Errand) {
        self.inner.send(errand);
    }

    /// Returns when there may be an errand.
    pub(super) async fn arrived(&self) {
        self.inner.arrived.notified().await;
    }

    pub(super) fn take(&self) -> Option<Errand> {
        self.inner.lock().errands.pop_front()
    }

    /// Returns when no call waits, and every errand is run.
    pub(super) async fn settled(&self) {
        let all = u32::try_from(self.inner.room_bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.inner.room.acquire_many(all).await;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, errand: Errand) {
        self.lock().errands.push_back(errand);
        self.arrived.notify_one();
    }
}

impl State {
    /// One more call with a key; false if it is being taken out of the line.
    fn join(&mut self, key: &Bytes) -> bool {
        let standing = self.keys.entry(key.clone()).or_default();
        standing.calls_count += usize::from(!standing.is_leaving);
        !standing.is_leaving
    }

    /// One call less. The revision of the key, if it is to be taken out of the line.
    fn part(&mut self, key: &Bytes) -> Option<i64> {
        let standing = self.keys.get_mut(key)?;
        standing.calls_count = standing.calls_count.saturating_sub(1);
        if standing.calls_count > 0 {
            return None;
        }
        let revision = standing.revision.filter(|_| !standing.is_won);
        standing.is_leaving = revision.is_some();
        if !standing.is_leaving {
            self.keys.remove(key);
        }
        revision
    }
}

impl Claim {
    pub(super) const fn key(&self) -> &Bytes {
        &self.key
    }

    /// The key is in the line since that revision.
    pub(super) fn entered(&mut self, revision: i64) {
        self.revision = Some(revision);
        self.with_standing(|standing| {
            if standing.revision.is_none_or(|known| known < revision) {
                (standing.revision, standing.is_won) = (Some(revision), false);
            }
        });
    }

    /// The key is the client's from now on, until they give it back.
    pub(super) fn won(&self) {
        self.with_standing(|standing| standing.is_won |= standing.revision == self.revision);
    }

    /// The key is gone already.
    pub(super) fn lost(&self) {
        self.with_standing(|standing| {
            standing.revision = standing.revision.filter(|known| Some(*known) != self.revision);
        });
    }

    fn with_standing(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.inner.lock().keys.get_mut(&self.key) {
            change(standing);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let revision = self.inner.lock().part(&self.key);
        // Taken once, and this is where.
        if let (Some(revision), Some(room)) = (revision, self.room.take()) {
            let (key, inner) = (self.key.clone(), Arc::clone(&self.inner));
            self.inner.send(Errand::Leave(Leave { key, revision, inner, _room: room }));
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.inner.lock().keys.remove(&self.key);
        self.inner.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const ROOM_BYTES: usize = 10 * (CALL_BYTES + KEY_COPIES_COUNT);

    fn claims() -> Claims {
        Claims::new(ROOM_BYTES)
    }

    fn begin(claims: &Claims, key: &'static str) -> Option<Result<Claim, Rejection>> {
        claims.begin(key.into()).now_or_never()
    }

    fn entered(claims: &Claims, key: &'static str, revision: i64) -> Claim {
        let mut claim = begin(claims, key).unwrap().unwrap();
        claim.entered(revision);
        claim
    }

    fn leave(claims: &Claims) -> Option<Leave> {
        match claims.take()? {
            Errand::Leave(leave) => Some(leave),
            Errand::Enter(_) => panic!("nobody asked for it"),
        }
    }

    #[test]
    fn who_gives_up_leaves_the_line_and_who_won_or_never_was_in_it_does_not() {
        let claims = claims();
        drop(begin(&claims, "a"));
        assert!(leave(&claims).is_none());
        let winner = entered(&claims, "a", 5);
        winner.won();
        drop(winner);
        assert!(leave(&claims).is_none());
        let loser = entered(&claims, "a", 6);
        loser.lost();
        drop(loser);
        assert!(leave(&claims).is_none());
        drop(entered(&claims, "a", 7));
        let leave = leave(&claims).unwrap();
        assert_eq!((leave.key.as_ref(), leave.revision), (&b"a"[..], 7));
    }

    #[test]
    fn calls_of_one_lease_share_a_key_and_the_last_one_takes_it_away() {
        let claims = claims();
        let (first, second) = (entered(&claims, "a", 5), entered(&claims, "a", 5));
        drop(second);
        assert!(leave(&claims).is_none(), "the first one waits with it");
        drop(first);
        assert_eq!(leave(&claims).unwrap().revision, 5);

        let (first, second) = (entered(&claims, "b", 6), entered(&claims, "b", 6));
        first.won();
        drop(first);
        drop(second);
        assert!(leave(&claims).is_none(), "it is the client's");
    }

    #[test]
    fn what_was_won_or_lost_was_one_key_and_a_later_one_is_another() {
        let claims = claims();
        let first = entered(&claims, "a", 5);
        first.won();
        let second = entered(&claims, "a", 9);
        drop(second);
        first.lost();
        drop(first);
        assert_eq!(leave(&claims).unwrap().revision, 9);
    }

    #[test]
    fn who_asks_for_a_key_that_leaves_the_line_waits_until_it_is_gone() {
        let claims = claims();
        drop(entered(&claims, "a", 5));
        let leave = leave(&claims).unwrap();
        let mut again = Box::pin(claims.begin("a".into()));
        assert!(again.as_mut().now_or_never().is_none());
        assert!(begin(&claims, "b").is_some(), "another one is not waited for");
        drop(leave);
        assert!(matches!(again.now_or_never(), Some(Ok(_))));
    }

    #[test]
    fn the_limit_is_exact_and_who_leaves_keeps_a_place_until_that_is_done() {
        let claims = claims();
        let mut all: Vec<_> = (0..10).map(|_| entered(&claims, "a", 5)).collect();
        assert!(matches!(begin(&claims, "a"), Some(Err(Rejection::TooManyRequests))));
        assert!(claims.settled().now_or_never().is_none());
        all.pop();
        assert!(begin(&claims, "b").unwrap().is_ok());
        drop(all);
        assert!(claims.settled().now_or_never().is_none(), "an errand is to be run");
        drop(leave(&claims));
        assert!(claims.settled().now_or_never().is_some());
    }

    #[test]
    fn long_names_count_for_more() {
        let claims = claims();
        assert!(claims.begin(vec![b'n'; ROOM_BYTES].into()).now_or_never().unwrap().is_err());
        assert!(begin(&claims, "a").unwrap().is_ok());
    }
}
