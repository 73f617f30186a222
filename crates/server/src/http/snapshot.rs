//! The JSON gateway's backup: a line of JSON for each piece, in etcd's form. Must not know what is in
//! them.

use super::lines::{Line, line_of};
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::service::{Backup, Service};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};

/// Begins a backup.
pub(super) fn begin(
    service: &Service,
    caller: &Caller,
) -> Result<BoxStream<'static, Result<Bytes, Rejection>>, Rejection> {
    Ok(Box::pin(stream::unfold(Some(service.backup(caller)?), next_line)))
}

async fn next_line(backup: Option<Backup>) -> Option<(Result<Bytes, Rejection>, Option<Backup>)> {
    let mut backup = backup?;
    let line = backup.next().await?.map(|result| line_of(&Line { result }));
    let rest = line.is_ok().then_some(backup);
    Some((line, rest))
}
