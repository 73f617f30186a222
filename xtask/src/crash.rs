//! `cargo xtask crash`: the process test of crashes, power cuts, failing disks and flipped bits, at
//! length. What it does and how it judges is in `crates/cli/tests/crashes`.

use crate::ci::cargo;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// How many rounds CI plays: every kind once.
const CI_ROUNDS: u64 = 10;
/// The line that says what a run amounted to begins so.
const RESULT: &str = "crash: ";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many rounds: each sets up servers, lets them crash some times, and judges
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// The seed of the first round; the next one has the next seed [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Which harm servers come to, in turn [default: every kind, one server and three]
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// The optimised build, instead of the one that `cargo test` makes
    #[arg(long)]
    release: bool,
}

/// The harm that servers come to, as the test calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL under load
    Kill,
    /// Power cuts on disks that lose what was not synced
    Cut,
    /// Writes and syncs that fail, and then the power
    Fail,
    /// Flipped bits in the files of a server that stands still
    Flip,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Cut => "cut",
            Self::Fail => "fail",
            Self::Flip => "flip",
        }
    }
}

/// Runs it, and says at last what it amounted to.
///
/// # Errors
///
/// If an acknowledged write was lost, a history is not linearizable, replicas differ, a server does not
/// come back, or one serves what is wrong.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    // All of the workspace, so that nothing is built with other features than by `cargo test`.
    command.args(["test", "--workspace", "--test", "crashes"]);
    if options.release {
        command.arg("--release");
    }
    command
        .args(["--", "--nocapture", "--test-threads", "1"])
        .env("QUORATE_ROUNDS", options.rounds.to_string())
        .current_dir(root)
        .stdout(Stdio::piped());
    if let Some(seed) = options.seed {
        command.env("QUORATE_SEED", seed.to_string());
    }
    if !options.kinds.is_empty() {
        let kinds: Vec<&str> = options.kinds.iter().map(|kind| kind.name()).collect();
        command.env("QUORATE_KINDS", kinds.join(","));
    }
    let mut child = command.spawn().with_context(|| format!("running {command:?}"))?;
    let output = child.stdout.take().context("the output of the test")?;
    let mut result = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if line.starts_with(RESULT) {
            result = Some(line);
        }
    }
    let status = child.wait()?;
    let Some(result) = result else {
        bail!("{command:?} ended with {status}, and without a result")
    };
    println!("{result}");
    if !status.success() {
        bail!("{command:?} ended with {status}; what to paste is printed above");
    }
    Ok(())
}

/// Every kind of round once, with fresh seeds.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_in_ci(root: &Path) -> anyhow::Result<()> {
    run(root, &Options { rounds: CI_ROUNDS, seed: None, kinds: Vec::new(), release: false })
}
