//! A cluster that is asked again and again, for what may be asked twice. Must not know what is asked.

use crate::client::Refused;
use crate::client::connection::{Connection, Live};
use std::time::Duration;
use tonic::Code;

/// Between two attempts to go on.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Reach {
    connection: Connection,
    /// An endpoint that was alive.
    live: Option<Live>,
}

impl Reach {
    pub(super) const fn new(connection: Connection) -> Self {
        Self { connection, live: None }
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    ///
    /// If nobody answers when somebody is looked for first, or the cluster refuses.
    pub(super) async fn ask<T>(
        &mut self,
        ask: impl AsyncFn(&Live, &Connection) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.connection.live().await?,
        };
        loop {
            match ask(&live, &self.connection).await {
                Ok(answer) => {
                    self.live = Some(live);
                    return Ok(answer);
                }
                Err(error) if !is_passing(&error) => return Err(error),
                Err(error) => eprintln!("{error:#}; trying again"),
            }
            live = self.another().await;
        }
    }

    /// An endpoint that is alive, whenever there is one.
    async fn another(&self) -> Live {
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            match self.connection.live().await {
                Ok(live) => return live,
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
}

/// Whether the same may be answered another time, or by another endpoint.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    // What is no refusal is no answer.
    let Some(Refused { said, code, .. }) = error.downcast_ref() else { return true };
    match code {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unknown => !said.starts_with("etcdserver: ") || said.contains("too many requests"),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
