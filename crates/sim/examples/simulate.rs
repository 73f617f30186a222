//! Runs simulated worlds without the rest of the program: `simulate SEED [SEEDS] [NODES] [STEPS]
//! [JOBS]`. The program `quorate sim` does the same with names for its arguments, and much more.

use quorate_sim::{
    Campaign, Watch, World, campaign_text, kv_world, progress_line, stuck_text, violation_text,
};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |place: usize, default: u64| numbers.get(place).copied().unwrap_or(default);
    let world = World { seed: number(0, 1), node_count: number(2, 5), steps: number(3, 20_000) };
    let mut campaign = Campaign::new(world, number(1, 1));
    campaign.jobs = usize::try_from(number(4, 2)).unwrap_or(2);
    let ended = campaign.run(
        &kv_world,
        Watch {
            progress: &mut |standing| eprintln!("{}", progress_line(standing)),
            violation: &mut |violation| print!("{}", violation_text(violation)),
            stuck: &mut |case, age, pulse| {
                eprint!("{}", stuck_text("quorate sim", case, age, pulse));
            },
            abandoned: &mut |end| {
                println!("{}", campaign_text(end));
                std::process::exit(1);
            },
            stop: &AtomicBool::new(false),
        },
    );
    match ended {
        Ok(end) => {
            print!("{}", campaign_text(&end));
            if end.progress.failure_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
