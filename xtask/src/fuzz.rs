//! `cargo xtask fuzz`: feeds every decoder, and the core, with inputs that libFuzzer grows, and keeps
//! those that reached new code. What is fuzzed is in `crates/sim/src/fuzz` and
//! `crates/server/src/fuzz`; needs a C++ compiler.

use crate::ci::{cargo, succeed};
use anyhow::Context;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The targets, as `quorate_sim::fuzz` and `quorate_server::fuzz` list them; tests compare.
const TARGETS: [&str; 18] = [
    "wire_message",
    "wire_stream",
    "log_codec",
    "log_folder",
    "log_mark",
    "snapshot_file",
    "store",
    "client_request",
    "core_step",
    "store_snapshot",
    "wire_link",
    "session_entry",
    "session_table",
    "watch_request",
    "gateway_request",
    "gateway_stream",
    "grpc_request",
    "member_request",
];
/// Tells which code an input reaches, for libFuzzer. These flags work on the stable compiler.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this target
    #[arg(long, value_parser = TARGETS)]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Inputs are not longer, in bytes [default: 1024, and more where the format is larger]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_len: Option<u32>,
    /// Afterwards put the smallest set of inputs that reaches the same code into fuzz/corpus
    #[arg(long)]
    keep: bool,
}

/// Runs the campaigns one after the other.
///
/// # Errors
///
/// If the fuzzer cannot be built, or finds an input that makes a target panic: that input is then
/// in `fuzz/findings`.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let folder = root.join("fuzz");
    // With an explicit target the flags do not concern build scripts and macros.
    let machine = machine()?;
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--target", &machine]).current_dir(&folder);
    build.env("RUSTFLAGS", COVERAGE).env("CARGO_TARGET_DIR", folder.join("target"));
    succeed(&mut build)?;
    let program = folder.join("target").join(machine).join("release/quorate-fuzz");
    for target in TARGETS {
        if options.target.as_deref().is_none_or(|wanted| wanted == target) {
            fuzz(&program, &folder, target, options)?;
        }
    }
    Ok(())
}

/// The machine that the compiler runs on, as it calls it.
fn machine() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("expected a line `host: ...` from rustc -vV")
}

/// Inputs of a target are not longer, in bytes: as short as what it reads allows, since short inputs
/// are tried more often. What is larger by far, as the blocks of a snapshot, its target repeats.
fn max_len(target: &str) -> u32 {
    match target {
        // Many frames, rows, requests or events one after the other.
        "wire_stream" | "gateway_stream" => 8_192,
        "snapshot_file" | "store" | "session_table" | "client_request" | "gateway_request" => 4_096,
        _ => 1_024,
    }
}

fn fuzz(program: &Path, folder: &Path, target: &str, options: &Options) -> anyhow::Result<()> {
    println!("== {target}");
    let corpus = folder.join("corpus").join(target);
    let grown = folder.join("target/grown").join(target);
    let findings = folder.join("findings");
    for path in [&corpus, &grown, &findings] {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
    }
    let mut command = Command::new(program);
    command
        .env("QUORATE_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={}", options.max_len.unwrap_or_else(|| max_len(target))))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1"])
        .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
        .args([&grown, &corpus]);
    succeed(&mut command)?;
    if !options.keep {
        return Ok(());
    }
    let mut merge = Command::new(program);
    merge.env("QUORATE_FUZZ_TARGET", target).args(["-set_cover_merge=1", "-verbosity=0"]);
    succeed(merge.args([&corpus, &grown]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn a_target_that_does_not_exist_is_refused_with_those_that_do() {
        let parse = |target: &str| {
            let command = Options::augment_args(clap::Command::new("fuzz"));
            command.try_get_matches_from(["fuzz", "--target", target])
        };
        assert!(TARGETS.iter().all(|target| parse(target).is_ok()));
        let refused = parse("nonsense").unwrap_err().to_string();
        assert!(refused.contains("nonsense") && refused.contains("log_mark"), "{refused}");
    }

    #[test]
    fn no_time_at_all_is_refused_for_libfuzzer_takes_it_for_no_limit() {
        let parse = |seconds: &str| {
            let command = Options::augment_args(clap::Command::new("fuzz"));
            command.try_get_matches_from(["fuzz", "--seconds", seconds])
        };
        assert!(parse("1").is_ok());
        assert!(parse("0").unwrap_err().to_string().contains("0 is not in 1.."));
    }
}
