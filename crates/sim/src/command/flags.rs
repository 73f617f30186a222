//! The flags of `quorate sim`, and what they mean for the simulator. Runs nothing.

use super::FlagsError;
use super::replay::Told;
use crate::case::{Case, Changes};
use crate::kinds::{FAULT_KINDS, FaultKind, SABOTAGES, UnknownName};
use crate::ordinals::Ordinals;
use crate::record::{Detail, Recording};
use crate::run::World;
use crate::timeline::Look;
use clap::builder::RangedU64ValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use quorate_core::Time;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Fewer columns cut everything off a line of the story.
const COLUMNS_MIN: usize = 20;

/// Each is a thread.
const JOBS_COUNT_MAX: u64 = 1_024;
/// More ask faster than a world goes.
const CLIENTS_COUNT_MAX: u64 = 1_000;

const EXAMPLES: &str = "\
One world:
  quorate sim --seed 7                       its figures and the hash of everything that happened
  quorate sim --seed 7 --trace               its story: one column a node, messages as arrows
  quorate sim --seed 7 --trace all --from 3.2 --to 3.4
                                             every message and write of a part of it
Many worlds:
  quorate sim --seeds 1000                   seeds 1 to 1000; stops at the first that fails
  quorate sim --first 5001 --seeds 100000 --progress-file c.json --keep-going
                                             a long campaign. Ctrl-C stops it; the same command goes
                                             on from where it was
A real node that stopped:
  quorate sim --replay poisoned.recording    what happened to it, from the file that it left; with
                                             `--trace all` every event
A world that fails:
  the last lines say what to paste. With --trace they tell the story up to the breach; with --shrink
  they make it small: fewer steps, nodes, clients, kinds of trouble, single troubles.
  quorate sim --seed 2 --sabotage early-acks --shrink
                                             try it: a runtime that acknowledges too early

The same seed, flags and build give the same world on any machine. It exits with 1 if a judge found
something; with 2 if there was nothing to judge, or not all of it: wrong flags, a file that cannot be
used, a campaign that was stopped.
docs/simulation.md says more, also about testing a state machine of your own.";

