//! How a page's request becomes a WebSocket (RFC 6455), as etcd's gateway lets it: who may, and what is
//! answered. Must not know what is said over it.

use super::pages;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use sha1::{Digest, Sha1};

/// What a server proves with that it means WebSocket (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version that there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// How long a key is that a client asks with.
const KEY_BYTES: usize = 16;

/// How a page in a browser, which can set no header, says a token: as a subprotocol.
const BEARER: &str = "Bearer";

/// Where such a page may have its token, too.
const TOKEN_COOKIE: &str = "token";

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked(head: &Parts) -> bool {
    let has = |name: HeaderName, word: &str| {
        let values = head.headers.get_all(name).into_iter();
        values
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// The answer to such a request: from now on it is one, or it is none.
pub(super) fn answer(head: &Parts) -> Response<Bytes> {
    if head.method != Method::GET {
        return pages::wrong_method(&Method::GET);
    }
    let key = head.headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_key = STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    if head.headers.get(SEC_WEBSOCKET_VERSION) != Some(&VERSION) || !is_key {
        let mut refusal = pages::plain(StatusCode::BAD_REQUEST, "Bad Request\n");
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, VERSION);
        return refusal;
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, proof(key));
    if protocol(&head.headers).starts_with(BEARER) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    response
}

fn proof(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    // Base64 is always a header's value.
    HeaderValue::try_from(STANDARD.encode(digest)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn protocol(headers: &HeaderMap) -> &str {
    headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The headers as a client would have sent them that can set any.
pub(super) fn headers_of(head: &Parts) -> HeaderMap {
    let mut headers = head.headers.clone();
    let spoken =
        protocol(&head.headers).strip_prefix(BEARER).and_then(|rest| rest.strip_prefix(','));
    for token in [spoken, cookie(&head.headers)].into_iter().flatten() {
        if let Ok(mut value) = HeaderValue::try_from(format!("{BEARER} {}", token.trim())) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    headers
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| cookie.trim().strip_prefix(TOKEN_COOKIE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    /// The one of RFC 6455, 1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/v3/watch");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_asks_for_a_websocket_by_two_headers_among_others() {
        let asks = |connection, upgrade| {
            is_asked(&head("GET", &[("connection", connection), ("upgrade", upgrade)]))
        };
        assert!(asks("keep-alive, Upgrade", "WebSocket") && asks("upgrade", "h2c, websocket"));
        assert!(!asks("keep-alive", "websocket") && !asks("upgrade", "h2c"));
        assert!(!is_asked(&head("GET", &[])));
    }

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        let response = answer(&head("GET", &[KEY, ("sec-websocket-version", "13")]));
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers().get("sec-websocket-protocol"), None);
    }

    #[test]
    fn what_is_not_asked_properly_is_refused_with_the_version_that_there_is() {
        let version = ("sec-websocket-version", "13");
        for headers in [
            &[KEY][..],
            &[version],
            &[KEY, ("sec-websocket-version", "8")],
            &[("sec-websocket-key", "c2hvcnQ="), version],
            &[("sec-websocket-key", "!"), version],
        ] {
            let response = answer(&head("GET", headers));
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{headers:?}");
            assert_eq!(response.headers()["sec-websocket-version"], "13");
        }
        let response = answer(&head("POST", &[KEY, version]));
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn a_token_may_be_a_subprotocol_or_a_cookie_and_the_cookie_wins_as_in_etcd() {
        let found = |headers: &[(&str, &str)]| {
            let headers = headers_of(&head("GET", headers));
            headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
        };
        let spoken = ("sec-websocket-protocol", "Bearer, a.7");
        let cookie = ("cookie", "x=y; token=b.8; token2=c");
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("authorization", "d.9")]).as_deref(), Some("d.9"));
        assert_eq!(found(&[spoken]).as_deref(), Some("Bearer a.7"));
        assert_eq!(found(&[cookie]).as_deref(), Some("Bearer b.8"));
        assert_eq!(found(&[spoken, cookie]).as_deref(), Some("Bearer b.8"));
        assert_eq!(found(&[("sec-websocket-protocol", "chat"), ("cookie", "tokens=1")]), None);
        let answered = answer(&head("GET", &[KEY, ("sec-websocket-version", "13"), spoken]));
        assert_eq!(answered.headers()["sec-websocket-protocol"], "Bearer");
    }
}
