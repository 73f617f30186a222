//! One turn: take everything that has happened, give it to the driver, carry out what it says.
//! Never waits for anything but the next turn.

use super::apply_thread::ApplyJob;
use super::clock::JumpWatch;
use super::mailbox::{Ending, Question};
use super::passage::Milestones;
use super::queue::Queue;
use super::shared::Shared;
use crate::transport::Transport;
use crate::work::{FileJob, Job, LogJob};
use crate::{
    Admission, Doubt, Driver, Fate, Input, NodeFailure, NodeStatus, Output, ReadError, Refusal,
    Ticket,
};
use quorate_core::{NodeId, Time};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// How long the end of a node may wait for its last words to be sent. Whoever misses them finds out
/// by an election timeout.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(50);

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
    pub(crate) milestones: Milestones,
    /// When to look for callers whose time is up; `None` while nobody waits.
    pub(crate) late_at: Option<Time>,
    pub(crate) jumps: JumpWatch,
    /// When it was last said what keeps this node from voting.
    pub(crate) admission_told: Option<Instant>,
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
        self.note_milestones(self.shared.clock.now());
        self.publish();
        loop {
            let is_due = self.wait(timer.as_mut()).await;
            match self.shared.mailbox.take(&mut self.inputs) {
                None => {}
                Some(Ending::AtOnce) => return self.refuse_the_rest(),
                Some(Ending::HandingOver) => {
                    self.hand_over().await;
                    return self.refuse_the_rest();
                }
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
        let Some(deadline) = self.driver.next_deadline().into_iter().chain(self.late_at).min()
        else {
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

    /// What it is given has happened already when it reads the clock: whoever was to be proved to lead
    /// when a read was called is proved to lead after that.
    fn turn(&mut self, is_due: bool) {
        let now = self.shared.clock.now();
        if let Some(by) = self.jumps.look(now) {
            self.inputs.insert(0, Input::ClockJumped { by });
        }
        if is_due || self.driver.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.inputs.push(Input::Deadline);
        }
        self.transfer.is_asked |=
            self.inputs.iter().any(|input| matches!(input, Input::TransferLeadership { .. }));
        self.driver.turn(now, self.inputs.drain(..), &mut self.outputs);
        self.note_milestones(now);
        self.carry_out();
        self.tell_late(now);
        self.shared.metrics.turns.add(1);
        self.publish();
    }

    fn note_milestones(&mut self, now: Time) {
        let raft = self.driver.raft();
        let (appended, durable) = (raft.last_log().index, raft.durable_index());
        self.milestones.note(now, appended, durable, raft.commit_index());
    }

    /// Callers whose deadline is so long past that the driver has nothing to say to them any more: what
    /// they wait for is with the state machine, and that stands still.
    fn tell_late(&mut self, now: Time) {
        if self.late_at.is_some_and(|at| now < at) {
            return;
        }
        let interval = self.driver.sweep_interval();
        let waiters = &self.shared.waiters;
        let (late, anybody) = waiters.late(now, interval);
        let owed = waiters.tell_late(late);
        self.late_at = anybody.then(|| now.after(interval));
        let unknown = |ticket| (ticket, Fate::Unknown(Doubt::Deadline));
        self.shared.tell(owed.into_iter().map(unknown).collect(), None);
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
        self.shared.tell(fates, None);
        self.transport.set_intake(self.wal.size_bytes() + self.shared.apply.size_bytes());
    }

    fn carry_out_here(&self, output: Output, fates: &mut Vec<(Ticket, Fate)>) {
        if let Output::Apply(batch) = &output {
            self.shared.waiters.note(batch, &self.milestones);
        }
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
            | Output::Prove
            | Output::Load(_)
            | Output::LoadSpares { .. }
            | Output::ReleasePrefix { .. }
            | Output::Apply(_)
            | Output::RestoreSnapshot { .. }
            | Output::Checkpoint { .. }
            | Output::TakeSnapshot { .. }
            | Output::Scrub { .. }
            | Output::ReadSnapshotChunk { .. }
            | Output::NoteDivergence(_)
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
            if self.shared.failure().is_none() {
                self.shared.black_box.keep(self.driver.flight());
            }
            self.shared.fail(NodeFailure::Poisoned { evidence });
        }
        if self.transfer.is_asked || self.transfer.under_way.is_some() {
            self.transfer.is_asked = false;
            self.transfer.under_way = raft.status().transferring;
            self.transfer.ended += u64::from(self.transfer.under_way.is_none());
        }
        let status = self.status();
        for question in self.shared.mailbox.take_questions() {
            // Whoever asked may be gone.
            let _gone = match question {
                Question::Wait(sender) => sender.send(self.driver.explain()).is_err(),
                Question::Entry(index, sender) => {
                    sender.send(self.driver.raft().explain_commit(index)).is_err()
                }
                Question::Flight(sender) => sender.send(self.driver.flight()).is_err(),
            };
        }
        self.tell_admission(&status);
        self.tell_differing(&status);
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

    /// Says what keeps this node from voting, when that changes and now and then.
    fn tell_admission(&mut self, status: &NodeStatus) {
        const TOLD_EVERY: Duration = Duration::from_secs(10);
        let admission = &status.admission;
        let is_changed = self.shared.status.borrow().admission != *admission;
        let is_late = self.admission_told.is_none_or(|at| at.elapsed() >= TOLD_EVERY);
        if *admission == Admission::Admitted {
            if is_changed {
                tracing::info!(node = %status.id, "{admission}: {}", status.part());
            }
            self.admission_told = None;
            return;
        }
        if !is_changed && !is_late {
            return;
        }
        self.admission_told = Some(Instant::now());
        let id = status.id;
        match admission {
            Admission::Admitted => {}
            Admission::Founding { missing } => {
                let address = |id: &NodeId| status.configuration.members.get(id);
                let addresses: Vec<&str> =
                    missing.iter().filter_map(address).map(|it| it.address.as_str()).collect();
                tracing::info!(
                    node = %id, addresses = addresses.join(","),
                    "{admission}: a cluster begins once all its founders are up together"
                );
            }
            Admission::Unlike { .. } => tracing::warn!(
                node = %id,
                "{admission}. Stop all founders, and restore each from the same file with the same \
                 flags into an empty folder"
            ),
            Admission::Recovering(recovering) => tracing::warn!(
                node = %id,
                "{recovering}. It neither votes nor counts. Bring the old folder back, or replace \
                 the member: `quorate member remove {:x}`, empty this folder, `quorate member add`, \
                 and start it with --initial-cluster-state existing",
                id.get()
            ),
        }
    }

    /// Says whose replies are others than ours, when that becomes known.
    fn tell_differing(&self, status: &NodeStatus) {
        let shown = self.shared.status.borrow();
        if shown.differing == status.differing {
            return;
        }
        for differing in status.differing.iter() {
            let is_new = shown.differing.iter().all(|before| before != differing);
            if is_new {
                tracing::error!(
                    node = %status.id,
                    "{differing}. Whoever is alone against a majority with its own ends; without a \
                     majority nobody does, and clients may see one answer or the other"
                );
            }
        }
        let count = u64::try_from(status.differing.len()).unwrap_or(u64::MAX);
        self.shared.metrics.differing_members.set(count);
    }

    fn status(&self) -> NodeStatus {
        let raft = self.driver.raft();
        let before = self.shared.status.borrow();
        NodeStatus {
            id: before.id,
            cluster_id: before.cluster_id,
            storage_id: before.storage_id,
            protocol_version: before.protocol_version,
            role: raft.role(),
            is_ready: raft.is_ready(),
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
            admission: self.driver.admission(),
            differing: Arc::clone(self.driver.differing()),
            rotten: Arc::clone(self.driver.rotten()),
            lost: raft.lost(),
            pending_count: self.driver.pending_count(),
            transferring: self.transfer.under_way,
            transfers_ended: self.transfer.ended,
        }
    }

    /// The log takes no more, or the state is wrong: a leader calls its successor, which is the last that
    /// it says. What else the driver wants done is left: it belongs to a node that is gone.
    async fn hand_over(&mut self) {
        let now = self.shared.clock.now();
        let last = self.shared.failure().and_then(|failure| failure.last_input());
        self.driver.handle(now, last.unwrap_or(Input::DiskFailed), &mut self.outputs);
        for output in std::mem::take(&mut self.outputs) {
            if let Output::Send { to, message } = output {
                self.transport.send(to, message);
            }
        }
        let _late = timeout(LAST_WORDS_PATIENCE, self.transport.drain()).await;
        self.publish();
    }

    /// What the driver has not seen never entered the log: its callers may be told so.
    fn refuse_the_rest(mut self) {
        let mut fates = Vec::new();
        for input in self.inputs.drain(..) {
            if let Input::Propose { ticket, .. } | Input::ProposeInSession { ticket, .. } = input {
                fates.push((ticket, Fate::NotAppended(Refusal::Stopped)));
            }
        }
        self.shared.tell(fates, None);
    }
}
