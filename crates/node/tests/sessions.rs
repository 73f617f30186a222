//! Sessions on whole nodes: every command takes effect once, whoever leads, however often it is
//! sent, and whoever restarts in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, patient_driver, wait};
use quorate::{
    Consistency, Doubt, DriverOptions, Fate, LogIndex, Node, NodeId, Refusal, Session,
    SessionLimits, SessionRefusal,
};
use std::time::Duration;

async fn open(node: &Node) -> Session {
    loop {
        match node.open_session(PATIENCE).await {
            Ok(session) => return session,
            Err(error) => eprintln!("again: {error}"),
        }
    }
}

fn applied(fate: Fate) -> (quorate::LogId, bytes::Bytes) {
    let Fate::Applied { log_id, reply } = fate else {
        panic!("expected an applied command: {fate:?}");
    };
    (log_id, reply)
}

async fn count(node: &Node) -> String {
    let count = node.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
    String::from_utf8(count.to_vec()).unwrap()
}

#[tokio::test]
async fn a_command_that_is_sent_again_takes_effect_once_and_is_answered_alike() {
    let mut cluster = Cluster::started().await;
    let session = open(&cluster.up[&1]).await;
    let first = session.command("first").unwrap();
    let told = applied(first.send(PATIENCE).await);
    for node in cluster.up.values() {
        assert_eq!(applied(first.send_through(node, PATIENCE).await), told);
    }
    let second = applied(session.through(&cluster.up[&2]).propose("second", PATIENCE).await);
    assert_eq!(second.1, "2");
    assert_eq!(count(&cluster.up[&3]).await, "2");
    cluster.stop_all().await;
}

