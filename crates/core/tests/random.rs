//! Thousands of random schedules, judged by the invariants after every step: loss, duplication,
//! reordering, crashes that lose unfinished writes, slow disks, compaction, transfers, reads, rumours.
//! What was recorded of servers that did not stop leads to the same servers when it is played.
//! A failure prints the seed; `SEED=n cargo test -p quorate-core --test random` repeats it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Disk, Envelope, configuration, member, node};
use quorate_core::{
    Configuration, Entry, Event, LogId, LogIndex, MemberRole, Members, MembershipCommand, NodeId,
    Options, Payload, ProtocolVersion, ReadId, Role,
};
use std::collections::VecDeque;
use std::time::Duration;

/// A tiny generator of our own, so that a schedule is a function of its seed.
struct Dice(u64);

/// How rough a schedule is.
#[derive(Clone, Copy)]
struct Weather {
    /// Of a hundred chances for trouble, how many are taken.
    fault_rate: u64,
    /// How far time jumps at most, in milliseconds.
    jump_ms: u64,
    /// Of ten thousand happenings, how many are wishes for other members.
    change_rate: u64,
}

/// Servers that are not members at first.
const SPARES_COUNT: u64 = 4;

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Limits small enough that every one of them is met all the time.
fn tight_options(dice: &mut Dice) -> Options {
    let roomy = dice.roll(3) == 0;
    let small = |bytes: usize| if roomy { bytes * 100 } else { bytes };
    Options {
        append_bytes_max: small(150),
        in_flight_count_max: small(3),
        in_flight_bytes_max: small(400),
        uncommitted_bytes_max: small(1500),
        log_cache_bytes_max: small(300),
        applying_bytes_max: small(200),
        load_bytes_max: small(200),
        snapshot_chunk_bytes_max: 40,
        waiting_reads_count_max: 3,
        ..Options::default()
    }
}

fn random_configuration(dice: &mut Dice) -> Configuration {
    let size = 1 + dice.roll(5);
    let ranked = dice.roll(3) == 0;
    let learner = size > 2 && dice.roll(4) == 0;
    configuration((1..=size).map(|id| {
        let role = if learner && id == size { MemberRole::Learner } else { MemberRole::Voter };
        (id, role, if ranked { u32::try_from(dice.roll(3)).unwrap() } else { 0 })
    }))
}

fn any_server(cluster: &Cluster, dice: &mut Dice) -> NodeId {
    node(1 + dice.roll(u64::try_from(cluster.servers.len()).unwrap()))
}

/// One thing happens.
fn happen(cluster: &mut Cluster, dice: &mut Dice, weather: Weather) {
    let id = any_server(cluster, dice);
    if dice.roll(10_000) < weather.change_rate {
        return change_members(cluster, dice, id);
    }
    match dice.roll(100) {
        0..50 => network(cluster, dice, weather),
        50..80 => {
            cluster.work(id);
        }
        80..84 => {
            let commands: Vec<&str> = (0..=dice.roll(4)).map(|_| "command").collect();
            let leader = cluster.leader().unwrap_or(id);
            if cluster.servers[&leader].raft.is_some() {
                cluster.propose(leader.get(), &commands);
            }
        }
        84 => cluster.step(id, Event::Read { id: ReadId::new(dice.roll(1000)) }),
        85..96 => time(cluster, dice, id, weather),
        96 => compact(cluster, dice, id),
        97 if dice.roll(10) == 0 => cluster.step(id, Event::TransferLeadership { to: None }),
        97 => churn(cluster, dice, id, weather),
        98..100 if dice.roll(100) < weather.fault_rate => fault(cluster, dice, id),
        // Whether it is so or not.
        98..100 => {
            let peer = any_server(cluster, dice);
            if dice.roll(3) == 0 {
                return cluster.step(id, Event::PeerGone { peer });
            }
            let version = ProtocolVersion::new(u16::try_from(4 + dice.roll(4)).unwrap());
            cluster.step(id, Event::Speaks { from: peer, version });
        }
        _ => {}
    }
}

