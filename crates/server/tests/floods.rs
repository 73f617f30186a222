//! Clients that send what no honest one would, as much of it as they can: the connection that it comes
//! on may end, and others are served. With the published attacks on HTTP/2 by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Server, frame_of, framed, raw_call};
use prost::Message;
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use quorate_server::ServerOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn put(key: &'static str) -> Bytes {
    framed(&PutRequest { key: key.into(), ..Default::default() })
}

async fn assert_others_are_served(server: &Server) {
    let mut client = server.http2().await;
    assert_eq!(raw_call(&mut client, PUT, &[], put("other")).await.code, "0");
}

async fn figure(server: &Server, name: &str) -> u64 {
    let (_, page) = server.get("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

async fn until(server: &Server, name: &str, expected: u64) {
    while figure(server, name).await != expected {
        tokio::task::yield_now().await;
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A connection that has said hello.
async fn hello(server: &Server) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends this again and again, and reads what comes, until the server hangs up; how much was sent.
async fn flood(stream: TcpStream, piece: &[u8], most: usize) -> usize {
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while matches!(reader.read(&mut buffer).await, Ok(count) if count > 0) {}
    });
    let mut sent = 0;
    while sent < most && writer.write_all(piece).await.is_ok() {
        sent += piece.len();
    }
    drop(writer);
    reading.await.unwrap();
    sent
}

/// CVE-2024-27316 and its likes: headers that never end.
#[tokio::test]
async fn headers_that_never_end_end_their_connection() {
    const MOST: usize = 64 << 20;
    let server = Server::start().await;
    let mut stream = hello(&server).await;
    // A header of a request, without its end.
    stream.write_all(&frame(HEADERS, 0, 1, &[0x83, 0x86])).await.unwrap();
    // A literal header without indexing: a name of one letter, a value of a hundred.
    let header = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let piece = frame(CONTINUATION, 0, 1, &header.repeat(100));
    let sent = flood(stream, &piece, MOST).await;
    assert!(sent < MOST, "the server took {sent} bytes of headers");
    assert_others_are_served(&server).await;
    server.stop().await;
}

/// A call, byte for byte, as no HTTP library would let a path through that is none.
fn call(path: &str, message: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let headers = [
        // `:method: POST`, `:scheme: http`, and then names by their number in HPACK's table.
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("test"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0x00],
        text("te"),
        text("trailers"),
    ];
    let headers = frame(HEADERS, END_HEADERS, 1, &headers.concat());
    [headers, frame(DATA, END_STREAM, 1, message)].concat()
}

/// Reads until the call is answered or refused.
async fn end_of_call(stream: &mut TcpStream) {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(size).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        let (kind, flags, is_of_call) = (head[3], head[4], head[8] == 1);
        let is_last = is_of_call && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if is_last || matches!(kind, RESET | GO_AWAY) {
            return;
        }
    }
}

/// CVE-2026-33186: a path without its slash went by the rules that name paths, and was served.
#[tokio::test]
async fn a_path_without_its_slash_is_no_method() {
    let server = Server::start().await;
    for (path, is_method) in [(&PUT[1..], false), (PUT, true)] {
        let mut stream = hello(&server).await;
        stream.write_all(&call(path, &put("slash"))).await.unwrap();
        end_of_call(&mut stream).await;
        let (_, found) = server.post("/v3/kv/range", r#"{"key":"c2xhc2g="}"#).await;
        assert_eq!(found.contains("kvs"), is_method, "{path}: {found}");
        assert_others_are_served(&server).await;
    }
    server.stop().await;
}

/// CVE-2023-44487: streams that are opened and cancelled at once.
#[tokio::test]
async fn streams_that_are_cancelled_at_once_leave_nothing_behind() {
    let server = Server::start().await;
    let client = server.http2().await;
    for _ in 0..20_000 {
        // The server may have had enough.
        let Ok(mut ready) = client.clone().ready().await else { break };
        let request = http::Request::post(format!("http://test{PUT}"))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let Ok((_answer, mut stream)) = ready.send_request(request, false) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        tokio::task::yield_now().await;
    }
    assert_others_are_served(&server).await;
    drop(client);
    until(&server, "etcd_server_proposals_pending", 0).await;
    until(&server, "quorate_client_connections", 1).await;
    server.stop().await;
}

/// CVE-2019-9512 and CVE-2019-9515: questions whose answers nobody reads, or that are worth nothing.
#[tokio::test]
async fn pings_and_settings_without_end_harm_nobody() {
    let server = Server::start().await;
    for piece in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])] {
        let stream = hello(&server).await;
        flood(stream, &piece.repeat(100), 4 << 20).await;
        assert_others_are_served(&server).await;
    }
    until(&server, "quorate_client_connections", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let large = "x".repeat(15 << 10);
    let request = (0..5).fold(http::Request::post(format!("http://test{PUT}")), |request, _| {
        request.header("large", &large)
    });
    let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let refused = match answer.await {
        Ok(answer) => answer.status() == 431,
        Err(error) => error.is_reset(),
    };
    assert!(refused, "75 KiB of headers");
    assert_eq!(raw_call(&mut client, PUT, &[], put("a")).await.code, "0");

    let mut stream = server.connect().await;
    let head =
        format!("GET /version HTTP/1.1\r\nhost: x\r\nlarge: {}\r\n\r\n", "x".repeat(120 << 10));
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_others_are_served(&server).await;
    server.stop().await;
}

