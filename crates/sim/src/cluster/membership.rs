//! Machines that join and members that change: wishes by stories and by chance, and how they ended.
//! Who the members are is read off committed configurations; no node is believed.

use super::node::SimNode;
use super::{Cluster, ClusterOptions};
use crate::application::Application;
use crate::judge::Breach;
use crate::rng::Rng;
use quorate::{Input, MembershipError, MembershipFate, Ticket};
use quorate_core::{
    ChangeWait, Configuration, Member, MemberRole, Members, MembershipCommand, NodeId, Raft, Role,
    Time,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// No world has more machines, whoever wishes for more.
const MACHINES_COUNT_MAX: usize = 16;

/// Wishes for other members, by the tickets of those who wait for their end.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    open: BTreeMap<Ticket, Wished>,
    /// The ends of a story's own wishes.
    ended: BTreeMap<Ticket, MembershipFate>,
    /// What was wished for when the caller's time was up: it may still come.
    undecided: Vec<Members>,
    /// When an operator last took a change back, after the healing.
    taken_back: Option<Time>,
}

#[derive(Debug)]
struct Wished {
    of_story: bool,
    target: Option<Members>,
}

/// A member as it is wished for.
#[must_use]
pub fn member(id: u64, role: MemberRole) -> (NodeId, Member) {
    let context = bytes::Bytes::new();
    (NodeId::new(id), Member { role, rank: 0, address: format!("sim:{id}"), context })
}

/// Voters with these ids.
#[must_use]
pub fn voters(ids: impl IntoIterator<Item = u64>) -> Members {
    ids.into_iter().map(|id| member(id, MemberRole::Voter)).collect()
}

impl<A: Application> Cluster<A> {
    /// A machine with an empty disk starts, and waits to be added; returns its id.
    pub fn add_machine(&mut self) -> u64 {
        let last = self.nodes.keys().next_back().map_or(0, |id| id.get());
        let id = NodeId::new(last + 1);
        let mut node = SimNode::new(id, &self.options.faults, self.rng.fork("machine"));
        node.program = self.first_program();
        node.spoke = node.program;
        self.nodes.insert(id, node);
        self.trace.headline(self.now, Some(id), "a new machine".to_owned());
        self.trace.counts.machines_added += 1;
        self.set_disk_faults(id);
        self.start(id);
        id.get()
    }

    /// How many machines there are; their ids have no gap.
    pub(super) fn machine_count(&self) -> u64 {
        u64::try_from(self.nodes.len()).unwrap_or(u64::MAX)
    }

    /// What a log begins with: the founders' begin with the founders, others with nobody.
    pub(super) fn first_configuration(&self, id: NodeId) -> Arc<Configuration> {
        if self.founders.members.contains_key(&id) {
            Arc::clone(&self.founders)
        } else {
            Arc::default()
        }
    }

    /// Asks a node for other members, and waits for nothing.
    pub fn wish(&mut self, node: u64, command: MembershipCommand, patience: Duration) -> Ticket {
        self.send_wish(NodeId::new(node), command, patience, true)
    }

    pub(super) fn send_wish(
        &mut self,
        node: NodeId,
        command: MembershipCommand,
        patience: Duration,
        of_story: bool,
    ) -> Ticket {
        let ticket = Ticket(self.clients.next_op().0);
        let target = match &command {
            MembershipCommand::Set { target, .. } => Some(target.clone()),
            MembershipCommand::Cancel => None,
        };
        self.trace.headline(self.now, Some(node), format!("is asked for {}", words(&command)));
        self.wishes.open.insert(ticket, Wished { of_story, target });
        let own_now = self.nodes.get(&node).map_or(self.now, |node| node.clock.own(self.now));
        let deadline = own_now.after(patience);
        self.tell(node, Input::ChangeMembership { ticket, command, deadline });
        ticket
    }

    /// How a story's wish ended, once it has; it is told once.
    pub fn wish_end(&mut self, ticket: Ticket) -> Option<MembershipFate> {
        self.wishes.ended.remove(&ticket)
    }