/// Runs clusters in virtual time, under faults, with judges.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Decides everything; the first one, if there are many
    #[arg(long, visible_alias = "first", default_value_t = 1)]
    seed: u64,
    /// Runs a campaign: so many worlds, with rising seeds
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) seeds: u64,
    /// How many nodes, all of them voters [default: 1 to 7 voters, and learners, as the seed says]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: Option<u64>,
    /// How many things happen before the world is healed
    #[arg(long, default_value_t = 20_000, value_name = "COUNT")]
    steps: u64,
    /// How many worlds at the same time [default: one a CPU]
    #[arg(long, value_name = "COUNT", value_parser = count(1..=JOBS_COUNT_MAX), help_heading = "Campaigns")]
    pub(super) jobs: Option<usize>,
    /// Keeps the progress here, and goes on from here if the file exists
    #[arg(long, value_name = "FILE", help_heading = "Campaigns")]
    pub(super) progress_file: Option<PathBuf>,
    /// Goes on although another build wrote the progress file
    #[arg(long, requires = "progress_file", help_heading = "Campaigns")]
    pub(super) another_build: bool,
    /// Goes on after a world that fails, and lists all of them at the end
    #[arg(long, help_heading = "Campaigns")]
    pub(super) keep_going: bool,
    /// Counts a world that stays in one step for longer as a failure: it hangs [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Campaigns")]
    pub(super) hang_after: Option<u64>,
    /// Tells the story: roles, elections, commits, troubles, clients; `all`: every message, too
    #[arg(long, value_enum, value_name = "DETAIL", num_args = 0..=1, default_missing_value = "story", help_heading = "Reading a world")]
    trace: Option<Tell>,
    /// Tells only what happens from this second of virtual time on
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Reading a world")]
    from: Option<Time>,
    /// Tells only what happens up to this second of virtual time
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Reading a world")]
    to: Option<Time>,
    /// Cuts the story's lines to this width, at least 20 [default: the terminal's]
    #[arg(long, value_name = "COLUMNS", value_parser = columns, help_heading = "Reading a world")]
    width: Option<usize>,
    /// What to print: text, one JSON object a line, or (for campaigns) a Markdown table
    #[arg(long, value_enum, default_value = "text", help_heading = "Reading a world")]
    pub(super) format: Format,
    /// Looks for a smaller world that fails in the same way, and tells its story
    #[arg(long, help_heading = "Making a world small")]
    pub(super) shrink: bool,
    /// How many worlds --shrink may run
    #[arg(
        long,
        default_value_t = 600,
        value_name = "COUNT",
        requires = "shrink",
        help_heading = "Making a world small"
    )]
    pub(super) attempts: u32,
    /// Switches kinds of trouble off
    #[arg(long, value_name = "KINDS", value_parser = Kinds::faults, default_value = "", hide_default_value = true, long_help = kinds("Switches kinds of trouble off: `all`, or some of these, with commas; `all,-loss` for all but that:", FAULT_KINDS), help_heading = "Making a world small")]
    without: Kinds,
    /// Leaves single troubles out, by the numbers that the story gives them: 3,9-12
    #[arg(long, value_name = "ORDINALS", default_value_t = Ordinals::default(), hide_default_value = true, help_heading = "Making a world small")]
    skip: Ordinals,
    /// How many clients ask [default: drawn from the seed]
    #[arg(long, value_name = "COUNT", value_parser = count(0..=CLIENTS_COUNT_MAX), help_heading = "Making a world small")]
    clients: Option<usize>,
    /// How many requests they make together [default: as many as they like]
    #[arg(long, value_name = "COUNT", help_heading = "Making a world small")]
    requests: Option<u64>,
    /// Another order of chance for the same troubles
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true,
        value_parser = clap::value_parser!(u64).range(..=Changes::SCHEDULE_MAX),
        help_heading = "Making a world small"
    )]
    schedule: u64,
    /// Lets machines do what none may do, to see the judges notice
    #[arg(long, value_name = "KINDS", value_parser = Kinds::sabotages, default_value = "", hide_default_value = true, long_help = kinds("Lets machines do what none may do, to see the judges notice:", SABOTAGES), help_heading = "Making a world small")]
    sabotage: Kinds,
    /// Plays what a real node recorded, and looks whether it leads to the same state
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "seed", "seeds", "nodes", "steps", "jobs", "progress_file", "keep_going", "hang_after",
            "width", "format", "shrink", "without", "skip", "clients", "requests", "schedule",
            "sabotage",
        ],
        help_heading = "Reading what happened to a real node"
    )]
    pub(super) replay: Option<PathBuf>,
}

/// A list of kinds, such as `pauses,loss` or `all`.
#[derive(Clone, Debug)]
struct Kinds(Vec<&'static FaultKind>);

impl Kinds {
    fn faults(list: &str) -> Result<Self, UnknownName> {
        FaultKind::named(list, FAULT_KINDS).map(Self)
    }

    fn sabotages(list: &str) -> Result<Self, UnknownName> {
        FaultKind::named(list, SABOTAGES).map(Self)
    }
}

/// How much of a story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tell {
    Story,
    All,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
    Markdown,
}

impl Options {
    /// Reads a command line that runs so many worlds if it does not choose one.
    ///
    /// # Errors
    ///
    /// What clap says of flags that are not ours.
    pub(crate) fn of_many(matches: &ArgMatches, seed_count: u64) -> Result<Self, clap::Error> {
        let mut options = Self::from_arg_matches(matches)?;
        let is_given = |flag| matches.value_source(flag) == Some(ValueSource::CommandLine);
        if !["seeds", "seed", "trace", "shrink"].into_iter().any(is_given) {
            options.seeds = seed_count;
        }
        Ok(options)
    }

