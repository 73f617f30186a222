//! A cluster of real processes serves as long as a majority lives, says so when none does, and
//! loses nothing that it acknowledged. Asks only through the clients' door, and knows nothing of
//! how the servers do it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Server, eventually, message_of};
use std::collections::BTreeMap;
use tonic::Code;

/// The words of etcd for "there is no quorum", whichever the server notices first.
const NO_QUORUM: [&str; 5] = [
    "etcdserver: no leader",
    "etcdserver: leader changed",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
];

/// Keys and values that were acknowledged, and so must be there for ever after.
#[derive(Default)]
struct Acknowledged(BTreeMap<String, String>);

impl Acknowledged {
    /// Writes some keys through these servers, in turn.
    async fn write(&mut self, cluster: &Cluster, through: &[usize], phase: &str) {
        for number in 0..20 {
            let (key, value) = (format!("{phase}/{number}"), format!("{phase}-{number}"));
            cluster.put_until_acknowledged(through, &key, &value).await;
            self.0.insert(key, value);
        }
    }

    /// Checks by linearizable reads that a server has all of it.
    async fn assert_served_by(&self, cluster: &Cluster, index: usize) {
        for (key, value) in &self.0 {
            let found = cluster.client(index).get(key).await.expect("the server serves");
            let found = found.unwrap_or_else(|| panic!("{key} was acknowledged, and is lost"));
            assert_eq!(found.value, value.as_bytes(), "{key}");
        }
    }
}

fn others(cluster: &Cluster, not: &[usize]) -> Vec<usize> {
    cluster.indexes().filter(|index| !not.contains(index)).collect()
}

#[tokio::test]
async fn after_a_kill_of_the_leader_another_serves_and_the_killed_one_rejoins() {
    let mut cluster = Cluster::started("leader-killed", 3).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.write(&cluster, &[0, 1, 2], "before").await;

    let killed = cluster.leader(None).await;
    cluster.server(killed).kill();
    let survivors = others(&cluster, &[killed]);
    let successor = cluster.leader(Some(killed)).await;
    assert!(survivors.contains(&successor));
    acknowledged.write(&cluster, &survivors, "without").await;
    for survivor in survivors {
        acknowledged.assert_served_by(&cluster, survivor).await;
    }

    cluster.restart(killed).await;
    acknowledged.write(&cluster, &[killed], "after").await;
    acknowledged.assert_served_by(&cluster, killed).await;
    assert_eq!(cluster.assert_equal_replicas().await, 60);
    cluster.finish();
}

/// How many ends of others' processes a server has told of.
fn ends_known(cluster: &mut Cluster, index: usize) -> usize {
    cluster.server(index).log_text().matches("its process seems to have ended").count()
}

#[tokio::test]
async fn the_end_of_a_leaders_process_is_noticed_by_who_calls_it_and_the_next_write_is_acknowledged()
 {
    let mut cluster = Cluster::started("leader-gone", 3).await;
    let mut acknowledged = Acknowledged::default();
    for round in 0..3 {
        let killed = cluster.leader(None).await;
        acknowledged.write(&cluster, &[0, 1, 2], &format!("before-{round}")).await;
        let survivors = others(&cluster, &[killed]);
        let known: Vec<usize> = survivors.iter().map(|it| ends_known(&mut cluster, *it)).collect();
        cluster.server(killed).kill();
        acknowledged.write(&cluster, &survivors, &format!("after-{round}")).await;
        for (survivor, known) in survivors.into_iter().zip(known) {
            acknowledged.assert_served_by(&cluster, survivor).await;
            let is_noticed = async || (ends_known(&mut cluster, survivor) > known).then_some(());
            eventually("a survivor to call the leader in vain", is_noticed).await;
        }
        cluster.restart(killed).await;
        acknowledged.assert_served_by(&cluster, killed).await;
    }
    cluster.assert_equal_replicas().await;
    cluster.finish();
}

#[tokio::test]
async fn without_a_quorum_requests_fail_with_etcds_words_and_resume_when_one_returns() {
    let mut cluster = Cluster::started("two-killed", 3).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.write(&cluster, &[0, 1, 2], "before").await;
    // Once the survivor is the leader, once it is a follower.
    for survivor_leads in [true, false] {
        let leader = cluster.leader(None).await;
        let survivor = if survivor_leads { leader } else { (leader + 1) % 3 };
        let killed = others(&cluster, &[survivor]);
        for index in &killed {
            cluster.server(*index).kill();
        }
        assert_refuses_without_a_quorum(&cluster, survivor).await;

        let [returns, stays_away] = killed[..] else { panic!("two of three were killed") };
        cluster.restart(returns).await;
        let phase = format!("resumed-{survivor_leads}");
        acknowledged.write(&cluster, &[survivor, returns], &phase).await;
        acknowledged.assert_served_by(&cluster, survivor).await;
        acknowledged.assert_served_by(&cluster, returns).await;

        cluster.restart(stays_away).await;
        acknowledged.assert_served_by(&cluster, stays_away).await;
    }
    cluster.assert_equal_replicas().await;
    cluster.finish();
}

