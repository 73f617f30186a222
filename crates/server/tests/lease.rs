//! Leases over gRPC and over the JSON gateway, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::Server;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    AlarmRequest, AlarmType, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, RequestOp, StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use quorate_etcd_api::mvccpb::event::EventType;
use quorate_server::ServerOptions;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// How long the server waits for the fate of a renewal.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(2);

struct Client {
    lease: LeaseClient<Channel>,
    kv: KvClient<Channel>,
    channel: Channel,
}

impl Client {
    async fn of(server: &Server) -> Self {
        let channel = server.channel().await;
        let lease = LeaseClient::new(channel.clone());
        Self { lease, kv: KvClient::new(channel.clone()), channel }
    }

    async fn grant(&mut self, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Status> {
        Ok(self.lease.lease_grant(LeaseGrantRequest { ttl, id }).await?.into_inner())
    }

    async fn put(&mut self, key: &'static str, lease: i64) -> Result<(), Status> {
        let request = PutRequest { key: key.into(), lease, ..Default::default() };
        self.kv.put(request).await.map(drop)
    }

    /// A lease with the shortest time to live, and these keys, put at one revision. On a slow machine
    /// it may be gone before they are: then there is another one.
    async fn with_keys(&mut self, keys: [&'static str; 2]) -> (i64, [&'static str; 2]) {
        loop {
            let lease = self.grant(0, 1).await.unwrap().id;
            let put = |key: &'static str| {
                let put = PutRequest { key: key.into(), lease, ..Default::default() };
                RequestOp { request: Some(Request::RequestPut(put)) }
            };
            let txn = TxnRequest { success: keys.map(put).to_vec(), ..Default::default() };
            match self.kv.txn(txn).await {
                Ok(_) => return (lease, keys),
                Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
            }
        }
    }

    async fn time_to_live(&mut self, id: i64) -> LeaseTimeToLiveResponse {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        self.lease.lease_time_to_live(request).await.unwrap().into_inner()
    }

    async fn ids(&mut self) -> Vec<i64> {
        let response = self.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
        response.into_inner().leases.iter().map(|lease| lease.id).collect()
    }

    /// Renews these on one stream; the times to live that come back.
    async fn keep_alive(&mut self, ids: Vec<i64>) -> Vec<(i64, i64)> {
        let requests = ids.into_iter().map(|id| LeaseKeepAliveRequest { id });
        let requests = futures_util::stream::iter(requests.collect::<Vec<_>>());
        let mut answers = self.lease.lease_keep_alive(requests).await.unwrap().into_inner();
        let mut ttls = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            assert!(answer.header.is_some_and(|header| header.member_id == common::MEMBER_ID));
            ttls.push((answer.id, answer.ttl));
        }
        ttls
    }

    /// The first answer to one renewal.
    async fn renew(&mut self, id: i64) -> Result<i64, Status> {
        let requests = futures_util::stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = self.lease.lease_keep_alive(requests).await?.into_inner();
        Ok(answers.message().await?.expect("an answer").ttl)
    }

    /// Raises or clears CORRUPT.
    async fn corrupt(&self, action: AlarmAction) {
        let (action, alarm) = (action.into(), AlarmType::Corrupt.into());
        let request = AlarmRequest { action, member_id: common::MEMBER_ID, alarm };
        MaintenanceClient::new(self.channel.clone()).alarm(request).await.unwrap();
    }

    /// How far the log is committed, whatever is on its way.
    async fn raft_index(&mut self) -> u64 {
        // The status may be that of before the last answer. A read that the node proves is behind it.
        self.ids().await;
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        maintenance.status(StatusRequest {}).await.unwrap().into_inner().raft_index
    }

    /// Follows all keys that begin with `k`.
    async fn watch(&self) -> Streaming<WatchResponse> {
        let create =
            WatchCreateRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // Its sending side must stay open, or the client would end the stream.
        let requests = futures_util::StreamExt::chain(
            futures_util::stream::iter([request]),
            futures_util::stream::pending(),
        );
        let watch = WatchClient::new(self.channel.clone()).watch(requests).await.unwrap();
        let mut watch = watch.into_inner();
        assert!(watch.message().await.unwrap().unwrap().created);
        watch
    }
}

