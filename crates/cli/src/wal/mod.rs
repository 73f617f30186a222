//! `quorate wal`: looks at a node's log, offline and read-only, and says what a start would make of it.
//! What that is, is the log's decision; here are the flags and the verdict's exit status.

mod holder;
mod show;
mod words;

use crate::client::Format;
use anyhow::{Context, bail, ensure};
use quorate::LogNote;
use quorate::core::LogIndex;
use quorate::wal::{Disk, ReadOnlyDisk, Verdict, Wal as Log, inspect};
use show::Show;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  quorate wal verify n1.quorate                     would a start take this log as it is?
  quorate wal inspect n1.quorate                    everything, for people
  quorate wal inspect n1.quorate --from 4711 --limit 20
  quorate wal inspect n1.quorate --json | jq 'select(.kind == \"command\") | .words'
The folder is a node's data folder, or that of its log, wherever it is. Nothing is written, and no lock is taken: of a log
that a server writes to meanwhile, the end may look torn. It says so if a server has the folder.";

/// Looks at a node's log.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Wal {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Shows all that is in a log, and ends with what a start would make of it
    #[command(after_help = AFTER_INSPECT)]
    Inspect(Inspect),
    /// Says what a start would make of a log; ends with status 0 only if it would take it as it is
    #[command(after_help = AFTER_VERIFY)]
    Verify(Verify),
}

const AFTER_INSPECT: &str = "\
The two copies of the hard state (term, vote, bounds) come first, then the mark that says how far the log
is durable, then the records of each segment in the order in which they were written, those that a later
one truncates included, and why they stop. With --json each line is an object; its `type` says what it is.";

const AFTER_VERIFY: &str = "\
whole     a start takes the log as it is (status 0)
torn      a crash interrupted the last write, of which nobody was told: a start cuts it off and goes on
wounded   durable entries are lost, and it is known which entry the log went on to: a start refuses
refused   durable entries are lost, or files contradict each other: a start refuses";

#[derive(Debug, clap::Args)]
struct Place {
    /// A node's data folder, or the wal in it
    #[arg(value_name = "FOLDER", required_unless_present = "data_dir")]
    dir: Option<PathBuf>,
    /// The same, by the name that it has with `quorate serve`
    #[arg(long, value_name = "FOLDER", conflicts_with = "dir")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Inspect {
    #[command(flatten)]
    place: Place,
    /// For programs: one JSON object a line
    #[arg(long)]
    json: bool,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t = Format::Simple, value_name = "FORMAT")]
    write_out: Format,
    /// Leave out the entries before this index
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    from: u64,
    /// Show so many records at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    place: Place,
}

/// Runs a verb.
///
/// # Errors
///
/// If there is no log, or `verify` finds one that a start would not take as it is.
pub(crate) fn run(wal: &Wal) -> anyhow::Result<()> {
    match &wal.verb {
        Verb::Inspect(verb) => verb.run(),
        Verb::Verify(verb) => verb.run(),
    }
}

impl Place {
    /// The folder with the log itself.
    fn log_dir(&self) -> anyhow::Result<PathBuf> {
        let given = self.dir.as_ref().or(self.data_dir.as_ref()).context("which folder?")?;
        if let Some(note) = LogNote::read(&ReadOnlyDisk, given)? {
            let noted = note.dir.display();
            ensure!(
                note.dir.is_dir(),
                "the log of {} was in {noted}, which is no folder: if it was moved, name the folder where \
                 it is now",
                given.display()
            );
            return Ok(note.dir);
        }
        let below = given.join("wal");
        for dir in [&below, given] {
            let has_log = Log::exists(&ReadOnlyDisk, dir);
            if has_log.with_context(|| format!("looking into {}", dir.display()))? {
                return Ok(dir.clone());
            }
        }
        // One whose hard state is gone is looked at where its segments are.
        let dir = if below.is_dir() { &below } else { given };
        ensure!(dir.is_dir(), "{} is no folder", given.display());
        Ok(dir.clone())
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(ReadOnlyDisk)
}

fn warn_if_held(dir: &Path) {
    if let Some(pid) = holder::of(dir) {
        eprintln!(
            "Note: process {pid} has this folder; what it writes meanwhile may be seen half. Stop it \
             for an answer that counts."
        );
    }
}

impl Inspect {
    fn run(&self) -> anyhow::Result<()> {
        let dir = self.place.log_dir()?;
        warn_if_held(&dir);
        let is_json = self.json || self.write_out == Format::Json;
        let mut show = Show::new(is_json, LogIndex::new(self.from), self.limit);
        let verdict = inspect(&disk(), &dir, &mut |sight| show.sight(&sight));
        show.verdict(&verdict)
    }
}

impl Verify {
    fn run(&self) -> anyhow::Result<()> {
        let dir = self.place.log_dir()?;
        warn_if_held(&dir);
        let mut record_count = 0_u64;
        let verdict = inspect(&disk(), &dir, &mut |sight| {
            record_count += u64::from(matches!(sight, quorate::wal::Sight::Record(_)));
        });
        match verdict {
            Verdict::Whole { .. } => {
                println!("{}: {record_count} records, {verdict}", dir.display());
                Ok(())
            }
            Verdict::Torn { .. } | Verdict::Wounded { .. } | Verdict::Refused(_) => {
                bail!("{}: {verdict}", dir.display())
            }
        }
    }
}
