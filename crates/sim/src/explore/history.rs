//! What a run has shown so far and later states must agree with: leaders, committed entries, reads.
//! Part of the state: two runs with different histories are never taken for one.

use super::local::{Local, holds};
use quorate_core::invariants::{Violation, check_log_matching};
use quorate_core::{Entry, LogId, LogIndex, NodeId, Poison, StartError, Term};

/// Something that must never happen has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An invariant of the core's own list is broken.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A server saw proof that the protocol is broken.
    #[error("{id} is poisoned: {poison}")]
    Poisoned {
        /// Which server.
        id: NodeId,
        /// What it saw.
        poison: Poison,
    },
    /// A server cannot start from its own disk.
    #[error("a server cannot start: {0}")]
    Start(#[from] StartError),
    /// An assertion of the core failed.
    #[error("{id} panicked: {text}")]
    Panicked {
        /// Which server.
        id: NodeId,
        /// The assertion.
        text: String,
    },
    /// The state machine was given what is not committed, or not in the log.
    #[error("{id} applied {log_id}, which is not committed there")]
    AppliedUncommitted {
        /// Which server.
        id: NodeId,
        /// Which entry.
        log_id: LogId,
    },
    /// An entry with one identity has two contents.
    #[error("{first} and {second} have different entries {log_id}")]
    OneNameTwoEntries {
        /// One server.
        first: NodeId,
        /// The other.
        second: NodeId,
        /// The entry.
        log_id: LogId,
    },
    /// What was committed is no longer on the disks of a majority.
    #[error("the committed entry {log_id} is on the disks of only {copies} servers")]
    CommittedLost {
        /// Which entry.
        log_id: LogId,
        /// On how many disks it is.
        copies: usize,
    },
    /// A read may be answered that does not see what was committed before it was asked.
    #[error("{id} answers a read as of {index}, although {committed} was committed before it")]
    StaleRead {
        /// Which server.
        id: NodeId,
        /// What the read sees.
        index: LogIndex,
        /// What it must see.
        committed: LogIndex,
    },
    /// The core asked for something that cannot be due here.
    #[error("{id} asked for a snapshot or for entries from the disk")]
    Unforeseen {
        /// Which server.
        id: NodeId,
    },
}

/// What a run has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    leaders: Vec<(Term, NodeId)>,
    /// The committed entries, each with the term in which it was first known to be committed.
    committed: Vec<(Entry, Term)>,
    /// For each read, what was committed when it was asked; `None` once it is answered.
    reads: Vec<Option<LogIndex>>,
}

/// A step of one server among the others.
pub(super) struct Change<'a> {
    pub(super) before: &'a Local,
    pub(super) after: &'a Local,
    /// All servers after the step.
    pub(super) servers: &'a [&'a Local],
    pub(super) asks_read: bool,
    pub(super) reads_ready: &'a [(u64, LogIndex)],
}

impl History {
    /// What a step adds, if it adds anything.
    pub(super) fn judge(&self, change: &Change<'_>) -> Result<Option<Self>, Fault> {
        let Change { before, after, servers, .. } = change;
        let mut added: Option<Self> = None;
        let is_new_leader = after.leads()
            && (!before.leads() || before.view.current_term != after.view.current_term);
        let commits = after.view.commit_index > before.view.commit_index;
        if before.log != after.log {
            match_logs(after, servers)?;
        }
        if is_new_leader {
            added.get_or_insert_with(|| self.clone()).take_leader(after)?;
        }
        if commits {
            self.agree(after)?;
            if after.view.commit_index > self.commit_index() {
                added.get_or_insert_with(|| self.clone()).commit(after, servers)?;
            }
        }
        if change.asks_read {
            let needed = self.commit_index();
            added.get_or_insert_with(|| self.clone()).reads.push(Some(needed));
        }
        for (read, index) in change.reads_ready {
            let history = added.get_or_insert_with(|| self.clone());
            history.answer(after.id(), *read, *index)?;
        }
        let now = added.as_ref().unwrap_or(self);
        if is_new_leader || commits {
            now.leaders_are_complete(servers)?;
        }
        now.committed_is_durable(servers)?;
        Ok(added)
    }

