//! Members with several peer URLs, through real processes and the real etcdctl: they found a cluster, join
//! one, move, and go on from a backup, while one of their URLs leads nowhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Port, Server, etcdctl, eventually};
use std::process::Command;

/// Where nobody listens. It comes before all our ports in the order in which URLs are tried.
const DEAD: &str = "http://127.0.0.1:1";

/// What is logged of a peer that was not reached at its first address.
const ANOTHER: &str = "reached at another of its addresses: ";

/// The peer URLs of a server that has two, in the order in which the others try them.
struct Pair {
    urls: [String; 2],
    _second: Port,
}

impl Pair {
    /// One port more for the server.
    fn of(server: &Server) -> Self {
        let second = Port::reserve();
        let mut urls = [server.peer.url(), second.url()];
        urls.sort();
        Self { urls, _second: second }
    }

    fn all(&self) -> String {
        self.urls.join(",")
    }

    /// As `--initial-cluster` has it.
    fn named(&self, name: &str) -> String {
        self.urls.each_ref().map(|url| format!("{name}={url}")).join(",")
    }

    /// The server listens at both and tells so.
    fn give(&self, server: &mut Server, members: &str) {
        server.set_flag("--listen-peer-urls", &self.all());
        server.set_flag("--initial-advertise-peer-urls", &self.all());
        server.set_flag("--initial-cluster", members);
    }
}

/// Two URLs for each server. Nobody listens where the first one is called first.
fn pairs(cluster: &mut Cluster) -> Vec<Pair> {
    let pairs: Vec<Pair> = cluster.indexes().map(|index| Pair::of(cluster.server(index))).collect();
    let names = cluster.indexes().map(|index| cluster.server(index).name.clone());
    let names: Vec<String> = names.collect();
    let members: Vec<String> =
        pairs.iter().zip(&names).map(|(pair, name)| pair.named(name)).collect();
    for (index, pair) in pairs.iter().enumerate() {
        pair.give(cluster.server(index), &members.join(","));
    }
    cluster.server(0).set_flag("--listen-peer-urls", &pairs[0].urls[1]);
    pairs
}

