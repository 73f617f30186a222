//! Explores every interleaving within bounds, from the command line: `explore NAME=NUMBER...`, where
//! the names are those of `Bounds`. `cargo xtask explore` is the same with flags and help.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a clock, to measure with

use quorate_sim::explore::{Bounds, Level, Sabotage, explore};
use std::process::ExitCode;
use std::time::Instant;

fn bounds(arguments: impl Iterator<Item = String>) -> Result<Bounds, String> {
    let mut bounds = Bounds::default();
    for argument in arguments {
        let unknown = || format!("expected NAME=NUMBER, found `{argument}`");
        let (name, value) = argument.split_once('=').ok_or_else(unknown)?;
        let number: u64 =
            value.parse().or(if name == "sabotage" { Ok(0) } else { Err(unknown()) })?;
        let small = u8::try_from(number).unwrap_or(u8::MAX);
        match name {
            "nodes" => bounds.nodes = small,
            "values" => bounds.values = small,
            "timeouts" => bounds.timeouts = small,
            "crashes" => bounds.crashes = small,
            "duplications" => bounds.duplications = small,
            "slow-writes" => bounds.slow_writes = Some(small),
            "reads" => bounds.reads = small,
            "transfers" => bounds.transfers = small,
            "depth" => bounds.depth = u32::try_from(number).unwrap_or(u32::MAX),
            "states" => bounds.states_max = number,
            "audit" => bounds.audit = number != 0,
            "sabotage" => bounds.sabotage = sabotage(value).ok_or_else(unknown)?,
            _ => return Err(unknown()),
        }
    }
    within_limits(bounds)
}

/// What the explorer can count.
fn within_limits(bounds: Bounds) -> Result<Bounds, String> {
    if !(2..=Bounds::NODES_MAX).contains(&bounds.nodes) {
        return Err(format!("expected 2 to {} nodes, found {}", Bounds::NODES_MAX, bounds.nodes));
    }
    if bounds.states_max > Bounds::STATES_MAX {
        let (limit, found) = (Bounds::STATES_MAX, bounds.states_max);
        return Err(format!("expected at most {limit} states, found {found}"));
    }
    Ok(bounds)
}

fn sabotage(name: &str) -> Option<Sabotage> {
    Some(match name {
        "none" => Sabotage::None,
        "early-completion" => Sabotage::EarlyCompletion,
        "forgetful-vote" => Sabotage::ForgetfulVote,
        "shortened-log" => Sabotage::ShortenedLog,
        "forged-votes" => Sabotage::ForgedVotes,
        _ => return None,
    })
}

/// Resident memory in MiB, where the system says.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) / 1024
}

fn main() -> ExitCode {
    let bounds = match bounds(std::env::args().skip(1)) {
        Ok(bounds) => bounds,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    println!("{bounds:?}");
    let started = Instant::now();
    let rate = |count: u64| u128::from(count) * 1000 / started.elapsed().as_millis().max(1);
    let report = explore(&bounds, &mut |level: &Level| {
        println!(
            "depth {:>3}: {:>11} new, {:>12} states, {:>13} steps, {:>8} server states, {:>8} \
             messages, {:>8} states/s, {:>6} MiB, {} s",
            level.depth,
            level.new_states,
            level.states,
            level.steps,
            level.server_states,
            level.messages,
            rate(level.states),
            memory_mib(),
            started.elapsed().as_secs(),
        );
    });
    let Level { depth, states, steps, .. } = report.last;
    let (seconds, rate, memory) = (started.elapsed().as_secs(), rate(states), memory_mib());
    let depth = if report.is_partial {
        format!("all to depth {}, a part of {depth}", depth.saturating_sub(1))
    } else {
        format!("depth {depth}")
    };
    println!("{states} states, {steps} steps, {depth}, {seconds} s, {rate} states/s, {memory} MiB");
    match report.found {
        None if report.is_complete => println!("complete: no state within these bounds is left"),
        None => println!("no violation: {depth}"),
        Some(found) => {
            println!("VIOLATION: {}\n{}", found.fault, found.script.join("\n"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
