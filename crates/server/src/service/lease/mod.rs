//! The lease methods. Granting, revoking and renewing go through the log; how long a lease has left
//! is this member's to say. Must not know how a request came, or what is attached to a lease.

mod clock;
mod expiry;
mod keeper;
mod renewals;
mod timing;
#[cfg(test)]
mod worlds;

use super::Service;
use super::gate::sender;
use crate::errors::Rejection;
use crate::grpc::frame;
use crate::nesting;
use bytes::Bytes;
use expiry::LeaseTimes;
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_kv::lease::TTL_SECONDS_MAX;
use quorate_kv::lease::api::{LeaseGrantRequest, LeaseGrantResponse, LeaseRenewRequest};
use quorate_kv::{Access, Command, CommandKind, CommandTag, OpError, Outcome, Reader};
use renewals::{Renewals, Renewed, Waiting};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) use keeper::Keeper;

/// How many commands of renewals may be on their way at once.
const BATCHES_COUNT_MAX: usize = 4;

/// How long a renewal waits for its fate before it is tried again, perhaps with another leader.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before something that failed is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How many ids are tried for a lease whose client leaves the choice to us. One suffices.
const ID_TRIES_MAX: usize = 8;

/// What the server keeps for leases beside the store.
pub(super) struct Leases {
    times: LeaseTimes,
    renewals: Renewals,
}

impl Leases {
    pub(super) fn new(reader: &Reader, takeover_grace: Duration) -> Self {
        let times = LeaseTimes::new(reader, takeover_grace);
        Self { times, renewals: Renewals::default() }
    }
}

impl Service {
    pub(super) async fn lease_grant(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = LeaseGrantRequest::decode(message)?;
        let mut response = self.granted(request, deadline, access).await?;
        self.origin().complete(&mut response.header);
        Ok(frame::encode(&response))
    }

    /// Grants a lease, with an id of our choice if the request has none.
    pub(super) async fn granted(
        &self,
        request: LeaseGrantRequest,
        deadline: Instant,
        access: &Access,
    ) -> Result<LeaseGrantResponse, Rejection> {
        if request.ttl > TTL_SECONDS_MAX {
            return Err(Rejection::LeaseTtlTooLarge);
        }
        self.check_space(request.encoded_len(), deadline).await?;
        let ttl = request.ttl.max(self.options.lease_ttl_seconds_min);
        let mut tries = if request.id == 0 { ID_TRIES_MAX } else { 1 };
        loop {
            let id = if request.id == 0 { random_id() } else { request.id };
            let kind = Some(CommandKind::LeaseGrant(LeaseGrantRequest { ttl, id }));
            let command = Command { kind, caller: sender(access) };
            let outcome = self.outcome_of(command.encode_to_vec().into(), deadline).await;
            tries -= 1;
            match outcome {
                Err(Rejection::Op(OpError::LeaseExists)) if tries > 0 => {}
                Err(rejection) => return Err(rejection),
                Ok(Outcome::LeaseGrant(response)) => {
                    self.metrics.lease_granted();
                    return Ok(response);
                }
                Ok(_) => return Err(Rejection::Internal),
            }
        }
    }

    pub(super) async fn lease_revoke(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        pb::LeaseRevokeRequest::decode(message.clone())?;
        nesting::check(CommandTag::LeaseRevoke, &message)?;
        let sender = sender(access);
        let command = Command::wrap_for(CommandTag::LeaseRevoke, &message, sender.as_ref());
        let outcome = self.outcome_of(command, deadline).await?;
        self.metrics.lease_revoked();
        self.encode_outcome(outcome)
    }

