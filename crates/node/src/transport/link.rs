//! One connection that we dial: what waits to be sent on it, and writing it out. The event loop
//! writes by itself as long as the kernel takes everything, which is one system call a turn and
//! no hand-off; what the kernel does not take is left to the connection's own task.

use super::explain::{explain, explain_stranger};
use super::stream::Writing;
use crate::metrics::PeerMetrics;
use crate::runtime::lock;
use crate::wire::{Channel, FrameError, Reject, WireError};
use bytes::{Buf, BytesMut};
use quorate_core::{NodeId, ProtocolVersion};
use quorate_tls::{Stranger, TlsError};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A buffer that has grown beyond this for a large frame is given back once it is empty.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// Why a connection ended, or never began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other side closed the connection")]
    Closed,
    #[error("not established within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no handshake within {0:?}")]
    HandshakeTimeout(Duration),
    #[error("no answer to a ping within {0:?}")]
    Silent(Duration),
    #[error("the control connection to the same node fell silent")]
    ControlSilent,
    #[error("malformed frame: {0}")]
    Frame(#[from] FrameError),
    #[error("malformed message: {0}")]
    Wire(#[from] WireError),
    #[error("a frame of kind {kind:#04x} where none such belongs")]
    OutOfPlace { kind: u8 },
    #[error("refused: {0}")]
    Rejected(#[from] Reject),
    #[error("node {peer} was turned away: {reject}")]
    OtherVersion { peer: NodeId, reject: Reject },
    #[error(
        "its program speaks protocol version {theirs}, and this cluster {ours}: start it with the \
         program that the other members run"
    )]
    TooOld { theirs: ProtocolVersion, ours: ProtocolVersion },
    #[error("the other side speaks another protocol version by now: it is called again")]
    VersionChanged,
    #[error("{waiting_bytes} bytes wait to be sent, and a forwarded request may not be dropped")]
    QueueFull { waiting_bytes: usize },
    #[error(
        "the other side hung up before it answered{}",
        if *is_secure { ": it may not let this node's certificate in, and its log says why" }
        else { "; if it speaks TLS, its address must begin with https://" }
    )]
    Unanswered { is_secure: bool },
    #[error("its address begins with https://, and this node has no TLS settings")]
    NoTls,
    #[error("its address has the host `{found}`: expected one that a certificate can be for")]
    Host { found: String },
    #[error("this node has no certificate to show")]
    NothingToShow,
    #[error(
        "expected TLS, found a caller who speaks without it; its URL for this node needs https"
    )]
    SpeaksPlain,
    #[error(
        "expected a caller without TLS, found one who speaks it; this node listens at http, and its \
         URL says https"
    )]
    SpeaksTls,
    #[error(
        "the other side hung up within the TLS handshake; if it speaks without TLS, its URL must \
         say http"
    )]
    GoneInHandshake,
    #[error("TLS: {}", explain(.0))]
    Tls(#[from] rustls::Error),
    #[error("TLS: {}", explain_stranger(.0))]
    Stranger(#[from] Stranger),
    #[error("TLS settings: {0}")]
    TlsSettings(#[from] TlsError),
    #[error("none of its addresses leads there: {}", of_each(.0))]
    Nowhere(Vec<(String, LinkError)>),
}

/// What went wrong at each of several addresses.
pub(super) fn of_each(failures: &[(String, LinkError)]) -> String {
    let told = failures.iter().map(|(address, error)| format!("{address}: {error}"));
    told.collect::<Vec<_>>().join("; ")
}

impl LinkError {
    /// What went wrong at all addresses of a peer, each with its error. Where there is only one, who
    /// complains knows which.
    pub(super) fn of_all(mut failures: Vec<(String, Self)>) -> Self {
        match failures.pop() {
            Some((_, only)) if failures.is_empty() => only,
            last => Self::Nowhere(failures.into_iter().chain(last).collect()),
        }
    }

    /// How the other side turned us away, at each address where it did.
    pub(super) fn rejects(&self) -> Vec<&Reject> {
        if let Self::Nowhere(failures) = self {
            return failures.iter().flat_map(|(_, error)| error.rejects()).collect();
        }
        if let Self::Rejected(reject) = self { vec![reject] } else { Vec::new() }
    }

    /// Whether somebody turned us away wherever we called: that does not change within a moment.
    pub(super) fn is_rejected(&self) -> bool {
        if let Self::Nowhere(failures) = self {
            return failures.iter().all(|(_, error)| error.is_rejected());
        }
        matches!(self, Self::Rejected(_) | Self::TooOld { .. })
    }

    /// Whether nobody listens wherever we called.
    pub(super) fn is_refused(&self) -> bool {
        if let Self::Nowhere(failures) = self {
            return failures.iter().all(|(_, error)| error.is_refused());
        }
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Whether the other side went away, which is no fault of anybody's.
    pub(super) fn is_goodbye(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_) | Self::GoneInHandshake)
    }
}

/// A connection that we dial, up or down.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) channel: Channel,
    pub(crate) metrics: Arc<PeerMetrics>,
    queue_bytes_max: usize,
    frame_bytes_max: usize,
    turn_bytes_max: usize,
    state: Mutex<State>,
    /// There is something for the connection's own task to write, or to find out.
    pub(crate) more: Notify,
    /// The peer has shown itself: try again at once.
    pub(crate) kick: Notify,
    /// The connection is to be given up.
    pub(crate) hang_up: Notify,
    /// The connection is to be made anew: what is spoken on it is not what could be.
    pub(crate) redial: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    write: Option<Arc<Writing>>,
    /// What is spoken on it; without one, what everybody knows.
    spoken: ProtocolVersion,
    /// Something on its way may not be lost silently: the driver is told if the connection breaks.
    owes: bool,
    ping: Option<(u64, Instant)>,
    /// When the kernel last took something.
    progress: Option<Instant>,
    failure: Option<LinkError>,
}

