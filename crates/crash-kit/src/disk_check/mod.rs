//! Checks a [`Disk`](quorate_wal::Disk): its contract, and histories of operations that end in a crash
//! at every place, in a failure of each operation, or in reads that give little or nothing; and that the
//! next process can go on with what is left. Knows how to break a machine; what may be left is the
//! model's decision.

mod contract;
mod history;
mod model;

use crate::crash_disk::Survives;
use crate::finding::{Finding, Promise, Report};
use crate::machine::{Crash, Machine};
use history::{History, Run, afterwards};
use model::BadRead;

/// How many ways there are to lose what was not synced, for each place.
const LOSSES: u64 = 6;
/// How many histories are enough where crashes are all the same, and for reads.
const FEW: usize = 5;
/// How little a short read gives.
const SHORT_READS: [usize; 3] = [1, 100, 511];

/// Checks a disk. `make` makes a machine with an empty folder on it, as often as it is asked.
///
/// # Errors
///
/// The first promise that the disk breaks.
pub fn check_disk<M: Machine>(make: impl Fn() -> M) -> Result<Report, Finding> {
    let mut report = Report::default();
    contract::check(&mut make()).map_err(|finding| finding.after("nothing at all"))?;
    let mut histories = History::all();
    if make().beneath().is_none() {
        histories.truncate(FEW);
    }
    for history in &histories {
        crashes(&make, history, &mut report)?;
        failures(&make, history, &mut report)?;
    }
    for history in histories.iter().take(FEW) {
        short_reads(&make, history, &mut report)?;
        failed_reads_on_the_way(&make, history, &mut report)?;
        failed_reads_at_the_end(&make, history, &mut report)?;
    }
    Ok(report)
}

/// After a crash: a new process finds what may be left, and makes a file more; that one, and the others,
/// the next power cut leaves alone.
fn judge_and_go_on(machine: &mut impl Machine, run: &Run) -> Result<(), Finding> {
    run.judge(machine)?;
    let mut next = Run::new(machine);
    next.go_on(&afterwards(), || false)?;
    machine.crash(Crash::PowerCut(Survives::Nothing));
    next.judge(machine)?;
    run.judge(machine)
}

fn crashes<M: Machine>(
    make: &impl Fn() -> M,
    history: &History,
    report: &mut Report,
) -> Result<(), Finding> {
    for at in 0.. {
        let mut is_over = true;
        for loss in 0..=LOSSES {
            let mut machine = make();
            let (crash, survives) = match loss {
                0 => (Crash::PowerCut(Survives::Nothing), "nothing survived"),
                1 => (Crash::Kill, "the process was killed"),
                _ => (Crash::PowerCut(Survives::AnyPart(at * 31 + loss)), "a part survived"),
            };
            let trouble =
                || format!("{history}, the power cut at operation {at}, {survives} ({loss})");
            let run = run_until(&mut machine, history, at).map_err(|it| it.after(trouble()))?;
            is_over &= run.is_whole;
            machine.crash(crash);
            judge_and_go_on(&mut machine, &run).map_err(|it| it.after(trouble()))?;
            report.crash_count += 1;
            if machine.beneath().is_none() || !history.is_tried(at) {
                break;
            }
        }
        if is_over {
            break;
        }
    }
    Ok(())
}

/// Runs a history until the power fails: at this operation beneath the disk, or, where nothing can be
/// ordered, before this one of the history.
fn run_until(machine: &mut impl Machine, history: &History, at: u64) -> Result<Run, Finding> {
    let ops = &history.ops;
    let Some(beneath) = machine.beneath().cloned() else {
        let count = usize::try_from(at).unwrap_or(usize::MAX).min(ops.len());
        let mut run = Run::new(machine);
        run.go_on(ops.get(..count).unwrap_or(ops), || false)?;
        run.is_whole &= count == ops.len();
        return Ok(run);
    };
    beneath.cut_power_at(at);
    let mut run = Run::new(machine);
    run.go_on(ops, || beneath.is_off())?;
    Ok(run)
}

