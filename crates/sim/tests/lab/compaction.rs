//! Part D of the lab: snapshots instead of long logs. Counts what a node keeps; knows no files.

use crate::journal::Journal;
use crate::raft::Lab;
use crate::stage::{Stage, each_seed};
use quorate_sim::{ClusterOptions, NetworkFaults};

/// Each node takes a snapshot about every so many entries.
const SNAPSHOT_INTERVAL: u64 = 10;

/// What a node keeps durably beside its snapshot is below this.
const LOG_BYTES_MAX: u64 = 2_000;

/// A lab whose nodes release their logs every ten entries, but for the few that a follower may
/// just be waiting for.
fn lab(seed: u64) -> Lab {
    let mut options = ClusterOptions::calm(seed, 3);
    options.driver.compact_log_count = SNAPSHOT_INTERVAL;
    options.driver.compact_log_bytes = u64::MAX;
    options.driver.retain_log_count = 0;
    // The lab counts every byte, and has nothing kept for who is away.
    options.driver.catch_up_log_bytes_max = 0;
    Stage::new(options, Journal::default())
}

/// How the victim of a round goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    Nobody,
    Disconnected,
    Crashed,
}

fn check_log_size(lab: &Lab) -> u64 {
    let nodes = lab.nodes();
    let sizes: Vec<u64> =
        nodes.into_iter().filter_map(|node| lab.cluster().log_bytes(node)).collect();
    let largest = sizes.iter().copied().max().unwrap();
    assert!(largest < LOG_BYTES_MAX, "logs of {sizes:?} bytes");
    largest
}

/// Returns how often pieces of snapshots were sent.
fn snapshots(seed: u64, network: NetworkFaults, away: Away) -> u64 {
    let mut lab = lab(seed);
    lab.set_network(network);
    lab.agree(3);
    let mut leader = lab.check_one_leader();
    let mut largest = 0;
    for round in 0..30 {
        let follower = lab.after(leader, 1);
        let (victim, sender) = if round % 3 == 1 { (leader, follower) } else { (follower, leader) };
        match away {
            Away::Nobody => {}
            Away::Disconnected => lab.disconnect([victim]),
            Away::Crashed => lab.crash([victim]),
        }
        let there = if away == Away::Nobody { 3 } else { 2 };
        if away != Away::Nobody {
            lab.agree(there);
        }
        for _ in 0..SNAPSHOT_INTERVAL / 2 + lab.random(SNAPSHOT_INTERVAL) {
            lab.cluster().propose(sender, lab.any_command());
        }
        lab.agree(there);
        largest = largest.max(check_log_size(&lab));
        match away {
            Away::Nobody => continue,
            Away::Disconnected => lab.reconnect([victim]),
            Away::Crashed => lab.start([victim]),
        }
        lab.agree(3);
        leader = lab.check_one_leader();
    }
    let counts = lab.cluster().counts();
    let (taken, sent) = (counts.snapshots_taken, lab.cluster().all_rpcs().snapshots);
    println!("seed {seed}: largest log {largest} bytes, {taken} taken, {sent} pieces sent");
    assert!(taken >= 3 * 10, "only {taken} snapshots were taken");
    lab.finish();
    sent
}

#[test]
fn d_snapshot_basic() {
    each_seed(1..=5, |seed| {
        let sent = snapshots(seed, NetworkFaults::calm(), Away::Nobody);
        assert_eq!(sent, 0, "nobody was away, and a snapshot was sent");
    });
}

#[test]
fn d_snapshot_install() {
    each_seed(1..=5, |seed| {
        let sent = snapshots(seed, NetworkFaults::calm(), Away::Disconnected);
        assert!(sent > 0, "nobody needed a snapshot");
    });
}

#[test]
fn d_snapshot_install_unreliable() {
    each_seed(1..=5, |seed| {
        let sent = snapshots(seed, NetworkFaults::unreliable(), Away::Disconnected);
        assert!(sent > 0, "nobody needed a snapshot");
    });
}

#[test]
fn d_snapshot_install_crash() {
    each_seed(1..=5, |seed| {
        let sent = snapshots(seed, NetworkFaults::calm(), Away::Crashed);
        assert!(sent > 0, "nobody needed a snapshot");
    });
}

#[test]
fn d_snapshot_install_un_crash() {
    each_seed(1..=5, |seed| {
        let sent = snapshots(seed, NetworkFaults::unreliable(), Away::Crashed);
        assert!(sent > 0, "nobody needed a snapshot");
    });
}

#[test]
fn d_snapshot_all_crash() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed);
        lab.agree(3);
        for _ in 0..5 {
            for _ in 0..SNAPSHOT_INTERVAL / 2 + lab.random(SNAPSHOT_INTERVAL) {
                lab.agree(3);
            }
            let before = lab.agree(3);
            lab.restart_everybody();
            let after = lab.agree(3);
            assert!(after > before, "index {before} before the crash, {after} after it");
        }
        lab.finish();
    });
}

/// A node that starts must know its snapshot, or the next write of its log forgets it.
#[test]
fn d_snapshot_init() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed);
        lab.agree(3);
        for _ in 0..=SNAPSHOT_INTERVAL {
            lab.agree(3);
        }
        let taken = lab.cluster().counts().snapshots_taken;
        assert!(taken >= 3, "every node has taken one");
        lab.restart_everybody();
        lab.agree(3);
        lab.restart_everybody();
        lab.agree(3);
        lab.finish();
    });
}