#[tokio::test]
async fn many_commands_of_one_session_are_under_way_at_once() {
    let mut cluster = Cluster::started().await;
    let session = open(&cluster.up[&1]).await;
    let callers: Vec<_> = (0..100_u64)
        .map(|caller| {
            let session = session.through(&cluster.up[&(caller % 3 + 1)]);
            tokio::spawn(async move { session.propose(format!("word{caller}"), PATIENCE).await })
        })
        .collect();
    let mut counts = Vec::new();
    for caller in callers {
        let (_, reply) = applied(caller.await.unwrap());
        counts.push(std::str::from_utf8(&reply).unwrap().parse::<u64>().unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_session_outlives_its_leader() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    let other = cluster.up.keys().copied().find(|id| *id != leader).unwrap();
    let session = open(&cluster.up[&other]).await;
    let first = session.command("first").unwrap();
    let told = applied(first.send(PATIENCE).await);
    cluster.stop(leader).await;
    assert_eq!(applied(first.send(PATIENCE).await), told);
    assert_eq!(applied(session.propose("second", PATIENCE).await).1, "2");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_session_survives_a_stop_of_all_nodes_and_of_its_client() {
    let mut cluster = Cluster::started().await;
    let session = open(&cluster.up[&1]).await;
    let first = session.command("first").unwrap();
    let (key, number) = (session.key(), first.number());
    let told = applied(first.send(PATIENCE).await);
    cluster.stop_all().await;
    drop((first, session));

    cluster.start_all().await;
    let session = cluster.up[&2].resume_session(key, number + 1, [number]);
    assert!(session.again(number + 1, "never sent").is_none());
    let again = session.again(number, "first").expect("it was in doubt");
    assert_eq!(applied(again.send(PATIENCE).await), told);
    assert_eq!(applied(session.propose("second", PATIENCE).await).1, "2");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_table_that_came_by_snapshot_knows_what_was_applied() {
    let mut cluster = Cluster::prepared();
    cluster.driver_options =
        DriverOptions { compact_log_count: 50, retain_log_count: 10, ..patient_driver() };
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let away = cluster.up.keys().copied().find(|id| *id != leader).unwrap();
    let session = open(&cluster.up[&leader]).await;
    cluster.stop(away).await;
    let first = session.command("first").unwrap();
    let told = applied(first.send(PATIENCE).await);
    while cluster.up[&leader].status().base.index < LogIndex::new(20) {
        applied(session.propose(vec![b'x'; 2000], PATIENCE).await);
    }
    let counted = count(&cluster.up[&leader]).await;
    cluster.start(away).await;
    cluster.settle().await;
    // The one that has it by snapshot only leads.
    let new = NodeId::new(away);
    while cluster.up[&away].status().leader != Some(new) {
        let leader = cluster.leader().await;
        drop(cluster.up[&leader].transfer_leadership(Some(new)).await);
    }
    assert_eq!(applied(first.send_through(&cluster.up[&away], PATIENCE).await), told);
    assert_eq!(count(&cluster.up[&away]).await, counted);

    // And so it is after a restart, from its own snapshot and log.
    cluster.stop_all().await;
    cluster.start_all().await;
    assert_eq!(applied(first.send_through(&cluster.up[&away], PATIENCE).await), told);
    assert_eq!(count(&cluster.up[&away]).await, counted);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_session_without_a_majority_is_not_answered_for_ever_and_takes_effect_once_later() {
    let mut cluster = Cluster::started().await;
    let session = open(&cluster.up[&1]).await;
    let word = session.command("word").unwrap();
    let (leader, others) = loop {
        let leader = cluster.leader().await;
        let others: Vec<_> = cluster.up.keys().copied().filter(|id| *id != leader).collect();
        for id in &others {
            cluster.stop(*id).await;
        }
        let soon = Duration::from_millis(100);
        match word.send_through(&cluster.up[&leader], soon).await {
            Fate::Unknown(Doubt::Deadline) => break (leader, others),
            // It took so long until now that it has given up its office.
            Fate::NotAppended(Refusal::NoLeader) => {}
            fate @ (Fate::Applied { .. }
            | Fate::NotAppended(_)
            | Fate::Lost { .. }
            | Fate::Unknown(_)
            | Fate::Refused(_)) => panic!("{fate:?}"),
        }
        for id in others {
            cluster.start(id).await;
        }
    };
    wait(&cluster.up[&leader], |status| !status.is_leader()).await;
    let fate = word.send_through(&cluster.up[&leader], Duration::from_millis(100)).await;
    assert!(matches!(fate, Fate::Unknown(_)), "the first sending is still in doubt: {fate:?}");
    cluster.start(others[0]).await;
    assert_eq!(applied(word.send_through(&cluster.up[&leader], PATIENCE).await).1, "1");
    assert_eq!(count(&cluster.up[&leader]).await, "1");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_closed_session_takes_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    let session = open(&node).await;
    applied(session.keep_alive(PATIENCE).await);
    applied(session.close(PATIENCE).await);
    let expired = Fate::Refused(SessionRefusal::Expired);
    assert_eq!(session.propose("late", PATIENCE).await, expired);
    assert_eq!(session.close(PATIENCE).await, expired);
    assert_eq!(count(&node).await, "0");
    node.stop().await;
}

#[tokio::test]
async fn the_session_that_was_idle_for_longest_gives_way_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let session_limits = SessionLimits { sessions_count_max: 2, ..Default::default() };
    let options = DriverOptions { session_limits, ..Default::default() };
    let builder = Node::builder(1, dir.path()).driver_options(options);
    let node = builder.start(Words::default()).await.unwrap();
    let sessions = [open(&node).await, open(&node).await];
    applied(sessions[0].propose("used", PATIENCE).await);
    let third = open(&node).await;
    let expired = Fate::Refused(SessionRefusal::Expired);
    assert_eq!(sessions[1].propose("late", PATIENCE).await, expired);
    applied(sessions[0].propose("still there", PATIENCE).await);
    applied(third.propose("there", PATIENCE).await);
    node.stop().await;
}

#[tokio::test]
async fn a_session_that_nobody_uses_expires_by_the_leader_s_clock() {
    let dir = tempfile::tempdir().unwrap();
    let session_limits = SessionLimits { idle_max: Duration::from_millis(1), ..Default::default() };
    let options = DriverOptions { session_limits, ..Default::default() };
    let builder = Node::builder(1, dir.path()).driver_options(options);
    let node = builder.start(Words::default()).await.unwrap();
    let idle = open(&node).await;
    let expired = Fate::Refused(SessionRefusal::Expired);
    // Time goes on with the entries of others.
    while idle.through(&node).propose("word", PATIENCE).await != expired {
        drop(open(&node).await);
    }
    node.stop().await;
}

#[tokio::test]
async fn commands_beyond_the_window_of_open_ones_are_refused_until_one_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let session_limits = SessionLimits { replies_count_max: 3, ..Default::default() };
    let options = DriverOptions { session_limits, ..Default::default() };
    let builder = Node::builder(1, dir.path()).driver_options(options);
    let node = builder.start(Words::default()).await.unwrap();
    let session = open(&node).await;
    let mut held: Vec<_> = (0..3).map(|_| session.command("word").unwrap()).collect();
    let refused = session.propose("word", PATIENCE).await;
    assert!(
        matches!(refused, Fate::NotAppended(Refusal::Overloaded { limit: 3, .. })),
        "{refused:?}"
    );
    drop(held.remove(0));
    applied(session.propose("word", PATIENCE).await);
    node.stop().await;
}
