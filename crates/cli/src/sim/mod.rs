//! `quorate sim`: hands the command line to the simulator and shows what it says: one world, its
//! story, a smaller one that fails alike, or a campaign. Knows nothing of what is simulated.

mod campaign;
mod flags;
mod screen;
mod story;

pub(crate) use flags::Options;

use anyhow::bail;
use flags::Format;
use quorate_sim::{
    Ended, Record, Violation, event_json, kv_world, shrink, summary_json, summary_text, timeline,
    violation_json, violation_text,
};
use screen::Screen;
use std::io::{self, Write};

/// A judge found something. Every other error says that there was no result.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Found(String);

/// Simulates and prints a report.
///
/// # Errors
///
/// [`Found`]; anything else if flags do not go together, or a file cannot be used.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    options.check()?;
    if options.is_campaign() {
        return campaign::run(options);
    }
    let case = options.case();
    let (ended, record) = match options.recording() {
        Some(recording) => {
            let (ended, record) = case.record(&kv_world, recording);
            (ended, Some(record))
        }
        None => (case.run(&kv_world), None),
    };
    match ended {
        Err(violation) if options.shrink => make_small(options, *violation),
        Ok(_) if options.shrink => bail!("nothing to make small: `{case}` ends well"),
        ended => show(options, &ended, record.as_ref()),
    }
}

/// Shows one world; an error if it ended badly.
fn show(options: &Options, ended: &Ended, record: Option<&Record>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match options.format {
        Format::Json => {
            for event in record.iter().flat_map(|record| &record.events) {
                writeln!(out, "{}", event_json(event))?;
            }
            match ended {
                Ok(summary) => writeln!(out, "{}", summary_json(summary))?,
                Err(violation) => writeln!(out, "{}", violation_json(violation))?,
            }
        }
        Format::Text | Format::Markdown => {
            if let Some(record) = record {
                story::write(&mut out, &timeline(record, options.look()))?;
            }
            match ended {
                Ok(summary) => {
                    writeln!(out, "{}: no violation", options.case())?;
                    write!(out, "{}", summary_text(summary))?;
                }
                Err(violation) => write!(out, "{}", told_once(options, violation, record))?,
            }
        }
    }
    match ended {
        Ok(_) => Ok(()),
        Err(violation) => Err(Found(violation.to_string()).into()),
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
fn make_small(options: &Options, violation: Violation) -> anyhow::Result<()> {
    // The worlds that are tried may panic like the first one; that is in their breach.
    std::panic::set_hook(Box::new(|_| {}));
    let mut screen = Screen::new();
    screen.line(&format!("{}: {}", violation.case, violation.breach.kind()));
    let (small, attempt_count) = shrink(violation, &kv_world, options.attempts, &mut |progress| {
        screen.update(|| {
            format!(
                "attempt {} of at most {}, {}: so far {}",
                progress.attempt_count,
                progress.attempt_count_max,
                progress.trying,
                story::size(progress.best)
            )
        });
    });
    screen.line(&format!("{attempt_count} attempts: {}", story::size(&small)));
    let recording = options.recording().unwrap_or_else(flags::story);
    let (ended, record) = small.case.record(&kv_world, recording);
    show(options, &ended, Some(&record))
}
