//! Checks a [`Disk`](quorate_wal::Disk): its contract, and histories of operations that end in a crash
//! at every place, in a failure of each operation, or in reads that give little or nothing. Knows how
//! to break a machine; what may be left is the model's decision.

mod contract;
mod history;
mod model;

use crate::crash_disk::Survives;
use crate::finding::{Finding, Promise, Report};
use crate::machine::{Crash, Machine};
use history::{Op, Run, random, script};
use model::BadRead;

/// How many ways there are to lose what was not synced, for each place.
const LOSSES: u64 = 6;
/// How many histories are drawn, and from which number on.
const DRAWN: std::ops::Range<u64> = 0..60;
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
    let mut histories = vec![("the script".to_owned(), script())];
    histories.extend(DRAWN.map(|seed| (format!("history {seed}"), random(seed))));
    if make().beneath().is_none() {
        histories.truncate(FEW);
    }
    for (name, ops) in &histories {
        // A drawn history tries a few places, the script every one.
        let is_script = name == "the script";
        crashes(&make, name, ops, is_script, &mut report)?;
        failures(&make, name, ops, is_script, &mut report)?;
    }
    for (name, ops) in histories.iter().take(FEW) {
        short_reads(&make, name, ops, &mut report)?;
        failed_reads(&make, name, ops, &mut report)?;
    }
    Ok(report)
}

/// Every place, or every seventh, and not the same ones for each history.
fn is_tried(is_script: bool, name: &str, at: u64) -> bool {
    is_script || (at + name.len() as u64).is_multiple_of(7)
}

fn crashes<M: Machine>(
    make: &impl Fn() -> M,
    name: &str,
    ops: &[Op],
    is_every_place: bool,
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
                || format!("{name}, the power cut at operation {at}, {survives} ({loss})");
            let run = run_until(&mut machine, ops, at).map_err(|it| it.after(trouble()))?;
            is_over &= run.is_whole;
            machine.crash(crash);
            run.judge(&mut machine).map_err(|it| it.after(trouble()))?;
            report.crash_count += 1;
            if machine.beneath().is_none() || !is_tried(is_every_place, name, at) {
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
fn run_until<M: Machine>(machine: &mut M, ops: &[Op], at: u64) -> Result<Run, Finding> {
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
    name: &str,
    ops: &[Op],
    is_every_place: bool,
    report: &mut Report,
) -> Result<(), Finding> {
    for at in 0.. {
        for seed in 0..3 {
            let mut machine = make();
            let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
            beneath.fail_at(at);
            let mut run = Run::new(&mut machine);
            let trouble =
                || format!("{name}, operation {at} beneath failed, then the power ({seed})");
            run.go_on(ops, || beneath.has_failed()).map_err(|it| it.after(trouble()))?;
            if !beneath.has_failed() {
                return Ok(());
            }
            let survives = if seed == 0 { Survives::Nothing } else { Survives::AnyPart(seed) };
            machine.crash(Crash::PowerCut(survives));
            run.judge(&mut machine).map_err(|it| it.after(trouble()))?;
            report.fault_count += 1;
            if !is_tried(is_every_place, name, at) {
                break;
            }
        }
    }
    Ok(())
}

fn short_reads<M: Machine>(
    make: &impl Fn() -> M,
    name: &str,
    ops: &[Op],
    report: &mut Report,
) -> Result<(), Finding> {
    for size_max in SHORT_READS {
        let mut machine = make();
        let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
        let mut run = Run::new(&mut machine);
        let trouble = || format!("{name}, no read beneath giving more than {size_max} bytes");
        run.go_on(ops, || false).map_err(|it| it.after(trouble()))?;
        beneath.shorten_reads(size_max);
        // Both as the process has it open, and as the next one finds it.
        for disk in [run.disk.clone(), machine.disk()] {
            run.model.check_reads(disk.as_ref(), machine.dir()).map_err(|bad| {
                Finding::new(Promise::ShortReadsAreReadOn, bad.to_string()).after(trouble())
            })?;
        }
        report.short_read_count += 1;
    }
    Ok(())
}

fn failed_reads<M: Machine>(
    make: &impl Fn() -> M,
    name: &str,
    ops: &[Op],
    report: &mut Report,
) -> Result<(), Finding> {
    let mut machine = make();
    let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
    let mut run = Run::new(&mut machine);
    run.go_on(ops, || false).map_err(|it| it.after(name))?;
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
            return Err(Finding::new(promise, found).after(name));
        }
        if !beneath.has_failed() {
            break;
        }
        report.fault_count += 1;
    }
    Ok(())
}
