//! What is served over plain HTTP: which path gets which answer, whatever version of HTTP brought
//! it. Must not know sockets.

mod content;
mod gateway;
mod keep_alive;
mod lines;
mod observe;
mod pages;
mod snapshot;
mod watch;

pub(crate) use content::Content;

pub(crate) use gateway::{from_json, requests_of};

use crate::caller::PeerIdentity;
use crate::listener::Serves;
use crate::service::Service;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    HeaderValue,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

/// How large a gateway body may be: base64 makes bytes a third larger, and escapes and names take
/// some more.
pub(crate) const fn body_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max * 2
}

/// The answer to one request, where `serves` is served.
pub(crate) async fn respond(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    head: &Parts,
    body: Bytes,
) -> Response<Content> {
    let mut response = route(service, peer, serves, head, body).await;
    // Browsers ask other origins' servers only if these allow it; etcd allows everybody.
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The answer to a gateway request whose body is too large to be read.
pub(crate) fn refuse_body(size: usize, limit: usize) -> Response<Bytes> {
    gateway::rejection(&crate::errors::Rejection::MessageTooLarge { size, limit })
}

async fn route(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    head: &Parts,
    body: Bytes,
) -> Response<Content> {
    if head.method == Method::OPTIONS {
        return Response::new(Content::Whole(Bytes::new()));
    }
    let path = head.uri.path();
    if !serves.has_page(path) {
        return pages::not_found().map(Content::Whole);
    }
    if path.starts_with("/v3/") || path.starts_with("/v3beta/") {
        return gateway::respond(service, peer, head, body).await;
    }
    page(service, head).await.map(Content::Whole)
}

async fn page(service: &Service, head: &Parts) -> Response<Bytes> {
    let path = head.uri.path();
    let is_page = matches!(path, "/health" | "/version" | "/metrics");
    if is_page && head.method != Method::GET {
        return pages::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    match path {
        "/health" => pages::health(service, head.uri.query().unwrap_or_default()).await,
        "/version" => pages::version(),
        "/metrics" => pages::metrics(service),
        _ => pages::not_found(),
    }
}
