//! Locks and elections over gRPC and over the JSON gateway, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Server, framed, raw_call};
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
};
use quorate_etcd_api::mvccpb::KeyValue;
use quorate_etcd_api::v3electionpb::election_client::ElectionClient;
use quorate_etcd_api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ResignRequest,
};
use quorate_etcd_api::v3lockpb::lock_client::LockClient;
use quorate_etcd_api::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use quorate_server::ServerOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// What etcd answered, in the form that its head describes.
const RECORDED: &str = include_str!("etcd-3.5.1-recipes.txt");

#[derive(Clone)]
struct Client {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    lock: LockClient<Channel>,
    election: ElectionClient<Channel>,
}

impl Client {
    /// One of a server that knows the leases 1 to 9.
    async fn of(server: &Server) -> Self {
        let channel = server.channel().await;
        let mut client = Self {
            kv: KvClient::new(channel.clone()),
            lease: LeaseClient::new(channel.clone()),
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel),
        };
        for id in 1..10 {
            client.lease.lease_grant(LeaseGrantRequest { ttl: 5000, id }).await.unwrap();
        }
        client
    }

    async fn lock(&mut self, lease: i64) -> Result<LockResponse, Status> {
        let request = LockRequest { name: "l".into(), lease };
        Ok(self.lock.lock(request).await?.into_inner())
    }

    async fn unlock(&mut self, key: impl Into<Bytes>) {
        self.lock.unlock(UnlockRequest { key: key.into() }).await.unwrap();
    }

    async fn campaign(&mut self, lease: i64, value: &'static str) -> Result<LeaderKey, Status> {
        let request = CampaignRequest { name: "e".into(), lease, value: value.into() };
        let CampaignResponse { header, leader } =
            self.election.campaign(request).await?.into_inner();
        let leader = leader.unwrap();
        assert_eq!(header.unwrap().revision, leader.rev, "of the entry into the line");
        Ok(leader)
    }

    async fn proclaim(&mut self, leader: &LeaderKey, value: &'static str) -> Result<(), Status> {
        let request = ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
        self.election.proclaim(request).await.map(drop)
    }

    async fn resign(&mut self, leader: &LeaderKey) {
        let request = ResignRequest { leader: Some(leader.clone()) };
        self.election.resign(request).await.unwrap();
    }

    async fn leader(&mut self) -> Result<LeaderResponse, Status> {
        Ok(self.election.leader(LeaderRequest { name: "e".into() }).await?.into_inner())
    }

    async fn observe(&mut self) -> Streaming<LeaderResponse> {
        let request = LeaderRequest { name: "e".into() };
        self.election.observe(request).await.unwrap().into_inner()
    }

    async fn revoke(&mut self, id: i64) {
        self.lease.lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
    }

    /// All keys of the lock and the election, in the order of their creation.
    async fn keys(&mut self) -> Vec<KeyValue> {
        let request = RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
        let mut kvs = self.kv.range(request).await.unwrap().into_inner().kvs;
        kvs.sort_by_key(|kv| kv.create_revision);
        kvs
    }

    /// Returns when these are the keys.
    async fn see(&mut self, keys: &[&str]) {
        while self.keys().await.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>() != keys {
            tokio::task::yield_now().await;
        }
    }

    /// A call that waits for the lock, and has its place in the line.
    async fn queue(&mut self, lease: i64) -> JoinHandle<Result<LockResponse, Status>> {
        let mut client = self.clone();
        let call = tokio::spawn(async move { client.lock(lease).await });
        let key = format!("l/{lease:x}");
        while !self.keys().await.iter().any(|kv| kv.key == key) {
            tokio::task::yield_now().await;
        }
        call
    }
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn unknown(text: &str) -> (Code, String) {
    (Code::Unknown, text.to_owned())
}

#[tokio::test]
async fn locks_and_elections_answer_as_etcd_3_5_1_did() {
    let server = Server::start().await;
    server.answers_as_recorded(RECORDED).await;
    server.stop().await;
}

