//! What is served over plain HTTP: which path gets which answer, whatever version of HTTP brought
//! it. Must not know sockets.

mod access;
mod content;
mod gateway;
mod json;
mod keep_alive;
mod lines;
mod observe;
mod pages;
mod probes;
mod snapshot;
mod socket;
mod upgrade;
mod watch;

pub(crate) use content::Content;

pub(crate) use access::misaddressed;
pub(crate) use json::{JsonError, from_json, requests_of};
pub(crate) use probes::asked as probe_asked;
pub(crate) use socket::talk;
pub(crate) use upgrade::is_asked as is_socket_asked;

use crate::caller::PeerIdentity;
use crate::errors::Rejection;
use crate::listener::Serves;
use crate::service::Service;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};

/// How large a gateway body may be: base64 makes bytes a third larger, and escapes and names take
/// some more.
pub(crate) const fn body_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max * 2
}

/// What is said, in etcd's words, to who shows a name and asks where names do not count: they might
/// believe that they are let in by it.
const NAME_IGNORED: &str = "CommonName of client sending a request against gateway will be ignored \
                            and not used as expected\n";

/// The answer to one request, where `serves` is served.
pub(crate) async fn respond(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    head: &Parts,
    body: Bytes,
) -> Response<Content> {
    let options = service.options();
    // Those who measure call a member by whatever address they have.
    if serves != Serves::MetricsOnly
        && let Some(refusal) = access::refused(&options.host_whitelist, peer.is_secure, head)
    {
        return refusal.map(Content::Whole);
    }
    let response = route(service, peer, serves, head, body).await;
    let (answer, content) = response.into_parts();
    let mut response = match content.with_room(service.unread()) {
        Ok(content) => Response::from_parts(answer, content),
        Err(rejection) => {
            gateway::refusal(gateway::method_of(head.uri.path()), &rejection).map(Content::Whole)
        }
    };
    access::tell_browser(&options.cors_origins, &head.headers, response.headers_mut());
    response
}

/// The answer to a request for a WebSocket: `101 Switching Protocols` if there is to be one.
pub(crate) fn open_socket(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    head: &Parts,
) -> Response<Bytes> {
    let options = service.options();
    if let Some(refusal) = access::refused(&options.host_whitelist, peer.is_secure, head) {
        return refusal;
    }
    let path = head.uri.path();
    if !serves.has_page(path) || gateway::method_of(path).is_none() {
        return pages::not_found();
    }
    // The browser would not keep the answers from the page.
    if !access::may_read(&options.cors_origins, &head.headers) {
        return pages::plain(StatusCode::FORBIDDEN, "Forbidden\n");
    }
    if peer.common_name.is_some() && service.asks_for_users() {
        return pages::plain(StatusCode::BAD_REQUEST, NAME_IGNORED);
    }
    upgrade::answer(head)
}

/// The answer to a request whose body is not read.
pub(crate) fn refuse(rejection: &Rejection) -> Response<Bytes> {
    gateway::rejection(rejection)
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
        if peer.common_name.is_some() && service.asks_for_users() {
            return pages::plain(StatusCode::BAD_REQUEST, NAME_IGNORED).map(Content::Whole);
        }
        return gateway::respond(service, peer, head, body).await;
    }
    page(service, head).await.map(Content::Whole)
}

async fn page(service: &Service, head: &Parts) -> Response<Bytes> {
    let path = head.uri.path();
    let probe = probes::asked(path);
    // Metrics are given to whoever asks, however: with HEAD, too, as etcd's library for them does.
    let wants_get = probe.is_some() || matches!(path, "/health" | "/version");
    if wants_get && head.method != Method::GET {
        return pages::wrong_method(&Method::GET);
    }
    let query = head.uri.query().unwrap_or_default();
    if let Some((probe, check)) = probe {
        return probes::respond(service, probe, check, query).await;
    }
    match path {
        "/health" => pages::health(service, query).await,
        "/version" => pages::version(),
        "/metrics" => pages::metrics(service),
        _ => pages::not_found(),
    }
}
