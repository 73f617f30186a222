//! The JSON gateway: a gRPC method as `POST` of a JSON object, in etcd 3.5's form. It translates
//! and nothing else: the message takes the same way through the server as one that came by gRPC.

use super::json::{from_json, is_beyond_reader, requests_of};
use super::lines::last_line;
use super::{Content, keep_alive, observe, pages, snapshot, watch};
use crate::caller::PeerIdentity;
use crate::errors::{MessageRejection, RecipeRejection, Rejection};
use crate::grpc::frame;
use crate::head::Head;
use crate::method::{Form, Method};
use crate::service::Service;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Every message that a method takes or gives.
mod messages {
    pub(super) use quorate_etcd_api::etcdserverpb::*;
    pub(super) use quorate_etcd_api::v3electionpb::*;
    pub(super) use quorate_etcd_api::v3lockpb::*;
}

/// Answers a request below `/v3/` or its old name `/v3beta/`.
pub(super) async fn respond(
    service: &Service,
    peer: &PeerIdentity,
    head: &Parts,
    body: Bytes,
) -> Response<Content> {
    let Some(method) = method_of(head.uri.path()) else {
        return pages::plain(StatusCode::NOT_FOUND, "Not Found\n").map(Content::Whole);
    };
    if head.method != http::Method::POST {
        return pages::wrong_method(&http::Method::POST).map(Content::Whole);
    }
    match answer(service, method, Head::by_gateway(&head.headers, peer), body).await {
        Ok(content) => success(content),
        Err(error) => refusal(Some(method), &error).map(Content::Whole),
    }
}

async fn answer(
    service: &Service,
    method: Method,
    head: Result<Head, Rejection>,
    body: Bytes,
) -> Result<Content, Rejection> {
    let head = head?;
    match method.form() {
        Form::Unary | Form::LongUnary => {
            let way = Way { service, method, head: &head };
            in_time(head.patience, call(way, body)).await.map(|json| Content::Whole(json.into()))
        }
        Form::ServerStream | Form::Bidi => stream(service, method, &body, &head).await,
    }
}

/// The answer, if it comes as soon as the client would have it.
async fn in_time<T>(
    patience: Option<Duration>,
    answer: impl Future<Output = Result<T, Rejection>>,
) -> Result<T, Rejection> {
    let end_at = patience.and_then(|patience| Instant::now().checked_add(patience));
    let Some(end_at) = end_at else { return answer.await };
    let late = || Err(RecipeRejection::DeadlinePassed.into());
    // A timer is too coarse for the shortest, and what is over already is not begun.
    if Instant::now() >= end_at {
        return late();
    }
    tokio::time::timeout_at(end_at, answer).await.unwrap_or_else(|_| late())
}

/// Which method has this path.
pub(super) fn method_of(path: &str) -> Option<Method> {
    Method::from_gateway_path(path)
}

/// Where a message goes, and what its request says besides.
struct Way<'a> {
    service: &'a Service,
    method: Method,
    head: &'a Head,
}

/// Begins the answer of a method that has many messages.
async fn stream(
    service: &Service,
    method: Method,
    body: &[u8],
    head: &Head,
) -> Result<Content, Rejection> {
    is_asked(method, body)?;
    service.may_stream(method, head.requires_leader)?;
    let place = service.take_stream()?;
    if method == Method::Snapshot {
        let pieces = begun(snapshot::begin(service, &head.caller)?).await?;
        return Ok(Content::Pieces(holding(place, pieces)));
    }
    let lines = |lines| Content::Lines(holding(place, lines));
    if method == Method::Watch {
        return begun(watch::begin(service, body, head)?).await.map(lines);
    }
    if method == Method::LeaseKeepAlive {
        return keep_alive::respond(service, body, &head.caller).await.map(Content::Whole);
    }
    if method == Method::Observe {
        return begun(observe::begin(service, body, head).await?).await.map(lines);
    }
    Err(Rejection::not_served(method))
}