/// A transaction within a transaction, that deep.
fn nested(depth: usize) -> Bytes {
    let mut message = Vec::new();
    for _ in 0..depth {
        let within = |field: u8, content: &[u8]| {
            let mut out = vec![field << 3 | 2];
            prost::encoding::encode_varint(content.len() as u64, &mut out);
            out.extend_from_slice(content);
            out
        };
        // The operation that is a transaction, as what is done if all compares hold.
        message = within(2, &within(4, &message));
    }
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&message);
    out.into()
}

const TOO_DEEP: &str = "quorate: transactions are nested too deeply: at most 32 within one another \
                        were expected in one, and more were found";

/// A put, in so many transactions within a transaction.
fn put_within(depth: usize) -> TxnRequest {
    let put = PutRequest { key: "deep".into(), ..Default::default() };
    let txn = |request| {
        let success = vec![RequestOp { request: Some(request) }];
        TxnRequest { success, ..Default::default() }
    };
    (0..depth).fold(txn(Request::RequestPut(put)), |within, _| txn(Request::RequestTxn(within)))
}

/// The log puts a command around a request, and what is accepted must be read from there.
#[tokio::test]
async fn transactions_nest_to_the_bound_and_one_more_is_refused_before_the_log() {
    const BOUND: usize = 32;
    let server = Server::start().await;
    let mut client = server.http2().await;
    let json = |depth| {
        let (open, close) = (r#"{"success":[{"request_txn":"#, "}]}");
        let put = r#"{"success":[{"request_put":{"key":"ZGVlcA=="}}]}"#;
        format!("{}{put}{}", open.repeat(depth), close.repeat(depth))
    };
    let answer = raw_call(&mut client, TXN, &[], framed(&put_within(BOUND))).await;
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("0", ""));
    let (status, answer) = server.post("/v3/kv/txn", &json(BOUND)).await;
    assert_eq!(status, 200, "{answer}");
    let (_, found) = server.post("/v3/kv/range", r#"{"key":"ZGVlcA=="}"#).await;
    assert!(found.contains(r#""version":"2""#), "both were carried out: {found}");

    let proposed = figure(&server, "etcd_server_proposals_committed_total").await;
    // Up to what a decoder reads, and beyond.
    for depth in [BOUND + 1, 41, 42, 48, 49, 50, 60] {
        let answer = raw_call(&mut client, TXN, &[], framed(&put_within(depth))).await;
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("3", TOO_DEEP), "{depth}");
        let (status, answer) = server.post("/v3/kv/txn", &json(depth)).await;
        let expected = format!(r#"{{"error":"{TOO_DEEP}","code":3,"message":"{TOO_DEEP}"}}"#);
        assert_eq!((status, answer), (400, expected), "{depth}");
    }
    // Groups within one another, which a decoder counts as well: 99 are read, and not with one around.
    let groups = [[0xa3_u8, 0x06].repeat(99), [0xa4_u8, 0x06].repeat(99)].concat();
    let message = [PutRequest { key: "deep".into(), ..Default::default() }.encode_to_vec(), groups];
    let answer = raw_call(&mut client, PUT, &[], frame_of(0, &message.concat())).await;
    let text = "quorate: fields of etcd's API were expected, and a protobuf group was found, which \
                none of them is";
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("3", text));
    let after = figure(&server, "etcd_server_proposals_committed_total").await;
    assert_eq!(after, proposed, "nothing that is refused is in the log");
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_that_is_nested_too_deeply_is_refused_and_no_stack_overflows() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    assert_eq!(raw_call(&mut client, TXN, &[], nested(10)).await.code, "0", "the bytes are right");
    for depth in [200, 1000, 5000] {
        let answer = raw_call(&mut client, TXN, &[], nested(depth)).await;
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("3", TOO_DEEP), "{depth}");
    }
    for depth in [200, 20_000] {
        let body = format!(
            "{}{{}}{}",
            r#"{"success":[{"request_txn":"#.repeat(depth),
            "}]}".repeat(depth)
        );
        let (status, answer) = server.post("/v3/kv/txn", &body).await;
        assert_eq!(status, 400, "{depth}: {answer}");
        assert!(answer.contains(TOO_DEEP), "{depth}: {answer}");
    }
    assert_others_are_served(&server).await;
    server.stop().await;
}

/// The cost of a put counts where it stands.
#[tokio::test]
async fn the_quota_looks_into_nested_transactions() {
    let options = ServerOptions { quota_bytes: 20_000, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut client = server.http2().await;
    let value = vec![7; 30_000].into();
    let put = Request::RequestPut(PutRequest { key: "a".into(), value, ..Default::default() });
    let mut txn =
        TxnRequest { success: vec![RequestOp { request: Some(put) }], ..Default::default() };
    for _ in 0..3 {
        let op = RequestOp { request: Some(Request::RequestTxn(txn)) };
        txn = TxnRequest { failure: vec![op], ..Default::default() };
    }
    let answer = raw_call(&mut client, TXN, &[], framed(&txn)).await;
    let text = "etcdserver: mvcc: database space exceeded";
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("8", text));
    let (_, alarms) = server.post("/v3/maintenance/alarm", r#"{"action":"GET"}"#).await;
    assert!(alarms.contains("NOSPACE"), "{alarms}");
    server.stop().await;
}

#[tokio::test]
async fn a_message_of_many_empty_operations_is_refused_by_their_number() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let txn = TxnRequest { success: vec![RequestOp::default(); 300_000], ..Default::default() };
    assert!(txn.encoded_len() < 2 << 20);
    let answer = raw_call(&mut client, TXN, &[], framed(&txn)).await;
    let text = "etcdserver: too many operations in txn request";
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("3", text));
    assert_others_are_served(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_watches_of_one_client_are_told_their_own_and_others_are_served() {
    const COUNT: i64 = 10_000;
    let server = Server::start().await;
    let (requests, mut queue) = mpsc::channel(64);
    let stream = futures_util::stream::poll_fn(move |cx| queue.poll_recv(cx));
    let mut client = WatchClient::new(server.channel().await);
    let asking = tokio::spawn(async move {
        for number in 0..COUNT {
            let create =
                WatchCreateRequest { key: format!("key{number}").into(), ..Default::default() };
            let request_union = Some(RequestUnion::CreateRequest(create));
            requests.send(WatchRequest { request_union }).await.unwrap();
        }
        requests
    });
    let mut responses = client.watch(stream).await.unwrap().into_inner();
    for number in 0..COUNT {
        let response = responses.message().await.unwrap().unwrap();
        assert!(response.created && response.watch_id == number, "{response:?}");
    }
    let requests = asking.await.unwrap();
    assert_eq!(figure(&server, "etcd_debugging_mvcc_watcher_total").await, 10_000);
    let mut client = server.http2().await;
    for key in ["key7001", "nobody's", "key9999"] {
        assert_eq!(raw_call(&mut client, PUT, &[], put(key)).await.code, "0");
    }
    for (id, key) in [(7001, "key7001"), (9999, "key9999")] {
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!((response.watch_id, response.events.len()), (id, 1));
        assert_eq!(response.events[0].kv.as_ref().unwrap().key, key);
    }
    assert_eq!(figure(&server, "etcd_debugging_mvcc_events_total").await, 2);
    drop((requests, responses));
    until(&server, "etcd_debugging_mvcc_watcher_total", 0).await;
    server.stop().await;
}