    pub(super) async fn lease_time_to_live(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = pb::LeaseTimeToLiveRequest::decode(message)?;
        self.confirm_as_proposal(deadline).await?;
        self.reader.auth().admit(access)?;
        let mut response = pb::LeaseTimeToLiveResponse {
            header: Some(self.header(self.reader.revision().to_wire())),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let Some((remaining, lease)) = self.leases.times.remaining(&self.node, request.id) {
            // Full seconds, and some time has passed since the lease was granted or renewed.
            let remaining = remaining.saturating_sub(Duration::from_nanos(1)).as_secs();
            response.ttl = i64::try_from(remaining).unwrap_or(i64::MAX);
            response.granted_ttl = lease.ttl;
            if request.keys {
                let (reader, access) = (self.reader.clone(), access.clone());
                let keys = move || Ok(reader.lease_keys_for(&access, request.id)?);
                response.keys = Box::pin(self.apart(deadline, keys)).await?;
            }
        }
        Ok(frame::encode(&response))
    }

    pub(super) async fn lease_leases(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        pb::LeaseLeasesRequest::decode(message)?;
        self.confirm_as_proposal(deadline).await?;
        if self.reader.auth().admit_root(access).is_err() {
            let (reader, access) = (self.reader.clone(), access.clone());
            let may_list = move || Ok(reader.may_list_leases(&access)?);
            Box::pin(self.apart(deadline, may_list)).await?;
        }
        let ids = self.leases.times.ids(&self.node);
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        let header = Some(self.header(self.reader.revision().to_wire()));
        Ok(frame::encode(&pb::LeaseLeasesResponse { header, leases }))
    }

    /// Renews a lease; the response's time to live is 0 if there is no such lease.
    pub(crate) async fn lease_keep_alive(
        &self,
        request: pb::LeaseKeepAliveRequest,
        keeper: &Keeper,
    ) -> Result<pb::LeaseKeepAliveResponse, Rejection> {
        let deadline = Instant::now() + self.options.request_timeout;
        let access = keeper.access(self, deadline).await?;
        if self.reader.auth().admit_root(&access).is_err() {
            let (reader, id) = (self.reader.clone(), request.id);
            let may_keep = move || Ok(reader.may_keep_lease(&access, id)?);
            Box::pin(self.apart(deadline, may_keep)).await?;
        }
        let answer = self.leases.renewals.ask(request.id, deadline)?;
        let renewed = match tokio::time::timeout_at(deadline, answer).await {
            Err(_) | Ok(Ok(Err(Rejection::TimedOut))) => return Err(self.too_late()),
            // The task that renews is gone if nobody answers.
            Ok(answer) => answer.unwrap_or(Err(Rejection::Stopped))?,
        };
        self.metrics.lease_renewed();
        let revision = renewed.header.map_or(0, |header| header.revision);
        let header = Some(self.header(revision));
        Ok(pb::LeaseKeepAliveResponse { header, id: request.id, ttl: renewed.ttl })
    }

    /// As in etcd, where a renewal is the leader's and needs no majority.
    fn too_late(&self) -> Rejection {
        if self.has_leader() { Rejection::TimedOut } else { Rejection::NoLeader }
    }

    /// Carries renewals into the log, for as long as it is polled.
    pub(crate) async fn renew_leases(&self) {
        use futures_util::stream::{FuturesUnordered, StreamExt};
        let renewals = &self.leases.renewals;
        let mut on_their_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = renewals.arrived.notified(), if on_their_way.len() < BATCHES_COUNT_MAX => {}
                Some(()) = on_their_way.next() => {}
            }
            while on_their_way.len() < BATCHES_COUNT_MAX
                && let Some(batch) = renewals.take(Instant::now())
            {
                on_their_way.push(self.renew(batch));
            }
        }
    }

    async fn renew(&self, batch: Vec<Waiting>) {
        let ids = batch.iter().map(|waiting| waiting.id).collect();
        let command = Command::new(CommandKind::LeaseRenew(LeaseRenewRequest { ids }));
        let deadline = Instant::now() + RENEWAL_PATIENCE;
        match self.outcome_of(command.encode_to_vec().into(), deadline).await {
            Ok(Outcome::LeaseRenew(response)) => {
                let header = response.header;
                for (waiting, ttl) in batch.into_iter().zip(response.ttls) {
                    // Whoever left meanwhile need not know.
                    let _ = waiting.answer.send(Ok(Renewed { header, ttl }));
                }
            }
            // Nobody answers any more: all senders are dropped.
            Err(Rejection::Stopped) => drop(batch),
            Err(rejection) if rejection.is_transient() => {
                tokio::time::sleep(RETRY_PAUSE).await;
                self.leases.renewals.put_back(batch);
            }
            // It would be the same the next time, and each time is an entry of the log.
            Err(rejection) => renewals::refuse(batch, &rejection),
            Ok(_) => renewals::refuse(batch, &Rejection::Internal),
        }
    }
}

/// A positive number that nobody can foresee.
fn random_id() -> i64 {
    // Keyed anew for each call, from the system's randomness at first.
    let number = RandomState::new().hash_one(Instant::now());
    i64::try_from(number >> 1).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn chosen_ids_are_positive_and_differ() {
        let ids: BTreeSet<i64> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.into_iter().all(|id| id > 0));
    }
}