/// Somebody wishes for other members: a few are added, removed, promoted or demoted, or nobody
/// stays; or the wish is taken back.
fn change_members(cluster: &mut Cluster, dice: &mut Dice, id: NodeId) {
    let leader = cluster.leader().unwrap_or(id);
    let Some(raft) = &cluster.servers[&leader].raft else { return };
    if dice.roll(6) == 0 {
        return cluster.change(leader.get(), MembershipCommand::Cancel);
    }
    let mut target: Members = raft.configuration().leads_to().clone();
    if dice.roll(10) == 0 {
        target.clear();
    }
    for _ in 0..=dice.roll(4) {
        let id = any_server(cluster, dice);
        let role = if dice.roll(4) == 0 { MemberRole::Learner } else { MemberRole::Voter };
        let rank = u32::from(dice.roll(5) == 0);
        if dice.roll(3) == 0 {
            target.remove(&id);
        } else {
            target.insert(id, member(role, rank));
        }
    }
    let force = dice.roll(2) == 0;
    let command = MembershipCommand::Set { target, expected_version: None, force };
    cluster.change(leader.get(), command);
}

fn network(cluster: &mut Cluster, dice: &mut Dice, weather: Weather) {
    let count = u64::try_from(cluster.network.len()).unwrap();
    if count == 0 {
        return;
    }
    let reorders = dice.roll(100) < weather.fault_rate;
    let place = if reorders { usize::try_from(dice.roll(count)).unwrap() } else { 0 };
    if dice.roll(200) < weather.fault_rate && cluster.network.len() < 500 {
        let copy = cluster.network[place].clone();
        cluster.network.push_back(copy);
    }
    let envelope = cluster.network.remove(place).unwrap();
    if dice.roll(200) >= weather.fault_rate {
        cluster.deliver(envelope);
    }
}

/// Time passes, and whoever is due is told, sometimes late.
fn time(cluster: &mut Cluster, dice: &mut Dice, id: NodeId, weather: Weather) {
    cluster.now = cluster.now.after(Duration::from_millis(dice.roll(weather.jump_ms)));
    let now = cluster.now;
    let due: Vec<NodeId> = cluster
        .servers
        .iter()
        .filter(|(_, server)| {
            let deadline = server.raft.as_ref().and_then(quorate_core::Raft::next_deadline);
            deadline.is_some_and(|at| at <= now)
        })
        .map(|(id, _)| *id)
        .collect();
    for due in due {
        if due != id || dice.roll(3) == 0 {
            cluster.step(due, Event::Deadline);
        }
    }
}

fn compact(cluster: &mut Cluster, dice: &mut Dice, id: NodeId) {
    let Some(raft) = &cluster.servers[&id].raft else { return };
    // Without a leader only logs are lent, and no snapshots.
    if cluster.servers.values().any(|server| server.disk.lost.is_some()) {
        return;
    }
    let through = LogIndex::new(raft.applied().get().saturating_sub(dice.roll(6)));
    cluster.step(id, Event::Compact { through });
}

fn fault(cluster: &mut Cluster, dice: &mut Dice, id: NodeId) {
    match dice.roll(9) {
        0 | 1 => crash(cluster, dice, id),
        2 => cluster.server(id.get()).disk_held = true,
        3 => {
            let other = any_server(cluster, dice);
            cluster.cut.insert((id, other));
        }
        4 => cluster.isolate(id.get()),
        5 => cluster.heal(),
        6 => cluster.servers.values_mut().for_each(|server| server.disk_held = false),
        7 => wound(cluster, dice, id),
        _ => restart_all(cluster),
    }
}

