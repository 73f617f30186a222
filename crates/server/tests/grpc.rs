//! The gRPC side of the server: with tonic as an ordinary client, and with bare HTTP/2 for what an
//! ordinary client would not send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{RawAnswer, Server, framed, raw_call};
use futures_util::FutureExt;
use prost::Message;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    CompactionRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use quorate_server::ServerOptions;
use std::io::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

const PUT: &str = "/etcdserverpb.KV/Put";

fn put(key: &'static str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

#[tokio::test]
async fn what_was_put_is_read() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    let answer = kv.put(put("a", "1")).await.unwrap().into_inner();
    let header = answer.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (common::CLUSTER_ID, common::MEMBER_ID));
    assert_eq!(header.revision, 2);
    assert_eq!(header.raft_term, server.node.status().current_term.get());
    for serializable in [false, true] {
        let request = RangeRequest { serializable, ..range("a") };
        let answer = kv.range(request).await.unwrap().into_inner();
        assert_eq!(answer.kvs[0].value, "1");
        assert_eq!(answer.header, Some(header));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_long_read_is_whole_although_it_is_larger_than_any_window() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
    for key in ["a", "b", "c", "d", "e"] {
        kv.put(put(key, vec![7; 1 << 20])).await.unwrap();
    }
    let request = RangeRequest { range_end: "z".into(), ..range("a") };
    let answer = kv.range(request).await.unwrap().into_inner();
    assert_eq!(answer.count, 5);
    assert!(answer.kvs.iter().all(|kv| kv.value.len() == 1 << 20));
    server.stop().await;
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_words() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    let error = kv.put(put("", "1")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.message(), "etcdserver: key is not provided");
    let error = kv.range(RangeRequest { revision: 9, ..range("a") }).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
    assert_eq!(error.message(), "etcdserver: mvcc: required revision is a future revision");
    let error = kv.compact(CompactionRequest { revision: 9, physical: false }).await.unwrap_err();
    assert_eq!(error.message(), "etcdserver: mvcc: required revision is a future revision");
    let error = kv.range(RangeRequest { sort_order: 7, ..range("a") }).await.unwrap_err();
    assert_eq!(error.message(), "etcdserver: invalid sort option");
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_that_reads_more_than_the_limit_allows_is_refused() {
    let server = Server::start_with(ServerOptions { txn_ops_max: 2, ..Default::default() }).await;
    let mut kv = KvClient::new(server.channel().await);
    let op = quorate_etcd_api::etcdserverpb::RequestOp {
        request: Some(quorate_etcd_api::etcdserverpb::request_op::Request::RequestRange(range(
            "a",
        ))),
    };
    let txn = |count| TxnRequest { success: vec![op.clone(); count], ..Default::default() };
    assert_eq!(kv.txn(txn(2)).await.unwrap().into_inner().responses.len(), 2);
    let error = kv.txn(txn(3)).await.unwrap_err();
    assert_eq!(error.message(), "etcdserver: too many operations in txn request");
    server.stop().await;
}

#[tokio::test]
async fn methods_that_are_not_served_are_unimplemented() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    for (method, called) in [
        ("etcdserverpb.KV/Get", "etcdserverpb.KV/Get"),
        ("grpc.health.v1.Health/List", "grpc.health.v1.Health/List"),
        ("x/y", "x/y"),
        ("", "a path without a method"),
    ] {
        let body = framed(&RangeRequest::default());
        let answer = raw_call(&mut client, &format!("/{method}"), &[], body).await;
        let message = format!("quorate does not serve {called}");
        let expected = RawAnswer { body: Vec::new(), code: "12".to_owned(), message };
        assert_eq!(answer, expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_let_be_where_nobody_asks_for_one() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let long = "x".repeat(9 << 10);
    for header in [("token", "a.7"), ("authorization", "Bearer a.7"), ("token", long.as_str())] {
        let answer = raw_call(&mut client, PUT, &[header], framed(&put("a", "1"))).await;
        assert_eq!(answer.code, "0", "{answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_size_limits_are_etcds_and_so_are_the_words() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    // Key and value have seven bytes beside the value: two tags, two lengths, the key.
    let largest = put("k", vec![0; 1_572_864 - 7]);
    assert_eq!(largest.encoded_len(), 1_572_864);
    kv.put(largest).await.unwrap();
    let error = kv.put(put("k", vec![0; 1_572_864 - 6])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.message(), "etcdserver: request is too large");
    let error = kv.put(put("k", vec![0; 3_000_000])).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(error.message(), "grpc: received message larger than max (3000008 vs. 2097152)");
    server.stop().await;
}

#[tokio::test]
async fn a_message_in_many_pieces_is_one_message() {
    let server = Server::start().await;
    let client = server.http2().await;
    let request = http::Request::post(format!("http://test{PUT}"))
        .header("content-type", "application/grpc+proto")
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    for byte in framed(&put("a", "1")) {
        stream.send_data(Bytes::copy_from_slice(&[byte]), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    while body.data().await.is_some() {}
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let uncoded = Bytes::from_static(b"\x01\0\0\0\x01x");
    let malformed = Bytes::from_static(b"\0\0\0\0\x02\x0a\x09");
    let short = Bytes::from_static(b"\0\0\0\0\x09abc");
    for (body, code) in [(uncoded, "13"), (malformed, "13"), (short, "1"), (Bytes::new(), "1")] {
        let answer = raw_call(&mut client, PUT, &[], body.clone()).await;
        assert_eq!(answer.code, code, "{body:?}: {answer:?}");
    }
    let answer = raw_call(&mut client, PUT, &[], framed(&put("a", "1"))).await;
    assert_eq!(answer.code, "0");
    let RawAnswer { message, .. } = raw_call(&mut client, "/%FF/ä", &[], Bytes::new()).await;
    assert!(message.starts_with("quorate does not serve "), "{message}");
    server.stop().await;
}

/// As Go's clients send it with `grpc.UseCompressor("gzip")`.
#[tokio::test]
async fn what_a_client_compressed_is_read_and_a_bomb_is_not_blown_up() {
    let zipped = |message: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(message).unwrap();
        common::frame_of(1, &encoder.finish().unwrap())
    };
    let server = Server::start().await;
    let mut client = server.http2().await;
    let gzip = [("grpc-encoding", "gzip")];
    let request = zipped(&put("zipped", "7").encode_to_vec());
    assert_eq!(raw_call(&mut client, PUT, &gzip, request).await.code, "0");
    let answer = raw_call(&mut client, PUT, &gzip, framed(&put("plain", "8"))).await;
    assert_eq!(answer.code, "0", "each message says for itself whether it is compressed");
    let keep_alive = LeaseKeepAliveRequest { id: 7 }.encode_to_vec();
    let requests = [zipped(&keep_alive), common::frame_of(0, &keep_alive)].concat();
    let path = "/etcdserverpb.Lease/LeaseKeepAlive";
    assert_eq!(raw_call(&mut client, path, &gzip, requests.into()).await.code, "0");

    let bomb = zipped(&vec![0; 64 << 20]);
    for (path, coding, body, code) in [
        (PUT, "gzip", bomb.clone(), "8"),
        (path, "gzip", bomb, "8"),
        (PUT, "snappy", framed(&put("a", "1")), "12"),
    ] {
        let answer = raw_call(&mut client, path, &[("grpc-encoding", coding)], body).await;
        assert_eq!(answer.code, code, "{path}: {answer:?}");
    }
    let (_, found) = server.post("/v3/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#).await;
    assert!(found.contains(r#""count":"2""#), "{found}");
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up_at_its_own_deadline() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let request = http::Request::post(format!("http://test{PUT}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "10m")
        .body(())
        .unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"\0\0\0"), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "1");
    server.stop().await;
}

/// Go's clients who send into a stream that has ended hear `EOF`, and not the reason.
#[tokio::test]
async fn a_stream_is_refused_when_the_client_has_begun_to_ask_and_not_before() {
    let server = Server::leaderless().await;
    let mut client = server.http2().await;
    for path in ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"] {
        let request = http::Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("hasleader", "true")
            .body(())
            .unwrap();
        let (answer, mut stream) = client.send_request(request, false).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert!(!body.is_end_stream() && !head.headers.contains_key("grpc-status"), "{path}");
        stream.send_data(framed(&WatchRequest::default()), false).unwrap();
        assert!(body.data().await.is_none(), "{path}");
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "14", "{path}");
        assert_eq!(trailers["grpc-message"], "etcdserver: no leader", "{path}");
    }
    server.stop().await;
}

/// Opens a stream with its first request, and waits for the answer to that. On a busy machine a pair may
/// have no leader for a moment, and who needs one asks again.
async fn answered_stream(
    client: &mut h2::client::SendRequest<Bytes>,
    path: &str,
    requires_leader: &str,
    first: &Bytes,
) -> (h2::SendStream<Bytes>, h2::RecvStream) {
    loop {
        let request = http::Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("hasleader", requires_leader)
            .body(())
            .unwrap();
        let (answer, mut sender) = client.send_request(request, false).unwrap();
        sender.send_data(first.clone(), false).unwrap();
        let mut body = answer.await.unwrap().into_body();
        if let Some(answer) = body.data().await {
            answer.unwrap();
            return (sender, body);
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-message"], "etcdserver: no leader", "{path}");
    }
}

#[tokio::test]
async fn a_stream_that_requires_a_leader_ends_when_there_is_none_any_more() {
    let options =
        ServerOptions { leaderless_timeout: Duration::from_millis(200), ..Default::default() };
    let (server, (other, _dir)) = Server::with_other(options).await;
    let mut client = server.http2().await;
    let mut streams = Vec::new();
    let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
    let watch = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    for (path, first) in [
        ("/etcdserverpb.Watch/Watch", framed(&watch)),
        ("/etcdserverpb.Lease/LeaseKeepAlive", framed(&LeaseKeepAliveRequest { id: 5 })),
    ] {
        for requires_leader in ["true", "false"] {
            let (sender, body) = answered_stream(&mut client, path, requires_leader, &first).await;
            streams.push((path, requires_leader == "true", sender, body));
        }
    }
    other.stop().await;
    for (path, requires_leader, sender, mut body) in streams {
        if requires_leader {
            assert!(body.data().await.is_none(), "{path}");
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "14", "{path}");
            assert_eq!(trailers["grpc-message"], "etcdserver: no leader", "{path}");
        } else {
            assert!(body.data().now_or_never().is_none(), "{path}");
        }
        drop(sender);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_version_of_the_api_that_is_no_text_is_refused_and_others_are_counted() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    for version in ["3.5", "9.9"] {
        let headers = [("client-api-version", version)];
        let answer = raw_call(&mut client, PUT, &headers, framed(&put("a", "1"))).await;
        assert_eq!(answer.code, "0", "{}", answer.message);
    }
    let request = http::Request::post(format!("http://test{PUT}"))
        .header("content-type", "application/grpc")
        .header("client-api-version", http::HeaderValue::from_bytes(b"\xff\xfe").unwrap())
        .body(())
        .unwrap();
    let (answer, _stream) = client.send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "3");
    assert_eq!(answer.headers()["grpc-message"], "etcdserver: invalid client api version");
    let (_, page) = server.get("/metrics").await;
    for version in ["3.5", "9.9"] {
        let labels = format!("client_api_version=\"{version}\",type=\"unary\"");
        let line = format!("etcd_server_client_requests_total{{{labels}}} 1\n");
        assert!(page.contains(&line), "{page}");
    }
    server.stop().await;
}

#[tokio::test]
async fn http2_that_is_not_grpc_reaches_the_gateway() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let request = http::Request::post("http://test/v3/kv/range").body(()).unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(br#"{"key":"YQ=="}"#), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    server.stop().await;
}

/// A frame of HTTP/2.
fn http2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The kinds of the frames by which the server answers on these streams, until it has answered on all:
/// headers are 1, a reset is 3. What it answers on one may come between that on another.
async fn frames_on<const N: usize>(
    server: &mut tokio::net::TcpStream,
    streams: [u8; N],
) -> [Vec<u8>; N] {
    const IS_LAST: u8 = 1;
    const RESET: u8 = 3;
    let mut kinds = [const { Vec::new() }; N];
    let mut open_count = N;
    while open_count > 0 {
        let mut head = [0; 9];
        server.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        server.read_exact(&mut payload).await.unwrap();
        let Some(place) = streams.iter().position(|stream| head[5..] == [0, 0, 0, *stream]) else {
            continue;
        };
        kinds[place].push(head[3]);
        if head[3] == RESET || (head[3] <= 1 && head[4] & IS_LAST != 0) {
            open_count -= 1;
        }
    }
    kinds
}

#[tokio::test]
async fn a_client_that_names_the_server_by_a_url_is_answered_as_by_etcd() {
    const URL: &[u8] = b"\x8f\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f";
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let first = [
        &[0x83, 0x86, 0x44, u8::try_from(PUT.len()).unwrap()],
        PUT.as_bytes(),
        &[0x41],
        URL,
        b"\x5f\x10application/grpc\x40\x02te\x08trailers",
    ];
    // The second refers to what the first has brought.
    let second = [0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];
    let message = framed(&put("a", "b"));
    let sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        http2_frame(4, 0, 0, &[]),
        http2_frame(1, 4, 1, &first.concat()),
        http2_frame(0, 1, 1, &message),
        http2_frame(1, 4, 3, &second),
        http2_frame(0, 1, 3, &message),
    ];
    stream.write_all(&sent.concat()).await.unwrap();
    let answered = vec![1, 0, 1];
    assert_eq!(frames_on(&mut stream, [1, 3]).await, [answered.clone(), answered]);
    drop(stream);
    server.stop().await;
}
