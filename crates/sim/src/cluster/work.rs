//! The work of a node's threads, which is the shipped code, as the world sees it: work happens when
//! it begins, as far as anybody on the node can see, and counts when its time is over: a crash in
//! between leaves any beginning of it.

use super::Cluster;
use super::happening::Happening;
use super::lanes::{LaneName, UnderWay};
use super::node::Running;
use super::sabotage::WithoutSessions;
use crate::application::Application;
use crate::disk::{CrashStyle, Work};
use crate::faults::SessionFault;
use crate::judge::Breach;
use crate::trace::{Note, What};
use quorate::parts::{FileDone, FileJob, LogDone, MachineDone, MachineJob, SnapshotJob};
use quorate::{Input, NodeFailure};
use quorate_core::{NodeId, Time};
use std::io::{self, Write};
use std::time::Duration;

/// A write that finds no room is tried again after so long, as in the runtime...
const PAUSE_WITHOUT_ROOM: Duration = Duration::from_millis(100);
/// ...and a snapshot is begun anew.
const PAUSE_OF_WRITER: Duration = Duration::from_secs(5);

impl<A: Application> Cluster<A> {
    /// Every thread of a node that is free takes up what waits for it.
    pub(super) fn pump(&mut self, id: NodeId) -> Result<(), Breach> {
        self.pump_lane(id, LaneName::Machine, machine_work)?;
        self.pump_lane(id, LaneName::Log, log_work)?;
        self.pump_lane(id, LaneName::Files, file_work)?;
        let leaves_out = self.options.faults.sessions == Some(SessionFault::LeftOutOfSnapshots);
        self.pump_lane(id, LaneName::Writer, |running| {
            let Some(job) = running.writer.worker.pop_front() else { return Ok(None) };
            write_snapshot(job, leaves_out).map(Some)
        })
    }