/// Waits for keys that are deleted at one revision; which ones.
async fn deleted(watch: &mut Streaming<WatchResponse>) -> Vec<Bytes> {
    loop {
        let events = watch.message().await.unwrap().unwrap().events;
        let gone: Vec<_> = events
            .into_iter()
            .filter(|event| event.r#type() == EventType::Delete)
            .map(|event| event.kv.unwrap())
            .collect();
        if let Some(first) = gone.first() {
            assert!(gone.iter().all(|kv| kv.mod_revision == first.mod_revision));
            return gone.into_iter().map(|kv| kv.key).collect();
        }
    }
}

/// A server whose leases end soon.
async fn impatient() -> Server {
    let lease_takeover_grace = Duration::ZERO;
    let options =
        ServerOptions { lease_ttl_seconds_min: 1, lease_takeover_grace, ..Default::default() };
    Server::start_with(options).await
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_lease_is_granted_with_the_id_and_time_that_were_asked_for_or_with_ours() {
    let options = ServerOptions { lease_ttl_seconds_min: 3000, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut client = Client::of(&server).await;
    let granted = client.grant(77, 5000).await.unwrap();
    assert_eq!((granted.id, granted.ttl, granted.error.as_str()), (77, 5000, ""));
    let header = granted.header.unwrap();
    assert_eq!((header.cluster_id, header.revision), (common::CLUSTER_ID, 1));
    for ttl in [1, 0, -5] {
        let chosen = client.grant(0, ttl).await.unwrap();
        assert!(chosen.id > 0);
        assert_eq!(chosen.ttl, 3000);
    }
    assert_eq!(client.ids().await.len(), 4);
    let exists = (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned());
    assert_eq!(refusal(client.grant(77, 5000).await), exists);
    let too_large = (Code::OutOfRange, "etcdserver: too large lease TTL".to_owned());
    assert_eq!(refusal(client.grant(0, 9_000_000_001).await), too_large);
    assert_eq!(client.grant(0, 9_000_000_000).await.unwrap().ttl, 9_000_000_000);
    server.stop().await;
}

#[tokio::test]
async fn time_to_live_says_what_is_left_of_what_and_which_keys_go_with_it() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.grant(77, 5000).await.unwrap();
    client.put("b", 77).await.unwrap();
    client.put("a", 77).await.unwrap();
    let found = client.time_to_live(77).await;
    assert_eq!((found.id, found.granted_ttl), (77, 5000));
    assert!((1..5000).contains(&found.ttl), "{found:?}");
    assert_eq!(found.keys, [Bytes::from("a"), "b".into()]);
    let unknown = client.time_to_live(78).await;
    assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (78, -1, 0));
    server.stop().await;
}

#[tokio::test]
async fn revoking_deletes_the_keys_and_what_is_unknown_is_refused() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    let not_found = (Code::NotFound, "etcdserver: requested lease not found".to_owned());
    assert_eq!(refusal(client.put("a", 77).await), not_found);
    client.grant(77, 5000).await.unwrap();
    client.put("a", 77).await.unwrap();
    let revoke = LeaseRevokeRequest { id: 77 };
    let response = client.lease.lease_revoke(revoke).await.unwrap().into_inner();
    assert_eq!(response.header.unwrap().revision, 3);
    assert_eq!(refusal(client.lease.lease_revoke(revoke).await), not_found);
    assert_eq!(client.ids().await, [0; 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_of_keep_alives_is_answered_in_order_and_0_means_unknown() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    for id in 1..=100 {
        client.grant(id, 5000 + id).await.unwrap();
    }
    let ids: Vec<i64> = (1..=101).chain([7]).collect();
    let expected: Vec<(i64, i64)> =
        ids.iter().map(|id| (*id, if *id == 101 { 0 } else { 5000 + id })).collect();
    assert_eq!(client.keep_alive(ids).await, expected);
    let mut ids = client.ids().await;
    ids.sort_unstable();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    let (_, page) = server.get("/metrics").await;
    assert!(page.contains("\nquorate_leases 100\n"));
    assert!(page.contains("\netcd_debugging_lease_renewed_total 102\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_with_all_its_keys_in_one_change() {
    let server = impatient().await;
    let mut client = Client::of(&server).await;
    let mut watch = client.watch().await;
    client.grant(1, 5000).await.unwrap();
    client.put("k0", 1).await.unwrap();
    let (lease, keys) = client.with_keys(["k1", "k2"]).await;
    assert_eq!(deleted(&mut watch).await, keys);
    assert_eq!(client.ids().await, [1]);
    assert_eq!(client.keep_alive(vec![lease]).await, [(lease, 0)]);
    server.stop().await;
}

#[tokio::test]
async fn leases_are_listed_as_they_will_end() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    for (id, ttl) in [(3, 5000), (1, 9000), (2, 1000)] {
        client.grant(id, ttl).await.unwrap();
    }
    assert_eq!(client.ids().await, [2, 3, 1]);
    server.stop().await;
}

#[tokio::test]
async fn a_renewal_that_a_corrupt_cluster_refuses_is_answered_and_enters_the_log_once() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    client.grant(42, 5000).await.unwrap();
    client.corrupt(AlarmAction::Activate).await;
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster".to_owned());
    loop {
        let (before, begun) = (client.raft_index().await, Instant::now());
        for id in [42, 43, 42] {
            assert_eq!(refusal(client.renew(id).await), corrupt);
        }
        // A renewal that the log does not answer for so long is proposed once more. On a machine that is so
        // slow, this is looked at again.
        if begun.elapsed() < RENEWAL_PATIENCE {
            assert_eq!(client.raft_index().await, before + 3);
            break;
        }
    }
    client.corrupt(AlarmAction::Deactivate).await;
    assert_eq!(client.keep_alive(vec![42, 43]).await, [(42, 5000), (43, 0)]);
    server.stop().await;
}

#[tokio::test]
async fn a_lease_that_ends_in_a_corrupt_cluster_is_tried_ever_more_seldom_and_ends_after_the_alarm()
{
    const TRIES_COUNT: u64 = 3;
    let server = impatient().await;
    let mut client = Client::of(&server).await;
    client.grant(1, 5000).await.unwrap();
    // On a slow machine it ends before the alarm is raised: then there is another one.
    let (keys, mut watch) = loop {
        let watch = client.watch().await;
        let (lease, keys) = client.with_keys(["k1", "k2"]).await;
        client.corrupt(AlarmAction::Activate).await;
        if client.ids().await.contains(&lease) {
            break (keys, watch);
        }
        client.corrupt(AlarmAction::Deactivate).await;
    };
    let before = client.raft_index().await;
    while client.raft_index().await < before + TRIES_COUNT {}
    // From here on, by the clock that leases end by, three seconds at least and five at most: the
    // pauses are 0.2, 0.4, 0.8, 1.6 and 2 seconds. Without any it would be asked all the time.
    let (before, left) = (client.raft_index().await, client.time_to_live(1).await.ttl);
    while client.time_to_live(1).await.ttl > left - 4 {}
    let tries = client.raft_index().await - before;
    assert!((1..=6).contains(&tries), "{tries}");
    client.corrupt(AlarmAction::Deactivate).await;
    assert_eq!(deleted(&mut watch).await, keys);
    assert_eq!(client.ids().await, [1]);
    server.stop().await;
}

fn value(answer: &(u16, String)) -> (u16, Value) {
    let mut body: Value = serde_json::from_str(&answer.1).unwrap();
    if let Some(object) = body.as_object_mut() {
        object.remove("header");
    }
    (answer.0, body)
}

#[tokio::test]
async fn the_gateway_answers_as_etcd_3_5_does() {
    let server = Server::start().await;
    let ask = async |path: &str, body: &str| value(&server.post(path, body).await);
    let granted = ask("/v3/lease/grant", r#"{"TTL":5000,"ID":77}"#).await;
    assert_eq!(granted, (200, json!({"ID": "77", "TTL": "5000"})));
    let text = "etcdserver: lease already exists";
    let exists = json!({"error": text, "code": 9, "message": text});
    assert_eq!(ask("/v3/lease/grant", r#"{"TTL":"5000","ID":"77"}"#).await, (400, exists));
    let text = "etcdserver: too large lease TTL";
    let too_large = json!({"error": text, "code": 11, "message": text});
    assert_eq!(ask("/v3/lease/grant", r#"{"TTL":"9000000001"}"#).await, (400, too_large));
    let unknown = ask("/v3/kv/lease/timetolive", r#"{"ID":5}"#).await;
    assert_eq!(unknown, (200, json!({"ID": "5", "TTL": "-1"})));
    server.post("/v3/kv/put", r#"{"key":"YQ==","lease":"77"}"#).await;
    let (_, found) = ask("/v3/lease/timetolive", r#"{"ID":77,"keys":true}"#).await;
    assert_eq!((&found["grantedTTL"], &found["keys"]), (&json!("5000"), &json!(["YQ=="])));
    let leases = ask("/v3/kv/lease/leases", "").await;
    assert_eq!(leases, (200, json!({"leases": [{"ID": "77"}]})));

    let (status, lines) =
        server.post("/v3/lease/keepalive", r#"{"ID":77}{"ID":999} {"ID":77}nonsense"#).await;
    let results: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ttl = |place: usize| results[place]["result"]["TTL"].clone();
    assert_eq!((status, results.len()), (200, 3));
    assert_eq!((ttl(0), ttl(1), ttl(2)), (json!("5000"), Value::Null, json!("5000")));
    assert_eq!(server.post("/v3/lease/keepalive", "").await, (200, String::new()));
    assert_eq!(server.post("/v3/lease/keepalive", "nonsense").await.0, 500);

    assert_eq!(ask("/v3/kv/lease/revoke", r#"{"ID":77}"#).await, (200, json!({})));
    let text = "etcdserver: requested lease not found";
    let not_found = json!({"error": text, "code": 5, "message": text});
    assert_eq!(ask("/v3/lease/revoke", r#"{"ID":77}"#).await, (404, not_found));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_of_keep_alives_ends_when_the_server_stops() {
    let server = Server::start().await;
    let mut client = Client::of(&server).await;
    let requests = futures_util::stream::pending();
    let mut answers = client.lease.lease_keep_alive(requests).await.unwrap().into_inner();
    let ended = server.begin_stop();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.message(), "etcdserver: server stopped");
    drop((answers, client));
    ended.await.unwrap().unwrap();
}