/// Power fails for a server just after it wrote, or had to write, something; another campaigns as
/// soon as it may. This is what makes terms follow each other quickly, with logs that differ.
fn churn(cluster: &mut Cluster, dice: &mut Dice, id: NodeId, weather: Weather) {
    if weather.fault_rate == 0 {
        return;
    }
    if cluster.servers[&id].raft.is_some() {
        let writes = u64::try_from(cluster.servers[&id].writes.len()).unwrap();
        let written = usize::try_from(dice.roll(writes + 1)).unwrap();
        cluster.crash(id, written);
    }
    cluster.start(id);
    let campaigner = any_server(cluster, dice);
    let raft = cluster.servers[&campaigner].raft.as_ref();
    if let Some(deadline) = raft.and_then(quorate_core::Raft::next_deadline) {
        cluster.now = cluster.now.max(deadline);
        cluster.step(campaigner, Event::Deadline);
    }
}

fn crash(cluster: &mut Cluster, dice: &mut Dice, id: NodeId) {
    if cluster.servers[&id].raft.is_some() {
        if dice.roll(3) == 0 {
            fail_disk(cluster, id);
        }
        let writes = u64::try_from(cluster.servers[&id].writes.len()).unwrap();
        let written = usize::try_from(dice.roll(writes + 1)).unwrap();
        cluster.crash(id, written);
        cluster.server(id.get()).tail_count = usize::try_from(dice.roll(8)).unwrap();
    }
    if dice.roll(2) == 0 {
        cluster.start(id);
    }
}

/// A few durable entries of a server that crashes are damaged, each of which some sound log has, with
/// the entry before it: the cluster can mend that.
fn wound(cluster: &mut Cluster, dice: &mut Dice, id: NodeId) {
    crash(cluster, dice, id);
    if cluster.servers[&id].raft.is_some() {
        return;
    }
    let disk = &cluster.servers[&id].disk;
    let count = u64::try_from(disk.entries.len()).unwrap();
    if count == 0 {
        return;
    }
    let first = disk.entries[usize::try_from(dice.roll(count)).unwrap()].log_id.index;
    let last = LogIndex::new(first.get() + dice.roll(4));
    // Who has lost the configuration may not know whom to ask, and nobody but a leader asks by itself.
    let behind = disk.entries.iter().filter(|entry| entry.log_id.index >= first);
    let is_alone = disk.configuration_at(first).member_count() < 2;
    let is_told = |entry: &Entry| matches!(entry.payload, Payload::Configuration(_));
    if is_alone || behind.into_iter().any(is_told) {
        return;
    }
    let is_sound = |other: NodeId| other != id && cluster.servers[&other].disk.lost.is_none();
    // Those that it knows of.
    let has = |asker: &Disk, pair: &(LogId, LogId)| {
        let known = asker.configuration_at(first);
        let mut sound = known.members.keys().copied().filter(|other| is_sound(*other));
        sound.any(|other| {
            let whole = (LogIndex::ORIGIN, LogIndex::new(u64::MAX));
            cluster.servers[&other].disk.pairs(whole.0, whole.1).contains(pair)
        })
    };
    let mut is_mendable = disk.pairs(first, last).iter().all(|pair| has(disk, pair));
    for server in cluster.servers.values() {
        is_mendable &= server.disk.damaged.iter().all(|pair| has(&server.disk, pair));
    }
    if is_mendable {
        cluster.wound(id, first, last);
    }
}

/// The disk takes no more, and what is under way to the server still reaches it.
fn fail_disk(cluster: &mut Cluster, id: NodeId) {
    cluster.fail_disk(id);
    let (to_it, others): (VecDeque<Envelope>, _) =
        cluster.network.drain(..).partition(|envelope| envelope.to == id);
    cluster.network = others;
    for envelope in to_it {
        cluster.deliver(envelope);
    }
    cluster.server(id.get()).disk_held = false;
}

fn restart_all(cluster: &mut Cluster) {
    let ids: Vec<NodeId> = cluster.servers.keys().copied().collect();
    for id in ids {
        if cluster.servers[&id].raft.is_none() {
            cluster.start(id);
        }
    }
}

