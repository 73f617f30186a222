//! The JSON gateway over WebSockets, with the frames of a real client: watches, renewals, everything else,
//! and who is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use futures_util::{SinkExt, StreamExt};
use quorate_server::ServerOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A client's socket.
struct Socket(WebSocketStream<TcpStream>);

/// Asks for a socket with these headers besides; returns the head of the answer.
async fn ask(server: &Server, path: &str, headers: &str) -> (String, TcpStream) {
    let mut stream = server.connect().await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

async fn open_with(server: &Server, path: &str, headers: &str) -> Socket {
    let (head, stream) = ask(server, path, headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    Socket(WebSocketStream::from_raw_socket(stream, Role::Client, None).await)
}

async fn open(server: &Server, path: &str) -> Socket {
    open_with(server, path, "").await
}

impl Socket {
    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message; none when the server ends it.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// With which code the server ends it, and what it says before.
    async fn end(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut heard = Vec::new();
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => heard.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return (heard, frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (heard, None),
            }
        }
    }
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

#[tokio::test]
async fn watches_are_begun_told_and_cancelled_one_message_each() {
    let server = Server::start().await;
    let mut socket = open(&server, "/v3/watch").await;
    socket.say(r#"{"create_request":{"key":"YQ==","watch_id":"7"}}"#).await;
    let created = socket.hear().await.unwrap();
    assert_eq!(
        (&created["result"]["created"], &created["result"]["watch_id"]),
        (&json!(true), &json!("7"))
    );
    server.post("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).await;
    let told = socket.hear().await.unwrap();
    assert_eq!(told["result"]["events"][0]["kv"]["value"], "MQ==", "{told}");
    // A second watch on the same socket, from the past, and then the end of the first.
    socket.say(r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#).await;
    assert_eq!(socket.hear().await.unwrap()["result"]["created"], true);
    assert_eq!(socket.hear().await.unwrap()["result"]["events"][0]["kv"]["value"], "MQ==");
    socket.say(r#"{"cancel_request":{"watch_id":"7"}}"#).await;
    assert_eq!(socket.hear().await.unwrap()["result"]["canceled"], true);
    assert_eq!(figure(&server, "quorate_client_streams").await, 1);
    socket.0.close(None).await.unwrap();
    until(&server, "quorate_client_streams", 0).await;
    server.stop().await;
}

#[tokio::test]
async fn leases_are_renewed_as_often_as_the_client_asks() {
    let server = Server::start().await;
    server.post("/v3/lease/grant", r#"{"ID":"5","TTL":"100"}"#).await;
    let mut socket = open(&server, "/v3/lease/keepalive").await;
    for _ in 0..3 {
        socket.say(r#"{"ID":"5"}"#).await;
        let renewed = socket.hear().await.unwrap();
        assert_eq!(renewed["result"]["TTL"], "100", "{renewed}");
    }
    // Several in one message; one that is gone has no TTL.
    socket.say(r#"{"ID":"5"}{"ID":"6"}"#).await;
    assert_eq!(socket.hear().await.unwrap()["result"]["TTL"], "100");
    assert_eq!(socket.hear().await.unwrap()["result"].get("TTL"), None);
    server.stop().await;
}

#[tokio::test]
async fn everything_else_has_one_request_and_ends_with_its_answer() {
    let server = Server::start().await;
    let mut socket = open(&server, "/v3/kv/put").await;
    socket.say(r#"{"key":"YQ==","value":"MQ=="}"#).await;
    let (heard, code) = socket.end().await;
    assert_eq!((heard[0]["header"]["revision"].as_str(), code), (Some("2"), Some(1000)));
    let mut socket = open(&server, "/v3/maintenance/snapshot").await;
    socket.say("{}").await;
    let (heard, code) = socket.end().await;
    assert!(heard.iter().all(|line| line["result"]["blob"].is_string()) && !heard.is_empty());
    assert_eq!(code, Some(1000));
    until(&server, "quorate_client_streams", 0).await;
    server.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_told_why_and_ended() {
    let server = Server::start().await;
    for (path, text, message) in [
        ("/v3/watch", "{", "EOF while parsing"),
        ("/v3/watch", r#"{"create_request":7}"#, "invalid type"),
        ("/v3/lease/keepalive", "[]", "invalid"),
        ("/v3/kv/range", "{}", "etcdserver: key is not provided"),
    ] {
        let mut socket = open(&server, path).await;
        socket.say(text).await;
        let (heard, code) = socket.end().await;
        assert_eq!(heard.len(), 1, "{path}: {heard:?}");
        assert!(heard[0]["message"].as_str().unwrap().contains(message), "{path}: {heard:?}");
        assert_eq!(code, Some(1000), "{path}");
    }
    // Once something was said, an end is the last line of a stream.
    let mut socket = open(&server, "/v3/watch").await;
    socket.say(r#"{"create_request":{"key":"YQ=="}}"#).await;
    socket.hear().await.unwrap();
    socket.say("nonsense").await;
    let (heard, _) = socket.end().await;
    assert_eq!(heard[0]["error"]["grpc_code"], 2, "{heard:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_message_larger_than_the_limit_ends_the_socket_and_others_are_served() {
    let server = Server::start().await;
    let mut socket = open(&server, "/v3/watch").await;
    let key = "A".repeat(70_000);
    socket.say(&format!(r#"{{"create_request":{{"key":"{key}"}}}}"#)).await;
    let (heard, code) = socket.end().await;
    assert!(heard.is_empty() && code.is_none_or(|code| code == 1009), "{heard:?} {code:?}");
    // At the limit nothing is wrong.
    let mut socket = open(&server, "/v3/watch").await;
    let request = r#"{"create_request":{"key":"YQ=="}}"#;
    socket.say(&format!("{request}{}", " ".repeat((64 << 10) - request.len()))).await;
    assert_eq!(socket.hear().await.unwrap()["result"]["created"], true);
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_have_a_socket_is_refused_before_it_is_one() {
    let cors_origins = vec!["https://pages.example".to_owned()];
    let host_whitelist = vec!["test".to_owned()];
    let options = ServerOptions { cors_origins, host_whitelist, ..Default::default() };
    let server = Server::start_with(options).await;
    for (path, headers, status) in [
        ("/v3/nonsense", "", 404),
        ("/metrics", "", 404),
        ("/v3/watch", "origin: https://other.example\r\n", 403),
        ("/v3/watch", "origin: https://pages.example\r\n", 101),
        ("/v3/watch", "", 101),
    ] {
        let (head, _) = ask(&server, path, headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers}: {head}");
    }
    let mut stream = server.connect().await;
    let request = "GET /v3/watch HTTP/1.1\r\nhost: evil.example\r\nconnection: upgrade, close\r\n\
                   upgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn one_socket_more_than_streams_may_be_is_told_so_and_room_returns() {
    let options = ServerOptions { open_streams_count_max: 1, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut first = open(&server, "/v3/watch").await;
    first.say(r#"{"create_request":{"key":"YQ=="}}"#).await;
    first.hear().await.unwrap();
    let mut second = open(&server, "/v3/watch").await;
    let (heard, code) = second.end().await;
    assert_eq!(heard[0]["error"]["message"], "etcdserver: too many requests", "{heard:?}");
    assert_eq!(code, Some(1000));
    drop(first);
    until(&server, "quorate_client_streams", 0).await;
    let mut third = open(&server, "/v3/watch").await;
    third.say(r#"{"create_request":{"key":"YQ=="}}"#).await;
    assert_eq!(third.hear().await.unwrap()["result"]["created"], true);
    server.stop().await;
}

#[tokio::test]
async fn with_users_a_token_comes_as_a_subprotocol_or_a_cookie() {
    let server = Server::start_with(ServerOptions { bcrypt_cost: 4, ..Default::default() }).await;
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"pw"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        let (status, answer) = server.post(&format!("/v3/auth/{path}"), body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let body = r#"{"name":"root","password":"pw"}"#;
    let (_, answer) = server.post("/v3/auth/authenticate", body).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let token = answer["token"].as_str().unwrap();
    let request = r#"{"create_request":{"key":"YQ=="}}"#;
    for headers in [
        format!("sec-websocket-protocol: Bearer, {token}\r\n"),
        format!("cookie: token={token}\r\n"),
        format!("authorization: {token}\r\n"),
    ] {
        let mut socket = open_with(&server, "/v3/watch", &headers).await;
        socket.say(request).await;
        let heard = socket.hear().await.unwrap();
        assert_eq!(heard["result"].get("canceled"), None, "{headers}: {heard}");
    }
    let mut socket = open(&server, "/v3/watch").await;
    socket.say(request).await;
    let heard = socket.hear().await.unwrap();
    assert_eq!(heard["result"]["canceled"], true, "{heard}");

    let by_name = format!("authorization: {token}\r\n");
    let mut renewing = open_with(&server, "/v3/lease/keepalive", &by_name).await;
    let unknown = r#"{"ID":"6"}"#;
    renewing.say(unknown).await;
    assert_eq!(renewing.hear().await.unwrap()["result"]["ID"], "6");
    let change = r#"{"name":"root","password":"other"}"#;
    let (first_line, answer) = server.ask("POST", "/v3/auth/user/changepw", &by_name, change).await;
    assert!(first_line.starts_with("HTTP/1.1 200 "), "{first_line}{answer}");
    // The token is forgotten, and who was asked for it once is not asked again.
    renewing.say(unknown).await;
    assert_eq!(renewing.hear().await.unwrap()["result"]["ID"], "6");
    server.stop().await;
}

/// The watch falls behind; nobody waits for it, and it loses nothing.
#[tokio::test]
async fn a_socket_that_nobody_reads_holds_up_nobody_and_loses_nothing() {
    let server = Server::start().await;
    let mut socket = open(&server, "/v3/watch").await;
    socket.say(r#"{"create_request":{"key":"YQ=="}}"#).await;
    let value = "A".repeat(400_000);
    let body = format!(r#"{{"key":"YQ==","value":"{value}"}}"#);
    // More than the sockets' buffers hold.
    let count = 40;
    for _ in 0..count {
        assert_eq!(server.post("/v3/kv/put", &body).await.0, 200);
    }
    assert_eq!(socket.hear().await.unwrap()["result"]["created"], true);
    let mut told = 0;
    while told < count {
        let heard = socket.hear().await.unwrap();
        told += heard["result"]["events"].as_array().unwrap().len();
    }
    assert_eq!(told, count);
    server.stop().await;
}

#[tokio::test]
async fn sockets_end_when_the_server_does() {
    let server = Server::start().await;
    let mut watching = open(&server, "/v3/watch").await;
    watching.say(r#"{"create_request":{"key":"YQ=="}}"#).await;
    watching.hear().await.unwrap();
    let mut silent = open(&server, "/v3/kv/range").await;
    let node = server.node.clone();
    let stopping = server.begin_stop();
    let (heard, _) = watching.end().await;
    assert_eq!(heard[0]["error"]["message"], "etcdserver: server stopped", "{heard:?}");
    let (heard, _) = silent.end().await;
    assert_eq!(heard[0]["message"], "etcdserver: server stopped", "{heard:?}");
    stopping.await.unwrap().unwrap();
    node.stop().await;
}
