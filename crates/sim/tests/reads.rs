//! What each kind of read promises, in stories in which it would be easy to break, and that the judges
//! notice where it is broken: by clocks that are off by more than was allowed for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use prost::Message;
use quorate::Consistency;
use quorate_core::Drift;
use quorate_kv::api::{RangeRequest, RangeResponse};
use quorate_sim::kv::{KeyOp, KvApplication, KvOptions};
use quorate_sim::{
    Breach, Chance, Cluster, ClusterOptions, Outcome, ReadKinds, Request, Rng, World, seconds,
};
use std::time::Duration;

type KvCluster = Cluster<KvApplication>;

const MILLION: u64 = 1_000_000;
/// What clocks are allowed to be off by here.
const DRIFT: Drift = Drift::parts_per_million(1_000);

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Three members that promise leaders to wait, and a leader. Clients read in this way.
fn cluster(reads: Option<ReadKinds>) -> (KvCluster, u64) {
    let mut options = ClusterOptions::calm(1, 3);
    options.raft.lease_reads = true;
    options.reads = reads;
    let mut cluster = Cluster::new(options, KvApplication::new(KvOptions::default()));
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    assert!(put(&mut cluster, leader, 1));
    // Heartbeats have been answered.
    cluster.run_for(seconds(1));
    (cluster, leader)
}

fn others(leader: u64) -> [u64; 2] {
    [1, 2].map(|step| (leader + step - 1) % 3 + 1)
}

fn put(cluster: &mut KvCluster, node: u64, value: u64) -> bool {
    let outcome = cluster.ask_node(node, seconds(6), |store, op, moment| {
        store.ask(op, moment, "story", KeyOp::Put { value })
    });
    matches!(outcome, Some(Outcome::Applied { .. }))
}

/// Whether a read that is to be linearizable is answered soon.
fn is_answered(cluster: &mut KvCluster, node: u64) -> bool {
    let outcome = cluster
        .ask_node(node, millis(50), |store, op, moment| store.ask(op, moment, "story", KeyOp::Get));
    matches!(outcome, Some(Outcome::Read { .. }))
}

/// The revision that a read of whatever a node has shows soon; `None` if it is not answered.
fn shown(cluster: &mut KvCluster, node: u64) -> Option<i64> {
    let query = RangeRequest { key: "story".into(), ..Default::default() }.encode_to_vec();
    let request = Request::Weak { query: query.into(), consistency: Consistency::Local };
    let outcome = cluster.ask_node(node, millis(50), |_, _, _| request)?;
    let Outcome::Weak { reply, .. } = outcome else { return None };
    Some(RangeResponse::decode(reply).unwrap().header.unwrap().revision)
}

/// The leader is cut off, and the others serve writes as soon as they can. Until the end the old leader
/// is asked all the time; how often it answers after somebody else was elected.
fn old_leader_reads(
    cluster: &mut KvCluster,
    leader: u64,
    trouble: impl FnOnce(&mut KvCluster),
) -> u64 {
    cluster.isolate(leader);
    trouble(cluster);
    let mut answered_count = 0;
    for value in 2..60 {
        answered_count += u64::from(is_answered(cluster, leader));
        let [next, _] = others(leader);
        cluster
            .submit(next, |store, op, moment| store.ask(op, moment, "story", KeyOp::Put { value }));
        cluster.run_for(millis(50));
    }
    answered_count
}

#[test]
fn a_leader_that_is_cut_off_serves_by_its_lease_and_never_an_old_state() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::by_lease(DRIFT)));
    let answered_count = old_leader_reads(&mut cluster, leader, |_| {});
    assert!(answered_count > 5, "{answered_count}: it has a lease for most of a second");
    assert!(cluster.leader().is_some_and(|next| next != leader), "and others lead then");
    cluster.mend_network();
    cluster.finish().unwrap();
}

#[test]
fn without_leases_a_leader_that_is_cut_off_serves_nothing() {
    let (mut cluster, leader) = cluster(None);
    assert_eq!(old_leader_reads(&mut cluster, leader, |_| {}), 0);
    cluster.mend_network();
    cluster.finish().unwrap();
}

#[test]
fn followers_wait_for_the_lease_although_all_are_told_that_the_leader_is_gone() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::by_lease(DRIFT)));
    let answered_count = old_leader_reads(&mut cluster, leader, |cluster| {
        for node in others(leader) {
            cluster.rumour(node, leader);
        }
    });
    assert!(answered_count > 5, "{answered_count}");
    cluster.mend_network();
    cluster.finish().unwrap();
}

#[test]
fn followers_that_are_killed_and_started_again_wait_for_the_lease() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::by_lease(DRIFT)));
    let answered_count = old_leader_reads(&mut cluster, leader, |cluster| {
        for node in others(leader) {
            cluster.kill(node);
            cluster.restart(node);
        }
    });
    assert!(answered_count > 5, "{answered_count}");
    cluster.mend_network();
    cluster.finish().unwrap();
}

#[test]
fn followers_whose_clocks_jump_ahead_wait_for_the_lease() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::by_lease(DRIFT)));
    let answered_count = old_leader_reads(&mut cluster, leader, |cluster| {
        for node in others(leader) {
            cluster.let_clock_jump(node, seconds(30));
        }
    });
    assert!(answered_count > 5, "{answered_count}");
    cluster.mend_network();
    cluster.finish().unwrap();
}

