//! Users, roles and tokens over the wire: what etcd answers, and what it should have answered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Server, framed, raw_call, raw_open};
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    AuthUserGetRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use quorate_server::ServerOptions;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tonic::Streaming;

/// What etcd answered, in the form that its head describes.
const RECORDED: &str = include_str!("etcd-3.5.1-auth.txt");

async fn server() -> Server {
    // As cheap as it gets: what is shown here is not how slow a hash is.
    Server::start_with(ServerOptions { bcrypt_cost: 4, ..ServerOptions::default() }).await
}

/// A gateway request of somebody: status and body.
async fn post_as(server: &Server, token: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: {token}\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.trim_end().to_owned())
}

/// The token in an answer.
fn token_of(answer: &str) -> Option<&str> {
    answer.split_once(r#""token":""#)?.1.split('"').next()
}

async fn log_in(server: &Server, name: &str, password: &str) -> String {
    let body = format!(r#"{{"name":"{name}","password":"{password}"}}"#);
    let (_, answer) = server.post("/v3/auth/authenticate", &body).await;
    token_of(&answer).expect(&answer).to_owned()
}

/// Users are asked who they are; there is only root.
async fn guarded() -> Server {
    let server = server().await;
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"rootpw"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        assert_eq!(server.post(&format!("/v3/auth/{path}"), body).await.0, 200, "{path}");
    }
    server
}

#[tokio::test]
async fn auth_answers_as_etcd_3_5_1_did() {
    let server = server().await;
    let mut tokens: BTreeMap<String, String> = BTreeMap::new();
    tokens.insert("nonsense".to_owned(), "nonsense.1".to_owned());
    let mut lines = RECORDED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    while let Some(mut request) = lines.next() {
        let who = request.strip_prefix("AS ");
        if who.is_some() {
            request = lines.next().expect("somebody asks something");
        }
        let expected = lines.next().expect("a request is followed by its answer");
        let mut parts = request.splitn(3, ' ').skip(1);
        let (path, body) = (parts.next().unwrap(), parts.next().unwrap());
        let (status, mut answer) = match who {
            Some(who) => post_as(&server, &tokens[who], path, body).await,
            None => server.post(path, body).await,
        };
        if let (Some(token), Some(name)) = (token_of(&answer), token_of(expected)) {
            let (token, name) = (token.to_owned(), name.trim_start_matches('$').to_owned());
            answer = answer.replace(&token, &format!("${name}"));
            tokens.insert(name, token);
        }
        let term = format!(r#""raft_term":"{}""#, server.node.status().current_term);
        let answer = answer.trim_end().replace(&term, r#""raft_term":"2""#);
        assert_eq!(format!("{status} {answer}"), expected, "{who:?} {request}");
        count += 1;
    }
    assert!(count > 100, "{count}");
    server.stop().await;
}

#[tokio::test]
async fn what_a_later_etcd_refuses_is_refused() {
    let server = server().await;
    let cut = "bcrypt: password length exceeds 72 bytes";
    let body = format!(r#"{{"name":"a","password":"{}"}}"#, "x".repeat(73));
    let invalid = "etcdserver: invalid auth management";
    let grant = |key: &str, end: &str| {
        format!(r#"{{"name":"ghost","perm":{{"key":"{key}","range_end":"{end}"}}}}"#)
    };
    for (path, body, status, text) in [
        ("user/add", body, 500, cut),
        ("role/grant", grant("", "AA=="), 400, invalid),
        ("role/grant", grant("Yg==", "YQ=="), 400, invalid),
    ] {
        let (got, answer) = server.post(&format!("/v3/auth/{path}"), &body).await;
        assert_eq!(got, status, "{answer}");
        assert!(answer.contains(&format!(r#""error":"{text}""#)), "{answer}");
    }
    // Clients go on sending theirs after `auth disable`.
    let (status, _) = post_as(&server, "nonsense.1", "/v3/auth/status", "{}").await;
    assert_eq!(status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_taken_where_etcds_clients_put_it() {
    let server = guarded().await;
    let token = log_in(&server, "root", "rootpw").await;
    let ahead = format!("{token}9");
    let mut client = server.http2().await;
    let path = "/etcdserverpb.Auth/UserGet";
    let body = || framed(&AuthUserGetRequest { name: "root".to_owned() });
    for header in ["token", "authorization"] {
        let answer = raw_call(&mut client, path, &[(header, &token)], body()).await;
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("0", ""));
    }
    for (header, text) in [
        (None, "etcdserver: user name is empty"),
        (Some("nonsense"), "etcdserver: invalid auth token"),
        (Some(""), "etcdserver: invalid auth token"),
        // Of an entry that is still to come, for all that this member knows.
        (Some(ahead.as_str()), "etcdserver: invalid auth token"),
    ] {
        let headers: Vec<_> = header.map(|token| ("token", token)).into_iter().collect();
        let answer = raw_call(&mut client, path, &headers, body()).await;
        assert_eq!(answer.message, text, "{header:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_leaves_others_served() {
    let server = guarded().await;
    let token = log_in(&server, "root", "rootpw").await;
    let wrong = r#"{"name":"root","password":"wrong"}"#;
    let flood = (0..64).map(|_| server.post("/v3/auth/authenticate", wrong));
    let others = async {
        for _ in 0..16 {
            let (status, answer) = post_as(&server, &token, "/v3/auth/user/list", "{}").await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    let (refused, ()) = tokio::join!(futures_util::future::join_all(flood), others);
    let text = "etcdserver: authentication failed, invalid user ID or password";
    for (status, answer) in refused {
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
    server.stop().await;
}

/// Users are asked: root, and alice, who may read and write what lies from `a` to before `c`.
async fn with_alice() -> (Server, String, String) {
    let server = guarded().await;
    let root = log_in(&server, "root", "rootpw").await;
    for (path, body) in [
        ("user/add", r#"{"name":"alice","password":"alicepw"}"#),
        ("role/add", r#"{"name":"letters"}"#),
        (
            "role/grant",
            r#"{"name":"letters","perm":{"permType":2,"key":"YQ==","range_end":"Yw=="}}"#,
        ),
        ("user/grant", r#"{"user":"alice","role":"letters"}"#),
    ] {
        let (status, answer) = post_as(&server, &root, &format!("/v3/auth/{path}"), body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let alice = log_in(&server, "alice", "alicepw").await;
    (server, root, alice)
}

#[tokio::test]
async fn no_password_is_in_what_a_member_writes() {
    let (server, root, _) = with_alice().await;
    let change = r#"{"name":"alice","password":"another one"}"#;
    assert_eq!(post_as(&server, &root, "/v3/auth/user/changepw", change).await.0, 200);
    log_in(&server, "alice", "another one").await;
    let written = server.written();
    assert!(written.contains("alice") && written.contains("letters"), "the log is looked at");
    for password in ["rootpw", "alicepw", "another one"] {
        assert!(!written.contains(password), "{password}");
    }
    server.stop().await;
}

/// Every gateway path but those by which one becomes somebody, and whether alice may go there.
const PATHS: [(&str, &str, bool); 50] = [
    ("kv/range", r#"{"key":"YQ=="}"#, true),
    ("kv/range", r#"{"key":"AA==","range_end":"AA=="}"#, false),
    ("kv/put", r#"{"key":"YQ=="}"#, true),
    ("kv/put", r#"{"key":"eA=="}"#, false),
    ("kv/deleterange", r#"{"key":"Yg=="}"#, true),
    ("kv/deleterange", r#"{"key":"Yg==","range_end":"eA=="}"#, false),
    ("kv/txn", r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#, true),
    ("kv/txn", r#"{"success":[{"request_range":{"key":"YQ=="}}]}"#, true),
    ("kv/txn", r#"{"failure":[{"request_range":{"key":"eA=="}}]}"#, false),
    (
        "kv/txn",
        r#"{"success":[{"request_txn":{"failure":[{"request_put":{"key":"eA=="}}]}}]}"#,
        false,
    ),
    ("kv/txn", "{}", true),
    ("kv/compaction", r#"{"revision":1}"#, false),
    ("lease/grant", r#"{"ID":7,"TTL":5000}"#, true),
    ("lease/timetolive", r#"{"ID":7,"keys":true}"#, true),
    ("lease/leases", "{}", true),
    ("lease/keepalive", r#"{"ID":7}"#, true),
    ("lock/lock", r#"{"name":"YQ==","lease":7}"#, true),
    ("lock/lock", r#"{"name":"eA==","lease":7}"#, false),
    ("lock/unlock", r#"{"key":"eA=="}"#, false),
    ("election/campaign", r#"{"name":"YQ==","lease":7,"value":"MQ=="}"#, true),
    ("election/campaign", r#"{"name":"eA==","lease":7}"#, false),
    ("election/proclaim", r#"{"leader":{"key":"eA==","lease":7}}"#, false),
    ("election/resign", r#"{"leader":{"key":"eA=="}}"#, false),
    ("election/leader", r#"{"name":"eA=="}"#, false),
    ("lease/revoke", r#"{"ID":7}"#, true),
    ("maintenance/status", "{}", true),
    ("maintenance/alarm", "{}", true),
    ("maintenance/alarm", r#"{"action":1,"alarm":1}"#, false),
    ("maintenance/defragment", "{}", false),
    ("maintenance/hash", "{}", false),
    ("maintenance/hashkv", "{}", false),
    ("maintenance/snapshot", "{}", false),
    ("maintenance/transfer-leadership", "{}", false),
    ("maintenance/downgrade", "{}", false),
    ("cluster/member/list", "{}", true),
    ("cluster/member/add", "{}", false),
    ("cluster/member/remove", "{}", false),
    ("cluster/member/update", "{}", false),
    ("cluster/member/promote", "{}", false),
    ("auth/enable", "{}", false),
    ("auth/status", "{}", false),
    ("auth/user/add", r#"{"name":"m"}"#, false),
    ("auth/user/list", "{}", false),
    ("auth/user/changepw", r#"{"name":"root","password":"x"}"#, false),
    ("auth/user/grant", r#"{"user":"alice","role":"root"}"#, false),
    ("auth/role/add", r#"{"name":"m"}"#, false),
    ("auth/role/list", "{}", false),
    ("auth/role/delete", r#"{"role":"letters"}"#, false),
    ("auth/user/delete", r#"{"name":"root"}"#, false),
    ("auth/disable", "{}", false),
];

#[tokio::test]
async fn every_method_asks_who_is_calling() {
    let (server, root, alice) = with_alice().await;
    let nobody = "etcdserver: user name is empty";
    let denied = "etcdserver: permission denied";
    for (path, body, may_alice) in PATHS {
        let path = format!("/v3/{path}");
        let (_, answer) = server.post(&path, body).await;
        assert!(answer.contains(nobody), "{path} {body}: {answer}");
        let (_, answer) = post_as(&server, "nonsense.1", &path, body).await;
        assert!(answer.contains("etcdserver: invalid auth token"), "{path}: {answer}");
        let (status, answer) = post_as(&server, &alice, &path, body).await;
        assert_eq!(status == 200, may_alice, "{path} {body}: {answer}");
        assert_eq!(answer.contains(denied), !may_alice, "{path} {body}: {answer}");
    }
    // Nothing of it has happened, and root may.
    let (_, answer) = post_as(&server, &root, "/v3/auth/user/list", "{}").await;
    assert!(answer.contains(r#""users":["alice","root"]"#), "{answer}");
    let everything = r#"{"key":"AA==","range_end":"AA==","keys_only":true}"#;
    let (_, answer) = post_as(&server, &root, "/v3/kv/range", everything).await;
    assert!(answer.contains(r#""count":"1""#), "{answer}");
    let (status, _) = post_as(&server, &root, "/v3/kv/compaction", r#"{"revision":2}"#).await;
    assert_eq!(status, 200);
    server.stop().await;
}

/// A put by itself, in a transaction, and in one of those: what each answers.
async fn put_in_three_ways(server: &Server, token: &str, put: &str) -> [(u16, String); 3] {
    let within = |op: String| format!(r#"{{"success":[{{{op}}}]}}"#);
    let txn = within(format!(r#""request_put":{put}"#));
    let nested = within(format!(r#""request_txn":{txn}"#));
    [
        post_as(server, token, "/v3/kv/put", put).await,
        post_as(server, token, "/v3/kv/txn", &txn).await,
        post_as(server, token, "/v3/kv/txn", &nested).await,
    ]
}

/// CVE-2026-44283: in a transaction, a put showed what was there before to who may not read it, and
/// took a lease that others have keys with.
#[tokio::test]
async fn a_put_in_a_transaction_shows_and_attaches_no_more_than_by_itself() {
    let (server, root, _) = with_alice().await;
    for (path, body) in [
        // To write `w`, and not to read it.
        ("auth/role/grant", r#"{"name":"letters","perm":{"permType":1,"key":"dw=="}}"#),
        ("lease/grant", r#"{"ID":7,"TTL":1000}"#),
        ("kv/put", r#"{"key":"eA==","lease":7}"#),
        ("kv/put", r#"{"key":"dw==","value":"c2VjcmV0"}"#),
    ] {
        let (status, answer) = post_as(&server, &root, &format!("/v3/{path}"), body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let alice = log_in(&server, "alice", "alicepw").await;
    for put in [r#"{"key":"dw==","value":"eA==","prev_kv":true}"#, r#"{"key":"YQ==","lease":7}"#] {
        for (status, answer) in put_in_three_ways(&server, &alice, put).await {
            assert_eq!(status, 403, "{put}: {answer}");
            assert!(answer.contains("etcdserver: permission denied"), "{put}: {answer}");
        }
    }
    let range = r#"{"key":"dw=="}"#;
    let (_, answer) = post_as(&server, &root, "/v3/kv/range", range).await;
    assert!(answer.contains(r#""value":"c2VjcmV0""#), "nothing was carried out: {answer}");
    for put in [r#"{"key":"dw==","value":"eA=="}"#, r#"{"key":"YQ=="}"#] {
        for (status, answer) in put_in_three_ways(&server, &alice, put).await {
            assert_eq!(status, 200, "{put}: {answer}");
        }
    }
    server.stop().await;
}

/// A stream of watches of somebody, with the side that asks.
struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(server: &Server, token: Option<&str>) -> Self {
        let (requests, mut queue) = mpsc::channel(16);
        let stream = futures_util::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let mut request = tonic::Request::new(stream);
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        let mut client = WatchClient::new(server.channel().await);
        let responses = client.watch(request).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn create(&mut self, key: &'static str, range_end: &'static str) -> WatchResponse {
        let (key, range_end) = (key.into(), range_end.into());
        let create = WatchCreateRequest { key, range_end, ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        self.requests.send(request).await.unwrap();
        self.next().await
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }
}

const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

#[tokio::test]
async fn a_watch_of_more_than_was_granted_is_refused() {
    let (server, _, alice) = with_alice().await;
    let mut hers = Stream::open(&server, Some(&alice)).await;
    for (key, range_end) in [("a", ""), ("a", "c"), ("b", "b\0")] {
        let response = hers.create(key, range_end).await;
        assert!(response.created && !response.canceled, "{key} {range_end}");
    }
    for (key, range_end) in [("a", "\0"), ("", "\0"), ("", ""), ("a", "d"), ("x", "")] {
        let response = hers.create(key, range_end).await;
        assert!(response.created && response.canceled, "{key} {range_end}");
        assert_eq!((response.watch_id, response.cancel_reason.as_str()), (-1, DENIED));
    }
    for (token, text) in [
        (None, "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"),
        (Some("x.1"), "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"),
    ] {
        let mut stream = Stream::open(&server, token).await;
        assert_eq!(stream.create("a", "").await.cancel_reason, text);
    }
    drop(hers);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_when_its_right_is_taken_away() {
    let (server, root, alice) = with_alice().await;
    let mut stream = Stream::open(&server, Some(&alice)).await;
    assert!(stream.create("a", "").await.created);
    let put = r#"{"key":"YQ==","value":"MQ=="}"#;
    assert_eq!(post_as(&server, &alice, "/v3/kv/put", put).await.0, 200);
    assert_eq!(stream.next().await.events.len(), 1);
    let grant = r#"{"name":"letters","perm":{"key":"eA=="}}"#;
    assert_eq!(post_as(&server, &root, "/v3/auth/role/grant", grant).await.0, 200);
    assert_eq!(post_as(&server, &root, "/v3/kv/put", put).await.0, 200);
    assert_eq!(stream.next().await.events.len(), 1, "others changed, and it goes on");
    let revoke = r#"{"name":"alice","role":"letters"}"#;
    assert_eq!(post_as(&server, &root, "/v3/auth/user/revoke", revoke).await.0, 200);
    let ended = stream.next().await;
    assert!(ended.canceled && ended.events.is_empty());
    assert_eq!((ended.watch_id, ended.cancel_reason.as_str()), (0, DENIED));
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn who_began_to_renew_goes_on_without_the_token_as_long_as_they_may() {
    let (server, root, alice) = with_alice().await;
    let as_root = async |path: &str, body: &str| {
        let (status, answer) = post_as(&server, &root, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    };
    as_root("/v3/lease/grant", r#"{"ID":"5","TTL":"5000"}"#).await;
    as_root("/v3/kv/put", r#"{"key":"YQ==","lease":"5"}"#).await;
    let open = async || {
        let (requests, mut queue) = mpsc::channel(16);
        requests.send(LeaseKeepAliveRequest { id: 5 }).await.unwrap();
        let stream = futures_util::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let mut request = tonic::Request::new(stream);
        request.metadata_mut().insert("token", alice.parse().unwrap());
        let mut client = LeaseClient::new(server.channel().await);
        (requests, client.lease_keep_alive(request).await.unwrap().into_inner())
    };
    let (requests, mut answers) = open().await;
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 5000);

    // All tokens of hers are forgotten, as when they end.
    as_root("/v3/auth/user/changepw", r#"{"name":"alice","password":"other"}"#).await;
    let (_late, mut refused) = open().await;
    assert_eq!(refused.message().await.unwrap_err().message(), "etcdserver: invalid auth token");
    for _ in 0..2 {
        requests.send(LeaseKeepAliveRequest { id: 5 }).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl, 5000);
    }
    as_root("/v3/auth/user/revoke", r#"{"name":"alice","role":"letters"}"#).await;
    requests.send(LeaseKeepAliveRequest { id: 5 }).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().message(), "etcdserver: permission denied");
    drop((requests, answers));
    server.stop().await;
}

#[tokio::test]
async fn a_range_in_pieces_is_for_who_may_read_it_as_long_as_they_may() {
    let (server, root, alice) = with_alice().await;
    let mut client = server.http2().await;
    let path = "/etcdserverpb.KV/RangeStream";
    for key in ["a1", "a2", "a3"] {
        let put =
            PutRequest { key: key.into(), value: vec![7; 300_000].into(), ..Default::default() };
        let headers = [("token", alice.as_str())];
        assert_eq!(
            raw_call(&mut client, "/etcdserverpb.KV/Put", &headers, framed(&put)).await.code,
            "0"
        );
    }
    let range = |from: &'static str, to: &'static str| {
        framed(&RangeRequest { key: from.into(), range_end: to.into(), ..Default::default() })
    };
    let denied = ("7".to_owned(), "etcdserver: permission denied".to_owned());
    let nobody = ("3".to_owned(), "etcdserver: user name is empty".to_owned());
    let own = [("token", alice.as_str())];
    let answer = raw_call(&mut client, path, &own, range("a", "d")).await;
    assert_eq!((answer.code, answer.message), denied);
    let answer = raw_call(&mut client, path, &[], range("a", "c")).await;
    assert_eq!((answer.code, answer.message), nobody);
    let answer = raw_call(&mut client, path, &own, range("a", "c")).await;
    assert_eq!((answer.code.as_str(), answer.body.len() > 900_000), ("0", true));

    let others = raw_open(&mut client, path, &own, range("a", "c")).await.begun().await;
    let body = r#"{"name":"bob","password":"bobpw"}"#;
    assert_eq!(post_as(&server, &root, "/v3/auth/user/add", body).await.0, 200);
    assert_eq!(others.finish().await.code, "0", "that others change does not matter");
    let pieces = raw_open(&mut client, path, &own, range("a", "c")).await.begun().await;
    let body = r#"{"name":"alice","role":"letters"}"#;
    assert_eq!(post_as(&server, &root, "/v3/auth/user/revoke", body).await.0, 200);
    let answer = pieces.finish().await;
    assert_eq!((answer.code, answer.message), denied);
    assert!(answer.body.len() < 400_000, "no piece was read after that: {}", answer.body.len());
    server.stop().await;
}
