//! The JSON gateway's backup: a line of JSON for each piece, in etcd's form. Must not know what is in
//! them.

use super::lines::{Line, last_line, line_of};
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::service::{Backup, Service};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};

/// Begins a backup.
pub(super) fn begin(
    service: &Service,
    caller: &Caller,
) -> Result<BoxStream<'static, Bytes>, Rejection> {
    Ok(Box::pin(stream::unfold(Some(service.backup(caller)?), next_line)))
}

async fn next_line(backup: Option<Backup>) -> Option<(Bytes, Option<Backup>)> {
    let mut backup = backup?;
    Some(match backup.next().await? {
        Ok(result) => (line_of(&Line { result }), Some(backup)),
        Err(rejection) => (last_line(&rejection), None),
    })
}
