//! `cargo xtask clients`: clients of etcd that we did not write, against real servers of ours. Their own
//! tests where they publish them, a driver of ours (`clients/`) where they do not. Knows which suites
//! there are and adds up what they say; each suite's file knows its client.

mod check;
mod cluster;
mod kubernetes;
mod node;
mod patroni;
mod programs;
mod python;
mod rust;
mod tools;

use crate::ci::succeed;
use anyhow::{Context, bail};
use cluster::Ports;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use tools::Tools;

/// How long one suite may take before it is called a hang: many times what it does take.
const PATIENCE_SECONDS: &str = "900";
/// How much of a suite's log is shown if it fails.
const TAIL_LINES: usize = 80;

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Instead of the clients, a program that keeps its state in etcd, whole; CI runs none
    #[arg(conflicts_with = "only")]
    program: Option<Program>,
    /// Only this suite
    #[arg(long, value_parser = SUITES.map(|suite| suite.name))]
    only: Option<String>,
    /// The program to test, called with etcd's flags: a real etcd, to test the tests
    /// [default: our release, which is built]
    #[arg(long)]
    server: Option<PathBuf>,
}

/// Programs that take minutes, and much that CI's machine has not.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Program {
    /// Debian's API server and controllers of Kubernetes, which are fetched and built with its Go
    Kubernetes,
    /// Patroni, which is fetched, with Debian's PostgreSQL 15, which has to be there
    Patroni,
}

/// What tests did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) left_out: u64,
}

/// A client and how it is tested.
struct Suite {
    name: &'static str,
    /// Its tests were written elsewhere, and so were the times that they give a server or themselves,
    /// which may be too short on a busy machine: if one fails, all are run once more, with new servers.
    is_theirs: bool,
    /// Fetches and compiles; nothing is measured or timed meanwhile.
    prepare: fn(&Tools) -> anyhow::Result<()>,
    /// Starts servers and runs the tests.
    run: fn(&Tools, &mut Ports) -> anyhow::Result<Tally>,
}

const SUITES: [Suite; 4] = [
    Suite { name: "etcd-client", is_theirs: true, prepare: rust::prepare, run: rust::run },
    Suite { name: "aetcd", is_theirs: true, prepare: python::prepare, run: python::run },
    Suite { name: "etcd3", is_theirs: false, prepare: node::prepare, run: node::run },
    Suite { name: "etcdctl-check", is_theirs: true, prepare: |_| Ok(()), run: check::run },
];

impl Suite {
    fn run(&self, tools: &Tools, ports: &mut Ports) -> anyhow::Result<Tally> {
        match (self.run)(tools, ports) {
            Err(error) if self.is_theirs => {
                println!("{} failed, and is run once more: {error:#}", self.name);
                (self.run)(tools, ports)
            }
            result => result,
        }
    }
}

