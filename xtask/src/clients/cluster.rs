//! Servers for the clients: processes with folders of their own, at ports that are free, called with etcd's
//! flags and no others. Knows nothing of who will talk to them.

use crate::servers::http_get;
use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long servers may take to serve.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// Ports below those that the system gives to outgoing connections.
const FIRST_PORT: u16 = 15_000;
/// How many ports a suite may choose from: no two suites from the same ones.
const LANE_PORTS: u16 = 2_000;

/// Ports on which nobody listens.
pub(super) struct Ports {
    next: u16,
    end: u16,
}

impl Ports {
    /// Those of one suite.
    pub(super) fn of_lane(lane: u16) -> Self {
        let first = FIRST_PORT + lane * LANE_PORTS;
        // Not always from the same one on: what listened there a moment ago may still be about.
        let start = first + u16::try_from(std::process::id() % 1_000).unwrap_or_default();
        Self { next: start, end: first + LANE_PORTS }
    }

    /// One that is free.
    ///
    /// # Errors
    ///
    /// If none is.
    pub(super) fn free(&mut self) -> anyhow::Result<u16> {
        while self.next < self.end {
            self.next += 1;
            if is_free(self.next) {
                return Ok(self.next);
            }
        }
        bail!("no port below {} is free", self.end)
    }
}

pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Who a server is and where.
pub(super) struct Member {
    pub(super) name: String,
    /// For clients.
    pub(super) port: u16,
    pub(super) peer_port: u16,
    metrics_port: u16,
}

impl Member {
    pub(super) fn new(name: &str, ports: &mut Ports) -> anyhow::Result<Self> {
        let [port, peer_port] = [ports.free()?, ports.free()?];
        Self::at(name, port, peer_port, ports)
    }

    /// One whose addresses others know already.
    pub(super) fn at(
        name: &str,
        port: u16,
        peer_port: u16,
        ports: &mut Ports,
    ) -> anyhow::Result<Self> {
        Ok(Self { name: name.to_owned(), port, peer_port, metrics_port: ports.free()? })
    }

    /// `host:port` for clients.
    pub(super) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn metrics_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.metrics_port)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

/// What a cluster's servers have in common.
pub(super) struct Options {
    /// The program, under a name by which it takes etcd's flags.
    pub(super) program: PathBuf,
    /// Where data and logs go.
    pub(super) folder: PathBuf,
    pub(super) tls: Tls,
    /// For how many seconds a token is good after its last use.
    pub(super) token_ttl_seconds: u32,
}

/// How clients come.
#[derive(Clone)]
pub(super) enum Tls {
    /// Over plain HTTP.
    No,
    /// With a certificate that the server makes for itself.
    OfItsOwn,
    /// With `cert.pem` and `key.pem` of a folder, and clients show one that `ca.pem` there signed, too.
    Mutual(PathBuf),
}

impl Tls {
    fn scheme(&self) -> &'static str {
        match self {
            Self::No => "http",
            Self::OfItsOwn | Self::Mutual(_) => "https",
        }
    }

    fn flags(&self) -> Vec<String> {
        match self {
            Self::No => Vec::new(),
            Self::OfItsOwn => vec!["--auto-tls".to_owned()],
            Self::Mutual(folder) => {
                let flags = ["--cert-file", "--key-file", "--trusted-ca-file"];
                let files = ["cert.pem", "key.pem", "ca.pem"];
                let given = flags.into_iter().zip(files);
                given
                    .map(|(flag, file)| format!("{flag}={}", folder.join(file).display()))
                    .chain(["--client-cert-auth".to_owned()])
                    .collect()
            }
        }
    }
}

/// Of tokens that end soon, which is what some tests wait for.
pub(super) const BRIEF_TOKEN_SECONDS: u32 = 2;
/// Of tokens that end for nobody, however slow a machine is.
pub(super) const LASTING_TOKEN_SECONDS: u32 = 86_400;

/// Servers that run; they end with this.
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    options: Options,
    children: Vec<Child>,
}