async fn assert_refuses_without_a_quorum(cluster: &Cluster, survivor: usize) {
    let client = cluster.client(survivor);
    let (write, read) = tokio::join!(client.put("refused", "x"), client.get("before/0"));
    for (code, message) in [message_of(write), message_of(read)] {
        // A proposal that found no leader, which Go's client takes for an end.
        if (code, message.as_str()) == (Code::Unknown, "context deadline exceeded") {
            continue;
        }
        assert!(NO_QUORUM.contains(&message.as_str()), "not etcd's words: {message}");
        assert_eq!(code, Code::Unavailable, "{message}");
    }
    let old = client.everything().await.expect("a serializable read needs no quorum");
    assert!(old.kvs.iter().any(|pair| pair.key == "before/0"), "it shows what the server has");
}

#[tokio::test]
async fn five_servers_tolerate_two_failures() {
    let mut cluster = Cluster::started("five", 5).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.write(&cluster, &[0, 1, 2, 3, 4], "before").await;

    let first = cluster.leader(None).await;
    cluster.server(first).kill();
    let second = cluster.leader(Some(first)).await;
    cluster.server(second).kill();
    let survivors = others(&cluster, &[first, second]);
    acknowledged.write(&cluster, &survivors, "without-two-leaders").await;
    for survivor in survivors {
        acknowledged.assert_served_by(&cluster, survivor).await;
    }

    for killed in [first, second] {
        cluster.restart(killed).await;
        acknowledged.assert_served_by(&cluster, killed).await;
    }
    assert_eq!(cluster.assert_equal_replicas().await, 40);
    cluster.finish();
}

#[tokio::test]
async fn a_cluster_that_was_stopped_cleanly_serves_the_same_data_when_started_again() {
    let mut cluster = Cluster::started("stopped", 3).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.write(&cluster, &[0, 1, 2], "before").await;
    cluster.client(0).delete("before/7").await.unwrap();
    acknowledged.0.remove("before/7");
    cluster.assert_equal_replicas().await;
    let before = cluster.client(0).everything().await.unwrap();

    for index in cluster.indexes() {
        let status = cluster.server(index).terminate().await;
        // etcd ends by sending itself the signal again.
        assert!(status.success() || Server::is_foreign(), "SIGTERM is a clean end: {status}");
    }
    cluster.start_all().await;
    for index in cluster.indexes() {
        acknowledged.assert_served_by(&cluster, index).await;
        let after = cluster.client(index).everything().await.unwrap();
        assert_eq!(after.kvs, before.kvs, "with the same revisions and versions");
        let revision = |answer: &quorate_etcd_api::etcdserverpb::RangeResponse| {
            answer.header.as_ref().unwrap().revision
        };
        assert_eq!(revision(&after), revision(&before), "a restart makes no revision");
    }
    cluster.finish();
}

#[tokio::test]
async fn a_paused_leader_is_replaced_and_follows_when_it_wakes() {
    let mut cluster = Cluster::started("leader-paused", 3).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.write(&cluster, &[0, 1, 2], "before").await;

    let paused = cluster.leader(None).await;
    cluster.server(paused).pause();
    let successor = cluster.leader(Some(paused)).await;
    acknowledged.write(&cluster, &[successor], "without").await;
    cluster.server(paused).resume();

    // Its first linearizable answer must know what happened while it stood still.
    cluster.ready(paused).await;
    acknowledged.assert_served_by(&cluster, paused).await;
    assert_eq!(cluster.assert_equal_replicas().await, 40);
    cluster.finish();
}

#[tokio::test]
async fn after_a_kill_of_all_at_once_everything_acknowledged_is_there() {
    let mut cluster = Cluster::started("all-killed", 3).await;
    let mut acknowledged = Acknowledged::default();
    for life in 0..3 {
        acknowledged.write(&cluster, &[0, 1, 2], &format!("life-{life}")).await;
        // Writes that are in progress when the kill comes are a part of it.
        let mut writes = tokio::task::JoinSet::new();
        for number in 0..50 {
            let (client, key) =
                (cluster.client(number % 3).clone(), format!("cut-{life}/{number}"));
            writes.spawn(async move { client.put(&key, "off").await.is_ok().then_some(key) });
        }
        let first = writes.join_next().await.unwrap().unwrap();
        for index in cluster.indexes() {
            cluster.server(index).kill();
        }
        let completed = writes.join_all().await.into_iter().chain([first]).flatten();
        acknowledged.0.extend(completed.map(|key| (key, "off".to_owned())));
        cluster.start_all().await;
        acknowledged.assert_served_by(&cluster, life).await;
    }
    cluster.assert_equal_replicas().await;
    cluster.finish();
}
