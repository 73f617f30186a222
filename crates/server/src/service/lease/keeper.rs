//! Who renews leases on one stream: asked by the first renewal, and known by name from then on, as with
//! watches. A token is good from its last use, and a stream uses it once: who sends a renewal every few
//! hours shall not lose the lease over it. Must not know what they may renew.

use super::Service;
use crate::caller::Caller;
use crate::errors::Rejection;
use quorate_kv::Access;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

/// See the module.
pub(crate) struct Keeper {
    caller: Caller,
    /// Once anybody had to be somebody.
    user: OnceLock<Arc<str>>,
}

impl Keeper {
    /// Whoever begins a stream.
    pub(crate) fn new(caller: &Caller) -> Self {
        Self { caller: caller.clone(), user: OnceLock::new() }
    }

    /// On whose behalf a renewal is asked for.
    pub(super) async fn access(
        &self,
        service: &Service,
        deadline: Instant,
    ) -> Result<Access, Rejection> {
        if let Some(user) = self.user.get() {
            // With the rights of whenever they are looked at.
            return Ok(Access::User { name: user.as_ref().into(), revision: u64::MAX });
        }
        let access = service.access_of(&self.caller, deadline).await?;
        if let Access::User { name, .. } = &access {
            // Another renewal of this stream may have been first, with the same answer.
            let _ = self.user.set(name.as_ref().into());
        }
        Ok(access)
    }
}