    /// # Errors
    ///
    /// [`FlagsError`] if flags do not go together.
    pub(crate) fn check(&self) -> Result<(), FlagsError> {
        if self.is_campaign() {
            self.check_that_none_is_for_one_world()?;
        } else {
            self.check_that_none_is_for_many()?;
        }
        let (first, count) = (self.seed, self.seeds);
        if first.checked_add(count.saturating_sub(1)).is_none() {
            return Err(FlagsError::NotSoManySeeds { first, count });
        }
        let is_about_a_story = self.from.is_some() || self.to.is_some() || self.width.is_some();
        let is_told = self.trace.is_some() || self.shrink || self.replay.is_some();
        if !is_told && is_about_a_story {
            return Err(FlagsError::NoStory);
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && to < from
        {
            let (from, to) = (from.as_micros(), to.as_micros());
            return Err(FlagsError::Backwards { from, to });
        }
        if !self.is_campaign() && self.format == Format::Markdown {
            return Err(FlagsError::MarkdownOfOneWorld);
        }
        Ok(())
    }

    fn check_that_none_is_for_one_world(&self) -> Result<(), FlagsError> {
        let flag = match (self.trace, self.shrink) {
            (_, true) => "--shrink",
            (Some(_), false) => "--trace",
            (None, false) => return Ok(()),
        };
        let found = match self.seeds {
            1 => "--progress-file".to_owned(),
            count => format!("--seeds {count}"),
        };
        Err(FlagsError::OneWorldOnly { flag, found })
    }

    const fn check_that_none_is_for_many(&self) -> Result<(), FlagsError> {
        let flag = match (self.jobs, self.keep_going, self.hang_after) {
            (Some(_), _, _) => "--jobs",
            (None, true, _) => "--keep-going",
            (None, false, Some(_)) => "--hang-after",
            (None, false, None) => return Ok(()),
        };
        Err(FlagsError::CampaignOnly { flag })
    }

    pub(super) const fn is_campaign(&self) -> bool {
        self.seeds > 1 || self.progress_file.is_some()
    }

    /// The world of the first seed.
    pub(super) fn case(&self) -> Case {
        let world =
            World { seed: self.seed, node_count: self.nodes.unwrap_or(0), steps: self.steps };
        let changes = Changes {
            without: self.without.0.clone(),
            skip: self.skip.clone(),
            clients: self.clients,
            requests: self.requests,
            schedule: self.schedule,
            sabotage: self.sabotage.0.clone(),
        };
        Case { world, changes }
    }

    /// What to keep of the story, if it is to be told.
    pub(super) fn recording(&self) -> Option<Recording> {
        let detail = match self.trace? {
            Tell::Story => Detail::Story,
            Tell::All => Detail::All,
        };
        let all = Recording::of(detail);
        let (from, to) = (self.from.unwrap_or(all.from), self.to.unwrap_or(all.to));
        Some(Recording { from, to, detail })
    }

    /// What to tell of a recording.
    pub(super) fn told(&self) -> Told {
        let all = Recording::of(Detail::All);
        Told {
            all: self.trace == Some(Tell::All),
            from: self.from.unwrap_or(all.from),
            to: self.to.unwrap_or(all.to),
        }
    }

    /// How a story looks on what standard output is.
    pub(super) fn look(&self) -> Look {
        let terminal = super::screen::terminal();
        let width = self.width.or_else(|| terminal.map(|terminal| terminal.width));
        Look { width, has_colour: terminal.is_some_and(|terminal| terminal.has_colour) }
    }
}

/// The whole story, in its interesting lines.
pub(super) const fn story() -> Recording {
    Recording::of(Detail::Story)
}

fn kinds(title: &str, kinds: &[FaultKind]) -> String {
    let lines: Vec<String> =
        kinds.iter().map(|kind| format!("  {:<24} {}", kind.name, kind.what)).collect();
    format!("{title}\n{}", lines.join("\n"))
}

fn count(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// A width in which a line of the story says something.
fn columns(text: &str) -> Result<usize, String> {
    let width = text.parse().ok().filter(|width| *width >= COLUMNS_MIN);
    width.ok_or_else(|| format!("expected a number of columns from {COLUMNS_MIN} on, got {text:?}"))
}

/// Seconds with a fraction, to the microsecond.
fn seconds(text: &str) -> Result<Time, String> {
    let wrong = || format!("expected seconds such as 3 or 3.25, got {text:?}");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let is_number = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 6 || !is_number {
        return Err(wrong());
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
    let micros = whole.checked_mul(1_000_000).and_then(|micros| micros.checked_add(fraction));
    micros.map(Time::from_micros).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_to_the_microsecond() {
        assert_eq!(seconds("3.25"), Ok(Time::from_micros(3_250_000)));
        assert_eq!(seconds("7"), Ok(Time::from_micros(7_000_000)));
        for text in ["", "x", "1.2345678", "-1", "1.-2", "1.+2"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
