//! What the whole programs have in common that are run against servers of ours: their processes, how
//! their state is waited for, and what was seen of it. Knows none of them.

use super::Tally;
use super::cluster::{Cluster, LASTING_TOKEN_SECONDS, Member, Options, Ports, Tls};
use super::tools::Tools;
use anyhow::{Context, bail};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take: many times what it does take.
const PATIENCE: Duration = Duration::from_mins(4);
const PAUSE: Duration = Duration::from_millis(200);
/// Whose ports they take: no suite's.
const LANE: u16 = 4;

/// Three servers, and the ports that are left for whoever uses them.
pub(super) fn start_three(
    tools: &Tools,
    folder: &Path,
    tls: Tls,
) -> anyhow::Result<(Cluster, Ports)> {
    let mut ports = Ports::of_lane(LANE);
    let mut members = Vec::new();
    for name in ["q1", "q2", "q3"] {
        members.push(Member::new(name, &mut ports)?);
    }
    let (program, folder) = (tools.server.clone(), folder.to_owned());
    let options = Options { program, folder, tls, token_ttl_seconds: LASTING_TOKEN_SECONDS };
    Ok((Cluster::start(members, options)?, ports))
}

/// Waits until `ask` gives something; an error is as good as nothing until time is up.
pub(super) fn wait_for<T>(
    what: &str,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = match ask() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() > deadline {
            let why = last.map_or_else(String::new, |error| format!(": {error:#}"));
            bail!("expected {what} within {PATIENCE:?}{why}");
        }
        sleep(PAUSE);
    }
}

/// The same for what is only true or not.
pub(super) fn wait_until(
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    wait_for(what, || Ok(is_so()?.then_some(())))
}

/// What a command says, if it does not fail.
pub(super) fn answer(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// A process with its log; it ends with this.
pub(super) struct Running {
    child: Child,
    pub(super) log: PathBuf,
}

impl Running {
    pub(super) fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("running {command:?}"))?;
        Ok(Self { child, log })
    }

    /// Whether it ended well, once it has ended.
    pub(super) fn end(&mut self) -> anyhow::Result<Option<bool>> {
        Ok(self.child.try_wait()?.map(|status| status.success()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was seen, one after the other, with the time that it took.
pub(super) struct Steps {
    count: u64,
    since: Instant,
}

impl Steps {
    pub(super) fn new() -> Self {
        println!("{:>8}  what was seen since the line before", "seconds");
        Self { count: 0, since: Instant::now() }
    }

    pub(super) fn seen(&mut self, what: &str) {
        println!("{:>8.1}  {what}", self.since.elapsed().as_secs_f64());
        self.count += 1;
        self.since = Instant::now();
    }

    pub(super) fn tally(&self) -> Tally {
        Tally { passed: self.count, left_out: 0 }
    }
}
