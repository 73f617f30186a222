//! A whole cluster in one thread and virtual time: the shipped nodes on simulated machines, their
//! clients, their troubles and their judges. The seed decides everything; no clock, thread or
//! randomly ordered map may have a say.

mod arrivals;
mod atlas;
mod clients;
mod clock;
mod diverged;
mod draw;
mod happening;
mod healing;
mod lanes;
mod last_words;
mod life;
mod looks;
mod membership;
mod moment;
mod node;
mod reading;
mod room;
mod rpcs;
mod rumours;
mod sabotage;
mod settings;
mod states;
mod story;
mod telling;
mod trouble;
mod turn;
mod upgrades;
mod watches;
mod wipes;
mod wires;
mod work;

use crate::application::Application;
use crate::counts::{Counts, MessageCounts};
use crate::faults::Faults;
use crate::judge::{Breach, Safety};
use crate::network::Network;
use crate::ordinals::Ordinals;
use crate::pace::Pace;
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::Trace;
use bytes::BytesMut;
use clients::Clients;
use draw::{
    draw_changes, draw_copies, draw_limits, draw_members, draw_reads, draw_reserve, draw_rumours,
    draw_settings, draw_timeouts, draw_upgrades, draw_wipes, millis,
};
use happening::Happening;
use membership::{Wishes, founders};
use moment::Moment;
use node::SimNode;
use quorate::DriverOptions;
use quorate_core::invariants::ClusterChecker;
use quorate_core::{Configuration, NodeId, Options, Role, Time};
use quorate_wal::WalOptions;
use reading::Reading;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use trouble::Troubles;

pub use membership::{member, voters};
pub use reading::ReadKinds;
pub use rpcs::RpcCounts;
pub use story::seconds;

/// Messages that are encoded side by side share an allocation of this size.
const SCRATCH_BYTES: usize = 64 << 10;

/// Everything that a world is made from.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many voters; their ids are 1, 2, ...
    pub node_count: u64,
    /// How many learners, with the ids behind.
    pub learner_count: u64,
    /// The voters' election ranks, in the order of their ids; 0 for who has none here.
    pub ranks: Vec<u32>,
    /// How slowly everything goes; all times here are already stretched by it.
    pub pace: Pace,
    /// Settings of the cores.
    pub raft: Options,
    /// Settings of the drivers.
    pub driver: DriverOptions,
    /// Settings of the logs.
    pub wal: WalOptions,
    /// How much of its disk each node holds in reserve; nobody looks how full disks are, if 0.
    pub disk_reserve_bytes: u64,
    /// The size of what a snapshot on its way is checked by, in bytes.
    pub snapshot_hash_bytes: u32,
    /// How long a log is idle before it notes how far it is durable; never, if absent.
    pub idle_before_mark: Option<Duration>,
    /// Whether, in the end, first a random majority has to serve alone, while everybody else is
    /// down or cut off.
    pub heals_core_first: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// How many clients ask at the same time.
    pub client_count: usize,
    /// How long a client thinks between two requests, on average.
    pub think_mean: Duration,
    /// After it has thought, a client makes up to this many further requests without thinking.
    pub burst_count_max: u64,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// How clients read, if not only linearizably, at a known place, and whatever a node has.
    pub reads: Option<ReadKinds>,
    /// How many requests all clients together make; no limit if absent.
    pub request_count_max: Option<u64>,
    /// Troubles that do not happen, by their ordinals; all others stay as they are.
    pub skipped_troubles: Ordinals,
    /// Another order of chance for the same troubles: of delays, reactions, and clients.
    pub schedule: u64,
}

