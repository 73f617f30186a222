//! One simulated machine: its disk, and the shipped node that runs on it while it is up. Knows how
//! a node starts from what its disk holds; what it does then is in the rooms beside this one.

use super::ClusterOptions;
use super::clock::Clock;
use super::lanes::{Lane, UnderWay};
use super::wipes::Wiped;
use crate::disk::SimDisk;
use crate::faults::Faults;
use crate::judge::{Asked, Found};
use crate::rng::Rng;
use quorate::parts::{
    EmptyMachine, FilesWorker, LogWorker, MachineWorker, OpenRequest, Opened, RoomKeeper,
    SharedStore, SnapshotJob,
};
use quorate::{Applier, Driver, DriverOptions, Input, StartError, StateMachine, Ticket};
use quorate_core::{Configuration, LogIndex, NodeId, Options, ProtocolVersion, Role, Term, Time};
use quorate_wal::{Wal, WalOptions};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The cluster's id; there is only one in a world.
const CLUSTER_ID: u64 = 0x51;

/// Where a node keeps its files.
const DATA_DIR: &str = "/data";

/// A machine.
pub(super) struct SimNode {
    pub(super) id: NodeId,
    /// The protocol that its program speaks.
    pub(super) program: ProtocolVersion,
    /// The latest that a program of it has spoken.
    pub(super) spoke: ProtocolVersion,
    pub(super) disk: SimDisk,
    pub(super) clock: Clock,
    /// Counts crashes and starts; what is due for an earlier life is void.
    pub(super) life: u64,
    pub(super) state: State,
    pub(super) paused: bool,
    /// By how much its clock has jumped since it looked last.
    pub(super) jumped: Duration,
    /// It crashes after carrying out this many more outputs.
    pub(super) crash_after_outputs: Option<u32>,
    /// The disk finishes nothing before this.
    pub(super) hang: Option<Hang>,
    /// Its disk has gone bad somewhere, or is gone: it may refuse to work, but not be wrong.
    pub(super) is_touched: bool,
    /// The identity of its disk, if a folder is made on it.
    pub(super) storage_id: u128,
    /// Its disk was replaced.
    pub(super) wiped: Option<Wiped>,
    /// It ended because its state is wrong from here on, and has it rebuilt when it starts.
    pub(super) diverged: Option<LogIndex>,
    /// It never starts again: the machine is gone, or the node refuses to work with what the disk
    /// holds.
    pub(super) is_lost: bool,
    pub(super) rng: Rng,
}

/// A disk that does not finish what it has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hang {
    pub(super) until: Time,
    /// Whether another start of the machine ends it.
    pub(super) ends_with_crash: bool,
}

/// What a machine is doing.
pub(super) enum State {
    Down,
    /// It has read its disk, and the time that takes is not over.
    Starting(Box<Reading>),
    Up(Box<Running>),
}

/// What a node read from its disk, and the work that this was.
pub(super) struct Reading {
    pub(super) task: crate::disk::Task,
    pub(super) opened: Opened,
    pub(super) digest: Option<Box<dyn Fn() -> u64>>,
}

/// A node that is up.
pub(super) struct Running {
    pub(super) driver: Driver,
    pub(super) store: SharedStore,
    pub(super) digest: Option<Box<dyn Fn() -> u64>>,
    pub(super) inbox: Vec<Input>,
    /// When the loop looks next, if that is planned.
    pub(super) turn_at: Option<Time>,
    /// When turns are planned in the queue: never later than `turn_at`, at times too early.
    pub(super) alarms: Vec<Time>,
    pub(super) log: Lane<LogWorker>,
    pub(super) files: Lane<FilesWorker>,
    pub(super) machine: Lane<MachineWorker>,
    pub(super) writer: Lane<VecDeque<SnapshotJob>>,
    /// Looks after the room on the disk.
    pub(super) keeper: RoomKeeper,
    /// Callers who wait, and what for.
    pub(super) callers: BTreeMap<Ticket, Caller>,
    /// The role and term last noted in the story.
    pub(super) noted: (Role, Term),
    /// Deadlines in a row at the same time.
    pub(super) deadline_streak: u32,
    pub(super) turned_at: Time,
    /// Turns in this life.
    pub(super) turn_count: u64,
    /// When the writes that are not durable yet were asked for.
    pub(super) asked: VecDeque<Time>,
    /// When the log, if it stays idle, notes how far it is durable.
    pub(super) mark_at: Option<Time>,
    /// It is to do so now.
    pub(super) is_mark_due: bool,
    /// Among the writes that wait is one of a kind that is rare.
    pub(super) is_rare_write: bool,
}

/// What a caller waits for.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    Command,
    /// A linearizable read, and what was so when it arrived.
    Query(bytes::Bytes, Asked),
    /// A read of this age at most, and what it has to show at least.
    Bounded(bytes::Bytes, LogIndex, Duration),
    /// A read that promises less than linearizability.
    Weak(bytes::Bytes),
}