    /// Asks a node for these members, and lets the world go on until that has come to an end;
    /// `None` if it has not 5 s after `patience` is over, or if the node crashed.
    pub fn set_members(
        &mut self,
        node: u64,
        target: Members,
        patience: Duration,
    ) -> Option<MembershipFate> {
        let command = MembershipCommand::Set { target, expected_version: None, force: true };
        self.change_members(node, command, patience)
    }

    /// As [`Self::set_members`], for any wish.
    pub fn change_members(
        &mut self,
        node: u64,
        command: MembershipCommand,
        patience: Duration,
    ) -> Option<MembershipFate> {
        let ticket = self.wish(node, command, patience);
        let until = self.now.after(patience).after(Duration::from_secs(5));
        loop {
            if let Some(fate) = self.wish_end(ticket) {
                return Some(fate);
            }
            if self.queue.next_time().is_none_or(|next| next > until) || !self.step() {
                return None;
            }
        }
    }

    /// A wish has come to its end, or its caller's time is up.
    pub(super) fn wish_ended(
        &mut self,
        node: NodeId,
        ticket: Ticket,
        fate: MembershipFate,
    ) -> Result<(), Breach> {
        let Some(Wished { of_story, target }) = self.wishes.open.remove(&ticket) else {
            return Ok(());
        };
        let words = match &fate {
            Ok(version) => format!("tells that the members are as wished in version {version}"),
            Err(error) => format!("tells of the wished members: {error}"),
        };
        self.trace.headline(self.now, Some(node), words);
        self.trace.counts.changes_done += u64::from(fate.is_ok());
        if let (Ok(version), Some(target)) = (&fate, &target) {
            self.safety.members.told(*version, target)?;
        }
        if matches!(fate, Err(MembershipError::Unknown(_) | MembershipError::UnderWay { .. })) {
            self.wishes.undecided.extend(target);
        }
        if of_story {
            self.wishes.ended.insert(ticket, fate);
        }
        Ok(())
    }

    /// The members as a node that is up has them in force.
    #[must_use]
    pub fn configuration(&self, node: u64) -> Option<Arc<Configuration>> {
        let running = self.running(NodeId::new(node))?;
        Some(Arc::clone(running.driver.raft().configuration()))
    }

    /// Whether a node that is up knows that it was removed.
    #[must_use]
    pub fn knows_its_removal(&self, node: u64) -> bool {
        let running = self.running(NodeId::new(node));
        running.is_some_and(|running| running.driver.raft().removed_at().is_some())
    }

    /// Who has to come together when everything is healed: the members, once a change that is
    /// under way is over; `None` as long as it is not. A core by itself cannot end every change:
    /// there they are the members in force.
    pub(super) fn settled_members(&self) -> Option<Vec<NodeId>> {
        let leader = self.healed_leader()?;
        let (_, committed) = leader.committed_configuration();
        let is_settled = committed.change.is_none() && committed == leader.configuration();
        let members = || leader.configuration().members.keys().copied().collect();
        (is_settled || self.core.is_some()).then(members)
    }

    pub(super) fn healed_leader(&self) -> Option<&Raft> {
        let healed = self.nodes.keys().filter(|id| self.is_wanted(**id));
        let rafts = healed.filter_map(|id| Some(self.running(*id)?.driver.raft()));
        rafts.filter(|raft| raft.role() == Role::Leader).max_by_key(|raft| raft.current_term())
    }

    /// Members that somebody wished for and that may still come.
    pub(super) fn wished_members(&self) -> impl Iterator<Item = Configuration> {
        let last = self.safety.members.in_force().next();
        // The removed do not come back: a wish for one of them is refused, however late it comes.
        let may_come = move |members: &&Members| {
            !last.is_some_and(|last| members.keys().any(|id| last.is_tombstoned(*id)))
        };
        let Wishes { open, undecided, .. } = &self.wishes;
        let open = open.values().filter_map(|wished| wished.target.as_ref());
        open.chain(undecided).filter(may_come).map(|members| Configuration::new(0, members.clone()))
    }

