//! `cargo xtask torture`: the process test of kills and pauses, at length and in release. What it
//! does and how it judges is in `crates/cli/tests/kill_and_pause`.

use crate::ci::{cargo, succeed};
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often a server is killed or paused
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Repeats the choices of a run that printed this seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
///
/// If an acknowledged write was lost, a history is not linearizable, or replicas differ.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command
        .args(["test", "--release", "--package", "quorate-cli", "--test", "kill_and_pause"])
        .args(["--", "--nocapture"])
        .env("QUORATE_ROUNDS", options.rounds.to_string())
        .current_dir(root);
    if let Some(seed) = options.seed {
        command.env("QUORATE_SEED", seed.to_string());
    }
    succeed(&mut command)
}
