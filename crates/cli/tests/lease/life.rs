//! That leases live as long as they are renewed, and no longer, whatever happens to the servers:
//! the leader dies, stands still, all of them are killed, one comes back by a snapshot. Nothing here
//! is timed: what has to come after a lease's time waits for the end of another lease.

use super::harness::{Client, Cluster, Options, PATIENCE, eventually};
use super::owner::{Asked, Owner};
use futures_util::StreamExt;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// A process that goes on until it is dropped, and the lines that it prints.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn quorate(endpoints: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(arguments)
            .args(["--endpoints", endpoints])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the process prints a line")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events of one message: whether it is a deletion, the key and the revision.
fn changes(line: &str) -> Vec<(bool, String, i64)> {
    let response: Value = serde_json::from_str(line).unwrap();
    let events = response["Events"].as_array().unwrap();
    let event = |event: &Value| {
        let is_delete = event["type"] == 1;
        let key = event["kv"]["key"].as_str().unwrap().to_owned();
        (is_delete, key, event["kv"]["mod_revision"].as_i64().unwrap())
    };
    events.iter().map(event).collect()
}

/// The deletions that a watch shows next, all of one message.
fn next_deletions(watch: &Running) -> Vec<(String, i64)> {
    loop {
        let deletions = changes(&watch.line()).into_iter().filter(|(is_delete, ..)| *is_delete);
        let deletions: Vec<_> = deletions.map(|(_, key, revision)| (key, revision)).collect();
        if !deletions.is_empty() {
            return deletions;
        }
    }
}

fn urls(cluster: &mut Cluster) -> Vec<String> {
    cluster.indexes().map(|index| cluster.server(index).client.url()).collect()
}

fn addresses(cluster: &mut Cluster) -> String {
    let of = |index| cluster.server(index).client.address();
    (0..3).map(of).collect::<Vec<_>>().join(",")
}

/// Whether the key is there, as this server and a majority know it.
async fn has(cluster: &Cluster, server: usize, key: &str) -> bool {
    let found = async || cluster.client(server).get(key).await.ok();
    eventually("an answer to a read", found).await.is_some()
}

