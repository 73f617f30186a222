//! Servers on machines of their own are cut off from each other, wholly and one way, lose their
//! cables, are killed, paused and replaced, while clients write, swap, watch and keep leases. What
//! clients were told is judged by etcd's guarantees: histories are linearizable and nothing
//! acknowledged is lost; watches tell every change once, in order, whole, across all their streams;
//! leases end when nobody keeps them and not before.
//!
//! One has to be root: see `network`. `QUORATE_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../kill_and_pause/history.rs"]
mod history;
#[path = "../kill_and_pause/judge.rs"]
mod judge;
mod leases;
mod network;
// More of it is the tests' of leases.
#[allow(dead_code)]
#[path = "../lease/owner.rs"]
mod owner;
mod story;
mod watched;
mod watched_tests;
mod watcher;
#[path = "../kill_and_pause/workload.rs"]
mod workload;

use futures_util::{StreamExt, future, stream};
use harness::{Client, PATIENCE, Rng, eventually};
use std::process::Command;
use story::{Stage, Story};

#[tokio::test]
async fn a_leader_that_is_cut_off_serves_nobody_and_its_successor_loses_nothing() {
    let Some(mut story) = Story::begin("cut-off-leader", 3).await else { return };
    story
        .act(async |stage| {
            stage.work().await;
            let old = stage.leader().await;
            stage.network.cut_off(&[old]);
            stage.work_without(&[old]).await;
            stage.assert_serves_nobody(old).await;
            stage.heal().await;
        })
        .await;
    story.end().await;
}

/// One of the two stands still when the others are there again, and wakes up later.
#[tokio::test]
async fn a_minority_of_two_with_the_leader_serves_nobody_and_comes_back_one_by_one() {
    let Some(mut story) = Story::begin("minority", 5).await else { return };
    story
        .act(async |stage| {
            stage.work().await;
            let old = stage.leader().await;
            let two = [old, (old + 1) % 5];
            stage.network.cut_off(&two);
            stage.work_without(&two).await;
            stage.assert_serves_nobody(two[0]).await;
            stage.assert_serves_nobody(two[1]).await;
            stage.cluster.server(old).pause();
            stage.network.heal();
            stage.work_without(&[old]).await;
            stage.cluster.server(old).resume();
            stage.all_serve().await;
        })
        .await;
    story.end().await;
}

#[tokio::test]
async fn whoever_hears_nobody_or_is_heard_by_nobody_holds_up_nobody_else() {
    let Some(mut story) = Story::begin("one-way", 3).await else { return };
    // A leader that goes on speaking, and hears no answer: it has to notice that by itself.
    story
        .act(async |stage| {
            stage.work().await;
            let deaf = stage.leader().await;
            for other in [(deaf + 1) % 3, (deaf + 2) % 3] {
                stage.network.cut_one_way(other, deaf);
            }
            stage.work_without(&[deaf]).await;
            stage.assert_serves_nobody(deaf).await;
            stage.heal().await;
        })
        .await;
    // A follower that hears nobody, and asks for votes.
    story
        .act(async |stage| {
            let deaf = (stage.leader().await + 1) % 3;
            for other in [(deaf + 1) % 3, (deaf + 2) % 3] {
                stage.network.cut_one_way(other, deaf);
            }
            stage.work_without(&[deaf]).await;
            stage.heal().await;
        })
        .await;
    // A leader that one of its followers does not hear, though the other one does.
    story
        .act(async |stage| {
            let leader = stage.leader().await;
            stage.network.cut_one_way(leader, (leader + 1) % 3);
            stage.work_without(&[]).await;
            stage.heal().await;
        })
        .await;
    story.end().await;
}

/// More than the log keeps for those who are behind: it keeps 5000 entries, and its files whole.
async fn put_much(client: &Client) {
    let puts = stream::repeat_with(|| client.put("much", vec![b'x'; 1000])).buffer_unordered(64);
    let acknowledged = puts.filter(|put| future::ready(put.is_ok())).take(9000).count();
    let is_done = tokio::time::timeout(PATIENCE, acknowledged).await.is_ok();
    assert!(is_done, "most members are there");
}

/// A watcher of etcd's that had stayed with such a member was told of its past a second time. Ours
/// stay, too: their connections are not cut.
#[tokio::test]
async fn etcd_15271_a_snapshot_after_a_partition_tells_watchers_nothing_twice() {
    let Some(mut story) = Story::begin("snapshot", 3).await else { return };
    story
        .act(async |stage| {
            stage.work().await;
            let leader = stage.leader().await;
            let away = (leader + 1) % 3;
            stage.network.cut_off(&[away]);
            put_much(stage.cluster.client(leader)).await;
            // Clients go on, and the log is released behind the answers.
            for other in [leader, (leader + 2) % 3] {
                eventually("the first file of the log to be released", async || {
                    stage.cluster.server(other).has_released().then_some(())
                })
                .await;
            }
            assert!(!stage.cluster.server(away).has_snapshot());
            stage.heal().await;
            assert!(stage.cluster.server(away).has_snapshot(), "it was too far behind for the log");
        })
        .await;
    story.end().await;
}

