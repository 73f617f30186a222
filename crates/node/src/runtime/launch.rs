//! Starts a node's threads and ends them. Whatever happens in between, every thread is joined and
//! every caller answered.

use super::apply_thread::ApplyThread;
use super::black_box::BlackBox;
use super::clock::JumpWatch;
use super::event_loop::{EventLoop, Transfer};
use super::files_thread::FilesThread;
use super::log_place;
use super::open::{OpenMachine, OpenRequest, Opened, open_at};
use super::passage::Milestones;
use super::queue::{Queue, lock};
use super::shared::{Shared, SharedParts, panic_message};
use super::wal_thread::WalThread;
use super::{CallerLimit, DiskWatch, Mailbox};
use crate::metrics::Metrics;
use crate::node::NodeOptions;
use crate::transport::{Entrance, LocalIdentity, PeerTls, Transport, TransportOptions};
use crate::work::{
    FileJob, FilesWorker, LogJob, LogWorker, MachineWorker, RoomKeepers, SharedStore,
};
use crate::{NodeFailure, NodeStatus, StartError};
use quorate_core::NodeId;
use std::any::Any;
use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long a name that is being resolved may hold up the end of a node.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(1);

/// What a node is opened with, by somebody who may have its log elsewhere.
pub(crate) struct Opening {
    pub(crate) request: OpenRequest,
    /// Where the log is, if not in the folder.
    pub(crate) wal_dir: Option<PathBuf>,
}

/// What a node is launched with.
pub(crate) struct Launch {
    pub(crate) open: Opening,
    pub(crate) machine: OpenMachine,
    pub(crate) entrances: Vec<Entrance<TcpListener>>,
    pub(crate) address: String,
    pub(crate) options: NodeOptions,
    pub(crate) transport: TransportOptions,
    pub(crate) security: Option<PeerTls>,
    pub(crate) disk: DiskWatch,
}

/// A node that runs.
pub(crate) struct Launched {
    pub(crate) shared: Arc<Shared>,
    pub(crate) raft_thread: JoinHandle<()>,
}

type Started = oneshot::Sender<Result<Arc<Shared>, StartError>>;

/// Starts a node; everything that blocks happens on its own threads.
pub(crate) async fn launch(launch: Launch) -> Result<Launched, StartError> {
    let (started, result) = oneshot::channel();
    let name = thread_name("raft", launch.open.request.id);
    let thread = Builder::new().name(name).spawn(move || raft_thread(launch, started));
    let raft_thread = thread.map_err(StartError::Threads)?;
    let result = result.await;
    match result {
        Ok(Ok(shared)) => Ok(Launched { shared, raft_thread }),
        Ok(Err(error)) => {
            join(raft_thread);
            Err(error)
        }
        Err(_) => {
            let panic = raft_thread.join().err();
            let message = panic.map(|panic| panic_message(panic.as_ref())).unwrap_or_default();
            Err(StartError::Panicked { message })
        }
    }
}

/// The whole life of a node.
fn raft_thread(launch: Launch, started: Started) {
    match assemble(launch) {
        Ok(assembled) => {
            let shared = Arc::clone(&assembled.shared);
            // A caller who has gone away has dropped the node before it began.
            if started.send(Ok(Arc::clone(&shared))).is_err() {
                shared.fail(NodeFailure::Stopped);
            }
            assembled.live();
        }
        Err(error) => {
            let _gone = started.send(Err(error));
        }
    }
}

/// A node that is ready to live.
struct Assembled {
    shared: Arc<Shared>,
    runtime: Runtime,
    event_loop: EventLoop,
    workers: Workers,
    hold: Hold,
}

