//! `cargo xtask differ`: the real etcd 3.5.1 and ours get the same random requests, over every service,
//! and every answer is compared. Builds both programs and hands over; crate quorate-differ does the work.

use crate::ci::{cargo, succeed};
use crate::servers::fetch_etcd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

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
    let etcd = fetch_etcd(root)?;
    let mut build = Command::new(cargo());
    build.args(["build", "--package", "quorate-cli", "--package", "quorate-differ"]);
    succeed(build.current_dir(root))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = options.folder.clone().unwrap_or_else(|| target.join("differ"));
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut command = Command::new(target.join("debug/quorate-differ"));
    command.arg("--etcd").arg(etcd).arg("--quorate").arg(target.join("debug/quorate"));
    command.arg("--folder").arg(folder);
    command.args(["--seed", &seed.to_string(), "--operations", &options.operations.to_string()]);
    let flags = [(options.keep_going, "--keep-going"), (options.trace, "--trace")];
    command.args(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
    succeed(command.current_dir(root))
}
