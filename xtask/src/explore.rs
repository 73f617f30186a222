//! `cargo xtask explore`: every interleaving of a small cluster of real cores, within bounds. What is
//! explored and what is abstracted is said in `crates/sim/src/explore/mod.rs`.

use crate::ci::{cargo, succeed};
use std::path::Path;
use std::process::Command;

/// `Bounds::STATES_MAX` of the explorer, which numbers states with 32 bits.
const STATES_MAX: u64 = (1 << 32) - 2;

/// What the explorer's example understands by `sabotage=`.
const SABOTAGES: [&str; 5] =
    ["none", "early-completion", "forgetful-vote", "shortened-log", "forged-votes"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Voters
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=5))]
    nodes: u8,
    /// Values that are proposed
    #[arg(long, default_value_t = 2)]
    values: u8,
    /// Deadlines that are reached: election timeouts and heartbeats
    #[arg(long, default_value_t = 3)]
    timeouts: u8,
    /// Crashes, each of which may lose any end of the writes under way
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Messages that arrive twice; any number may be lost, and all may overtake each other
    #[arg(long, default_value_t = 1)]
    duplications: u8,
    /// Writes that take their time while others are durable at once [default: all of them]
    #[arg(long)]
    slow_writes: Option<u8>,
    /// Linearizable reads
    #[arg(long, default_value_t = 0)]
    reads: u8,
    /// Requests to hand over
    #[arg(long, default_value_t = 0)]
    transfers: u8,
    /// Actions in one run
    #[arg(long, default_value_t = 100)]
    depth: u32,
    /// States after which the search stops; each costs about 70 bytes
    #[arg(
        long,
        default_value_t = 10_000_000,
        value_parser = clap::value_parser!(u64).range(1..=STATES_MAX)
    )]
    states: u64,
    /// Compares what servers with equal hashes do, as far as it is computed
    #[arg(long)]
    audit: bool,
    /// Breaks something, to see it found
    #[arg(long, default_value = "none", value_parser = SABOTAGES)]
    sabotage: String,
}

/// Runs it.
///
/// # Errors
///
/// If a state breaks an invariant; the shortest way to it is printed.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command
        .args(["run", "--release", "--package", "quorate-sim", "--example", "explore", "--"])
        .args(arguments(options))
        .current_dir(root);
    succeed(&mut command)
}

fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec![
        format!("nodes={}", options.nodes),
        format!("values={}", options.values),
        format!("timeouts={}", options.timeouts),
        format!("crashes={}", options.crashes),
        format!("duplications={}", options.duplications),
        format!("reads={}", options.reads),
        format!("transfers={}", options.transfers),
        format!("depth={}", options.depth),
        format!("states={}", options.states),
        format!("audit={}", u8::from(options.audit)),
        format!("sabotage={}", options.sabotage),
    ];
    arguments.extend(options.slow_writes.map(|count| format!("slow-writes={count}")));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn a_sabotage_that_does_not_exist_is_refused_with_those_that_do_and_the_explorer_knows_them() {
        let parse = |name: &str| {
            let command = Options::augment_args(clap::Command::new("explore"));
            command.try_get_matches_from(["explore", "--sabotage", name])
        };
        let example = include_str!("../../crates/sim/examples/explore.rs");
        for name in SABOTAGES {
            assert!(parse(name).is_ok());
            assert!(example.contains(&format!("\"{name}\" => ")), "{name}");
        }
        let refused = parse("typo").unwrap_err().to_string();
        assert!(refused.contains("typo") && refused.contains("forged-votes"), "{refused}");
    }
}
