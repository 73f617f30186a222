//! The key-value methods: validate, then read from the store or propose to the log. Must not know
//! how a request came or what a revision means.

use super::gate::sender;
use super::{Service, time_left};
use crate::errors::{self, Rejection};
use crate::grpc::frame;
use crate::nesting;
use bytes::Bytes;
use prost::Message;
use quorate_kv::api::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, TxnRequest,
};
use quorate_kv::{Access, Command, CommandReply, CommandTag, Outcome, RequestError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A read of more keys than this goes to a thread of its own, so that small requests do not wait
/// behind it.
const SMALL_READ_COUNT_MAX: i64 = 64;

impl Service {
    pub(super) async fn range(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = RangeRequest::decode(message)?;
        let Request::Range(request) = self.validated(Request::Range(request))? else {
            return Err(Rejection::Internal);
        };
        if request.serializable {
            self.has_some_state(deadline).await?;
        } else {
            if self.is_learner() {
                return Err(Rejection::Learner);
            }
            self.confirm(deadline).await?;
        }
        let is_small = is_small(&request);
        let (reader, origin, access) = (self.reader.clone(), self.origin(), access.clone());
        let read = move || {
            let mut response = reader.range_for(&access, &request)?;
            origin.complete(&mut response.header);
            Ok(frame::encode(&response))
        };
        if is_small { read() } else { Box::pin(self.apart(deadline, read)).await }
    }

    pub(super) async fn put(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = PutRequest::decode(message.clone())?;
        self.validated(Request::Put(request))?;
        self.check_space(message.len(), deadline).await?;
        self.propose(CommandTag::Put, &message, access, deadline).await
    }

    pub(super) async fn delete_range(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = DeleteRangeRequest::decode(message.clone())?;
        self.validated(Request::DeleteRange(request))?;
        self.propose(CommandTag::DeleteRange, &message, access, deadline).await
    }

    pub(super) async fn txn(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        nesting::check(CommandTag::Txn, &message)?;
        let request = TxnRequest::decode(message.clone())?;
        let Request::Txn(request) = self.validated(Request::Txn(request))? else {
            return Err(Rejection::Internal);
        };
        if !quorate_kv::is_read_only(&request) {
            if quorate_kv::may_put(&request) {
                self.check_space(message.len(), deadline).await?;
            }
            return self.propose(CommandTag::Txn, &message, access, deadline).await;
        }
        if is_serializable(&request) {
            self.has_some_state(deadline).await?;
        } else {
            self.confirm(deadline).await?;
        }
        let is_small = is_small_txn(&request);
        let (reader, origin, access) = (self.reader.clone(), self.origin(), access.clone());
        let read = move || {
            let response = reader.txn_read_only_for(&access, &request)?;
            let mut response = response.ok_or(Rejection::Internal)?;
            origin.complete(&mut response.header);
            Ok(frame::encode(&response))
        };
        if is_small { read() } else { Box::pin(self.apart(deadline, read)).await }
    }

    pub(super) async fn compact(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = CompactionRequest::decode(message.clone())?;
        let answer = self.propose(CommandTag::Compact, &message, access, deadline).await?;
        if request.physical {
            self.wait_compacted(request.revision, deadline).await?;
        }
        Ok(answer)
    }

    /// Waits until this member has freed what a compaction made superfluous. It goes on if that
    /// takes too long for the caller.
    async fn wait_compacted(&self, revision: i64, deadline: Instant) -> Result<(), Rejection> {
        const PAUSE: Duration = Duration::from_millis(5);
        let is_done = || {
            let done = self.reader.physically_compacted_revision();
            done.is_some_and(|done| done.to_wire() >= revision)
        };
        while !is_done() {
            if Instant::now() + PAUSE >= deadline {
                return Err(Rejection::TimedOut);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    pub(super) fn validated(&self, request: Request) -> Result<Request, RequestError> {
        quorate_kv::validate_with(&request, self.options.txn_ops_max)?;
        Ok(request)
    }

    /// Proposes a request as it came, on behalf of somebody; the answer to it.
    pub(super) async fn propose(
        &self,
        tag: CommandTag,
        request: &[u8],
        access: &Access,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let outcome = self.decide(tag, request, access, deadline).await?;
        self.encode_outcome(outcome)
    }

    /// Proposes a request on behalf of somebody; what became of it.
    pub(super) async fn decide(
        &self,
        tag: CommandTag,
        request: &[u8],
        access: &Access,
        deadline: Instant,
    ) -> Result<Outcome, Rejection> {
        if request.len() > self.options.request_bytes_max {
            return Err(Rejection::RequestTooLarge);
        }
        nesting::check(tag, request)?;
        let command = Command::wrap_for(tag, request, sender(access).as_ref());
        self.outcome_of(command, deadline).await
    }

    /// Proposes a command and waits for its fate.
    pub(super) async fn outcome_of(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Outcome, Rejection> {
        let in_progress = self.metrics.proposal();
        let fate = self.node.propose(command, time_left(deadline)).await;
        drop(in_progress);
        let reply = errors::reply_of(fate).inspect_err(|_| self.metrics.proposal_failed())?;
        Ok(CommandReply::decode(reply).map_err(|_| Rejection::Internal)?.into_result()?)
    }

    /// Does a long read in a thread of its own.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        deadline: Instant,
        read: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
    ) -> Result<T, Rejection> {
        apart(&self.scans, deadline, read).await
    }

    pub(super) fn encode_outcome(&self, outcome: Outcome) -> Result<Bytes, Rejection> {
        match outcome {
            Outcome::Put(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            Outcome::DeleteRange(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            Outcome::Txn(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            Outcome::Compact(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            Outcome::LeaseGrant(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            Outcome::LeaseRevoke(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            // No client asks for these as such.
            Outcome::LeaseRenew(_) | Outcome::LeaseExpire(_) | Outcome::Auth(_) => {
                Err(Rejection::Internal)
            }
            Outcome::Alarm(mut response) => {
                self.origin().complete(&mut response.header);
                Ok(frame::encode(&response))
            }
            Outcome::Refused(error) => Err(error.into_error().into()),
        }
    }
}

/// Does a long read in a thread of its own, when there is a place for it.
pub(super) async fn apart<T: Send + 'static>(
    scans: &Semaphore,
    deadline: Instant,
    read: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let Ok(Ok(_place)) = tokio::time::timeout_at(deadline, scans.acquire()).await else {
        return Err(Rejection::TooManyRequests);
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a read did not end");
        Err(Rejection::Internal)
    })
}

/// Whether a read is sure to touch few keys. A count touches none beyond the index.
pub(super) fn is_small(request: &RangeRequest) -> bool {
    let is_sorted = request.sort_order != 0 || request.sort_target != 0;
    request.range_end.is_empty()
        || (!is_sorted && (1..=SMALL_READ_COUNT_MAX).contains(&request.limit))
}

/// Whether a read-only transaction is sure to touch few keys. Its number of operations is limited.
fn is_small_txn(request: &TxnRequest) -> bool {
    let is_small_compare = request.compare.iter().all(|compare| compare.range_end.is_empty());
    let mut ops = request.success.iter().chain(&request.failure);
    is_small_compare
        && ops.all(|RequestOp { request }| match request {
            Some(Request::Range(range)) => is_small(range),
            Some(Request::Txn(nested)) => is_small_txn(nested),
            None | Some(Request::Put(_) | Request::DeleteRange(_)) => true,
        })
}

/// Whether every read of a read-only transaction accepts what this member has.
fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|RequestOp { request }| match request {
        Some(Request::Range(range)) => range.serializable,
        Some(Request::Txn(nested)) => is_serializable(nested),
        None | Some(Request::Put(_) | Request::DeleteRange(_)) => true,
    })
}
