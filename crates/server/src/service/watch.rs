//! Watches: the task that lets the store's hub go on, and the session of one client's stream. Must
//! not know how requests and responses travel.

use super::watch_rights::{GuardedStream, WatchRights};
use super::{LeaderNeed, Origin, Service};
use crate::auth::Tokens;
use crate::caller::Caller;
use crate::errors::Rejection;
use bytes::Bytes;
use prost::Message;
use quorate::Node;
use quorate_kv::watch::{
    Pulled, WatchCreateRequest, WatchHub, WatchRequest, WatchRequestKind, WatchResponse,
};
use quorate_kv::{EngineError, Reader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch as watch_channel};
use tokio::time::{Instant, Interval, MissedTickBehavior};

impl Service {
    /// Hands what is new in the store to those who watch, for as long as it is polled. One piece at
    /// a time: others have their turn in between.
    pub(crate) async fn feed_watches(&self) {
        let mut auth = self.reader.auth();
        loop {
            self.published.notified().await;
            let seen = std::mem::replace(&mut auth, self.reader.auth());
            if !Arc::ptr_eq(&seen, &auth) {
                self.rights_changed.send_replace(());
            }
            loop {
                match self.watches.advance() {
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => break,
                    // Each stream finds the same, and ends.
                    Err(error) => {
                        return tracing::error!(%error, "watches cannot read the store");
                    }
                }
            }
        }
    }

    /// Tells the streams that require a leader whether there is one, for as long as it is polled.
    /// It looks from time to time: the node's status changes with every entry, and nobody needs to
    /// know sooner.
    pub(crate) async fn follow_leader(&self) {
        const LOOKS_PER_TIMEOUT: u32 = 6;
        let pause = self.options.leaderless_timeout / LOOKS_PER_TIMEOUT;
        let mut looks = tokio::time::interval(pause.max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let has_leader = self.has_leader();
            self.leader_known
                .send_if_modified(|known| std::mem::replace(known, has_leader) != has_leader);
        }
    }

    /// The session of a stream of watches. If the client requires a leader, the session ends
    /// without one.
    pub(crate) fn watch_session(&self, requires_leader: bool, caller: &Caller) -> WatchSession {
        self.sights().session(WatchRights::new(self, caller), requires_leader)
    }

    /// What it takes to begin a session later.
    pub(super) fn sights(&self) -> Sights {
        Sights {
            watches: self.watches.clone(),
            reader: self.reader.clone(),
            node: self.node.clone(),
            tokens: Arc::clone(&self.tokens),
            stopping: self.stopping.subscribe(),
            leader_known: self.leader_known.subscribe(),
            leaderless_timeout: self.options.leaderless_timeout,
            rights_changed: self.rights_changed.subscribe(),
            progress_interval: self.options.watch_progress_interval,
            unread_count_max: self.options.watch_unread_count_max,
        }
    }
}

/// What it takes to begin sessions of watches.
pub(super) struct Sights {
    watches: WatchHub,
    reader: Reader,
    node: Node,
    tokens: Arc<Tokens>,
    stopping: watch_channel::Receiver<bool>,
    leader_known: watch_channel::Receiver<bool>,
    leaderless_timeout: Duration,
    rights_changed: watch_channel::Receiver<()>,
    progress_interval: Duration,
    unread_count_max: usize,
}

impl Sights {
    /// A session of somebody who is known by name, or by none.
    pub(super) fn session_of(&self, user: Option<Arc<str>>, requires_leader: bool) -> WatchSession {
        let rights = WatchRights::of_user(self.reader.clone(), Arc::clone(&self.tokens), user);
        self.session(rights, requires_leader)
    }

    fn session(&self, rights: WatchRights, requires_leader: bool) -> WatchSession {
        let patience = requires_leader.then_some(self.leaderless_timeout);
        let woken = Arc::new(Notify::new());
        let signal = Arc::clone(&woken);
        WatchSession {
            guarded: GuardedStream::new(self.watches.stream(move || signal.notify_one()), rights),
            woken,
            ticks: ticks(self.progress_interval),
            stopping: self.stopping.clone(),
            node: self.node.clone(),
            leader: LeaderNeed::new(patience, self.leader_known.clone()),
            rights_changed: self.rights_changed.clone(),
            unread_count_max: self.unread_count_max,
        }
    }
}

/// When idle watches are told how far they are. Each stream has an interval of its own, up to a
/// tenth longer than what was asked for.
fn ticks(interval: Duration) -> Interval {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let share = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(37) % 100;
    // An interval of nothing would never let go.
    let interval = interval.max(Duration::from_millis(1)) + interval / 1000 * share;
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// One client's stream of watches.
pub(crate) struct WatchSession {
    guarded: GuardedStream,
    woken: Arc<Notify>,
    ticks: Interval,
    stopping: watch_channel::Receiver<bool>,
    node: Node,
    leader: LeaderNeed,
    rights_changed: watch_channel::Receiver<()>,
    unread_count_max: usize,
}

impl WatchSession {
    /// Whether further requests are taken: not while the client leaves too much unread.
    pub(crate) fn has_room(&self) -> bool {
        self.guarded.stream.pending_count() < self.unread_count_max
    }

    /// Takes a request, as the protobuf message that the client sent.
    pub(crate) fn request(&mut self, message: Bytes) -> Result<(), Rejection> {
        let request = WatchRequest::decode(message)?;
        match &request.kind {
            Some(WatchRequestKind::Create(create)) => self.create(create),
            Some(WatchRequestKind::Cancel(_) | WatchRequestKind::Progress(_)) | None => {
                self.guarded.stream.request(request);
            }
        }
        Ok(())
    }

    /// Begins a watch, or says why not; either comes in its turn.
    pub(super) fn create(&mut self, create: &WatchCreateRequest) {
        self.guarded.create(create);
    }

    /// What the client is told next; if it cannot take anything now (`can_send`), only an end of
    /// the session is returned. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, can_send: bool) -> Result<WatchResponse, Rejection> {
        loop {
            if *self.stopping.borrow() {
                return Err(Rejection::Stopped);
            }
            if !can_send {
                self.wait(false).await?;
                continue;
            }
            match self.guarded.pull().map_err(broken)? {
                Pulled::Response(mut response) => {
                    self.origin().complete(&mut response.header);
                    return Ok(response);
                }
                Pulled::Busy => tokio::task::yield_now().await,
                Pulled::Idle => self.wait(true).await?,
            }
        }
    }

    /// Waits for something that may matter.
    async fn wait(&mut self, can_send: bool) -> Result<(), Rejection> {
        tokio::select! {
            () = self.woken.notified(), if can_send => {}
            // Who cannot be told now looks again when they can.
            _ = self.rights_changed.changed(), if can_send => {}
            _ = self.ticks.tick(), if can_send => self.guarded.stream.tick(),
            // The service itself is gone if this fails.
            changed = self.stopping.changed() => {
                return changed.map_err(|_| Rejection::Stopped);
            }
            () = self.leader.lost() => return Err(Rejection::NoLeader),
        }
        Ok(())
    }

    fn origin(&self) -> Origin {
        Origin::of(&self.node)
    }
}

fn broken(error: EngineError) -> Rejection {
    quorate_kv::ReadError::from(error).into()
}