/// Whether the body begins with a request of this method. As in etcd, what is none is refused before
/// it is asked whether the method is served.
fn is_asked(method: Method, body: &[u8]) -> Result<(), Rejection> {
    fn first<Q: DeserializeOwned + Default>(body: &[u8]) -> Result<(), Rejection> {
        let first = requests_of::<Q>(body).next().transpose();
        first.map(drop).map_err(Rejection::JsonStreamMalformed)
    }
    fn only<Q: DeserializeOwned + Default>(body: &[u8]) -> Result<(), Rejection> {
        from_json::<Q>(body).map(drop).map_err(Rejection::JsonMalformed)
    }
    if method == Method::Watch {
        return first::<messages::WatchRequest>(body);
    }
    if method == Method::LeaseKeepAlive {
        return first::<messages::LeaseKeepAliveRequest>(body);
    }
    if method == Method::Observe {
        return only::<messages::LeaderRequest>(body);
    }
    only::<messages::SnapshotRequest>(body)
}

/// The same lines once there is one, or why there is none: until then the answer has no status.
async fn begun(
    mut lines: BoxStream<'static, Result<Bytes, Rejection>>,
) -> Result<BoxStream<'static, Bytes>, Rejection> {
    let first = lines.next().await.transpose()?;
    let rest = lines.map(|line| line.unwrap_or_else(|rejection| last_line(&rejection)));
    Ok(Box::pin(futures_util::stream::iter(first).chain(rest)))
}

/// The same lines; the place is theirs for as long as there may be more.
fn holding(
    place: OwnedSemaphorePermit,
    lines: BoxStream<'static, Bytes>,
) -> BoxStream<'static, Bytes> {
    Box::pin(futures_util::stream::unfold((place, lines), async |(place, mut lines)| {
        let line = lines.next().await?;
        Some((line, (place, lines)))
    }))
}

/// The answer to a request of this method that says why there is none. As in etcd, a stream that was
/// asked for properly is refused in the form of its last line.
pub(super) fn refusal(method: Option<Method>, why: &Rejection) -> Response<Bytes> {
    let is_stream =
        method.is_some_and(|method| matches!(method.form(), Form::ServerStream | Form::Bidi));
    let is_improper = matches!(
        why,
        Rejection::JsonMalformed(_)
            | Rejection::JsonStreamMalformed(_)
            | Rejection::TimeoutMalformed { .. }
    );
    let mut response = rejection(why);
    if is_stream && !is_improper {
        let line = last_line(why);
        *response.body_mut() = line.slice_ref(line.trim_ascii_end());
    }
    response
}

/// The answer that says why there is none.
pub(super) fn rejection(rejection: &Rejection) -> Response<Bytes> {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        code: u8,
        message: &'a str,
    }
    let (code, text) = rejection.status();
    let body = Body { error: &text, code: code.number(), message: &text };
    // Two strings and a number always have a JSON form.
    let mut response = Response::new(serde_json::to_vec(&body).unwrap_or_default().into());
    *response.status_mut() = code.http_status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer that holds this.
