//! A running node: what a program holds in its hand. Every call may come from any thread and any
//! async runtime; the node's work happens on threads of its own.

mod budget;
mod builder;
mod members;
#[cfg(test)]
mod poisoned_tests;
mod session;
mod settings;

pub use builder::{NodeBuilder, NodeOptions};
pub use members::{MembershipWish, NodeMembers};
pub use session::{OpenSessionError, Session, SessionCommand};
pub use settings::SettingsError;

use crate::metrics::Metrics;
use crate::runtime::{ApplyJob, Launched, Passage, Question, Shared, Waiting, lock};
use crate::{
    Consistency, DiskRoom, Doubt, Explanation, Fate, Input, NodeFailure, NodeStatus, ReadError,
    Recording, Refusal, Ticket,
};
use bytes::Bytes;
use quorate_core::{LogIndex, NodeId, Reason, Time};
use settings::Settings;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A node of a cluster. Clones are handles to the same node, which ends with [`Node::stop`] or
/// with its last handle.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: NodeId,
    shared: Arc<Shared>,
    raft_thread: Mutex<Option<JoinHandle<()>>>,
    command_bytes_max: usize,
    open_commands_count_max: usize,
    settings: Mutex<Settings>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.fail(NodeFailure::Stopped);
    }
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can hand over.
    #[error("this node does not lead; {}", match leader {
        Some(leader) => format!("node {leader} does"),
        None => "no leader is known".to_owned(),
    })]
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// The successor did not catch up or did not win in time, or cannot lead at all. This node
    /// goes on leading.
    #[error("the transfer was given up; node {leader} goes on leading")]
    GivenUp {
        /// This node.
        leader: NodeId,
    },
    /// The node is stopping or has failed, or is asked for too much at once; nothing was begun.
    #[error("this node was not asked: {0}")]
    NotAsked(Refusal),
    /// The node has stopped meanwhile.
    #[error("this node has stopped")]
    Stopped,
}

