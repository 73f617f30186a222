//! Secure listeners: who is served over TLS and who is not, whatever the listener serves; handshakes
//! that never end; certificates that change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod common;

use authority::{Authority, Pair};
use common::{Server, framed, raw_call};
use quorate_etcd_api::etcdserverpb::PutRequest;
use quorate_server::{Listener, Security, ServerOptions, Serves};
use quorate_tls::{Tls, TlsFiles};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

const PUT: &str = "/etcdserverpb.KV/Put";
/// What the first record of a handshake begins with.
const HANDSHAKE_BEGINS: &[u8] = &[0x16, 3, 1];

/// An authority, with a certificate for the server.
struct World {
    _folder: tempfile::TempDir,
    authority: Authority,
    server: Pair,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ours");
        let server = authority.issue("server", 1, &["localhost", "127.0.0.1"]);
        Self { _folder: folder, authority, server }
    }

    /// The server's side, which asks for no certificate.
    fn open(&self) -> TlsFiles {
        TlsFiles {
            cert: Some(self.server.cert.clone()),
            key: Some(self.server.key.clone()),
            protocols: protocols(),
            skip_san_check: true,
            ..TlsFiles::default()
        }
    }

    /// The server's side, which asks for one.
    fn mutual(&self) -> TlsFiles {
        TlsFiles { trusted_ca: Some(self.authority.ca.clone()), ..self.open() }
    }

    /// A client that shows this certificate.
    fn client(&self, shown: Option<&Pair>, protocols: &[&str]) -> Arc<Tls> {
        load(TlsFiles {
            cert: shown.map(|pair| pair.cert.clone()),
            key: shown.map(|pair| pair.key.clone()),
            trusted_ca: Some(self.authority.ca.clone()),
            protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
            ..TlsFiles::default()
        })
    }
}

fn protocols() -> Vec<String> {
    vec!["h2".to_owned(), "http/1.1".to_owned()]
}

fn load(files: TlsFiles) -> Arc<Tls> {
    Tls::load(files).unwrap()
}

async fn serve(options: ServerOptions, files: TlsFiles) -> Server {
    let security = Security::Tls(load(files));
    Server::start_at(options, vec![(security, Serves::Everything)]).await
}

async fn connect(address: SocketAddr, client: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(client.client().unwrap()).connect(name, stream).await
}

