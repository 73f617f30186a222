//! What a world's settings are when they are drawn: members, timeouts, limits, snapshots. Knows nothing of
//! what goes wrong.

use super::ClusterOptions;
use super::reading::ReadKinds;
use crate::pace::Pace;
use crate::rng::Rng;
use quorate_core::Options;
use std::time::Duration;

impl ClusterOptions {
    /// The same world at another pace.
    #[must_use]
    pub fn at(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self.faults = self.faults.at(pace);
        let times = [
            &mut self.raft.heartbeat_interval,
            &mut self.raft.election_timeout,
            &mut self.raft.disk_stall_timeout,
            &mut self.driver.leaderless_wait,
            &mut self.driver.sweep_interval,
            &mut self.think_mean,
            &mut self.patience,
        ];
        let reads = self.reads.iter_mut().flat_map(|it| [&mut it.age_max, &mut it.late_max]);
        for time in times.into_iter().chain(reads) {
            *time = pace.stretch(*time);
        }
        self
    }
}

/// Limits on what is held, in some worlds so low that they are reached all the time.
pub(super) fn draw_limits(options: &mut ClusterOptions, rng: &mut Rng) {
    if rng.coin() {
        return;
    }
    options.raft.in_flight_bytes_max = rng.index(8 << 10) + 1;
    options.raft.uncommitted_bytes_max = rng.index(4 << 10) + 1;
    options.raft.applying_bytes_max = rng.index(4 << 10) + 1;
    options.raft.waiting_reads_count_max = rng.index(8) + 1;
    options.driver.outstanding_bytes_max = rng.index(4 << 10) + 512;
    options.driver.barriers_count_max = rng.index(8) + 1;
}

/// How copies of the state are compared, made and sent. Each comes from a generator of its own: worlds of
/// before a choice was added stay what they were but for that.
pub(super) fn draw_copies(options: &mut ClusterOptions, seed: u64) {
    let rng = |what: &str| Rng::new(seed).fork(what);
    draw_digests(options, &mut rng("digests"));
    draw_snapshots(options, &mut rng("snapshots"));
    draw_catching_up(options, &mut rng("catching up"));
}

/// In half of the worlds the nodes compare their replies often: where no entry of a thousand comes,
/// they would not at all.
fn draw_digests(options: &mut ClusterOptions, rng: &mut Rng) {
    if rng.coin() {
        options.driver.digest_window_count = rng.pick(&[2, 4, 16, 64]).copied().unwrap_or(16);
    }
}

/// In some worlds so little of the log is kept that whoever was away for a moment needs a snapshot,
/// and in some a snapshot is sent in one piece.
fn draw_snapshots(options: &mut ClusterOptions, rng: &mut Rng) {
    if rng.below(4) == 0 {
        options.driver.compact_log_count = rng.between(6, 16);
        options.driver.retain_log_count = rng.between(4, 8);
    }
    if rng.below(4) == 0 {
        options.raft.snapshot_chunk_bytes_max = 1 << 20;
    }
    // At times nothing at all is kept.
    if rng.below(6) == 0 {
        options.driver.compact_log_count = rng.between(1, 8);
        options.driver.retain_log_count = rng.below(3);
    }
    if rng.below(6) == 0 {
        options.raft.snapshot_chunk_bytes_max = rng.index(100) + 16;
    }
}

/// A snapshot travels in chunks of a few pieces each, in some worlds slowly; the log is kept for who
/// waits for it, or is not; and in some worlds it is too long as soon as it takes a while to apply.
fn draw_catching_up(options: &mut ClusterOptions, rng: &mut Rng) {
    let piece_bytes = u64::try_from(options.raft.snapshot_chunk_bytes_max).unwrap_or(1 << 20);
    let hash_bytes = (piece_bytes * rng.between(1, 4) / 2).clamp(64, 4 << 10);
    options.snapshot_hash_bytes = u32::try_from(hash_bytes).unwrap_or(4 << 10);
    let catch_up_max = rng.pick(&[0, 4 << 10, 128 << 10]).copied().unwrap_or_default();
    options.driver.catch_up_log_bytes_max = catch_up_max;
    if rng.below(3) == 0 {
        // Whoever is healed has to have it within the world's bound.
        let rate = (piece_bytes * rng.between(2, 40)).max(8 << 10);
        options.driver.snapshot_bytes_per_second = rate;
    }
    if rng.below(4) == 0 {
        options.driver.replay_time_max = rng.duration(millis(50), millis(1_000));
    }
}