fn failures<M: Machine>(
    make: &impl Fn() -> M,
    history: &History,
    report: &mut Report,
) -> Result<(), Finding> {
    for at in 0.. {
        for seed in 0..3 {
            let mut machine = make();
            let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
            beneath.fail_at(at);
            let mut run = Run::new(&mut machine);
            let trouble =
                || format!("{history}, operation {at} beneath failed, then the power ({seed})");
            run.go_on(&history.ops, || beneath.has_failed()).map_err(|it| it.after(trouble()))?;
            if !beneath.has_failed() {
                return Ok(());
            }
            let survives = if seed == 0 { Survives::Nothing } else { Survives::AnyPart(seed) };
            machine.crash(Crash::PowerCut(survives));
            judge_and_go_on(&mut machine, &run).map_err(|it| it.after(trouble()))?;
            report.fault_count += 1;
            if !history.is_tried(at) {
                break;
            }
        }
    }
    Ok(())
}

/// Reads give little: all of them, or those after the history.
fn short_reads<M: Machine>(
    make: &impl Fn() -> M,
    history: &History,
    report: &mut Report,
) -> Result<(), Finding> {
    let cases = SHORT_READS.iter().flat_map(|size_max| [(*size_max, true), (*size_max, false)]);
    for (size_max, from_the_start) in cases {
        let mut machine = make();
        let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
        let when = if from_the_start { "from the start" } else { "afterwards" };
        let short = |found: String| {
            let trouble =
                format!("{history}, no read beneath giving more than {size_max} B {when}");
            Finding::new(Promise::ShortReadsAreReadOn, found).after(trouble)
        };
        if from_the_start {
            beneath.shorten_reads(size_max);
        }
        let mut run = Run::new(&mut machine);
        run.go_on(&history.ops, || false).map_err(|finding| short(finding.found))?;
        beneath.shorten_reads(size_max);
        // Both as the process has it open, and as the next one finds it.
        for disk in [run.disk.clone(), machine.disk()] {
            let read = run.model.check_reads(disk.as_ref(), machine.dir());
            read.map_err(|bad| short(bad.to_string()))?;
        }
        report.short_read_count += 1;
    }
    Ok(())
}

/// Each look at something fails once while a history runs: also one that a write needs.
fn failed_reads_on_the_way<M: Machine>(
    make: &impl Fn() -> M,
    history: &History,
    report: &mut Report,
) -> Result<(), Finding> {
    for read in 0.. {
        let mut machine = make();
        let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
        beneath.fail_read_at(read);
        let mut run = Run::new(&mut machine);
        let mut tried = run.go_on(&history.ops, || beneath.has_failed());
        if !beneath.has_failed() {
            return tried.map_err(|it| it.after(history));
        }
        if tried.is_ok() {
            machine.crash(Crash::Kill);
            tried = judge_and_go_on(&mut machine, &run);
        }
        tried.map_err(|mut finding| {
            if finding.promise != Promise::NoErrorWithoutCause {
                finding.promise = Promise::FailedReadsAreErrors;
            }
            finding.after(format!("{history}, read {read} beneath failed"))
        })?;
        report.fault_count += 1;
    }
    Ok(())
}

/// Each look at something fails once for the process that comes after a history.
fn failed_reads_at_the_end<M: Machine>(
    make: &impl Fn() -> M,
    history: &History,
    report: &mut Report,
) -> Result<(), Finding> {
    let mut machine = make();
    let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
    let mut run = Run::new(&mut machine);
    run.go_on(&history.ops, || false).map_err(|it| it.after(history))?;
    for read in 0.. {
        let disk = machine.disk();
        beneath.fail_read_at(beneath.read_count() + read);
        let promise = match run.model.check_reads(disk.as_ref(), machine.dir()) {
            Ok(()) => None,
            // It said so.
            Err(BadRead::Failed(_)) if beneath.has_failed() => None,
            Err(BadRead::Failed(_)) => Some(Promise::NoErrorWithoutCause),
            Err(BadRead::Differs(_)) => Some(Promise::FailedReadsAreErrors),
        };
        if let Some(promise) = promise {
            let found =
                format!("read {read} beneath failed, and what was read is not what is there");
            return Err(Finding::new(promise, found).after(history));
        }
        if !beneath.has_failed() {
            break;
        }
        report.fault_count += 1;
    }
    Ok(())
}
