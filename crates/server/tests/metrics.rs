//! The metrics page against what etcd's published alerts and dashboards ask for: an operator's own
//! work unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Server, framed, raw_call};
use quorate_etcd_api::etcdserverpb::{LeaseKeepAliveRequest, PutRequest};
use quorate_server::ServerOptions;

/// Every metric that etcd's alerts and dashboards (contrib/mixin) name, but for `up`, which is
/// Prometheus' own; and its type in etcd.
const OF_ETCDS_MIXIN: [(&str, &str); 23] = [
    ("etcd_disk_backend_commit_duration_seconds", "histogram"),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge"),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"),
    ("etcd_network_client_grpc_received_bytes_total", "counter"),
    ("etcd_network_client_grpc_sent_bytes_total", "counter"),
    ("etcd_network_peer_received_bytes_total", "counter"),
    ("etcd_network_peer_round_trip_time_seconds", "histogram"),
    ("etcd_network_peer_sent_bytes_total", "counter"),
    ("etcd_network_peer_sent_failures_total", "counter"),
    ("etcd_server_has_leader", "gauge"),
    ("etcd_server_is_leader", "gauge"),
    ("etcd_server_leader_changes_seen_total", "counter"),
    ("etcd_server_proposals_applied_total", "gauge"),
    ("etcd_server_proposals_committed_total", "gauge"),
    ("etcd_server_proposals_failed_total", "counter"),
    ("etcd_server_proposals_pending", "gauge"),
    ("etcd_server_quota_backend_bytes", "gauge"),
    ("grpc_server_handled_total", "counter"),
    ("grpc_server_handling_seconds", "histogram"),
    ("grpc_server_started_total", "counter"),
    ("process_resident_memory_bytes", "gauge"),
    ("etcd_cluster_version", "gauge"),
];

/// What other dashboards that are about name, too.
const OF_OTHERS: [(&str, &str); 12] = [
    ("etcd_debugging_mvcc_compact_revision", "gauge"),
    ("etcd_debugging_mvcc_current_revision", "gauge"),
    ("etcd_debugging_mvcc_keys_total", "gauge"),
    ("etcd_network_active_peers", "gauge"),
    ("os_fd_limit", "gauge"),
    ("os_fd_used", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("etcd_server_healthchecks_total", "counter"),
];

async fn page(server: &Server) -> String {
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    text
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in:\n{page}")).parse().unwrap()
}

fn count(page: &str, series: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in:\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn every_metric_that_etcds_alerts_and_dashboards_name_is_there_with_etcds_type() {
    let options = ServerOptions { measures_calls: true, ..Default::default() };
    let server = Server::start_with(options).await;
    let text = page(&server).await;
    for (name, kind) in OF_ETCDS_MIXIN.iter().chain(&OF_OTHERS) {
        let line = format!("# TYPE {name} {kind}");
        assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
    }
    server.stop().await;
}

/// What Prometheus would refuse to read.
#[tokio::test]
async fn every_line_of_the_page_is_one_and_no_series_is_there_twice() {
    let options = ServerOptions { measures_calls: true, ..Default::default() };
    let server = Server::start_with(options).await;
    server.get("/readyz").await;
    let text = page(&server).await;
    let mut series: Vec<&str> = Vec::new();
    let mut typed: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            typed.push(head.split(' ').next().unwrap());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').expect("a series and its value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let bare = name.split('{').next().unwrap();
            let current = *typed.last().expect("a type comes first");
            let rest = bare.strip_prefix(current).expect(line);
            assert!(["", "_bucket", "_sum", "_count"].contains(&rest), "{line} is {current}");
            assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
            series.push(name);
        }
    }
    for mut names in [series, typed] {
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "each is there once");
    }
    server.stop().await;
}