/// What each server waits for.
fn explanations(cluster: &Cluster) -> String {
    let mut lines = Vec::new();
    for (id, server) in &cluster.servers {
        let Some(raft) = &server.raft else { continue };
        let (status, horizon, disk) = (raft.status(), raft.lost(), &server.disk);
        let (base, end) = (status.base, status.last_log);
        let members = status.configuration.members.keys().collect::<Vec<_>>();
        let damaged = &disk.damaged;
        lines.push(format!("n{id} {base}..{end} of {horizon:?}, {members:?}, damaged {damaged:?}"));
        lines.extend(raft.explain().iter().map(|reason| format!("  {reason}")));
    }
    lines.join("\n")
}

/// After the faults: everything heals, and the cluster must elect, commit and agree.
fn converge(cluster: &mut Cluster, seed: u64) {
    cluster.heal();
    restart_all(cluster);
    cluster.servers.values_mut().for_each(|server| server.disk_held = false);
    cluster.advance(Duration::from_secs(30));
    let leader = cluster
        .leader()
        .unwrap_or_else(|| panic!("seed {seed}: nobody leads\n{}", explanations(cluster)));
    cluster.propose(leader.get(), &["the last word"]);
    cluster.advance(Duration::from_secs(5));
    let leader = cluster.leader().unwrap();
    let status = cluster.raft(leader.get()).status();
    let (expected, configuration) = (status.last_log.index, status.configuration);
    let waits = status.change_waits;
    assert_eq!(configuration.change, None, "seed {seed}: the change waits for {waits:?}");
    for (id, server) in &cluster.servers {
        if !configuration.members.contains_key(id) {
            let role = server.raft.as_ref().unwrap().role();
            let status = server.raft.as_ref().unwrap().status();
            assert_eq!(
                role,
                Role::Follower,
                "seed {seed}: n{id} is no member of {configuration}: {status:?}"
            );
            continue;
        }
        let applied = server.machine.index();
        assert_eq!(applied, expected, "seed {seed}: n{id} has not caught up with n{leader}");
        let uncommitted = server.raft.as_ref().unwrap().status().uncommitted_bytes;
        assert_eq!(uncommitted, 0, "seed {seed}: n{id} forgets to release bytes");
    }
}

fn run(seed: u64, steps: u32) {
    let mut dice = Dice(seed);
    let options = tight_options(&mut dice);
    let mut cluster = Cluster::new(&random_configuration(&mut dice), options, seed);
    let weather = Weather {
        fault_rate: [0, 5, 15, 30][usize::try_from(dice.roll(4)).unwrap()],
        jump_ms: [20, 60, 200, 600][usize::try_from(dice.roll(4)).unwrap()],
        change_rate: [0, 10, 50, 200][usize::try_from(dice.roll(4)).unwrap()],
    };
    if weather.change_rate > 0 {
        let first = u64::try_from(cluster.servers.len()).unwrap() + 1;
        for id in first..first + SPARES_COUNT {
            cluster.add(node(id), Disk::new(Configuration::default()));
        }
    }
    if dice.roll(2) == 0 {
        cluster.servers.values_mut().for_each(|server| server.machine_is_durable = true);
    }
    let recorded_from = u32::try_from(Dice(seed).roll(u64::from(steps))).unwrap();
    for step in 0..steps {
        if step == recorded_from {
            cluster.record();
        }
        happen(&mut cluster, &mut dice, weather);
        assert_eq!(cluster.violation, None, "seed {seed}, step {step}");
    }
    converge(&mut cluster, seed);
    assert_eq!(cluster.violation, None, "seed {seed}, at the end");
    cluster.assert_safe();
    for server in cluster.servers.values() {
        if let (Some(recording), Some(raft)) = (&server.recording, &server.raft) {
            recording.assert_leads_to(raft);
        }
    }
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => default,
    }
}

#[test]
fn every_random_schedule_is_safe_and_converges_after_healing() {
    let count = std::env::var("SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    for seed in seeds(0..count) {
        let result = std::panic::catch_unwind(|| run(seed, 3000));
        if let Err(panic) = result {
            println!("SEED={seed} cargo test -p quorate-core --test random");
            std::panic::resume_unwind(panic);
        }
    }
}