    /// Lets one thread begin its next piece of work, if it is free and there is one.
    fn pump_lane(
        &mut self,
        id: NodeId,
        lane: LaneName,
        work: impl FnOnce(&mut Running) -> Result<Option<UnderWay>, NodeFailure>,
    ) -> Result<(), Breach> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let disk = node.disk.clone();
        let Some(running) = node.running_mut() else { return Ok(()) };
        if running.is_idle(lane) {
            return Ok(());
        }
        let (done, task, work) = disk.run(|| work(running));
        let Some(done) = done.transpose() else {
            disk.finish(task);
            return Ok(());
        };
        if done.is_ok() {
            // What failed was not worth failing for.
            let _forgiven = disk.take_failure();
        }
        self.begun(id, lane, done, task, work)
    }

    /// Work was begun; its end is planned, or the node fails.
    fn begun(
        &mut self,
        id: NodeId,
        lane: LaneName,
        done: Result<UnderWay, NodeFailure>,
        task: crate::disk::Task,
        work: Work,
    ) -> Result<(), Breach> {
        self.count_failures(id);
        let mut under_way = match done {
            Ok(under_way) => under_way,
            Err(failure) => {
                // It happened up to the failure, and the failure itself has been seen.
                if let Some(node) = self.nodes.get(&id) {
                    node.disk.finish(task);
                }
                return self.node_failed(id, &failure);
            }
        };
        under_way.task = Some(task);
        self.note_restored(id, &under_way.inputs)?;
        if self.options.faults.acks_too_early && lane == LaneName::Log {
            for input in std::mem::take(&mut under_way.inputs) {
                self.tell(id, input);
            }
        }
        let syncs = work.sync_count > 0;
        let at = match lane {
            LaneName::Machine => {
                let apply_max = self.options.faults.apply_max;
                let applied = self.now.after(self.rng.duration(Duration::ZERO, apply_max));
                // Some keep their state in files of their own.
                if syncs { applied.max(self.disk_time(work.sync_count)) } else { applied }
            }
            LaneName::Log | LaneName::Files | LaneName::Writer => self.disk_time(work.sync_count),
        };
        let at = if under_way.is_full { self.waits_for_room(id, lane, at) } else { at };
        under_way.due = at;
        let is_rare = under_way.is_rare || (syncs && lane == LaneName::Machine);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let life = node.life;
        if let Some(running) = node.running_mut() {
            *running.under_way(lane) = Some(under_way);
            self.queue.push(at, Happening::LaneDone { node: id, life, lane });
        }
        if is_rare {
            self.plan_crash_around(id, at);
        }
        Ok(())
    }

    /// A thread has found no room for what it was to write; returns when it tries again.
    fn waits_for_room(&mut self, id: NodeId, lane: LaneName, at: Time) -> Time {
        self.trace.counts.waits_for_room += 1;
        let text = format!("{lane} waits for room on the disk");
        self.trace.headline(self.now, Some(id), text);
        at.after(if lane == LaneName::Writer { PAUSE_OF_WRITER } else { PAUSE_WITHOUT_ROOM })
    }

    /// A node whose disk fails stops, as its runtime would, after it has said its last words, and is
    /// started again by somebody. A node that fails for any other reason is broken.
    fn node_failed(&mut self, id: NodeId, failure: &NodeFailure) -> Result<(), Breach> {
        if let NodeFailure::Diverged { index, .. } = failure {
            return self.node_diverged(id, *index, failure);
        }
        let reason = failure.to_string();
        if failure.is_full() {
            // Room comes back: that is no end.
            return Err(Breach::NodeFailed { node: id, reason });
        }
        if !self.is_simulated_failure(id) && !self.is_damaged(id) {
            return Err(Breach::NodeFailed { node: id, reason });
        }
        self.trace.counts.disk_failures += 1;
        self.trace.headline(self.now, Some(id), format!("stops: {reason}"));
        if let Some(why) = failure.last_input() {
            self.speak_last(id, why)?;
        }
        self.crash_node(id, CrashStyle::KeepAll);
        self.plan_start(id, Duration::from_secs(1));
        Ok(())
    }

    /// The time of a stretch of work is over.
    pub(super) fn lane_done(
        &mut self,
        id: NodeId,
        life: u64,
        lane: LaneName,
    ) -> Result<(), Breach> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if node.life != life {
            return Ok(());
        }
        let disk = node.disk.clone();
        let hangs_until = node.hang.map(|hang| hang.until).filter(|until| *until > now);
        let hangs_until = hangs_until.filter(|_| LaneName::OF_DISK.contains(&lane));
        let Some(running) = node.running_mut() else { return Ok(()) };
        let under_way = running.under_way(lane);
        if let (Some(until), Some(work)) = (hangs_until, under_way.as_mut()) {
            work.due = until;
            self.queue.push(until, Happening::LaneDone { node: id, life, lane });
            return Ok(());
        }
        // What is due later was begun after what this is about, which was let go early.
        let Some(done) = under_way.take_if(|work| work.due <= now) else { return Ok(()) };
        running.asked.drain(..done.persist_count.min(running.asked.len()));
        if done.is_full {
            running.try_again(lane);
        }
        if let Some(task) = done.task {
            disk.finish(task);
        }
        for _ in 0..done.persist_count {
            self.safety.persisted(id)?;
        }
        self.trace.counts.persisted += u64::try_from(done.persist_count).unwrap_or(0);
        self.trace.counts.snapshots_resumed += u64::from(done.resumed_bytes > 0);
        if done.persist_count > 0 {
            self.plan_mark(id);
        }
        if lane == LaneName::Machine {
            self.application.settled(id);
        }
        self.hand_over(id, done.machine_job, done.file_job, done.snapshot);
        for (ticket, fate) in done.fates {
            self.fate(id, ticket, fate);
        }
        for input in done.inputs {
            self.note_completion(id, &input);
            self.tell(id, input);
        }
        self.pump(id)
    }

    /// What one thread has for the others.
    fn hand_over(
        &mut self,
        id: NodeId,
        machine_job: Option<MachineJob>,
        file_job: Option<FileJob>,
        snapshot: Option<SnapshotJob>,
    ) {
        if let Some(FileJob::RemoveOlder(base)) = &file_job {
            self.safety.released(id, *base);
        }
        let is_taken = matches!(machine_job, Some(MachineJob::SnapshotTaken(_)));
        self.trace.counts.snapshots_taken += u64::from(is_taken);
        let Some(running) = self.running_mut(id) else { return };
        if let Some(job) = machine_job {
            running.machine.worker.add(job);
        }
        if let Some(job) = file_job {
            running.files.worker.add(job);
        }
        running.writer.worker.extend(snapshot);
    }

    /// A node's state machine has taken a snapshot over.
    fn note_restored(&mut self, id: NodeId, inputs: &[Input]) -> Result<(), Breach> {
        for input in inputs {
            if let Input::SnapshotRestored { last_included, .. } = input {
                self.trace.counts.snapshots_restored += 1;
                self.trace.headline(
                    self.now,
                    Some(id),
                    format!("restores snapshot {last_included}"),
                );
                self.safety.restored(id, *last_included)?;
                self.invariants.observe_restore(id, last_included.index);
            }
        }
        Ok(())
    }

    /// The log notes how far it is durable if it stays idle from now on.
    fn plan_mark(&mut self, id: NodeId) {
        let Some(idle) = self.options.idle_before_mark else { return };
        let at = self.now.after(idle);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let life = node.life;
        if let Some(running) = node.running_mut()
            && running.mark_at.replace(at).is_none()
        {
            self.queue.push(at, Happening::Mark { node: id, life });
        }
    }

    /// The log may have been idle for long enough; if not, it is looked at again later.
    pub(super) fn mark_if_idle(&mut self, id: NodeId, life: u64) -> Result<(), Breach> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if node.life != life {
            return Ok(());
        }
        let Some(running) = node.running_mut() else { return Ok(()) };
        match running.mark_at {
            Some(at) if at > self.now => {
                self.queue.push(at, Happening::Mark { node: id, life });
                Ok(())
            }
            Some(_) | None => {
                running.mark_at = None;
                if running.log.under_way.is_none() && !running.log.worker.has_work() {
                    running.is_mark_due = true;
                    return self.pump(id);
                }
                // Something else comes first; its end plans anew.
                Ok(())
            }
        }
    }

    fn note_completion(&mut self, id: NodeId, input: &Input) {
        let what = match input {
            Input::Persisted { seq } => What::Persisted { seq: seq.get() },
            Input::Applied(applied) => What::Applied { through: applied.index.get() },
            Input::Peer { .. }
            | Input::Disconnected { .. }
            | Input::PeerGone { .. }
            | Input::Propose { .. }
            | Input::ProposeInSession { .. }
            | Input::Barrier { .. }
            | Input::Deadline
            | Input::ClockJumped { .. }
            | Input::Proved
            | Input::Loaded { .. }
            | Input::SparesLoaded { .. }
            | Input::SnapshotReady { .. }
            | Input::SnapshotChunk { .. }
            | Input::SnapshotGone { .. }
            | Input::SnapshotWritten { .. }
            | Input::SnapshotRestored { .. }
            | Input::Scrubbed { .. }
            | Input::TransferLeadership { .. }
            | Input::ChangeMembership { .. }
            | Input::SetOptions(_)
            | Input::SetDriverOptions(_)
            | Input::DiskFailed
            | Input::Diverged { .. } => return,
        };
        self.trace.note(Note { at: self.now, node: Some(id), what });
    }
}

