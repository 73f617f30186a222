//! What goes wrong by itself, and whom it hits: rhythms come from the world's faults, victims from
//! its chance. Knows nothing of what nodes do about it.

use super::Cluster;
use super::happening::{Happening, Trouble};
use crate::application::Application;
use crate::disk::CrashStyle;
use crate::faults::Rhythm;
use crate::rng::Rng;
use quorate::Input;
use quorate_core::{NodeId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// The troubles of a world, numbered from 1 on in the order in which they come. Each kind has its
/// own rhythm and each trouble its own chance, so that one can be taken out of a world without
/// changing when the others come and whom they hit.
#[derive(Debug)]
pub(super) struct Troubles {
    count: u64,
    seed: u64,
    rhythms: BTreeMap<Trouble, Rng>,
}

impl Troubles {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { count: 0, seed: rng.word(), rhythms: BTreeMap::new() }
    }

    /// How many there were.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    fn rhythm(&mut self, trouble: Trouble) -> &mut Rng {
        let seed = self.seed;
        let rhythm = || Rng::new(seed).fork(&format!("rhythm of {trouble:?}"));
        self.rhythms.entry(trouble).or_insert_with(rhythm)
    }

    /// The next trouble's ordinal and chance.
    fn next(&mut self) -> (u64, Rng) {
        self.count += 1;
        (self.count, Rng::new(self.seed.wrapping_add(self.count)).fork("trouble"))
    }
}

impl<A: Application> Cluster<A> {
    /// Everything that goes wrong in this world, for the first time.
    pub(super) fn plan_troubles(&mut self) {
        for trouble in Trouble::ALL {
            self.plan_trouble(trouble);
        }
    }

    fn plan_trouble(&mut self, trouble: Trouble) {
        let faults = &self.options.faults;
        let every = |rhythm: Option<Rhythm>| rhythm.map(|rhythm| rhythm.every);
        let every = match trouble {
            Trouble::Crash => faults.crashes.map(|crashes| crashes.rhythm.every),
            Trouble::Partition => every(faults.partitions),
            Trouble::Swizzle => every(faults.swizzles),
            Trouble::Break => every(faults.breaks),
            Trouble::Omission => every(faults.omissions),
            Trouble::Pause => every(faults.pauses),
            Trouble::ClockJump => every(faults.clocks.and_then(|clocks| clocks.jumps)),
            Trouble::Transfer => faults.transfers_every,
            Trouble::Hang => every(faults.disk.hangs),
            Trouble::Full => every(faults.disk.full),
            Trouble::Damage => faults.disk.damage_every,
            Trouble::Loss => faults.disk.losses_every,
            Trouble::Change => faults.changes_every,
            Trouble::Wipe => faults.disk.wipes_every,
            Trouble::Rumour => faults.rumours_every,
            Trouble::Settings => faults.settings_every,
            Trouble::Upgrade => faults.upgrades_every,
        };
        if let Some(every) = every {
            let delay = self.troubles.rhythm(trouble).wait(every);
            self.queue.push(self.now.after(delay), Happening::Trouble(trouble));
        }
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        if !self.is_troubled {
            return;
        }
        self.plan_trouble(trouble);
        let (ordinal, details) = self.troubles.next();
        if self.options.skipped_troubles.contains(ordinal) {
            return;
        }
        // Whom it hits and for how long is drawn from the trouble's own chance, so that the
        // troubles after one that is skipped stay as they are.
        let chance = std::mem::replace(&mut self.rng, details);
        self.trace.trouble = Some(ordinal);
        self.befall(trouble);
        self.rng = chance;
        self.trace.trouble = None;
    }

