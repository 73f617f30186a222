//! Describes a node before it starts: who it is, where its data is, who the others are.

use super::Node;
use super::budget::Budget;
use super::settings::Settings;
use crate::runtime::{EmptyMachine, FoundRequest, Launch, OpenRequest, Opening, found, launch};
use crate::transport::{Entrance, PeerAddress};
use crate::{DiskWatch, DriverOptions, Fatal, PeerTls, StartError, StateMachine, TransportOptions};
use quorate_core::{Configuration, LogId, Member, MemberRole, NodeId, Options, Time};
use quorate_wal::{Disk, Identity, RealDisk, WalOptions};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

/// The cluster id of a cluster that was not given one.
const DEFAULT_CLUSTER_ID: u64 = 1;
/// What a frame holds beside commands.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 64 << 10;

/// The limits of a node's own calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// Bytes of one command.
    pub command_bytes_max: usize,
    /// Requests that the event loop has not seen yet.
    pub queued_requests_count_max: usize,
    /// Bytes of such requests.
    pub queued_requests_bytes_max: usize,
    /// Requests that wait for an answer.
    pub waiting_requests_count_max: usize,
    /// How much of the disk the node holds in reserve, in bytes, at most a fortieth of the disk; 0 if
    /// nobody is to look at how full it is. [`Node::disk_room`] says how much is left.
    pub disk_reserve_bytes: u64,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            command_bytes_max: 16 << 20,
            queued_requests_count_max: 65_536,
            queued_requests_bytes_max: 64 << 20,
            waiting_requests_count_max: 262_144,
            disk_reserve_bytes: 0,
        }
    }
}

/// See [`Node::builder`].
#[derive(Debug)]
#[must_use]
pub struct NodeBuilder {
    id: NodeId,
    dir: PathBuf,
    wal_dir: Option<PathBuf>,
    cluster_id: u64,
    founders: Configuration,
    joins: bool,
    listen: Option<String>,
    entrances: Vec<Entrance<TcpListener>>,
    options: Options,
    driver_options: DriverOptions,
    wal_options: WalOptions,
    transport_options: TransportOptions,
    peer_tls: Option<PeerTls>,
    node_options: NodeOptions,
    budget: Option<Budget>,
    seed: Option<u64>,
    disk: SomeDisk,
    disk_watch: DiskWatch,
    rebuild: Rebuild,
}

/// How a state that is wrong is given up, if it is to be.
#[derive(Default)]
struct Rebuild(Option<EmptyMachine>);

impl fmt::Debug for Rebuild {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rebuild({})", self.0.is_some())
    }
}

/// A disk, which need not have a form for people.
struct SomeDisk(Arc<dyn Disk>);

impl fmt::Debug for SomeDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Disk")
    }
}

impl NodeBuilder {
    pub(super) fn new(id: NodeId, dir: PathBuf) -> Self {
        Self {
            id,
            dir,
            wal_dir: None,
            cluster_id: DEFAULT_CLUSTER_ID,
            founders: Configuration::default(),
            joins: false,
            listen: None,
            entrances: Vec::new(),
            options: Options::default(),
            driver_options: DriverOptions::default(),
            wal_options: WalOptions::default(),
            transport_options: TransportOptions::default(),
            peer_tls: None,
            node_options: NodeOptions::default(),
            budget: None,
            seed: None,
            disk: SomeDisk(Arc::new(RealDisk)),
            disk_watch: DiskWatch::new(),
            rebuild: Rebuild::default(),
        }
    }

    /// The cluster that the node belongs to: nodes of different clusters refuse each other, and
    /// each other's folders. 1 unless set.
    pub fn cluster_id(mut self, cluster_id: u64) -> Self {
        self.cluster_id = cluster_id;
        self
    }

    /// Keeps the log in this folder, on a disk of its own perhaps, instead of the folder `wal` below that
    /// of the node. It is made if there is none. The node's folder notes where its log is and which one:
    /// a start without that log, with another one or with an older copy of it is refused with
    /// [`StartError::LogPlace`], so that nothing that was acknowledged is forgotten. To move a log, stop
    /// the node, move what is in the folder, and name the new one.
    pub fn wal_dir(mut self, wal_dir: impl Into<PathBuf>) -> Self {
        self.wal_dir = Some(wal_dir.into());
        self
    }