impl SimNode {
    pub(super) fn new(id: NodeId, faults: &Faults, mut rng: Rng) -> Self {
        let disk = SimDisk::new(rng.fork("disk"));
        let clock = Clock::draw(faults.clocks, &mut rng.fork("clock"));
        let program = match faults.upgrades_every {
            Some(_) => ProtocolVersion::OLDEST,
            None => ProtocolVersion::NEWEST,
        };
        Self {
            id,
            program,
            spoke: program,
            disk,
            clock,
            life: 0,
            state: State::Down,
            paused: false,
            jumped: Duration::ZERO,
            crash_after_outputs: None,
            hang: None,
            is_touched: false,
            storage_id: id.get().into(),
            wiped: None,
            diverged: None,
            is_lost: false,
            rng,
        }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Up(running) => Some(running),
            State::Down | State::Starting(_) => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Up(running) => Some(running),
            State::Down | State::Starting(_) => None,
        }
    }

    pub(super) const fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }
}

/// Whether a node has kept a log on this disk.
pub(super) fn has_log(disk: &SimDisk) -> bool {
    Wal::exists(disk, &Path::new(DATA_DIR).join("wal")).unwrap_or(false)
}

/// Reads the disk as a starting node does, by the shipped code.
///
/// # Errors
///
/// What keeps the node from starting.
pub(super) fn read_disk(
    node: &mut SimNode,
    options: &ClusterOptions,
    now: Time,
    founders: Arc<Configuration>,
    machine: Box<dyn StateMachine>,
) -> Result<Opened, StartError> {
    let disk = node.disk.clone();
    read(disk, node, options, now, founders, machine)
}

/// As [`read_disk`], whosever disk it is.
pub(super) fn read(
    disk: SimDisk,
    node: &mut SimNode,
    options: &ClusterOptions,
    now: Time,
    founders: Arc<Configuration>,
    machine: Box<dyn StateMachine>,
) -> Result<Opened, StartError> {
    let disk = Arc::new(disk);
    let kept_free_bytes = keeper(disk.clone(), options).kept_free_bytes();
    let request = OpenRequest {
        disk,
        id: node.id,
        dir: DATA_DIR.into(),
        cluster_id: CLUSTER_ID,
        founders,
        options: raft_options(options),
        driver_options: DriverOptions { protocol_version: node.program, ..options.driver.clone() },
        wal_options: WalOptions { kept_free_bytes, ..options.wal },
        seed: node.rng.word(),
        storage_id: node.storage_id,
        incarnation: node.life,
        now: node.clock.own(now),
        rebuild: node.diverged.map(|_| -> EmptyMachine { Box::new(|| Ok(())) }),
    };
    quorate::parts::open(request, Box::new(|| Ok(machine)))
}

fn raft_options(options: &ClusterOptions) -> Options {
    let raft = options.raft.clone();
    if options.faults.blind_watchdogs {
        return Options { disk_stall_timeout: Duration::MAX, ..raft };
    }
    raft
}

/// Who looks after the room on a node's disk.
fn keeper(disk: Arc<SimDisk>, options: &ClusterOptions) -> RoomKeeper {
    RoomKeeper::new(disk, DATA_DIR.into(), options.disk_reserve_bytes)
}

/// What recovery found, for the judges.
pub(super) fn found(opened: &Opened) -> Found {
    let raft = opened.driver.raft();
    let base = raft.base().last_included;
    let mut terms = VecDeque::new();
    let mut index = base.index.next();
    while index <= raft.last_log().index {
        terms.push_back(raft.term_at(index).unwrap_or_default());
        index = index.next();
    }
    Found { hard_state: opened.wal.hard_state(), base, terms }
}

/// The node that it has read.
pub(super) fn begin(
    reading: Reading,
    disk: SimDisk,
    options: &ClusterOptions,
    now: Time,
) -> Running {
    let Reading { opened, digest, .. } = reading;
    let Opened { wal, mut store, applier, latest, driver, scrubber } = opened;
    let keeper = keeper(Arc::new(disk), options);
    store.keep_free(keeper.kept_free_bytes());
    store.set_chunk_bytes(options.snapshot_hash_bytes);
    let noted = (driver.raft().role(), driver.raft().current_term());
    let store = SharedStore::new(store);
    Running {
        driver,
        store: store.clone(),
        digest,
        inbox: Vec::new(),
        turn_at: None,
        alarms: Vec::new(),
        log: Lane::new(LogWorker::new(wal)),
        files: Lane::new(FilesWorker::new(store.clone()).with_scrubber(scrubber)),
        writer: Lane::new(VecDeque::new()),
        machine: Lane::new(MachineWorker::new(applier, store, latest)),
        keeper,
        callers: BTreeMap::new(),
        noted,
        turn_count: 0,
        deadline_streak: 0,
        turned_at: now,
        asked: VecDeque::new(),
        mark_at: None,
        is_mark_due: false,
        is_rare_write: false,
    }
}

impl Running {
    /// Whether one of its threads waits for room.
    pub(super) fn waits_for_room(&self) -> bool {
        let is_full = |work: &Option<UnderWay>| work.as_ref().is_some_and(|work| work.is_full);
        [&self.log.under_way, &self.files.under_way, &self.writer.under_way]
            .into_iter()
            .any(is_full)
    }

    pub(super) const fn applier(&self) -> &Applier {
        self.machine.worker.applier()
    }
}
