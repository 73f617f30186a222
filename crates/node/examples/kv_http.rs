//! A replicated key-value store over HTTP: what a program that uses this library has to write for it.
//!
//!     cargo run -p quorate --example kv_http -- 1 127.0.0.1:7521 127.0.0.1:8521
//!     curl -X PUT -d hello 127.0.0.1:8521/kv/greeting
//!     curl 127.0.0.1:8521/kv/greeting
//!
//! That is a cluster of one. Two more, started alone and then added:
//!
//!     cargo run -p quorate --example kv_http -- 2 127.0.0.1:7522 127.0.0.1:8522 join
//!     cargo run -p quorate --example kv_http -- 3 127.0.0.1:7523 127.0.0.1:8523 join
//!     curl -X PUT -d 127.0.0.1:7522 127.0.0.1:8521/members/2
//!     curl -X PUT -d 127.0.0.1:7523 127.0.0.1:8521/members/3
//!
//! Any of them takes every request. `docs/book/comparison.md` counts this file's lines.

use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate::{Consistency, Json, LogId, Node, ProposeError, TypedMachine, TypedNode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(20);
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
enum Command {
    Put { key: String, value: String },
    Delete { key: String },
}

#[derive(Default)]
struct Store(BTreeMap<String, String>);

impl TypedMachine for Store {
    type Command = Command;
    type Reply = Option<String>; // what was there before
    type Query = String;
    type Answer = Option<String>;
    type Snapshot = BTreeMap<String, String>;
    type Codec = Json;

    fn apply(&mut self, _: LogId, command: Command) -> Option<String> {
        match command {
            Command::Put { key, value } => self.0.insert(key, value),
            Command::Delete { key } => self.0.remove(&key),
        }
    }

    fn query(&self, key: String) -> Option<String> {
        self.0.get(&key).cloned()
    }

    fn snapshot(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    fn restore(&mut self, snapshot: BTreeMap<String, String>) {
        self.0 = snapshot;
    }
}

type Answer = (StatusCode, String);

fn found(value: Option<String>) -> Answer {
    value.map_or((StatusCode::NOT_FOUND, String::new()), |value| (StatusCode::OK, value))
}

/// Whether a request may be sent again is the client's to know: 503 says that it had no effect.
fn outcome(result: Result<Option<String>, ProposeError>) -> Answer {
    match result {
        Ok(before) => (StatusCode::OK, before.unwrap_or_default()),
        Err(error) if error.is_without_effect() => {
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        Err(error) => (StatusCode::GATEWAY_TIMEOUT, error.to_string()),
    }
}

fn unavailable(error: impl Error) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

async fn answer(node: &TypedNode<Store>, method: &Method, path: &str, body: String) -> Answer {
    let path = path.trim_start_matches('/');
    let (place, name) = path.split_once('/').unwrap_or((path, ""));
    let key = name.to_owned();
    let members = node.node().members();
    match (method.as_str(), place, name.parse::<u64>()) {
        ("PUT", "kv", _) => {
            outcome(node.propose(&Command::Put { key, value: body }, PATIENCE).await)
        }
        ("DELETE", "kv", _) => outcome(node.propose(&Command::Delete { key }, PATIENCE).await),
        ("GET", "kv" | "local", _) => {
            let is_local = place == "local";
            let wanted = if is_local { Consistency::Local } else { Consistency::Linearizable };
            node.read(&key, wanted, PATIENCE).await.map_or_else(unavailable, found)
        }
        ("PUT", "members", Ok(id)) => {
            let version = members.add_voter(id, body).await;
            version.map_or_else(unavailable, |version| (StatusCode::OK, version.to_string()))
        }
        ("DELETE", "members", Ok(id)) => {
            let version = members.remove(id).await;
            version.map_or_else(unavailable, |version| (StatusCode::OK, version.to_string()))
        }
        ("GET", "status", _) => (StatusCode::OK, format!("{:#?}\n", node.node().status())),
        _ => (StatusCode::NOT_FOUND, String::new()),
    }
}

async fn respond(
    node: TypedNode<Store>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(Collected::to_bytes);
    let text = body.map(|bytes| String::from_utf8(bytes.into()));
    let (status, text) = match text {
        Ok(Ok(text)) => answer(&node, &head.method, head.uri.path(), text).await,
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, error.to_string()),
        Err(error) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

async fn serve(node: TypedNode<Store>, listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        let node = node.clone();
        let service = hyper::service::service_fn(move |request| respond(node.clone(), request));
        let mut http = hyper::server::conn::http1::Builder::new();
        let connection =
            http.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a client left: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (id, address, http, joins) = match words.as_slice() {
        [id, address, http] => (id.parse::<u64>()?, address, http, false),
        [id, address, http, join] if join == "join" => (id.parse()?, address, http, true),
        _ => return Err("expected: ID ADDRESS HTTP-ADDRESS [join]".into()),
    };
    let builder = Node::builder(id, format!("kv-http-data/{id}")).listen(address);
    let builder = if joins { builder.join() } else { builder };
    let node = builder.start_typed(Store::default()).await?;
    Ok(serve(node, TcpListener::bind(http).await?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    struct Served {
        node: TypedNode<Store>,
        peers: SocketAddr,
        http: SocketAddr,
        server: tokio::task::JoinHandle<std::io::Result<()>>,
    }

    async fn served(dir: &tempfile::TempDir, id: u64) -> Served {
        let peers = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = peers.local_addr().unwrap();
        let builder = Node::builder(id, dir.path().join(id.to_string()));
        let builder = builder.listen(address.to_string()).listener(peers);
        let builder = if id == 1 { builder } else { builder.join() };
        let node = builder.start_typed(Store::default()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(node.clone(), listener));
        Served { node, peers: address, http, server }
    }

    impl Served {
        async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
            let mut socket = TcpStream::connect(self.http).await.unwrap();
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{body}"
            );
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).await.unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap();
            (status.parse().unwrap(), body.to_owned())
        }
    }

    fn ok(body: &str) -> (u16, String) {
        (200, body.to_owned())
    }

    /// Changes the members, again if that was not begun: the leader writes down by itself which disk a
    /// member has, and another configuration may come between.
    async fn changed(node: &Served, method: &str, path: &str, body: &str) {
        let tries = async {
            loop {
                match node.ask(method, path, body).await {
                    (200, _) => return,
                    (503, _) => tokio::task::yield_now().await,
                    (status, said) => panic!("{status}: {said}"),
                }
            }
        };
        tokio::time::timeout(6 * PATIENCE, tries).await.unwrap();
    }

    #[tokio::test]
    async fn three_nodes_serve_one_store_over_http() {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for id in 1..=3 {
            nodes.push(served(&dir, id).await);
        }
        let [one, two, three]: [Served; 3] = nodes.try_into().ok().unwrap();
        assert_eq!(one.ask("PUT", "/kv/greeting", "hello").await, ok(""));
        for (id, node) in [(2, &two), (3, &three)] {
            changed(&one, "PUT", &format!("/members/{id}"), &node.peers.to_string()).await;
        }
        for node in [&one, &two, &three] {
            assert_eq!(node.ask("GET", "/kv/greeting", "").await, ok("hello"));
            assert_eq!(node.ask("GET", "/local/greeting", "").await, ok("hello"));
            assert!(node.ask("GET", "/status", "").await.1.contains("commit_index"));
        }
        assert_eq!(two.ask("PUT", "/kv/greeting", "good evening").await, ok("hello"));
        assert_eq!(three.ask("DELETE", "/kv/greeting", "").await, ok("good evening"));
        assert_eq!(one.ask("GET", "/kv/greeting", "").await, (404, String::new()));
        assert_eq!(one.ask("GET", "/", "").await.0, 404);
        assert_eq!(one.ask("PUT", "/kv/a", &"x".repeat(BODY_BYTES_MAX + 1)).await.0, 413);
        changed(&two, "DELETE", "/members/3", "").await;
        for Served { node, server, .. } in [one, two, three] {
            server.abort();
            node.stop().await;
        }
    }
}