    /// When everything is healed an operator takes a change back that waits for a machine which is
    /// gone: else it would wait for ever.
    pub(super) fn take_back_what_cannot_come(&mut self) {
        let was_long_ago = |at: Time| self.now.since(at) >= Duration::from_secs(1);
        if self.is_troubled || !self.wishes.taken_back.is_none_or(was_long_ago) {
            return;
        }
        let Some(leader) = self.healed_leader() else { return };
        let is_gone = |id| self.nodes.get(&id).is_some_and(|node| node.is_lost);
        let waits_for_gone = |wait: &ChangeWait| match wait {
            ChangeWait::CatchUp { member, .. } => is_gone(*member),
            ChangeWait::LeaderTooNew { .. }
            | ChangeWait::Commit { .. }
            | ChangeWait::Majority { .. }
            | ChangeWait::Handover { .. } => false,
        };
        let leader_id = leader.id();
        if leader.change_waits().iter().any(waits_for_gone) {
            self.wishes.taken_back = Some(self.now);
            let patience = Duration::from_secs(1);
            self.send_wish(leader_id, MembershipCommand::Cancel, patience, false);
        }
    }

    /// Whoever is no member is quiet, and whoever lost its vote knows why. One that knows nobody but
    /// others that were removed cannot learn it, and disturbs nobody who matters.
    pub(super) fn others_are_quiet(&self, members: &[NodeId]) -> bool {
        let is_other = |id: &&NodeId| self.is_wanted(**id) && !members.contains(id);
        let others = self.nodes.keys().filter(is_other);
        let mut others = others.filter_map(|id| self.running(*id));
        others.all(|other| {
            let raft = other.driver.raft();
            let is_in_the_dark =
                raft.configuration().is_voter(raft.id()) && raft.removed_at().is_none();
            let known = raft.configuration();
            let tells = |id: &NodeId| self.is_wanted(*id) && known.is_voter(*id);
            let is_alone = !members.iter().any(tells);
            is_alone || (raft.role() == Role::Follower && !is_in_the_dark)
        })
    }

    /// How many nodes have something to say at rest, or are spoken to: the members, those that are to
    /// be members, and whoever else runs (it was removed, may not know it, and then asks for votes).
    pub(super) fn speaker_count(&self) -> usize {
        let Some(leader) = self.healed_leader() else { return self.nodes.len() };
        let configuration = leader.configuration();
        let members = configuration.members.keys().chain(configuration.leads_to().keys());
        let runs = |id: &&NodeId| self.running(**id).is_some();
        let speakers: BTreeSet<&NodeId> = members.chain(self.nodes.keys().filter(runs)).collect();
        speakers.len()
    }

    /// Somebody wishes for other members: one of a dozen things that operators do.
    pub(super) fn change_members_somehow(&mut self) {
        let Some(leader) = self.leader().map(NodeId::new) else { return };
        let Some(lead) = self.running(leader) else { return };
        let members = lead.driver.raft().configuration().leads_to().clone();
        let patience = self.rng.duration(Duration::from_millis(100), Duration::from_secs(20));
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        let asked = if self.rng.coin() {
            leader
        } else {
            self.rng.pick(&everybody).copied().unwrap_or(leader)
        };
        if self.running(asked).is_none() {
            return;
        }
        let command = if self.rng.below(10) == 0 {
            MembershipCommand::Cancel
        } else {
            let target = self.draw_members(members);
            let Some(target) = self.with_sound_majority(target) else { return };
            let force = self.rng.coin();
            MembershipCommand::Set { target, expected_version: None, force }
        };
        self.trace.counts.changes += 1;
        self.send_wish(asked, command, patience, false);
    }

    /// As far as disks are to go bad only as long as a majority stays sound, nobody is wished for
    /// with whom it would not: voters that are not sound are left out, if it must be.
    fn with_sound_majority(&self, mut members: Members) -> Option<Members> {
        if !self.options.faults.disk.spares_majority {
            return Some(members);
        }
        let suffices = |members: &Members| {
            Configuration::new(0, members.clone()).has_quorum(|id| self.is_sound(id))
        };
        while !suffices(&members) {
            let bad = *members.keys().find(|id| !self.is_sound(**id))?;
            members.remove(&bad);
        }
        Some(members)
    }

