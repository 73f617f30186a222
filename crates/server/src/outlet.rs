//! The sending side of one HTTP/2 stream: no more is queued than the client has room for, and a
//! client that goes away is noticed although nothing is sent. Must not know what the bytes mean.

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Where bytes leave for one client.
pub(crate) struct Outlet {
    stream: SendStream<Bytes>,
    unsent: Bytes,
}

/// The client cancelled the stream, or its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The client is gone.
    Gone,
    /// The client is there, and has taken nothing for too long.
    Untaken,
}

impl Outlet {
    pub(crate) const fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, unsent: Bytes::new() }
    }

    /// Whether everything was sent.
    pub(crate) fn is_free(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends this next. Everything before must have been sent.
    pub(crate) fn put(&mut self, bytes: Bytes) {
        self.unsent = bytes;
    }

    /// Returns once everything is sent; if there is nothing to send, only when the client is gone.
    /// Dropping the future loses nothing.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`Outlet::flush`], to a client that takes some of it within every `patience`.
    pub(crate) async fn flush_to_a_reader(&mut self, patience: Duration) -> Result<(), Unsent> {
        loop {
            let before = self.unsent.len();
            match tokio::time::timeout(patience, self.flush()).await {
                Ok(flushed) => return flushed.map_err(|Gone| Unsent::Gone),
                Err(_) if self.unsent.len() == before => return Err(Unsent::Untaken),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        if self.unsent.is_empty() {
            return Poll::Pending;
        }
        while !self.unsent.is_empty() {
            self.stream.reserve_capacity(self.unsent.len());
            let room = self.stream.capacity().min(self.unsent.len());
            if room == 0 {
                // Ready when the room changes, not when there is some.
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
                }
            }
            let piece = self.unsent.split_to(room);
            if self.stream.send_data(piece, false).is_err() {
                return Poll::Ready(Err(Gone));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream with trailers. Nobody hears it if the client is gone.
    pub(crate) fn end_with(mut self, trailers: HeaderMap) {
        let _ = self.stream.send_trailers(trailers);
    }

    /// Breaks the stream off: what the client has not taken is dropped.
    pub(crate) fn break_off(mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }

    /// Ends the stream.
    pub(crate) fn end(mut self) {
        let _ = self.stream.send_data(Bytes::new(), true);
    }
}
