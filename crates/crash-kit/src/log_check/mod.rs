//! Checks a log, whoever wrote it: what it acknowledged is there after a crash at every operation, after
//! a failure of every operation, through reads that give little or fail. Knows what a core may ask of a
//! log, and nothing of how the log keeps it.

mod history;
mod model;

pub use model::Contents;

use crate::crash_disk::{CrashDisk, Survives};
use crate::finding::{Finding, Promise, Report};
use crate::machine::{Crash, Machine};
use crate::rng::Rng;
use history::{Op, Run, Trouble, random_op, script};
use model::commands;
use quorate_core::{Persist, SnapshotMeta};
use quorate_wal::Disk;
use std::path::Path;
use std::sync::Arc;

/// Why a log says that it cannot.
pub type LogError = Box<dyn std::error::Error + Send + Sync>;

/// A kind of log: how to begin or to open one.
pub trait LogStore {
    /// Opens the log in a folder; begins one that holds [`Contents::of_a_new_log`] if there is none, or
    /// if one was begun and that was not finished. The folder is there.
    ///
    /// # Errors
    ///
    /// If the disk does not allow it, or gives what cannot be the log.
    fn open(
        &self,
        disk: Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<(Box<dyn OpenLog>, Contents), LogError>;
}

/// A log that is open.
pub trait OpenLog {
    /// Carries out what a core asks for, in order. On return all of it is durable.
    ///
    /// # Errors
    ///
    /// If it is not, or if that is not known.
    fn persist(&mut self, batch: &[Persist]) -> Result<(), LogError>;

    /// Drops the entries up to this snapshot's; the log starts after it then. Returns whether it did: a
    /// log that only grows need not.
    ///
    /// # Errors
    ///
    /// As for [`OpenLog::persist`].
    fn release(&mut self, _base: &SnapshotMeta) -> Result<bool, LogError> {
        Ok(false)
    }
}

/// How many ways there are to lose what was not synced, for each place.
const LOSSES: u64 = 5;
/// How many lives are drawn, of how many crashes, with how many operations at most between them.
const LIVES: u64 = 60;
/// The same where crashes are all the same.
const FEW_LIVES: u64 = 2;
const CRASHES_OF_A_LIFE: u64 = 8;
const OPS_OF_A_CRASH: u64 = 20;
/// Within so many operations a drawn life loses its power, if it does.
const CUT_WITHIN: u64 = 60;
/// Within so many operations the power fails again while a log is opened after a crash, if it does.
const CUT_OF_A_START_WITHIN: u64 = 11;
/// How little a short read gives.
const SHORT_READS: [usize; 3] = [1, 7, 511];

/// Checks a log on machines that `make` makes, each with an empty folder: `crash_machine`, or a disk
/// under test.
///
/// # Errors
///
/// The first promise that the log breaks, or the disk under it.
pub fn check_log<M: Machine>(
    make: impl Fn() -> M,
    store: &dyn LogStore,
) -> Result<Report, Finding> {
    let mut report = Report::default();
    crash_everywhere(&make, store, &mut report)?;
    fail_everywhere(&make, store, Fault::Operation, &mut report)?;
    fail_everywhere(&make, store, Fault::Read, &mut report)?;
    read_in_pieces(&make, store, &mut report)?;
    fail_a_start(&make, store, &mut report)?;
    let lives = if make().beneath().is_some() { LIVES } else { FEW_LIVES };
    for seed in 0..lives {
        live(&mut make(), store, seed, &mut report)?;
    }
    Ok(report)
}

/// One way after the other to crash; the same number, the same way.
fn loss(number: u64) -> Crash {
    match number % (LOSSES + 1) {
        0 => Crash::PowerCut(Survives::Nothing),
        1 => Crash::Kill,
        _ => Crash::PowerCut(Survives::AnyPart(number)),
    }
}

/// Makes the folder, opens the log, and acts until something fails. `None` if the log did not even open.
fn begin<'a, M: Machine>(
    machine: &mut M,
    store: &'a dyn LogStore,
    ops: &[Op],
    is_broken: impl Fn() -> bool,
) -> Result<(Option<Run<'a>>, bool), Finding> {
    let made = machine.disk().create_dir_all(machine.dir());
    let opened = made.map_err(LogError::from).and_then(|()| Run::open(store, machine));
    let (mut run, shown) = match opened {
        Ok(opened) => opened,
        Err(_) if is_broken() => return Ok((None, false)),
        Err(error) => return Err(Finding::new(Promise::LogOpens, error.to_string())),
    };
    if shown != Contents::of_a_new_log() {
        let found = format!("a new log holds {}", shown.described());
        return Err(Finding::new(Promise::AcknowledgedStays, found));
    }
    for op in ops {
        match run.act(op, machine) {
            Ok(()) => {}
            Err(Trouble::Failed(_)) if is_broken() => return Ok((Some(run), false)),
            Err(Trouble::Failed(error)) => {
                return Err(Finding::new(Promise::NoErrorWithoutCause, error.to_string()));
            }
            Err(Trouble::Wrong(finding)) => return Err(finding),
        }
    }
    Ok((Some(run), !is_broken()))
}

