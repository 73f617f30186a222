//! Clients that take nothing, send nothing to its end, or ask for too much at once: what they may hold
//! of the server's memory is bounded, they are told, and others are served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Server, framed, raw_call, raw_open};
use quorate_etcd_api::etcdserverpb::{PutRequest, RangeRequest, SnapshotRequest};
use quorate_etcd_api::health::HealthCheckRequest;
use quorate_server::ServerOptions;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const TOO_MANY: (&str, &str) = ("2", "etcdserver: too many requests");
const MIB: usize = 1 << 20;

type Client = h2::client::SendRequest<Bytes>;

/// A server with a value of a megabyte under `big`.
async fn with_a_megabyte(options: ServerOptions) -> Server {
    let server = Server::start_with(options).await;
    let mut client = server.http2().await;
    let put = PutRequest { key: "big".into(), value: vec![7; MIB].into(), ..Default::default() };
    assert_eq!(raw_call(&mut client, PUT, &[], framed(&put)).await.code, "0");
    server
}

fn big() -> Bytes {
    framed(&RangeRequest { key: "big".into(), ..Default::default() })
}

/// A figure of the metrics page.
async fn figure(server: &Server, name: &str) -> u64 {
    let (_, page) = server.get("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

/// Waits until a figure is this one.
async fn until(server: &Server, name: &str, expected: u64) {
    while figure(server, name).await != expected {
        tokio::task::yield_now().await;
    }
}

/// Others are served: on a connection of their own, with a write and a read.
async fn assert_others_are_served(server: &Server) {
    let mut client = server.http2().await;
    let put = PutRequest { key: "other".into(), value: "1".into(), ..Default::default() };
    assert_eq!(raw_call(&mut client, PUT, &[], framed(&put)).await.code, "0");
    let range = RangeRequest { key: "other".into(), ..Default::default() };
    assert_eq!(raw_call(&mut client, RANGE, &[], framed(&range)).await.code, "0");
}

/// The code that is answered to who takes the answer. On a slow machine even they may be given up for some
/// that take nothing: then they ask again.
async fn code_of_taken(client: &mut Client, path: &str, body: &Bytes) -> String {
    loop {
        match raw_open(client, path, &[], body.clone()).await.try_finish().await {
            // The place of a backup that was given up is taken until its thread hears of it.
            Ok(answer) if path == SNAPSHOT && answer.message == TOO_MANY.1 => {}
            Ok(answer) => return answer.code,
            Err(error) => assert!(error.is_reset(), "{path}: {error}"),
        }
    }
}

async fn assert_too_many(client: &mut Client, path: &str, body: Bytes) {
    let answer = raw_call(client, path, &[], body).await;
    assert_eq!((answer.code.as_str(), answer.message.as_str()), TOO_MANY, "{path}");
}

#[tokio::test]
async fn answers_that_nobody_takes_are_no_more_than_the_limit_and_room_returns() {
    let options = ServerOptions {
        unread_bytes_max: 3 * MIB,
        unread_timeout: Duration::from_hours(1),
        ..Default::default()
    };
    let server = with_a_megabyte(options).await;
    let mut client = server.http2().await;
    // Each is some bytes more than a megabyte.
    let first = raw_open(&mut client, RANGE, &[], big()).await.begun().await;
    // On a connection of its own: it would take the first one's window.
    let mut other = server.http2().await;
    let second = raw_open(&mut other, RANGE, &[], big()).await;
    assert_too_many(&mut client, RANGE, big()).await;
    let unread = figure(&server, "quorate_unread_bytes").await;
    assert!(unread > 2 * MIB as u64 && unread < 3 * MIB as u64, "{unread}");
    let (status, answer) = server.post("/v3/kv/range", r#"{"key":"YmlnCg=="}"#).await;
    assert_eq!(status, 200, "what is small is answered: {answer}");
    let (status, answer) = server.post("/v3/kv/range", r#"{"key":"Ymln"}"#).await;
    assert_eq!(status, 500, "what is large needs room at the gateway, too");
    assert!(answer.contains(TOO_MANY.1), "{answer}");
    assert_others_are_served(&server).await;

    assert_eq!(first.finish().await.body.len() / MIB, 1);
    assert_eq!(raw_call(&mut client, RANGE, &[], big()).await.code, "0");
    assert_eq!(second.finish().await.code, "0");
    until(&server, "quorate_unread_bytes", 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_and_its_room_is_anothers() {
    let options = ServerOptions {
        unread_bytes_max: 2 * MIB,
        unread_timeout: Duration::from_secs(1),
        ..Default::default()
    };
    let server = with_a_megabyte(options).await;
    let mut client = server.http2().await;
    for (path, body) in
        [(RANGE, big()), (RANGE_STREAM, big()), (SNAPSHOT, framed(&SnapshotRequest::default()))]
    {
        let stream = raw_open(&mut client, path, &[], body.clone()).await;
        assert!(stream.breaks_off().await, "{path}");
        until(&server, "quorate_unread_bytes", 0).await;
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        let form = if path == RANGE { "unary" } else { "server_stream" };
        let given_up = format!(
            "grpc_server_handled_total{{grpc_code=\"ResourceExhausted\",grpc_method=\"{method}\",\
             grpc_service=\"{service}\",grpc_type=\"{form}\"}}"
        );
        assert_eq!(figure(&server, &given_up).await, 1, "{path}");
        // The connection goes on, and who takes what it asks for gets it.
        assert_eq!(code_of_taken(&mut client, path, &body).await, "0", "{path}");
    }
    server.stop().await;
}

/// A page over HTTP/2: `Ok` with its size if all of it came, `Err` if the server broke it off.
async fn page(
    client: &mut Client,
    path: &str,
    body: &'static str,
    reads: bool,
) -> Result<usize, ()> {
    let answer = loop {
        let request = http::Request::post(format!("http://test{path}")).body(()).unwrap();
        let (answer, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(body.into(), true).unwrap();
        let answer = answer.await.unwrap();
        // The place of a backup that nobody wants any more is taken until its thread hears of it.
        if answer.status() != 500 || !path.ends_with("snapshot") {
            break answer;
        }
    };
    assert_eq!(answer.status(), 200, "{path}");
    let (mut body, mut size) = (answer.into_body(), 0);
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| assert!(error.is_reset(), "{path}: {error}"))?;
        size += piece.len();
        if reads {
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
    }
    Ok(size)
}

#[tokio::test]
async fn a_page_that_nobody_reads_is_given_up_and_its_room_is_anothers() {
    let options = ServerOptions {
        unread_bytes_max: 2 * MIB,
        backups_count_max: 1,
        unread_timeout: Duration::from_secs(1),
        ..Default::default()
    };
    let server = with_a_megabyte(options).await;
    for (path, body) in [("/v3/kv/range", r#"{"key":"Ymln"}"#), ("/v3/maintenance/snapshot", "{}")]
    {
        // One each: what a connection may send unread is taken by the first.
        let (mut idle, mut honest) = (server.http2().await, server.http2().await);
        assert_eq!(page(&mut idle, path, body, false).await, Err(()), "{path}");
        until(&server, "quorate_unread_bytes", 0).await;
        until(&server, "quorate_client_streams", 0).await;
        // On a slow machine even who reads may be given up, and asks again.
        let size = loop {
            if let Ok(size) = page(&mut honest, path, body, true).await {
                break size;
            }
        };
        assert!(size > MIB, "{path}: {size}");
        assert_others_are_served(&server).await;
    }
    server.stop().await;
}

/// HTTP/1.1 has no windows of its own: the system gives up who takes nothing.
#[tokio::test]
async fn a_page_over_http_1_that_nobody_reads_is_given_up_by_the_system() {
    let options = ServerOptions { half_open_timeout: Duration::from_secs(1), ..Default::default() };
    let server = with_a_megabyte(options).await;
    let mut client = server.http2().await;
    for index in 0..16 {
        let key = format!("more{index}");
        let put = PutRequest { key: key.into(), value: vec![7; MIB].into(), ..Default::default() };
        assert_eq!(raw_call(&mut client, PUT, &[], framed(&put)).await.code, "0");
    }
    // More than both sides' systems keep.
    let body = r#"{"key":"bW9yZQ==","range_end":"bW9yZg=="}"#;
    // On a slow machine the first may be gone before anybody looks: then there is another one.
    let _idle = loop {
        let idle = asked(&server, body).await;
        // It is there once its first byte is.
        idle.readable().await.unwrap();
        if figure(&server, "quorate_unread_bytes").await > 16 * MIB as u64 {
            break idle;
        }
    };
    until(&server, "quorate_unread_bytes", 0).await;
    // And there even who reads may be given up, and asks again.
    let answer = loop {
        let mut answer = String::new();
        if asked(&server, body).await.read_to_string(&mut answer).await.is_ok() {
            break answer;
        }
    };
    let is_whole = answer.starts_with("HTTP/1.1 200 ") && answer.len() > 16 * MIB;
    assert!(is_whole, "who reads it gets it: {}", answer.len());
    server.stop().await;
}

/// A connection of HTTP/1.1 on which a range was asked for, as the last request.
async fn asked(server: &Server, body: &str) -> TcpStream {
    let mut stream = server.connect().await;
    let length = body.len();
    let head = format!(
        "POST /v3/kv/range HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// A request of which only the beginning is sent: its head says how large it is to be.
fn open_partly(
    client: &mut Client,
    path: &str,
    message: &Bytes,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let request = http::Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(message.slice(..8), false).unwrap();
    (answer, stream)
}

#[tokio::test]
async fn requests_that_are_never_finished_are_no_more_than_the_limit_and_small_ones_go_on() {
    let options = ServerOptions { receiving_bytes_max: 100_000, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut client = server.http2().await;
    let put = PutRequest { key: "a".into(), value: vec![7; 60_000].into(), ..Default::default() };
    let message = framed(&put);
    let (answer, mut stream) = open_partly(&mut client, PUT, &message);
    until(&server, "quorate_receiving_bytes", message.len() as u64 - 5).await;
    let (refused, _other) = open_partly(&mut client, PUT, &message);
    assert_eq!(refused.await.unwrap().headers()["grpc-status"], "2");
    let body = format!(r#"{{"key":"YmFk","value":"{}"}}"#, "A".repeat(80_000));
    let mut page = server.connect().await;
    let length = body.len();
    let head = format!("POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    page.write_all(head.as_bytes()).await.unwrap();
    // The server may answer, and close, before it has read everything.
    let _ = page.write_all(body.as_bytes()).await;
    let _ = page.read_to_end(&mut Vec::new()).await;
    let (_, stored) = server.post("/v3/kv/range", r#"{"key":"YmFk"}"#).await;
    assert!(!stored.contains("kvs"), "{stored}");
    assert_others_are_served(&server).await;

    stream.send_data(message.slice(8..), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    while body.data().await.is_some() {}
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    assert_eq!(figure(&server, "quorate_receiving_bytes").await, 0);
    assert_eq!(raw_call(&mut client, PUT, &[], message).await.code, "0");
    server.stop().await;
}

#[tokio::test]
async fn a_message_of_a_stream_that_is_begun_and_never_finished_ends_it() {
    let options =
        ServerOptions { request_timeout: Duration::from_millis(200), ..Default::default() };
    let server = Server::start_with(options).await;
    let mut client = server.http2().await;
    let message = framed(&PutRequest { value: vec![7; 60_000].into(), ..Default::default() });
    for path in ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"] {
        let (answer, _stream) = open_partly(&mut client, path, &message);
        let mut body = answer.await.unwrap().into_body();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "1", "{path}");
        assert_eq!(figure(&server, "quorate_receiving_bytes").await, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_never_finished_is_answered_and_its_room_is_anothers() {
    let header_timeout = Duration::from_millis(500);
    let server = Server::start_with(ServerOptions { header_timeout, ..Default::default() }).await;
    let mut stream = server.connect().await;
    let head = "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; 100_000]).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") || answer.is_empty(), "{answer}");
    until(&server, "quorate_receiving_bytes", 0).await;
    assert_others_are_served(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_sent_after_the_one_request_of_a_stream_takes_no_room_from_others() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let mut streams = Vec::new();
    // Each may send four megabytes, and all of them together sixteen, before we have taken any.
    for _ in 0..6 {
        let request = http::Request::post("http://test/grpc.health.v1.Health/Watch")
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (answer, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(framed(&HealthCheckRequest::default()), false).unwrap();
        let answer = answer.await.unwrap();
        stream.send_data(vec![7; 3 * MIB].into(), false).unwrap();
        streams.push((answer, stream));
    }
    let put = PutRequest { key: "a".into(), value: vec![7; MIB].into(), ..Default::default() };
    assert_eq!(raw_call(&mut client, PUT, &[], framed(&put)).await.code, "0");
    server.stop().await;
}

#[tokio::test]
async fn one_stream_more_than_the_limit_is_refused_and_room_returns() {
    let options = ServerOptions { open_streams_count_max: 2, ..Default::default() };
    let server = Server::start_with(options).await;
    let watch = "/grpc.health.v1.Health/Watch";
    let about = || framed(&HealthCheckRequest::default());
    let (mut one, mut other) = (server.http2().await, server.http2().await);
    let first = raw_open(&mut one, watch, &[], about()).await.begun().await;
    let _second = raw_open(&mut other, watch, &[], about()).await.begun().await;
    assert_too_many(&mut one, watch, about()).await;
    let (status, answer) = server.post("/v3/maintenance/snapshot", "{}").await;
    assert_eq!(status, 500, "{answer}");
    assert_others_are_served(&server).await;
    drop(first);
    until(&server, "quorate_client_streams", 1).await;
    let third = raw_open(&mut one, watch, &[], about()).await.begun().await;
    drop(third);
    server.stop().await;
}

/// One stalled stream must not hold up heartbeats, or anything else.
#[tokio::test]
async fn backups_and_watches_that_nobody_reads_hold_up_nobody() {
    let options =
        ServerOptions { unread_timeout: Duration::from_hours(1), ..ServerOptions::default() };
    let server = with_a_megabyte(options).await;
    let changes = figure(&server, "etcd_server_leader_changes_seen_total").await;
    // One each: what a connection may hold is taken by the first.
    let mut clients = [server.http2().await, server.http2().await, server.http2().await];
    let snapshot = || framed(&SnapshotRequest::default());
    let first = raw_open(&mut clients[0], SNAPSHOT, &[], snapshot()).await.begun().await;
    let second = raw_open(&mut clients[1], SNAPSHOT, &[], snapshot()).await.begun().await;
    assert_too_many(&mut clients[2], SNAPSHOT, snapshot()).await;
    for _ in 0..20 {
        assert_others_are_served(&server).await;
    }
    assert_eq!(figure(&server, "etcd_server_leader_changes_seen_total").await, changes);
    drop((first, second));
    server.stop().await;
}
