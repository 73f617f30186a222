//! Whole nodes on real disks and sockets: what a cluster promises to those who use it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, leads, patient_driver, say, wait};
use quorate::{
    Cause, Consistency, Drift, DriverOptions, Fate, LogIndex, Node, NodeFailure, NodeId,
    NodeOptions, ReadError, Reason, Refusal, StartError, TransferError,
};
use std::time::Duration;

#[tokio::test]
async fn a_single_node_serves_by_itself_and_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(7, dir.path()).start(Words::default()).await.unwrap();
    assert_eq!(say(&node, "one").await, 1);
    assert_eq!(say(&node, "two").await, 2);
    node.stop().await;

    let node = Node::builder(7, dir.path()).start(Words::default()).await.unwrap();
    assert_eq!(say(&node, "three").await, 3);
    let all = node.read("all", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert_eq!(all, "one two three");
    node.stop().await;
}

#[tokio::test]
async fn three_nodes_agree_whoever_is_asked() {
    let mut cluster = Cluster::started().await;
    for (count, id) in (1..=9).zip([1, 2, 3].into_iter().cycle()) {
        assert_eq!(say(&cluster.up[&id], format!("word{count}")).await, count);
        for node in cluster.up.values() {
            let seen = node.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
            assert_eq!(seen, count.to_string(), "a read sees what was acknowledged before it");
        }
    }
    let index = cluster.settle().await;
    for node in cluster.up.values() {
        let local = node.read("count", Consistency::Local, PATIENCE).await.unwrap();
        assert_eq!(local, "9");
        let passed = node.read_barrier(Consistency::AtLeast(index), PATIENCE).await.unwrap();
        assert!(passed >= index);
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn every_kind_of_read_sees_what_it_promises_on_every_node_with_leases_and_without() {
    let lease = Consistency::Lease { max_drift: Drift::parts_per_million(1_000) };
    for lease_reads in [true, false] {
        let mut cluster = Cluster::prepared();
        cluster.options.lease_reads = lease_reads;
        cluster.start_all().await;
        for count in 1..=9_u64 {
            assert_eq!(say(&cluster.up[&(count % 3 + 1)], format!("word{count}")).await, count);
            for node in cluster.up.values() {
                for now in [lease, Consistency::Bounded(Duration::ZERO)] {
                    let seen = node.read("count", now, PATIENCE).await.unwrap();
                    assert_eq!(seen, count.to_string(), "{now:?}");
                }
                let lately = Consistency::Bounded(Duration::from_hours(1));
                assert!(node.read("count", lately, PATIENCE).await.is_ok());
            }
        }
        cluster.stop_all().await;
        let folder = std::fs::read_dir(cluster.folder(1)).unwrap();
        let mut names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
        let is_noted = names.any(|name| name.starts_with("promised-"));
        assert_eq!(is_noted, lease_reads, "what a node may have promised is noted in its folder");
    }
}

#[tokio::test]
async fn many_callers_at_once_each_get_their_own_answer() {
    let mut cluster = Cluster::started().await;
    let callers: Vec<_> = (0..300_u64)
        .map(|caller| {
            let node = cluster.up[&(caller % 3 + 1)].clone();
            tokio::spawn(async move { say(&node, format!("word{caller}")).await })
        })
        .collect();
    let mut counts = Vec::new();
    for caller in callers {
        counts.push(caller.await.unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=300).collect::<Vec<_>>());
    cluster.stop_all().await;
}

#[tokio::test]
async fn two_of_three_go_on_and_the_third_catches_up() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    let other = *cluster.up.keys().next().unwrap();
    let is_new = |id: Option<NodeId>| id.is_some_and(|id| id != NodeId::new(leader));
    wait(&cluster.up[&other], |status| is_new(status.leader)).await;
    for count in 1..=20 {
        assert_eq!(say(&cluster.up[&other], format!("word{count}")).await, count);
    }
    cluster.start(leader).await;
    let back = &cluster.up[&leader];
    let seen = back.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert_eq!(seen, "20");
    cluster.stop_all().await;
}

#[tokio::test]
async fn one_of_three_refuses_with_a_reason_and_serves_again_with_a_second() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.up.keys().copied().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.stop(*id).await;
    }
    let alone = cluster.up[&leader].clone();
    // The leader that it knows may be another than it was.
    wait(&alone, |status| status.leader.is_none()).await;
    let soon = Duration::from_millis(50);
    let fate = alone.propose("word", soon).await;
    assert_eq!(fate, Fate::NotAppended(Refusal::NoLeader));
    let read = alone.read("all", Consistency::Linearizable, soon).await;
    assert_eq!(read, Err(ReadError::NoLeader));

    cluster.start(others[0]).await;
    assert_eq!(say(&alone, "word").await, 1);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_explains_what_it_waits_for_and_what_to_do_about_it() {
    let mut cluster = Cluster::started().await;
    cluster.settle().await;
    let (leader, explanation) = loop {
        let leader = cluster.leader().await;
        let explanation = cluster.up[&leader].explain().await.unwrap();
        if explanation.leader == Some(leader.into()) {
            break (leader, explanation);
        }
    };
    assert_eq!(explanation.id, leader.into());
    assert!(explanation.to_string().starts_with(&format!("node {leader} leads in term ")));

    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.stop(*id).await;
    }
    let node = cluster.up[&leader].clone();
    wait(&node, |status| status.leader.is_none()).await;
    let explanation = node.explain().await.unwrap();
    let is_leaderless = |cause: &Cause| matches!(cause, Cause::Core(Reason::NoLeader(_)));
    assert!(explanation.causes.iter().any(is_leaderless), "{explanation}");

    cluster.stop_all().await;
    assert_eq!(node.explain().await, None, "a node that has ended waits for nothing");
}

