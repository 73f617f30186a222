//! The JSON gateway's keep-alive: the requests of a body, then a line of JSON for each answer, in
//! etcd's form. Must not know what a renewal does.

use super::json;
use super::lines::{Line, last_line, line_of};
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::service::{Keeper, Service};
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use quorate_etcd_api::etcdserverpb as pb;

/// How many renewals one body may ask for.
const REQUESTS_COUNT_MAX: usize = 1024;

/// Answers the requests of this body: JSON objects, one after the other, of which the first is proper.
/// All are on their way at once; an answer that is none is the last one.
pub(super) async fn respond(
    service: &Service,
    body: &[u8],
    caller: &Caller,
) -> Result<Bytes, Rejection> {
    let keeper = Keeper::new(caller);
    let mut answers = FuturesOrdered::new();
    // As in etcd, what was asked for before what is no request is answered.
    let requests = json::requests_of::<pb::LeaseKeepAliveRequest>(body).map_while(Result::ok);
    for (place, request) in requests.enumerate() {
        if place >= REQUESTS_COUNT_MAX {
            return Err(Rejection::TooManyRequests);
        }
        answers.push_back(service.lease_keep_alive(request, &keeper));
    }
    let mut lines = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(result) => lines.extend_from_slice(&line_of(&Line { result })),
            Err(rejection) if lines.is_empty() => return Err(rejection),
            Err(rejection) => {
                lines.extend_from_slice(&last_line(&rejection));
                break;
            }
        }
    }
    Ok(lines.into())
}