#[tokio::test]
async fn a_lock_goes_from_hand_to_hand_in_the_order_in_which_it_was_asked_for() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    let first = client.lock(3).await.unwrap();
    assert_eq!(first.key, "l/3");
    let header = first.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (common::CLUSTER_ID, common::MEMBER_ID));
    assert_eq!(header.revision, 2);
    let second = client.queue(2).await;
    let third = client.queue(1).await;
    client.unlock(first.key).await;
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.key, "l/2");
    assert!(second.header.unwrap().revision >= 5, "of when it was its turn");
    assert!(!third.is_finished());
    client.see(&["l/2", "l/1"]).await;
    client.unlock(second.key).await;
    assert_eq!(third.await.unwrap().unwrap().key, "l/1");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn who_asks_again_for_what_they_hold_has_it_and_who_waits_does_so_once() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    let held = client.lock(1).await.unwrap();
    assert_eq!(client.lock(1).await.unwrap(), held);
    let (one, other) = (client.queue(2).await, client.queue(2).await);
    assert_eq!(client.keys().await.len(), 2);
    client.unlock(held.key).await;
    let (one, other) = (one.await.unwrap().unwrap(), other.await.unwrap().unwrap());
    assert_eq!((one.key, other.key), (Bytes::from("l/2"), "l/2".into()));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_call_without_a_lease_gets_one_that_lives_for_a_minute() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    let key = client.lock(0).await.unwrap().key;
    let lease = client.keys().await[0].lease;
    assert_eq!(key, format!("l/{lease:x}"));
    let (_, answer) = server.post("/v3/lease/timetolive", &format!(r#"{{"ID":"{lease}"}}"#)).await;
    assert!(answer.contains(r#""grantedTTL":"60""#), "{answer}");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_leaves_the_line() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.lock(1).await.unwrap();
    // By gRPC.
    let waiting = client.queue(2).await;
    let last = client.queue(3).await;
    waiting.abort();
    client.see(&["l/1", "l/3"]).await;
    // By the gateway: over HTTP/1.1, and over HTTP/2.
    let body = r#"{"name":"bA==","lease":"4"}"#;
    let mut stream = server.connect().await;
    let length = body.len();
    let head =
        format!("POST /v3/lock/lock HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    client.see(&["l/1", "l/3", "l/4"]).await;
    drop(stream);
    client.see(&["l/1", "l/3"]).await;
    let mut http2 = server.http2().await;
    let request = http::Request::post("http://test/v3/lock/lock").body(()).unwrap();
    let (answer, mut stream) = http2.send_request(request, false).unwrap();
    stream.send_data(Bytes::from(body), true).unwrap();
    client.see(&["l/1", "l/3", "l/4"]).await;
    drop((answer, stream));
    client.see(&["l/1", "l/3"]).await;
    // With its whole connection.
    let mut other = Client { lock: LockClient::new(server.channel().await), ..client.clone() };
    let waiting = other.queue(5).await;
    drop(other);
    waiting.abort();
    client.see(&["l/1", "l/3"]).await;
    // The others have not noticed.
    assert!(!last.is_finished());
    client.unlock("l/1").await;
    assert_eq!(last.await.unwrap().unwrap().key, "l/3");
    drop((client, http2));
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_want_to_wait_any_longer_is_told_so_and_leaves_the_line() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.lock(1).await.unwrap();
    let mut http2 = server.http2().await;
    for path in ["v3lockpb.Lock/Lock", "v3electionpb.Election/Campaign"] {
        let body = framed(&LockRequest { name: "l".into(), lease: 2 });
        let headers = [("grpc-timeout", "20m")];
        let answer = raw_call(&mut http2, &format!("/{path}"), &headers, body).await;
        assert_eq!(
            (answer.code.as_str(), answer.message.as_str()),
            ("4", "context deadline exceeded")
        );
        client.see(&["l/1"]).await;
    }
    drop((client, http2));
    server.stop().await;
}

/// The key of the first call is on its way out when the second one asks for it.
#[tokio::test]
async fn who_asks_again_after_giving_up_is_not_given_a_key_that_is_about_to_go() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    for _ in 0..16 {
        client.lock(1).await.unwrap();
        client.queue(2).await.abort();
        let again = client.queue(2).await;
        client.unlock("l/1").await;
        assert_eq!(again.await.unwrap().unwrap().key, "l/2");
        client.see(&["l/2"]).await;
        client.unlock("l/2").await;
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn who_waits_without_a_lease_any_more_is_told_at_once() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.lock(1).await.unwrap();
    let waiting = client.queue(2).await;
    client.revoke(2).await;
    assert_eq!(said(waiting.await.unwrap()), unknown("mutex: session is expired"));
    let text = "etcdserver: requested lease not found";
    assert_eq!(said(client.lock(2).await), unknown(text));

    client.campaign(1, "v").await.unwrap();
    let mut candidate = client.clone();
    let waiting = tokio::spawn(async move { candidate.campaign(3, "w").await });
    client.see(&["l/1", "e/1", "e/3"]).await;
    client.revoke(3).await;
    assert_eq!(said(waiting.await.unwrap()), unknown("election: not leader"));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn only_who_leads_may_proclaim_and_resign() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    assert_eq!(said(client.leader().await), unknown("election: no leader"));
    let first = client.campaign(1, "a").await.unwrap();
    let mut candidate = client.clone();
    let second = tokio::spawn(async move { candidate.campaign(2, "b").await });
    client.see(&["e/1", "e/2"]).await;
    client.proclaim(&first, "c").await.unwrap();
    let leader = client.leader().await.unwrap().kv.unwrap();
    assert_eq!((leader.key, leader.value), (Bytes::from("e/1"), "c".into()));
    client.resign(&first).await;
    let second = second.await.unwrap().unwrap();
    assert_eq!((second.key.as_ref(), second.lease, second.rev), (&b"e/2"[..], 2, 3));
    assert_eq!(client.leader().await.unwrap().kv.unwrap().value, "b");
    assert_eq!(said(client.proclaim(&first, "d").await), unknown("election: not leader"));
    // A key of that name that is another one.
    let again = LeaderKey { key: second.key.clone(), ..first };
    assert_eq!(said(client.proclaim(&again, "d").await), unknown("election: not leader"));
    client.resign(&again).await;
    assert_eq!(client.leader().await.unwrap().kv.unwrap().value, "b");
    drop(client);
    server.stop().await;
}

async fn told(stream: &mut Streaming<LeaderResponse>) -> (String, String, i64) {
    let LeaderResponse { header, kv } = stream.message().await.unwrap().expect("it goes on");
    let (kv, header) = (kv.unwrap(), header.unwrap());
    assert_eq!(header.member_id, common::MEMBER_ID);
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    (text(kv.key), text(kv.value), header.revision)
}

fn change(key: &str, value: &str, revision: i64) -> (String, String, i64) {
    (key.to_owned(), value.to_owned(), revision)
}

#[tokio::test]
async fn who_observes_an_election_sees_who_leads_and_each_change_of_it() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    let mut early = client.observe().await;
    let first = client.campaign(1, "a").await.unwrap();
    assert_eq!(told(&mut early).await, change("e/1", "a", 2));
    client.proclaim(&first, "b").await.unwrap();
    let mut candidate = client.clone();
    let second = tokio::spawn(async move { candidate.campaign(2, "c").await });
    client.see(&["e/1", "e/2"]).await;
    let mut late = client.observe().await;
    assert_eq!(told(&mut late).await, change("e/1", "b", 4));
    client.resign(&first).await;
    let second = second.await.unwrap().unwrap();
    client.proclaim(&second, "d").await.unwrap();
    assert_eq!(told(&mut early).await, change("e/1", "b", 3));
    for stream in [&mut early, &mut late] {
        let (mut key, mut value, mut revision) = told(stream).await;
        if value == "c" {
            assert_eq!((key.as_str(), revision), ("e/2", 5));
            (key, value, revision) = told(stream).await;
        }
        assert_eq!((key, value, revision), change("e/2", "d", 6));
    }
    // Nobody leads for a while; other keys do not matter.
    client.revoke(2).await;
    client.kv.put(PutRequest { key: "e".into(), ..Default::default() }).await.unwrap();
    let third = client.campaign(3, "f").await.unwrap();
    assert_eq!(told(&mut early).await, change("e/3", "f", third.rev));
    let ended = server.begin_stop();
    let text = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(said(early.message().await), text);
    drop((client, early, late));
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_when_the_server_stops_is_told_so() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.lock(1).await.unwrap();
    let waiting = client.queue(2).await;
    let ended = server.begin_stop();
    let text = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(said(waiting.await.unwrap()), text);
    drop(client);
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_requires_a_leader_does_not_wait_without_one() {
    let server = Server::leaderless().await;
    let mut http2 = server.http2().await;
    for path in
        ["v3lockpb.Lock/Lock", "v3electionpb.Election/Campaign", "v3electionpb.Election/Observe"]
    {
        let body = framed(&LockRequest { name: "l".into(), lease: 2 });
        let headers = [("hasleader", "true")];
        let answer = raw_call(&mut http2, &format!("/{path}"), &headers, body).await;
        assert_eq!(
            (answer.code.as_str(), answer.message.as_str()),
            ("14", "etcdserver: no leader")
        );
    }
    drop(http2);
    server.stop().await;
}

#[tokio::test]
async fn those_who_wait_have_only_so_much_room_and_others_are_served_all_the_same() {
    // One call with a key of three bytes.
    let claims_bytes_max = (4 << 10) + 4 * 3;
    let server = Server::start_with(ServerOptions { claims_bytes_max, ..Default::default() }).await;
    let mut client = Client::of(&server).await;
    client.lock(1).await.unwrap();
    let waiting = client.queue(2).await;
    assert_eq!(said(client.lock(3).await), unknown("etcdserver: too many requests"));
    client.unlock("l/1").await;
    waiting.await.unwrap().unwrap();
    client.unlock("l/2").await;
    client.lock(3).await.unwrap();
    drop(client);
    server.stop().await;
}

/// Each waits for the one in front: somebody who deletes all of them at once lets nobody win.
#[tokio::test]
async fn who_is_taken_out_of_the_line_by_somebody_else_does_not_win() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.lock(1).await.unwrap();
    let waiting = [client.queue(2).await, client.queue(3).await];
    let request =
        DeleteRangeRequest { key: "l/".into(), range_end: "l0".into(), ..Default::default() };
    client.kv.delete_range(request).await.unwrap();
    for call in waiting {
        assert_eq!(said(call.await.unwrap()), unknown("mutex: session is expired"));
    }
    drop(client);
    server.stop().await;
}

type Lines = BufReader<tokio::net::TcpStream>;

/// Opens a stream of the gateway, by HTTP/1.1 and as somebody, and reads the head of the answer.
async fn open(server: &Server, token: &str, path: &str, body: &str) -> Lines {
    let mut stream = server.connect().await;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: {token}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(lines.read_line(&mut head).await.unwrap() > 0, "there is a head");
    }
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

#[tokio::test]
async fn the_gateway_streams_a_line_of_json_for_each_change() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    assert_eq!(server.post("/v3/election/observe", "{bad").await.0, 400);
    // As in etcd, the answer begins with its first line.
    let lines = open(&server, "", "/v3/election/observe", r#"{"name":"ZQ=="}"#);
    let (mut lines, leader) = tokio::join!(lines, client.campaign(1, "a"));
    let leader = leader.unwrap();
    let mut line = next_line(&mut lines).await;
    assert!(line["result"]["header"].take().is_object());
    let kv = json!({
        "key": "ZS8x", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "YQ==",
        "lease": "1",
    });
    assert_eq!(line, json!({"result": {"header": null, "kv": kv}}));
    client.proclaim(&leader, "b").await.unwrap();
    assert_eq!(next_line(&mut lines).await["result"]["kv"]["value"], "Yg==");
    drop((client, lines));
    server.stop().await;
}

/// A gateway request of somebody: the body of the answer, as far as it goes.
async fn ask(server: &Server, token: &str, path: &str, body: &str) -> Value {
    next_line(&mut open(server, token, path, body).await).await
}

/// Users are asked: root, and alice, who may read and write what begins with `a/`.
async fn with_alice() -> (Server, String, String) {
    let server = Server::start_with(ServerOptions { bcrypt_cost: 4, ..Default::default() }).await;
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"p"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("user/add", r#"{"name":"alice","password":"p"}"#),
        ("role/add", r#"{"name":"r"}"#),
        ("role/grant", r#"{"name":"r","perm":{"permType":2,"key":"YS8=","range_end":"YTA="}}"#),
        ("user/grant", r#"{"user":"alice","role":"r"}"#),
        ("enable", "{}"),
    ] {
        let (status, answer) = server.post(&format!("/v3/auth/{path}"), body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let mut tokens = Vec::new();
    for name in ["root", "alice"] {
        let body = format!(r#"{{"name":"{name}","password":"p"}}"#);
        let (_, answer) = server.post("/v3/auth/authenticate", &body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        tokens.push(answer["token"].as_str().unwrap().to_owned());
    }
    let alice = tokens.pop().unwrap();
    (server, tokens.pop().unwrap(), alice)
}

/// How many keys there are that begin with `a/`.
async fn count(server: &Server, token: &str) -> Value {
    let body = r#"{"key":"YS8=","range_end":"YTA="}"#;
    ask(server, token, "/v3/kv/range", body).await["count"].clone()
}

#[tokio::test]
async fn nobody_sees_or_changes_by_a_lock_what_they_may_not() {
    let (server, _, alice) = with_alice().await;
    let denied = "etcdserver: permission denied";
    for (path, body) in [
        ("lock/lock", r#"{"name":"eA=="}"#),
        ("lock/unlock", r#"{"key":"eA=="}"#),
        ("election/campaign", r#"{"name":"eA=="}"#),
        ("election/leader", r#"{"name":"eA=="}"#),
    ] {
        let path = format!("/v3/{path}");
        let expected = |text| json!({"error": text, "code": 2, "message": text});
        assert_eq!(ask(&server, &alice, &path, body).await, expected(denied), "{path}");
        let text = "etcdserver: invalid auth token";
        assert_eq!(ask(&server, "x.1", &path, body).await, expected(text), "{path}");
    }
    let (refused, empty) = ("etcdserver: invalid auth token", "etcdserver: user name is empty");
    for (token, text) in [(alice.as_str(), denied), ("x.1", refused), ("", empty)] {
        let header = format!("authorization: {token}\r\n");
        let header = if token.is_empty() { "" } else { header.as_str() };
        for (path, body) in
            [("election/observe", r#"{"name":"eA=="}"#), ("maintenance/snapshot", "{}")]
        {
            let (head, body) = server.ask("POST", &format!("/v3/{path}"), header, body).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            let status = body["error"]["http_code"].as_u64().unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}{body}");
            if path == "election/observe" {
                let http_status = "Internal Server Error";
                let error = json!({
                    "grpc_code": 2, "http_code": 500, "message": text, "http_status": http_status,
                });
                assert_eq!(body, json!({ "error": error }));
            }
        }
    }
    let answer = ask(&server, &alice, "/v3/lock/lock", r#"{"name":"YQ=="}"#).await;
    assert!(answer["key"].is_string(), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn who_may_no_longer_have_a_lock_waits_for_it_no_longer_and_stands_in_nobodys_way() {
    let (server, root, alice) = with_alice().await;
    let body = r#"{"name":"YQ=="}"#;
    let held = ask(&server, &root, "/v3/lock/lock", body).await["key"].clone();
    let revoke = async {
        while count(&server, &root).await != "2" {
            tokio::task::yield_now().await;
        }
        let body = r#"{"name":"alice","role":"r"}"#;
        ask(&server, &root, "/v3/auth/user/revoke", body).await;
    };
    let (answer, ()) = tokio::join!(ask(&server, &alice, "/v3/lock/lock", body), revoke);
    assert_eq!(answer["message"], "etcdserver: permission denied");
    while count(&server, &root).await != "1" {
        tokio::task::yield_now().await;
    }
    let body = json!({ "key": held }).to_string();
    ask(&server, &root, "/v3/lock/unlock", &body).await;
    server.stop().await;
}

#[tokio::test]
async fn who_proclaims_needs_the_right_to_the_other_keys_of_the_lease() {
    let (server, root, alice) = with_alice().await;
    let proclaim =
        r#"{"leader":{"name":"YQ==","key":"YS83","rev":"1","lease":"7"},"value":"dg=="}"#;
    let path = "/v3/election/proclaim";
    ask(&server, &root, "/v3/lease/grant", r#"{"ID":7,"TTL":5000}"#).await;
    // etcd 3.5.1 says so either way; a later one as we do.
    let answer = ask(&server, &alice, path, proclaim).await;
    assert_eq!(answer["message"], "election: not leader");
    // The end of the lease would take this one along.
    ask(&server, &root, "/v3/kv/put", r#"{"key":"eA==","lease":7}"#).await;
    let answer = ask(&server, &alice, path, proclaim).await;
    assert_eq!(answer["message"], "etcdserver: permission denied");
    let answer = ask(&server, &root, path, proclaim).await;
    assert_eq!(answer["message"], "election: not leader");
    server.stop().await;
}