/// In a third of the worlds somebody wishes for other members: all the time, now and then, or once.
pub(super) fn draw_changes(rng: &mut Rng) -> Option<Duration> {
    let every = match rng.below(9) {
        0 => rng.duration(millis(300), millis(2_000)),
        1 => rng.duration(millis(2_000), millis(10_000)),
        2 => rng.duration(millis(10_000), millis(60_000)),
        _ => return None,
    };
    Some(every)
}

/// In a third of the worlds members' disks are replaced by empty ones, seldom or now and then.
pub(super) fn draw_wipes(rng: &mut Rng) -> Option<Duration> {
    match rng.below(6) {
        0 => Some(rng.duration(millis(1_000), millis(6_000))),
        1 => Some(rng.duration(millis(6_000), millis(60_000))),
        _ => None,
    }
}

/// In half of the worlds nodes are told of others' ends: in all of these of those that are so, and of
/// those that are not all the time, now and then, or seldom.
pub(super) fn draw_rumours(rng: &mut Rng) -> Option<Duration> {
    match rng.below(6) {
        0 => Some(rng.duration(millis(200), millis(2_000))),
        1 => Some(rng.duration(millis(2_000), millis(10_000))),
        2 => Some(rng.duration(millis(10_000), millis(60_000))),
        _ => None,
    }
}

/// In a third of the worlds nodes are given other settings while they run.
pub(super) fn draw_settings(rng: &mut Rng) -> Option<Duration> {
    match rng.below(6) {
        0 => Some(rng.duration(millis(200), millis(3_000))),
        1 => Some(rng.duration(millis(3_000), millis(30_000))),
        _ => None,
    }
}

/// In a quarter of the worlds nodes begin with an old program, and get the new one, one by one.
pub(super) fn draw_upgrades(rng: &mut Rng) -> Option<Duration> {
    match rng.below(8) {
        0 => Some(rng.duration(millis(200), millis(2_000))),
        1 => Some(rng.duration(millis(2_000), millis(15_000))),
        _ => None,
    }
}

/// In a third of the worlds clients read in more ways; in these members promise leaders to wait.
pub(super) fn draw_reads(options: &mut ClusterOptions, rng: &mut Rng) {
    let clocks = options.faults.clocks.map_or(0, |clocks| clocks.drift_ppm_max);
    options.reads = ReadKinds::draw(clocks, rng);
    options.raft.lease_reads = options.reads.is_some();
}

/// In half of the worlds whose disks fill up nodes look how full they are.
pub(super) fn draw_reserve(rng: &mut Rng) -> u64 {
    rng.pick(&[0, 0, 1 << 10, 4 << 10]).copied().unwrap_or(0)
}

/// Short and long timeouts: what is rare at one speed is common at another.
pub(super) fn draw_timeouts(raft: &mut Options, rng: &mut Rng) {
    raft.heartbeat_interval = rng.duration(millis(20), millis(100));
    let factor = u32::try_from(rng.between(5, 12)).unwrap_or(10);
    raft.election_timeout = raft.heartbeat_interval * factor;
    raft.disk_stall_timeout = rng.duration(millis(200), millis(4_000));
}

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Who is there, if that is not said; and in a third of the worlds some voters that should rather
/// lead than others.
pub(super) fn draw_members(options: &mut ClusterOptions, rng: &mut Rng) {
    if options.node_count == 0 {
        options.node_count = rng.between(1, 7);
        options.learner_count = rng.below(8).saturating_sub(5);
    }
    if rng.below(3) == 0 {
        options.ranks = (0..options.node_count).map(|_| rank(rng)).collect();
    }
}

fn rank(rng: &mut Rng) -> u32 {
    u32::try_from(rng.below(4)).unwrap_or(0)
}
