//! What comes by gRPC before a method is carried out: paths, deadlines, the frames of a stream and
//! the messages in them. HTTP/2 itself is `h2`'s, and not tried here.

use crate::caller::{Caller, PeerIdentity};
use crate::errors::Rejection;
use crate::grpc::coding::Coding;
use crate::grpc::frame::{HEAD_BYTES, Inbox};
use crate::grpc::headers;
use crate::head::Head;
use crate::method::Method;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_kv::watch::WatchRequest;
use std::fmt::Debug;
use std::time::Duration;

const MESSAGE_BYTES_MAX: usize = 300;

/// The head of a request, or the body of a stream.
pub(super) fn grpc_request(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => check_path(&String::from_utf8_lossy(rest)),
        1 => check_headers(rest),
        2 => check_text(&String::from_utf8_lossy(rest)),
        _ => check_stream(rest),
    }
}

fn check_path(path: &str) {
    if let Some(method) = Method::from_grpc_path(path) {
        assert_eq!(path, format!("/{}/{}", method.service(), method.name()));
    }
    if let Some(method) = Method::from_gateway_path(path) {
        let is_its = |own: &&str| path == format!("/v3/{own}") || path == format!("/v3beta/{own}");
        assert!(method.gateway_paths().iter().any(is_its), "one of its own");
    }
    assert!(headers::method_name(path).len() <= 128, "only so much is repeated");
}

fn check_headers(value: &[u8]) {
    const TIMEOUT_MAX: Duration = Duration::from_hours(99_999_999);
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let mut map = HeaderMap::new();
    map.insert("grpc-timeout", value.clone());
    map.insert("hasleader", value.clone());
    map.insert(http::header::CONTENT_TYPE, value.clone());
    check_caller(&mut map, value);
    let _ = headers::is_grpc(&map);
    let head = Head::by_grpc(&map, &PeerIdentity::default());
    assert!(head.patience.unwrap_or_default() <= TIMEOUT_MAX, "eight digits of hours at most");
}

/// A token is a part of what was sent, and who sends something has one, of whatever worth.
fn check_caller(map: &mut HeaderMap, value: HeaderValue) {
    let peer = PeerIdentity { common_name: Some("root".into()), is_secure: true };
    assert_eq!(Caller::by_grpc(map, &peer).token(), None, "nothing else is a token");
    let sent = value.clone();
    map.insert("token", value.clone());
    map.insert("grpc-metadata-token", value);
    for caller in [Caller::by_grpc(map, &peer), Caller::by_gateway(map, &peer)] {
        let Some(token) = caller.token() else { panic!("who sends something has a token") };
        assert!(sent.as_bytes().ends_with(token.as_bytes()), "it was sent");
        assert!(token.len() <= 8 << 10, "it is not too long");
        assert_eq!(caller.common_name().is_none(), caller.is_gateway(), "gRPC alone has names");
    }
    assert!(
        Caller::by_gateway(map, &peer).is_gateway() && !Caller::by_grpc(map, &peer).is_gateway()
    );
}

/// What we say to a client in a header can stand in one, and says what was meant.
fn check_text(text: &str) {
    let encoded = headers::percent_encoded(text);
    assert!(HeaderValue::from_str(&encoded).is_ok(), "it can stand in a header");
    let mut decoded = Vec::new();
    let mut parts = encoded.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or_default();
        decoded.extend(u8::from_str_radix(code, 16));
        decoded.extend_from_slice(rest.as_bytes());
    }
    assert_eq!(decoded, text.as_bytes());
}

/// However a stream is cut into pieces, its messages are the same, and none is too large.
fn check_stream(data: &[u8]) {
    let first = data.first().copied().unwrap_or_default();
    let coding = if first & 0x80 == 0 { Coding::Gzip } else { Coding::Identity };
    let (whole, at_once) = messages(coding, [data]);
    let (pieces, one_by_one) = messages(coding, data.chunks(usize::from(first % 9) + 1));
    assert_eq!((&pieces, one_by_one), (&whole, at_once), "pieces do not matter");
    for message in whole {
        assert!(message.len() <= MESSAGE_BYTES_MAX, "none is too large");
        survives::<WatchRequest>(&message);
        survives::<pb::LeaseKeepAliveRequest>(&message);
    }
}

/// The messages of a stream, and whether it is still one.
fn messages<'a>(coding: Coding, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let mut inbox = Inbox::new(MESSAGE_BYTES_MAX, coding);
    let mut messages = Vec::new();
    for piece in pieces {
        inbox.put(piece);
        loop {
            match inbox.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(rejection) => {
                    let is_about_size = matches!(rejection, Rejection::MessageTooLarge { size, limit } if size > limit);
                    assert!(is_about_size || matches!(rejection, Rejection::Message(_)));
                    return (messages, false);
                }
            }
        }
    }
    let is_over = inbox.is_empty();
    inbox.put(&[0; HEAD_BYTES]);
    let next = inbox.take().map(|message| message.map(|message| message.len()));
    assert!(!is_over || matches!(next, Ok(Some(0))), "a stream can go on");
    (messages, true)
}

fn survives<M: Message + Default + PartialEq + Debug>(message: &Bytes) {
    if let Ok(read) = M::decode(message.clone()) {
        assert_eq!(M::decode(read.encode_to_vec().as_slice()).as_ref(), Ok(&read));
    }
}
