//! A cluster whose members speak an old protocol is given the new one, member by member and under
//! writes. A member that is limited to the old protocol behaves as a program that knows no newer one:
//! it turns away whoever names another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Client, Cluster, Options, eventually, http};
use quorate::ProtocolVersion;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const OLD: ProtocolVersion = ProtocolVersion::OLDEST;
const NEW: ProtocolVersion = ProtocolVersion::NEWEST;
const LIMIT: &str = "--protocol-version-max";

fn options(limit: ProtocolVersion) -> Options {
    let more = vec![(LIMIT.to_owned(), limit.to_string())];
    Options { heartbeat_ms: 50, election_timeout_ms: 500, more, ..Options::servers(3) }
}

/// A figure of a server's metrics page.
fn figure(cluster: &mut Cluster, index: usize, name: &str) -> Option<u16> {
    let page = http::try_get(&cluster.server(index).client.address(), "/metrics")?.body;
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn cluster_version(cluster: &mut Cluster, index: usize) -> Option<ProtocolVersion> {
    figure(cluster, index, "quorate_cluster_protocol_version").map(ProtocolVersion::new)
}

/// Somebody who writes one key after the other until told to stop, through whoever takes it.
struct Writer {
    is_done: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Writer {
    fn begin(clients: Vec<Client>) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_done);
        let task = tokio::spawn(async move {
            let mut turn = clients.iter().cycle();
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let client = turn.next().unwrap().with_timeout(Duration::from_secs(5));
                // Who is being replaced takes nothing; the next one does.
                count += u64::from(client.put(&format!("w{count:06}"), "v").await.is_ok());
            }
            count
        });
        Self { is_done, task }
    }

    /// How many writes were acknowledged.
    async fn end(self) -> u64 {
        self.is_done.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn restart_as(cluster: &mut Cluster, index: usize, limit: ProtocolVersion) {
    assert!(cluster.server(index).terminate().await.success(), "it stops in good order");
    cluster.server(index).set_flag(LIMIT, &limit.to_string());
    cluster.restart(index).await;
    let own = figure(cluster, index, "quorate_protocol_version");
    assert_eq!(own, Some(limit.get()), "it runs as what it was started as");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_one_by_one_under_writes_and_does_not_go_back() {
    let mut cluster = Cluster::new("rolled", &options(OLD));
    cluster.start_all().await;
    let urls: Vec<String> = (0..3).map(|index| cluster.server(index).client.url()).collect();
    let writer = Writer::begin(urls.iter().map(|url| Client::new(url)).collect());

    restart_as(&mut cluster, 0, NEW).await;
    // Back again: nothing stands in its way yet.
    restart_as(&mut cluster, 0, OLD).await;
    restart_as(&mut cluster, 0, NEW).await;
    restart_as(&mut cluster, 1, NEW).await;
    let leader = cluster.leader(None).await;
    for index in 0..3 {
        assert_eq!(cluster_version(&mut cluster, index), Some(OLD), "one member is older");
    }
    // A leader of the new program says what keeps the cluster back, and who.
    if leader != 2 {
        let endpoint = cluster.server(leader).client.address();
        let said = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["status", "--explain", "--endpoints", &endpoint])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("the cluster speaks protocol version 5: for 6 every"), "{said}");
    }

    restart_as(&mut cluster, 2, NEW).await;
    for index in 0..3 {
        eventually("the cluster to speak the new version", async || {
            (cluster_version(&mut cluster, index)? == NEW).then_some(())
        })
        .await;
    }
    let written = writer.end().await;
    assert!(written > 0, "somebody served all the while");
    assert_eq!(cluster.assert_equal_replicas().await as u64, written, "all that was acknowledged");

    assert!(cluster.server(0).terminate().await.success());
    cluster.server(0).set_flag(LIMIT, &OLD.to_string());
    let said = cluster.server(0).start_in_vain().await;
    let words = "cluster speaks protocol version 6, and this program is to speak none after 5";
    assert!(said.contains(words), "{said}");
    cluster.server(0).set_flag(LIMIT, &NEW.to_string());
    cluster.restart(0).await;
    cluster.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_that_is_older_than_what_the_cluster_speaks_is_named() {
    let mut cluster = Cluster::new("too-old", &options(NEW));
    cluster.start_all().await;
    for index in 0..3 {
        eventually("the cluster to speak the new version", async || {
            (cluster_version(&mut cluster, index)? == NEW).then_some(())
        })
        .await;
    }
    let new = cluster.newcomer(&[0, 1, 2], &options(OLD));
    let (url, endpoint) = (cluster.server(new).peer.url(), cluster.server(0).client.address());
    let added = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["member", "add", "n4", "--learner", "--peer-urls", &url, "--endpoints", &endpoint])
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    cluster.server(new).start();
    let leader = cluster.leader(Some(new)).await;
    let words =
        "its program speaks protocol version 5, and this cluster 6: start it with the program";
    cluster.server(leader).logged(words).await;

    cluster.server(new).kill();
    cluster.server(new).set_flag(LIMIT, &NEW.to_string());
    cluster.server(new).start();
    eventually("the newcomer to have come", async || {
        (cluster_version(&mut cluster, new)? == NEW).then_some(())
    })
    .await;
    cluster.finish();
}