impl Cluster {
    /// Starts the servers and waits until they serve.
    ///
    /// # Errors
    ///
    /// If they do not; their logs stay.
    pub(super) fn start(members: Vec<Member>, options: Options) -> anyhow::Result<Self> {
        let mut cluster = Self { members, options, children: Vec::new() };
        for index in 0..cluster.members.len() {
            let child = cluster.spawn(index, "new")?;
            cluster.children.push(child);
        }
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Starts one more, of which the cluster has been told.
    pub(super) fn join(&mut self, member: Member) -> anyhow::Result<()> {
        self.members.push(member);
        let child = self.spawn(self.members.len() - 1, "existing")?;
        self.children.push(child);
        Ok(())
    }

    /// `host:port` of each, with commas.
    pub(super) fn endpoints(&self) -> String {
        let all: Vec<String> = self.members.iter().map(Member::endpoint).collect();
        all.join(",")
    }

    /// The same with what they are spoken to by, as a list.
    pub(super) fn urls(&self) -> Vec<String> {
        let scheme = self.options.tls.scheme();
        self.members.iter().map(|one| format!("{scheme}://{}", one.endpoint())).collect()
    }

    pub(super) fn endpoint(&self) -> anyhow::Result<String> {
        self.members.first().map(Member::endpoint).context("a cluster has a member")
    }

    /// Ends a server as a power cut would.
    pub(super) fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let child = self.children.get_mut(index).context("a member that is known")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts one again that was killed, and waits until it serves.
    pub(super) fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        self.revive(index)?;
        self.wait_until_ready()
    }

    /// Starts one again that was killed.
    pub(super) fn revive(&mut self, index: usize) -> anyhow::Result<()> {
        let child = self.spawn(index, "new")?;
        *self.children.get_mut(index).context("a member that is known")? = child;
        Ok(())
    }

    /// Which member says that it leads, if one does.
    pub(super) fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            let page = http_get(&member.metrics_endpoint(), "/metrics").unwrap_or_default();
            page.lines().any(|line| line == "etcd_server_is_leader 1")
        })
    }

    /// Each server's process.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// The certificate that a server has made for itself.
    pub(super) fn certificate(&self) -> anyhow::Result<PathBuf> {
        let member = self.members.first().context("a cluster has a member")?;
        Ok(self.options.folder.join(&member.name).join("fixtures/client/cert.pem"))
    }

    fn spawn(&self, index: usize, state: &str) -> anyhow::Result<Child> {
        let member = self.members.get(index).context("a member that is known")?;
        let folder = &self.options.folder;
        let log = folder.join(format!("{}.log", member.name));
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.options.program);
        command.args(self.flags(member, state)).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("running {command:?}"))
    }

    fn flags(&self, member: &Member, state: &str) -> Vec<String> {
        let client = format!("{}://{}", self.options.tls.scheme(), member.endpoint());
        let all: Vec<String> =
            self.members.iter().map(|one| format!("{}={}", one.name, one.peer_url())).collect();
        let pairs = [
            ("--name", member.name.clone()),
            ("--data-dir", self.options.folder.join(&member.name).display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", member.peer_url()),
            ("--initial-advertise-peer-urls", member.peer_url()),
            ("--listen-metrics-urls", format!("http://{}", member.metrics_endpoint())),
            ("--initial-cluster", all.join(",")),
            ("--initial-cluster-state", state.to_owned()),
            ("--auth-token-ttl", self.options.token_ttl_seconds.to_string()),
            // Passwords that cost nothing.
            ("--bcrypt-cost", "4".to_owned()),
            ("--log-level", "warn".to_owned()),
        ];
        let mut flags: Vec<String> =
            pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        flags.extend(self.options.tls.flags());
        flags
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let folder = self.options.folder.clone();
        for (member, child) in self.members.iter().zip(&mut self.children) {
            wait_until_ready(member, child, &folder)?;
        }
        Ok(())
    }
}

fn wait_until_ready(member: &Member, child: &mut Child, folder: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_PATIENCE;
    let metrics = member.metrics_endpoint();
    loop {
        if http_get(&metrics, "/health").is_ok_and(|page| page.contains("\"health\":\"true\"")) {
            return Ok(());
        }
        let log = folder.join(format!("{}.log", member.name));
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = child.try_wait()? {
            bail!("{} ended with {status} instead of serving: {}", member.name, said());
        }
        if Instant::now() > deadline {
            bail!("{} does not serve after {READY_PATIENCE:?}: {}", member.name, said());
        }
        sleep(Duration::from_millis(100));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may be gone already, or paused by a test that failed; its data is not needed any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
