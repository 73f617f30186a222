//! `cargo xtask mutants`: changes one thing at a time in a crate and sees whether its own tests
//! notice. How it runs is in `.cargo/mutants.toml`, what was found in `docs/mutants.md`.

use crate::ci::{cargo, succeed};
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The crate whose code is changed and whose tests are run
    #[arg(long, default_value = "quorate-core")]
    package: String,
    /// Only these files; globs are fine
    #[arg(long)]
    file: Vec<String>,
    /// Where to put the lists of caught and missed mutants
    #[arg(long, default_value = "target/mutants")]
    output: String,
}

/// Runs `cargo mutants`, which has to be installed (`cargo install cargo-mutants`).
///
/// # Errors
///
/// If it is not installed, or if a mutant survives.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command
        .args(["mutants", "--no-shuffle", "--package", &options.package])
        .args(["--output", &options.output])
        .current_dir(root);
    for file in &options.file {
        command.args(["--file", file]);
    }
    succeed(&mut command)
}
