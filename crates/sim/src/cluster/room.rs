//! How full disks are, as the nodes see it: each looks now and then, by the shipped code, gives its
//! reserve up and makes it anew; its server, which is not here, would say the rest to all members. Must
//! not know who fills disks.

use super::Cluster;
use super::happening::Happening;
use super::node::SimNode;
use crate::application::Application;
use crate::judge::Breach;
use quorate_core::NodeId;
use std::time::Duration;

/// How often a node looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl<A: Application> Cluster<A> {
    /// A node has started.
    pub(super) fn begin_to_look_for_room(&mut self, id: NodeId) {
        if self.options.disk_reserve_bytes == 0 {
            return;
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (disk, life) = (node.disk.clone(), node.life);
        let Some(running) = node.running_mut() else { return };
        let (_, task, _) = disk.run(|| running.keeper.begin());
        disk.finish(task);
        // A disk that fails has no reserve, and that is all.
        let _forgiven = disk.take_failure();
        self.queue.push(self.now.after(LOOK_EVERY), Happening::LookForRoom { node: id, life });
    }

    /// A node looks, and its server says what follows.
    pub(super) fn look_for_room(&mut self, id: NodeId, life: u64) -> Result<(), Breach> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else {
            return Ok(());
        };
        self.queue.push(self.now.after(LOOK_EVERY), Happening::LookForRoom { node: id, life });
        let (disk, is_paused) = (node.disk.clone(), node.paused);
        let Some(running) = node.running_mut().filter(|_| !is_paused) else { return Ok(()) };
        let is_waited_for = running.waits_for_room();
        let held_bytes = running.keeper.room().reserved_bytes;
        let used_bytes = disk.used_bytes();
        let (looked, task, _) = disk.run(|| running.keeper.look(is_waited_for));
        disk.finish(task);
        let _forgiven = disk.take_failure();
        self.count_failures(id);
        let Ok(room) = looked else { return Ok(()) };
        self.trace.counts.reserves_released += u64::from(room.reserved_bytes < held_bytes);
        // One of an earlier life may only be recognised now, if the disk failed when the node started.
        if room.is_short && disk.used_bytes() > used_bytes {
            let reason = format!("takes a reserve where there is too little room: {room:?}");
            return Err(Breach::NodeFailed { node: id, reason });
        }
        let clients = &mut self.clients;
        let said = self.application.disk_room(id, room.is_short, &mut || clients.next_op());
        if let Some((op, request)) = said {
            let text = if room.is_short { "its disk is nearly full" } else { "its disk has room" };
            self.trace.headline(self.now, Some(id), text.to_owned());
            self.trace.counts.disk_alarms += 1;
            self.post(op, None, id, request);
        }
        Ok(())
    }

    /// Whether every healed node has seen that there is room, has its reserve, and all know of it.
    pub(super) fn has_room_again(&self) -> bool {
        let reserve_bytes = self.options.disk_reserve_bytes;
        // Whoever was removed cannot take anything back.
        let Some(members) = self.settled_members() else { return false };
        let is_member = |id: NodeId| self.is_owed(id) && members.contains(&id);
        let is_meant = |node: &&SimNode| is_member(node.id) && self.is_sound(node.id);
        self.nodes.values().filter(is_meant).all(|node| {
            let Some(running) = node.running() else { return false };
            let room = running.keeper.room();
            !room.is_short
                && !room.is_waited_for
                && room.reserved_bytes == reserve_bytes
                && !self.application.has_disk_alarm(node.id)
        })
    }
}