/// What became of an attempt to write everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// This turn's share is written.
    Share,
    /// The kernel takes no more now.
    Blocked,
    /// The connection is broken, or there is none.
    Broken,
}

impl Link {
    pub(super) fn new(
        peer: NodeId,
        channel: Channel,
        options: &super::TransportOptions,
        metrics: Arc<PeerMetrics>,
    ) -> Self {
        Self {
            peer,
            channel,
            metrics,
            queue_bytes_max: options.queue_bytes_max,
            frame_bytes_max: options.frame_bytes_max,
            turn_bytes_max: options.turn_bytes_max,
            state: Mutex::default(),
            more: Notify::new(),
            kick: Notify::new(),
            hang_up: Notify::new(),
            redial: Notify::new(),
        }
    }

    /// Queues frames that `write` appends. `owes`: a reply is owed for them, or they are one. Such
    /// wait for a connection; others are dropped without one. Returns whether to flush.
    pub(super) fn put(&self, owes: bool, write: impl FnOnce(&mut BytesMut)) -> bool {
        let mut state = lock(&self.state);
        let is_up = state.write.is_some();
        let waiting_bytes = state.waiting.len();
        if waiting_bytes > self.queue_bytes_max {
            if owes {
                state.owes = true;
                state.failure = Some(LinkError::QueueFull { waiting_bytes });
                self.more.notify_one();
            }
            self.metrics.dropped_messages.add(1);
            return false;
        }
        if !is_up && !owes {
            self.metrics.dropped_messages.add(1);
            return false;
        }
        write(&mut state.waiting);
        let frame_bytes = state.waiting.len() - waiting_bytes;
        if frame_bytes > self.frame_bytes_max {
            // The peer would hang up on it, now and at every new attempt.
            tracing::error!(
                peer = %self.peer, frame_bytes, limit_bytes = self.frame_bytes_max,
                "a message was dropped: it exceeds the limit on frames"
            );
            state.waiting.truncate(waiting_bytes);
            self.metrics.dropped_messages.add(1);
            return is_up;
        }
        state.owes |= owes;
        is_up
    }

    /// Writes as much as the kernel takes, up to one turn's share.
    pub(super) fn flush(&self) -> Flushed {
        let mut state = lock(&self.state);
        let Some(write) = state.write.clone() else {
            return Flushed::Broken;
        };
        let mut written = 0;
        while !state.waiting.is_empty() {
            if written >= self.turn_bytes_max {
                return Flushed::Share;
            }
            let share = state.waiting.len().min(self.turn_bytes_max);
            match write.try_write(state.waiting.get(..share).unwrap_or_default()) {
                Ok(count) => {
                    state.waiting.advance(count);
                    state.progress = Some(Instant::now());
                    self.metrics.sent_bytes.add(count);
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) => {
                    state.failure = Some(error.into());
                    return Flushed::Broken;
                }
            }
        }
        if state.waiting.capacity() > KEPT_BUFFER_BYTES {
            state.waiting = BytesMut::new();
        }
        match write.try_flush() {
            Ok(()) => Flushed::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flushed::Blocked,
            Err(error) => {
                state.failure = Some(error.into());
                Flushed::Broken
            }
        }
    }

    /// Flushes from the event loop; what remains is left to the connection's own task.
    pub(super) fn flush_or_leave(&self) {
        if self.flush() != Flushed::All {
            self.more.notify_one();
        }
    }