impl ClusterOptions {
    /// A quiet world without clients: for stories that bring their own troubles.
    #[must_use]
    pub fn calm(seed: u64, node_count: u64) -> Self {
        Self {
            seed,
            node_count,
            learner_count: 0,
            ranks: Vec::new(),
            pace: Pace::NORMAL,
            raft: Options::default(),
            driver: DriverOptions {
                compact_log_count: 200,
                compact_log_bytes: 64 << 10,
                retain_log_count: 50,
                catch_up_log_bytes_max: 128 << 10,
                ..DriverOptions::default()
            },
            wal: WalOptions {
                segment_size_bytes: 32 << 10,
                first_segment_size_bytes: 8 << 10,
                tail_bytes_max: 16 << 10,
                kept_free_bytes: 0,
                mends: false,
            },
            disk_reserve_bytes: 0,
            snapshot_hash_bytes: 4 << 10,
            idle_before_mark: None,
            heals_core_first: false,
            faults: Faults::none(),
            client_count: 0,
            think_mean: Duration::from_millis(250),
            burst_count_max: 0,
            patience: Duration::from_secs(5),
            reads: None,
            request_count_max: None,
            skipped_troubles: Ordinals::default(),
            schedule: 0,
        }
    }

    /// A world whose troubles, limits and clients are drawn from the seed; its members too, if
    /// `node_count` is 0: then there are 1 to 7 voters and up to 2 learners.
    #[must_use]
    pub fn swarm(seed: u64, node_count: u64) -> Self {
        let mut rng = Rng::new(seed).fork("options");
        let mut options = Self::calm(seed, node_count);
        draw_members(&mut options, &mut rng.fork("members"));
        options.faults = Faults::draw(&mut rng);
        // Not from the generator that draws the rest: worlds without them stay what they were.
        options.faults.draw_alarms(&mut Rng::new(seed).fork("alarms"));
        options.faults.disk.wipes_every = draw_wipes(&mut Rng::new(seed).fork("wipes"));
        options.heals_core_first = true;
        // As in the runtime.
        options.idle_before_mark = Some(millis(100));
        options.client_count = rng.index(10) + 1;
        let think_max_ms = rng.pick(&[20, 100, 1_000]).copied().unwrap_or(100);
        options.think_mean = rng.duration(millis(5), millis(think_max_ms));
        draw_timeouts(&mut options.raft, &mut rng);
        options.patience = rng.duration(Duration::from_secs(1), Duration::from_secs(8));
        options.driver.compact_log_count = rng.between(10, 400);
        options.driver.retain_log_count = rng.between(0, 60);
        options.wal.segment_size_bytes = rng.between(4 << 10, 64 << 10);
        options.wal.first_segment_size_bytes = rng.between(2 << 10, 8 << 10);
        options.wal.tail_bytes_max = rng.index(16 << 10);
        options.burst_count_max = rng.pick(&[0, 0, 5, 50]).copied().unwrap_or_default();
        draw_limits(&mut options, &mut rng);
        options.raft.append_bytes_max = rng.index(8 << 10) + 64;
        options.raft.in_flight_count_max = rng.index(16) + 1;
        options.raft.log_cache_bytes_max = rng.index(32 << 10) + 1;
        options.raft.load_bytes_max = rng.index(4 << 10) + 1;
        options.raft.snapshot_chunk_bytes_max = rng.index(2 << 10) + 64;
        if options.faults.disk.full.is_some() {
            options.disk_reserve_bytes = draw_reserve(&mut Rng::new(seed).fork("reserve"));
        }
        draw_copies(&mut options, seed);
        options.faults.changes_every = draw_changes(&mut Rng::new(seed).fork("changes"));
        options.faults.rumours_every = draw_rumours(&mut Rng::new(seed).fork("rumours"));
        options.faults.settings_every = draw_settings(&mut Rng::new(seed).fork("settings"));
        options.faults.upgrades_every = draw_upgrades(&mut Rng::new(seed).fork("upgrades"));
        draw_reads(&mut options, &mut Rng::new(seed).fork("kinds of reads"));
        options.at(Pace::draw(&mut rng.fork("pace")))
    }