/// The other threads.
struct Workers {
    queues: Queues,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Queues {
    wal: Arc<Queue<LogJob>>,
    files: Arc<Queue<FileJob>>,
}

fn assemble(launch: Launch) -> Result<Assembled, StartError> {
    let Launch { open, machine, entrances, address, options, transport, security, disk } = launch;
    let cluster_id = open.request.cluster_id;
    let black_box = BlackBox::new(&open.request.dir);
    let Parts { opened, keeper, hold } =
        open_parts(open, machine, options.disk_reserve_bytes, &disk)?;
    let status = first_status(&opened, cluster_id);
    let identity = identity(&status, address);
    disk.begin();
    let shared = Arc::new(Shared::new(SharedParts {
        mailbox: mailbox(&options),
        waiters_count_max: options.waiting_requests_count_max,
        metrics: Arc::new(Metrics::default()),
        status,
        keeps_sessions: opened.applier.keeps_sessions(),
        disk,
        black_box,
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StartError::Threads)?;
    let transport = {
        let _inside = runtime.enter();
        let entrances = entrances.into_iter().map(Entrance::opened).collect::<io::Result<_>>();
        let entrances = entrances.map_err(StartError::Threads)?;
        let (mailbox, metrics) = (Arc::clone(&shared.mailbox), Arc::clone(&shared.metrics));
        Transport::new(identity, transport, security, entrances, mailbox, metrics)
    };
    let Opened { wal, store, applier, latest, driver, scrubber } = opened;
    let store = SharedStore::new(store);
    let queues = Queues { wal: Arc::new(Queue::new()), files: Arc::new(Queue::new()) };
    let mut workers = Workers { queues: queues.clone(), threads: Vec::new() };
    let files = FilesThread {
        worker: FilesWorker::new(store.clone()).with_scrubber(scrubber),
        queue: Arc::clone(&queues.files),
        shared: Arc::clone(&shared),
        keeper,
    };
    let worker = MachineWorker::new(applier, store, latest);
    let apply = ApplyThread { worker, shared: Arc::clone(&shared), writer: None };
    let wal = WalThread {
        worker: LogWorker::new(wal),
        queue: Arc::clone(&queues.wal),
        files: Arc::clone(&queues.files),
        shared: Arc::clone(&shared),
        try_again_at: None,
    };
    let started = workers
        .spawn(&shared, "files", move || files.run())
        .and_then(|()| workers.spawn(&shared, "apply", move || apply.run()))
        .and_then(|()| workers.spawn(&shared, "log", move || wal.run()));
    if let Err(error) = started {
        workers.end(&shared);
        return Err(StartError::Threads(error));
    }
    let event_loop = EventLoop {
        shared: Arc::clone(&shared),
        driver,
        transport,
        wal: queues.wal,
        files: queues.files,
        inputs: Vec::new(),
        outputs: Vec::new(),
        transfer: Transfer::default(),
        milestones: Milestones::default(),
        late_at: None,
        jumps: JumpWatch::default(),
        admission_told: None,
    };
    Ok(Assembled { shared, runtime, event_loop, workers, hold })
}

fn identity(status: &NodeStatus, address: String) -> LocalIdentity {
    LocalIdentity {
        cluster_id: status.cluster_id,
        node_id: status.id,
        storage_id: status.storage_id,
        address,
        newest: status.protocol_version,
    }
}

fn mailbox(options: &NodeOptions) -> Mailbox {
    Mailbox::new(CallerLimit {
        count_max: options.queued_requests_count_max,
        bytes_max: options.queued_requests_bytes_max,
    })
}

/// The parts of the node, who looks after the room on their disks, and the lock of its folder.
struct Parts {
    opened: Opened,
    keeper: Arc<Mutex<RoomKeepers>>,
    hold: Hold,
}

/// The lock of a folder whose log, which has one of its own, is elsewhere.
type Hold = Option<Box<dyn Any + Send + Sync>>;

fn open_parts(
    opening: Opening,
    machine: OpenMachine,
    reserve_bytes_max: u64,
    watch: &DiskWatch,
) -> Result<Parts, StartError> {
    let Opening { mut request, wal_dir } = opening;
    let (disk, dir) = (Arc::clone(&request.disk), request.dir.clone());
    let place = log_place::find(disk.as_ref(), &dir, wal_dir.as_deref())?;
    let hold = place.hold(disk.as_ref(), &dir)?;
    let log_dir = place.is_elsewhere().then(|| place.dir());
    let keeper = RoomKeepers::new(&disk, &dir, log_dir, reserve_bytes_max);
    let kept_free_bytes = keeper.data().kept_free_bytes();
    request.wal_options.kept_free_bytes = keeper.log().kept_free_bytes();
    let keeper = Arc::new(Mutex::new(keeper));
    let machine = after_first_look(Arc::clone(&keeper), watch.clone(), machine);
    let opened = catch_unwind(AssertUnwindSafe(|| open_at(request, place.dir(), machine)));
    let mut opened = opened
        .map_err(|panic| StartError::Panicked { message: panic_message(panic.as_ref()) })??;
    // Before the node promises anything: from now on no start does without this log.
    place.confirm(disk.as_ref(), &dir, opened.wal.identity().storage_id, opened.wal.era())?;
    opened.store.keep_free(kept_free_bytes);
    Ok(Parts { opened, keeper, hold })
}

/// Before the state machine is opened, which may need room, and not before the folder is known to be
/// ours, the disk is looked at. A look that fails is nobody's end.
fn after_first_look(
    keeper: Arc<Mutex<RoomKeepers>>,
    watch: DiskWatch,
    machine: OpenMachine,
) -> OpenMachine {
    Box::new(move || {
        match lock(&keeper).begin() {
            Ok(room) => watch.show(room),
            Err(error) => tracing::warn!("the disk has no reserve: {error}"),
        }
        machine()
    })
}

fn first_status(opened: &Opened, cluster_id: u64) -> NodeStatus {
    let raft = opened.driver.raft();
    NodeStatus {
        id: raft.id(),
        cluster_id,
        storage_id: opened.wal.identity().storage_id,
        protocol_version: opened.driver.protocol_version(),
        role: raft.role(),
        is_ready: raft.is_ready(),
        current_term: raft.current_term(),
        leader: None,
        commit_index: raft.commit_index(),
        applied: opened.driver.applied(),
        durable_index: raft.durable_index(),
        last_log: raft.last_log(),
        base: raft.base().last_included,
        configuration: Arc::clone(raft.configuration()),
        committed_configuration: Arc::clone(raft.committed_configuration().1),
        change_waits: Vec::new(),
        removed_at: raft.removed_at(),
        admission: opened.driver.admission(),
        differing: Arc::clone(opened.driver.differing()),
        rotten: Arc::clone(opened.driver.rotten()),
        lost: raft.lost(),
        pending_count: 0,
        transferring: None,
        transfers_ended: 0,
    }
}

impl Assembled {
    /// Runs the event loop to its end, and then everything else.
    fn live(self) {
        let Self { shared, runtime, event_loop, workers, hold } = self;
        shared.guard("raft", || {
            // As a task of its own: the runtime wakes a task without a system call when the news
            // comes from one of its own sockets.
            let ended = runtime.block_on(async { tokio::spawn(event_loop.run()).await });
            ended.map_err(|error| NodeFailure::Panicked {
                thread: "raft",
                message: match error.try_into_panic() {
                    Ok(panic) => panic_message(panic.as_ref()),
                    Err(error) => error.to_string(),
                },
            })
        });
        // Closes the sockets.
        runtime.shutdown_timeout(RESOLVER_PATIENCE);
        workers.end(&shared);
        drop(hold);
        shared.fail(NodeFailure::Stopped);
        shared.waiters.close();
        shared.ended.send_replace(true);
    }
}

impl Workers {
    fn spawn(
        &mut self,
        shared: &Arc<Shared>,
        name: &'static str,
        body: impl FnOnce() -> Result<(), NodeFailure> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(shared);
        let thread = Builder::new().name(thread_name(name, shared.status.borrow().id));
        self.threads.push(thread.spawn(move || shared.guard(name, body))?);
        Ok(())
    }

    /// Lets the threads finish what they were given, and ends them. The log comes first, so that
    /// what it makes durable last is known to nobody but the disk.
    fn end(self, shared: &Shared) {
        shared.disk.close();
        self.queues.wal.close();
        shared.apply.close();
        self.queues.files.close();
        self.threads.into_iter().for_each(join);
    }
}

/// The duty comes first: the kernel shows 15 characters of a thread's name.
fn thread_name(duty: &str, id: NodeId) -> String {
    format!("{duty}-{id}")
}

/// Joins a thread whose panics were dealt with inside it.
fn join(thread: JoinHandle<()>) {
    let _ended = thread.join();
}
