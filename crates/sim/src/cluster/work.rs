//! The work that a node's threads do: the log, the snapshots, the state machine. Work happens when
//! it begins, as far as anybody on the node can see, and counts when its time is over: a crash in
//! between leaves any beginning of it.

use super::Cluster;
use super::happening::Happening;
use super::lanes::{FileJob, LaneName, LogJob, MachineJob, UnderWay, WriterJob};
use super::node::Running;
use super::sabotage::WithoutSessions;
use crate::application::Application;
use crate::disk::{CrashStyle, Work};
use crate::faults::SessionFault;
use crate::judge::Breach;
use crate::trace::{Note, What};
use quorate::{Checkpoint, Input, SnapshotView};
use quorate_core::{NodeId, Persist, SnapshotMeta};
use quorate_wal::WalError;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

/// Why a piece of work did not succeed.
enum Failure {
    /// The disk, as far as the node can tell.
    Disk(WalError),
    /// The state machine.
    Machine(quorate::Fatal),
    /// A snapshot on its way to the disk.
    View(io::Error),
}

impl From<WalError> for Failure {
    fn from(error: WalError) -> Self {
        Self::Disk(error)
    }
}

impl From<quorate::Fatal> for Failure {
    fn from(error: quorate::Fatal) -> Self {
        Self::Machine(error)
    }
}

impl<A: Application> Cluster<A> {
    /// Every thread of a node that is free takes up what waits for it.
    pub(super) fn pump(&mut self, id: NodeId) -> Result<(), Breach> {
        self.pump_machine(id)?;
        self.pump_log(id)?;
        self.pump_lane(id, LaneName::Files, |running| {
            let job = running.files.next()?;
            Some(file_job(running, job))
        })?;
        let leaves_out = self.options.faults.sessions == Some(SessionFault::LeftOutOfSnapshots);
        self.pump_lane(id, LaneName::Writer, |running| {
            let WriterJob(meta, view) = running.writer.next()?;
            let view = if leaves_out { Box::new(WithoutSessions(view)) } else { view };
            Some(write_snapshot(running, meta, view))
        })
    }

    fn pump_log(&mut self, id: NodeId) -> Result<(), Breach> {
        self.pump_lane(id, LaneName::Log, |running| {
            let job = running.log.next()?;
            let done = log_job(running, job);
            if let Some(job) = running.wal.prepare() {
                running.files.waiting.push_back(FileJob::Prepare(job));
            }
            Some(done)
        })
    }

