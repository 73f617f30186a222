//! The nodes' processes: starting them, signalling them, and reading what they said last. Knows
//! nothing of what a node does.

use super::plan::NodePlan;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, ChildStdin, Command};

/// How much of the end of a log is searched for a node's last words.
const LAST_WORDS_BYTES_MAX: u64 = 16 << 10;
/// How many of its last lines are shown.
const LAST_WORDS_LINES_MAX: usize = 6;

/// A node that was started.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) child: Child,
    /// The node stops when this is closed; the system closes it if we are killed.
    pub(super) leash: Option<ChildStdin>,
    /// Where in the log this life begins.
    pub(super) log_offset: u64,
}

/// Starts a node.
///
/// # Errors
///
/// If the log cannot be written or the program cannot be run.
pub(super) fn start(
    program: &Path,
    arguments: &[String],
    node: &NodePlan,
) -> anyhow::Result<Started> {
    let log = OpenOptions::new().create(true).append(true).open(&node.log);
    let log = log.with_context(|| format!("opening {}", node.log.display()))?;
    let log_offset = log.metadata()?.len();
    let mut child = Command::new(program)
        .args(arguments)
        .arg("--exit-with-parent")
        // A config file would count instead of these arguments.
        .env_remove("ETCD_CONFIG_FILE")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for the supervisor: it stops the nodes in its own way.
        .process_group(0)
        .spawn()
        .with_context(|| format!("running {}", program.display()))?;
    let pid = child.id().context("a process that was just started has an id")?;
    let leash = child.stdin.take();
    Ok(Started { pid, child, leash, log_offset })
}

/// Sends a signal; no error if the process is gone.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = to_pid(pid) {
        // Only a process that is gone already cannot be signalled: it is ours.
        let _ = kill_process(pid, signal);
    }
}

/// Whether there is such a process.
pub(super) fn is_alive(pid: u32) -> bool {
    to_pid(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// How a process ended, for a person.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "stopped".to_owned(),
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(9)) => "was killed by signal 9 (SIGKILL)".to_owned(),
        (None, Some(number)) => format!("was killed by signal {number}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines that a node logged since `offset`.
pub(super) fn last_words(log: &Path, offset: u64) -> Vec<String> {
    let text = read_end(log, offset).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LAST_WORDS_LINES_MAX);
    lines.into_iter().skip(first).map(str::to_owned).collect()
}

fn read_end(log: &Path, offset: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(offset.max(size.saturating_sub(LAST_WORDS_BYTES_MAX))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The process that holds a node's folder, if its lock says so and the process still runs.
pub(super) fn holder(node: &NodePlan) -> Option<u32> {
    let candidates: [PathBuf; 2] = [node.folder.join("LOCK"), node.folder.join("wal/LOCK")];
    let text = candidates.iter().find_map(|path| fs::read_to_string(path).ok())?;
    let pid = text.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // A process id may have been given to somebody else since.
    let command = String::from_utf8_lossy(&command).into_owned();
    (is_alive(pid) && command.split('\0').any(|word| word == "serve")).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_by_its_cause() {
        assert_eq!(describe(ExitStatus::from_raw(0)), "stopped");
        assert_eq!(describe(ExitStatus::from_raw(1 << 8)), "exited with code 1");
        assert_eq!(describe(ExitStatus::from_raw(9)), "was killed by signal 9 (SIGKILL)");
    }

    #[test]
    fn last_words_are_those_of_the_last_life() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("n1.log");
        fs::write(&log, "old\nError: new\n\n").unwrap();
        assert_eq!(last_words(&log, 4), ["Error: new"]);
        assert!(last_words(&folder.path().join("none"), 0).is_empty());
    }

    #[test]
    fn a_process_that_never_was_is_not_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