    /// Writes until nothing waits, or the connection is broken.
    pub(super) async fn drained(&self) {
        loop {
            match self.flush() {
                Flushed::All | Flushed::Broken => return,
                Flushed::Share => tokio::task::yield_now().await,
                Flushed::Blocked => {
                    let write = lock(&self.state).write.clone();
                    let Some(write) = write else { return };
                    if write.writable().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Writes whatever the event loop left, until the connection breaks.
    pub(super) async fn keep_writing(&self, write: &Writing) -> LinkError {
        loop {
            match self.flush() {
                Flushed::All => self.more.notified().await,
                Flushed::Share => tokio::task::yield_now().await,
                Flushed::Blocked => {
                    let writable = tokio::select! {
                        writable = write.writable() => writable,
                        () = self.more.notified() => Ok(()),
                    };
                    if let Err(error) = writable {
                        return error.into();
                    }
                }
                Flushed::Broken => return self.take_failure().unwrap_or(LinkError::Closed),
            }
            if let Some(failure) = self.take_failure() {
                return failure;
            }
        }
    }

    fn take_failure(&self) -> Option<LinkError> {
        lock(&self.state).failure.take()
    }

    /// What can be said on the connection; if there is none, whatever comes will know it.
    pub(super) fn spoken(&self) -> ProtocolVersion {
        lock(&self.state).spoken
    }

    /// Has a connection made anew on which less than this is spoken.
    pub(super) fn wants_spoken(&self, version: ProtocolVersion) {
        let state = lock(&self.state);
        if state.write.is_some() && state.spoken < version {
            self.redial.notify_waiters();
        }
    }

    /// The connection is up, and this is spoken on it; what waited for it is sent.
    pub(super) fn up(&self, write: Arc<Writing>, spoken: ProtocolVersion) {
        {
            let mut state = lock(&self.state);
            (state.write, state.spoken) = (Some(write), spoken);
        }
        self.metrics.connects.add(1);
        self.show_connected(true);
    }

    fn show_connected(&self, is_connected: bool) {
        if self.channel == Channel::Control {
            self.metrics.is_connected.set(is_connected.into());
        }
    }

    /// The connection is down, or did not come up. Returns whether something that may not be lost
    /// silently was lost.
    pub(super) fn down(&self) -> bool {
        self.show_connected(false);
        let lost = std::mem::take(&mut *lock(&self.state));
        lost.owes
    }

    /// Notes a ping to be sent, unless one is unanswered; returns for how long it has been, or, if
    /// that is shorter, for how long the kernel has taken nothing: a ping behind much bulk is slow
    /// to arrive.
    pub(super) fn ping(&self, token: u64) -> Option<Duration> {
        let mut state = lock(&self.state);
        let is_behind = !state.waiting.is_empty();
        let progress = state.progress.filter(|_| is_behind);
        let unanswered = state.ping.map(|(_, sent)| sent.max(progress.unwrap_or(sent)).elapsed());
        if unanswered.is_none() {
            state.ping = Some((token, Instant::now()));
        }
        unanswered
    }

    pub(super) fn pong(&self, token: u64) {
        let mut state = lock(&self.state);
        if let Some((_, sent)) = state.ping.take_if(|(awaited, _)| *awaited == token) {
            let round_trip = sent.elapsed();
            let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
            self.metrics.round_trip_micros.set(micros);
            self.metrics.round_trips.record(round_trip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(got: u64) -> LinkError {
        Reject::Target { expected: NodeId::new(1), got: NodeId::new(got) }.into()
    }

    fn failures(errors: impl IntoIterator<Item = LinkError>) -> Vec<(String, LinkError)> {
        (1..).map(|port: u16| format!("h:{port}")).zip(errors).collect()
    }

    #[test]
    fn a_failure_at_the_only_address_is_told_as_it_is_and_at_several_with_the_address() {
        let only = LinkError::of_all(failures([LinkError::NoTls]));
        assert_eq!(only.to_string(), LinkError::NoTls.to_string());
        let several = LinkError::of_all(failures([LinkError::Closed, LinkError::NothingToShow]));
        let expected = format!("h:1: {}; h:2: {}", LinkError::Closed, LinkError::NothingToShow);
        assert!(several.to_string().ends_with(&expected), "{several}");
    }

    #[test]
    fn another_node_at_the_address_is_told_of_with_both_causes_and_what_to_do() {
        let told = target(0x2a).to_string();
        for words in [
            "expected node 42 at this address, found node 1. ",
            "If node 42 was removed and node 1 has come in its place, this passes",
            "a wrong peer URL: look at 2a and 1 in `quorate member list`",
        ] {
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn who_is_turned_away_at_one_address_may_be_welcome_at_another_soon() {
        let some = LinkError::of_all(failures([target(2), LinkError::Closed]));
        assert!(!some.is_rejected());
        assert_eq!(some.rejects().len(), 1);
        let all = LinkError::of_all(failures([target(2), target(3)]));
        assert!(all.is_rejected() && all.rejects().len() == 2);
        let only = LinkError::of_all(failures([target(2)]));
        assert!(only.is_rejected() && only.rejects().len() == 1);
        assert!(!LinkError::Closed.is_rejected() && LinkError::Closed.rejects().is_empty());
    }
}
