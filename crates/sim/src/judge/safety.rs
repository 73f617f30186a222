//! The five properties of the dissertation's Figure 3.2 and their neighbours, checked as the world
//! goes on, in constant time per entry. Sees what nodes do, not how; knows nothing of the
//! application.

use super::Breach;
use super::conduct::{self, Contact, Heard, Obeyed};
use super::content::{command_hash, content_hash};
use super::durable::{Durable, Found};
use super::hearing::Hearing;
use super::members::KnownMembers;
use super::promises::{self, Believed};
use crate::hash::hash_of;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, Member, MemberRole, Message, NodeId, Payload,
    Persist, Raft, Role, Term, Time,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a judge sees of a node after each step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) commit: LogIndex,
    pub(crate) applied: LogIndex,
    pub(crate) last_log: LogId,
}

/// What was so when a linearizable read reached its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The world's time.
    pub(crate) at: Time,
    /// What somebody had applied.
    pub(crate) committed: LogIndex,
}

/// What the judges know of the whole cluster.
#[derive(Debug, Default)]
pub(crate) struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Everything that was ever applied anywhere, from index 1 on.
    committed: Vec<Committed>,
    nodes: BTreeMap<NodeId, Watched>,
    commands: BTreeMap<u64, Command>,
    pub(crate) members: KnownMembers,
}

/// An entry that somebody applied.
#[derive(Clone, Copy, Debug)]
struct Committed {
    log_id: LogId,
    /// A hash of its content.
    content: u64,
    /// It was committed in this term or before: leaders of later terms have it (§3.6.3). One of an
    /// earlier term than that of the commit, who does not know of it, need not, and may even
    /// remove it where that term is not known yet.
    by: Term,
}

/// What is known of a command, by its hash.
#[derive(Clone, Copy, Debug, Default)]
struct Command {
    /// How often clients proposed it.
    proposed: u32,
    /// How often they were told that it has no effect and never will.
    refused: u32,
    committed: u32,
}

#[derive(Debug, Default)]
struct Watched {
    durable: Durable,
    before: Option<Look>,
    next_apply: LogIndex,
    /// If it leads.
    believed: Believed,
    hearing: Hearing,
    /// With its leader, if it follows one.
    contact: Option<Contact>,
    /// Whose heartbeats it obeyed, and when.
    obeyed: Obeyed,
}

impl Safety {
    /// The judges of a cluster that begins with these members.
    pub(crate) fn founded(founders: &Arc<Configuration>) -> Self {
        Self { members: KnownMembers::founded(founders), ..Self::default() }
    }

    /// A client proposed this command (again); returns its hash.
    pub(crate) fn proposed(&mut self, command: &[u8]) -> u64 {
        let hash = hash_of(command);
        self.commands.entry(hash).or_default().proposed += 1;
        hash
    }

    /// A client was told that its command has no effect and never will.
    pub(crate) fn told_no_effect(&mut self, command: u64) -> Result<(), Breach> {
        let known = self.commands.entry(command).or_default();
        known.refused += 1;
        known.check()
    }

    /// A node starts, its state machine having applied up to `applied`.
    pub(crate) fn started(
        &mut self,
        node: NodeId,
        found: Found,
        applied: LogIndex,
    ) -> Result<(), Breach> {
        let watched = self.nodes.entry(node).or_default();
        watched.before = None;
        watched.believed = Believed::default();
        watched.hearing = Hearing::default();
        watched.contact = None;
        watched.next_apply = applied.next();
        watched.durable.recovered(node, found)
    }

    /// How many entries are known to be committed.
    pub(crate) fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// Who led which term, in order.
    pub(crate) fn leader_count(&self) -> usize {
        self.leaders.len()
    }

