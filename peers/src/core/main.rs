//! Three servers in one thread, in memory, without serialisation: how many entries of 256 bytes a
//! second of CPU are proposed, replicated, kept, committed and applied on all three. Batches of 1, 64
//! and 1024 are proposed, each when the one before is through.

mod ours;
mod raft_rs;

use quorate_peers::{Compared, in_turn, print};
use std::time::Instant;

/// Entries of one measurement.
const TOTAL: u64 = 400_000;

/// What a side has to do.
trait Trio {
    /// A cluster of three with a leader.
    fn start() -> Self;
    /// Proposes so many entries at the leader, and returns when all three have applied them.
    fn propose(&mut self, count: u64);
    /// How many entries each of the three has applied.
    fn applied(&self) -> [u64; 3];
}

fn measure<T: Trio>(batch: u64) -> f64 {
    let mut trio = T::start();
    trio.propose(batch);
    let (start, before) = (Instant::now(), trio.applied());
    let cpu = quorate_peers::cpu_seconds_of_thread(start);
    for _ in 0..TOTAL / batch {
        trio.propose(batch);
    }
    let elapsed = quorate_peers::cpu_seconds_of_thread(start) - cpu;
    let count = TOTAL / batch * batch;
    assert_eq!(trio.applied(), before.map(|applied| applied + count), "all work was done");
    count as f64 / elapsed
}

fn main() {
    let compare = |batch: u64| -> (String, Compared) {
        let compared = in_turn(|| measure::<ours::Trio>(batch), || measure::<raft_rs::Trio>(batch));
        (format!("batch {batch}"), compared)
    };
    let cases: Vec<_> = [1, 64, 1024].map(compare).into_iter().collect();
    print("entries per CPU second", "raft-rs", &cases);
}