/// The status line and the rest that a page answers; an error if the connection is not served.
async fn page(address: SocketAddr, client: &Tls, path: &str) -> io::Result<String> {
    let mut stream = connect(address, client).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    // Who is turned away after the handshake sees an end without a word.
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

/// The code that a put is answered with.
async fn put(address: SocketAddr, client: &Tls) -> String {
    put_over(connect(address, client).await.unwrap()).await
}

async fn put_over(stream: TlsStream<TcpStream>) -> String {
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let message = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
    raw_call(&mut sender, PUT, &[], framed(&message)).await.code
}

/// Everything until the server ends the connection.
async fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[tokio::test]
async fn grpc_and_gateway_share_a_secure_port() {
    let world = World::new();
    let server = serve(ServerOptions::default(), world.open()).await;
    assert_eq!(put(server.address, &world.client(None, &["h2"])).await, "0");
    // One that says what it speaks, and one that does not.
    for protocols in [&["http/1.1"][..], &[]] {
        let answer = page(server.address, &world.client(None, protocols), "/health").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_not_served_at_a_secure_port() {
    let world = World::new();
    let server = serve(ServerOptions::default(), world.open()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let answer = read_all(stream).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_address_for_both_serves_either() {
    let world = World::new();
    let security = Security::Either(load(world.open()));
    let doors = vec![(security, Serves::Everything)];
    let server = Server::start_at(ServerOptions::default(), doors).await;
    assert_eq!(server.get("/version").await.0, 200);
    assert_eq!(put(server.address, &world.client(None, &["h2"])).await, "0");
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_asked_for() {
    let world = World::new();
    let other = tempfile::tempdir().unwrap();
    let other = Authority::new(other.path(), "other");
    let server = serve(ServerOptions::default(), world.mutual()).await;
    let friend = world.authority.issue("friend", 2, &[]);
    assert!(page(server.address, &world.client(Some(&friend), &[]), "/health").await.is_ok());
    assert!(page(server.address, &world.client(None, &[]), "/health").await.is_err());
    let stranger = other.issue("stranger", 3, &[]);
    assert!(page(server.address, &world.client(Some(&stranger), &[]), "/health").await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn every_listener_checks_the_revocation_list() {
    let world = World::new();
    let (friend, former) =
        (world.authority.issue("friend", 7, &[]), world.authority.issue("former", 8, &[]));
    let crl = Some(world.authority.revoke(&[former.serial]));
    let tls = load(TlsFiles { crl, ..world.mutual() });
    let all = [Serves::Everything, Serves::HttpOnly, Serves::GrpcOnly, Serves::MetricsOnly];
    let secure = all.iter().map(|&serves| (Security::Tls(Arc::clone(&tls)), serves));
    let either = all.iter().map(|&serves| (Security::Either(Arc::clone(&tls)), serves));
    let server = Server::start_at(ServerOptions::default(), secure.chain(either).collect()).await;
    assert_eq!(server.addresses.len(), 8);
    for &address in &server.addresses {
        assert!(page(address, &world.client(Some(&friend), &[]), "/metrics").await.is_ok());
        assert!(page(address, &world.client(Some(&former), &[]), "/metrics").await.is_err());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_listener_serves_what_it_is_for() {
    let world = World::new();
    let tls = load(world.open());
    let kinds = [Serves::Everything, Serves::HttpOnly, Serves::GrpcOnly, Serves::MetricsOnly];
    let doors = kinds.iter().map(|&serves| (Security::Tls(Arc::clone(&tls)), serves));
    let server = Server::start_at(ServerOptions::default(), doors.collect()).await;
    // What a put, the version and the metrics are answered with.
    let expected = [("0", 200, 200), ("", 200, 200), ("0", 404, 404), ("", 404, 200)];
    for (&address, (code, version, metrics)) in server.addresses.iter().zip(expected) {
        assert_eq!(put(address, &world.client(None, &["h2"])).await, code, "{address}");
        for (path, status) in [("/version", version), ("/metrics", metrics)] {
            let answer = page(address, &world.client(None, &[]), path).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up_and_holds_no_place() {
    let world = World::new();
    let options = ServerOptions {
        handshake_timeout: Duration::from_millis(20),
        connections_count_max: 1,
        ..Default::default()
    };
    let server = serve(options, world.open()).await;
    for begun in [&b""[..], HANDSHAKE_BEGINS] {
        let mut stream = server.connect().await;
        stream.write_all(begun).await.unwrap();
        assert_eq!(read_all(stream).await, b"");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_place_of_a_handshake_that_was_given_up_is_anothers() {
    let world = World::new();
    let handshake_timeout = Duration::from_secs(2);
    let options =
        ServerOptions { handshake_timeout, connections_count_max: 1, ..Default::default() };
    let server = serve(options, world.open()).await;
    let mut stream = server.connect().await;
    stream.write_all(HANDSHAKE_BEGINS).await.unwrap();
    read_all(stream).await;
    // On a slow machine an honest one may be given up, too, and begins again.
    let honest = loop {
        if let Ok(stream) = connect(server.address, &world.client(None, &["h2"])).await {
            break stream;
        }
    };
    assert_eq!(put_over(honest).await, "0");
    server.stop().await;
}

#[tokio::test]
async fn handshakes_that_never_end_give_way_to_those_that_do() {
    let world = World::new();
    let options = ServerOptions {
        handshake_timeout: Duration::from_hours(1),
        handshakes_count_max: 2,
        ..Default::default()
    };
    let server = serve(options, world.open()).await;
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(HANDSHAKE_BEGINS).await.unwrap();
        unfinished.push(stream);
    }
    assert_eq!(put(server.address, &world.client(None, &["h2"])).await, "0");
    // With the last one there were two too many.
    for oldest in unfinished.drain(..2) {
        assert_eq!(read_all(oldest).await, b"");
    }
    // Those that are left keep no server from stopping.
    server.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let world = World::new();
    let options =
        ServerOptions { tls_refresh_interval: Duration::from_millis(10), ..Default::default() };
    let server = serve(options, world.open()).await;
    let client = world.client(None, &[]);
    let shown = async || -> CertificateDer<'static> {
        let stream = connect(server.address, &client).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = shown().await;
    world.authority.issue("server", 2, &["localhost"]);
    // How many handshakes that takes is the machine's business; the first that differs ends it.
    let mut tries = 0;
    while shown().await == before {
        tries += 1;
        assert!(tries < 100_000, "the old certificate is still served");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_name_in_a_certificate_is_looked_up_where_addresses_are_checked() {
    let world = World::new();
    let files = TlsFiles { skip_san_check: false, ..world.mutual() };
    let server = serve(ServerOptions::default(), files).await;
    let near = world.authority.issue("near", 2, &["localhost"]);
    assert!(page(server.address, &world.client(Some(&near), &[]), "/health").await.is_ok());
    let far = world.authority.issue("far", 3, &["quorate.invalid"]);
    assert!(page(server.address, &world.client(Some(&far), &[]), "/health").await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_secure_listener_needs_a_certificate() {
    let world = World::new();
    let nothing =
        load(TlsFiles { trusted_ca: Some(world.authority.ca.clone()), ..TlsFiles::default() });
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let security = Security::Tls(nothing);
    let listeners = vec![Listener { socket, security, serves: Serves::Everything }];
    let server = Server::start().await;
    let engine = Arc::new(quorate_kv::MemoryEngine::new());
    let (_machine, reader) = quorate_kv::open(engine, Arc::new(quorate_kv::Inline)).unwrap();
    let options = ServerOptions::default();
    let end = quorate_server::serve(listeners, server.node.clone(), reader, options, async {});
    let error = end.await.unwrap_err();
    let expected =
        format!("cannot listen on TLS for {address}: KeyFile and CertFile are not presented");
    assert_eq!(error.to_string(), expected);
    server.stop().await;
}