    fn pump_machine(&mut self, id: NodeId) -> Result<(), Breach> {
        let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running_mut()) else {
            return Ok(());
        };
        let restored = match running.machine.waiting.front() {
            Some(MachineJob::Restore(meta)) if running.machine.under_way.is_none() => {
                Some(meta.last_included)
            }
            Some(_) | None => None,
        };
        self.pump_lane(id, LaneName::Machine, |running| {
            let job = running.machine.next()?;
            Some(machine_job(running, job))
        })?;
        if let Some(last_included) = restored {
            self.trace.counts.snapshots_restored += 1;
            self.trace.headline(self.now, Some(id), format!("restores snapshot {last_included}"));
            self.safety.restored(id, last_included)?;
            self.invariants.observe_restore(id, last_included.index);
        }
        Ok(())
    }

    /// Lets one thread begin its next piece of work, if it is free and there is one.
    fn pump_lane(
        &mut self,
        id: NodeId,
        lane: LaneName,
        work: impl FnOnce(&mut Running) -> Option<Result<UnderWay, Failure>>,
    ) -> Result<(), Breach> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let disk = node.disk.clone();
        let Some(running) = node.running_mut() else { return Ok(()) };
        if running.is_idle(lane) {
            return Ok(());
        }
        let (done, task, work) = disk.run(|| work(running));
        let Some(done) = done else {
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
        done: Result<UnderWay, Failure>,
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
                return self.node_failed(id, failure);
            }
        };
        under_way.task = Some(task);
        if self.options.faults.acks_too_early && lane == LaneName::Log {
            for input in std::mem::take(&mut under_way.inputs) {
                self.tell(id, input);
            }
        }
        let at = match lane {
            LaneName::Machine => {
                let apply_max = self.options.faults.apply_max;
                self.now.after(self.rng.duration(Duration::ZERO, apply_max))
            }
            LaneName::Log | LaneName::Files | LaneName::Writer => self.disk_time(work.sync_count),
        };
        under_way.due = at;
        let is_rare = under_way.is_rare;
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

    /// A node whose disk fails stops, as its runtime would, and is started again by somebody. A
    /// node that fails for any other reason is broken.
    fn node_failed(&mut self, id: NodeId, failure: Failure) -> Result<(), Breach> {
        let reason = match failure {
            Failure::Disk(error) => error.to_string(),
            Failure::View(error) => error.to_string(),
            // It reads snapshots from the disk.
            Failure::Machine(error) => error.to_string(),
        };
        if !self.is_simulated_failure(id) && !self.is_damaged(id) {
            return Err(Breach::NodeFailed { node: id, reason });
        }
        self.trace.counts.disk_failures += 1;
        self.trace.headline(self.now, Some(id), format!("stops: {reason}"));
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
        if let Some(task) = done.task {
            disk.finish(task);
        }
        for _ in 0..done.persist_count {
            self.safety.persisted(id)?;
        }
        self.trace.counts.persisted += u64::try_from(done.persist_count).unwrap_or(0);
        if done.persist_count > 0 {
            self.plan_mark(id);
        }
        if lane == LaneName::Machine {
            self.application.settled(id);
        }
        if let (Some(meta), Some(running)) = (done.taken, self.running_mut(id)) {
            running.machine.waiting.push_back(MachineJob::SnapshotTaken(meta));
            self.trace.counts.snapshots_taken += 1;
        }
        if let Some(base) = done.released {
            self.safety.released(id, base);
            // Only now may the snapshots go that the older log needed.
            if let Some(running) = self.running_mut(id) {
                running.files.waiting.push_back(FileJob::RemoveOlder(base));
            }
        }
        for (ticket, fate) in done.fates {
            self.fate(id, ticket, fate);
        }
        for input in done.inputs {
            self.note_completion(id, &input);
            self.tell(id, input);
        }
        self.pump(id)
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
                if running.log.under_way.is_none() && running.log.waiting.is_empty() {
                    running.log.waiting.push_back(LogJob::Mark);
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
            | Input::Propose { .. }
            | Input::ProposeInSession { .. }
            | Input::Barrier { .. }
            | Input::Deadline
            | Input::Loaded { .. }
            | Input::SnapshotReady { .. }
            | Input::SnapshotChunk { .. }
            | Input::SnapshotGone { .. }
            | Input::SnapshotWritten { .. }
            | Input::SnapshotRestored { .. }
            | Input::TransferLeadership { .. }
            | Input::ChangeMembership { .. } => return,
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

    /// Whether a thread has nothing to begin, or is busy.
    fn is_idle(&self, lane: LaneName) -> bool {
        match lane {
            LaneName::Log => self.log.is_idle(),
            LaneName::Files => self.files.is_idle(),
            LaneName::Writer => self.writer.is_idle(),
            LaneName::Machine => self.machine.is_idle(),
        }
    }
}

fn log_job(running: &mut Running, job: LogJob) -> Result<UnderWay, Failure> {
    match job {
        LogJob::Persist(first) => persist(running, first),
        LogJob::Load(request) => {
            let entries = running.wal.read(request.first, request.last, request.max_bytes)?;
            Ok(answer(Input::Loaded { request, entries }))
        }
        LogJob::Mark => {
            running.wal.mark_synced()?;
            Ok(UnderWay::default())
        }
        LogJob::Release(base) => {
            running.wal.release_prefix(&base)?;
            let released = Some(base.last_included);
            Ok(UnderWay { released, is_rare: true, ..UnderWay::default() })
        }
    }
}

/// Writes everything that waits to be written, as one batch; what else waits comes later, as in
/// the runtime.
fn persist(running: &mut Running, first: Persist) -> Result<UnderWay, Failure> {
    let mut batch = vec![first];
    let mut later = VecDeque::new();
    for job in running.log.waiting.drain(..) {
        match job {
            LogJob::Persist(next) => batch.push(next),
            LogJob::Load(_) | LogJob::Release(_) | LogJob::Mark => later.push_back(job),
        }
    }
    running.log.waiting = later;
    let is_rare =
        batch.iter().any(|persist| persist.reset.is_some() || persist.truncate_after.is_some());
    running.wal.persist(&batch)?;
    let inputs = batch.last().map(|last| Input::Persisted { seq: last.seq }).into_iter().collect();
    Ok(UnderWay { inputs, persist_count: batch.len(), is_rare, ..UnderWay::default() })
}

fn write_snapshot(
    running: &mut Running,
    meta: SnapshotMeta,
    view: Box<dyn SnapshotView>,
) -> Result<UnderWay, Failure> {
    let mut writer = running.snapshots.create(meta)?;
    view.write_to(&mut writer).map_err(Failure::View)?;
    let taken = Some(writer.finish()?);
    Ok(UnderWay { taken, is_rare: true, ..UnderWay::default() })
}

fn file_job(running: &mut Running, job: FileJob) -> Result<UnderWay, Failure> {
    match job {
        FileJob::Read { peer, last_included, offset, max_bytes } => {
            let is_again = offset == 0 && running.snapshots.note_sending(last_included);
            let piece = running.snapshots.reader(last_included).and_then(|reader| {
                if is_again {
                    reader.verify()?;
                }
                reader.read_chunk(offset, max_bytes)
            });
            if let Ok((chunk, done)) = piece {
                let input = Input::SnapshotChunk { peer, last_included, offset, chunk, done };
                return Ok(answer(input));
            }
            running.machine.waiting.push_back(MachineJob::SnapshotLost(last_included));
            Ok(answer(Input::SnapshotGone { peer, last_included }))
        }
        FileJob::Store { meta, offset, chunk, done } => {
            let received = running.snapshots.receive(&meta, offset, &chunk, done)?;
            let written = answer(Input::SnapshotWritten {
                last_included: meta.last_included,
                next_offset: received.next_offset,
                complete: received.complete,
            });
            Ok(UnderWay { is_rare: done, ..written })
        }
        FileJob::RemoveOlder(keep) => {
            // The runtime warns and goes on.
            let _left_behind = running.snapshots.remove_older_than(keep);
            Ok(UnderWay { is_rare: true, ..UnderWay::default() })
        }
        FileJob::Prepare(job) => {
            let _unprepared = job.run();
            Ok(UnderWay::default())
        }
    }
}

fn machine_job(running: &mut Running, job: MachineJob) -> Result<UnderWay, Failure> {
    let mut done = UnderWay::default();
    match job {
        MachineJob::Apply(batch) => {
            let outcome = running.applier.apply(&batch)?;
            done.inputs.push(Input::Applied(outcome.applied));
            done.fates = outcome.local;
        }
        MachineJob::Restore(meta) => {
            let reader = running.snapshots.reader(meta.last_included)?;
            running.applier.restore(&meta, &mut reader.body())?;
            let (last_included, durable) = (meta.last_included, running.applier.durable());
            running.latest = Some(meta);
            done.is_rare = true;
            done.inputs.push(Input::SnapshotRestored { last_included, durable });
        }
        MachineJob::Checkpoint { at_least } => {
            if running.applier.checkpoint()? == Checkpoint::NeedsSnapshot {
                running.wanted = running.wanted.max(Some(at_least));
            }
        }
        MachineJob::TakeSnapshot { at_least } => {
            running.wanted = running.wanted.max(Some(at_least));
        }
        MachineJob::SnapshotLost(lost) => {
            running.latest = running.latest.take().filter(|meta| meta.last_included != lost);
        }
        MachineJob::SnapshotTaken(meta) => {
            running.latest = Some(meta.clone());
            done.inputs.push(Input::SnapshotReady { meta });
        }
    }
    done.inputs.extend(begin_snapshot_if_wanted(running)?);
    Ok(done)
}

/// As the runtime does it: one snapshot at a time, not before everything that it must cover is
/// applied, and none if one is at hand.
fn begin_snapshot_if_wanted(running: &mut Running) -> Result<Option<Input>, Failure> {
    let Some(at_least) = running.wanted else { return Ok(None) };
    let is_writing = running.writer.under_way.is_some() || !running.writer.waiting.is_empty();
    if is_writing || at_least > running.applier.applied().index {
        return Ok(None);
    }
    running.wanted = None;
    let at_hand = running.latest.clone();
    if let Some(meta) = at_hand.filter(|meta| meta.last_included.index >= at_least) {
        return Ok(Some(Input::SnapshotReady { meta }));
    }
    let (meta, view) = running.applier.view()?;
    running.writer.waiting.push_back(WriterJob(meta, view));
    Ok(None)
}

fn answer(input: Input) -> UnderWay {
    UnderWay { inputs: vec![input], ..UnderWay::default() }
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