/// Runs the suites, all at the same time: most of what they do is to wait. Returns what all of them did.
///
/// # Errors
///
/// If a suite cannot be had, or a test of one fails.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<Tally> {
    let tools = Tools::at_hand(root, options.server.as_deref())?;
    match options.program {
        Some(Program::Kubernetes) => return kubernetes::run(&tools),
        Some(Program::Patroni) => return patroni::run(&tools),
        None => {}
    }
    let wanted = |suite: &&Suite| options.only.as_deref().is_none_or(|only| only == suite.name);
    let suites: Vec<&'static Suite> = SUITES.iter().filter(wanted).collect();
    for suite in &suites {
        println!("preparing {}", suite.name);
        (suite.prepare)(&tools).with_context(|| format!("preparing {}", suite.name))?;
    }
    let results: Vec<anyhow::Result<Tally>> = thread::scope(|scope| {
        let tools = &tools;
        let lanes = (0..).zip(suites.iter().copied());
        let start = |(lane, suite): (u16, &'static Suite)| {
            scope.spawn(move || suite.run(tools, &mut Ports::of_lane(lane)))
        };
        let threads: Vec<_> = lanes.map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    report(&suites, results)
}

fn panicked<T>(_: Box<dyn std::any::Any + Send>) -> anyhow::Result<T> {
    bail!("the suite's thread panicked; what it said is above")
}

fn report(suites: &[&Suite], results: Vec<anyhow::Result<Tally>>) -> anyhow::Result<Tally> {
    let mut all = Tally::default();
    let mut failed = Vec::new();
    println!("\n{:<14} {:>5} {:>7} {:>9}", "client", "ran", "passed", "left out");
    for (suite, result) in suites.iter().zip(results) {
        match result {
            Ok(Tally { passed, left_out }) => {
                println!("{:<14} {passed:>5} {passed:>7} {left_out:>9}", suite.name);
                all.passed += passed;
                all.left_out += left_out;
            }
            Err(error) => {
                println!("{:<14} failed", suite.name);
                failed.push(format!("{}: {error:#}", suite.name));
            }
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(all)
}

/// Runs a command with everything that it says in a file, and returns that.
///
/// # Errors
///
/// If it fails or hangs, with the end of what it said.
fn logged(command: &Command, log: &Path) -> anyhow::Result<String> {
    let (success, said) = said(command, log)?;
    if !success {
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
        bail!("{command:?} failed ({}):\n{}", log.display(), tail.join("\n"));
    }
    Ok(said)
}

/// The same for a command that may fail: whether it did not, and what it said.
fn said(command: &Command, log: &Path) -> anyhow::Result<(bool, String)> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    // It ends the whole group of processes that the command has begun.
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", PATIENCE_SECONDS]).arg(command.get_program());
    limited.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = limited.status().with_context(|| format!("running {command:?}"))?;
    Ok((status.success(), fs::read_to_string(log)?))
}

/// Runs `install` in an empty folder, unless it was run there before with the same pins.
fn installed(
    folder: &Path,
    pins: &[&Path],
    install: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut wanted = String::new();
    for pin in pins {
        wanted += &fs::read_to_string(pin).with_context(|| format!("reading {}", pin.display()))?;
    }
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let _leftover = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    install()?;
    // The last thing: what is not whole is begun anew.
    Ok(fs::write(&stamp, wanted)?)
}

/// Copies the files of a folder, and those of folders in it.
fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            copy_if_different(&entry.path(), &target, |text| Ok(text.to_owned()))?;
        }
    }
    Ok(())
}

/// Copies a text, changed in passing; a file that is the same already keeps its time, so that nobody
/// compiles it again.
fn copy_if_different(
    from: &Path,
    to: &Path,
    change: impl FnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let text = fs::read_to_string(from).with_context(|| format!("reading {}", from.display()))?;
    let text = change(&text)?;
    if fs::read_to_string(to).is_ok_and(|found| found == text) {
        return Ok(());
    }
    fs::write(to, text).with_context(|| format!("writing {}", to.display()))
}

/// Makes a symbolic link, in place of what has that name.
fn link(target: &Path, name: &Path) -> anyhow::Result<()> {
    let _old = fs::remove_file(name);
    std::os::unix::fs::symlink(target, name).with_context(|| format!("linking {}", name.display()))
}

/// Writes a program.
fn write_program(name: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(name, text).with_context(|| format!("writing {}", name.display()))?;
    succeed(Command::new("chmod").arg("+x").arg(name))
}

/// The number before a word, as in `93 passed`.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let mut before = None;
    for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
        if part == word {
            return before;
        }
        before = part.parse().ok();
    }
    None
}

/// A suite whose versions are pinned has as many tests as it had: none may get lost unnoticed.
fn expect_all(tally: Tally, expected: u64) -> anyhow::Result<Tally> {
    if tally.passed + tally.left_out != expected {
        bail!("expected {expected} tests, found {tally:?}");
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_before_a_word_is_found_wherever_it_stands() {
        let line = "1 failed, 92 passed, 3 skipped in 65.15s (0:01:05)";
        let numbers = ["failed", "passed", "skipped"].map(|word| number_before(line, word));
        assert_eq!(numbers, [Some(1), Some(92), Some(3)]);
        assert_eq!(number_before(line, "deselected"), None);
        assert_eq!(number_before("passed", "passed"), None);
    }

    #[test]
    fn a_suite_that_lost_a_test_fails() {
        let tally = Tally { passed: 9, left_out: 1 };
        assert_eq!(expect_all(tally, 10).unwrap(), tally);
        assert!(expect_all(tally, 11).is_err());
    }

    #[test]
    fn what_is_installed_is_installed_again_once_its_pins_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (pins, place) = (folder.path().join("pins"), folder.path().join("place"));
        let mut count = 0;
        for text in ["one", "one", "two"] {
            fs::write(&pins, text).unwrap();
            installed(&place, &[&pins], || {
                count += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(count, 2);
        fs::write(&pins, "three").unwrap();
        assert!(installed(&place, &[&pins], || bail!("no network")).is_err());
        assert!(!place.join("installed").exists(), "it is begun anew the next time");
    }
}