/// The same until the power fails: at this operation beneath the disk, or, where nothing can be ordered,
/// before this one of the log's.
fn begin_until<'a, M: Machine>(
    machine: &mut M,
    store: &'a dyn LogStore,
    ops: &[Op],
    at: u64,
) -> Result<(Option<Run<'a>>, bool), Finding> {
    if let Some(beneath) = machine.beneath().cloned() {
        beneath.cut_power_at(at);
        return begin(machine, store, ops, || beneath.is_off());
    }
    let count = usize::try_from(at).unwrap_or(usize::MAX).min(ops.len());
    let (run, is_whole) = begin(machine, store, ops.get(..count).unwrap_or(ops), || false)?;
    Ok((run, is_whole && count == ops.len()))
}

/// Opens what a crash has left, and judges it.
fn reopen<'a, M: Machine>(
    machine: &mut M,
    store: &'a dyn LogStore,
    before: Option<&Run<'_>>,
) -> Result<(Run<'a>, Contents), Finding> {
    let opened = Run::open(store, machine);
    let (run, shown) =
        opened.map_err(|error| Finding::new(Promise::LogOpens, error.to_string()))?;
    match before {
        Some(before) => before.judge(&shown, "after the crash")?,
        None if shown == Contents::of_a_new_log() => {}
        None => {
            let found = format!("a log that was never open holds {}", shown.described());
            return Err(Finding::new(Promise::NothingElseAppears, found));
        }
    }
    Ok((run, shown))
}

/// After a crash: the log opens, also if the power fails once more meanwhile; what it shows is durable;
/// it takes more, and has that after a power cut.
fn judge_and_go_on<M: Machine>(
    machine: &mut M,
    store: &dyn LogStore,
    before: Option<&mut Run<'_>>,
    number: u64,
) -> Result<(), Finding> {
    let before = before.map(|run| {
        run.end();
        &*run
    });
    machine.crash(loss(number));
    let place = number / (LOSSES + 1);
    if let Some(beneath) = machine.beneath().cloned()
        && (number + place) % 3 == 2
    {
        beneath.cut_power_at(beneath.change_count() + place % CUT_OF_A_START_WITHIN);
        // Whether it opens this time or not: the next one judges.
        drop(Run::open(store, machine));
        machine.crash(loss(number + place));
    }
    let (mut run, shown) = reopen(machine, store, before)?;
    run.end();
    machine.crash(Crash::PowerCut(Survives::Nothing));
    let (mut run, again) = Run::open(store, machine)
        .map_err(|error| Finding::new(Promise::LogOpens, error.to_string()))?;
    if again != shown {
        let found = format!("shown: {}; found: {}", shown.described(), again.described());
        return Err(Finding::new(Promise::ShownStays, found));
    }
    let (term, index) = (shown.last().term.get().max(1), shown.last().index.get() + 1);
    let term = term.max(shown.hard_state.current_term.get());
    match run.act(&Op::Persist(vec![commands(term, index..=index)]), machine) {
        Ok(()) => {}
        Err(Trouble::Failed(error)) => {
            return Err(Finding::new(Promise::NoErrorWithoutCause, error.to_string()));
        }
        Err(Trouble::Wrong(finding)) => return Err(finding),
    }
    run.end();
    machine.crash(Crash::PowerCut(Survives::Nothing));
    reopen(machine, store, Some(&run)).map(drop)
}