impl Running {
    pub(super) fn under_way(&mut self, lane: LaneName) -> &mut Option<UnderWay> {
        match lane {
            LaneName::Log => &mut self.log.under_way,
            LaneName::Files => &mut self.files.under_way,
            LaneName::Writer => &mut self.writer.under_way,
            LaneName::Machine => &mut self.machine.under_way,
        }
    }

    /// What has found no room is tried again.
    fn try_again(&mut self, lane: LaneName) {
        match lane {
            LaneName::Log => self.log.worker.try_again(),
            LaneName::Files => self.files.worker.try_again(),
            // It comes with what it has for the others.
            LaneName::Writer | LaneName::Machine => {}
        }
    }

    /// Whether a thread has nothing to begin, or is busy.
    fn is_idle(&self, lane: LaneName) -> bool {
        let (is_busy, has_work) = match lane {
            LaneName::Log => {
                (self.log.under_way.is_some(), self.log.worker.has_work() || self.is_mark_due)
            }
            LaneName::Files => (self.files.under_way.is_some(), self.files.worker.has_work()),
            LaneName::Writer => (self.writer.under_way.is_some(), !self.writer.worker.is_empty()),
            LaneName::Machine => (self.machine.under_way.is_some(), self.machine.worker.has_work()),
        };
        is_busy || !has_work
    }
}