fn success<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// Carries out a method of one message each way.
async fn call(way: Way<'_>, json: Bytes) -> Result<Vec<u8>, Rejection> {
    macro_rules! translate {
        ($request:ident, $response:ident) => {
            translate::<messages::$request, messages::$response>(way, json).await
        };
    }
    match way.method {
        Method::Range => translate!(RangeRequest, RangeResponse),
        Method::Put => translate!(PutRequest, PutResponse),
        Method::DeleteRange => translate!(DeleteRangeRequest, DeleteRangeResponse),
        Method::Txn => translate!(TxnRequest, TxnResponse),
        Method::Compact => translate!(CompactionRequest, CompactionResponse),
        Method::Status => translate!(StatusRequest, StatusResponse),
        Method::Alarm => translate!(AlarmRequest, AlarmResponse),
        Method::Defragment => translate!(DefragmentRequest, DefragmentResponse),
        Method::Hash => translate!(HashRequest, HashResponse),
        Method::HashKv => translate!(HashKvRequest, HashKvResponse),
        Method::MoveLeader => translate!(MoveLeaderRequest, MoveLeaderResponse),
        Method::Downgrade => translate!(DowngradeRequest, DowngradeResponse),
        Method::MemberList => translate!(MemberListRequest, MemberListResponse),
        Method::MemberAdd => translate!(MemberAddRequest, MemberAddResponse),
        Method::MemberRemove => translate!(MemberRemoveRequest, MemberRemoveResponse),
        Method::MemberUpdate => translate!(MemberUpdateRequest, MemberUpdateResponse),
        Method::MemberPromote => translate!(MemberPromoteRequest, MemberPromoteResponse),
        Method::LeaseGrant => translate!(LeaseGrantRequest, LeaseGrantResponse),
        Method::LeaseRevoke => translate!(LeaseRevokeRequest, LeaseRevokeResponse),
        Method::LeaseTimeToLive => translate!(LeaseTimeToLiveRequest, LeaseTimeToLiveResponse),
        Method::LeaseLeases => translate!(LeaseLeasesRequest, LeaseLeasesResponse),
        Method::Authenticate => translate!(AuthenticateRequest, AuthenticateResponse),
        Method::AuthEnable => translate!(AuthEnableRequest, AuthEnableResponse),
        Method::AuthDisable => translate!(AuthDisableRequest, AuthDisableResponse),
        Method::AuthStatus => translate!(AuthStatusRequest, AuthStatusResponse),
        Method::UserAdd => translate!(AuthUserAddRequest, AuthUserAddResponse),
        Method::UserGet => translate!(AuthUserGetRequest, AuthUserGetResponse),
        Method::UserList => translate!(AuthUserListRequest, AuthUserListResponse),
        Method::UserDelete => translate!(AuthUserDeleteRequest, AuthUserDeleteResponse),
        Method::UserChangePassword => {
            translate!(AuthUserChangePasswordRequest, AuthUserChangePasswordResponse)
        }
        Method::UserGrantRole => translate!(AuthUserGrantRoleRequest, AuthUserGrantRoleResponse),
        Method::UserRevokeRole => translate!(AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse),
        Method::RoleAdd => translate!(AuthRoleAddRequest, AuthRoleAddResponse),
        Method::RoleGet => translate!(AuthRoleGetRequest, AuthRoleGetResponse),
        Method::RoleList => translate!(AuthRoleListRequest, AuthRoleListResponse),
        Method::RoleDelete => translate!(AuthRoleDeleteRequest, AuthRoleDeleteResponse),
        Method::RoleGrantPermission => {
            translate!(AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse)
        }
        Method::RoleRevokePermission => {
            translate!(AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse)
        }
        Method::Lock => translate!(LockRequest, LockResponse),
        Method::Unlock => translate!(UnlockRequest, UnlockResponse),
        Method::Campaign => translate!(CampaignRequest, CampaignResponse),
        Method::Proclaim => translate!(ProclaimRequest, ProclaimResponse),
        Method::Leader => translate!(LeaderRequest, LeaderResponse),
        Method::Resign => translate!(ResignRequest, ResignResponse),
        // These have no gateway path, or are streams: nobody gets here.
        Method::Explain
        | Method::HealthCheck
        | Method::HealthWatch
        | Method::Reflection
        | Method::ReflectionAlpha
        | Method::RangeStream
        | Method::Watch
        | Method::LeaseKeepAlive
        | Method::Snapshot
        | Method::Observe => Err(Rejection::not_served(way.method)),
    }
}

async fn translate<Q, A>(way: Way<'_>, json: Bytes) -> Result<Vec<u8>, Rejection>
where
    Q: Message + DeserializeOwned + Default,
    A: Message + Serialize + Default,
{
    let Way { service, method, head } = way;
    if head.requires_leader && !service.has_leader() {
        return Err(Rejection::NoLeader);
    }
    let request: Q = from_json(&json).map_err(|error| {
        if method == Method::Txn && is_beyond_reader(&json) {
            MessageRejection::TxnTooDeep.into()
        } else {
            Rejection::JsonMalformed(error)
        }
    })?;
    let message: Bytes = request.encode_to_vec().into();
    // The answer may be long in coming.
    drop((json, request));
    let limit = service.options().message_bytes_max();
    if message.len() > limit {
        return Err(Rejection::MessageTooLarge { size: message.len(), limit });
    }
    // The client's own is kept by whoever called this.
    let deadline = service.deadline(method, None);
    let Head { caller, requires_leader, .. } = head;
    let answer = if method.form() == Form::LongUnary {
        Box::pin(service.call_long(method, message, deadline, caller, *requires_leader)).await?
    } else {
        service.call(method, message, deadline, caller).await?
    };
    let answer = A::decode(frame::message_of(answer)).map_err(|_| Rejection::Internal)?;
    serde_json::to_vec(&answer).map_err(|_| Rejection::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_has_etcd_3_5s_body_and_the_gateways_status() {
        let response = rejection(&Rejection::Op(quorate_kv::OpError::Compacted));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            response.body(),
            r#"{"error":"etcdserver: mvcc: required revision has been compacted","code":11,"message":"etcdserver: mvcc: required revision has been compacted"}"#
        );
    }
}