    /// The same world, in which somebody wishes for other members this often.
    #[must_use]
    pub const fn with_changes(mut self, every: Duration) -> Self {
        self.faults.changes_every = Some(every);
        self
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn member_count(&self) -> u64 {
        self.node_count + self.learner_count
    }
}

/// A world.
pub struct Cluster<A: Application> {
    options: ClusterOptions,
    application: A,
    now: Time,
    queue: Queue<Happening>,
    nodes: BTreeMap<NodeId, SimNode>,
    founders: Arc<Configuration>,
    network: Network,
    /// Requests that reached each node.
    rpcs: BTreeMap<NodeId, RpcCounts>,
    clients: Clients,
    wishes: Wishes,
    reading: Reading,
    safety: Safety,
    invariants: ClusterChecker,
    trace: Trace,
    rng: Rng,
    troubles: Troubles,
    steps: u64,
    moment: Moment,
    states: states::States,
    /// Where messages are encoded; many share one allocation.
    scratch: BytesMut,
    /// Whether things go wrong by themselves and clients ask.
    is_troubled: bool,
    /// When an operator last looked after machines with new disks.
    wiped_looked_at: Option<Time>,
    /// While only some are healed: those.
    core: Option<BTreeSet<NodeId>>,
    breach: Option<Breach>,
}

impl<A: Application> Cluster<A> {
    /// A world in which every node is about to start for the first time.
    #[must_use]
    pub fn new(mut options: ClusterOptions, mut application: A) -> Self {
        application.begin(&options.faults);
        if let Some(limits) = application.session_limits() {
            options.driver.session_limits = limits;
        }
        let troubles = Troubles::new(&mut Rng::new(options.seed).fork("troubles"));
        let mut rng = Rng::new(options.seed.wrapping_add(options.schedule << 40)).fork("world");
        let ids: Vec<NodeId> = (1..=options.member_count()).map(NodeId::new).collect();
        let network = Network::new(options.faults.network, rng.fork("network"));
        let clients = Clients::new(rng.fork("clients"));
        let faults = &options.faults;
        let node = |id: &NodeId| (*id, SimNode::new(*id, faults, rng.fork("node")));
        let nodes = ids.iter().map(node).collect();
        let founders = Arc::new(founders(&options));
        let (safety, seed) = (Safety::founded(&founders), options.seed);
        let mut cluster = Self {
            options,
            application,
            now: Time::ZERO,
            queue: Queue::default(),
            nodes,
            founders,
            network,
            rpcs: BTreeMap::new(),
            clients,
            wishes: Wishes::default(),
            reading: Reading::new(seed),
            safety,
            invariants: ClusterChecker::new(),
            trace: Trace::default(),
            rng,
            troubles,
            steps: 0,
            moment: Moment::default(),
            states: states::States::default(),
            scratch: BytesMut::with_capacity(SCRATCH_BYTES),
            is_troubled: true,
            wiped_looked_at: None,
            core: None,
            breach: None,
        };
        for id in ids {
            cluster.set_disk_faults(id);
            cluster.start(id);
        }
        cluster.plan_troubles();
        for client in 0..cluster.options.client_count {
            cluster.plan_thought(client);
        }
        cluster.plan_first_looks();
        cluster
    }

