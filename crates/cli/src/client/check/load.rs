//! Writes from many clients at a given pace. Must not know whether that is fast enough.

use super::filled;
use super::tally::Tally;
use crate::client::wire::Wire;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use quorate_etcd_api::etcdserverpb::PutRequest;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Status};

/// What is written, and how fast.
pub(super) struct Load<'a> {
    pub(super) prefix: &'a str,
    /// How long a key is behind the prefix.
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
    /// Between the beginnings of two writes; nothing for as fast as the clients can.
    pub(super) period: Duration,
    /// Until when writes begin.
    pub(super) lasts: Option<Duration>,
    /// How many writes begin.
    pub(super) keys_count_max: u64,
    /// How long one may take.
    pub(super) request_timeout: Duration,
}

impl Load<'_> {
    /// Writes with these clients, each one write at a time, until all have ended.
    pub(super) async fn run(&self, mut idle: Vec<Wire>) -> Tally {
        let begun = Instant::now();
        // A client that was busy all the time does not make up for it afterwards.
        let backlog = self.period * u32::try_from(idle.len()).unwrap_or(u32::MAX);
        let value = filled(&[], self.value_bytes);
        let (mut tally, mut next, mut count) = (Tally::default(), begun, 0);
        let mut writes = FuturesUnordered::new();
        loop {
            let is_over = count >= self.keys_count_max
                || self.lasts.is_some_and(|lasts| begun.elapsed() >= lasts);
            if is_over && writes.is_empty() {
                return tally.over(begun.elapsed());
            }
            tokio::select! {
                biased;
                Some((wire, took)) = writes.next(), if !writes.is_empty() => {
                    tally.count(took);
                    idle.push(wire);
                }
                () = tokio::time::sleep_until(next), if !is_over && !idle.is_empty() => {
                    let Some(wire) = idle.pop() else { continue };
                    writes.push(self.write(wire, self.key(count), value.clone()));
                    count += 1;
                    let earliest = Instant::now().checked_sub(backlog).unwrap_or(begun);
                    next = (next + self.period).max(earliest);
                }
            }
        }
    }

    /// Each key once, in no order.
    fn key(&self, count: u64) -> Bytes {
        // Odd, so that no two counts give the same.
        let scattered = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let key = filled(&scattered.to_be_bytes(), self.key_bytes);
        [self.prefix.as_bytes(), &key].concat().into()
    }

    async fn write(
        &self,
        wire: Wire,
        key: Bytes,
        value: Bytes,
    ) -> (Wire, Result<Duration, Status>) {
        let mut request = Request::new(PutRequest { key, value, ..PutRequest::default() });
        request.set_timeout(self.request_timeout);
        let begun = Instant::now();
        let mut kv = KvClient::new(wire.clone());
        let put = tokio::time::timeout(self.request_timeout, kv.put(request)).await;
        let outcome = match put {
            Ok(Ok(_)) => Ok(begun.elapsed()),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
        };
        (wire, outcome)
    }
}
