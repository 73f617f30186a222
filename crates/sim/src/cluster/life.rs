//! Birth, death and sleep of nodes. Knows no reasons: those are in the story or in the trouble.

use super::Cluster;
use super::happening::Happening;
use super::node::{self, Reading, SimNode, State};
use crate::application::{Application, Home, Machine};
use crate::disk::{CrashStyle, DiskFailures, DiskFaults};
use crate::judge::{Breach, Look};
use crate::rng::Chance;
use quorate::StartError;
use quorate_core::{NodeId, Time};
use std::time::Duration;

impl<A: Application> Cluster<A> {
    /// A machine that is down begins to read its disk.
    pub(super) fn start(&mut self, id: NodeId) {
        if self.is_troubled && self.rng.happens(self.options.faults.wrong_disk) {
            self.try_wrong_disk(id);
        }
        if let Err(breach) = self.is_refused_if_diverged(id) {
            self.breach = Some(breach);
            return;
        }
        let founders = self.first_configuration(id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.life += 1;
        node.clock.restart(self.now);
        node.jumped = Duration::ZERO;
        self.network.sender_started(id, self.now);
        let life = node.life;
        let image = self.image_for_old(id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (disk, options, now) = (node.disk.clone(), &self.options, self.now);
        let engine_fails = self.options.faults.engine_fails;
        let home = Home::new(id, disk.clone(), !node.is_touched, engine_fails);
        let (read, task, work) = disk.run(|| {
            let Machine { machine, digest } =
                self.application.machine(&home).map_err(|source| StartError::Machine { source })?;
            let opened = node::read_disk(node, options, now, founders, machine);
            opened.map(|opened| (opened, digest))
        });
        self.count_failures(id);
        match read {
            Ok((opened, digest)) => {
                // What the disk failed in was not worth failing for. A store whose engine has failed
                // is another matter: it has been opened, and says so when it is to apply something.
                let _forgiven = disk.take_failure();
                if let Some(image) = image {
                    self.try_old(id, image, &opened);
                }
                let Some(node) = self.nodes.get_mut(&id) else { return };
                node.state = State::Starting(Box::new(Reading { task, opened, digest }));
                let done = self.disk_time(work.sync_count + 1);
                self.queue.push(done, Happening::Started { node: id, life });
            }
            Err(error) if self.is_too_old(id, &error) => {}
            Err(error) if self.is_simulated_failure(id) => {
                self.trace.headline(self.now, Some(id), format!("does not start: {error}"));
                self.crash_node(id, CrashStyle::KeepAll);
                self.trace.counts.disk_failures += 1;
                self.plan_start(id, Duration::from_secs(1));
            }
            Err(error) if self.is_damaged(id) => self.is_out_of_order(id, &error.to_string()),
            Err(error) => {
                let reason = error.to_string();
                self.breach = Some(Breach::DoesNotStart { node: id, reason });
            }
        }
    }

    /// Somebody mixes two machines' disks up. The node has to notice; then that is put right.
    fn try_wrong_disk(&mut self, id: NodeId) {
        let others: Vec<&SimNode> =
            self.nodes.values().filter(|node| node.id != id && node.life > 1).collect();
        let Some(other) = self.rng.pick(&others) else { return };
        let (owner, disk) = (other.id, other.disk.copy());
        // One that has never been started has no owner.
        if !node::has_log(&disk) {
            return;
        }
        let Machine { machine, .. } = Machine::broken("the disk is another machine's");
        let (founders, options, now) = (self.first_configuration(id), &self.options, self.now);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        self.trace.counts.wrong_disks += 1;
        self.trace.headline(now, Some(id), format!("has the disk of {owner} in it"));
        if node::read(disk, node, options, now, founders, machine).is_ok() {
            self.breach = Some(Breach::ForeignDisk { node: id, owner });
        }
    }

    /// Whether a failing disk, not the code, may be why this node does not start.
    pub(super) fn is_simulated_failure(&mut self, id: NodeId) -> bool {
        let by_storage = self.application.take_failure(id);
        self.trace.counts.engine_failures += u64::from(by_storage);
        self.nodes.get(&id).is_some_and(|node| node.disk.take_failure()) || by_storage
    }

    /// Takes note of what the disk did to its node.
    pub(super) fn count_failures(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let DiskFailures { reads, misreads, short_reads, writes, refused, syncs } =
            node.disk.take_failures();
        let counts = &mut self.trace.counts;
        counts.read_failures += reads;
        counts.wrong_reads += misreads;
        counts.short_reads += short_reads;
        counts.write_failures += writes;
        counts.writes_refused += refused;
        counts.sync_failures += syncs;
    }

    /// A node has read its disk and begins.
    pub(super) fn started(&mut self, id: NodeId, life: u64) -> Result<(), Breach> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if node.life != life {
            return Ok(());
        }
        if let Some(until) = node.hang.map(|hang| hang.until).filter(|until| *until > now) {
            self.queue.push(until, Happening::Started { node: id, life });
            return Ok(());
        }
        let reading = match std::mem::replace(&mut node.state, State::Down) {
            State::Starting(reading) => reading,
            // Its disk hung, and it was let go earlier than it was to be.
            other @ (State::Up(_) | State::Down) => {
                node.state = other;
                return Ok(());
            }
        };
        node.disk.finish(reading.task);
        node.diverged = None;
        self.application.settled(id);
        let found = node::found(&reading.opened);
        let applied = reading.opened.applier.applied().index;
        self.safety.started(id, found, applied)?;
        self.invariants.observe_restore(id, applied);
        let running = node::begin(*reading, node.disk.clone(), &self.options, now);
        let look = look_at(id, &running.driver);
        let text = format!("starts with log to {}, term {}", look.last_log, look.term);
        node.state = State::Up(Box::new(running));
        self.trace.headline(now, Some(id), text);
        self.trace.counts.restarts += u64::from(life > 1);
        self.begin_to_look_for_room(id);
        self.plan_turn(id, now);
        Ok(())
    }

    /// A node stops here and now; what it had not synced suffers as `style` says.
    pub(super) fn crash_node(&mut self, id: NodeId, style: CrashStyle) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.life += 1;
        node.paused = false;
        node.crash_after_outputs = None;
        let state = std::mem::replace(&mut node.state, State::Down);
        // The disk dies first: what the node still wants to write while it is dropped is lost.
        node.disk = node.disk.crash(style);
        node.hang = node.hang.filter(|hang| !hang.ends_with_crash);
        self.invariants.crashed(id);
        let at_work = match &state {
            State::Up(running) => running.machine.under_way.is_some(),
            State::Starting(_) => true,
            State::Down => false,
        };
        self.application.crashed(id, at_work, &mut self.rng);
        if let State::Up(running) = state {
            self.forsake(running.callers);
        }
        self.network.receiver_died(id, self.now);
        self.tell_of_broken_connections(id);
        self.set_disk_faults(id);
    }