    /// A machine that is gone is replaced by a new one, under an id of its own.
    fn replace_lost(&mut self, members: &mut Members) -> bool {
        let is_lost = |id: &&NodeId| self.nodes.get(id).is_some_and(|node| node.is_lost);
        let Some(lost) = members.keys().find(is_lost).copied() else { return false };
        let role = members.remove(&lost).map_or(MemberRole::Voter, |member| member.role);
        self.trace.counts.machines_replaced += 1;
        self.add_some(members, 1, role);
        true
    }

    fn draw_members(&mut self, mut members: Members) -> Members {
        if self.rng.coin() && self.replace_lost(&mut members) {
            return members;
        }
        if self.options.faults.disk.wipes_every.is_some()
            && self.rng.coin()
            && let Some(readmitted) = self.readmitted(&members)
        {
            self.trace.counts.disks_readmitted += 1;
            return readmitted;
        }
        match self.rng.below(9) {
            0 => self.add_some(&mut members, 1, MemberRole::Voter),
            1 => self.add_some(&mut members, 1, MemberRole::Learner),
            2 => self.add_some(&mut members, 2, MemberRole::Voter),
            3 => {
                drop_one(&mut members, &mut self.rng);
            }
            4 => {
                drop_one(&mut members, &mut self.rng);
                self.add_some(&mut members, 1, MemberRole::Voter);
            }
            5 => {
                let count = members.len();
                self.add_some(&mut members, count, MemberRole::Voter);
                let newest = members.len().saturating_sub(count).max(1);
                let old: Vec<NodeId> = members.keys().take(newest).copied().collect();
                members.retain(|id, _| !old.contains(id));
            }
            6 => {
                while members.len() > 1 {
                    drop_one(&mut members, &mut self.rng);
                }
            }
            7 => {
                if let Some(member) = pick(&mut members, &mut self.rng) {
                    member.role = match member.role {
                        MemberRole::Voter => MemberRole::Learner,
                        MemberRole::Learner | MemberRole::Incoming | MemberRole::Outgoing => {
                            MemberRole::Voter
                        }
                    };
                }
            }
            _ => {
                let rank = u32::try_from(self.rng.below(3)).unwrap_or(0);
                if let Some(member) = pick(&mut members, &mut self.rng) {
                    member.rank = rank;
                }
            }
        }
        members
    }

    /// New machines, as far as there is room for them.
    fn add_some(&mut self, members: &mut Members, count: usize, role: MemberRole) {
        for _ in 0..count {
            if self.nodes.len() < MACHINES_COUNT_MAX {
                members.extend([member(self.add_machine(), role)]);
            }
        }
    }
}

/// The configuration that every log begins with.
pub(super) fn founders(options: &ClusterOptions) -> Configuration {
    let mut ranks = options.ranks.iter().copied();
    let mut member = |number: u64| Member {
        role: if number <= options.node_count { MemberRole::Voter } else { MemberRole::Learner },
        rank: ranks.next().unwrap_or(0),
        address: format!("sim:{number}"),
        context: bytes::Bytes::new(),
    };
    let members = (1..=options.member_count()).map(|number| (NodeId::new(number), member(number)));
    Configuration::new(0, members.collect())
}

fn pick<'a>(members: &'a mut Members, rng: &mut Rng) -> Option<&'a mut Member> {
    let place = rng.index(members.len().max(1));
    members.values_mut().nth(place)
}

fn drop_one(members: &mut Members, rng: &mut Rng) {
    let ids: Vec<NodeId> = members.keys().copied().collect();
    if let Some(id) = rng.pick(&ids).filter(|_| ids.len() > 1) {
        members.remove(id);
    }
}

fn words(command: &MembershipCommand) -> String {
    match command {
        MembershipCommand::Set { target, force, .. } => {
            let force = if *force { ", by force" } else { "" };
            format!("{}{force}", Configuration::new(0, target.clone()))
        }
        MembershipCommand::Cancel => "the old members".to_owned(),
    }
}
