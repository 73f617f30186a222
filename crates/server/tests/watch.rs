//! Watches over gRPC and over the JSON gateway, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{RawAnswer, Server, framed, raw_call};
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    CompactionRequest, PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};
use quorate_server::ServerOptions;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::transport::Channel;

/// A stream of watches, with the side that asks.
struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        let (requests, mut queue) = mpsc::channel(16);
        let stream = futures_util::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let mut client = WatchClient::new(server.channel().await);
        let responses = client.watch(stream).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.unwrap();
    }

    async fn create(&self, key: &'static str, start_revision: i64) {
        let request = WatchCreateRequest { key: key.into(), start_revision, ..Default::default() };
        self.ask(RequestUnion::CreateRequest(request)).await;
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }
}

async fn put(channel: Channel, key: &'static str, value: impl Into<Bytes>) {
    let request = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    KvClient::new(channel).put(request).await.unwrap();
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

#[tokio::test]
async fn a_stream_serves_many_watches_and_answers_in_order() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut stream = Stream::open(&server).await;
    stream.create("a", 0).await;
    stream.create("b", 0).await;
    let (first, second) = (stream.next().await, stream.next().await);
    assert!(first.created && second.created);
    assert_eq!((first.watch_id, second.watch_id), (0, 1));
    let header = first.header.as_ref().unwrap();
    assert_eq!((header.cluster_id, header.member_id), (common::CLUSTER_ID, common::MEMBER_ID));
    assert!(header.raft_term > 0);

    put(channel.clone(), "b", "1").await;
    put(channel.clone(), "a", "2").await;
    let told = [stream.next().await, stream.next().await];
    assert_eq!(told.each_ref().map(|response| response.watch_id), [1, 0]);
    assert_eq!(told[1].events[0].kv.as_ref().unwrap().value, "2");

    stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })).await;
    let canceled = stream.next().await;
    assert!(canceled.canceled && canceled.watch_id == 0);
    put(channel, "a", "3").await;
    stream.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 4));
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_the_past_is_told_it_or_that_it_is_compacted() {
    let server = Server::start().await;
    let channel = server.channel().await;
    for value in ["1", "2", "3"] {
        put(channel.clone(), "a", value).await;
    }
    let compaction = CompactionRequest { revision: 3, ..Default::default() };
    KvClient::new(channel).compact(compaction).await.unwrap();
    let mut stream = Stream::open(&server).await;
    stream.create("a", 3).await;
    stream.create("a", 2).await;
    let responses = [stream.next().await, stream.next().await, stream.next().await];
    let created = responses.iter().filter(|response| response.created).count();
    assert_eq!(created, 2);
    let mut rest: Vec<WatchResponse> =
        responses.into_iter().filter(|response| !response.created).collect();
    rest.push(stream.next().await);
    let told = rest.iter().find(|response| response.watch_id == 0).unwrap();
    let values: Vec<&Bytes> =
        told.events.iter().map(|event| &event.kv.as_ref().unwrap().value).collect();
    assert_eq!(values, ["2", "3"]);
    let canceled = rest.iter().find(|response| response.watch_id == 1).unwrap();
    assert!(canceled.canceled);
    assert_eq!((canceled.compact_revision, revision(canceled)), (3, 0));
    server.stop().await;
}

