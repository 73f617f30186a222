//! One real etcd and one of ours, started with empty folders, the same name, token and advertised
//! addresses, so that their ids are the same. Knows nothing of what they are asked.

use crate::answer::Answer;
use crate::wire::Link;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it serves.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// How often one is started before it counts as one that does not start.
const START_TRIES: u32 = 5;
/// How often it is asked whether it does.
const ASKED_EACH: Duration = Duration::from_millis(20);
/// What both are told that others reach them at. Nobody is there: a single member calls no one.
const ADVERTISED_PEER: &str = "http://127.0.0.1:12380";
const ADVERTISED_CLIENT: &str = "http://127.0.0.1:12379";

/// Where the programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The real etcd
    #[arg(long)]
    pub(crate) etcd: PathBuf,
    /// Ours
    #[arg(long)]
    pub(crate) quorate: PathBuf,
    /// Where their data and logs go
    #[arg(long)]
    pub(crate) folder: PathBuf,
}

/// A server that runs until this is dropped.
pub(crate) struct System {
    child: Child,
    pub(crate) link: Link,
    log: PathBuf,
}

/// Both.
pub(crate) struct Pair {
    pub(crate) reference: System,
    pub(crate) ours: System,
}

impl Pair {
    /// Starts both and waits until they serve.
    ///
    /// # Errors
    ///
    /// If they do not; their logs stay in the folder.
    pub(crate) async fn start(programs: &Programs) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(&programs.folder);
        fs::create_dir_all(&programs.folder)
            .with_context(|| format!("creating {}", programs.folder.display()))?;
        // It need not survive anything, and its fsyncs would be most of the time.
        let etcd = ["--unsafe-no-fsync".to_owned()];
        let reference = System::begin("etcd", &programs.etcd, &etcd, &programs.folder).await?;
        let serve = ["serve".to_owned()];
        let ours = System::begin("quorate", &programs.quorate, &serve, &programs.folder).await?;
        Ok(Self { reference, ours })
    }

    /// Whether both are alive still, or which one is not.
    ///
    /// # Errors
    ///
    /// If one has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.reference.check()?;
        self.ours.check()
    }
}

impl System {
    /// Starts one that serves. Its addresses may be somebody else's by the time that it wants them: then it
    /// ends, and others are tried.
    async fn begin(
        name: &str,
        program: &Path,
        first: &[String],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut tries_left = START_TRIES;
        loop {
            let mut system = Self::start(name, program, first, folder)?;
            let Err(error) = system.wait_until_ready().await else { return Ok(system) };
            tries_left -= 1;
            if tries_left == 0 || system.check().is_ok() {
                return Err(error);
            }
            println!("{error:#}: once more, at other addresses");
            drop(system);
            let _ = fs::remove_dir_all(folder.join(name));
        }
    }

    fn start(name: &str, program: &Path, first: &[String], folder: &Path) -> anyhow::Result<Self> {
        let [client, peer] = free_addresses()?;
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(program);
        let child = command
            .args(first)
            .args(flags(&client, &peer, &folder.join(name)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("running {command:?}"))?;
        Ok(Self { child, link: Link::new(&client)?, log })
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            if let Answer::Page { status: 200, .. } =
                self.link.page("GET", "/health", None, "").await
            {
                return Ok(());
            }
            self.check()?;
            if Instant::now() > deadline {
                bail!("not ready within {READY_PATIENCE:?}: see {}", self.log.display());
            }
            tokio::time::sleep(ASKED_EACH).await;
        }
    }

    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("a server ended with {status}; its log is {}", self.log.display());
        }
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // It may be gone already; its data is not needed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two addresses that nobody listened at a moment ago.
fn free_addresses() -> anyhow::Result<[String; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [client, peer] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([client?.to_string(), peer?.to_string()])
}

/// The same flags for both systems.
fn flags(client: &str, peer: &str, data: &Path) -> Vec<String> {
    let pairs = [
        ("--name", "d1".to_owned()),
        ("--data-dir", data.to_string_lossy().into_owned()),
        ("--listen-client-urls", format!("http://{client}")),
        ("--advertise-client-urls", ADVERTISED_CLIENT.to_owned()),
        ("--listen-peer-urls", format!("http://{peer}")),
        ("--initial-advertise-peer-urls", ADVERTISED_PEER.to_owned()),
        ("--initial-cluster", format!("d1={ADVERTISED_PEER}")),
        ("--initial-cluster-token", "differ".to_owned()),
        ("--bcrypt-cost", "4".to_owned()),
        // None ends because a machine is slow.
        ("--auth-token-ttl", "86400".to_owned()),
        ("--experimental-watch-progress-notify-interval", "200ms".to_owned()),
        ("--log-level", "warn".to_owned()),
    ];
    pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}
