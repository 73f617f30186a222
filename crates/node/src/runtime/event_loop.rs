//! One turn: take everything that has happened, give it to the driver, carry out what it says.
//! Never waits for anything but the next turn.

use super::apply_thread::ApplyJob;
use super::queue::Queue;
use super::shared::Shared;
use crate::transport::Transport;
use crate::work::{FileJob, Job, LogJob};
use crate::{Driver, Fate, Input, NodeFailure, NodeStatus, Output, ReadError, Refusal, Ticket};
use quorate_core::NodeId;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::{Instant, Sleep, sleep_until};

/// See the head of the file.
pub(crate) struct EventLoop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) driver: Driver,
    pub(crate) transport: Transport,
    pub(crate) wal: Arc<Queue<LogJob>>,
    pub(crate) files: Arc<Queue<FileJob>>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) transfer: Transfer,
}

/// Attempts to hand over leadership.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transfer {
    under_way: Option<NodeId>,
    is_asked: bool,
    ended: u64,
}

impl EventLoop {
    /// Runs until the node is to end.
    pub(crate) async fn run(mut self) {
        let mut timer = Box::pin(sleep_until(Instant::now()));
        self.publish();
        loop {
            let is_due = self.wait(timer.as_mut()).await;
            let is_stopping = self.shared.mailbox.take(&mut self.inputs);
            if is_stopping {
                return self.refuse_the_rest();
            }
            self.turn(is_due);
            if !self.shared.mailbox.is_empty() {
                // Let the sockets have their say before the next turn.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something to happen; returns whether it was the deadline.
    async fn wait(&self, mut timer: Pin<&mut Sleep>) -> bool {
        let Some(deadline) = self.driver.next_deadline() else {
            self.shared.mailbox.filled().await;
            return false;
        };
        let deadline = Instant::from_std(self.shared.clock.instant(deadline));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        tokio::select! {
            biased;
            () = self.shared.mailbox.filled() => false,
            () = timer => true,
        }
    }

    fn turn(&mut self, is_due: bool) {
        let now = self.shared.clock.now();
        if is_due || self.driver.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.inputs.push(Input::Deadline);
        }
        self.transfer.is_asked |=
            self.inputs.iter().any(|input| matches!(input, Input::TransferLeadership { .. }));
        self.driver.turn(now, self.inputs.drain(..), &mut self.outputs);
        self.carry_out();
        self.shared.metrics.turns.add(1);
        self.publish();
    }

    /// First what others wait for longest: the network, then the disk, then the state machine.
    fn carry_out(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let is_send = |output: &mut Output| matches!(output, Output::Send { .. });
        for output in outputs.extract_if(.., is_send) {
            if let Output::Send { to, message } = output {
                self.transport.send(to, message);
            }
        }
        self.transport.flush();
        let mut fates = Vec::new();
        for output in outputs.drain(..) {
            self.carry_out_here(output, &mut fates);
        }
        self.outputs = outputs;
        if !fates.is_empty() {
            self.shared.metrics.proposals_failed.add(fates.len());
            self.shared.waiters.answer_all(fates);
        }
        self.transport.set_intake(self.wal.size_bytes() + self.shared.apply.size_bytes());
    }

    fn carry_out_here(&self, output: Output, fates: &mut Vec<(Ticket, Fate)>) {
        let output = match Job::try_from(output) {
            Ok(job) => return self.hand_on(job),
            Err(output) => output,
        };
        match output {
            Output::Answer { ticket, fate } => fates.push((ticket, fate)),
            Output::Barrier { ticket, result } => self.barrier(ticket, result),
            Output::MembershipAnswer { ticket, fate } => {
                self.shared.waiters.answer_wish(ticket, fate);
            }
            // Only a transport sends, and the rest is for the threads.
            Output::Send { .. }
            | Output::Persist(_)
            | Output::Load(_)
            | Output::ReleasePrefix { .. }
            | Output::Apply(_)
            | Output::RestoreSnapshot { .. }
            | Output::Checkpoint { .. }
            | Output::TakeSnapshot { .. }
            | Output::ReadSnapshotChunk { .. }
            | Output::WriteSnapshotChunk { .. } => {}
        }
    }

    /// A queue that is closed belongs to a node that is ending: its callers are told so at the end.
    fn hand_on(&self, job: Job) {
        match job {
            Job::Log(job) => {
                let size_bytes = job.size_bytes();
                let _ending = self.wal.push(job, size_bytes);
            }
            Job::Machine(job) => self.to_apply(ApplyJob::Machine(job)),
            Job::File(job) => {
                let _ending = self.files.push(job, 0);
            }
        }
    }

    fn barrier(&self, ticket: Ticket, result: Result<quorate_core::LogIndex, ReadError>) {
        if result.is_err() {
            self.shared.metrics.reads_refused.add(1);
        }
        if let Some(ticket) = self.shared.waiters.barrier(ticket, result) {
            self.to_apply(ApplyJob::Query(ticket));
        }
    }

    fn to_apply(&self, job: ApplyJob) {
        let size_bytes = job.size_bytes();
        let _ending = self.shared.apply.push(job, size_bytes);
    }

    /// Shows the state after the turn.
    fn publish(&mut self) {
        let raft = self.driver.raft();
        if raft.is_poisoned() {
            let evidence = raft.status().poisoned.map(|poison| format!("{poison:?}"));
            let evidence = evidence.unwrap_or_default();
            self.shared.fail(NodeFailure::Poisoned { evidence });
        }
        if self.transfer.is_asked || self.transfer.under_way.is_some() {
            self.transfer.is_asked = false;
            self.transfer.under_way = raft.status().transferring;
            self.transfer.ended += u64::from(self.transfer.under_way.is_none());
        }
        let status = self.status();
        self.transport.follow_members(self.driver.raft());
        let metrics = &self.shared.metrics;
        metrics.requests_pending.set(u64::try_from(self.shared.waiters.count()).unwrap_or(0));
        metrics.apply_lag.set(status.commit_index.distance_from(status.applied));
        self.shared.status.send_if_modified(|shown| {
            if **shown == status {
                return false;
            }
            if shown.leader != status.leader {
                metrics.leader_changes.add(1);
            }
            *shown = Arc::new(status);
            true
        });
    }

    fn status(&self) -> NodeStatus {
        let raft = self.driver.raft();
        let before = self.shared.status.borrow();
        NodeStatus {
            id: before.id,
            cluster_id: before.cluster_id,
            storage_id: before.storage_id,
            role: raft.role(),
            current_term: raft.current_term(),
            leader: raft.leader(),
            commit_index: raft.commit_index(),
            applied: self.driver.applied(),
            durable_index: raft.durable_index(),
            last_log: raft.last_log(),
            base: raft.base().last_included,
            configuration: Arc::clone(raft.configuration()),
            committed_configuration: Arc::clone(raft.committed_configuration().1),
            change_waits: raft.change_waits(),
            removed_at: raft.removed_at(),
            pending_count: self.driver.pending_count(),
            transferring: self.transfer.under_way,
            transfers_ended: self.transfer.ended,
        }
    }

    /// What the driver has not seen never entered the log: its callers may be told so.
    fn refuse_the_rest(mut self) {
        let mut fates = Vec::new();
        for input in self.inputs.drain(..) {
            if let Input::Propose { ticket, .. } | Input::ProposeInSession { ticket, .. } = input {
                fates.push((ticket, Fate::NotAppended(Refusal::Stopped)));
            }
        }
        self.shared.waiters.answer_all(fates);
    }
}
