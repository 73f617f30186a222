//! What a world needs to know of the program that it replicates: the state machine itself, what
//! clients ask of it, and what they may be told. Implement [`Application`] to run your own state
//! machine under every fault; the simulator's own is [`crate::kv::KvApplication`].

use crate::counts::Counts;
use crate::disk::SimDisk;
use crate::faults::Faults;
use crate::rng::{Chance, Rng};
use bytes::Bytes;
use quorate::{
    Committed, Consistency, Fatal, QueryError, Replies, SessionLimits, SessionRefusal,
    SessionRequest, SnapshotView, StateMachine,
};
use quorate_core::{LogId, LogIndex, NodeId};
use quorate_wal::Disk;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A replicated program and its judge.
///
/// The world calls [`Self::request`] whenever a client is free, and [`Self::answered`] exactly once
/// for each request. Moments count up over both, so that "A was answered before B was asked" is
/// `a_moment < b_moment`.
pub trait Application {
    /// The state machine of a node that starts: empty, or with what its files in `home`, or a storage
    /// of its own, kept.
    ///
    /// # Errors
    ///
    /// [`Fatal`] if it cannot be opened: then the node does not start, which is right if its disk
    /// has failed or gone bad, and a breach if not.
    fn machine(&mut self, home: &Home) -> Result<Machine, Fatal>;

    /// The world begins, with these troubles: some of them are the application's to make.
    fn begin(&mut self, _faults: &Faults) {}

    /// Adds what it counted itself to what the world did.
    fn count(&self, _counts: &mut Counts) {}

    /// What a client does next.
    fn request(&mut self, op: OpId, moment: u64, rng: &mut Rng) -> Request;

    /// What became of it.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if no correct program can have answered so.
    fn answered(&mut self, op: OpId, moment: u64, outcome: Outcome) -> Result<(), Complaint>;

    /// What the replicas keep of sessions, if its clients count on something.
    fn session_limits(&self) -> Option<SessionLimits> {
        None
    }

    /// How many clients are told what happens (watch, subscribe) without asking each time. The
    /// world lets each of them look again and again.
    fn watcher_count(&self) -> usize {
        0
    }

    /// Such a client looks for what it is told. `up` are the nodes that can be reached; a node that
    /// went away has its next life by [`Self::machine`]. Returns how long the client waits before
    /// it looks again, on average.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if no correct program can have told that.
    fn look(
        &mut self,
        watcher: usize,
        up: &[NodeId],
        rng: &mut Rng,
    ) -> Result<Duration, Complaint> {
        let _ = (watcher, up, rng);
        Ok(Duration::from_secs(1))
    }

    /// The world is healed and quiet: requests that look at everything that was ever acknowledged.
    /// They go through [`Self::answered`] like all others, with the ids that `next_op` gives.
    fn scan(&mut self, next_op: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)>;

    /// A request in a few words, for the readers of a story.
    fn describe(&self, _op: OpId, request: &Request) -> String {
        request.words()
    }

    /// What became of a request in a few words; asked before [`Self::answered`].
    fn describe_outcome(&self, _op: OpId, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Applied { log_id, reply } => format!("applied at {log_id}: {reply:?}"),
            Outcome::Read { reply } | Outcome::Weak { reply, .. } => format!("{reply:?}"),
            Outcome::Refused { refusal } => refusal.to_string(),
            Outcome::NoEffect => "refused".to_owned(),
            Outcome::Unknown => "outcome unknown".to_owned(),
        }
    }

    /// A node's state machine has finished a stretch of work, or its start.
    fn settled(&mut self, _node: NodeId) {}

    /// A node has crashed, perhaps while its state machine was at work: then whatever storage it
    /// has of its own may hold any beginning of that work.
    fn crashed(&mut self, _node: NodeId, _at_work: bool, _rng: &mut Rng) {}

    /// Whether state machines here go by something besides their log, on purpose. Elsewhere no node may
    /// say that its replies, or another's, are wrong.
    fn may_diverge(&self) -> bool {
        false
    }

    /// A node has ended, because its replies are others than a majority's from this entry on. Its next
    /// life has its state rebuilt.
    fn diverged(&mut self, _node: NodeId, _index: LogIndex) {}

    /// A node has lost its disk, and whatever storage its state machine has of its own with it. It
    /// starts with nothing.
    fn wiped(&mut self, _node: NodeId) {}

    /// Whether the storage that a node's state machine has of its own failed since this was last
    /// asked, and the node may stop for it.
    fn take_failure(&mut self, _node: NodeId) -> bool {
        false
    }

    /// A node has looked whether its disk is nearly full: a request by which its server tells all
    /// members, if they do not know yet. Its name comes from `next_op`.
    fn disk_room(
        &mut self,
        node: NodeId,
        is_short: bool,
        next_op: &mut dyn FnMut() -> OpId,
    ) -> Option<(OpId, Request)> {
        let _ = (node, is_short, next_op);
        None
    }

    /// Whether, by what was told, this node's disk is nearly full.
    fn has_disk_alarm(&self, _node: NodeId) -> bool {
        false
    }

    /// From now on everything is in order: no storage fails any more.
    fn healed(&mut self) {}

    /// The last word, after the scan.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if the history as a whole is not one that a correct program can have.
    fn verdict(&mut self) -> Result<Findings, Complaint>;
}

