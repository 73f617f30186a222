//! The JSON gateway: a gRPC method as `POST` of a JSON object, in etcd 3.5's form. It translates
//! and nothing else: the message takes the same way through the server as one that came by gRPC.

use super::{Content, keep_alive, observe, pages, snapshot, watch};
use crate::caller::PeerIdentity;
use crate::errors::Rejection;
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
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

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
    let head = Head::by_gateway(&head.headers, peer);
    let outcome = match method.form() {
        Form::Unary | Form::LongUnary => {
            let way = Way { service, method, head: &head };
            call(way, body).await.map(|json| Content::Whole(json.into()))
        }
        Form::ServerStream | Form::Bidi => stream(service, method, &body, &head).await,
    };
    match outcome {
        Ok(content) => success(content),
        Err(error) => rejection(&error).map(Content::Whole),
    }
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
    service.may_stream(method, head.requires_leader)?;
    let place = service.take_stream()?;
    if method == Method::Snapshot {
        let pieces = snapshot::begin(service, &head.caller)?;
        return Ok(Content::Pieces(holding(place, pieces)));
    }
    let lines = |lines| Content::Lines(holding(place, lines));
    if method == Method::Watch {
        return watch::begin(service, body, head).map(lines);
    }
    if method == Method::LeaseKeepAlive {
        return keep_alive::respond(service, body, &head.caller).await.map(Content::Whole);
    }
    if method == Method::Observe {
        return observe::begin(service, body, head).await.map(lines);
    }
    Err(Rejection::not_served(method))
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
    let request: Q = from_json(&json).map_err(Rejection::JsonMalformed)?;
    let message: Bytes = request.encode_to_vec().into();
    // The answer may be long in coming.
    drop((json, request));
    let limit = service.options().message_bytes_max();
    if message.len() > limit {
        return Err(Rejection::MessageTooLarge { size: message.len(), limit });
    }
    let deadline = service.deadline(method, head.patience);
    let Head { caller, requires_leader, .. } = head;
    let answer = if method.form() == Form::LongUnary {
        Box::pin(service.call_long(method, message, deadline, caller, *requires_leader)).await?
    } else {
        service.call(method, message, deadline, caller).await?
    };
    let answer = A::decode(frame::message_of(answer)).map_err(|_| Rejection::Internal)?;
    serde_json::to_vec(&answer).map_err(|_| Rejection::Internal)
}

/// Reads a message; no body at all is an empty message.
pub(crate) fn from_json<Q: DeserializeOwned + Default>(
    json: &[u8],
) -> Result<Q, serde_json::Error> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Q::default());
    }
    serde_json::from_slice(json).or_else(|error| {
        // `null` stands for a field's zero value, and for an empty message, which our generated code
        // does not know.
        let value: Value = serde_json::from_slice(json).map_err(|_| error)?;
        if value.is_null() { Ok(Q::default()) } else { from_value(value) }
    })
}

/// The requests of a stream's body: JSON objects, one after the other. What follows one that is none
/// means nothing.
pub(crate) fn requests_of<Q: DeserializeOwned>(
    body: &[u8],
) -> impl Iterator<Item = Result<Q, serde_json::Error>> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    values.map(|value| value.and_then(from_value))
}

/// Reads a message from JSON that was parsed.
fn from_value<Q: DeserializeOwned>(value: Value) -> Result<Q, serde_json::Error> {
    serde_json::from_value(without_nulls(value))
}

/// The same without the fields that are `null`. The parser bounds how deep it goes.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_etcd_api::etcdserverpb as pb;

    #[test]
    fn null_and_nothing_stand_for_the_zero_value() {
        let fields = &br#"{"key":null,"limit":null,"serializable":null}"#[..];
        for json in [fields, b"", b" \n", b"{}", b"null", b" null "] {
            assert_eq!(from_json::<pb::RangeRequest>(json).unwrap(), pb::RangeRequest::default());
        }
        let json = br#"{"success":[{"request_range":{"key":"YQ==","range_end":null}}]}"#;
        let txn: pb::TxnRequest = from_json(json).unwrap();
        assert_eq!(txn.success.len(), 1);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for json in ["{", "[]", "nul", "7", r#"{"key":"!!"}"#, r#"{"key":7}"#, r#"{"limit":"x"}"#] {
            assert!(from_json::<pb::RangeRequest>(json.as_bytes()).is_err(), "{json}");
        }
        let deep = "[".repeat(100_000);
        assert!(from_json::<pb::RangeRequest>(deep.as_bytes()).is_err());
    }

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