fn crash_everywhere<M: Machine>(
    make: &impl Fn() -> M,
    store: &dyn LogStore,
    report: &mut Report,
) -> Result<(), Finding> {
    let ops = script();
    for at in 0.. {
        let mut is_over = true;
        for number in 0..=LOSSES {
            let trouble = format!("the script, the power cut at operation {at}, loss {number}");
            let mut machine = make();
            let (mut run, is_whole) = begin_until(&mut machine, store, &ops, at)
                .map_err(|finding| finding.after(&trouble))?;
            is_over &= is_whole;
            judge_and_go_on(&mut machine, store, run.as_mut(), number + at * (LOSSES + 1))
                .map_err(|finding| finding.after(&trouble))?;
            report.crash_count += 1;
            if machine.beneath().is_none() {
                break;
            }
        }
        if is_over {
            return Ok(());
        }
    }
    Ok(())
}

/// What is made to fail beneath a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Operation,
    Read,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Read => "read",
        }
    }

    fn order(self, beneath: &CrashDisk, at: u64) {
        match self {
            Self::Operation => beneath.fail_at(at),
            Self::Read => beneath.fail_read_at(at),
        }
    }

    /// What is lost after a read that failed was not lost by a crash.
    fn blamed_in(self, mut finding: Finding) -> Finding {
        if self == Self::Read && finding.promise == Promise::AcknowledgedStays {
            finding.promise = Promise::FailedReadsAreErrors;
        }
        finding
    }
}

/// Each operation, or each look at something, fails once beneath. The log may say so, and is asked once
/// more; or it may say that all is well, and that must be so.
fn fail_everywhere<M: Machine>(
    make: &impl Fn() -> M,
    store: &dyn LogStore,
    fault: Fault,
    report: &mut Report,
) -> Result<(), Finding> {
    let ops = script();
    for at in 0.. {
        for number in 0..=2 {
            let mut machine = make();
            let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
            fault.order(&beneath, at);
            let blamed = |finding: Finding| {
                let what = fault.name();
                let trouble = format!("the script, {what} {at} beneath failed, then loss {number}");
                fault.blamed_in(finding).after(trouble)
            };
            let (mut run, _) =
                begin(&mut machine, store, &ops, || beneath.has_failed()).map_err(blamed)?;
            if !beneath.has_failed() {
                return Ok(());
            }
            if let Some(run) = &mut run
                && !run.in_flight.is_empty()
            {
                // Whether that is refused or done, the next start shows the truth of it.
                let again = Op::Persist(run.in_flight.clone());
                if let Err(Trouble::Wrong(finding)) = run.act(&again, &mut machine) {
                    return Err(blamed(finding));
                }
            }
            judge_and_go_on(&mut machine, store, run.as_mut(), number).map_err(blamed)?;
            report.fault_count += 1;
        }
    }
    Ok(())
}