impl Node {
    /// Describes a node that keeps its data in `dir`: the log in `dir/wal`, snapshots in
    /// `dir/snapshots`. A state machine that keeps files of its own might use `dir/state`.
    ///
    /// ```
    /// # use quorate::{Committed, Fatal, Node, QueryError, Replies, SnapshotView, StateMachine};
    /// # use std::time::Duration;
    /// # struct Nothing;
    /// # impl StateMachine for Nothing {
    /// #     fn applied(&self) -> quorate::LogIndex { quorate::LogIndex::ORIGIN }
    /// #     fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
    /// #         batch.iter().for_each(|entry| replies.push(entry.command.clone()));
    /// #         Ok(())
    /// #     }
    /// #     fn query(&self, _: &[u8]) -> Result<bytes::Bytes, QueryError> { Ok("pong".into()) }
    /// #     fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> { Err(Fatal::new("no")) }
    /// #     fn restore(&mut self, _: quorate::LogId, _: &mut dyn std::io::Read) -> Result<(), Fatal> {
    /// #         Ok(())
    /// #     }
    /// # }
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (dir, state_machine) = (dir.path(), Nothing);
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let node = Node::builder(1, dir).start(state_machine).await?;
    /// let fate = node.propose("a command", Duration::from_secs(5)).await;
    /// # assert!(matches!(fate, quorate::Fate::Applied { .. }));
    /// let answer = node.read("a question", Default::default(), Duration::from_secs(5)).await?;
    /// # assert_eq!(answer, "pong");
    /// node.stop().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn builder(id: impl Into<NodeId>, dir: impl AsRef<Path>) -> NodeBuilder {
        NodeBuilder::new(id.into(), dir.as_ref().to_owned())
    }

    fn launched(launched: Launched, command_bytes_max: usize, settings: Settings) -> Self {
        let open_commands_count_max = settings.driver.session_limits.replies_count_max;
        let open_commands_count_max =
            usize::try_from(open_commands_count_max).unwrap_or(usize::MAX);
        let settings = Mutex::new(settings);
        let Launched { shared, raft_thread } = launched;
        let raft_thread = Mutex::new(Some(raft_thread));
        let id = shared.status.borrow().id;
        let inner =
            Inner { id, shared, raft_thread, command_bytes_max, open_commands_count_max, settings };
        Self { inner: Arc::new(inner) }
    }

    /// Proposes a command, through whatever node leads, and returns what became of it: at the
    /// latest after `timeout`, and a fraction of a second. See [`Fate`] for what may be tried
    /// again.
    pub async fn propose(&self, command: impl Into<Bytes>, timeout: Duration) -> Fate {
        match self.submit(command.into(), timeout) {
            // The sender is dropped unused only if the node is torn down around us.
            Ok(fate) => fate.await.unwrap_or(Fate::Unknown(Doubt::Stopped)),
            Err(refusal) => Fate::NotAppended(refusal),
        }
    }

    fn submit(
        &self,
        command: Bytes,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Fate>, Refusal> {
        let limit = self.inner.command_bytes_max;
        if command.len() > limit {
            let what = "a single command";
            return Err(Refusal::Overloaded { what, limit, unit: "bytes" });
        }
        let (sender, receiver) = oneshot::channel();
        let size_bytes = command.len();
        let deadline = self.inner.shared.clock.now().after(timeout);
        let input = |ticket| Input::Propose { ticket, command, deadline };
        self.request(self.proposal(sender), (size_bytes, deadline), input)?;
        Ok(receiver)
    }

    /// A caller whose proposal comes to this node now.
    fn proposal(&self, sender: oneshot::Sender<Fate>) -> Waiting {
        let shared = &self.inner.shared;
        Waiting::Proposal(sender, Passage::begin(self.inner.id, shared.clock.now()))
    }

    /// Registers a caller and tells the event loop.
    fn request(
        &self,
        waiting: Waiting,
        (size_bytes, deadline): (usize, Time),
        input: impl FnOnce(Ticket) -> Input,
    ) -> Result<(), Refusal> {
        let shared = &self.inner.shared;
        let ticket = shared.waiters.add(waiting, deadline)?;
        let pushed = shared.mailbox.push_caller(input(ticket), size_bytes);
        if pushed.is_err() {
            drop(shared.waiters.take(ticket));
        }
        pushed
    }

    /// Asks the state machine, as it promises by `consistency`; returns its answer.
    ///
    /// # Errors
    ///
    /// Any [`ReadError`]; a read that failed had no effect and may be tried again.
    pub async fn read(
        &self,
        query: impl Into<Bytes>,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<Bytes, ReadError> {
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting::Query(query.into(), sender);
        match consistency {
            Consistency::Local if !self.status().lacks_state() => {
                self.query_now(waiting, timeout)?;
            }
            Consistency::Local
            | Consistency::Linearizable
            | Consistency::Lease { .. }
            | Consistency::Bounded(_)
            | Consistency::AtLeast(_) => {
                self.barrier(waiting, consistency, timeout)?;
            }
        }
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    /// A query that needs no barrier needs no way through the event loop either.
    fn query_now(&self, waiting: Waiting, timeout: Duration) -> Result<(), ReadError> {
        let shared = &self.inner.shared;
        let deadline = shared.clock.now().after(timeout);
        let ticket =
            shared.waiters.add(waiting, deadline).map_err(|refusal| read_error(&refusal))?;
        let pushed = shared.apply.push(ApplyJob::Query(ticket), 0);
        pushed.map_err(|_| ReadError::Stopped)
    }

    /// Waits until the state that this node has applied satisfies `consistency`; returns what is
    /// applied at least. For state machines that are read through a handle of their own.
    ///
    /// # Errors
    ///
    /// Any [`ReadError`] but [`ReadError::Query`].
    pub async fn read_barrier(
        &self,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<LogIndex, ReadError> {
        let (sender, passed) = oneshot::channel();
        self.barrier(Waiting::Barrier(sender), consistency, timeout)?;
        passed.await.unwrap_or(Err(ReadError::Stopped))
    }

    fn barrier(
        &self,
        waiting: Waiting,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<(), ReadError> {
        let deadline = self.inner.shared.clock.now().after(timeout);
        let input = |ticket| Input::Barrier { ticket, consistency, deadline };
        self.request(waiting, (0, deadline), input).map_err(|refusal| read_error(&refusal))
    }

    /// How the node is doing, as of the last turn of its event loop. Cheap.
    #[must_use]
    pub fn status(&self) -> Arc<NodeStatus> {
        Arc::clone(&self.inner.shared.status.borrow())
    }

    /// What the node waits for: why there is no leader, why entries are not committed, which members
    /// are behind and why, what a change of members, a read or a disk waits for, and what an operator
    /// may do. `None` if the node has ended, or is asked by too many at once.
    pub async fn explain(&self) -> Option<Explanation> {
        let (question, answer) = oneshot::channel();
        self.inner.shared.mailbox.ask(Question::Wait(question));
        answer.await.ok()
    }

    /// Why the entry at `index` is not committed, as far as this node knows: the leader knows most.
    /// `None` if it is, if only what [`Node::explain`] says stands in its way (no leader, a log that
    /// failed), or if the node has ended or is asked by too many at once.
    pub async fn explain_commit(&self, index: LogIndex) -> Option<Reason> {
        let (question, answer) = oneshot::channel();
        self.inner.shared.mailbox.ask(Question::Entry(index, question));
        answer.await.ok()?
    }

    /// What happened to the node's core lately: a [`Recording`], which can be played elsewhere, and
    /// has nothing in it of what clients wrote. `None` if the node has ended, is asked by too many at
    /// once, or records nothing ([`DriverOptions::flight_recorder_bytes`](crate::DriverOptions)). A node
    /// that stops because the protocol is broken leaves the same in its folder, as
    /// `poisoned.recording`.
    pub async fn recording(&self) -> Option<Recording> {
        let (question, answer) = oneshot::channel();
        self.inner.shared.mailbox.ask(Question::Flight(question));
        // Putting it into bytes takes longer than a turn of the loop may.
        let flight = answer.await.ok()??;
        tokio::task::spawn_blocking(|| Recording::from(flight)).await.ok()
    }

    /// Follows the status; changes that come faster than they are looked at are skipped. Ends when
    /// nobody holds the node any more.
    ///
    /// ```
    /// # use quorate::{Node, NodeId};
    /// async fn leader(node: &Node) -> Option<NodeId> {
    ///     let mut changes = node.status_changes();
    ///     changes.wait_for(|status| status.leader.is_some()).await.ok()?.leader
    /// }
    /// ```
    #[must_use]
    pub fn status_changes(&self) -> watch::Receiver<Arc<NodeStatus>> {
        self.inner.shared.status.subscribe()
    }

    /// How much room the node's disk had when it was last looked at, which is about once a second.
    #[must_use]
    pub fn disk_room(&self) -> DiskRoom {
        self.inner.shared.disk.room()
    }

    /// What the node has counted since it started.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.shared.metrics
    }

    /// Hands leadership over to `to`, or to the follower that is furthest, and returns who leads
    /// then (§3.10). Proposals wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`TransferError`], each when its description says so.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let mut changes = self.status_changes();
        let before = Arc::clone(&changes.borrow_and_update());
        if !before.is_leader() {
            return Err(TransferError::NotLeader { leader: before.leader });
        }
        let shared = &self.inner.shared;
        let asked = shared.mailbox.push_caller(Input::TransferLeadership { to }, 0);
        asked.map_err(TransferError::NotAsked)?;
        let mut ended = shared.ended.subscribe();
        loop {
            let now = Arc::clone(&changes.borrow_and_update());
            match now.leader {
                Some(leader) if leader != now.id => return Ok(leader),
                Some(leader) if now.transfers_ended > before.transfers_ended => {
                    return Err(TransferError::GivenUp { leader });
                }
                Some(_) | None => {}
            }
            tokio::select! {
                news = changes.changed() => news.map_err(|_| TransferError::Stopped)?,
                _ = ended.wait_for(|ended| *ended) => return Err(TransferError::Stopped),
            }
        }
    }

    /// Stops the node: what it was given is written and applied as far as it is committed, everybody
    /// who waits is told, and no thread or socket is left when this returns. Other handles find the
    /// node stopped.
    pub async fn stop(self) {
        self.inner.shared.fail(NodeFailure::Stopped);
        self.failure().await;
        let raft_thread = lock(&self.inner.raft_thread).take();
        if let Some(raft_thread) = raft_thread {
            // It has nothing left to do but return.
            let _ended = raft_thread.join();
        }
    }

    /// Waits until the node has ended, and returns why: [`NodeFailure::Stopped`] if somebody asked
    /// for it.
    pub async fn failure(&self) -> Arc<NodeFailure> {
        let shared = &self.inner.shared;
        let mut ended = shared.ended.subscribe();
        // We hold the sender: it cannot be gone.
        let _sender_lives = ended.wait_for(|ended| *ended).await;
        shared.failure().unwrap_or_else(|| Arc::new(NodeFailure::Stopped))
    }
}

/// A read that was not let in.
fn read_error(refusal: &Refusal) -> ReadError {
    match refusal {
        Refusal::Overloaded { limit, .. } => ReadError::Overloaded { limit_count: *limit },
        Refusal::NoLeader => ReadError::NoLeader,
        Refusal::Transferring { .. } => ReadError::NotConfirmed,
        Refusal::Stopped => ReadError::Stopped,
    }
}
