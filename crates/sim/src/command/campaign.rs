//! A campaign from the command line: progress, a clean stop, and a report. What a campaign does is in
//! `crate::campaign`; what is simulated in it, nobody here knows.

use super::flags::{Format, Options};
use super::screen::Screen;
use super::{CommandError, all_decided, stop};
use crate::campaign::{Campaign, CampaignEnd, Watch};
use crate::hash::TraceHash;
use crate::json::violation_json;
use crate::report::{
    campaign_json, campaign_markdown, campaign_text, progress_line, stuck_text, violation_text,
};
use crate::run::{Violation, Worlds};
use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Runs a campaign and prints its report.
///
/// # Errors
///
/// If a world failed, or the progress file cannot be used.
pub(super) fn run<W: Worlds>(options: &Options, worlds: &W) -> Result<(), CommandError> {
    let campaign = campaign(options)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop::stop_at_ctrl_c(Arc::clone(&stop)).map_err(CommandError::Signals)?;
    let screen = RefCell::new(Screen::new());
    let watch = Watch {
        progress: &mut |standing| screen.borrow_mut().update(|| progress_line(standing)),
        violation: &mut |violation| {
            screen.borrow_mut().clear();
            // A reader that went away does not end a campaign.
            let _ = tell(options.format, violation);
        },
        stuck: &mut |case, age, pulse| {
            screen.borrow_mut().clear();
            let _ = write!(io::stderr(), "{}", stuck_text(&worlds.command(), case, age, pulse));
        },
        abandoned: &mut |end| {
            screen.borrow_mut().clear();
            // Some worlds never end, and nothing ends them but this.
            exit(conclude(options, &campaign, end).err().map_or(0, |error| complain(&error)));
        },
        stop: &stop,
    };
    let end = campaign.run(worlds, watch)?;
    screen.borrow_mut().clear();
    conclude(options, &campaign, &end)
}

/// Says what went wrong; returns what the process ends with.
fn complain(error: &CommandError) -> i32 {
    let _ = writeln!(io::stderr(), "Error: {error}");
    i32::from(error.exit_status())
}

/// Prints the report.
fn conclude(options: &Options, campaign: &Campaign, end: &CampaignEnd) -> Result<(), CommandError> {
    let written = report(options, campaign, end);
    if let Some(error) = &end.not_written {
        // What was found counts for more than where it could not be kept.
        if end.progress.failure_count == 0 {
            return Err(Arc::clone(error).into());
        }
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let _ = writeln!(io::stderr(), "the progress of this session is not kept: {error}{cause}");
    }
    match (end.progress.failure_count, end.left_count) {
        (0, 0) => {
            written?;
            all_decided(&end.progress.total)
        }
        (0, left_count) => Err(CommandError::Stopped { left_count }),
        (count, _) => Err(CommandError::Found { count }),
    }
}

fn campaign(options: &Options) -> Result<Campaign, CommandError> {
    let cpus = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let case = options.case();
    let build = match &options.progress_file {
        Some(_) => build()?,
        None => String::new(),
    };
    let new = Campaign::new(case.world, options.seeds);
    Ok(Campaign {
        changes: case.changes,
        jobs: options.jobs.unwrap_or_else(cpus),
        keeps_going: options.keep_going,
        file: options.progress_file.clone(),
        build,
        may_be_another_build: options.another_build,
        hangs_after: options.hang_after.map_or(new.hangs_after, Duration::from_secs),
        ..new
    })
}

/// Names this build: its version, and a hash of the program itself.
fn build() -> Result<String, CommandError> {
    let program = std::env::current_exe().and_then(std::fs::read);
    let program = program.map_err(CommandError::Program)?;
    let mut hash = TraceHash::default();
    hash.bytes(&program);
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hash.value()))
}

fn tell(format: Format, violation: &Violation) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", violation_json(violation)),
        Format::Text => write!(out, "{}", violation_text(violation)),
        Format::Markdown => Ok(()),
    }
}

fn report(options: &Options, campaign: &Campaign, end: &CampaignEnd) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match options.format {
        Format::Json => return writeln!(out, "{}", campaign_json(end)),
        Format::Markdown => return write!(out, "{}", campaign_markdown(end)),
        Format::Text => {}
    }
    let found = match (end.progress.failure_count, end.left_count) {
        (0, 0) => "no violation".to_owned(),
        (0, left_count) => format!("no violation so far, {left_count} worlds are left"),
        _ => "VIOLATIONS".to_owned(),
    };
    let (seeds, options) = (end.progress.done.to_string(), campaign.identity().options);
    writeln!(out, "{seeds}, {options}: {found}")?;
    write!(out, "{}", campaign_text(end))?;
    if end.left_count > 0 && campaign.file.is_some() {
        match &end.not_written {
            None => writeln!(out, "stopped; the same command goes on")?,
            Some(_) => writeln!(
                out,
                "stopped; the progress file could not be written: the same command goes on from \
                 what it held last, and runs again what came after"
            )?,
        }
    }
    Ok(())
}