    /// A node finished a step. `term_at` looks into its log.
    pub(crate) fn stepped(
        &mut self,
        look: Look,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> Result<(), Breach> {
        let watched = self.nodes.entry(look.node).or_default();
        let before = watched.before.replace(look);
        if let Some(before) = before {
            only_grows(look.node, "term", before.term.get(), look.term.get())?;
            only_grows(look.node, "commit index", before.commit.get(), look.commit.get())?;
            only_grows(look.node, "applied index", before.applied.get(), look.applied.get())?;
        } else {
            let durable = watched.durable.hard_state.current_term;
            only_grows(look.node, "term", durable.get(), look.term.get())?;
        }
        let is_new =
            before.is_none_or(|before| (before.role, before.term) != (look.role, look.term));
        if is_new && look.role == Role::Leader {
            self.elected(look, term_at)?;
        }
        Ok(())
    }

    fn elected(
        &mut self,
        look: Look,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> Result<(), Breach> {
        let one = *self.leaders.entry(look.term).or_insert(look.node);
        if one != look.node {
            return Err(Breach::TwoLeaders { term: look.term, one, two: look.node });
        }
        let Some(Committed { log_id: missing, by, .. }) = self.committed.last().copied() else {
            return Ok(());
        };
        // The last committed entry stands for all before it: logs that share it share those. A
        // leader that released it has it in its state.
        let holds = match term_at(missing.index) {
            Some(term) => term == missing.term,
            None => missing.index <= look.applied,
        };
        if holds || by > look.term {
            return Ok(());
        }
        Err(Breach::LeaderIncomplete { node: look.node, term: look.term, missing })
    }

    /// A node is given entries to apply.
    pub(crate) fn applies(&mut self, raft: &Raft, entries: &[Entry]) -> Result<(), Breach> {
        let node = raft.id();
        for entry in entries {
            let log_id = entry.log_id;
            let watched = self.nodes.entry(node).or_default();
            if watched.next_apply != log_id.index {
                let expected = watched.next_apply;
                return Err(Breach::AppliedOutOfOrder { node, expected, got: log_id.index });
            }
            watched.next_apply = log_id.index.next();
            self.agrees(raft, entry)?;
        }
        Ok(())
    }

    fn agrees(&mut self, raft: &Raft, entry: &Entry) -> Result<(), Breach> {
        let (node, by) = (raft.id(), raft.current_term());
        let log_id = entry.log_id;
        let content = content_hash(&entry.payload);
        match self.committed_at(log_id.index) {
            Some(Committed { log_id: expected, .. }) if expected != log_id => {
                Err(Breach::CommittedChanged { node, expected, got: log_id })
            }
            Some(known) if known.content != content => Err(Breach::ContentDiffers { node, log_id }),
            Some(_) => Ok(()),
            None => {
                self.is_on_quorum(node, log_id, raft.configuration())?;
                self.committed.push(Committed { log_id, content, by });
                self.members.committed(entry)?;
                self.committed_command(entry)
            }
        }
    }

    fn committed_at(&self, index: LogIndex) -> Option<Committed> {
        let place = usize::try_from(index.get()).ok()?.checked_sub(1)?;
        self.committed.get(place).copied()
    }

    /// Whether this command is known to be committed at this index.
    pub(crate) fn is_command_at(&self, index: u64, command: &[u8]) -> bool {
        let known = self.committed_at(LogIndex::new(index));
        known.is_some_and(|known| known.content == command_hash(command))
    }

    fn is_on_quorum(
        &self,
        node: NodeId,
        log_id: LogId,
        configuration: &Configuration,
    ) -> Result<(), Breach> {
        // The leader committed it by the configuration that it had then: the last committed one or
        // any later one.
        let mut seen = self.members.written_since(self.members.last_committed());
        match self.missing_quorum(log_id, configuration) {
            Some((durable_count, voter_count))
                if seen.all(|seen| self.missing_quorum(log_id, seen).is_some()) =>
            {
                Err(Breach::NotOnQuorum { node, log_id, durable_count, voter_count })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// How many disks of how many voters hold the entry, if that is no majority of a half.
    fn missing_quorum(
        &self,
        log_id: LogId,
        configuration: &Configuration,
    ) -> Option<(usize, usize)> {
        let holds = |node: &NodeId| {
            self.nodes.get(node).is_some_and(|watched| watched.durable.holds(log_id))
        };
        let counts = [MemberRole::Incoming, MemberRole::Outgoing].map(|half| {
            let is_in = |member: &Member| member.role == MemberRole::Voter || member.role == half;
            let members = configuration.members.iter().filter(|(_, member)| is_in(member));
            let voters: Vec<&NodeId> = members.map(|(id, _)| id).collect();
            (voters.iter().filter(|id| holds(id)).count(), voters.len())
        });
        counts.into_iter().find(|(durable_count, voter_count)| 2 * durable_count <= *voter_count)
    }

    fn committed_command(&mut self, entry: &Entry) -> Result<(), Breach> {
        let Payload::Command(command) = &entry.payload else { return Ok(()) };
        let known = self.commands.entry(hash_of(command)).or_default();
        known.committed += 1;
        known.check()
    }

    /// A node's state machine was replaced by a snapshot.
    pub(crate) fn restored(&mut self, node: NodeId, last_included: LogId) -> Result<(), Breach> {
        let watched = self.nodes.entry(node).or_default();
        watched.next_apply = last_included.index.next();
        match self.committed_at(last_included.index) {
            Some(Committed { log_id: expected, .. }) if expected != last_included => {
                Err(Breach::CommittedChanged { node, expected, got: last_included })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A node asks its disk for a write.
    pub(crate) fn persist_asked(&mut self, node: NodeId, persist: &Persist) {
        self.members.written(&persist.entries);
        self.nodes.entry(node).or_default().durable.asked(persist);
    }

    /// A node's oldest write is durable.
    pub(crate) fn persisted(&mut self, node: NodeId) -> Result<(), Breach> {
        let watched = self.nodes.entry(node).or_default();
        let before = watched.durable.hard_state;
        let removed = watched.durable.completed();
        keeps_its_vote(node, before, watched.durable.hard_state)?;
        let is_committed = |log_id: &LogId| {
            let known = self.committed_at(log_id.index);
            known.is_some_and(|known| known.log_id == *log_id && known.by <= removed.term)
        };
        match removed.log_ids.into_iter().find(is_committed) {
            Some(log_id) => Err(Breach::CommittedRemoved { node, log_id }),
            None => Ok(()),
        }
    }

    /// A node released its log up to here.
    pub(crate) fn released(&mut self, node: NodeId, base: LogId) {
        self.nodes.entry(node).or_default().durable.released(base);
    }

    /// A node sends a message at `own_now` on its clock: what it promises must be on its disk, and
    /// nothing against the leader that it hears.
    pub(crate) fn sends(
        &self,
        to: NodeId,
        message: &Message,
        raft: &Raft,
        own_now: Time,
        election_timeout: Duration,
    ) -> Result<(), Breach> {
        let node = raft.id();
        let Some(watched) = self.nodes.get(&node) else { return Ok(()) };
        conduct::check_sent(raft, to, message, watched.contact, own_now, election_timeout)?;
        promises::check_sent(node, to, message, raft, &watched.durable)
    }

    /// A node finished a turn that `heard` went into.
    pub(crate) fn conducts(
        &mut self,
        raft: &Raft,
        heard: &Heard,
        now: Time,
        election_timeout: Duration,
    ) -> Result<(), Breach> {
        let watched = self.nodes.entry(raft.id()).or_default();
        let before = watched.before;
        watched.obeyed.note(before.map_or(Term::default(), |look| look.term), heard, now);
        watched.hearing.note(raft, &heard.answers, now, election_timeout)?;
        conduct::check_turn(raft, heard, before.map(|look| (look.role, look.term)))?;
        self.members.are_known_by(raft)
    }

    /// What a turn put out is carried out: from now on `heard` counts. `own_now` is the time on the
    /// node's clock.
    pub(crate) fn has_heard(&mut self, raft: &Raft, heard: &Heard, own_now: Time) {
        if let Some(contact) = heard.contact(raft, own_now) {
            self.nodes.entry(raft.id()).or_default().contact = Some(contact);
        }
    }

    /// A linearizable read of `asked` is served by a node that has applied up to `shown`: it shows
    /// what was committed by then, and since then a quorum obeyed one leader (§6.4).
    pub(crate) fn reads(&self, raft: &Raft, shown: LogIndex, asked: Asked) -> Result<(), Breach> {
        let node = raft.id();
        if shown < asked.committed {
            return Err(Breach::StaleRead { node, shown, committed: asked.committed });
        }
        let obeyed = |id: NodeId| self.nodes.get(&id).map(|watched| &watched.obeyed);
        // The leader may know of later members than the node that asks it.
        let (known, committed) = raft.committed_configuration();
        let later = self.members.written_since(known.index);
        let own = [committed, raft.configuration()];
        let possible: Vec<&Arc<Configuration>> = later.chain(own).collect();
        let is_proof = |term: Term| {
            let leader = self.leaders.get(&term).copied();
            let obeys = |id: NodeId| {
                let mut since = obeyed(id).into_iter().flat_map(|obeyed| obeyed.since(asked.at));
                Some(id) == leader || since.any(|other| other == term)
            };
            possible.iter().any(|configuration| configuration.has_quorum(obeys))
        };
        // The only voter proves itself, whatever has become of the term in which it did.
        let is_alone = raft.configuration().voters().count() == 1;
        let mut terms = std::iter::once(raft.current_term())
            .chain(self.nodes.values().flat_map(|watched| watched.obeyed.since(asked.at)));
        if is_alone || terms.any(is_proof) {
            return Ok(());
        }
        Err(Breach::UnprovenRead { node, asked: asked.at })
    }

    /// The last index that is known to be committed.
    pub(crate) fn last_committed(&self) -> LogIndex {
        self.committed.last().map_or(LogIndex::ORIGIN, |known| known.log_id.index)
    }

    /// What a leader believes of its followers must be on their disks.
    pub(crate) fn believes(&mut self, raft: &Raft) -> Result<(), Breach> {
        if raft.role() != Role::Leader {
            return Ok(());
        }
        let leader = self.nodes.entry(raft.id()).or_default();
        let mut believed = std::mem::take(&mut leader.believed);
        let status = raft.status();
        believed.forget_others(raft, &status);
        let mut each = status.progress.iter();
        let checked = each.try_for_each(|(follower, progress)| {
            let Some(watched) = self.nodes.get(follower) else { return Ok(()) };
            believed.check(raft, *follower, progress, &watched.durable)
        });
        self.nodes.entry(raft.id()).or_default().believed = believed;
        checked
    }

    /// A client was told that its command stands at `told`.
    pub(crate) fn told_applied(&self, told: LogId) -> Result<(), Breach> {
        let committed = self.committed_at(told.index).map(|known| known.log_id);
        if committed == Some(told) {
            return Ok(());
        }
        Err(Breach::FalseAnswer { told, committed })
    }
}

impl Command {
    /// It may be in the log once for each time it was proposed and not refused.
    fn check(self) -> Result<(), Breach> {
        let Self { proposed, refused, committed } = self;
        if committed + refused > proposed {
            return Err(Breach::AppliedTwice { committed, refused, proposed });
        }
        Ok(())
    }
}

fn only_grows(node: NodeId, what: &'static str, from: u64, to: u64) -> Result<(), Breach> {
    if to < from { Err(Breach::WentBack { node, what, from, to }) } else { Ok(()) }
}

fn keeps_its_vote(node: NodeId, before: HardState, after: HardState) -> Result<(), Breach> {
    only_grows(node, "durable term", before.current_term.get(), after.current_term.get())?;
    match (before.voted_for, after.voted_for) {
        (Some(first), second)
            if before.current_term == after.current_term && second != Some(first) =>
        {
            let second = second.unwrap_or_default();
            Err(Breach::VotedTwice { node, term: after.current_term, first, second })
        }
        (Some(_) | None, _) => Ok(()),
    }
}
