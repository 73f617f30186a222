//! A lease that is renewed for as long as somebody needs it, through lost connections and members, as the
//! sessions of etcd's clients are. Must not know what is held with it.

use super::connection::{Connection, Kind, Live};
use super::ending::Ending;
use super::lease::renew;
use anyhow::Context;
use quorate_etcd_api::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tonic::Code;

/// Between two attempts to go on.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Session<'a> {
    connection: &'a Connection,
    id: i64,
    /// An endpoint that is alive, or was.
    live: Live,
    /// How long the lease lives without being renewed.
    ttl: Duration,
    /// When it was renewed last, as far as is known.
    renewed: Instant,
}

impl<'a> Session<'a> {
    /// Begins with a new lease.
    ///
    /// # Errors
    ///
    /// If nobody answers, or the cluster refuses.
    pub(super) async fn begin(connection: &'a Connection, ttl: i64) -> anyhow::Result<Self> {
        let live = connection.live().await?;
        let mut lease = live.lease();
        let asked = Instant::now();
        let call = lease.lease_grant(connection.request(LeaseGrantRequest { ttl, id: 0 }));
        let granted = connection.answer(&live, Kind::Write, call).await?;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0));
        Ok(Self { connection, id: granted.id, live, ttl, renewed: asked })
    }

    /// The lease's id.
    pub(super) const fn id(&self) -> i64 {
        self.id
    }

    /// The endpoint that was alive last.
    pub(super) const fn live(&self) -> &Live {
        &self.live
    }

    /// Renews the lease until it has ended.
    pub(super) async fn keep(&mut self) -> Ending {
        loop {
            tokio::time::sleep_until(self.renewed + self.ttl / 3).await;
            if !self.renew().await {
                return Ending::Expired;
            }
        }
    }

    /// Renews it once, with whichever endpoint is alive; whether it goes on.
    async fn renew(&mut self) -> bool {
        loop {
            let asked = Instant::now();
            match renew(self.id, &self.live, self.connection).await {
                Ok(renewed) if renewed.ttl <= 0 => return false,
                Ok(_) => {
                    self.renewed = asked;
                    return true;
                }
                Err(_) if self.renewed.elapsed() > self.ttl => return false,
                Err(_) => self.look_around().await,
            }
        }
    }

    /// Finds an endpoint that is alive, if there is one.
    async fn look_around(&mut self) {
        tokio::time::sleep(RETRY_PAUSE).await;
        self.connection.log_in_again();
        if let Ok(found) = self.connection.live().await {
            self.live = found;
        }
    }

    /// Asks for something that may take any time, and keeps the lease meanwhile; again with another
    /// endpoint if the one that was asked is lost.
    ///
    /// # Errors
    ///
    /// What the endpoint says; [`Ending::Expired`].
    pub(super) async fn wait<T>(
        &mut self,
        ask: impl AsyncFn(&Live) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> anyhow::Result<T> {
        loop {
            let (connection, asked) = (self.connection, self.live.clone());
            let call = async { Ok(ask(&asked).await) };
            let outcome = tokio::select! {
                outcome = call => outcome,
                end = self.keep_with(&asked) => Err(end),
            };
            match outcome {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if is_lost(&status) => {
                    if !self.renew().await {
                        return Err(Ending::Expired.into());
                    }
                    self.look_around().await;
                }
                Ok(Err(status)) => {
                    return connection.answer(&asked, Kind::Write, async { Err(status) }).await;
                }
                Err(Some(end)) => return Err(end.into()),
                Err(None) => {}
            }
        }
    }

    /// Renews the lease until it has ended, or another endpoint than this one has to be asked.
    async fn keep_with(&mut self, asked: &Live) -> Option<Ending> {
        loop {
            tokio::time::sleep_until(self.renewed + self.ttl / 3).await;
            if !self.renew().await {
                return Some(Ending::Expired);
            }
            if self.live.address() != asked.address() {
                return None;
            }
        }
    }

    /// Ends the lease, and with it what is held with it.
    ///
    /// # Errors
    ///
    /// If nobody answers; the lease ends by itself then.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let mut lease = self.live.lease();
        let call = lease.lease_revoke(self.connection.request(LeaseRevokeRequest { id: self.id }));
        self.connection.answer(&self.live, Kind::Write, call).await?;
        Ok(())
    }
}

/// Whether the same may be asked of another endpoint.
pub(super) fn is_lost(status: &tonic::Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled => true,
        // What tonic says of a connection that broke.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        Code::Ok
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// The signals that ask for an end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on neither ends this process by itself.
    ///
    /// # Errors
    ///
    /// If the system does not let us.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("catching SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("catching SIGTERM")?,
        })
    }

    /// Returns when one has come.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
