//! Three nodes in one process: how many commands of 256 bytes a second 64 and 1024 clients get through,
//! each with one under way, all talking to the leader.
//!
//! The sides do not do the same around the protocol, to our disadvantage: our nodes talk over sockets,
//! with checksums, and write their real log, to a file system in memory; openraft's call each other as
//! functions and keep their logs in maps, as in its own benchmark.

mod openraft_side;
mod ours;

use quorate_peers::{Compared, in_turn, print};
use std::time::Instant;

/// Commands of one measurement, for each client.
fn commands_of(client_count: usize) -> usize {
    200_000 / client_count
}

/// Runs a side on a runtime of its own.
fn measure<F: Future<Output = usize>>(work: impl FnOnce() -> F) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let start = Instant::now();
        let count = work().await;
        count as f64 / start.elapsed().as_secs_f64()
    })
}

fn main() {
    let compare = |client_count: usize| -> (String, Compared) {
        let each = commands_of(client_count);
        let compared = in_turn(
            || measure(|| ours::run(client_count, each)),
            || measure(|| openraft_side::run(client_count, each)),
        );
        (format!("{client_count} clients"), compared)
    };
    let cases: Vec<_> = [64, 1024].map(compare).into_iter().collect();
    print("commands per second", "openraft", &cases);
}