#[tokio::test]
async fn a_cluster_that_was_stopped_as_a_whole_has_everything_when_it_is_back() {
    let mut cluster = Cluster::started().await;
    for count in 1..=30 {
        say(&cluster.up[&(count % 3 + 1)], format!("word{count}")).await;
    }
    cluster.stop_all().await;
    cluster.start_all().await;
    assert_eq!(say(&cluster.up[&2], "last").await, 31);
    let expected: Vec<_> =
        (1..=30).map(|count| format!("word{count}")).chain(["last".to_owned()]).collect();
    for node in cluster.up.values() {
        let all = node.read("all", Consistency::Linearizable, PATIENCE).await.unwrap();
        assert_eq!(all, expected.join(" "));
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_follower_that_was_away_too_long_recovers_by_a_snapshot() {
    let mut cluster = Cluster::prepared();
    cluster.driver_options =
        DriverOptions { compact_log_count: 50, retain_log_count: 10, ..patient_driver() };
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let away = cluster.up.keys().copied().find(|id| *id != leader).unwrap();
    say(&cluster.up[&leader], "first").await;
    cluster.settle().await;
    cluster.stop(away).await;
    let seen = cluster.folder(away);

    let node = cluster.up[&leader].clone();
    let mut count = 1;
    // Snapshots are written in the background: propose until the log was released beyond what the
    // absent node has.
    while node.status().base.index < LogIndex::new(20) {
        count += 1;
        assert_eq!(say(&node, vec![b'x'; 2000]).await, count);
    }
    let base = node.status().base.index;
    cluster.start(away).await;
    let back = &cluster.up[&away];
    let counted = back.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert_eq!(counted, count.to_string());
    assert!(back.status().base.index >= base, "the log starts after the snapshot");
    assert!(seen.join("snapshots").read_dir().unwrap().count() > 0);

    // What came by snapshot survives a restart like everything else.
    cluster.stop_all().await;
    cluster.start_all().await;
    let back = &cluster.up[&away];
    let counted = back.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert_eq!(counted, count.to_string());
    cluster.stop_all().await;
}

#[tokio::test]
async fn leadership_is_handed_over_on_request() {
    let mut cluster = Cluster::led_by_the_first(|_, builder| builder).await;
    let (leader, to) = (cluster.leader().await, 2);
    assert_eq!(say(&cluster.up[&leader], "word").await, 1);
    let new = cluster.up[&leader].transfer_leadership(Some(NodeId::new(to))).await;
    assert_eq!(new, Ok(NodeId::new(to)));
    assert_eq!(say(&cluster.up[&leader], "word").await, 2);

    let refused = cluster.up[&leader].transfer_leadership(None).await;
    assert_eq!(refused, Err(TransferError::NotLeader { leader: Some(NodeId::new(to)) }));
    let nobody = cluster.up[&to].transfer_leadership(Some(NodeId::new(99))).await;
    assert_eq!(nobody, Err(TransferError::GivenUp { leader: NodeId::new(to) }));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_large_command_passes_and_one_beyond_the_limit_is_refused() {
    let mut cluster = Cluster::started().await;
    let follower = {
        let leader = cluster.leader().await;
        cluster.up.keys().copied().find(|id| *id != leader).unwrap()
    };
    let node = &cluster.up[&follower];
    assert_eq!(say(node, vec![7; 10 << 20]).await, 1);
    assert_eq!(say(node, "small").await, 2);
    let limit = NodeOptions::default().command_bytes_max;
    let fate = node.propose(vec![7; limit + 1], PATIENCE).await;
    assert!(
        matches!(fate, Fate::NotAppended(Refusal::Overloaded { limit: l, .. }) if l == limit),
        "{fate:?}"
    );
    cluster.settle().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_whose_state_machine_fails_stops_and_says_why_and_callers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    leads(&node).await;
    let fate = node.propose("die", PATIENCE).await;
    assert_eq!(fate, Fate::Unknown(quorate::Doubt::Stopped));
    let failure = node.failure().await;
    assert!(matches!(*failure, NodeFailure::StateMachine(_)), "{failure}");
    assert_eq!(node.propose("more", PATIENCE).await, Fate::NotAppended(Refusal::Stopped));
    let read = node.read("all", Consistency::Local, PATIENCE).await;
    assert_eq!(read, Err(ReadError::Stopped));
}

#[tokio::test]
async fn a_panic_in_the_state_machine_stops_this_node_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    let bystander = tempfile::tempdir().unwrap();
    let bystander = Node::builder(2, bystander.path()).start(Words::default()).await.unwrap();
    leads(&node).await;
    let fate = node.propose("panic", PATIENCE).await;
    assert_eq!(fate, Fate::Unknown(quorate::Doubt::Stopped));
    let failure = node.failure().await;
    let NodeFailure::Panicked { thread, message } = &*failure else { panic!("{failure}") };
    assert_eq!((*thread, message.as_str()), ("apply", "told to panic"));
    assert_eq!(say(&bystander, "fine").await, 1);
    bystander.stop().await;
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_the_caller_s_error() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    leads(&node).await;
    let read = node.read("nonsense", Consistency::Linearizable, PATIENCE).await;
    assert!(matches!(read, Err(ReadError::Query(_))), "{read:?}");
    assert_eq!(say(&node, "fine").await, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_folder_of_another_node_or_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    node.stop().await;
    let builders = [Node::builder(2, dir.path()), Node::builder(1, dir.path()).cluster_id(99)];
    for builder in builders {
        let error = builder.start(Words::default()).await.unwrap_err();
        assert!(matches!(error, StartError::Log(_)), "{error}");
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    let error = Node::builder(1, dir.path()).start(Words::default()).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn a_founder_that_is_not_among_the_founders_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Node::builder(3, dir.path())
        .member(1, "127.0.0.1:1")
        .member(2, "127.0.0.1:2")
        .listen("127.0.0.1:0");
    let error = builder.start(Words::default()).await.unwrap_err();
    assert!(matches!(error, StartError::NotAMember { member_count: 2, .. }), "{error}");
}

#[tokio::test]
async fn stop_leaves_no_thread_behind() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(4321, dir.path()).start(Words::default()).await.unwrap();
    say(&node, "word").await;
    // Each names itself, once it is its turn.
    let named = async {
        while threads_of(4321) < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, named).await.expect("its threads are named after it");
    node.stop().await;
    // A joined thread may be listed for a moment after it has ended.
    let gone = async {
        while threads_of(4321) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

/// How many threads of this process bear a node's name.
fn threads_of(node: u64) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end().ends_with(&format!("-{node}"))).count()
}

#[tokio::test]
async fn a_node_ends_with_its_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    say(&node, "word").await;
    let mut changes = node.status_changes();
    drop(node);
    while changes.changed().await.is_ok() {}
    let again = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    assert_eq!(say(&again, "word").await, 2);
    again.stop().await;
}
