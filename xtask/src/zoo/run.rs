//! Runs one mutant: first the ordinary simulator, then the tests that were written for it. A process
//! that hangs or dies has been noticed too. Knows nothing of what the mutants change.

use super::mutant::Mutant;
use super::yard::{Programs, Yard};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A world or a test that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// The memory of one process, in KiB: a mutant that eats all of it shall not take the machine along.
const MEMORY_KIB: u32 = 3 << 20;

/// SIGKILL: the system was short of memory, or somebody wanted the process gone.
const KILLED: i32 = 9;

/// How far the ordinary simulator looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
}

/// What became of a mutant.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The ordinary simulator noticed it.
    Generic { seed: u64, kind: String, words: String },
    /// A test that was written for it noticed it.
    Directed { test: String },
    /// Nobody did; its code ran so often in the simulator.
    Survived { reached: u64 },
}

/// A mutant's fate, and what it took.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) fate: Fate,
    pub(crate) seconds: f64,
}

/// Runs the ordinary simulator while a mutant lives.
///
/// # Errors
///
/// If the runner cannot be run.
pub(crate) fn generic(runner: &Path, mutant: &Mutant, budget: Budget) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    // Whoever was killed by somebody else is run once more.
    let again = |_| simulate(runner, &mutant.id, budget);
    let fate = simulate(runner, &mutant.id, budget).or_else(again)?;
    Ok(Outcome { fate, seconds: started.elapsed().as_secs_f64() })
}

/// The tests that were written for a mutant, and the programs that they are in.
pub(crate) struct Tests<'a> {
    pub(crate) yard: &'a Yard,
    pub(crate) programs: &'a Programs,
}

impl Tests<'_> {
    /// Runs the tests that a mutant names until one fails.
    ///
    /// # Errors
    ///
    /// If a test cannot be run or does not exist.
    pub(crate) fn directed(&self, mutant: &Mutant) -> anyhow::Result<Option<Outcome>> {
        let started = Instant::now();
        for test in &mutant.directed {
            if !self.passes(test, &mutant.id)? {
                let fate = Fate::Directed { test: test.clone() };
                return Ok(Some(Outcome { fate, seconds: started.elapsed().as_secs_f64() }));
            }
        }
        Ok(None)
    }

    /// Whether a test passes while a mutant lives; `""` for none.
    ///
    /// # Errors
    ///
    /// If there is no such test.
    pub(crate) fn passes(&self, test: &str, id: &str) -> anyhow::Result<bool> {
        let mut names = test.splitn(3, "::");
        let [folder, target, name] =
            [names.next(), names.next(), names.next()].map(Option::unwrap_or_default);
        let program = self.programs.get(&format!("{folder}::{target}"));
        let program = program.with_context(|| format!("there is no test program for {test}"))?;
        let mut child = command(program, id)
            .args(["--exact", name])
            .current_dir(self.yard.crate_folder(folder))
            .env("CARGO_MANIFEST_DIR", self.yard.crate_folder(folder))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("running {test}"))?;
        let lines = lines_of(child.stdout.take().context("the test's output")?);
        let Some((printed, status)) = finish(&mut child, &lines)? else { return Ok(false) };
        ensure!(status.signal() != Some(KILLED), "somebody else killed {test}");
        ensure!(printed.contains("running 1 test"), "there is no test {test}");
        Ok(status.success())
    }
}

fn simulate(runner: &Path, id: &str, budget: Budget) -> anyhow::Result<Fate> {
    let mut child = command(runner, id)
        .args(["1", &budget.seeds.to_string(), &budget.steps.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the runner")?;
    let lines = lines_of(child.stdout.take().context("the runner's output")?);
    let mut seed = 0;
    let noticed =
        |seed, kind: &str, words: String| Fate::Generic { seed, kind: kind.to_owned(), words };
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => match spoken(&line)? {
                Spoken::Seed(next) => seed = next,
                Spoken::Ended(fate) => {
                    child.wait()?;
                    return Ok(fate);
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                let words = format!("a world took longer than {} s", PATIENCE.as_secs());
                return Ok(noticed(seed, "Hang", words));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                // Nothing that a mutant does ends so: memory beyond the limit ends in an abort.
                ensure!(status.signal() != Some(KILLED), "somebody else killed the runner");
                return Ok(noticed(seed, "Died", format!("the process ended with {status}")));
            }
        }
    }
}

/// A line of the runner.
#[derive(Debug, PartialEq, Eq)]
enum Spoken {
    Seed(u64),
    Ended(Fate),
}

fn spoken(line: &str) -> anyhow::Result<Spoken> {
    if let Some(seed) = line.strip_prefix("seed ") {
        return Ok(Spoken::Seed(seed.parse()?));
    }
    let parts: Vec<&str> = line.split('\t').collect();
    match parts.as_slice() {
        ["killed", seed, kind, words] => Ok(Spoken::Ended(Fate::Generic {
            seed: seed.parse()?,
            kind: (*kind).to_owned(),
            words: (*words).to_owned(),
        })),
        ["survived", reached] => Ok(Spoken::Ended(Fate::Survived { reached: reached.parse()? })),
        _ => bail!("expected a seed or a verdict of the runner, got `{line}`"),
    }
}

/// Everything that a process prints, and how it ended; `None` if it hung.
fn finish(
    child: &mut Child,
    lines: &Receiver<String>,
) -> anyhow::Result<Option<(String, ExitStatus)>> {
    let until = Instant::now() + PATIENCE;
    let mut text = String::new();
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Some((text, child.wait()?))),
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
    }
}

/// A process in which the mutant lives, with bounded memory.
fn command(program: &Path, id: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")]).arg(program);
    command.env("QUORATE_MUTANT", id);
    command
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_lines_are_understood() {
        assert_eq!(spoken("seed 7").unwrap(), Spoken::Seed(7));
        assert_eq!(spoken("survived\t3").unwrap(), Spoken::Ended(Fate::Survived { reached: 3 }));
        let (kind, words) = ("TwoLeaders".to_owned(), "two leaders".to_owned());
        assert_eq!(
            spoken("killed\t7\tTwoLeaders\ttwo leaders").unwrap(),
            Spoken::Ended(Fate::Generic { seed: 7, kind, words })
        );
        assert!(spoken("nothing").is_err());
    }
}
