//! The life of the server and its connections: limits, noise, clients that go away, and the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Server, framed, raw_call};
use quorate_etcd_api::etcdserverpb::PutRequest;
use quorate_server::{ServeError, ServerOptions, serve};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PUT: &str = "/etcdserverpb.KV/Put";
const PUT_JSON: &str = r#"{"key":"YQ=="}"#;

/// Everything that the server says until it closes the connection.
async fn read_all(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[tokio::test]
async fn random_bytes_end_their_connection_and_no_other() {
    let server = Server::start().await;
    let mut other = server.http2().await;
    let mut noise = 1_u64;
    for length in [1, 23, 24, 100, 10_000] {
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        for preface in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            bytes.splice(0..0, preface.iter().copied());
            let mut stream = server.connect().await;
            // The server may close before it has read everything.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            read_all(&mut stream).await;
        }
    }
    let put = PutRequest { key: "a".into(), ..Default::default() };
    assert_eq!(raw_call(&mut other, PUT, &[], framed(&put)).await.code, "0");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_disconnected() {
    let header_timeout = Duration::from_millis(20);
    let server = Server::start_with(ServerOptions { header_timeout, ..Default::default() }).await;
    for words in ["", "PRI * HTT"] {
        let mut stream = server.connect().await;
        stream.write_all(words.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_within_a_header_is_disconnected() {
    let header_timeout = Duration::from_millis(20);
    let server = Server::start_with(ServerOptions { header_timeout, ..Default::default() }).await;
    let half = "GET /version HTTP/1.1\r\nhost: te";
    let answer_to = async |words: &str| {
        let mut stream = server.connect().await;
        // It may be closed by then.
        let _ = stream.write_all(words.as_bytes()).await;
        read_all(&mut stream).await
    };
    for words in ["GET", half] {
        let answer = answer_to(words).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{words}");
    }
    // The second of two requests. On a slow machine the time may be up before the first is there.
    let words = format!("{half}st\r\n\r\n{half}");
    while !answer_to(&words).await.starts_with(b"HTTP/1.1 200") {}
    server.stop().await;
}

#[tokio::test]
async fn one_connection_more_than_the_limit_is_closed_at_once() {
    let server =
        Server::start_with(ServerOptions { connections_count_max: 1, ..Default::default() }).await;
    let mut first = server.http2().await;
    let put = PutRequest { key: "a".into(), ..Default::default() };
    assert_eq!(raw_call(&mut first, PUT, &[], framed(&put)).await.code, "0");
    let mut second = server.connect().await;
    assert_eq!(read_all(&mut second).await, b"");
    assert_eq!(raw_call(&mut first, PUT, &[], framed(&put)).await.code, "0");
    server.stop().await;
}

#[tokio::test]
async fn one_byte_of_requests_more_than_the_limit_is_too_many_requests() {
    let put = PutRequest { key: "a".into(), value: "12345".into(), ..Default::default() };
    let size = prost::Message::encoded_len(&put);
    for (pending_bytes_max, code) in [(size, "0"), (size - 1, "2")] {
        let options = ServerOptions { pending_bytes_max, ..Default::default() };
        let server = Server::start_with(options).await;
        let mut client = server.http2().await;
        let answer = raw_call(&mut client, PUT, &[], framed(&put)).await;
        assert_eq!(answer.code, code, "{}", answer.message);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_held() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let head = "POST /v3/kv/put HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_harms_nobody() {
    let server = Server::start().await;
    let put = PutRequest { key: "a".into(), value: vec![0; 1 << 20].into(), ..Default::default() };
    for _ in 0..8 {
        let mut client = server.http2().await;
        let request = http::Request::post(format!("http://test{PUT}"))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (_answer, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(framed(&put), true).unwrap();
    }
    let (status, _) = server.post("/v3/kv/put", PUT_JSON).await;
    assert_eq!(status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_lets_idle_connections_go_and_accepts_no_more() {
    let server = Server::start().await;
    let address = server.address;
    let mut client = server.http2().await;
    let put = PutRequest { key: "a".into(), ..Default::default() };
    assert_eq!(raw_call(&mut client, PUT, &[], framed(&put)).await.code, "0");
    let mut half = server.connect().await;
    half.write_all(b"GET /version HTTP/1.1\r\nconnection: keep-alive\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    half.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    server.begin_stop().await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_in_progress_is_answered_although_the_server_stops() {
    let drain_timeout = Duration::from_hours(1);
    let server = Server::start_with(ServerOptions { drain_timeout, ..Default::default() }).await;
    let mut client = server.http2().await;
    let request = http::Request::post(format!("http://test{PUT}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    let message = framed(&PutRequest { key: "a".into(), ..Default::default() });
    stream.send_data(message.slice(..5), false).unwrap();
    // An answer to a second request shows that the first has arrived.
    raw_call(&mut client, "/x/y", &[], Bytes::new()).await;
    let end = server.begin_stop();
    stream.send_data(message.slice(5..), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    while body.data().await.is_some() {}
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    end.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_needs_an_address() {
    let server = Server::start().await;
    let engine = std::sync::Arc::new(quorate_kv::MemoryEngine::new());
    let background = std::sync::Arc::new(quorate_kv::Inline);
    let (_machine, reader) = quorate_kv::open(engine, background).unwrap();
    let end =
        serve(Vec::new(), server.node.clone(), reader, ServerOptions::default(), async {}).await;
    assert!(matches!(end, Err(ServeError::NoListener)));
    server.stop().await;
}
