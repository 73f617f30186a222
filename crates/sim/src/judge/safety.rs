//! The five properties of the dissertation's Figure 3.2 and their neighbours, checked as the world
//! goes on, in constant time per entry. Sees what nodes do, not how; knows nothing of the
//! application.

mod disks;

use super::Breach;
use super::conduct::{self, Contact, Encouraged, Heard, Obeyed};
use super::content::{command_hash, content_hash};
use super::durable::{Durable, Found};
use super::hearing::Hearing;
use super::members::KnownMembers;
use super::promises::{self, Believed};
use crate::hash::hash_of;
use quorate_core::{
    Configuration, Entry, LogId, LogIndex, Message, NodeId, Payload, Raft, Role, Term, Time,
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
    /// A lease may be its proof, of which no message tells.
    pub(crate) by_lease: bool,
}

/// What the judges know of the whole cluster.
#[derive(Debug, Default)]
pub(crate) struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Everything that was ever applied anywhere, from index 1 on.
    committed: Vec<Committed>,
    nodes: BTreeMap<NodeId, Watched>,
    commands: BTreeMap<u64, Command>,
    /// The highest commit index that any node was seen to have.
    commit: LogIndex,
    /// The size of the largest entry that any node has written.
    largest_entry_bytes: usize,
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
    /// If it is to run for office.
    encouraged: Encouraged,
    /// Whose heartbeats it obeyed, and when.
    obeyed: Obeyed,
    /// What it held on disks that it has lost since.
    lost: Vec<Durable>,
    /// If it has lost one: the disk that it has...
    storage_id: Option<u128>,
    /// ...and no configuration records it yet...
    is_adrift: bool,
    /// ...and has not started from yet.
    is_new_disk: bool,
}

impl Watched {
    /// Whether it holds an entry on a disk that counts, or did once.
    fn holds(&self, log_id: LogId) -> bool {
        (!self.is_adrift && self.durable.holds(log_id))
            || self.lost.iter().any(|lost| lost.holds(log_id))
    }
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
        watched.encouraged = Encouraged::default();
        watched.next_apply = applied.next();
        if std::mem::take(&mut watched.is_new_disk) {
            watched.durable = Durable::of(found);
            return Ok(());
        }
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

    /// A node finished a step. `term_at` looks into its log, whose last configuration this is.
    pub(crate) fn stepped(
        &mut self,
        look: Look,
        configuration: &Configuration,
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
        self.commits(look, configuration, &term_at)?;
        let is_new =
            before.is_none_or(|before| (before.role, before.term) != (look.role, look.term));
        if is_new && look.role == Role::Leader {
            self.elected(look, term_at)?;
        }
        Ok(())
    }

    /// Whoever is the first to call an entry committed, its leader, does so when a quorum's disks
    /// have it: that is the moment of the commit. Others learn it later.
    fn commits(
        &mut self,
        look: Look,
        configuration: &Configuration,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> Result<(), Breach> {
        if look.commit <= self.commit {
            return Ok(());
        }
        self.commit = look.commit;
        let Some(term) = term_at(look.commit) else { return Ok(()) };
        self.is_on_quorum(look.node, LogId::new(term, look.commit), configuration)
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
        if watched.is_adrift && promises::is_vote(message) {
            return Err(Breach::VotesWithoutMemory { node });
        }
        conduct::check_sent(raft, to, message, watched.contact, own_now, election_timeout)?;
        conduct::check_asked(raft, message, &watched.encouraged)?;
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
        watched.contact = watched.contact.filter(|contact| !contact.is_over(heard));
        watched.encouraged.note(heard);
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
    /// what was committed by then, and since then a quorum obeyed one leader (§6.4), unless a lease
    /// is enough.
    pub(crate) fn reads(&self, raft: &Raft, shown: LogIndex, asked: Asked) -> Result<(), Breach> {
        let node = raft.id();
        if shown < asked.committed {
            return Err(Breach::StaleRead { node, shown, committed: asked.committed });
        }
        if asked.by_lease {
            return Ok(());
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
            // What a leader knows of a disk that is gone it may go on believing, until it has the
            // other one recorded.
            let storages = &raft.configuration().storages;
            if !watched.lost.is_empty() && storages.get(follower) != watched.storage_id.as_ref() {
                return Ok(());
            }
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

#[cfg(test)]
#[path = "safety_tests.rs"]
mod tests;
