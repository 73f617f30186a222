//! The real etcdctl 3.5.1, and calls of the HTTP gateway as curl makes them, get from three servers
//! what they would get from three etcds. Knows what etcdctl prints; nothing of our own client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, etcdctl, etcdctl_with_input, http};
use serde_json::{Value, json};

/// What etcdctl printed, once it has ended well.
fn ok(endpoints: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoints, arguments);
    assert!(said.is_success, "etcdctl {arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn ok_json(endpoints: &str, arguments: &[&str]) -> Value {
    let mut all = vec!["-w", "json"];
    all.extend_from_slice(arguments);
    serde_json::from_str(&ok(endpoints, &all)).expect("-w json prints JSON")
}

/// `host:port` of each server.
fn addresses(cluster: &mut Cluster) -> Vec<String> {
    cluster.indexes().map(|index| cluster.server(index).client.address()).collect()
}

#[tokio::test]
async fn etcdctl_puts_gets_and_deletes_through_each_endpoint_and_through_all() {
    let mut cluster = Cluster::started("etcdctl-kv", 3).await;
    let mut endpoints = addresses(&mut cluster);
    endpoints.push(endpoints.join(","));
    for (turn, endpoint) in endpoints.iter().enumerate() {
        let value = format!("hello-{turn}");
        assert_eq!(ok(endpoint, &["put", "greeting", &value]), "OK\n");
        assert_eq!(ok(endpoint, &["put", "greeting/2", "again"]), "OK\n");
        for reader in &endpoints {
            assert_eq!(ok(reader, &["get", "greeting"]), format!("greeting\n{value}\n"));
        }
        let both = ok(endpoint, &["get", "--prefix", "greeting"]);
        assert_eq!(both, format!("greeting\n{value}\ngreeting/2\nagain\n"));
        assert_eq!(
            ok(endpoint, &["get", "--prefix", "--keys-only", "greeting/"]),
            "greeting/2\n\n"
        );
        assert_eq!(ok(endpoint, &["del", "--prefix", "greeting"]), "2\n");
        assert_eq!(ok(endpoint, &["get", "--prefix", "greeting"]), "");
        assert_eq!(ok(endpoint, &["del", "greeting"]), "0\n");
    }
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_reads_the_past_and_compacts_it() {
    let mut cluster = Cluster::started("etcdctl-past", 3).await;
    let endpoints = addresses(&mut cluster);
    let (one, two, three) = (&endpoints[0], &endpoints[1], &endpoints[2]);

    let first = ok_json(one, &["put", "k", "old"])["header"]["revision"].as_i64().unwrap();
    let second = ok_json(two, &["put", "k", "new"])["header"]["revision"].as_i64().unwrap();
    assert_eq!(second, first + 1);
    assert_eq!(first, 2, "a fresh store is at revision 1");
    let rev = format!("--rev={first}");
    assert_eq!(ok(three, &["get", "k", &rev]), "k\nold\n");

    let answer = ok(one, &["compaction", "--physical", &second.to_string()]);
    assert_eq!(answer, format!("compacted revision {second}\n"));
    for endpoint in &endpoints {
        // Linearizable first, so that a server that lags has seen the compaction.
        assert_eq!(ok(endpoint, &["get", "k"]), "k\nnew\n");
        let said = etcdctl(endpoint, &["get", "k", &rev]);
        assert!(!said.is_success, "the past is gone: {}", said.out);
        assert!(said.err.contains("etcdserver: mvcc: required revision has been compacted"));
        let said = etcdctl(endpoint, &["get", "k", "--rev=1000"]);
        assert!(said.err.contains("etcdserver: mvcc: required revision is a future revision"));
    }
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_runs_the_branch_of_a_txn_that_its_compares_choose() {
    let mut cluster = Cluster::started("etcdctl-txn", 3).await;
    let endpoints = addresses(&mut cluster);
    ok(&endpoints[0], &["put", "user1", "bad"]);
    let program = "value(\"user1\") = \"bad\"\n\ndel user1\n\nput user1 good\n\n";

    let first = etcdctl_with_input(&endpoints[1], &["txn"], program);
    assert_eq!(first.out, "SUCCESS\n\n1\n", "{}", first.err);
    let second = etcdctl_with_input(&endpoints[2], &["txn"], program);
    assert_eq!(second.out, "FAILURE\n\nOK\n", "{}", second.err);
    assert_eq!(ok(&endpoints[0], &["get", "user1", "--print-value-only"]), "good\n");

    let by_revision = "mod(\"user1\") > \"2\"\ncreate(\"absent\") = \"0\"\n\nget user1\n\n\n";
    let third = etcdctl_with_input(&endpoints.join(","), &["txn"], by_revision);
    assert_eq!(third.out, "SUCCESS\n\nuser1\ngood\n", "{}", third.err);
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_sees_the_same_members_and_one_leader_from_every_endpoint() {
    let mut cluster = Cluster::started("etcdctl-members", 3).await;
    cluster.leader(None).await;
    let endpoints = addresses(&mut cluster);
    let all = endpoints.join(",");

    let status = ok_json(&all, &["endpoint", "status"]);
    let status = status.as_array().expect("an entry for each endpoint");
    let leaders: Vec<&Value> = status.iter().map(|entry| &entry["Status"]["leader"]).collect();
    assert_eq!(status.len(), 3);
    assert!(leaders.iter().all(|leader| *leader == leaders[0]), "one leader: {leaders:?}");
    let ids: Vec<&Value> =
        status.iter().map(|entry| &entry["Status"]["header"]["member_id"]).collect();
    assert!(ids.contains(&leaders[0]), "the leader is one of them");

    for endpoint in endpoints.iter().chain([&all]) {
        let list = ok_json(endpoint, &["member", "list"]);
        let members = list["members"].as_array().expect("members");
        let mut names: Vec<&str> =
            members.iter().map(|member| member["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["n1", "n2", "n3"]);
        assert!(members.iter().all(|member| ids.contains(&&member["ID"])), "{members:?}");
    }

    let health = etcdctl(&all, &["endpoint", "health"]);
    assert!(health.is_success, "{}{}", health.out, health.err);
    let said = format!("{}{}", health.out, health.err);
    assert_eq!(said.matches("is healthy: successfully committed proposal").count(), 3, "{said}");
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_says_in_etcds_words_what_it_may_not_do() {
    let mut cluster = Cluster::started("etcdctl-errors", 3).await;
    for endpoint in addresses(&mut cluster) {
        let said = etcdctl(&endpoint, &["put", "", "x"]);
        assert!(said.err.contains("etcdserver: key is not provided"), "{}", said.err);
        let said = etcdctl(&endpoint, &["put", "--ignore-value", "absent"]);
        assert!(said.err.contains("etcdserver: key not found"), "{}", said.err);
        let twice = etcdctl_with_input(&endpoint, &["txn"], "\nput a 1\nput a 2\n\n\n");
        let text = "etcdserver: duplicate key given in txn request";
        assert!(twice.err.contains(text), "{}", twice.err);
    }
    cluster.finish();
}

#[tokio::test]
async fn the_gateway_answers_as_curl_would_ask_it() {
    let mut cluster = Cluster::started("gateway", 3).await;
    for address in addresses(&mut cluster) {
        // "greeting" and "hello".
        let put =
            http::post(&address, "/v3/kv/put", r#"{"key":"Z3JlZXRpbmc=","value":"aGVsbG8="}"#);
        assert_eq!(put.status, 200, "{}", put.body);
        let revision = put.json()["header"]["revision"].clone();
        assert!(revision.is_string(), "64-bit integers are strings: {revision}");

        let range = http::post(&address, "/v3/kv/range", r#"{"key":"Z3JlZXRpbmc="}"#);
        assert_eq!(range.status, 200, "{}", range.body);
        let pair = range.json()["kvs"][0].clone();
        assert_eq!(pair["key"], "Z3JlZXRpbmc=");
        assert_eq!(pair["value"], "aGVsbG8=");
        assert_eq!(pair["mod_revision"], revision);
        assert_eq!(range.json()["count"], "1");

        let txn = json!({
            "compare": [{"key": "Z3JlZXRpbmc=", "target": "MOD", "mod_revision": revision}],
            "success": [{"request_delete_range": {"key": "Z3JlZXRpbmc="}}],
        });
        let txn = http::post(&address, "/v3/kv/txn", &txn.to_string()).json();
        assert_eq!(txn["succeeded"], true, "{txn}");
        assert_eq!(txn["responses"][0]["response_delete_range"]["deleted"], "1", "{txn}");

        let gone = http::post(&address, "/v3/kv/range", r#"{"key":"Z3JlZXRpbmc="}"#).json();
        assert!(gone.get("kvs").is_none(), "an empty list is left out: {gone}");
    }
    cluster.finish();
}

#[tokio::test]
async fn the_gateway_answers_bad_requests_and_tells_health_and_version() {
    let mut cluster = Cluster::started("gateway-pages", 3).await;
    for address in addresses(&mut cluster) {
        let empty = http::post(&address, "/v3/kv/range", "{}");
        assert_eq!(empty.status, 400, "{}", empty.body);
        assert_eq!(empty.json()["message"], "etcdserver: key is not provided");
        assert_eq!(empty.json()["code"], 3);
        let broken = http::post(&address, "/v3/kv/range", "{\"key\":");
        assert_eq!(broken.status, 400, "{}", broken.body);
        assert_eq!(http::post(&address, "/v3/no/such/thing", "{}").status, 404);

        let health = http::get(&address, "/health");
        assert_eq!((health.status, &health.json()["health"]), (200, &json!("true")));
        let version = http::get(&address, "/version").json();
        for part in ["etcdserver", "etcdcluster"] {
            let text = version[part].as_str().expect("a version");
            let is_plain = text.split('.').all(|number| number.parse::<u32>().is_ok());
            assert!(is_plain && text.split('.').count() == 3, "{part}: {text}");
        }
        let metrics = http::get(&address, "/metrics");
        assert_eq!(metrics.status, 200);
        assert!(metrics.body.contains("etcd_server_has_leader 1"), "{}", metrics.body);
    }
    cluster.finish();
}
