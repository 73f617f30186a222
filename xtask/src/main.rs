//! One entry for people and CI: every check that CI runs is a command here, run the same way.
//! Holds no rule of its own; each command's file does.

mod arrows;
mod bench_away;
mod bench_core;
mod bench_etcd;
mod bench_failover;
mod bench_restart;
mod bench_snapshot;
mod bench_space;
mod ci;
mod clients;
mod crash;
mod differ;
mod explore;
mod figure_3_1;
mod fuzz;
mod measured;
mod mutants;
mod paper_map;
mod servers;
mod source;
mod tidy;
mod torture;
mod versions;
mod zoo;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The chores of the repository, for people and for CI.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that CI runs, in CI's order; ends with `N passed, N failed`
    Ci(ci::Options),
    /// The rules of the house that clippy cannot see
    Tidy,
    /// Writes docs/paper-map.md: rule of the dissertation's Figure 3.1 -> code -> test
    PaperMap(paper_map::Options),
    /// Kills and pauses servers while clients write, at length, and judges what they saw
    Torture(torture::Options),
    /// Kills, power cuts, failing disks and flipped bits for real servers, and judges what clients saw
    Crash(crash::Options),
    /// Bugs of other implementations, put into ours one at a time: does anything notice?
    Zoo(zoo::Options),
    /// Every interleaving of a small cluster of real cores, within bounds
    Explore(explore::Options),
    /// Feeds decoders and the core with inputs that reach ever more code
    Fuzz(fuzz::Options),
    /// The real etcd and ours get the same random requests: is every answer the same?
    Differ(differ::Options),
    /// Clients of etcd that others wrote, with their own tests, against real servers of ours
    Clients(clients::Options),
    /// Changes one thing at a time in a crate: do its own tests notice?
    Mutants(mutants::Options),
    /// Three real etcds and three of ours in turn, on the same disk, under the same load
    BenchEtcd(bench_etcd::Options),
    /// How long nobody can write after the leader's process was killed
    BenchFailover(bench_failover::Options),
    /// How long a start takes, after histories of different lengths
    BenchRestart(bench_restart::Options),
    /// Puts while a large snapshot is taken and sent, and while a backup is saved
    BenchSnapshot(bench_snapshot::Options),
    /// Puts while the space of a large compaction is given back, and how large the file is then
    BenchSpace(bench_space::Options),
    /// What servers have in memory while one is away for a million entries
    BenchAway(bench_away::Options),
    /// Our core beside raft-rs, our library beside openraft, on the same work
    BenchCore(bench_core::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    let root = root();
    match chore {
        Chore::Ci(options) => ci::run(&root, &options),
        Chore::Tidy => tidy::run(&root),
        Chore::PaperMap(options) => paper_map::run(&root, &options),
        Chore::Torture(options) => torture::run(&root, &options),
        Chore::Crash(options) => crash::run(&root, &options),
        Chore::Zoo(options) => zoo::run(&root, &options),
        Chore::Explore(options) => explore::run(&root, &options),
        Chore::Fuzz(options) => fuzz::run(&root, &options),
        Chore::Differ(options) => differ::run(&root, &options),
        Chore::Clients(options) => clients::run(&root, &options).map(drop),
        Chore::Mutants(options) => mutants::run(&root, &options),
        Chore::BenchEtcd(options) => bench_etcd::run(&root, &options),
        Chore::BenchFailover(options) => bench_failover::run(&root, &options),
        Chore::BenchRestart(options) => bench_restart::run(&root, &options),
        Chore::BenchSnapshot(options) => bench_snapshot::run(&root, &options),
        Chore::BenchSpace(options) => bench_space::run(&root, &options),
        Chore::BenchAway(options) => bench_away::run(&root, &options),
        Chore::BenchCore(options) => bench_core::run(&root, &options),
    }
}

/// The repository's root: the folder above this crate's.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