async fn gone(cluster: &Cluster, server: usize, key: &str) {
    let what = format!("the end of the lease of {key}");
    eventually(&what, async || cluster.client(server).get(key).await.ok()?.is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn a_leader_s_death_ends_no_lease_that_is_kept_alive_and_delays_the_end_of_others() {
    let mut cluster = Cluster::started("lease-leader-dies", 3).await;
    let (urls, all) = (urls(&mut cluster), addresses(&mut cluster));
    let owner = Owner::of(&urls, 15, &["kept"]).await;
    let verb = Running::quorate(&all, &["lease", "keep-alive", &format!("{:x}", owner.id)]);
    let first = verb.line();
    // As long as the other one, and granted later: at its end the time of both is over.
    Asked::at(&urls[0]).lease_with(15, &["left1", "left2"]).await;
    let watch = Running::quorate(&all, &["watch", "--prefix", "left", "--rev=1", "-w", "json"]);
    let leader = cluster.leader(None).await;
    cluster.server(leader).kill();
    while verb.lines.try_recv().is_ok() {}

    let end = next_deletions(&watch);
    let keys: Vec<&str> = end.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys.len(), 2, "both keys go in one change: {end:?}");
    assert_eq!(end[0].1, end[1].1, "both keys go in one change: {end:?}");
    let other = (leader + 1) % 3;
    let was_there = has(&cluster, other, "kept").await;
    // One line may have been on its way when the leader died.
    let later = [verb.line(), verb.line()];
    cluster.restart(leader).await;
    let key_count = cluster.assert_equal_replicas().await;
    if owner.stop() {
        assert!(was_there, "a lease that is renewed lives");
        assert_eq!(key_count, 1, "of three keys one is left");
        for line in [&first, &later[0], &later[1]] {
            assert!(line.ends_with("keepalived with TTL(15)"), "{line}");
        }
    }
    drop(verb);
    gone(&cluster, other, "kept").await;
    assert_eq!(cluster.assert_equal_replicas().await, 0);
    cluster.finish();
}

#[tokio::test]
async fn a_leader_that_stood_still_ends_no_lease_that_was_renewed_with_others_meanwhile() {
    let mut cluster = Cluster::started("lease-leader-stands-still", 3).await;
    let urls = urls(&mut cluster);
    let owner = Owner::of(&urls, 10, &["kept"]).await;
    let leader = cluster.leader(None).await;
    let other = (leader + 1) % 3;
    cluster.server(leader).pause();
    cluster.leader(Some(leader)).await;
    // Longer than the lease that is renewed: the old leader slept through all of its time.
    Asked::at(&urls[other]).lease_with(12, &["meanwhile"]).await;
    gone(&cluster, other, "meanwhile").await;
    cluster.server(leader).resume();
    // It has seen what happened, and has had the time to act on it.
    Asked::at(&urls[leader]).lease_with(2, &["since"]).await;
    gone(&cluster, leader, "since").await;
    let was_there = has(&cluster, leader, "kept").await;
    if owner.stop() {
        assert!(was_there, "a lease that is renewed lives");
    }
    gone(&cluster, leader, "kept").await;
    assert_eq!(cluster.assert_equal_replicas().await, 0);
    cluster.finish();
}

#[tokio::test]
async fn leases_and_their_keys_survive_the_death_of_all_servers_and_come_with_a_snapshot() {
    let mut options = Options::servers(3);
    options.more.push(("--snapshot-count".to_owned(), "20".to_owned()));
    let mut cluster = Cluster::new("lease-all-die", &options);
    cluster.start_all().await;
    let urls = urls(&mut cluster);
    let asked: Vec<Asked> = urls.iter().map(|url| Asked::at(url)).collect();
    let away = 2;
    cluster.server(away).kill();
    let mut expected = Vec::new();
    for ttl in [5000, 6000, 7000] {
        let (one, two) = (format!("{ttl}-one"), format!("{ttl}-two"));
        let (id, _) = asked[0].lease_with(ttl, &[&two, &one]).await;
        expected.push((id, ttl, [one, two]));
        put_often(cluster.client(0)).await;
    }
    // The log is released behind the answers.
    for index in [0, 1] {
        eventually("the first file of the log to be released", async || {
            cluster.client(index).put("other", "x").await.ok()?;
            cluster.server(index).has_released().then_some(())
        })
        .await;
    }
    cluster.restart(away).await;
    assert!(cluster.server(away).has_snapshot(), "it was too far behind for the log");
    assert_leases(&asked[away], &expected).await;
    for index in cluster.indexes() {
        cluster.server(index).kill();
    }
    cluster.start_all().await;
    for asked in &asked {
        assert_leases(asked, &expected).await;
    }
    assert_eq!(cluster.assert_equal_replicas().await, 7);
    cluster.finish();
}

/// A third of what it takes until the first file of the log is released: the log keeps 5000 entries
/// for those who are behind.
async fn put_often(client: &Client) {
    let put = async || client.put("other", vec![b'x'; 1000]).await.ok();
    let puts = (0..3000).map(|_| eventually("a put", &put));
    let count = futures_util::stream::iter(puts).buffer_unordered(64).count().await;
    assert_eq!(count, 3000);
}

async fn assert_leases(asked: &Asked, expected: &[(i64, i64, [String; 2])]) {
    let mut ids: Vec<i64> = expected.iter().map(|(id, ..)| *id).collect();
    ids.sort_unstable();
    let known = eventually("a list of leases", async || asked.ids().await.ok()).await;
    assert_eq!(known, ids);
    for (id, ttl, keys) in expected {
        let found = eventually("a lease", async || asked.time_to_live(*id).await.ok()).await;
        assert_eq!((found.granted_ttl, found.keys.len()), (*ttl, 2));
        assert!(found.keys.iter().zip(keys).all(|(key, name)| key == name), "{found:?}");
    }
}
