//! Locks and elections, as etcd serves them: recipes of keys, leases, transactions and watches, carried
//! out with the caller's rights. Who comes first holds the lock, or leads; the others wait in the order
//! of their keys' creation. See `docs/decisions/0022-locks-and-elections.md`. Must not know how a
//! request came.

mod claims;
mod election;
mod lock;
mod observe;
mod party;
mod requests;
mod turn;

pub(crate) use claims::Claims;
pub(crate) use observe::Observation;

use super::Service;
use crate::admission::Admitted;
use crate::caller::Caller;
use crate::errors::{RecipeRejection, Rejection};
use crate::method::Method;
use bytes::Bytes;
use quorate_kv::Access;
use tokio::time::Instant;

/// A call that may wait.
struct Long<'a> {
    message: Bytes,
    place: Admitted<'a>,
    access: &'a Access,
    requires_leader: bool,
}

impl Service {
    /// Carries out a method that may wait for as long as its caller does, as [`Service::call`] does
    /// with the others. Dropping the future gives up the wait, and the place in the line.
    pub(crate) async fn call_long(
        &self,
        method: Method,
        message: Bytes,
        deadline: Instant,
        caller: &Caller,
        requires_leader: bool,
    ) -> Result<Bytes, Rejection> {
        let place = self.admission.admit(message.len())?;
        if self.is_learner() {
            return Err(Rejection::Learner);
        }
        let call = async {
            let soon = deadline.min(Instant::now() + self.options.request_timeout);
            let access = &self.enter(method, caller, soon).await?;
            let long = Long { message, place, access, requires_leader };
            if method == Method::Lock {
                return self.lock(long).await;
            }
            if method == Method::Campaign {
                return self.campaign(long).await;
            }
            Err(Rejection::not_served(method))
        };
        let in_time = tokio::time::timeout_at(deadline, call).await;
        let outcome = in_time.unwrap_or_else(|_| Err(RecipeRejection::DeadlinePassed.into()));
        outcome.map_err(Rejection::of_step)
    }

    /// Returns when nobody waits any more, and whoever gave up has left the line.
    pub(crate) async fn recipes_settled(&self) {
        self.claims.settled().await;
    }
}
