//! Members that come and go, through real processes and the real etcdctl: a cluster grows, loses its
//! leader for good, and has its members replaced one by one, with everything that it acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, etcdctl, eventually, http};
use std::process::{Command, Output};

/// The first column of `etcdctl member list` for a member of this name, or at this peer URL.
fn member_id(endpoint: &str, name_or_url: &str) -> String {
    let said = etcdctl(endpoint, &["member", "list"]);
    let line = said.out.lines().find(|line| line.split(", ").any(|cell| cell == name_or_url));
    let line = line.unwrap_or_else(|| panic!("no {name_or_url} in {}{}", said.out, said.err));
    line.split(", ").next().unwrap().to_owned()
}

fn quorate(endpoint: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(arguments)
        .args(["--endpoints", endpoint])
        .output()
        .expect("quorate can be run")
}

/// Runs our own program, which must succeed, and returns what it printed.
fn quorate_says(endpoint: &str, arguments: &[&str]) -> String {
    let output = quorate(endpoint, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs etcdctl, which must succeed, and returns what it printed.
fn etcdctl_says(endpoint: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoint, arguments);
    assert!(said.is_success, "{arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn address(cluster: &mut Cluster, index: usize) -> String {
    cluster.server(index).client.address()
}

/// Waits until this server, which may be a learner, has what the other one has now.
async fn assert_has_everything(cluster: &Cluster, index: usize, source: usize) {
    let expected = cluster.client(source).everything().await.unwrap();
    let revision = expected.header.unwrap().revision;
    let own = eventually("it to catch up", async || {
        cluster.client(index).everything_at(revision).await.ok()
    })
    .await;
    assert_eq!(own.kvs, expected.kvs);
}

#[tokio::test]
async fn a_learner_joins_is_promoted_and_the_leader_goes() {
    let mut cluster = Cluster::started("members", 3).await;
    for number in 0..200 {
        let (client, key) = (cluster.client(number % 3), format!("k{number}"));
        client.put(&key, "v".repeat(2000)).await.unwrap();
    }
    let first = address(&mut cluster, 0);
    for index in 0..3 {
        // Each founder tells where its clients find it.
        let url = cluster.server(index).client.url();
        eventually("all client URLs to be known", async || {
            etcdctl(&first, &["member", "list"]).out.contains(&url).then_some(())
        })
        .await;
    }
    let new = cluster.newcomer(&[0, 1, 2], &Options::servers(3));
    let url = cluster.server(new).peer.url();
    let peers = format!("--peer-urls={url}");
    let said = etcdctl_says(&first, &["member", "add", "n4", "--learner", &peers]);
    assert!(said.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{said}");
    assert!(etcdctl_says(&first, &["member", "list"]).contains("unstarted"));

    cluster.server(new).start();
    assert_has_everything(&cluster, new, 0).await;
    let refused = cluster.client(new).put("k", "v").await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
    let learner = address(&mut cluster, new);
    let refused = etcdctl(&learner, &["lease", "keep-alive", "--once", "123"]);
    assert!(refused.err.contains("etcdserver: rpc not supported for learner"), "{}", refused.err);
    assert!(cluster.client(new).status().await.unwrap().is_learner);
    let id = member_id(&first, &url);
    // The member that is asked may not have reached it yet.
    eventually("the learner to be promoted", async || {
        let said = etcdctl(&first, &["member", "promote", &id]);
        let is_early = said.err.contains("in sync with leader");
        assert!(said.is_success || is_early, "{}{}", said.out, said.err);
        said.is_success.then_some(())
    })
    .await;
    cluster.ready(new).await;
    eventually("the newcomer to tell its name", async || {
        let said = etcdctl(&first, &["member", "list"]).out;
        said.contains(&format!("{id}, started, n4, {url}, ")).then_some(())
    })
    .await;

    let leader = cluster.leader(None).await;
    let others: Vec<usize> = (0..4).filter(|index| *index != leader).collect();
    let name = cluster.server(leader).name.clone();
    let through = address(&mut cluster, others[0]);
    let id = member_id(&through, &name);
    etcdctl_says(&through, &["member", "remove", &id]);
    assert!(cluster.server(leader).ended().await.success(), "somebody wanted it");
    let log = cluster.server(leader).log_of_last_life();
    assert!(log.contains("was removed from the cluster"), "{log}");

    cluster.server(others[0]).kill();
    cluster.put_until_acknowledged(&[others[1], others[2]], "last", "v").await;
    // The newcomer, unless it was the leader by then.
    let last = others[2];
    assert!(cluster.client(last).get("last").await.unwrap().is_some());
    assert_eq!(cluster.client(last).everything().await.unwrap().kvs.len(), 201);
    assert_has_everything(&cluster, others[1], last).await;
    cluster.finish();
}

/// One member after the other is replaced, by our own program, under nobody's feet: at the end none
/// of the first three is left. One that was away all the while learns that from those that the
/// operator names, as nobody whom it knew is there any more.
#[tokio::test]
async fn all_members_are_replaced_and_one_that_was_away_learns_that_it_was_removed() {
    let options = Options { heartbeat_ms: 50, election_timeout_ms: 500, ..Options::servers(3) };
    let mut cluster = Cluster::new("replaced", &options);
    cluster.start_all().await;
    cluster.client(0).put("k", "v").await.unwrap();
    cluster.server(2).kill();
    let mut members = vec![0, 1];
    let first = address(&mut cluster, 0);
    quorate_says(&first, &["member", "remove", "n3"]);
    for old in [0, 1] {
        let new = cluster.newcomer(&members, &options);
        let (name, url) = (format!("n{}", new + 1), cluster.server(new).peer.url());
        let through = address(&mut cluster, members[0]);
        let told = quorate_says(&through, &["member", "add", &name, "--peer-urls", &url]);
        assert!(told.contains("--initial-cluster-state existing"), "{told}");
        cluster.server(new).start();
        cluster.ready(new).await;
        let through = address(&mut cluster, new);
        let remove = ["member", "remove", &format!("n{}", old + 1)];
        eventually("the newcomer to count", async || {
            quorate(&through, &remove).status.success().then_some(())
        })
        .await;
        assert!(cluster.server(old).ended().await.success());
        members.retain(|member| *member != old);
        members.push(new);
    }
    let last = address(&mut cluster, members[1]);
    assert_eq!(cluster.client(members[1]).get("k").await.unwrap().unwrap().value, "v");
    let listed = quorate_says(&last, &["member", "list"]);
    assert!(listed.contains("n4") && listed.contains("n5") && !listed.contains("n1"), "{listed}");

    // A restart of one that joined, with the flags that it was started with.
    cluster.server(members[0]).kill();
    cluster.restart(members[0]).await;

    let named = |cluster: &mut Cluster, index: usize| {
        let server = cluster.server(index);
        format!("{}={}", server.name, server.peer.url())
    };
    let now = [2, members[0], members[1]].map(|index| named(&mut cluster, index)).join(",");
    cluster.server(2).set_flag("--initial-cluster", &now);
    cluster.server(2).set_flag("--initial-cluster-state", "existing");
    cluster.server(2).start();
    assert!(cluster.server(2).ended().await.success());
    let log = cluster.server(2).log_of_last_life();
    assert!(log.contains("was removed from the cluster"), "{log}");
    cluster.finish();
}

#[tokio::test]
async fn what_would_endanger_the_quorum_is_refused_in_etcds_words() {
    let options = Options::servers(1);
    let mut cluster = Cluster::new("members-refused", &options);
    cluster.start_all().await;
    let endpoint = address(&mut cluster, 0);
    let own_url = format!("--peer-urls={}", cluster.server(0).peer.url());
    let refused = |arguments: &[&str], words: &str| {
        let said = etcdctl(&endpoint, arguments);
        assert!(!said.is_success && said.err.contains(words), "{arguments:?}: {}", said.err);
    };
    refused(&["member", "add", "x", &own_url], "etcdserver: Peer URLs already exists");
    refused(&["member", "remove", "42"], "etcdserver: member not found");
    refused(&["member", "promote", "42"], "etcdserver: member not found");
    let own_id = member_id(&endpoint, "n1");
    refused(&["member", "promote", &own_id], "etcdserver: can only promote a learner member");
    let too_few = "etcdserver: re-configuration failed due to not enough started members";
    refused(&["member", "remove", &own_id], too_few);

    // A second voter that never comes: the first goes on, and takes it back.
    let new = cluster.newcomer(&[0], &options);
    let url = cluster.server(new).peer.url();
    etcdctl_says(&endpoint, &["member", "add", "n2", &format!("--peer-urls={url}")]);
    cluster.client(0).put("k", "v").await.unwrap();
    refused(&["member", "add", "n3", "--peer-urls=http://127.0.0.1:1"], too_few);
    let id = member_id(&endpoint, &url);
    etcdctl_says(&endpoint, &["member", "remove", &id]);
    assert_eq!(etcdctl_says(&endpoint, &["member", "list"]).lines().count(), 1);

    // Learners, one at most, which are not promoted before they are there.
    let learner = ["member", "add", "n2", "--learner", &format!("--peer-urls={url}")];
    etcdctl_says(&endpoint, &learner);
    let another = ["member", "add", "n3", "--learner", "--peer-urls=http://127.0.0.1:1"];
    refused(&another, "etcdserver: too many learner members in cluster");
    let id = member_id(&endpoint, &url);
    let not_ready = "etcdserver: can only promote a learner member which is in sync with leader";
    refused(&["member", "promote", &id], not_ready);
    etcdctl_says(&endpoint, &["member", "update", &id, "--peer-urls=http://127.0.0.1:2"]);
    assert!(etcdctl_says(&endpoint, &["member", "list"]).contains("http://127.0.0.1:2"));
    cluster.finish();
}

#[tokio::test]
async fn a_server_joins_only_a_cluster_that_was_told_of_it_and_never_without_its_data() {
    let options = Options::servers(1);
    let mut cluster = Cluster::new("members-join", &options);
    cluster.start_all().await;
    let endpoint = address(&mut cluster, 0);
    let new = cluster.newcomer(&[0], &options);
    let said = cluster.server(new).start_in_vain().await;
    assert!(said.contains("quorate member add n2"), "{said}");

    let url = cluster.server(new).peer.url();
    quorate_says(&endpoint, &["member", "add", "n2", "--peer-urls", &url]);
    cluster.server(new).start();
    cluster.ready(new).await;
    eventually("the newcomer to tell its name", async || {
        quorate_says(&endpoint, &["member", "list"]).contains("n2").then_some(())
    })
    .await;
    cluster.server(new).kill();
    let folder = cluster.server(new).data_dir.clone();
    std::fs::remove_dir_all(folder).unwrap();
    let said = cluster.server(new).start_in_vain().await;
    assert!(said.contains("has run before"), "{said}");
    cluster.finish();
}

/// The two others cannot do without the third, and the emptied one is no help: it has forgotten what
/// it promised.
#[tokio::test]
async fn a_member_whose_folder_was_emptied_says_what_to_type_and_does_not_vote() {
    let options = Options { heartbeat_ms: 50, election_timeout_ms: 500, ..Options::servers(3) };
    let mut cluster = Cluster::new("emptied", &options);
    cluster.start_all().await;
    cluster.client(0).put("k", "v").await.unwrap();
    let emptied = address(&mut cluster, 2);
    eventually("the third member to be well", async || {
        (http::get(&emptied, "/health").status == 200).then_some(())
    })
    .await;
    cluster.server(2).kill();
    std::fs::remove_dir_all(cluster.server(2).data_dir.clone()).unwrap();
    cluster.server(2).start();
    eventually("the emptied member to say what is wrong", async || {
        let health = http::try_get(&emptied, "/health")?;
        (health.status == 503 && health.body.contains("RECOVERING")).then_some(())
    })
    .await;
    let log = cluster.server(2).log_of_last_life();
    assert!(log.contains("quorate member remove"), "{log}");

    // One that keeps its disk goes too: who is left leads no more, whatever the emptied one says.
    cluster.server(0).kill();
    eventually("nobody to lead", async || {
        let status = cluster.client(1).status().await.ok()?;
        (status.leader == 0).then_some(())
    })
    .await;
    assert!(cluster.client(1).put("k", "lost?").await.is_err());
    assert_eq!(cluster.client(1).status().await.unwrap().leader, 0);
    cluster.server(0).start();
    cluster.ready(0).await;

    // What to type.
    let first = address(&mut cluster, 0);
    let remove = ["member", "remove", "n3"];
    eventually("the member to be removed", async || {
        quorate(&first, &remove).status.success().then_some(())
    })
    .await;
    assert!(cluster.server(2).ended().await.success(), "it learns that it was removed");
    let new = cluster.newcomer(&[0, 1], &options);
    let (name, url) = (format!("n{}", new + 1), cluster.server(new).peer.url());
    quorate_says(&first, &["member", "add", &name, "--peer-urls", &url]);
    cluster.server(new).start();
    cluster.ready(new).await;
    let served =
        eventually("the new member to serve", async || cluster.client(new).get("k").await.ok());
    assert!(served.await.is_some(), "it has been a learner until then");
    cluster.finish();
}

/// As long as a founder is missing nobody votes, and whoever asks is told who.
#[tokio::test]
async fn founding_waits_for_the_last_founder_and_says_for_whom() {
    let mut cluster = Cluster::new("founding", &Options::servers(3));
    cluster.server(0).start();
    cluster.server(1).start();
    let first = address(&mut cluster, 0);
    eventually("the first to say for whom it waits", async || {
        let health = http::try_get(&first, "/health")?;
        health.body.contains("founding waits for n3\"").then_some(())
    })
    .await;
    cluster.server(2).start();
    for index in 0..3 {
        cluster.ready(index).await;
    }
    cluster.finish();
}
