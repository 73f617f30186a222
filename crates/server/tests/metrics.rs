//! The metrics page against what etcd's published alerts and dashboards ask for: an operator's own
//! work unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Server, framed, raw_call};
use quorate_etcd_api::etcdserverpb::PutRequest;
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
    for series in ["process_start_time_seconds", "process_max_fds", "process_resident_memory_bytes"]
    {
        assert!(value(&text, series) > 0.0, "{series}");
    }
    assert!(value(&text, "process_open_fds") <= value(&text, "process_max_fds"));
    server.stop().await;
}