#[tokio::test]
async fn how_long_calls_take_is_told_if_it_is_asked_for() {
    const COUNT: &str = "grpc_server_handling_seconds_count{grpc_method=\"Put\",\
                         grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    for measures_calls in [true, false] {
        let options = ServerOptions { measures_calls, ..Default::default() };
        let server = Server::start_with(options).await;
        let mut client = server.http2().await;
        let put = PutRequest { key: "a".into(), ..Default::default() };
        for _ in 0..3 {
            let answer = raw_call(&mut client, "/etcdserverpb.KV/Put", &[], framed(&put)).await;
            assert_eq!(answer.code, "0");
        }
        let text = page(&server).await;
        if measures_calls {
            assert!((value(&text, COUNT) - 3.0).abs() < f64::EPSILON);
        } else {
            assert!(!text.contains("grpc_server_handling_seconds"));
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn the_figures_of_the_store_and_the_process_are_those_of_this_moment() {
    let server = Server::start().await;
    for body in [r#"{"key":"YQ=="}"#, r#"{"key":"Yg=="}"#] {
        assert_eq!(server.post("/v3/kv/put", body).await.0, 200);
    }
    assert_eq!(server.post("/v3/kv/compaction", r#"{"revision":"2"}"#).await.0, 200);
    let text = page(&server).await;
    for (series, expected) in [
        ("etcd_debugging_mvcc_keys_total", 2.0),
        ("etcd_debugging_mvcc_compact_revision", 2.0),
        ("etcd_debugging_mvcc_current_revision", 3.0),
        ("etcd_cluster_version{cluster_version=\"3.6\"}", 1.0),
    ] {
        assert!((value(&text, series) - expected).abs() < f64::EPSILON, "{series}");
    }
    for series in [
        "process_start_time_seconds",
        "process_max_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_max_bytes",
    ] {
        assert!(value(&text, series) > 0.0, "{series}");
    }
    assert!(value(&text, "process_open_fds") <= value(&text, "process_max_fds"));
    server.stop().await;
}

/// A real etcd 3.5.1, asked by hand for single operations, for transactions of two puts, of two ranges, of
/// both, of one put and of nothing, counted so.
#[tokio::test]
async fn operations_are_counted_as_etcd_counts_them() {
    const OPS: [&str; 4] = ["put", "range", "delete", "txn"];
    let server = Server::start().await;
    let counts = async || {
        let text = page(&server).await;
        let of = |op| count(&text, &format!("etcd_mvcc_{op}_total"));
        assert_eq!(count(&text, "etcd_debugging_mvcc_range_total"), of("range"));
        OPS.map(of)
    };
    let put = r#"{"request_put":{"key":"YQ=="}}"#;
    let get = r#"{"request_range":{"key":"YQ=="}}"#;
    let delete = r#"{"request_delete_range":{"key":"eA=="}}"#;
    let txn = |ops: &[&str]| format!(r#"{{"success":[{}]}}"#, ops.join(","));
    let nested = format!(r#"{{"request_txn":{}}}"#, txn(&[put, get]));
    let mut before = counts().await;
    for (path, body, expected) in [
        ("put", r#"{"key":"YQ=="}"#.to_owned(), [1, 0, 0, 0]),
        ("range", r#"{"key":"YQ=="}"#.to_owned(), [0, 1, 0, 0]),
        ("deleterange", r#"{"key":"eA=="}"#.to_owned(), [0, 0, 1, 0]),
        ("txn", txn(&[put]), [1, 0, 0, 0]),
        ("txn", txn(&[put, get, delete]), [1, 1, 1, 1]),
        ("txn", txn(&[get, get]), [0, 2, 0, 1]),
        ("txn", txn(&[nested.as_str()]), [1, 1, 0, 1]),
        ("txn", txn(&[]), [0; 4]),
        // What is refused was not carried out.
        ("put", r#"{"key":""}"#.to_owned(), [0; 4]),
    ] {
        server.post(&format!("/v3/kv/{path}"), &body).await;
        let after = counts().await;
        let grown: Vec<u64> =
            after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(grown, expected, "{path} {body}");
        before = after;
    }
    server.stop().await;
}

#[tokio::test]
async fn keys_that_go_with_their_lease_are_deletions_and_users_have_a_revision() {
    let server = Server::start().await;
    assert_eq!(server.post("/v3/lease/grant", r#"{"ID":7,"TTL":600}"#).await.0, 200);
    for body in [r#"{"key":"YQ==","lease":7}"#, r#"{"key":"Yg==","lease":7}"#] {
        assert_eq!(server.post("/v3/kv/put", body).await.0, 200);
    }
    assert_eq!(server.post("/v3/lease/revoke", r#"{"ID":7}"#).await.0, 200);
    let text = page(&server).await;
    assert_eq!(count(&text, "etcd_mvcc_delete_total"), 2);
    let revision = count(&text, "etcd_debugging_auth_revision");
    assert_eq!(server.post("/v3/auth/role/add", r#"{"name":"r"}"#).await.0, 200);
    let text = page(&server).await;
    assert_eq!(count(&text, "etcd_debugging_auth_revision"), revision + 1);
    server.stop().await;
}

#[tokio::test]
async fn messages_are_counted_by_method() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let put = |key: &'static str| PutRequest { key: key.into(), ..Default::default() };
    // A call that is refused is answered without a message.
    for (key, code) in [("a", "0"), ("b", "0"), ("", "3")] {
        let answer = raw_call(&mut client, "/etcdserverpb.KV/Put", &[], framed(&put(key))).await;
        assert_eq!(answer.code, code, "{}", answer.message);
    }
    let twice = Bytes::from([5, 6].map(|id| framed(&LeaseKeepAliveRequest { id })).concat());
    let answer = raw_call(&mut client, "/etcdserverpb.Lease/LeaseKeepAlive", &[], twice).await;
    assert_eq!(answer.code, "0");
    let text = page(&server).await;
    let (put, keep_alive) = (
        r#"{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#,
        r#"{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}"#,
    );
    for (way, labels, expected) in [
        ("received", put, 3),
        ("sent", put, 2),
        ("received", keep_alive, 2),
        ("sent", keep_alive, 2),
    ] {
        let series = format!("grpc_server_msg_{way}_total{labels}");
        assert_eq!(count(&text, &series), expected, "{series}:\n{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn how_long_proposals_take_is_told_as_a_whole_and_by_stage() {
    const STAGES: [&str; 5] = ["proposed", "persisted", "committed", "applied", "answered"];
    let server = Server::start().await;
    for _ in 0..3 {
        assert_eq!(server.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await.0, 200);
    }
    // The last is counted just after it was answered.
    let text = loop {
        let text = page(&server).await;
        if value(&text, "quorate_proposal_duration_seconds_count") >= 3.0 {
            break text;
        }
    };
    let whole = value(&text, "quorate_proposal_duration_seconds_sum");
    let mut sum = 0.0;
    for stage in STAGES {
        let series = |figure: &str| {
            let name = "quorate_proposal_stage_duration_seconds";
            value(&text, &format!("{name}_{figure}{{stage=\"{stage}\"}}"))
        };
        assert!(series("count") >= 3.0, "{stage}");
        sum += if stage == "committed" { 0.0 } else { series("sum") };
    }
    // A single member commits when it has persisted, and the stages follow each other.
    assert!((whole - sum).abs() < 1e-6, "{whole} and {sum} in:\n{text}");
    server.stop().await;
}