fn log_work(running: &mut Running) -> Result<Option<UnderWay>, NodeFailure> {
    let Some(done) = running.log.worker.work()? else {
        return if std::mem::take(&mut running.is_mark_due) {
            running.log.worker.mark().map(|()| Some(UnderWay::default()))
        } else {
            Ok(None)
        };
    };
    let LogDone { input, file_job, persist_count, is_full, .. } = done;
    let is_release = matches!(file_job, Some(FileJob::RemoveOlder(_)));
    let is_rare_write = persist_count > 0 && std::mem::take(&mut running.is_rare_write);
    let (inputs, is_rare) = (input.into_iter().collect(), is_release || is_rare_write);
    Ok(Some(UnderWay { file_job, inputs, persist_count, is_rare, is_full, ..UnderWay::default() }))
}

fn file_work(running: &mut Running) -> Result<Option<UnderWay>, NodeFailure> {
    let is_rare = match running.files.worker.next() {
        Some(FileJob::RemoveOlder(_)) => true,
        Some(FileJob::Write { done, .. }) => *done,
        Some(
            FileJob::Read { .. }
            | FileJob::NoteDivergence(_)
            | FileJob::Prepare(_)
            | FileJob::LookForRoom
            | FileJob::Scrub { .. },
        )
        | None => false,
    };
    let Some(done) = running.files.worker.work()? else { return Ok(None) };
    let FileDone { machine_job, input, is_full, resumed_bytes, .. } = done;
    let inputs = input.into_iter().collect();
    let under_way = UnderWay { machine_job, inputs, is_rare, is_full, ..UnderWay::default() };
    Ok(Some(UnderWay { resumed_bytes, ..under_way }))
}

fn machine_work(running: &mut Running) -> Result<Option<UnderWay>, NodeFailure> {
    let Some(done) = running.machine.worker.work()? else { return Ok(None) };
    let MachineDone { fates, inputs, snapshot, .. } = done;
    let is_rare = inputs.iter().any(|input| matches!(input, Input::SnapshotRestored { .. }));
    Ok(Some(UnderWay { snapshot, inputs, fates, is_rare, ..UnderWay::default() }))
}

fn write_snapshot(mut job: SnapshotJob, leaves_out: bool) -> Result<UnderWay, NodeFailure> {
    if leaves_out {
        job.view = Box::new(WithoutSessions(job.view));
    }
    let covers = job.covers();
    let (job, is_full) = match job.run() {
        Ok(meta) => (MachineJob::SnapshotTaken(meta), false),
        Err(failure) if failure.is_full() => (MachineJob::SnapshotUnwritten(covers), true),
        Err(failure) => return Err(failure),
    };
    let machine_job = Some(job);
    Ok(UnderWay { machine_job, is_rare: true, is_full, ..UnderWay::default() })
}

/// Counts and hashes what is written to it.
#[derive(Default)]
pub(super) struct HashWriter(pub(super) crate::hash::TraceHash);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0.number(u64::from(*byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