    /// Adds a founding voter, and where its transport listens: `host:port`, or `https://host:port`
    /// for one that speaks TLS ([`NodeBuilder::peer_tls`]), or several of these, separated by commas:
    /// the others try one after the other, from the one that led there last. To those who do not know
    /// the node yet it tells no more than [`ADDRESS_BYTES_MAX`](crate::ADDRESS_BYTES_MAX) of that. The
    /// founders count only if the folder is new; afterwards the log knows the members. Without any, the
    /// node founds a cluster of its own.
    pub fn member(mut self, id: impl Into<NodeId>, address: impl Into<String>) -> Self {
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: address.into(),
            context: bytes::Bytes::new(),
        };
        self.founders.members.insert(id.into(), member);
        self
    }

    /// Sets all founding members at once, with their roles, ranks and contexts.
    pub fn members(mut self, founders: Configuration) -> Self {
        self.founders = founders;
        self
    }

    /// The node founds nothing: it listens, and waits for a cluster of its id to add it
    /// ([`Node::members`]). Counts only if the folder is new; excludes founding members, and needs
    /// an address to listen on.
    pub fn join(mut self) -> Self {
        self.joins = true;
        self.founders = Configuration::default();
        self
    }

    /// Where to listen for the other nodes, `host:port` or `https://host:port`; the node's own
    /// address among the founders unless set. Whether TLS is spoken there is said by
    /// [`NodeBuilder::peer_tls`]; what is said here is told to others. More than one, if it is said
    /// again or there are commas.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        let address = address.into();
        self.listen = Some(match self.listen {
            Some(others) => format!("{others},{address}"),
            None => address,
        });
        self
    }

    /// Listens on a socket that is bound already; on several, if it is said again.
    pub fn listener(mut self, socket: TcpListener) -> Self {
        self.entrances.push(Entrance { socket, is_plain: false });
        self
    }

    /// The same for a socket at which nobody speaks TLS, whatever [`PeerTls::listens`] says of the
    /// others.
    pub fn plain_listener(mut self, socket: TcpListener) -> Self {
        self.entrances.push(Entrance { socket, is_plain: true });
        self
    }

    /// The settings of the protocol.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The settings of forwarding, reading and compaction.
    pub fn driver_options(mut self, options: DriverOptions) -> Self {
        self.driver_options = options;
        self
    }

    /// The settings of the log.
    pub fn wal_options(mut self, options: WalOptions) -> Self {
        self.wal_options = options;
        self
    }

    /// The settings of the connections between nodes.
    pub fn transport_options(mut self, options: TransportOptions) -> Self {
        self.transport_options = options;
        self
    }

    /// Speaks TLS with those nodes whose address begins with `https://`, and with those who call if
    /// [`PeerTls::listens`] says so. Without it everything is said in the clear.
    ///
    /// ```no_run
    /// # use quorate::{Node, PEER_PROTOCOL, PeerTls};
    /// # use quorate_tls::{Tls, TlsFiles};
    /// let tls = Tls::load(TlsFiles {
    ///     cert: Some("n1.pem".into()),
    ///     key: Some("n1-key.pem".into()),
    ///     trusted_ca: Some("ca.pem".into()),
    ///     client_cert_auth: true,
    ///     protocols: vec![PEER_PROTOCOL.to_owned()],
    ///     ..TlsFiles::default()
    /// })?;
    /// let builder = Node::builder(1, "n1")
    ///     .member(1, "https://n1.example:2380")
    ///     .member(2, "https://n2.example:2380")
    ///     .peer_tls(PeerTls { tls, listens: true });
    /// # Ok::<(), quorate_tls::TlsError>(())
    /// ```
    pub fn peer_tls(mut self, peer_tls: PeerTls) -> Self {
        self.peer_tls = Some(peer_tls);
        self
    }

    /// The limits of the node's own calls.
    pub fn node_options(mut self, options: NodeOptions) -> Self {
        self.node_options = options;
        self
    }

    /// One number instead of many limits: how many bytes the node may hold in memory, whatever happens:
    /// a flood of proposals, a follower or a state machine that stands still, a disk that is slow.
    /// Every limit of [`Options`], [`DriverOptions`], [`TransportOptions`] and [`NodeOptions`] on bytes
    /// is lowered to its share, with room for six other members; what finds no room is refused with
    /// [`Refusal::Overloaded`](crate::Refusal::Overloaded), or waits at its sender. Counted are
    /// commands, messages, what is kept of the log, and who waits; not the state machine, nor the table
    /// of sessions. How large a message may be follows from
    /// [`NodeOptions::command_bytes_max`], [`Options::append_bytes_max`] and
    /// [`Options::snapshot_chunk_bytes_max`]: they should be the same on all nodes, and small where the
    /// budget is.
    ///
    /// A start whose budget has no room for the largest command is refused with
    /// [`SettingsError::Budget`](crate::SettingsError::Budget), which says how much would do: some
    /// 242 MiB for commands of 1 MiB, and 17 MiB where commands, messages and pieces of snapshots are of
    /// 64 KiB. (Follower-to-leader credit is that of TCP: who is behind stops reading.)
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.budget = Some(Budget::new(bytes));
        self
    }

    /// What the node's chance comes from, for tests that shall repeat; the operating system's
    /// entropy unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where the log and the snapshots are kept, if not on the system's disk: for tests of what a disk
    /// may do. A state machine's own files are its own affair.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = SomeDisk(disk);
        self
    }

    /// Through which a state machine with files of its own says that a write of it waits for room, and
    /// hears when to try again.
    pub fn disk_watch(mut self, watch: DiskWatch) -> Self {
        self.disk_watch = watch;
        self
    }

    /// For one start, after [`NodeFailure::Diverged`](crate::NodeFailure::Diverged): the node gives up its
    /// state, which `empty` removes from wherever the state machine keeps it (a volatile one keeps it
    /// nowhere), and has it anew, from the log, or from a snapshot of the leader's if the log does not
    /// begin at the beginning. Until that is here the node votes and acknowledges, and neither leads nor
    /// answers reads. A node whose state was not found to be wrong takes no notice, and `empty` is not
    /// called.
    pub fn rebuild_state(
        mut self,
        empty: impl FnOnce() -> Result<(), Fatal> + Send + 'static,
    ) -> Self {
        self.rebuild = Rebuild(Some(Box::new(empty)));
        self
    }

    /// Opens the folder or founds it, restores the state machine if that is needed, and starts the
    /// node. It takes part from then on; wait for a leader with [`Node::status_changes`], or just
    /// propose.
    ///
    /// # Errors
    ///
    /// [`StartError`]; no thread or socket is left then.
    pub async fn start(self, machine: impl StateMachine) -> Result<Node, StartError> {
        self.start_with(|| Ok(machine)).await
    }

    /// As [`NodeBuilder::start`], with a state machine that is opened only when the log has been
    /// found sound and to be this node's: a start that is refused leaves its files alone.
    ///
    /// # Errors
    ///
    /// [`StartError`]; no thread or socket is left then.
    pub async fn start_with<M: StateMachine>(
        mut self,
        open: impl FnOnce() -> Result<M, Fatal> + Send + 'static,
    ) -> Result<Node, StartError> {
        let settings = self.settings()?;
        self.check_certificate()?;
        let entrances = self.bind()?;
        let founders = self.founders();
        let address = match founders.members.get(&self.id) {
            Some(member) => member.address.clone(),
            None => self.listen.unwrap_or_default(),
        };
        let Settings { core, driver, transport, node, budget: _ } = settings.clone();
        let command_bytes_max = node.command_bytes_max;
        let launched = launch(Launch {
            open: Opening {
                wal_dir: self.wal_dir,
                request: OpenRequest {
                    disk: self.disk.0,
                    id: self.id,
                    dir: self.dir,
                    cluster_id: self.cluster_id,
                    founders: Arc::new(founders),
                    options: core,
                    driver_options: driver,
                    wal_options: self.wal_options,
                    seed: self.seed.unwrap_or_else(entropy),
                    storage_id: u128::from(entropy()) << 64 | u128::from(entropy()),
                    incarnation: entropy(),
                    now: Time::ZERO,
                    rebuild: self.rebuild.0,
                },
            },
            machine: Box::new(|| {
                let machine: Box<dyn StateMachine> = Box::new(open()?);
                Ok(machine)
            }),
            entrances,
            address,
            options: node,
            transport,
            security: self.peer_tls,
            disk: self.disk_watch,
        });
        Ok(Node::launched(launched.await?, command_bytes_max, settings))
    }

    /// Makes the folder of a founder whose cluster begins with the state that `machine` has, as of the
    /// entry `applied`, and starts nothing: for a cluster that goes on from a backup. Every founder's
    /// folder is made so, from the same state with the same members; then each is started as usual,
    /// with a machine that has this state or none. As in any new cluster, nobody votes before all
    /// founders have been up together, and begin alike. Blocks on the disk.
    ///
    /// What `machine` has noted of sessions goes with the state; a machine that was made from another
    /// cluster's backup has noted nothing.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the node is no founder, `applied` is no entry's place, there is a log already,
    /// the machine or the disk refuses. Without its log, which comes last, the folder is of no use.
    pub fn found_after(self, applied: LogId, machine: impl StateMachine) -> Result<(), StartError> {
        let founders = Arc::new(self.founders());
        let storage_id = u128::from(entropy()) << 64 | u128::from(entropy());
        let request = FoundRequest {
            disk: self.disk.0,
            dir: self.dir,
            wal_dir: self.wal_dir,
            identity: Identity { cluster_id: self.cluster_id, node_id: self.id, storage_id },
            founders,
            wal_options: self.wal_options,
            applied,
        };
        found(request, Box::new(machine))
    }

    /// What counts, within the budget if there is one.
    fn settings(&self) -> Result<Settings, StartError> {
        let mut settings = Settings {
            core: self.options.clone(),
            driver: self.driver_options.clone(),
            transport: self.transport_options.clone(),
            node: self.node_options.clone(),
            budget: self.budget,
        };
        settings.fit()?;
        Ok(settings)
    }

    fn check_certificate(&self) -> Result<(), StartError> {
        match &self.peer_tls {
            Some(PeerTls { tls, listens: true }) if tls.server().is_none() => {
                Err(StartError::NoCertificate)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Binds on the caller's thread, so that a port in use is known before anything else happens.
    fn bind(&mut self) -> Result<Vec<Entrance<TcpListener>>, StartError> {
        let mut entrances = std::mem::take(&mut self.entrances);
        if entrances.is_empty() {
            for address in self.own_addresses()? {
                let bound = TcpListener::bind(address.authority);
                let address = address.to_string();
                let socket = bound.map_err(|source| StartError::Listen { address, source })?;
                entrances.push(Entrance { socket, is_plain: false });
            }
        }
        for Entrance { socket, .. } in &entrances {
            socket.set_nonblocking(true).map_err(|source| {
                let address = socket.local_addr().map(|address| address.to_string());
                StartError::Listen { address: address.unwrap_or_default(), source }
            })?;
        }
        Ok(entrances)
    }

    /// Where to listen if no socket was given.
    fn own_addresses(&self) -> Result<Vec<PeerAddress<'_>>, StartError> {
        let founder = || self.founders.members.get(&self.id).map(|member| &member.address);
        let text = match &self.listen {
            Some(text) => Some(text),
            None if self.joins => return Err(StartError::NotListening),
            None if self.founders.members.len() < 2 => None,
            None => founder(),
        };
        Ok(text.map(|text| PeerAddress::all(text).collect()).unwrap_or_default())
    }

    /// The founders given, or the node alone.
    fn founders(&self) -> Configuration {
        if self.joins || !self.founders.members.is_empty() {
            return self.founders.clone();
        }
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: self.listen.clone().unwrap_or_default(),
            context: bytes::Bytes::new(),
        };
        Configuration::new(0, [(self.id, member)].into())
    }
}

/// A fresh hasher is seeded by the standard library from the operating system's entropy.
pub(super) fn entropy() -> u64 {
    let state = RandomState::new();
    let mut hasher = state.build_hasher();
    hasher.write_u64(u64::from(std::process::id()));
    hasher.finish()
}