    /// Lets the next thing happen; false if nothing is left to happen or a judge has spoken.
    pub(crate) fn step(&mut self) -> bool {
        if self.breach.is_some() {
            return false;
        }
        let Some((at, happening)) = self.queue.pop() else { return false };
        let before = self.now;
        self.now = before.max(at);
        self.steps += 1;
        self.begin_telling();
        let (kind, node, content) = happening.fingerprint();
        self.trace.event(self.now, kind, node, content);
        let happened = self
            .begin_moment(before)
            .and_then(|()| self.happen(happening))
            .and_then(|()| self.check_readers())
            .and_then(|()| self.compare_states_sometimes());
        if let Err(breach) = happened {
            self.breach = Some(breach);
        }
        self.tell_states();
        self.breach.is_none()
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Breach> {
        match happening {
            Happening::Deliver { from, to, connection, piece } => {
                self.deliver(from, to, connection, piece)
            }
            Happening::Release { from, to } => self.release(from, to),
            Happening::DeliverStale { from, to, lives, frame } => {
                self.deliver_stale(from, to, lives, &frame)
            }
            Happening::Disconnected { node, peer } => {
                self.disconnected(node, peer);
                Ok(())
            }
            Happening::Gone { node, peer } => {
                self.called_in_vain(node, peer);
                Ok(())
            }
            Happening::Turn { node, life } => self.turn_if_due(node, life),
            Happening::LaneDone { node, life, lane } => self.lane_done(node, life, lane),
            Happening::Started { node, life } => self.started(node, life),
            Happening::Start { node, life } => {
                if self.is_wanted(node)
                    && self.nodes.get(&node).is_some_and(|node| node.life == life && node.is_down())
                {
                    self.start(node);
                }
                Ok(())
            }
            Happening::CrashAtWork { node, life } => {
                self.crash_at_work(node, life);
                Ok(())
            }
            Happening::Mark { node, life } => self.mark_if_idle(node, life),
            Happening::LookForRoom { node, life } => self.look_for_room(node, life),
            Happening::EndFull { node } => {
                self.set_capacity(node, None);
                Ok(())
            }
            Happening::Resume { node } => {
                self.resume(node);
                Ok(())
            }
            Happening::Think { client } => {
                self.think(client);
                Ok(())
            }
            Happening::Look { watcher } => self.look_for_events(watcher),
            Happening::Ask { op, node, request } => self.ask(op, node, request),
            Happening::Read { node, life, ticket } => self.reads_late(node, life, ticket),
            Happening::Answer { op, outcome } => self.answer(op, outcome),
            Happening::Trouble(trouble) => {
                self.trouble(trouble);
                Ok(())
            }
            Happening::Cut { links } => {
                if self.is_troubled {
                    self.cut_links(&links);
                }
                Ok(())
            }
            Happening::Mend { links } => {
                self.mend(&links);
                Ok(())
            }
            Happening::EndOmission { links } => {
                for (from, to) in links {
                    self.network.omit(from, to, None);
                }
                Ok(())
            }
        }
    }

    /// The time in this world.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// How many things have happened.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn node_count(&self) -> u64 {
        self.options.node_count
    }

    /// How many clients ask.
    #[must_use]
    pub const fn client_count(&self) -> usize {
        self.options.client_count
    }

    /// How many requests they have made.
    #[must_use]
    pub const fn request_count(&self) -> u64 {
        self.clients.request_count()
    }

    /// How many troubles have come, skipped ones among them.
    #[must_use]
    pub const fn trouble_count(&self) -> u64 {
        self.troubles.count()
    }

    /// The hash over everything that has happened.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// How often things have happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.trace.counts;
        self.application.count(&mut counts);
        counts
    }

    /// What became of the messages.
    #[must_use]
    pub const fn message_counts(&self) -> MessageCounts {
        self.network.counts()
    }

    /// The last lines of the story.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.trace.story()
    }

    /// The program that is replicated, and its judge.
    #[must_use]
    pub const fn application(&self) -> &A {
        &self.application
    }

    /// How many entries are known to be committed.
    #[must_use]
    pub fn committed_count(&self) -> usize {
        self.safety.committed_count()
    }

    /// How many terms had a leader.
    #[must_use]
    pub fn leader_count(&self) -> usize {
        self.safety.leader_count()
    }

    /// The node that leads the highest term at this moment, if one believes to lead.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        let leaders = self.nodes.values().filter_map(|node| {
            let raft = node.running()?.driver.raft();
            (raft.role() == Role::Leader).then_some((raft.current_term(), node.id.get()))
        });
        leaders.max().map(|(_, id)| id)
    }
}