    fn commit_index(&self) -> LogIndex {
        self.committed.last().map_or(LogIndex::ORIGIN, |(entry, _)| entry.log_id.index)
    }

    /// Election Safety, over the whole run.
    fn take_leader(&mut self, leader: &Local) -> Result<(), Fault> {
        let (term, second) = (leader.view.current_term, leader.id());
        match self.leaders.iter().find(|(known, _)| *known == term) {
            Some((_, first)) if *first != second => {
                Err(Violation::TwoLeaders { term, first: *first, second }.into())
            }
            Some(_) => Ok(()),
            None => {
                self.leaders.push((term, second));
                self.leaders.sort_unstable();
                Ok(())
            }
        }
    }

    /// State Machine Safety: what a server takes for committed is what was committed.
    fn agree(&self, server: &Local) -> Result<(), Fault> {
        let known = self.committed.iter().map(|(entry, _)| entry);
        let wrong = known
            .filter(|entry| entry.log_id.index <= server.view.commit_index)
            .find(|entry| !holds(&server.log, entry));
        let Some(entry) = wrong else { return Ok(()) };
        let LogId { index, term: expected } = entry.log_id;
        let got = server.view.term_at(index);
        Err(Violation::CommittedDiffers { id: server.id(), index, expected, got }.into())
    }

    /// A server is the first to know that more is committed: a majority has it on disk.
    fn commit(&mut self, server: &Local, servers: &[&Local]) -> Result<(), Fault> {
        let old = self.commit_index();
        let is_new = |entry: &&Entry| {
            entry.log_id.index > old && entry.log_id.index <= server.view.commit_index
        };
        for entry in server.log.iter().filter(is_new) {
            if copies(entry, servers) * 2 <= servers.len() {
                let (id, log_id) = (server.id(), entry.log_id);
                return Err(Violation::CommittedWithoutQuorum { id, log_id }.into());
            }
            self.committed.push((entry.clone(), server.view.current_term));
        }
        Ok(())
    }

    fn answer(&mut self, id: NodeId, read: u64, index: LogIndex) -> Result<(), Fault> {
        let slot = usize::try_from(read).ok().and_then(|read| self.reads.get_mut(read));
        match slot.and_then(Option::take) {
            Some(committed) if index < committed => Err(Fault::StaleRead { id, index, committed }),
            Some(_) | None => Ok(()),
        }
    }

    /// Leader Completeness.
    fn leaders_are_complete(&self, servers: &[&Local]) -> Result<(), Fault> {
        for leader in servers.iter().filter(|server| server.leads()) {
            let term = leader.view.current_term;
            let older = self.committed.iter().filter(|(_, committed_in)| *committed_in < term);
            if let Some((entry, _)) = older.into_iter().find(|(e, _)| !holds(&leader.log, e)) {
                let (id, committed) = (leader.id(), entry.log_id);
                return Err(Violation::LeaderIncomplete { id, term, committed }.into());
            }
        }
        Ok(())
    }

    /// What is committed stays on the disks of a majority.
    fn committed_is_durable(&self, servers: &[&Local]) -> Result<(), Fault> {
        for (entry, _) in &self.committed {
            let copies = copies(entry, servers);
            if copies * 2 <= servers.len() {
                return Err(Fault::CommittedLost { log_id: entry.log_id, copies });
            }
        }
        Ok(())
    }
}

fn copies(entry: &Entry, servers: &[&Local]) -> usize {
    servers.iter().filter(|server| server.disk.holds(entry)).count()
}

/// Log Matching, with the content of the entries.
fn match_logs(changed: &Local, servers: &[&Local]) -> Result<(), Fault> {
    for other in servers.iter().filter(|other| other.id() != changed.id()) {
        check_log_matching(&changed.view, &other.view)?;
        let both = changed.log.iter().zip(&other.log);
        if let Some((entry, _)) = both.into_iter().find(|(a, b)| a.log_id == b.log_id && a != b) {
            let (first, second, log_id) = (changed.id(), other.id(), entry.log_id);
            return Err(Fault::OneNameTwoEntries { first, second, log_id });
        }
    }
    Ok(())
}
