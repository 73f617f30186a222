//! The differential test: one real etcd 3.5.1 and one of ours get the same random requests, and every
//! answer is compared. `cargo xtask differ` builds and starts it. Must not know ours from inside.

mod answer;
mod chance;
mod draw;
mod driver;
mod events;
mod explained;
mod known;
mod method;
mod report;
mod systems;
mod twins;
mod watches;
mod wire;

use anyhow::Context;
use chance::Chance;
use clap::Parser;
use driver::Driver;
use known::Known;
use report::Report;
use std::fmt;
use std::process::ExitCode;
use systems::{Pair, Programs};

/// After so many operations both begin anew, with the next seed.
const OPERATIONS_PER_SEED: u64 = 5_000;

/// A short lease may have ended in the one before something was asked of it, and in the other not.
#[derive(Debug)]
struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the machine is too slow for the shortest lease: more than half of its time went by"
        )
    }
}

impl std::error::Error for TooSlow {}

/// Compares a real etcd with ours.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    programs: Programs,
    /// How many operations
    #[arg(long, default_value_t = 5_000)]
    operations: u64,
    /// What the first 5000 are drawn from; the next 5000 from the number after it, on new servers
    #[arg(long)]
    seed: u64,
    /// Tell of a difference that nothing explains, and go on
    #[arg(long)]
    keep_going: bool,
    /// Tell of each request
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was the same, or explained.
async fn run(options: &Options) -> anyhow::Result<bool> {
    let mut report = Report::new();
    let mut outcome = Ok(());
    let mut seed = options.seed;
    while report.operation_count() < options.operations && outcome.is_ok() {
        let left = options.operations - report.operation_count();
        let found = report.unexplained_count();
        let before = report.figures();
        loop {
            (report, outcome) =
                run_seed(options, seed, left.min(OPERATIONS_PER_SEED), report).await;
            let Some(error) = outcome.as_ref().err().filter(|error| error.is::<TooSlow>()) else {
                break;
            };
            println!("{error:#}: once more, on new servers");
        }
        if options.keep_going && report.unexplained_count() > found {
            // It was told of already.
            outcome = Ok(());
        }
        println!("seed {seed}: {}", report.figures().since(before));
        seed = seed.wrapping_add(1);
    }
    println!("{report}");
    outcome.map(|()| report.unexplained_count() == 0)
}

async fn run_seed(
    options: &Options,
    seed: u64,
    operations: u64,
    report: Report,
) -> (Report, anyhow::Result<()>) {
    let pair = match Pair::start(&options.programs).await {
        Ok(pair) => pair,
        Err(error) => return (report, Err(error)),
    };
    let mut driver = Driver {
        chance: Chance::new(seed),
        pair,
        known: Known::default(),
        twins: twins::Twins::default(),
        streams: watches::Streams::default(),
        report,
        seed,
        operation_count: 0,
        keeps_going: options.keep_going,
        traces: options.trace,
    };
    let outcome = drive(&mut driver, operations).await;
    let operation = driver.operation_count;
    let outcome = outcome.with_context(|| format!("seed {seed}, operation {operation}"));
    (driver.report, outcome)
}

async fn drive(driver: &mut Driver, operations: u64) -> anyhow::Result<()> {
    draw::begin(driver).await?;
    while driver.operation_count < operations {
        draw::step(driver).await?;
    }
    draw::end(driver).await?;
    driver.pair.check()
}
