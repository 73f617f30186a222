//! The plain pages beside the gateway: health, version, metrics, and the words for what is not
//! there. Must not know how a page is reached.

use crate::service::{Health, Service};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A page of plain words.
pub(super) fn not_found() -> Response<Bytes> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Words that are always the same.
pub(super) fn plain(status: StatusCode, words: &'static str) -> Response<Bytes> {
    text(status, Bytes::from_static(words.as_bytes()))
}

/// What is said to who asks in another way than this.
pub(super) fn wrong_method(right: &Method) -> Response<Bytes> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    if let Ok(right) = HeaderValue::from_str(right.as_str()) {
        response.headers_mut().insert(ALLOW, right);
    }
    response
}

/// Words of this moment.
pub(super) fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(words.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether this member can serve. With `serializable=true` in the query a leader is not needed, and
/// `exclude=NOSPACE` lets that alarm be.
pub(super) async fn health(service: &Service, query: &str) -> Response<Bytes> {
    let serializable = query.split('&').any(|part| part == "serializable=true");
    let is_excluded =
        |alarm: &str| query.split('&').any(|part| part.strip_prefix("exclude=") == Some(alarm));
    let found = service.health(serializable, is_excluded).await;
    service.metrics().health_checked(matches!(found, Health::Healthy));
    match found {
        Health::Healthy => {
            let reason = service.damage().unwrap_or_default();
            let body = format!(r#"{{"health":"true","reason":"{reason}"}}"#);
            let mut response = Response::new(body.into());
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            response
        }
        // With the end of a line, as in etcd, which says it as it says every error.
        Health::Unhealthy { reason } => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
        ),
    }
}

/// The etcd versions that this server and its cluster stand in for. Clients parse them as plain
/// numbers, so that our own version has no place here.
pub(super) fn version() -> Response<Bytes> {
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}}"#,
        crate::ETCD_VERSION,
        crate::ETCD_CLUSTER_VERSION,
        crate::ETCD_CLUSTER_VERSION
    );
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The metrics in Prometheus' text format.
pub(super) fn metrics(service: &Service) -> Response<Bytes> {
    let mut response = Response::new(service.metrics().render(&service.figures()).into());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
