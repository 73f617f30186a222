//! The command line of the simulator, for `quorate sim` and for programs of your own
//! ([`examine`](crate::examine)): one world, its story, a smaller one that fails alike, or a
//! campaign. Knows nothing of what is simulated.

mod campaign;
mod failure;
mod flags;
mod replay;
mod screen;
mod stop;
mod story;
mod vigil;

pub use failure::{CommandError, FlagsError};
pub use flags::Options;
pub use replay::ReplayError;

use crate::campaign::PATIENCE;
use crate::case::Case;
use crate::json::{cut_short_json, event_json, summary_json, violation_json};
use crate::pulse::Pulse;
use crate::record::Record;
use crate::report::{summary_text, violation_text};
use crate::run::{Ended, Summary, Violation, Worlds};
use crate::shrink::shrink;
use crate::timeline::timeline;
use flags::Format;
use screen::Screen;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Simulates as the flags say, and prints a report on standard output; how far it is goes to
/// standard error.
///
/// # Errors
///
/// [`CommandError`]: what a judge found, or why there is no result.
pub fn run<W: Worlds>(options: &Options, worlds: &W) -> Result<(), CommandError> {
    options.check()?;
    if let Some(path) = &options.replay {
        return replay::replay(path, options.told(), &mut io::stdout().lock());
    }
    if options.is_campaign() {
        return campaign::run(options, worlds);
    }
    let case = options.case();
    let pulse: Arc<Pulse> = Arc::default();
    let run = || match options.recording() {
        Some(recording) => {
            let (ended, record) = case.record_watched(worlds, recording, &pulse);
            (ended, Some(record))
        }
        None => (case.run_watched(worlds, &pulse), None),
    };
    let (ended, record) = vigil::watched(&worlds.command(), &case, &pulse, PATIENCE, run);
    match ended {
        Err(violation) if options.shrink => make_small(options, *violation, worlds),
        Ok(_) if options.shrink => Err(CommandError::NothingToShrink(Box::new(case))),
        ended => show(options, &case, ended, record.as_ref()),
    }
}

/// Shows one world; an error if it ended badly, above all others.
fn show(
    options: &Options,
    case: &Case,
    ended: Ended,
    record: Option<&Record>,
) -> Result<(), CommandError> {
    let written = write_world(options, case, &ended, record);
    let summary = ended.map_err(CommandError::FoundOne)?;
    written?;
    all_decided(&summary)
}

/// An error if a judge gave up.
fn all_decided(summary: &Summary) -> Result<(), CommandError> {
    match summary.findings.undecided_count {
        0 => Ok(()),
        count => Err(CommandError::Undecided { count }),
    }
}

fn write_world(
    options: &Options,
    case: &Case,
    ended: &Ended,
    record: Option<&Record>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match options.format {
        Format::Json => {
            for event in record.iter().flat_map(|record| &record.events) {
                writeln!(out, "{}", event_json(event))?;
            }
            if record.is_some_and(|record| record.is_cut_short) {
                writeln!(out, "{}", cut_short_json())?;
            }
            match ended {
                Ok(summary) => writeln!(out, "{}", summary_json(summary)),
                Err(violation) => writeln!(out, "{}", violation_json(violation)),
            }
        }
        Format::Text | Format::Markdown => {
            if let Some(record) = record {
                story::write(&mut out, &timeline(record, options.look()))?;
            }
            match ended {
                Ok(summary) => {
                    writeln!(out, "{case}: no violation")?;
                    write!(out, "{}", summary_text(summary))
                }
                Err(violation) => write!(out, "{}", told_once(options, violation, record)),
            }
        }
    }
}

/// A violation in words, without the end of its story if the whole story was shown, and without
/// the advice that was followed.
fn told_once(options: &Options, violation: &Violation, record: Option<&Record>) -> String {
    let mut text = violation_text(violation);
    if let Some(advice) = text.find("shrink it:").filter(|_| options.shrink) {
        text.truncate(advice);
    }
    match (record, text.find("VIOLATION")) {
        (Some(_), Some(start)) => text.get(start..).unwrap_or_default().to_owned(),
        (Some(_) | None, _) => text,
    }
}

/// Makes a failing world small, shows what remains, and how to see it again.
fn make_small<W: Worlds>(
    options: &Options,
    violation: Violation,
    worlds: &W,
) -> Result<(), CommandError> {
    // The worlds that are tried may panic like the first one; that is in their breach.
    std::panic::set_hook(Box::new(|_| {}));
    let mut screen = Screen::new();
    screen.line(&format!("{}: {}", violation.case, violation.breach.kind()));
    let stop = Arc::new(AtomicBool::new(false));
    stop::stop_at_ctrl_c(Arc::clone(&stop)).map_err(CommandError::Signals)?;
    let (small, attempt_count) = shrink(violation, worlds, options.attempts, &mut |progress| {
        screen.update(|| {
            format!(
                "attempt {} of at most {}, {}: so far {}",
                progress.attempt_count,
                progress.attempt_count_max,
                progress.trying,
                story::size(progress.best)
            )
        });
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    screen.line(&format!("{attempt_count} attempts: {}", story::size(&small)));
    let recording = options.recording().unwrap_or_else(flags::story);
    let (ended, record) = small.case.record(worlds, recording);
    show(options, &small.case, ended, Some(&record))
}