/// Where a node's state machine lives, and may keep files: on the disk of its node, which loses what
/// was not synced, tears what a crash interrupts, fails, fills up and goes bad as the seed says.
pub struct Home {
    /// Whose.
    pub node: NodeId,
    /// The node's disk, in this life of the node; after a crash nothing reaches it any more.
    pub disk: Arc<dyn Disk>,
    /// The state machine's own folder there, which it creates itself. The node has another one.
    pub dir: PathBuf,
    /// The chance of a write that fails, of a storage that is somewhere else, until
    /// [`Application::healed`].
    pub engine_fails: Chance,
    /// Whether the disk holds what was written and synced, for judges.
    pub(crate) is_sound: bool,
}

/// The folder of every state machine.
const MACHINE_DIR: &str = "/machine";

impl Home {
    pub(crate) fn new(node: NodeId, disk: SimDisk, is_sound: bool, engine_fails: Chance) -> Self {
        Self { node, disk: Arc::new(disk), dir: MACHINE_DIR.into(), engine_fails, is_sound }
    }

    /// A home on an empty disk that does nothing wrong, outside of any world.
    #[must_use]
    pub fn empty(node: NodeId) -> Self {
        Self::new(node, SimDisk::new(Rng::new(node.get())), true, Chance::NEVER)
    }
}

/// The client's name for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// A state machine, and a way to compare it with its replicas.
pub struct Machine {
    /// The state machine.
    pub machine: Box<dyn StateMachine>,
    /// A hash of its state, equal on all replicas that applied the same. If absent, the bytes of
    /// its snapshot are hashed.
    pub digest: Option<Box<dyn Fn() -> u64>>,
}

impl Machine {
    /// A node whose state machine cannot be opened: it fails at the first touch, and says why.
    #[must_use]
    pub fn broken(reason: &str) -> Self {
        Self { machine: Box::new(Broken(reason.to_owned())), digest: None }
    }
}

struct Broken(String);

impl StateMachine for Broken {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, _: &[Committed], _: &mut Replies) -> Result<(), Fatal> {
        Err(Fatal::new(self.0.clone()))
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Err(QueryError { reason: self.0.clone() })
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Err(Fatal::new(self.0.clone()))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Err(Fatal::new(self.0.clone()))
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A command for the log.
    Command(Bytes),
    /// A linearizable read.
    Query(Bytes),
    /// Something of a session (§6.3).
    InSession(SessionRequest),
    /// A read that promises less.
    Weak {
        /// What is asked.
        query: Bytes,
        /// What it promises.
        consistency: Consistency,
    },
}

impl Request {
    /// In a few words, by those who do not know what it means.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Command(bytes) => format!("command {bytes:?}"),
            Self::Query(bytes) => format!("query {bytes:?}"),
            Self::InSession(request) => format!("{request:?}"),
            Self::Weak { query, consistency } => format!("query {query:?} {consistency:?}"),
        }
    }
}

/// What a client learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command was applied.
    Applied {
        /// Where it stands in the log.
        log_id: LogId,
        /// The state machine's reply.
        reply: Bytes,
    },
    /// The query was answered.
    Read {
        /// The answer.
        reply: Bytes,
    },
    /// The query was answered, by this life of this node.
    Weak {
        /// The answer.
        reply: Bytes,
        /// Who served it.
        node: NodeId,
        /// Which of its lives.
        life: u64,
        /// Rises from one read that is served to the next, in the whole world.
        order: u64,
    },
    /// The session did not take it.
    Refused {
        /// Why.
        refusal: SessionRefusal,
    },
    /// It had no effect and never will; of a request in a session, this sending of it.
    NoEffect,
    /// A command may or may not have had an effect, now or later.
    Unknown,
}

/// Why a history cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Complaint(pub String);

/// What the application's judge looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Operations in checked histories.
    pub checked_count: u64,
    /// Histories that were too entangled to decide within the bound.
    pub undecided_count: u64,
    /// Events that watch clients were told.
    pub watched_count: u64,
}
