//! Several servers that form a cluster, in a folder of their own. Knows which processes there are
//! and how to ask them; what a test does to them is the test's decision.

use super::{Client, Machine, Server, eventually};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long a question that must not hold up a test may take.
const QUICK: Duration = Duration::from_secs(1);

/// How a cluster is started.
pub(crate) struct Options {
    /// How many servers.
    pub(crate) server_count: usize,
    /// `--heartbeat-interval`.
    pub(crate) heartbeat_ms: u64,
    /// `--election-timeout`.
    pub(crate) election_timeout_ms: u64,
    /// `--initial-cluster-token`.
    pub(crate) token: String,
    /// Further flags of every server, with their values.
    pub(crate) more: Vec<(String, String)>,
    /// Where the first servers run, each on a machine of its own. The others run on this one.
    pub(crate) machines: Vec<Machine>,
}

impl Options {
    /// So many servers, with the timeouts of a fast network.
    pub(crate) fn servers(server_count: usize) -> Self {
        Self {
            server_count,
            heartbeat_ms: 100,
            election_timeout_ms: 1000,
            token: "process-test".to_owned(),
            more: Vec::new(),
            machines: Vec::new(),
        }
    }
}

/// Servers `n1`, `n2`, ... and the folder that they live in. If the test fails, the folder stays
/// and the ends of the logs are printed.
pub(crate) struct Cluster {
    // Before the folder: the processes go first.
    servers: Vec<Server>,
    clients: Vec<Client>,
    folder: Option<TempDir>,
}

/// A folder on the disk that the build uses: a real one, where an fsync is an fsync.
pub(crate) fn scratch_folder(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written")
}

impl Cluster {
    /// Servers with their flags, not started yet. `name` tells the test's folder from others.
    pub(crate) fn new(name: &str, options: &Options) -> Self {
        let folder = scratch_folder(name);
        let mut servers: Vec<Server> = (0..options.server_count)
            .map(|index| server_at(folder.path(), index, options.machines.get(index)))
            .collect();
        let members: Vec<String> =
            servers.iter().map(|server| format!("{}={}", server.name, server.peer.url())).collect();
        for server in &mut servers {
            server.flags = flags(server, &members.join(","), options);
        }
        let clients = servers.iter().map(|server| Client::new(&server.client.url())).collect();
        Self { servers, clients, folder: Some(folder) }
    }

    /// A cluster of so many servers that serves.
    pub(crate) async fn started(name: &str, server_count: usize) -> Self {
        let mut cluster = Self::new(name, &Options::servers(server_count));
        cluster.start_all().await;
        cluster
    }

    /// One server more, not started yet, which will join `members` (the indexes of servers). The
    /// cluster must be told of it first. Returns its index.
    pub(crate) fn newcomer(&mut self, members: &[usize], options: &Options) -> usize {
        let index = self.servers.len();
        let mut server = server_at(&self.path(), index, options.machines.get(index));
        let named = |server: &Server| format!("{}={}", server.name, server.peer.url());
        let mut all: Vec<String> = members.iter().map(|at| named(&self.servers[*at])).collect();
        all.push(named(&server));
        server.flags = flags(&server, &all.join(","), options);
        server.set_flag("--initial-cluster-state", "existing");
        self.clients.push(Client::new(&server.client.url()));
        self.servers.push(server);
        index
    }

    /// Starts every server and waits until each serves.
    pub(crate) async fn start_all(&mut self) {
        for server in &mut self.servers {
            server.start();
        }
        for index in self.indexes() {
            self.ready(index).await;
        }
    }

    /// The servers' indexes.
    pub(crate) fn indexes(&self) -> std::ops::Range<usize> {
        0..self.servers.len()
    }

    /// One server.
    pub(crate) fn server(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// A client of one server.
    pub(crate) fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// A client of each server.
    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Where everything of this cluster lives.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.as_ref().expect("the folder lives as long as the cluster").path().to_path_buf()
    }

    /// Waits until a server answers a linearizable read: it is up, and in touch with a quorum.
    ///
    /// # Panics
    ///
    /// If its process ends instead.
    pub(crate) async fn ready(&mut self, index: usize) {
        let client = self.clients[index].with_timeout(Duration::from_secs(5));
        let server = &mut self.servers[index];
        let what = format!("{} to answer a linearizable read", server.name);
        eventually(&what, async || {
            if let Some(status) = server.try_ended() {
                panic!("{} ended ({status}) instead of serving", server.name);
            }
            client.get("is-anybody-there").await.ok()
        })
        .await;
    }

