//! A whole test program for a state machine of your own: `fn main() { examine(..) }`. Reads the
//! command line as `quorate sim` does, in fewer words.

use super::{Examined, Subject};
use crate::campaign::{Campaign, Watch};
use crate::case::Case;
use crate::cluster::ClusterOptions;
use crate::record::{Detail, Recording};
use crate::report::{campaign_text, progress_line, stuck_text, summary_text, violation_text};
use crate::run::{World, Worlds};
use crate::shrink::shrink;
use crate::timeline::{LEGEND, Look, timeline};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// How many worlds are run if the command line says nothing.
const SEED_COUNT: u64 = 200;
/// How many attempts it may take to make a failing world small.
const ATTEMPT_COUNT_MAX: u32 = 600;

/// What the command line asks for.
struct Wish {
    case: Case,
    seed_count: Option<u64>,
    is_trace: bool,
    is_shrink: bool,
}

/// Runs worlds with your state machine as the command line says, and prints what came of it:
/// nothing or `--seeds N` for many worlds, `--seed S` for one, with `--trace` to read it and
/// `--shrink` to make it small. `program` is how the reader starts this program again.
#[must_use]
pub fn examine<S: Subject>(program: &str, subject: impl Fn() -> S + Sync) -> ExitCode {
    let worlds = |world: &World| {
        let options = ClusterOptions::swarm(world.seed, world.node_count);
        (options, Examined::new(subject()))
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wish = match wish(&arguments) {
        Ok(wish) => wish,
        Err(reason) => {
            eprintln!("{reason}\nalso: --seeds, --trace, --shrink");
            return ExitCode::FAILURE;
        }
    };
    let (text, is_well) = match wish.seed_count {
        Some(seed_count) => many(&wish, seed_count, &worlds),
        None => one(&wish, &worlds),
    };
    // A reader that went away does not change how it ended.
    let _ = std::io::stdout().write_all(text.replace("quorate sim", program).as_bytes());
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wish(words: &[String]) -> Result<Wish, String> {
    let mut rest = Vec::new();
    let (mut seed_count, mut is_trace, mut is_shrink) = (None, false, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => is_trace = true,
            "--shrink" => is_shrink = true,
            "--seeds" => {
                let count = words.next().and_then(|count| count.parse().ok());
                seed_count = Some(count.ok_or("--seeds needs a number")?);
            }
            _ => rest.push(word.as_str()),
        }
    }
    let case: Case = rest.join(" ").parse().map_err(|error| format!("{error}"))?;
    let is_one = rest.contains(&"--seed") || is_trace || is_shrink;
    let seed_count = seed_count.or((!is_one).then_some(SEED_COUNT));
    Ok(Wish { case, seed_count, is_trace, is_shrink })
}

fn many<W: Worlds>(wish: &Wish, seed_count: u64, worlds: &W) -> (String, bool) {
    let mut campaign = Campaign::new(wish.case.world, seed_count);
    campaign.changes = wish.case.changes.clone();
    let mut text = String::new();
    let watch = Watch {
        progress: &mut |standing| eprintln!("{}", progress_line(standing)),
        violation: &mut |violation| text.push_str(&violation_text(violation)),
        stuck: &mut |case, age| eprint!("{}", stuck_text(case, age)),
        stop: &AtomicBool::new(false),
    };
    match campaign.run(worlds, watch) {
        Ok(end) => {
            text.push_str(&campaign_text(&end));
            (text, end.progress.failure_count == 0)
        }
        Err(error) => (format!("{error}\n"), false),
    }
}

fn one<W: Worlds>(wish: &Wish, worlds: &W) -> (String, bool) {
    let (mut case, mut text) = (wish.case.clone(), String::new());
    if wish.is_shrink
        && let Err(violation) = case.run(worlds)
    {
        let (small, _) = shrink(*violation, worlds, ATTEMPT_COUNT_MAX, &mut |progress| {
            if progress.attempt_count.is_multiple_of(50) {
                eprintln!("attempt {}", progress.attempt_count);
            }
        });
        case = small.case;
    }
    let (ended, record) = case.record(worlds, Recording::of(Detail::Story));
    if wish.is_trace || wish.is_shrink {
        let lines = timeline(&record, Look::default()).join("\n");
        text = format!("{LEGEND}\n\n{lines}\n\n");
    }
    match ended {
        Ok(summary) => {
            text.push_str(&case.to_string());
            text.push_str(": no violation\n");
            text.push_str(&summary_text(&summary));
            (text, true)
        }
        Err(violation) => {
            text.push_str(&violation_text(&violation));
            (text, false)
        }
    }
}
