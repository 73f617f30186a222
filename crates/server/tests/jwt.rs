//! Signed tokens (JWT) over the wire: which are believed, for how long what they were made for holds,
//! and what etcd says when it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use common::{Server, framed, raw_call};
use quorate::Consistency;
use quorate_etcd_api::etcdserverpb::{
    AuthUserGetRequest, AuthenticateRequest, PutRequest, RangeRequest,
};
use quorate_server::{AuthTokens, Jwt, JwtFiles, ServerOptions};
use ring::hmac;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OLD: &str = "etcdserver: revision of auth store is old";
const INVALID: &str = "etcdserver: invalid auth token";

fn file(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jwt")).join(name)
}

/// A server with these keys, where there are root and alice, who may read and write `a`.
async fn server(method: &str, private: Option<&str>, public: Option<&str>) -> Server {
    let jwt = Jwt::load(&JwtFiles {
        sign_method: method.parse().unwrap(),
        private_key: private.map(file),
        public_key: public.map(file),
        time_to_live: Duration::from_mins(5),
    });
    let auth_tokens = AuthTokens::Jwt(Arc::new(jwt.unwrap()));
    let options = ServerOptions { auth_tokens, bcrypt_cost: 4, ..ServerOptions::default() };
    let server = Server::start_with(options).await;
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"rootpw"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("user/add", r#"{"name":"alice","password":"alicepw"}"#),
        ("role/add", r#"{"name":"letters"}"#),
        ("role/grant", r#"{"name":"letters","perm":{"permType":2,"key":"YQ=="}}"#),
        ("user/grant", r#"{"user":"alice","role":"letters"}"#),
        ("enable", "{}"),
    ] {
        let (status, answer) = server.post(&format!("/v3/auth/{path}"), body).await;
        assert_eq!(status, 200, "{answer}");
    }
    server
}

/// How many changes [`server`] makes, and 1 before the first; to enable is none.
const REVISION: u64 = 7;

async fn log_in(server: &Server, name: &str) -> String {
    let body = format!(r#"{{"name":"{name}","password":"{name}pw"}}"#);
    let (_, answer) = server.post("/v3/auth/authenticate", &body).await;
    let token = answer.split_once(r#""token":""#).expect(&answer).1;
    token.split('"').next().unwrap().to_owned()
}

/// A gateway request of somebody: its answer.
async fn post_as(server: &Server, token: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST /v3/{path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: {token}\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A watch goes on: what it says first is enough.
    while path != "watch" || !answer.contains("\"}}") {
        let mut piece = vec![0; 4096];
        match stream.read(&mut piece).await.unwrap() {
            0 => break,
            count => answer.push_str(std::str::from_utf8(&piece[..count]).unwrap()),
        }
    }
    answer
}

async fn list_users(server: &Server, token: &str) -> String {
    post_as(server, token, "auth/user/list", "{}").await
}

/// A token that says this, signed with that secret.
fn hs256(secret: &[u8], alg: &str, name: &str, revision: u64) -> String {
    let head = BASE64.encode(format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
    let claims = BASE64.encode(format!(r#"{{"username":"{name}","revision":{revision}}}"#));
    let signed = format!("{head}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = BASE64.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn a_signed_token_is_good_for_whom_it_names() {
    let server = server("ES256", Some("p256.pem"), Some("p256-public.pem")).await;
    let (root, alice) = (log_in(&server, "root").await, log_in(&server, "alice").await);
    assert_eq!(root.split('.').count(), 3);
    assert!(list_users(&server, &root).await.contains(r#""users":["alice","root"]"#));
    assert!(list_users(&server, &alice).await.contains("etcdserver: permission denied"));
    let put = post_as(&server, &alice, "kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).await;
    assert!(put.starts_with("HTTP/1.1 200 "), "{put}");
    let mut client = server.http2().await;
    let body = framed(&AuthUserGetRequest { name: "alice".to_owned() });
    let path = "/etcdserverpb.Auth/UserGet";
    let answer = raw_call(&mut client, path, &[("token", &alice)], body).await;
    assert_eq!(answer.code, "0");
    let wrong = r#"{"name":"alice","password":"rootpw"}"#;
    let (status, answer) = server.post("/v3/auth/authenticate", wrong).await;
    let text = "etcdserver: authentication failed, invalid user ID or password";
    assert!(status == 400 && answer.contains(text), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_not_in_the_log() {
    let server = server("HS256", Some("secret"), None).await;
    // The status may be that of before the last answer.
    let log_end = async || {
        let patience = Duration::from_mins(1);
        server.node.read_barrier(Consistency::Linearizable, patience).await.unwrap()
    };
    let before = log_end().await;
    let token = log_in(&server, "alice").await;
    assert_eq!(log_end().await, before, "nobody has to hear of it");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!server.written().contains(signature));
    server.stop().await;
}

#[tokio::test]
async fn a_token_of_an_older_revision_is_refused_as_etcd_refuses_it() {
    let server = server("HS256", Some("secret"), None).await;
    let (root, alice) = (log_in(&server, "root").await, log_in(&server, "alice").await);
    let lease = r#"{"ID":7,"TTL":5000}"#;
    assert!(post_as(&server, &alice, "lease/grant", lease).await.contains(r#""ID":"7""#));
    let attached = r#"{"key":"YQ==","lease":7}"#;
    assert!(post_as(&server, &alice, "kv/put", attached).await.contains("200 OK"));
    // What alice may do is as it was.
    assert!(post_as(&server, &root, "auth/role/add", r#"{"name":"other"}"#).await.contains("200"));
    for (path, body) in [
        ("kv/range", r#"{"key":"YQ=="}"#),
        ("kv/range", r#"{"key":"YQ==","serializable":true}"#),
        ("kv/put", r#"{"key":"YQ=="}"#),
        ("kv/deleterange", r#"{"key":"YQ=="}"#),
        ("kv/txn", r#"{"success":[{"request_range":{"key":"YQ=="}}]}"#),
        ("watch", r#"{"create_request":{"key":"YQ=="}}"#),
        ("lease/revoke", r#"{"ID":7}"#),
        ("lease/keepalive", r#"{"ID":7}"#),
        ("lease/timetolive", r#"{"ID":7,"keys":true}"#),
        ("lock/lock", r#"{"name":"YQ==","lease":7}"#),
        ("election/leader", r#"{"name":"YQ=="}"#),
        ("election/observe", r#"{"name":"YQ=="}"#),
    ] {
        let answer = post_as(&server, &alice, path, body).await;
        assert!(answer.contains(OLD), "{path} {body}: {answer}");
    }
    // As in etcd, whoever may do everything may go on with it: they change users one by one.
    assert!(list_users(&server, &root).await.contains(r#""users":"#));
    let everything = r#"{"key":"AA==","range_end":"AA=="}"#;
    assert!(post_as(&server, &root, "kv/range", everything).await.contains(OLD));
    let alice = log_in(&server, "alice").await;
    assert!(post_as(&server, &alice, "kv/range", r#"{"key":"YQ=="}"#).await.contains("200 OK"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_of_a_revision_that_has_not_been_is_nobodys() {
    let server = server("HS256", Some("secret"), None).await;
    let secret = std::fs::read(file("secret")).unwrap();
    let now = hs256(&secret, "HS256", "alice", REVISION);
    let ahead = hs256(&secret, "HS256", "alice", REVISION + 1);
    let range = r#"{"key":"YQ=="}"#;
    assert!(post_as(&server, &now, "kv/range", range).await.contains("200 OK"));
    assert!(post_as(&server, &ahead, "kv/range", range).await.contains(INVALID));
    let watch = r#"{"create_request":{"key":"YQ=="}}"#;
    assert!(post_as(&server, &ahead, "watch", watch).await.contains(INVALID));
    server.stop().await;
}

#[tokio::test]
async fn a_forged_token_is_nobodys() {
    let server = server("RS256", None, Some("rsa-public.pem")).await;
    let public = std::fs::read(file("rsa-public.pem")).unwrap();
    let root = hs256(&public, "HS256", "root", REVISION);
    let (unsigned, _) = root.rsplit_once('.').unwrap();
    let claims = unsigned.split_once('.').unwrap().1;
    let none = format!("{}.{claims}.", BASE64.encode(r#"{"alg":"none"}"#));
    let as_rs256 = hs256(&public, "RS256", "root", REVISION);
    let believed = include_str!("jwt/tokens.txt");
    let believed = believed.lines().find_map(|line| line.strip_prefix("RS256 ")).unwrap();
    let stolen = format!("{unsigned}.{}", believed.rsplit_once('.').unwrap().1);
    for forged in [root.as_str(), unsigned, &none, &as_rs256, &stolen, "a.7"] {
        let answer = list_users(&server, forged).await;
        assert!(answer.contains(INVALID), "{forged}: {answer}");
    }
    // Of one that somebody signed who may.
    let answer = post_as(&server, believed, "kv/range", r#"{"key":"YQ=="}"#).await;
    assert!(answer.contains("200 OK"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn who_has_the_public_key_alone_gives_nobody_a_token() {
    let server = server("RS256", None, Some("rsa-certificate.pem")).await;
    let mut client = server.http2().await;
    let path = "/etcdserverpb.Auth/Authenticate";
    for (password, code, text) in [
        ("alicepw", "2", "auth: token signing attempted with verify-only key"),
        ("wrong", "3", "etcdserver: authentication failed, invalid user ID or password"),
    ] {
        let request =
            AuthenticateRequest { name: "alice".to_owned(), password: password.to_owned() };
        let answer = raw_call(&mut client, path, &[], framed(&request)).await;
        assert_eq!((answer.code.as_str(), answer.message.as_str()), (code, text));
    }
    server.stop().await;
}

#[tokio::test]
async fn refusals_have_etcds_codes() {
    let server = server("HS256", Some("secret"), None).await;
    let secret = std::fs::read(file("secret")).unwrap();
    let old = hs256(&secret, "HS256", "alice", REVISION - 1);
    let gone = hs256(&secret, "HS256", "nobody", REVISION);
    let mut client = server.http2().await;
    let range = framed(&RangeRequest { key: "a".into(), ..Default::default() });
    let put = framed(&PutRequest { key: "a".into(), ..Default::default() });
    for (token, code, text) in [
        (old.as_str(), "3", OLD),
        (gone.as_str(), "7", "etcdserver: permission denied"),
        ("x.y.z", "16", INVALID),
    ] {
        for (path, body) in [("Range", &range), ("Put", &put)] {
            let path = format!("/etcdserverpb.KV/{path}");
            let answer = raw_call(&mut client, &path, &[("token", token)], body.clone()).await;
            assert_eq!((answer.code.as_str(), answer.message.as_str()), (code, text), "{path}");
        }
    }
    server.stop().await;
}
