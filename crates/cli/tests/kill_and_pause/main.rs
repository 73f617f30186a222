//! Clients write while processes are killed and paused: no acknowledged write may be lost, every
//! history is linearizable, and all replicas end up equal. Judges the servers by what clients see;
//! knows nothing of how they do it.
//!
//! `QUORATE_ROUNDS` sets how many rounds (6 if not set), `QUORATE_SEED` repeats a run's choices.
//! `cargo xtask torture --rounds 200` runs it at length, in release.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;
mod history;
mod judge;
mod nemesis;
mod workload;

use harness::{Cluster, Options, Rng, seed};
use history::Record;
use nemesis::{Fault, Nemesis};
use std::fmt;
use std::time::Duration;
use workload::Shared;

const ROUND_COUNT_DEFAULT: u64 = 6;
/// A snapshot every so many entries: often enough that a node that was away may need one.
const SNAPSHOT_COUNT: u64 = 1000;
const ELECTION_TIMEOUT_MS: u64 = 500;

/// What a run amounted to.
#[derive(Default)]
struct Summary {
    rounds: u64,
    acknowledged: usize,
    unknown: usize,
    kills: u64,
    pauses: u64,
    of_leaders: u64,
    recovery_max: Duration,
    lost: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "rounds                  {}", self.rounds)?;
        writeln!(out, "acknowledged operations {}", self.acknowledged)?;
        writeln!(out, "unknown outcomes        {}", self.unknown)?;
        writeln!(out, "kills                   {}", self.kills)?;
        writeln!(out, "pauses                  {}", self.pauses)?;
        writeln!(out, "faults of leaders       {}", self.of_leaders)?;
        writeln!(out, "max time to recover     {} ms", self.recovery_max.as_millis())?;
        write!(out, "lost writes             {}", self.lost)
    }
}

impl Summary {
    fn add(&mut self, fault: &Fault, records: &[Record]) {
        self.rounds += 1;
        self.kills += u64::from(fault.is_kill);
        self.pauses += u64::from(!fault.is_kill);
        self.of_leaders += u64::from(fault.of_leader);
        self.acknowledged += records.iter().filter(|it| it.returned.is_some()).count();
        self.unknown += records.iter().filter(|it| it.returned.is_none()).count();
        self.recovery_max = self.recovery_max.max(fault.recovery);
    }
}

fn round_count() -> u64 {
    std::env::var("QUORATE_ROUNDS")
        .map_or(ROUND_COUNT_DEFAULT, |text| text.parse().expect("QUORATE_ROUNDS is a number"))
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_while_servers_are_killed_and_paused() {
    let seed = seed();
    println!("QUORATE_SEED={seed}");
    let mut cluster = Cluster::new("kill-and-pause", &options());
    cluster.start_all().await;

    let shared = Shared::new(cluster.clients());
    let mut nemesis = Nemesis::new(Rng::new(seed, 0), Duration::from_millis(ELECTION_TIMEOUT_MS));
    let mut summary = Summary::default();
    let mut history: Vec<Record> = Vec::new();
    for number in 0..round_count() {
        let (fault, mut records) =
            workload::round(&shared, seed, number, nemesis.strike(&mut cluster, &shared)).await;
        records.extend(workload::read_all(&shared, &records).await);
        summary.add(&fault, &records);
        println!("round {number}: {fault}, {} operations", records.len());
        summary.lost += judge::lost_writes(&records);
        passes(judge::linearizable(&records));
        history.extend(records);
    }

    cluster.assert_equal_replicas().await;
    assert_equal_pasts(&cluster, &history).await;
    // Once more, all keys: an outcome that was unknown then may have come since, a loss may not.
    let last_reads = workload::read_all(&shared, &history).await;
    history.extend(last_reads);
    summary.lost += judge::lost_writes(&history);
    println!("{summary}");
    passes(judge::linearizable(&history));
    passes(judge::revisions_in_order(&history));
    assert_eq!(summary.lost, 0, "no acknowledged write may be lost");
    cluster.finish();
}

fn passes(verdict: Result<(), String>) {
    if let Err(evidence) = verdict {
        panic!("{evidence}");
    }
}

fn options() -> Options {
    let mut options = Options::servers(3);
    options.heartbeat_ms = 50;
    options.election_timeout_ms = ELECTION_TIMEOUT_MS;
    options.more.push(("--snapshot-count".to_owned(), SNAPSHOT_COUNT.to_string()));
    options
}

/// Not only the present is equal on all replicas: so is what they say of the past.
async fn assert_equal_pasts(cluster: &Cluster, history: &[Record]) {
    let revisions: Vec<i64> = history.iter().filter_map(Record::written_revision).collect();
    for revision in revisions.iter().step_by(revisions.len() / 10 + 1) {
        let mut pasts = Vec::new();
        for client in cluster.clients() {
            pasts.push(client.everything_at(*revision).await.expect("no compaction").kvs);
        }
        assert!(pasts.iter().all(|past| *past == pasts[0]), "at revision {revision}");
    }
}