    fn tell_of_broken_connections(&mut self, id: NodeId) {
        let peers: Vec<NodeId> = self.nodes.keys().copied().filter(|peer| *peer != id).collect();
        for peer in peers {
            if self.rng.happens(Chance::percent(80)) {
                let delay = self.rng.duration(Duration::ZERO, Duration::from_millis(100));
                let notice = Happening::Disconnected { node: peer, peer: id };
                self.queue.push(self.now.after(delay), notice);
                self.call_in_vain(peer, id, delay);
            }
        }
    }

    /// A machine that is down will start after this time.
    pub(super) fn plan_start(&mut self, id: NodeId, after: Duration) {
        if let Some(node) = self.nodes.get(&id).filter(|node| !node.is_lost) {
            let start = Happening::Start { node: id, life: node.life };
            self.queue.push(self.now.after(after), start);
        }
    }

    /// A process is stopped; the world goes on without it.
    pub(super) fn pause_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused = true;
        }
    }

    /// A stopped process goes on, and finds what has piled up.
    pub(super) fn resume(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused = false;
            if let Some(running) = node.running_mut() {
                // What was planned came and went while it was stopped.
                running.turn_at = None;
            }
            self.plan_turn(id, self.now);
        }
    }

    /// The disk misbehaves as the options say, while there is trouble at all.
    pub(super) fn set_disk_faults(&mut self, id: NodeId) {
        let faults = if self.is_troubled {
            self.options.faults.disk.faults
        } else {
            DiskFaults {
                sync_lies: self.options.faults.disk.faults.sync_lies,
                ..DiskFaults::default()
            }
        };
        if let Some(node) = self.nodes.get(&id) {
            node.disk.set_faults(faults);
            let disk = self.options.faults.disk;
            if disk.damage_every.is_some() || disk.faults.misreads != Chance::NEVER {
                node.disk.keep_past();
            }
        }
    }

    /// When a stretch of disk work that begins now is done.
    pub(super) fn disk_time(&mut self, sync_count: u32) -> Time {
        let pace = self.options.faults.disk;
        let mut at = self.now.after(Duration::from_micros(10));
        for _ in 0..sync_count {
            at = at.after(pace.sync_min).after(self.rng.wait(pace.sync_mean));
            if self.is_troubled && self.rng.happens(pace.stall) {
                self.trace.counts.disk_stalls += 1;
                at = at.after(self.rng.duration(Duration::ZERO, pace.stall_max));
            }
        }
        self.trace.counts.syncs += u64::from(sync_count);
        at
    }
}

/// What the judges see of a node.
pub(super) fn look_at(node: NodeId, driver: &quorate::Driver) -> Look {
    let raft = driver.raft();
    Look {
        node,
        role: raft.role(),
        term: raft.current_term(),
        commit: raft.commit_index(),
        applied: driver.applied(),
        last_log: raft.last_log(),
    }
}