/// Runs `quorate member`, and returns what it printed if it ended well.
fn member(stage: &mut Stage, through: usize, arguments: &[&str]) -> Option<String> {
    let address = stage.cluster.server(through).client.address();
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("member")
        .args(arguments)
        .args(["--endpoints", &address])
        .output()
        .expect("quorate can be run");
    if !output.status.success() {
        println!("member {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries a change until the list of members shows that it was made: an answer can get lost.
async fn change_members(stage: &mut Stage, through: usize, change: &[&str], url: &str) {
    let is_addition = change.contains(&url);
    eventually("a change of the members", async || {
        let _tried = member(stage, through, change);
        let is_listed = member(stage, through, &["list"])?.contains(url);
        (is_listed == is_addition).then_some(())
    })
    .await;
}

/// The third machine loses its server and its disk, and gets a new server at the same address.
async fn replace_third(stage: &mut Stage) {
    stage.cluster.server(2).kill();
    std::fs::remove_dir_all(stage.cluster.server(2).data_dir.clone()).unwrap();
    stage.members = vec![0, 1];
    let url = stage.cluster.server(2).peer.url();
    change_members(stage, 0, &["remove", "n3"], &url).await;
    let third = stage.options.machines[2].clone();
    stage.options.machines.push(third);
    let new = stage.cluster.newcomer(&[0, 1], &stage.options);
    assert_eq!(stage.cluster.server(new).peer.url(), url);
    change_members(stage, 1, &["add", "n4", "--peer-urls", &url], &url).await;
    stage.cluster.server(new).start();
    // Not all of what it is sent at first arrives.
    stage.network.cut_off(&[2]);
    stage.work().await;
    stage.network.heal();
    stage.cluster.ready(new).await;
    stage.members.push(new);
}

#[tokio::test]
async fn a_member_that_lost_its_disk_is_replaced_under_load_and_the_new_one_counts() {
    let Some(mut story) = Story::begin("replaced-under-load", 3).await else { return };
    story
        .act(async |stage| {
            stage.work().await;
            replace_third(stage).await;
            stage.all_serve().await;
        })
        .await;
    // Nobody can do without the new one now.
    story
        .act(async |stage| {
            let first = 0;
            stage.cluster.server(first).kill();
            stage.work_without(&[first]).await;
            stage.cluster.restart(first).await;
            stage.cluster.server(1).pause();
            stage.work_without(&[1]).await;
            stage.cluster.server(1).resume();
            stage.all_serve().await;
        })
        .await;
    story.end().await;
}

/// What can happen to one machine.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Paused,
    CutOff,
    Deaf,
    Mute,
    Unplugged,
}

async fn strike(stage: &mut Stage, fault: Fault, victim: usize) {
    let others: Vec<usize> = stage.members.iter().copied().filter(|it| *it != victim).collect();
    match fault {
        Fault::Killed => stage.cluster.server(victim).kill(),
        Fault::Paused => stage.cluster.server(victim).pause(),
        Fault::CutOff => stage.network.cut_off(&[victim]),
        Fault::Deaf => others.iter().for_each(|it| stage.network.cut_one_way(*it, victim)),
        Fault::Mute => others.iter().for_each(|it| stage.network.cut_one_way(victim, *it)),
        Fault::Unplugged => stage.network.unplug(victim),
    }
    stage.work_without(&[victim]).await;
    match fault {
        Fault::Killed => stage.cluster.server(victim).start(),
        Fault::Paused => stage.cluster.server(victim).resume(),
        Fault::CutOff | Fault::Deaf | Fault::Mute => stage.network.heal(),
        Fault::Unplugged => stage.network.plug(victim),
    }
    stage.all_serve().await;
}

#[tokio::test]
async fn whatever_happens_to_one_machine_after_the_other_every_promise_holds() {
    let Some(mut story) = Story::begin("storm", 3).await else { return };
    let mut rng = Rng::new(story.seed(), u64::MAX);
    let mut faults = vec![
        Fault::Killed,
        Fault::Paused,
        Fault::CutOff,
        Fault::Deaf,
        Fault::Mute,
        Fault::Unplugged,
    ];
    while !faults.is_empty() {
        let fault = faults.swap_remove(rng.below(faults.len()));
        let (is_leader, which) = (rng.coin(), rng.below(2));
        story
            .act(async |stage| {
                let leader = stage.leader().await;
                let victim = if is_leader { leader } else { (leader + 1 + which) % 3 };
                println!("n{} is {fault:?}; n{} leads", victim + 1, leader + 1);
                strike(stage, fault, victim).await;
            })
            .await;
    }
    story.end().await;
}