/// No read gives much: not while the log is at work, and not to the start after a crash.
fn read_in_pieces<M: Machine>(
    make: &impl Fn() -> M,
    store: &dyn LogStore,
    report: &mut Report,
) -> Result<(), Finding> {
    let cases = SHORT_READS.iter().flat_map(|size_max| [(*size_max, 0), (*size_max, 1)]);
    for (size_max, number) in cases {
        let mut machine = make();
        let Some(beneath) = machine.beneath() else { return Ok(()) };
        beneath.shorten_reads(size_max);
        let short = |mut finding: Finding| {
            finding.promise = Promise::ShortReadsAreReadOn;
            finding.after(format!("the script, no read beneath giving more than {size_max} bytes"))
        };
        let (run, _) = begin(&mut machine, store, &script(), || false).map_err(short)?;
        let Some(mut run) = run else { return Ok(()) };
        run.end();
        machine.crash(loss(number));
        if let Some(beneath) = machine.beneath() {
            beneath.shorten_reads(size_max);
        }
        reopen(&mut machine, store, Some(&run)).map_err(short)?;
        report.short_read_count += 1;
    }
    Ok(())
}

/// Each look at something fails once for the start after a crash.
fn fail_a_start<M: Machine>(
    make: &impl Fn() -> M,
    store: &dyn LogStore,
    report: &mut Report,
) -> Result<(), Finding> {
    for number in [0, 1] {
        let mut machine = make();
        let (Some(mut run), _) = begin(&mut machine, store, &script(), || false)? else {
            return Ok(());
        };
        run.end();
        machine.crash(loss(number));
        for read in 0.. {
            let Some(beneath) = machine.beneath().cloned() else { return Ok(()) };
            beneath.fail_read_at(beneath.read_count() + read);
            let trouble = format!("the script, read {read} of a start failed");
            if let Ok((_, shown)) = Run::open(store, &mut machine) {
                run.judge(&shown, "at that start").map_err(|mut finding| {
                    finding.promise = Promise::FailedReadsAreErrors;
                    finding.after(&trouble)
                })?;
            }
            let is_over = !beneath.has_failed();
            machine.crash(Crash::Kill);
            reopen(&mut machine, store, Some(&run)).map_err(|finding| finding.after(&trouble))?;
            machine.crash(Crash::Kill);
            report.fault_count += 1;
            if is_over {
                break;
            }
        }
    }
    Ok(())
}

/// A log lives through crashes of every kind, and goes on each time with what it has.
fn live<M: Machine>(
    machine: &mut M,
    store: &dyn LogStore,
    seed: u64,
    report: &mut Report,
) -> Result<(), Finding> {
    let mut rng = Rng::new(seed);
    let (mut run, _) = begin(machine, store, &[], || false)?;
    for crash in 0..CRASHES_OF_A_LIFE {
        let trouble = format!("life {seed}, crash {crash}");
        let Some(alive) = &mut run else { return Ok(()) };
        let beneath = machine.beneath().cloned();
        if let Some(beneath) = &beneath {
            let at = beneath.change_count() + rng.below(CUT_WITHIN);
            match rng.below(4) {
                0 | 1 => beneath.cut_power_at(at),
                2 => beneath.fail_at(at),
                _ => {}
            }
        }
        let is_broken = || beneath.as_ref().is_some_and(|it| it.is_off() || it.has_failed());
        for _ in 0..rng.below(OPS_OF_A_CRASH) {
            let op = random_op(&alive.state, &mut rng);
            match alive.act(&op, machine) {
                Ok(()) => {}
                Err(Trouble::Failed(_)) if is_broken() => break,
                Err(Trouble::Failed(error)) => {
                    let finding = Finding::new(Promise::NoErrorWithoutCause, error.to_string());
                    return Err(finding.after(trouble));
                }
                Err(Trouble::Wrong(finding)) => return Err(finding.after(trouble)),
            }
        }
        alive.end();
        machine.crash(loss(rng.below(1 << 32)));
        let (next, _) = reopen(machine, store, Some(alive)).map_err(|it| it.after(&trouble))?;
        run = Some(next);
        report.crash_count += 1;
    }
    Ok(())
}