fn quorate(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn etcdctl_says(endpoint: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoint, arguments);
    assert!(said.is_success, "{arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn address(cluster: &mut Cluster, index: usize) -> String {
    cluster.server(index).client.address()
}

/// The address in an http URL.
fn called(url: &str) -> &str {
    url.strip_prefix("http://").unwrap()
}

/// Tells the cluster that the member of this name is at these URLs now, and waits until the server
/// `index` has it in its log.
fn update(cluster: &mut Cluster, name: &str, urls: &str, index: usize) {
    let through = address(cluster, index);
    let list = etcdctl_says(&through, &["member", "list"]);
    let line = list.lines().find(|line| line.split(", ").any(|cell| cell == name)).unwrap();
    let id = line.split(", ").next().unwrap();
    etcdctl_says(&through, &["member", "update", id, &format!("--peer-urls={urls}")]);
    let list = etcdctl_says(&through, &["member", "list"]);
    assert!(list.contains(&format!("{name}, {urls}, ")), "{list}");
}

#[tokio::test]
async fn founders_with_two_urls_each_are_a_cluster_where_one_url_is_dead_and_one_moves_behind_another()
 {
    let mut cluster = Cluster::new("peer-urls", &Options::servers(3));
    let pairs = pairs(&mut cluster);
    cluster.start_all().await;
    for index in cluster.indexes() {
        cluster.client(index).put(&format!("k{index}"), "v").await.unwrap();
    }
    assert_eq!(cluster.assert_equal_replicas().await, 3);
    let first = address(&mut cluster, 0);
    let list = etcdctl_says(&first, &["member", "list"]);
    for pair in &pairs {
        assert!(list.contains(&format!(", {}, ", pair.all())), "{list}");
    }
    let dead = format!("{ANOTHER}{}: ", called(&pairs[0].urls[0]));
    for index in [1, 2] {
        cluster.server(index).logged(&dead).await;
    }

    // The second member is called where nobody is, and then at one of its URLs. Who comes back does not
    // know which of the two leads there.
    let urls = format!("{DEAD},{}", pairs[1].urls[1]);
    update(&mut cluster, "n2", &urls, 2);
    cluster.server(2).kill();
    cluster.restart(2).await;
    cluster.server(0).kill();
    cluster.put_until_acknowledged(&[1, 2], "without-the-first", "v").await;
    let log = cluster.server(2).log_of_last_life();
    assert!(log.contains(&format!("{ANOTHER}{}: ", called(DEAD))), "{log}");
    cluster.restart(0).await;
    assert_eq!(cluster.assert_equal_replicas().await, 4);
    cluster.finish();
}

#[tokio::test]
async fn a_member_that_is_added_with_two_urls_joins_and_is_called_at_the_one_that_lives() {
    let mut cluster = Cluster::started("peer-urls-added", 1).await;
    cluster.client(0).put("before", "v").await.unwrap();
    let (first, founder) = (address(&mut cluster, 0), cluster.server(0).peer.url());
    let new = cluster.newcomer(&[0], &Options::servers(1));
    let pair = Pair::of(cluster.server(new));
    let members = format!("{},n1={DEAD},n1={founder}", pair.named("n2"));
    pair.give(cluster.server(new), &members);
    cluster.server(new).set_flag("--listen-peer-urls", &pair.urls[1]);
    let said = cluster.server(new).start_in_vain().await;
    assert!(said.contains(&format!("quorate member add n2 --peer-urls {}", pair.all())), "{said}");

    let other_way_round = format!("--peer-urls={},{}", pair.urls[1], pair.urls[0]);
    let said = etcdctl_says(&first, &["member", "add", "n2", &other_way_round]);
    assert!(said.contains(&pair.named("n2")), "{said}");
    cluster.server(new).start();
    cluster.ready(new).await;
    cluster.put_until_acknowledged(&[new], "after", "v").await;
    assert_eq!(cluster.assert_equal_replicas().await, 2);
    cluster.server(0).logged(&format!("{ANOTHER}{}: ", called(&pair.urls[0]))).await;

    // Both are needed, and the one that comes back has to find the other.
    cluster.server(0).kill();
    cluster.restart(0).await;
    cluster.put_until_acknowledged(&[0], "again", "v").await;
    assert_eq!(cluster.assert_equal_replicas().await, 3);
    cluster.finish();
}

#[tokio::test]
async fn members_with_two_urls_go_on_from_a_backup_however_their_flags_are_ordered() {
    let mut old = Cluster::started("peer-urls-saved", 1).await;
    old.client(0).put("k", "v").await.unwrap();
    let file = old.path().join("backup.db").to_str().unwrap().to_owned();
    quorate(&["snapshot", "save", &file, "--endpoints", &address(&mut old, 0)]);

    let token = "after-the-fire".to_owned();
    let mut new = Cluster::new("peer-urls-restored", &Options { token, ..Options::servers(2) });
    let pairs = pairs(&mut new);
    let backwards = format!(
        "n2={},n2={},n1={},n1={}",
        pairs[1].urls[1], pairs[1].urls[0], pairs[0].urls[1], pairs[0].urls[0]
    );
    new.server(1).set_flag("--initial-cluster", &backwards);
    for index in new.indexes() {
        let same = [
            "--name",
            "--data-dir",
            "--initial-cluster",
            "--initial-cluster-token",
            "--initial-advertise-peer-urls",
        ];
        let flags = &new.server(index).flags;
        let given = flags.chunks(2).filter(|pair| same.contains(&pair[0].as_str()));
        let mut words = vec!["snapshot", "restore", &file];
        words.extend(given.flatten().map(String::as_str));
        assert!(quorate(&words).contains("revision 2, 1 keys"));
    }
    new.start_all().await;
    for index in new.indexes() {
        new.client(index).put(&format!("k{index}"), "v").await.unwrap();
    }
    assert_eq!(new.client(0).get("k").await.unwrap().unwrap().value, "v");
    assert_eq!(new.assert_equal_replicas().await, 3);
    old.finish();
    new.finish();
}

/// As while a cluster gets TLS: those who know only one of the ways reach it all the same.
#[tokio::test]
async fn a_member_with_an_http_and_an_https_url_is_reached_either_way() {
    let mut cluster = Cluster::new("peer-urls-tls", &Options::servers(2));
    let second = Port::reserve();
    let (plain, secure) = (cluster.server(0).peer.url(), format!("https://{}", second.address()));
    let members = format!("n1={plain},n1={secure},n2={}", cluster.server(1).peer.url());
    for index in cluster.indexes() {
        let server = cluster.server(index);
        server.set_flag("--initial-cluster", &members);
        server.flags.extend(["--peer-auto-tls", "true"].map(str::to_owned));
    }
    for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
        cluster.server(0).set_flag(flag, &format!("{plain},{secure}"));
    }
    cluster.start_all().await;
    cluster.client(1).put("k", "v").await.unwrap();
    assert_linked(&mut cluster, "is_secure=false").await;

    update(&mut cluster, "n1", &secure, 1);
    cluster.server(1).kill();
    cluster.restart(1).await;
    cluster.put_until_acknowledged(&[1], "k", "v").await;
    assert_linked(&mut cluster, "is_secure=true").await;
    cluster.finish();
}

/// Waits for a connection of the second server to the first, in its last life; all must be such.
async fn assert_linked(cluster: &mut Cluster, how: &str) {
    let server = cluster.server(1);
    let links = eventually("a connection between the two", async || {
        let log = server.log_of_last_life();
        let is_link = |line: &&str| line.contains("connected") && line.contains("channel=");
        let links: Vec<String> = log.lines().filter(is_link).map(str::to_owned).collect();
        (!links.is_empty()).then_some(links)
    })
    .await;
    assert!(links.iter().all(|line| line.contains(how)), "expected {how}: {links:#?}");
}