#[test]
fn a_leader_that_was_stopped_finds_its_lease_over_before_it_answers() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::by_lease(DRIFT)));
    assert!(is_answered(&mut cluster, leader));
    // Nothing that says so reaches it before the first read does.
    let (paused, [next, _]) = (seconds(4), others(leader));
    cluster.isolate(leader);
    cluster.pause(leader, paused);
    cluster.run_for(seconds(3));
    assert!(put(&mut cluster, next, 2));
    for _ in 0..20 {
        assert!(!is_answered(&mut cluster, leader));
    }
    cluster.run_for(paused);
    cluster.mend_network();
    cluster.finish().unwrap();
}

#[test]
fn a_leader_that_hands_over_has_no_lease_while_its_successor_serves() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::by_lease(DRIFT)));
    let [next, other] = others(leader);
    // It does not hear who leads.
    cluster.cut_one_way([next, other], [leader]);
    cluster.transfer_leadership(next);
    let mut value = 2;
    while cluster.now().as_micros() < 10 * MILLION {
        is_answered(&mut cluster, leader);
        cluster
            .submit(next, |store, op, moment| store.ask(op, moment, "story", KeyOp::Put { value }));
        value += 1;
        cluster.run_for(millis(10));
    }
    assert_ne!(cluster.leader(), Some(leader));
    cluster.mend_network();
    cluster.finish().unwrap();
}

/// The old leader's clock goes at 0.4 times its speed: it takes a second of promises for two and a half.
fn slow_clock(reads: Option<ReadKinds>) -> Result<(), Breach> {
    let (mut cluster, leader) = cluster(reads);
    old_leader_reads(&mut cluster, leader, |cluster| {
        cluster.let_clock_run(leader, 2 * MILLION / 5);
    });
    cluster.mend_network();
    cluster.finish().map(|_| ())
}

#[test]
fn a_clock_that_is_off_by_more_than_a_lease_allows_for_shows_an_old_state_and_the_judges_notice() {
    let stale = slow_clock(Some(ReadKinds::by_lease(DRIFT)));
    assert!(matches!(stale, Err(Breach::StaleRead { .. })), "{stale:?}");
}

#[test]
fn a_lease_that_allows_for_such_a_clock_shows_no_old_state() {
    slow_clock(Some(ReadKinds::by_lease(Drift::parts_per_million(600_000)))).unwrap();
}

#[test]
fn a_read_by_a_round_of_heartbeats_does_not_care_for_clocks() {
    slow_clock(None).unwrap();
}

#[test]
fn a_read_of_bounded_age_is_served_by_a_node_that_is_cut_off_until_it_would_be_too_old() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::bounded(seconds(2))));
    let [next, cut_off] = others(leader);
    let first = shown(&mut cluster, cut_off).expect("it asks the leader");
    cluster.isolate(cut_off);
    assert!(put(&mut cluster, next, 2));
    let mut last_answer = Duration::ZERO;
    let began = cluster.now();
    while cluster.now().since(began) < seconds(6) {
        if let Some(revision) = shown(&mut cluster, cut_off) {
            assert_eq!(revision, first);
            last_answer = cluster.now().since(began);
        }
    }
    // Ages are drawn up to the bound, each time anew.
    assert!(last_answer > millis(500) && last_answer < seconds(2), "{last_answer:?}");
    cluster.mend_network();
    cluster.run_for(seconds(3));
    assert!(shown(&mut cluster, cut_off) > Some(first));
    cluster.finish().unwrap();
}

#[test]
fn a_read_of_bounded_age_counts_by_the_clock_of_its_node_and_not_across_a_jump_of_it() {
    let (mut cluster, leader) = cluster(Some(ReadKinds::bounded(seconds(20))));
    let [next, cut_off] = others(leader);
    assert!(shown(&mut cluster, cut_off).is_some());
    cluster.isolate(cut_off);
    assert!(put(&mut cluster, next, 2));
    assert!((0..20).any(|_| shown(&mut cluster, cut_off).is_some()));
    cluster.let_clock_jump(cut_off, millis(1));
    assert!((0..20).all(|_| shown(&mut cluster, cut_off).is_none()), "how old is that?");
    cluster.mend_network();
    cluster.finish().unwrap();
}

/// Worlds in which everything is read in these ways, under all that a seed draws, and in which nodes are
/// told of ends all the time.
#[test]
fn drawn_worlds_keep_what_every_kind_of_read_promises() {
    let (mut by_lease, mut bounded, mut late) = (0, 0, 0);
    for seed in 9_001..=9_120 {
        let mut rng = Rng::new(seed).fork("this test");
        let mut options = ClusterOptions::swarm(seed, 0);
        let clocks = options.faults.clocks.map_or(0, |clocks| clocks.drift_ppm_max);
        options.raft.lease_reads = true;
        options.reads = Some(ReadKinds {
            by_lease: Chance::percent(80),
            max_drift: Drift::parts_per_million(clocks),
            bounded: Chance::percent(80),
            age_max: rng.duration(Duration::ZERO, seconds(4)),
            late: Chance::percent(10),
            late_max: seconds(3),
        });
        options.faults.rumours_every = Some(rng.duration(millis(100), seconds(3)));
        let drawn = KvOptions::draw(&mut rng);
        let kv = KvOptions { weights: [8, 4, 1, 2], weak_percent: 40, odd_percent: 0, ..drawn };
        let world = World { seed, node_count: 0, steps: 8_000 };
        match world.run_with(options, KvApplication::new(kv)) {
            Ok(summary) => {
                by_lease += summary.counts.reads_by_lease;
                bounded += summary.counts.reads_bounded;
                late += summary.counts.reads_late;
            }
            Err(violation) => panic!("{}\n{violation}", violation.story.join("\n  ")),
        }
    }
    println!("{by_lease} by lease, {bounded} of bounded age, {late} late");
    assert!(by_lease > 1_000 && bounded > 500 && late > 100, "{by_lease} {bounded} {late}");
}
