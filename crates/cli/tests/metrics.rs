//! The metrics of a cluster's members: what is said between them, and what their disks take, with
//! etcd's names and labels.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, eventually, http};

/// A member's page.
fn page(cluster: &mut Cluster, index: usize) -> String {
    let address = cluster.server(index).client.address();
    http::get(&address, "/metrics").body
}

/// The series of a name, with their values.
fn series<'a>(page: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let is_its = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let parts = page.lines().filter(is_its).map(|line| line.rsplit_once(' ').unwrap());
    parts.map(|(series, value)| (series, value.parse().unwrap())).collect()
}

#[tokio::test]
async fn what_members_say_to_each_other_is_measured_for_each_with_etcds_labels() {
    let mut options = Options::servers(3);
    options.more.push(("--metrics".to_owned(), "extensive".to_owned()));
    let mut cluster = Cluster::new("metrics", &options);
    cluster.start_all().await;
    for number in 0..30 {
        cluster.client(number % 3).put(&format!("k{number}"), "x").await.unwrap();
    }
    for index in cluster.indexes() {
        // A ping has to have come back from both.
        let page = eventually("two answered pings", async || {
            let page = page(&mut cluster, index);
            let counts = series(&page, "etcd_network_peer_round_trip_time_seconds_count");
            (counts.iter().filter(|(_, count)| *count > 0.0).count() == 2).then_some(page)
        })
        .await;
        for (name, label) in [
            ("etcd_network_peer_sent_bytes_total", "To"),
            ("etcd_network_peer_received_bytes_total", "From"),
            ("etcd_network_peer_sent_failures_total", "To"),
        ] {
            let found = series(&page, name);
            assert_eq!(found.len(), 2, "{name}: {found:?}");
            assert!(found.iter().all(|(series, _)| series.contains(&format!("{{{label}=\""))));
            let is_busy = found.iter().all(|(_, bytes)| *bytes > 0.0);
            assert!(is_busy || name.contains("failures"), "{name}: {found:?}");
        }
        let peers = series(&page, "etcd_network_active_peers");
        assert!(peers.len() == 2 && peers.iter().all(|(_, one)| *one > 0.5), "{peers:?}");
        let commits = series(&page, "etcd_disk_backend_commit_duration_seconds_count");
        assert!(commits.len() == 1, "the engine is measured: {commits:?}");
        assert!(page.contains("grpc_server_handling_seconds_bucket{"), "as it was asked for");
    }
    cluster.finish();
}
