//! `quorate sim`: hands the command line to the simulator. Knows nothing of what is simulated.

use anyhow::Context;
use quorate_sim::SimOptions;
use std::num::NonZeroUsize;

const EXAMPLES: &str = "\
Examples:
  quorate sim --seed 7 --nodes 5 --steps 200000      one world; the same seed, the same trace hash
  quorate sim --seeds 1000                           a thousand worlds, from seed 1 on
It exits with 1 if a judge found something, and prints the line that shows it again.";

/// Runs clusters in virtual time, under faults, with judges.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Decides everything; the first one, if there are many
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many worlds, with rising seeds
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// How many nodes in each
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// How many things happen in each before it is healed
    #[arg(long, default_value_t = 20_000, value_name = "COUNT")]
    steps: u64,
    /// How many worlds at the same time [default: one a CPU]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
}

/// Simulates and prints a report.
///
/// # Errors
///
/// If a judge found something.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let cpus = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let options = SimOptions {
        seed: options.seed,
        seed_count: options.seeds,
        node_count: options.nodes,
        steps: options.steps,
        jobs: options.jobs.map_or_else(cpus, NonZeroUsize::get),
    };
    quorate_sim::run(&options, &mut std::io::stdout()).context("the simulation failed")?;
    Ok(())
}
