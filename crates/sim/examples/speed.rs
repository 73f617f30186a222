//! How fast a quiet world goes: 5 nodes, about 20 operations a second of every kind that a judge looks
//! at, one hour of virtual time (or as many minutes as the first argument says). Prints the ratio to
//! real time.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use quorate::SessionLimits;
use quorate_sim::kv::{KvApplication, KvOptions, SessionOptions};
use quorate_sim::{Cluster, ClusterOptions, seconds};
use std::time::{Duration, Instant};

/// As in the `quorate` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let minutes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut options = ClusterOptions::calm(1, 5);
    options.client_count = 5;
    options.think_mean = Duration::from_millis(250);
    // Nothing ends a session but its client.
    let limits = SessionLimits {
        sessions_count_max: u32::MAX,
        replies_count_max: 8,
        reply_bytes_max: u64::MAX,
        idle_max: Duration::from_hours(10_000),
    };
    let kv = KvOptions {
        weak_percent: 20,
        odd_percent: 5,
        lease_percent: 10,
        sessions: SessionOptions { percent: 15, slot_count: 4, limits, is_tight: false },
        ..KvOptions::default()
    };
    let mut cluster = Cluster::new(options, KvApplication::new(kv));
    let started = Instant::now();
    cluster.run_for(seconds(60 * minutes));
    let elapsed = started.elapsed();
    let (counts, steps) = (cluster.counts(), cluster.steps());
    let verdict = cluster.finish();
    let ratio = u128::from(60 * minutes) * 1000 / elapsed.as_millis().max(1);
    println!("{minutes} min in {elapsed:?}: {ratio}x real time; {steps} steps");
    println!("{} operations, {} elections; {verdict:?}", counts.ops_ok, counts.elections);
}
