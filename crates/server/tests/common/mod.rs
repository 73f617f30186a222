//! A server on a real node with a real disk, and the simplest clients that can talk to it.

#![allow(dead_code, unreachable_pub)] // Each test file uses a part.

use bytes::Bytes;
use quorate::core::{Configuration, Member, MemberRole, NodeId};
use quorate::{DriverOptions, Node, NodeBuilder, Options};
use quorate_kv::{BackgroundThread, MemoryEngine};
use quorate_server::{
    Listener, MeasuredEngine, MemberContext, Security, ServeError, ServerOptions, Serves, serve,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The ids, name and addresses of the etcd whose answers were recorded.
pub const CLUSTER_ID: u64 = 12_101_053_776_118_486_841;
pub const MEMBER_ID: u64 = 15_985_099_378_392_235_387;
const PEER_ADDRESS: &str = "127.0.0.1:12380";
const CLIENT_URL: &str = "http://127.0.0.1:12379";
/// Longer than a busy machine lets anything wait.
const PATIENCE: Duration = Duration::from_mins(10);

/// A single member that serves.
pub struct Server {
    /// Its first listener's.
    pub address: SocketAddr,
    pub addresses: Vec<SocketAddr>,
    pub node: Node,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
    dir: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(ServerOptions::default()).await
    }

    pub async fn start_with(options: ServerOptions) -> Self {
        Self::start_at(options, vec![(Security::Plain, Serves::Everything)]).await
    }

    /// One with so many listeners.
    pub async fn start_at(options: ServerOptions, doors: Vec<(Security, Serves)>) -> Self {
        let server = Self::founded_by(founders(), options, doors, |node| node).await;
        server.led().await
    }

    /// One whose node has further settings.
    pub async fn start_node(settings: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        let doors = vec![(Security::Plain, Serves::Everything)];
        let options = ServerOptions::default();
        let server = Self::founded_by(founders(), options, doors, settings).await;
        server.led().await
    }

    async fn led(self) -> Self {
        let mut changes = self.node.status_changes();
        changes.wait_for(|status| status.leader.is_some()).await.unwrap();
        self
    }

    /// One that waits for a second founder for ever, and serves meanwhile.
    pub async fn leaderless() -> Self {
        Self::leaderless_with(ServerOptions::default()).await
    }

    pub async fn leaderless_with(options: ServerOptions) -> Self {
        let mut founders = founders();
        let other =
            Member { context: Bytes::new(), ..founders.members.values().next().unwrap().clone() };
        founders.members.insert(NodeId::new(MEMBER_ID + 1), other);
        let doors = vec![(Security::Plain, Serves::Everything)];
        Self::founded_by(founders, options, doors, |node| node).await
    }

    /// One of two: without the other, which comes with its folder, it has no leader.
    pub async fn with_other(options: ServerOptions) -> (Self, (Node, tempfile::TempDir)) {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, others) = (bind(), bind());
        let mut founders = founders();
        let mut other = founders.members.values().next().unwrap().clone();
        (other.address, other.context) = (address_of(&others), Bytes::new());
        founders.members.values_mut().for_each(|member| member.address = address_of(&own));
        founders.members.insert(NodeId::new(MEMBER_ID + 1), other);
        let doors = vec![(Security::Plain, Serves::Everything)];
        let known = founders.clone();
        let server = Self::founded_by(known, options, doors, |node| node.listener(own)).await;
        let dir = tempfile::tempdir().unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let background = Arc::new(BackgroundThread::start().unwrap());
        let (machine, _) = quorate_kv::open(engine, background).unwrap();
        let node = Node::builder(MEMBER_ID + 1, dir.path())
            .cluster_id(CLUSTER_ID)
            .members(founders)
            .options(protocol())
            .listener(others);
        let node = node.start(machine).await.unwrap();
        (server.led().await, (node, dir))
    }

    async fn founded_by(
        founders: Configuration,
        options: ServerOptions,
        doors: Vec<(Security, Serves)>,
        settings: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Arc::new(MeasuredEngine::new(MemoryEngine::new()));
        let (machine, reader) =
            quorate_kv::open(engine, Arc::new(BackgroundThread::start().unwrap())).unwrap();
        let node = Node::builder(MEMBER_ID, dir.path())
            .cluster_id(CLUSTER_ID)
            .members(founders)
            .driver_options(DriverOptions { leaderless_wait: PATIENCE, ..Default::default() })
            .options(protocol());
        let node = settings(node).start(machine).await.unwrap();
        let options = patient(options);
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for (security, serves) in doors {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(socket.local_addr().unwrap());
            listeners.push(Listener { socket, security, serves });
        }
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listeners, node.clone(), reader, options, async {
            let _ = stopped.await;
        }));
        Self { address: addresses[0], addresses, node, stop, served, dir }
    }

    /// Stops the server, then the node.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
        self.node.stop().await;
    }

    /// Tells the server to stop, without waiting for it.
    pub fn begin_stop(self) -> JoinHandle<Result<(), ServeError>> {
        let Self { stop, served, dir, .. } = self;
        stop.send(()).unwrap();
        tokio::spawn(async move {
            let end = served.await.unwrap();
            // Until then the node writes there.
            drop(dir);
            end
        })
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One HTTP/1.1 request on a connection of its own: status and body.
    pub async fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (head, body) = self.ask(method, path, "", body).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// The same with further lines of headers: the answer's head and body.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (String, String) {
        let mut stream = self.connect().await;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             {headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        (format!("{head}\r\n"), body.to_owned())
    }

    pub async fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.http("POST", path, body).await
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        self.http("GET", path, "").await
    }

    /// What is in the member's files, as far as it is text.
    pub fn written(&self) -> String {
        loop {
            match self.try_written() {
                Ok(text) => return text,
                // The node has renamed or deleted one meanwhile.
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
            }
        }
    }

    fn try_written(&self) -> io::Result<String> {
        let (mut folders, mut text) = (vec![self.dir.path().to_owned()], String::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    text.push_str(&String::from_utf8_lossy(&std::fs::read(path)?));
                }
            }
        }
        Ok(text)
    }

    /// A bare HTTP/2 connection.
    pub async fn http2(&self) -> h2::client::SendRequest<Bytes> {
        let (client, connection) = h2::client::handshake(self.connect().await).await.unwrap();
        tokio::spawn(connection);
        client.ready().await.unwrap()
    }

    pub async fn channel(&self) -> tonic::transport::Channel {
        let uri = format!("http://{}", self.address);
        tonic::transport::Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
    }

    /// Each recorded request is followed by the answer that etcd gave: it gets the same one here.
    pub async fn answers_as_recorded(&self, recorded: &str) {
        let mut lines = recorded.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        while let Some(request) = lines.next() {
            let expected = lines.next().expect("a request is followed by its answer");
            let mut parts = request.splitn(3, ' ');
            let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
            let (status, body) = self.http(method, path, parts.next().unwrap_or_default()).await;
            // A term is a matter of elections, not of the protocol.
            let term = format!(r#""raft_term":"{}""#, self.node.status().current_term);
            let body = body.trim_end().replace(&term, r#""raft_term":"2""#);
            assert_eq!(format!("{status} {body}").trim_end(), expected, "{request}");
        }
    }
}

fn protocol() -> Options {
    Options {
        heartbeat_interval: Duration::from_millis(10),
        election_timeout: Duration::from_millis(50),
        // Leadership is lost when a test says so, and not to a slow disk.
        disk_stall_timeout: PATIENCE,
        ..Options::default()
    }
}

/// The same, with more time for everything that the test sets no time for: what is to end clients that
/// hang must end none that the machine has not let run.
fn patient(options: ServerOptions) -> ServerOptions {
    let default = ServerOptions::default();
    let more = |set: Duration, default: Duration| if set == default { PATIENCE } else { set };
    ServerOptions {
        request_timeout: more(options.request_timeout, default.request_timeout),
        unread_timeout: more(options.unread_timeout, default.unread_timeout),
        header_timeout: more(options.header_timeout, default.header_timeout),
        handshake_timeout: more(options.handshake_timeout, default.handshake_timeout),
        half_open_timeout: more(options.half_open_timeout, default.half_open_timeout),
        ..options
    }
}

fn address_of(listener: &std::net::TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

fn founders() -> Configuration {
    let context = MemberContext {
        name: "default".to_owned(),
        client_urls: vec![CLIENT_URL.to_owned()],
        peer_urls: Vec::new(),
    };
    let member = Member {
        role: MemberRole::Voter,
        rank: 0,
        address: PEER_ADDRESS.to_owned(),
        context: context.to_bytes(),
    };
    Configuration::new(0, [(NodeId::new(MEMBER_ID), member)].into())
}

/// What a gRPC call gave at the level of HTTP/2.
#[derive(Debug, PartialEq, Eq)]
pub struct RawAnswer {
    pub body: Vec<u8>,
    pub code: String,
    pub message: String,
}

/// Sends `body`, which need not be a proper message, as a gRPC call.
pub async fn raw_call(
    client: &mut h2::client::SendRequest<Bytes>,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Bytes,
) -> RawAnswer {
    raw_open(client, path, headers, body).await.finish().await
}

/// An answer that began, and of which nothing was taken yet: the server may send as much as HTTP/2
/// gives every client, 64 KiB, and no more.
pub struct RawStream {
    head: http::HeaderMap,
    body: h2::RecvStream,
    taken: Vec<u8>,
}

/// [`raw_call`] up to the beginning of its answer.
pub async fn raw_open(
    client: &mut h2::client::SendRequest<Bytes>,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Bytes,
) -> RawStream {
    let mut request = http::Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body, true).unwrap();
    let (head, body) = answer.await.unwrap().into_parts();
    RawStream { head: head.headers, body, taken: Vec::new() }
}

impl RawStream {
    /// Waits until some of it is there.
    pub async fn begun(mut self) -> Self {
        let piece = self.body.data().await.expect("an answer begins").unwrap();
        self.taken.extend_from_slice(&piece);
        self
    }

    /// Takes all of it.
    pub async fn finish(self) -> RawAnswer {
        self.try_finish().await.unwrap()
    }

    /// Takes all of it, unless the server breaks it off.
    pub async fn try_finish(mut self) -> Result<RawAnswer, h2::Error> {
        let _ = self.body.flow_control().release_capacity(self.taken.len());
        while let Some(piece) = self.body.data().await {
            let piece = piece?;
            self.taken.extend_from_slice(&piece);
            let _ = self.body.flow_control().release_capacity(piece.len());
        }
        Ok(self.end().await)
    }

    /// Takes what the server may send without being asked for more, until it ends the answer.
    pub async fn wait_for_the_end(mut self) -> RawAnswer {
        while let Some(piece) = self.body.data().await {
            self.taken.extend_from_slice(&piece.unwrap());
        }
        self.end().await
    }

    /// Takes nothing; whether the server breaks the answer off.
    pub async fn breaks_off(mut self) -> bool {
        loop {
            match self.body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.is_reset(),
                None => return false,
            }
        }
    }

    async fn end(mut self) -> RawAnswer {
        let trailers = self.body.trailers().await.unwrap().unwrap_or(self.head);
        let text = |name| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        RawAnswer { body: self.taken, code: text("grpc-status"), message: text("grpc-message") }
    }
}

/// The messages in an answer that is whole.
pub fn messages<M: prost::Message + Default>(mut body: &[u8]) -> Vec<M> {
    let mut all = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        all.push(M::decode(&rest[..size]).unwrap());
        body = &rest[size..];
    }
    assert!(body.is_empty(), "nothing is left over");
    all
}

/// A message as gRPC frames it.
pub fn framed(message: &impl prost::Message) -> Bytes {
    frame_of(0, &message.encode_to_vec())
}

/// Bytes as a gRPC body has a message, with this flag.
pub fn frame_of(flag: u8, message: &[u8]) -> Bytes {
    let mut out = vec![flag];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}