    fn befall(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Crash => self.crash_somebody(),
            Trouble::Partition => self.partition_somehow(),
            Trouble::Swizzle => self.swizzle(),
            Trouble::Break => self.break_something(),
            Trouble::Omission => self.omit_something(),
            Trouble::ClockJump => self.let_a_clock_jump(),
            Trouble::Pause => self.pause_somebody(),
            Trouble::Transfer => self.transfer_somewhere(),
            Trouble::Hang => self.let_a_disk_hang(),
            Trouble::Full => self.fill_a_disk(),
            Trouble::Damage => self.damage_something(),
            Trouble::Loss => self.lose_a_machine(),
            Trouble::Change => self.change_members_somehow(),
            Trouble::Wipe => self.wipe_a_disk(),
            Trouble::Rumour => self.spread_a_rumour(),
            Trouble::Settings => self.give_other_settings(),
            Trouble::Upgrade => self.upgrade_somebody(),
        }
    }

    fn crash_somebody(&mut self) {
        let Some(crashes) = self.options.faults.crashes else { return };
        if self.rng.happens(crashes.everybody) {
            let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in everybody {
                self.crash_by_trouble(id);
            }
            return;
        }
        let Some(id) = self.victim() else { return };
        if self.rng.happens(crashes.mid_turn)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            let outputs = u32::try_from(self.rng.below(12)).unwrap_or(0);
            node.crash_after_outputs = Some(outputs);
        } else {
            self.crash_by_trouble(id);
        }
    }

    /// A node loses power, or only its process, and comes back after a while.
    pub(super) fn crash_by_trouble(&mut self, id: NodeId) {
        let Some(crashes) = self.options.faults.crashes else { return };
        if self.nodes.get(&id).is_none_or(super::node::SimNode::is_down) {
            return;
        }
        let style = if self.rng.happens(crashes.tears) {
            CrashStyle::Tear
        } else if self.rng.coin() {
            CrashStyle::LoseAll
        } else {
            CrashStyle::KeepAll
        };
        self.trace.counts.crashes += 1;
        self.trace.headline(self.now, Some(id), format!("crashes: {style}"));
        self.crash_node(id, style);
        let down = self.rng.duration(Duration::ZERO, crashes.rhythm.lasts_max);
        self.plan_start(id, down);
        if self.rng.happens(crashes.while_starting)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            // It takes effect at the first output after the start, or a few later.
            node.crash_after_outputs = Some(u32::try_from(self.rng.below(3)).unwrap_or(0));
        }
    }

    /// A node does something that it seldom does, until `due`: it may crash on the way, or as long
    /// after.
    pub(super) fn plan_crash_around(&mut self, id: NodeId, due: Time) {
        let Some(crashes) = self.options.faults.crashes else { return };
        if !self.is_troubled || !self.rng.happens(crashes.at_rare_work) {
            return;
        }
        let at = self.now.after(self.rng.duration(Duration::ZERO, due.since(self.now) * 2));
        if let Some(life) = self.nodes.get(&id).map(|node| node.life) {
            self.queue.push(at, Happening::CrashAtWork { node: id, life });
        }
    }

    pub(super) fn crash_at_work(&mut self, id: NodeId, life: u64) {
        if self.is_troubled && self.nodes.get(&id).is_some_and(|node| node.life == life) {
            self.trace.counts.crashes_at_rare_work += 1;
            self.crash_by_trouble(id);
        }
    }

    /// The leader in half of the cases, else anybody.
    pub(super) fn victim(&mut self) -> Option<NodeId> {
        let leader = self.leader().map(NodeId::new);
        if let (Some(leader), true) = (leader, self.rng.coin()) {
            return Some(leader);
        }
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.rng.pick(&everybody).copied()
    }

    fn pause_somebody(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.pauses else { return };
        let Some(id) = self.victim() else { return };
        let lasts = self.rng.duration(Duration::from_millis(1), lasts_max);
        self.trace.counts.pauses += 1;
        self.trace.headline(self.now, Some(id), format!("is stopped for {lasts:?}"));
        self.pause_node(id);
        self.queue.push(self.now.after(lasts), Happening::Resume { node: id });
    }

    /// A process that looks at its clock finds much time gone.
    fn let_a_clock_jump(&mut self) {
        let jumps = self.options.faults.clocks.and_then(|clocks| clocks.jumps);
        let Some(Rhythm { lasts_max, .. }) = jumps else { return };
        let Some(id) = self.victim() else { return };
        let ahead = self.rng.duration(Duration::from_millis(1), lasts_max);
        self.trace.counts.clock_jumps += 1;
        self.jump(id, ahead);
    }

    pub(super) fn jump(&mut self, id: NodeId, ahead: Duration) {
        self.trace.headline(self.now, Some(id), format!("its clock jumps {ahead:?} ahead"));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.clock.jump(self.now, ahead);
            node.jumped += ahead;
        }
        // What it waits for may be due.
        self.plan_turn(id, self.now);
    }

    fn transfer_somewhere(&mut self) {
        let Some(leader) = self.leader().map(NodeId::new) else { return };
        let to = self.rng.coin().then(|| NodeId::new(self.rng.below(self.machine_count()) + 1));
        self.trace.counts.transfers += 1;
        let text = to.map_or_else(
            || "is asked to hand over to whomever it chooses".to_owned(),
            |to| format!("is asked to hand over to n{to}"),
        );
        self.trace.headline(self.now, Some(leader), text);
        self.tell(leader, Input::TransferLeadership { to });
    }
}
