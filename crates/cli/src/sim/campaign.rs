//! `quorate sim --seeds`: a campaign with progress, a clean stop at Ctrl-C, and a report. What a
//! campaign does is the simulator's part.

use super::Found;
use super::flags::{Format, Options};
use super::screen::Screen;
use anyhow::Context;
use quorate_sim::{
    Campaign, CampaignEnd, TraceHash, Violation, Watch, campaign_json, campaign_markdown,
    campaign_text, kv_world, progress_line, stuck_text, violation_json, violation_text,
};
use std::cell::RefCell;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// How a program ends that Ctrl-C ended.
const EXIT_BY_SIGINT: i32 = 130;

/// Runs a campaign and prints its report.
///
/// # Errors
///
/// If a world failed, or the progress file cannot be used.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let campaign = campaign(options)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_at_ctrl_c(Arc::clone(&stop))?;
    let screen = RefCell::new(Screen::new());
    let watch = Watch {
        progress: &mut |standing| screen.borrow_mut().update(|| progress_line(standing)),
        violation: &mut |violation| {
            screen.borrow_mut().clear();
            // A reader that went away does not end a campaign.
            let _ = tell(options.format, violation);
        },
        stuck: &mut |case, age| {
            screen.borrow_mut().clear();
            eprint!("{}", stuck_text(case, age));
        },
        stop: &stop,
    };
    let end = campaign.run(&kv_world, watch)?;
    screen.borrow_mut().clear();
    report(options, &campaign, &end)?;
    match end.progress.failure_count {
        0 => Ok(()),
        1 => Err(Found("a judge found something in one world".to_owned()).into()),
        count => Err(Found(format!("a judge found something in {count} worlds")).into()),
    }
}

fn campaign(options: &Options) -> anyhow::Result<Campaign> {
    let cpus = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let case = options.case();
    let build = match &options.progress_file {
        Some(_) => build()?,
        None => String::new(),
    };
    Ok(Campaign {
        changes: case.changes,
        jobs: options.jobs.map_or_else(cpus, NonZeroUsize::get),
        keeps_going: options.keep_going,
        file: options.progress_file.clone(),
        build,
        may_be_another_build: options.another_build,
        ..Campaign::new(case.world, options.seeds)
    })
}

/// Names this build: its version, and a hash of the program itself.
fn build() -> anyhow::Result<String> {
    let program = std::env::current_exe().and_then(std::fs::read).context("reading ourselves")?;
    let mut hash = TraceHash::default();
    hash.bytes(&program);
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hash.value()))
}

/// The first Ctrl-C lets the running worlds end; the second ends everything.
fn stop_at_ctrl_c(stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            let [interrupt, terminate] = &mut signals;
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            stop.store(true, Ordering::Relaxed);
            let _ = writeln!(io::stderr(), "\nstopping after the running worlds");
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            exit(EXIT_BY_SIGINT);
        });
    });
    Ok(())
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
    let (first, count) = (campaign.first.seed, campaign.seed_count);
    let last = first.saturating_add(count.saturating_sub(1));
    let found = match end.progress.failure_count {
        0 => "no violation",
        _ => "VIOLATIONS",
    };
    writeln!(out, "seeds {first} to {last}, {}: {found}", campaign.identity().options)?;
    write!(out, "{}", campaign_text(end))?;
    if end.left_count > 0 && campaign.file.is_some() {
        writeln!(out, "stopped; the same command goes on")?;
    }
    Ok(())
}
