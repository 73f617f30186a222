//! The four commands about leases. Everything here is decided by the command, its place in the log
//! and the state, the same on every replica; no clock.

use super::api::{
    LeaseExpireRequest, LeaseExpireResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseRenewRequest, LeaseRenewResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};
use super::bonds;
use super::table::{Lease, TTL_SECONDS_MAX};
use crate::engine::EngineError;
use crate::error::{OpError, ReadError};
use crate::meta::Progress;
use crate::range::header;
use crate::view::View;
use crate::writer::Writer;
use quorate::core::LogIndex;

/// Makes a lease. `at` is the command's place in the log.
///
/// # Errors
///
/// [`OpError::LeaseExists`] if the id is taken; [`OpError::MalformedCommand`] if it is 0 or the time
/// to live is none: whoever proposed that did not look at it.
pub(crate) fn grant(
    view: &mut View,
    at: LogIndex,
    request: LeaseGrantRequest,
) -> Result<LeaseGrantResponse, OpError> {
    let LeaseGrantRequest { ttl, id } = request;
    if id == 0 || !(1..=TTL_SECONDS_MAX).contains(&ttl) {
        return Err(OpError::MalformedCommand);
    }
    if view.leases.get(id).is_some() {
        return Err(OpError::LeaseExists);
    }
    keep(view, id, Lease { ttl, renewed_at: at });
    let header = Some(header(view.revision));
    Ok(LeaseGrantResponse { header, id, ttl, error: String::new() })
}

/// Ends a lease and deletes its keys, all at one revision.
///
/// # Errors
///
/// [`OpError::LeaseNotFound`] if there is none.
pub(crate) fn revoke(
    view: &mut View,
    progress: &mut Progress,
    request: LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse, ReadError> {
    if view.leases.get(request.id).is_none() {
        return Err(OpError::LeaseNotFound.into());
    }
    end(view, progress, request.id)?;
    Ok(LeaseRevokeResponse { header: Some(header(view.revision)) })
}

/// Renews leases. `at` is the command's place in the log.
pub(crate) fn renew(
    view: &mut View,
    at: LogIndex,
    request: &LeaseRenewRequest,
) -> LeaseRenewResponse {
    let mut ttls = Vec::with_capacity(request.ids.len());
    for id in &request.ids {
        let lease = view.leases.get(*id);
        ttls.push(lease.map_or(0, |lease| lease.ttl));
        if let Some(lease) = lease {
            keep(view, *id, Lease { renewed_at: at, ..lease });
        }
    }
    LeaseRenewResponse { header: Some(header(view.revision)), ttls }
}

/// Ends those of the leases that nobody has renewed since somebody found their time up.
pub(crate) fn expire(
    view: &mut View,
    progress: &mut Progress,
    request: &LeaseExpireRequest,
) -> Result<LeaseExpireResponse, EngineError> {
    let mut expired = 0;
    for overdue in &request.leases {
        let lease = view.leases.get(overdue.id);
        if lease.is_some_and(|lease| lease.renewed_at.get() == overdue.renewed_at) {
            end(view, progress, overdue.id)?;
            expired += 1;
        }
    }
    Ok(LeaseExpireResponse { header: Some(header(view.revision)), expired })
}

fn keep(view: &mut View, id: i64, lease: Lease) {
    view.active.keep_lease(id, Some(lease));
    view.leases.insert(id, lease);
}

fn end(view: &mut View, progress: &mut Progress, id: i64) -> Result<(), EngineError> {
    let keys = bonds::keys_of(view, id)?;
    let mut writer = Writer::new(view);
    for key in keys {
        writer.delete(key, id);
    }
    writer.finish(progress);
    view.revision = progress.revision;
    view.active.keep_lease(id, None);
    view.leases.remove(id);
    Ok(())
}
