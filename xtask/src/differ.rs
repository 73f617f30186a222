//! `cargo xtask differ`: the real etcd 3.5.1 and ours get the same random requests, over every service,
//! and every answer is compared. Builds both programs and hands over; crate quorate-differ does the work.

use crate::ci::{cargo, release_binary, succeed};
use crate::servers::fetch_etcd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many operations CI compares with each seed.
const OPERATIONS_IN_CI: u64 = 5_000;
/// The seeds that CI compares with every time: users are on early with the one, and late with the other.
const SEEDS_IN_CI: [u64; 2] = [1, 2];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many requests both get
    #[arg(long, default_value_t = 5_000)]
    operations: u64,
    /// What the first 5000 are drawn from; the next 5000 from the number after it, on new servers
    /// [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Tell of a difference that nothing explains, and go on
    #[arg(long)]
    keep_going: bool,
    /// Tell of each request
    #[arg(long)]
    trace: bool,
    /// Where data and logs go [default: target/differ]
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Builds and compares.
///
/// # Errors
///
/// If there is a difference that nothing explains.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    compare(root, options, &build(root, "quorate-cli", "quorate")?)
}

/// Asks this program of ours, and the real etcd, the same.
fn compare(root: &Path, options: &Options, quorate: &Path) -> anyhow::Result<()> {
    let etcd = fetch_etcd(root)?;
    let differ = build(root, "quorate-differ", "quorate-differ")?;
    let folder = options.folder.clone().unwrap_or_else(|| target(root).join("differ"));
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut command = Command::new(differ);
    command.arg("--etcd").arg(etcd).arg("--quorate").arg(quorate);
    command.arg("--folder").arg(folder);
    command.args(["--seed", &seed.to_string(), "--operations", &options.operations.to_string()]);
    let flags = [(options.keep_going, "--keep-going"), (options.trace, "--trace")];
    command.args(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
    succeed(command.current_dir(root))
}

/// What CI runs: seeds that are always the same, and one that no run has seen before. Ours is the release,
/// which was built and tried by then.
///
/// # Errors
///
/// If there is a difference that nothing explains. It was told with the line that repeats it.
pub(crate) fn run_in_ci(root: &Path) -> anyhow::Result<()> {
    for seed in SEEDS_IN_CI.map(Some).into_iter().chain([None]) {
        let operations = OPERATIONS_IN_CI;
        let options = Options { operations, seed, keep_going: false, trace: false, folder: None };
        compare(root, &options, &release_binary(root))?;
    }
    Ok(())
}

/// Builds a program, and says where it is.
fn build(root: &Path, package: &str, program: &str) -> anyhow::Result<PathBuf> {
    let mut build = Command::new(cargo());
    succeed(build.args(["build", "--package", package]).current_dir(root))?;
    Ok(target(root).join("debug").join(program))
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