#[tokio::test]
async fn idle_watches_that_ask_for_it_are_told_how_far_they_are() {
    let interval = Duration::from_millis(20);
    let options = ServerOptions { watch_progress_interval: interval, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut stream = Stream::open(&server).await;
    let request =
        WatchCreateRequest { key: "a".into(), progress_notify: true, ..Default::default() };
    stream.ask(RequestUnion::CreateRequest(request)).await;
    assert!(stream.next().await.created);
    for _ in 0..3 {
        let progress = stream.next().await;
        assert!(progress.events.is_empty() && !progress.created && !progress.canceled);
        assert_eq!((progress.watch_id, revision(&progress)), (0, 1));
    }
    server.stop().await;
}

/// 64 MiB of events for a client that reads none: the server keeps what the limits allow and
/// serves others; then the client reads, and misses nothing.
#[tokio::test]
async fn a_client_that_does_not_read_costs_little_and_loses_nothing() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut stream = Stream::open(&server).await;
    stream.create("a", 0).await;
    assert!(stream.next().await.created);
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    for _ in 0..64 {
        put(channel.clone(), "a", value.clone()).await;
    }
    let (_, page) = server.get("/metrics").await;
    let pending = page.lines().find_map(|line| line.strip_prefix("quorate_watch_pending_bytes "));
    let pending: usize = pending.unwrap().parse().unwrap();
    assert!(pending <= 1 << 20, "{pending} bytes wait for the client");
    let mut next = 2;
    while next <= 65 {
        for event in stream.next().await.events {
            assert_eq!(event.kv.unwrap().mod_revision, next);
            next += 1;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_that_are_no_requests_end_the_stream_with_a_reason() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let broken = Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]);
    let answer = raw_call(&mut client, "/etcdserverpb.Watch/Watch", &[], broken).await;
    assert_eq!(answer.code, "13", "{answer:?}");
    let large = Bytes::from_static(&[0, 0xff, 0, 0, 0, 1]);
    let answer = raw_call(&mut client, "/etcdserverpb.Watch/Watch", &[], large).await;
    assert_eq!(answer.code, "8", "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_in_etcds_words() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let create =
        RequestUnion::CreateRequest(WatchCreateRequest { key: "a".into(), ..Default::default() });
    let body = framed(&WatchRequest { request_union: Some(create) });
    let call = raw_call(&mut client, "/etcdserverpb.Watch/Watch", &[], body);
    // The answer has its head as soon as the server has the call; then it may stop.
    let (answer, ()) = tokio::join!(call, async {
        let mut seen = false;
        while !seen {
            let (_, page) = server.get("/metrics").await;
            seen = page.contains("etcd_debugging_mvcc_watcher_total 1\n");
        }
        server.stop().await;
    });
    let RawAnswer { code, message, .. } = answer;
    assert_eq!((code.as_str(), message.as_str()), ("14", "etcdserver: server stopped"));
}

#[tokio::test]
async fn a_watch_whose_client_goes_away_is_forgotten() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server).await;
    stream.create("a", 0).await;
    assert!(stream.next().await.created);
    drop(stream);
    loop {
        let (_, page) = server.get("/metrics").await;
        if page.contains("etcd_debugging_mvcc_watch_stream_total 0\n") {
            break;
        }
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn the_gateway_streams_a_line_of_json_for_each_response() {
    let server = Server::start().await;
    let body = concat!(
        r#"{"create_request":{"key":"YQ==","watch_id":"7","prev_kv":true}}"#,
        r#"{"createRequest":{"key":"Yg==","rangeEnd":"Yg=="}} {"progress_request":{}}"#,
    );
    let mut lines = open_gateway(&server, body).await;
    let head = next_line(&mut lines).await;
    assert_eq!(head["result"]["created"], true, "{head}");
    assert_eq!(head["result"]["watch_id"], "7");
    let refused = next_line(&mut lines).await;
    assert_eq!(refused["result"]["cancel_reason"], "mvcc: watcher range is empty");
    assert_eq!(next_line(&mut lines).await["result"]["watch_id"], "-1");
    put(server.channel().await, "a", "1").await;
    put(server.channel().await, "a", "2").await;
    next_line(&mut lines).await;
    let told = next_line(&mut lines).await;
    let (kv, prev_kv) =
        (&told["result"]["events"][0]["kv"], &told["result"]["events"][0]["prev_kv"]);
    assert_eq!((&kv["value"], &prev_kv["value"]), (&json!("Mg=="), &json!("MQ==")));
    assert_eq!(kv["mod_revision"], "3");
    assert!(told["result"]["events"][0].get("type").is_none(), "a put is the zero value: {told}");
    drop(lines);
    server.stop().await;
}

#[tokio::test]
async fn the_gateway_refuses_what_is_no_json_and_other_methods() {
    let server = Server::start().await;
    let (status, body) = server.post("/v3/watch", "{bad").await;
    assert_eq!(status, 500, "{body}");
    let (status, _) = server.get("/v3/watch").await;
    assert_eq!(status, 405);
    server.stop().await;
}

type Lines = BufReader<tokio::net::TcpStream>;

/// Opens a watch by HTTP/1.1 and reads the head of the answer.
async fn open_gateway(server: &Server, body: &str) -> Lines {
    let mut stream = server.connect().await;
    let length = body.len();
    let request =
        format!("POST /v3/watch HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        lines.read_line(&mut head).await.unwrap();
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    lines
}

/// The next line that is JSON; chunks have their sizes between them.
async fn next_line(lines: &mut Lines) -> Value {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).await.unwrap() > 0, "the stream goes on");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}