    /// Starts a server that is down and waits until it serves.
    pub(crate) async fn restart(&mut self, index: usize) {
        self.servers[index].start();
        self.ready(index).await;
    }

    /// The leader that a server claims to follow or to be, and the term.
    async fn claim(&self, index: usize) -> Option<(u64, u64, u64)> {
        let status = self.clients[index].with_timeout(QUICK).status().await.ok()?;
        let member_id = status.header.as_ref()?.member_id;
        Some((status.raft_term, status.leader, member_id))
    }

    /// Waits until the servers that answer, `except` left out, agree that one of them leads, and
    /// returns its index. Claims of older terms do not count.
    pub(crate) async fn leader(&self, except: Option<usize>) -> usize {
        eventually("a leader", async || self.try_leader(except).await).await
    }

    /// The same without waiting.
    pub(crate) async fn try_leader(&self, except: Option<usize>) -> Option<usize> {
        let mut claims = Vec::new();
        for index in self.indexes().filter(|index| Some(*index) != except) {
            if let Some(claim) = self.claim(index).await {
                claims.push((index, claim));
            }
        }
        let (term, leader) = claims.iter().map(|(_, (term, leader, _))| (*term, *leader)).max()?;
        let (index, _) = claims.iter().find(|(_, claim)| *claim == (term, leader, leader))?;
        let agree = claims.iter().filter(|(_, claim)| (claim.0, claim.1) == (term, leader)).count();
        (leader != 0 && agree > self.servers.len() / 2).then_some(*index)
    }

    /// Writes through whichever of these servers takes it, until it is acknowledged. The write may
    /// have been carried out more than once.
    pub(crate) async fn put_until_acknowledged(&self, through: &[usize], key: &str, value: &str) {
        let mut turn = through.iter().cycle();
        let what = format!("somebody to acknowledge {key}={value}");
        eventually(&what, async || {
            let index = *turn.next()?;
            self.clients[index].put(key, value).await.ok()
        })
        .await;
    }

    /// Waits until every server has caught up, and checks that all hold the same, key by key with
    /// every revision and version. Returns how many keys there are.
    pub(crate) async fn assert_equal_replicas(&self) -> usize {
        let states = eventually("all servers to have the same revision", async || {
            let mut states = Vec::new();
            for client in &self.clients {
                states.push(client.everything().await.ok()?);
            }
            let revision = |index: usize| states[index].header.as_ref().map(|it| it.revision);
            self.indexes().all(|index| revision(index) == revision(0)).then_some(states)
        })
        .await;
        for (state, server) in states.iter().zip(&self.servers) {
            assert_eq!(state.kvs, states[0].kvs, "{} differs from n1", server.name);
        }
        states[0].kvs.len()
    }

    /// The end of a test: nothing may have panicked in any server's life.
    pub(crate) fn finish(self) {
        for server in &self.servers {
            let log = server.log_text();
            let panics: Vec<&str> = log.lines().filter(|line| is_panic(line)).collect();
            assert!(panics.is_empty(), "{} panicked: {panics:#?}", server.name);
        }
    }

    fn print_for_the_failed(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        eprintln!("The servers' folders and logs stay in {}", folder.keep().display());
        for server in &self.servers {
            eprintln!("--- the end of {} ---\n{}", server.log.display(), server.log_tail());
        }
    }
}

/// A line that Rust's panic hook, or Go's runtime, writes.
fn is_panic(line: &str) -> bool {
    line.contains("panicked at") || line.starts_with("panic:")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_for_the_failed();
        }
    }
}

fn server_at(folder: &Path, index: usize, machine: Option<&Machine>) -> Server {
    Server::new(folder, &format!("n{}", index + 1), machine)
}

fn flags(server: &Server, members: &str, options: &Options) -> Vec<String> {
    let pairs: [(&str, &str); 11] = [
        ("--name", &server.name),
        ("--data-dir", path_text(&server.data_dir)),
        ("--listen-client-urls", &server.client.url()),
        ("--advertise-client-urls", &server.client.url()),
        ("--listen-peer-urls", &server.peer.url()),
        ("--initial-advertise-peer-urls", &server.peer.url()),
        ("--initial-cluster", members),
        ("--initial-cluster-state", "new"),
        ("--initial-cluster-token", &options.token),
        ("--heartbeat-interval", &options.heartbeat_ms.to_string()),
        ("--election-timeout", &options.election_timeout_ms.to_string()),
    ];
    let pairs = pairs.map(|(flag, value)| (flag.to_owned(), value.to_owned()));
    let more = options.more.iter().cloned();
    pairs.into_iter().chain(more).flat_map(|(flag, value)| [flag, value]).collect()
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the target folder has a plain name")
}
