//! `cargo xtask bench-core`: our core beside raft-rs, and our library beside openraft, on the same work
//! in the same run. What is measured is in `peers/`, a workspace of its own.

use crate::ci::{cargo, succeed};
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this comparison
    #[arg(long, value_parser = PROGRAMS)]
    only: Option<String>,
}

/// In the order in which they run.
const PROGRAMS: [&str; 2] = ["core", "library"];

/// Builds, measures and prints; the ratios stand last.
///
/// # Errors
///
/// If something cannot be built, or a side did not do all of its work.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    for program in PROGRAMS {
        if options.only.as_deref().is_some_and(|only| only != program) {
            continue;
        }
        println!("== {program}");
        let mut command = Command::new(cargo());
        command.args(["run", "--quiet", "--release", "--locked", "--bin", program]);
        succeed(command.current_dir(root.join("peers")))?;
    }
    Ok(())
}
