//! Users by the names in their certificates: who is whom over gRPC, and that the gateway believes no
//! name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod common;

use authority::{Authority, Pair};
use common::{RawAnswer, Server, framed, raw_call};
use quorate_etcd_api::authpb::UserAddOptions;
use quorate_etcd_api::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, AuthUserListRequest,
    AuthenticateRequest, MemberListRequest, PutRequest,
};
use quorate_server::{Security, ServerOptions, Serves};
use quorate_tls::{Tls, TlsFiles};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

const LIST: &str = "/etcdserverpb.Auth/UserList";
const NAME_IGNORED: &str = "CommonName of client sending a request against gateway will be ignored \
                            and not used as expected";

/// A server whose clients show certificates of one authority.
struct World {
    server: Server,
    ca: std::path::PathBuf,
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl World {
    /// Names are believed, if `names_count`.
    async fn new(names_count: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ours");
        let own = authority.issue("server", 1, &["localhost"]);
        let tls = load(TlsFiles {
            cert: Some(own.cert),
            key: Some(own.key),
            trusted_ca: Some(authority.ca.clone()),
            client_cert_auth: names_count,
            skip_san_check: true,
            protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..TlsFiles::default()
        });
        let options = ServerOptions { bcrypt_cost: 4, ..ServerOptions::default() };
        let doors = vec![(Security::Tls(tls), Serves::Everything)];
        let server = Server::start_at(options, doors).await;
        Self { server, ca: authority.ca.clone(), authority, _folder: folder }
    }

    /// What comes back for a call of who shows this certificate.
    async fn call(
        &self,
        pair: &Pair,
        headers: &[(&'static str, &str)],
        path: &str,
        message: &impl prost::Message,
    ) -> RawAnswer {
        let stream = connect(&self.server, &self.ca, pair, "h2").await;
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        raw_call(&mut sender, path, headers, framed(message)).await
    }

    /// The same by the gateway: the whole answer.
    async fn post(&self, pair: &Pair, path: &str, body: &str) -> String {
        let mut stream = connect(&self.server, &self.ca, pair, "http/1.1").await;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Makes root and alice, without passwords, and asks for users from now on.
    async fn guard(&self, anybody: &Pair) {
        for name in ["root", "alice"] {
            let request = AuthUserAddRequest {
                name: name.to_owned(),
                options: Some(UserAddOptions { no_password: true }),
                ..Default::default()
            };
            let answer = self.call(anybody, &[], "/etcdserverpb.Auth/UserAdd", &request).await;
            assert_eq!(answer.code, "0");
        }
        let grant = AuthUserGrantRoleRequest { user: "root".to_owned(), role: "root".to_owned() };
        let path = "/etcdserverpb.Auth/UserGrantRole";
        assert_eq!(self.call(anybody, &[], path, &grant).await.code, "0");
        let enable = AuthEnableRequest {};
        let path = "/etcdserverpb.Auth/AuthEnable";
        assert_eq!(self.call(anybody, &[], path, &enable).await.code, "0");
    }
}

fn load(files: TlsFiles) -> Arc<Tls> {
    Tls::load(files).unwrap()
}

async fn connect(server: &Server, ca: &Path, pair: &Pair, protocol: &str) -> TlsStream<TcpStream> {
    let client = load(TlsFiles {
        cert: Some(pair.cert.clone()),
        key: Some(pair.key.clone()),
        trusted_ca: Some(ca.to_owned()),
        protocols: vec![protocol.to_owned()],
        ..TlsFiles::default()
    });
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(client.client().unwrap());
    connector.connect(name, server.connect().await).await.unwrap()
}

#[tokio::test]
async fn who_shows_a_users_certificate_is_that_user() {
    let world = World::new(true).await;
    let [root, alice, mallory] =
        ["root", "alice", "mallory"].map(|name| world.authority.issue(name, 2, &[]));
    world.guard(&mallory).await;
    let list = AuthUserListRequest {};
    assert_eq!(world.call(&root, &[], LIST, &list).await.code, "0");
    let put = PutRequest { key: "a".into(), ..Default::default() };
    let path = "/etcdserverpb.KV/Put";
    assert_eq!(world.call(&root, &[], path, &put).await.code, "0");
    for pair in [&alice, &mallory] {
        let answer = world.call(pair, &[], path, &put).await;
        let denied = ("7", "etcdserver: permission denied");
        assert_eq!((answer.code.as_str(), answer.message.as_str()), denied);
    }
    let members = MemberListRequest::default();
    let path = "/etcdserverpb.Cluster/MemberList";
    assert_eq!(world.call(&alice, &[], path, &members).await.code, "0", "she is somebody");
    assert_eq!(world.call(&mallory, &[], path, &members).await.code, "7", "nobody knows him");
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_goes_before_a_name() {
    let world = World::new(true).await;
    let root = world.authority.issue("root", 2, &[]);
    world.guard(&root).await;
    for header in ["token", "authorization"] {
        let answer =
            world.call(&root, &[(header, "nonsense.1")], LIST, &AuthUserListRequest {}).await;
        let invalid = ("16", "etcdserver: invalid auth token");
        assert_eq!((answer.code.as_str(), answer.message.as_str()), invalid);
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_user_without_a_password_cannot_log_in_with_one() {
    let world = World::new(true).await;
    let root = world.authority.issue("root", 2, &[]);
    world.guard(&root).await;
    for password in ["", "root"] {
        let request =
            AuthenticateRequest { name: "root".to_owned(), password: password.to_owned() };
        let path = "/etcdserverpb.Auth/Authenticate";
        let answer = world.call(&root, &[], path, &request).await;
        let text = "auth: authentication failed, password was given for no password user";
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("2", text));
    }
    world.server.stop().await;
}

#[tokio::test]
async fn no_name_is_believed_unless_certificates_are_asked_for() {
    let world = World::new(false).await;
    let root = world.authority.issue("root", 2, &[]);
    world.guard(&root).await;
    let answer = world.call(&root, &[], LIST, &AuthUserListRequest {}).await;
    assert_eq!(answer.message, "etcdserver: user name is empty");
    let answer = world.post(&root, "/v3/auth/user/list", "{}").await;
    assert!(answer.contains("etcdserver: user name is empty"), "{answer}");
    world.server.stop().await;
}

#[tokio::test]
async fn the_gateway_believes_no_name_and_says_so() {
    let world = World::new(true).await;
    let (root, unnamed) =
        (world.authority.issue("root", 2, &[]), world.authority.issue("", 3, &[]));
    let answer = world.post(&root, "/v3/kv/put", r#"{"key":"YQ=="}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "nobody is asked yet: {answer}");
    world.guard(&root).await;
    for path in ["/v3/kv/put", "/v3beta/kv/put", "/v3/auth/user/list", "/v3/watch"] {
        let answer = world.post(&root, path, r#"{"key":"YQ=="}"#).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{NAME_IGNORED}\n")), "{answer}");
    }
    // Where there is no name, there is nothing to be mistaken about.
    let answer = world.post(&unnamed, "/v3/auth/user/list", "{}").await;
    assert!(answer.contains("etcdserver: user name is empty"), "{answer}");
    world.server.stop().await;
}
