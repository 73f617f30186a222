//! The JSON gateway's watch: the requests of a body, then a line of JSON for each response for as
//! long as the client listens, in etcd's form. Must not know what a watch is.

use super::gateway;
use crate::errors::Rejection;
use crate::service::{Service, WatchSession};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use serde::Serialize;
use serde_json::Value;

/// Whether this is the gateway's path of watches.
pub(super) fn is_at(path: &str) -> bool {
    matches!(path, "/v3/watch" | "/v3beta/watch")
}

/// A line that holds a response.
#[derive(Serialize)]
struct Line {
    result: pb::WatchResponse,
}

/// The last line, if the stream ends because the server has to end it.
#[derive(Serialize)]
struct LastLine<'a> {
    error: Failure<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    grpc_code: u8,
    http_code: u16,
    message: &'a str,
    http_status: &'a str,
}

/// Begins a stream with the requests of this body: JSON objects, one after the other.
pub(super) fn begin(
    service: &Service,
    body: &[u8],
) -> Result<BoxStream<'static, Bytes>, Rejection> {
    if service.is_learner() {
        return Err(Rejection::Learner);
    }
    let mut session = service.watch_session(false);
    let requests = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    for (place, request) in requests.enumerate() {
        match request.and_then(gateway::from_value::<pb::WatchRequest>) {
            Ok(request) => session.request(request.encode_to_vec().into())?,
            Err(error) if place == 0 => return Err(Rejection::JsonMalformed(error)),
            // As in etcd, what was asked for before is answered.
            Err(_) => break,
        }
    }
    Ok(Box::pin(stream::unfold(Some(session), next_line)))
}

async fn next_line(session: Option<WatchSession>) -> Option<(Bytes, Option<WatchSession>)> {
    let mut session = session?;
    let line = match session.next(true).await {
        Ok(response) => pb::WatchResponse::decode(&*response.encode_to_vec())
            .map_err(|_| Rejection::Internal)
            .map(|result| line_of(&Line { result })),
        Err(rejection) => Err(rejection),
    };
    match line {
        Ok(line) => Some((line, Some(session))),
        Err(rejection) => Some((last_line(&rejection), None)),
    }
}

fn line_of(line: &impl Serialize) -> Bytes {
    // Such values always have a JSON form.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn last_line(rejection: &Rejection) -> Bytes {
    let (code, message) = rejection.status();
    let status = code.http_status();
    line_of(&LastLine {
        error: Failure {
            grpc_code: code.number(),
            http_code: status.as_u16(),
            message: &message,
            http_status: status.canonical_reason().unwrap_or_default(),
        },
    })
}
