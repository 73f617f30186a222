//! The JSON gateway's watch: the requests of a body, then a line of JSON for each response for as
//! long as the client listens, in etcd's form. Must not know what a watch is.

use super::json;
use super::lines::{Line, line_of};
use crate::errors::Rejection;
use crate::head::Head;
use crate::service::{Service, WatchSession};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;

/// Begins a stream with the requests of this body: JSON objects, one after the other, of which the first
/// is proper.
pub(super) fn begin(
    service: &Service,
    body: &[u8],
    head: &Head,
) -> Result<BoxStream<'static, Result<Bytes, Rejection>>, Rejection> {
    let mut session = service.watch_session(head.requires_leader, &head.caller);
    // As in etcd, what was asked for before what is no request is answered.
    for request in json::requests_of::<pb::WatchRequest>(body).map_while(Result::ok) {
        session.request(request.encode_to_vec().into())?;
    }
    Ok(Box::pin(stream::unfold(Some(session), next_line)))
}

async fn next_line(
    session: Option<WatchSession>,
) -> Option<(Result<Bytes, Rejection>, Option<WatchSession>)> {
    let mut session = session?;
    let line = match session.next(true).await {
        Ok(response) => pb::WatchResponse::decode(&*response.encode_to_vec())
            .map_err(|_| Rejection::Internal)
            .map(|result| line_of(&Line { result })),
        Err(rejection) => Err(rejection),
    };
    let rest = line.is_ok().then_some(session);
    Some((line, rest))
}
