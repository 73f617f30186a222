//! A whole test program for a state machine of your own: `fn main() { examine(..) }`. It has the
//! flags of `quorate sim`, and by the same code; only what is simulated and the help differ.

use super::{Subject, Subjects};
use crate::command::{self, CommandError, Options};
use clap::error::ErrorKind;
use clap::{Args, Command};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// How many worlds are run if the command line chooses none.
const SEED_COUNT: u64 = 200;
/// There was nothing to judge: wrong flags, a file that cannot be used.
const EXIT_WITHOUT_RESULT: u8 = 2;

/// Runs worlds with your state machine as the command line says, and prints what came of it.
/// `program` is how the reader starts this program again: every line to paste begins with it.
///
/// Without flags it runs 200 worlds. The flags are those of `quorate sim`, and `--help` teaches them:
/// `--seed 7` for one world, with `--trace` to read it and `--shrink` to make it small if it fails;
/// `--seeds 1000` for many, with `--jobs`, `--keep-going`, and `--progress-file` to stop with Ctrl-C
/// and go on later; `--format json` for other programs. Flags that do not go together are refused
/// with what to do instead.
///
/// Returns 0 if all was well, 1 if a judge found something, 2 if there is no result.
#[must_use]
pub fn examine<S: Subject>(program: &str, subject: impl Fn() -> S + Sync) -> ExitCode {
    examine_from(std::env::args_os().skip(1), program, subject)
}

/// As [`examine`], with words that do not come from the command line, without the program's name
/// before them.
#[must_use]
pub fn examine_from<S: Subject>(
    words: impl IntoIterator<Item = impl Into<OsString>>,
    program: &str,
    subject: impl Fn() -> S + Sync,
) -> ExitCode {
    let options = match parse(words.into_iter().map(Into::into), program) {
        Ok(options) => options,
        Err(words) => {
            // A reader that went away does not change how it ended.
            let _ = words.print();
            return if words.use_stderr() { EXIT_WITHOUT_RESULT.into() } else { ExitCode::SUCCESS };
        }
    };
    match command::run(&options, &Subjects::new(program, subject)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            if error.is_finding() { ExitCode::FAILURE } else { EXIT_WITHOUT_RESULT.into() }
        }
    }
}

/// The flags, or what to say instead: help, or what is wrong with them.
fn parse(words: impl Iterator<Item = OsString>, program: &str) -> Result<Options, clap::Error> {
    let mut command = program_with_flags(program);
    let words = std::iter::once(OsString::from(program)).chain(words);
    let matches = command.try_get_matches_from_mut(words)?;
    let options = Options::of_many(&matches, SEED_COUNT)?;
    options.check().map_err(|error| command.error(ErrorKind::ArgumentConflict, error))?;
    Ok(options)
}

/// The flags of `quorate sim`, of another program.
fn program_with_flags(program: &str) -> Command {
    Options::augment_args(Command::new("examine").bin_name(program))
        .about("Your state machine in clusters in virtual time, under faults, with judges.")
        .after_help(lesson(program))
        .mut_arg("seeds", |seeds| {
            let usual = format!("[default: {SEED_COUNT}; 1 with --seed, --trace or --shrink]");
            let help = format!("Runs a campaign: so many worlds, with rising seeds {usual}");
            seeds.hide_default_value(true).help(help)
        })
}

fn lesson(program: &str) -> String {
    format!(
        "\
{program} ...
  (nothing)                         200 worlds, with the seeds 1 to 200; stops at the first that fails
  --seeds 100000 --first 5001 --progress-file c.json --keep-going
                                    a long campaign. Ctrl-C stops it; the same command goes on from
                                    where it was
  --seed 7                          one world: its figures and the hash of everything that happened
  --seed 7 --trace                  its story: one column a node, messages as arrows
  --seed 7 --trace all --from 3.2 --to 3.4
                                    every message and write of a part of it
  --seed 7 --shrink                 if it fails: a smaller one that fails alike
  --seed 7 --format json            one JSON object a line, for other programs

A world that fails: the last lines say what to paste. A judge compares every answer that a client
heard with your model, run along the log alone; the others see to replicas that differ, acknowledged
commands that are lost, and everything that a log and its leaders must not do.

The same seed, flags and build give the same world on any machine. It exits with 1 if a judge found
something, with 2 if there was nothing to judge: wrong flags, a file that cannot be used.
docs/simulation.md, \"Your own state machine\", says more."
    )
}

/// Tells a person what went wrong, with its causes.
fn complain(error: &CommandError) {
    if let CommandError::Output(error) = error
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        return;
    }
    let mut text = format!("Error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    // Nobody is left to tell if standard error is closed, too.
    let _ = writeln!(io::stderr(), "{text}");
}
