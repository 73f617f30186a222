//! Who asks, as far as the connection and the request say: a token, the name in a certificate. Must
//! not know whom a token stands for, or what anybody may do.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

/// The metadata that etcd's clients put their token into.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// The same, as the gateway's clients can send it: the gateway hands on what begins so.
const GATEWAY_TOKEN: HeaderName = HeaderName::from_static("grpc-metadata-token");

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Who is at the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct PeerIdentity {
    /// The common name of the certificate that was checked, if there was one.
    pub(crate) common_name: Option<Arc<str>>,
    /// Whether nobody else hears what is said.
    pub(crate) is_secure: bool,
}

/// Who asks for something. Without `Debug`, so that no token gets into a log.
#[derive(Clone)]
pub(crate) struct Caller {
    token: Option<Box<str>>,
    common_name: Option<Arc<str>>,
    is_gateway: bool,
}

impl Caller {
    /// Who sent a gRPC request with these headers.
    pub(crate) fn by_grpc(headers: &HeaderMap, peer: &PeerIdentity) -> Self {
        Self::new(headers, &TOKEN, peer, false)
    }

    /// Who sent a gateway request with these headers.
    pub(crate) fn by_gateway(headers: &HeaderMap, peer: &PeerIdentity) -> Self {
        Self::new(headers, &GATEWAY_TOKEN, peer, true)
    }

    fn new(headers: &HeaderMap, name: &HeaderName, peer: &PeerIdentity, is_gateway: bool) -> Self {
        // As in etcd: the second is for JSON's clients, and works for all.
        let value = headers.get(name).or_else(|| headers.get(AUTHORIZATION));
        // As in etcd, where the gateway is a client with a certificate of its own.
        let common_name = peer.common_name.clone().filter(|_| !is_gateway);
        Self { token: value.map(|value| token_of(value).into()), common_name, is_gateway }
    }

    /// The token that came with the request. It may be anybody's, or nobody's; empty means that what
    /// came cannot be one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The name in the connection's certificate, if it is that of whoever asks: not by the gateway.
    pub(crate) fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Whether the request came by the gateway.
    pub(crate) const fn is_gateway(&self) -> bool {
        self.is_gateway
    }
}

/// What cannot be a token is one that nobody has: whoever sent it did not mean to come without one.
fn token_of(value: &HeaderValue) -> &str {
    let text = value.to_str().unwrap_or_default();
    let token = text.strip_prefix("Bearer ").unwrap_or(text);
    if token.len() > TOKEN_BYTES_MAX { "" } else { token }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        pairs.collect()
    }

    fn by_grpc(pairs: &[(&'static str, &str)]) -> Option<String> {
        let caller = Caller::by_grpc(&headers(pairs), &PeerIdentity::default());
        assert!(!caller.is_gateway());
        caller.token().map(str::to_owned)
    }

    fn by_gateway(pairs: &[(&'static str, &str)]) -> Option<String> {
        let caller = Caller::by_gateway(&headers(pairs), &PeerIdentity::default());
        assert!(caller.is_gateway());
        caller.token().map(str::to_owned)
    }

    #[test]
    fn a_token_is_found_where_etcds_clients_put_it() {
        let found = Some("a.7".to_owned());
        assert_eq!(by_grpc(&[("token", "a.7")]), found);
        assert_eq!(by_grpc(&[("authorization", "a.7")]), found);
        assert_eq!(by_grpc(&[("authorization", "b.8"), ("token", "a.7")]), found);
        assert_eq!(by_gateway(&[("authorization", "a.7")]), found);
        assert_eq!(by_gateway(&[("authorization", "Bearer a.7")]), found);
        assert_eq!(by_gateway(&[("authorization", "b.8"), ("grpc-metadata-token", "a.7")]), found);
    }

    #[test]
    fn who_sends_no_token_has_none() {
        assert_eq!(by_grpc(&[]), None);
        assert_eq!(by_grpc(&[("grpc-metadata-token", "a.7")]), None);
        assert_eq!(by_gateway(&[("token", "a.7")]), None);
    }

    #[test]
    fn what_cannot_be_a_token_is_nobodys_and_not_none() {
        let largest = "x".repeat(TOKEN_BYTES_MAX);
        assert_eq!(by_grpc(&[("token", &largest)]), Some(largest.clone()));
        for wrong in ["", "ä", &format!("{largest}x")] {
            assert_eq!(by_grpc(&[("token", wrong)]), Some(String::new()));
        }
    }

    #[test]
    fn the_name_in_a_certificate_is_the_connections() {
        let peer = PeerIdentity { common_name: Some("root".into()), ..PeerIdentity::default() };
        let caller = Caller::by_grpc(&headers(&[("token", "a.7")]), &peer);
        assert_eq!((caller.common_name(), caller.token()), (Some("root"), Some("a.7")));
        assert_eq!(Caller::by_gateway(&headers(&[]), &peer).common_name(), None);
    }
}
