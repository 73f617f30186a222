//! Runs simulated worlds from the command line: `simulate SEED [SEEDS] [NODES] [STEPS] [JOBS]`.
//! The program `quorate sim` does the same with names for its arguments.

use quorate_sim::{SimError, SimOptions, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |place: usize, default: u64| numbers.get(place).copied().unwrap_or(default);
    let defaults = SimOptions::default();
    let options = SimOptions {
        seed: number(0, defaults.seed),
        seed_count: number(1, defaults.seed_count),
        node_count: number(2, defaults.node_count),
        steps: number(3, defaults.steps),
        jobs: usize::try_from(number(4, 2)).unwrap_or(2),
    };
    match run(&options, &mut std::io::stdout().lock()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(SimError::Violation(_)) => ExitCode::FAILURE,
        Err(SimError::Output(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
