//! One world or many of them for people: progress, figures, and the one line that shows a failure
//! again. The only file that looks at a clock and starts threads; each world stays in one thread,
//! and nothing in it can tell.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use crate::run::{Summary, Violation, World};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// The seed, or the first of many.
    pub seed: u64,
    /// How many worlds to run, with rising seeds.
    pub seed_count: u64,
    /// How many nodes in each.
    pub node_count: u64,
    /// How many things happen in each before it is healed.
    pub steps: u64,
    /// How many worlds run at the same time; each in its own thread.
    pub jobs: usize,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { seed: 1, seed_count: 1, node_count: 5, steps: 20_000, jobs: 2 }
    }
}

/// How a simulation ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A judge found something.
    #[error(transparent)]
    Violation(Box<Violation>),
    /// The report cannot be written.
    #[error("the report cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// How often a long campaign says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Simulates, and writes a report to `out`.
///
/// # Errors
///
/// [`SimError::Violation`] if a judge found something; the report then holds the end of the story
/// and the line that shows it again. [`SimError::Output`] if `out` fails.
pub fn run(options: &SimOptions, out: &mut dyn Write) -> Result<Summary, SimError> {
    let started = Instant::now();
    let outcome = if options.seed_count == 1 { one(options) } else { many(options, started, out)? };
    match outcome {
        Ok(summary) => {
            report(options, &summary, started.elapsed(), out)?;
            Ok(summary)
        }
        Err(violation) => {
            report_violation(&violation, out)?;
            Err(SimError::Violation(violation))
        }
    }
}

fn one(options: &SimOptions) -> Result<Summary, Box<Violation>> {
    world(options, options.seed).run()
}

fn world(options: &SimOptions, seed: u64) -> World {
    World { seed, node_count: options.node_count, steps: options.steps }
}

type Ended = Result<Summary, Box<Violation>>;

/// Runs the worlds in threads of their own; the first violation ends it.
fn many(options: &SimOptions, started: Instant, out: &mut dyn Write) -> io::Result<Ended> {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..options.jobs.max(1) {
            let sender = sender.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || work(options, next, stop, &sender));
        }
        drop(sender);
        let ended = gather(options, started, &receiver, out);
        stop.store(true, Ordering::Relaxed);
        ended
    })
}

fn work(options: &SimOptions, next: &AtomicU64, stop: &AtomicBool, sender: &Sender<Ended>) {
    while !stop.load(Ordering::Relaxed) {
        let place = next.fetch_add(1, Ordering::Relaxed);
        if place >= options.seed_count {
            return;
        }
        if sender.send(world(options, options.seed.wrapping_add(place)).run()).is_err() {
            return;
        }
    }
}

fn gather(
    options: &SimOptions,
    started: Instant,
    receiver: &Receiver<Ended>,
    out: &mut dyn Write,
) -> io::Result<Ended> {
    let mut total = Summary::default();
    let mut said = started;
    loop {
        match receiver.recv_timeout(PROGRESS_EVERY) {
            Ok(Ok(summary)) => total.add(&summary),
            Ok(Err(violation)) => return Ok(Err(violation)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Ok(total)),
        }
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            let (done, all) = (total.world_count, options.seed_count);
            let rate = per_second(done, started.elapsed());
            let faults = total.counts.crashes + total.counts.partitions + total.counts.pauses;
            writeln!(out, "{done} of {all} seeds, {rate} seeds/s, {faults} faults, all well")?;
            out.flush()?;
        }
    }
}

/// A rate with one decimal, for people.
fn per_second(count: u64, elapsed: Duration) -> String {
    let tenths = u128::from(count) * 10_000 / elapsed.as_millis().max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn report(
    options: &SimOptions,
    summary: &Summary,
    elapsed: Duration,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Summary { counts, messages, findings, .. } = summary;
    let SimOptions { seed, seed_count, node_count, .. } = options;
    let seeds = if *seed_count == 1 {
        format!("seed {seed}")
    } else {
        format!("seeds {seed} to {}", seed.wrapping_add(seed_count - 1))
    };
    writeln!(out, "{seeds}, {node_count} nodes: no violation")?;
    writeln!(
        out,
        "  elections   {:>10}   committed {}, applied on all nodes {}",
        counts.elections, summary.committed, counts.applied
    )?;
    writeln!(
        out,
        "  crashes     {:>10}   in the middle of a turn {}, by a failing disk {}, restarts {}",
        counts.crashes, counts.crashes_mid_turn, counts.disk_failures, counts.restarts
    )?;
    writeln!(
        out,
        "  partitions  {:>10}   pauses {}, transfers {}",
        counts.partitions, counts.pauses, counts.transfers
    )?;
    writeln!(
        out,
        "  messages    {:>10}   lost {}, cut off {}, doubled {}, delivered {}, {} KiB",
        messages.sent,
        messages.lost,
        messages.cut,
        messages.duplicated,
        counts.delivered,
        counts.sent_bytes / 1024
    )?;
    writeln!(
        out,
        "  disk writes {:>10}   syncs {}, snapshots written {}, restored {}",
        counts.persisted, counts.syncs, counts.snapshots_taken, counts.snapshots_restored
    )?;
    writeln!(
        out,
        "  requests    {:>10}   done {}, refused {}, unknown {}; histories checked: {} operations, \
         {} undecided",
        counts.ops_ok + counts.ops_refused + counts.ops_unknown,
        counts.ops_ok,
        counts.ops_refused,
        counts.ops_unknown,
        findings.checked_count,
        findings.undecided_count
    )?;
    report_speed(summary, elapsed, out)
}

fn report_speed(summary: &Summary, elapsed: Duration, out: &mut dyn Write) -> io::Result<()> {
    let virtual_s = summary.virtual_micros / 1_000_000;
    writeln!(
        out,
        "  time        {virtual_s:>10} s simulated in {}.{:03} s: {}x",
        elapsed.as_secs(),
        elapsed.subsec_millis(),
        per_second(virtual_s, elapsed)
    )?;
    writeln!(
        out,
        "  speed       {:>10} steps/s, {} seeds/s",
        per_second(summary.steps, elapsed),
        per_second(summary.world_count, elapsed)
    )?;
    writeln!(out, "  trace hash  {:016x} ({} steps)", summary.trace_hash, summary.steps)
}

fn report_violation(violation: &Violation, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "the end of the story:")?;
    for line in &violation.story {
        writeln!(out, "  {line}")?;
    }
    let micros = violation.at.as_micros();
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    writeln!(out, "VIOLATION after {seconds}.{rest:06} s, step {}:", violation.step)?;
    writeln!(out, "  {}", violation.breach)?;
    writeln!(out, "reproduce: {}", violation.reproduce())
}
