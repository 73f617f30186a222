//! What a log should hold: the same operations on plain vectors.

use super::{Rng, base, command, configuration, id, index};
use quorate_core::{Entry, HardState, LogId, NodeId, Payload, Persist, SnapshotMeta, Term};
use quorate_wal::Recovered;

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub base: SnapshotMeta,
    pub entries: Vec<Entry>,
    pub hard_state: HardState,
}

impl Model {
    pub fn new(base: SnapshotMeta) -> Self {
        Self { base, entries: Vec::new(), hard_state: HardState::default() }
    }

    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.base.last_included, |entry| entry.log_id)
    }

    /// Every state on the way through a batch, beginning with this one.
    pub fn steps(&self, batch: &[Persist]) -> Vec<Self> {
        let mut steps = vec![self.clone()];
        let mut now = self.clone();
        for write in batch {
            if let Some(base) = &write.reset {
                now.base = base.clone();
                now.entries.clear();
                steps.push(now.clone());
            }
            if let Some(after) = write.truncate_after {
                now.entries.retain(|entry| entry.log_id.index <= after);
                steps.push(now.clone());
            }
            for entry in &write.entries {
                now.entries.push(entry.clone());
                steps.push(now.clone());
            }
        }
        if let Some(hard_state) = batch.iter().rev().find_map(|write| write.hard_state) {
            now.hard_state = hard_state;
            steps.push(now);
        }
        steps
    }

    pub fn after(&self, batch: &[Persist]) -> Self {
        self.steps(batch).pop().unwrap()
    }

    pub fn released(&self, base: &SnapshotMeta) -> Self {
        let mut next = self.clone();
        if base.last_included.index > self.base.last_included.index {
            next.base = base.clone();
            next.entries.retain(|entry| entry.log_id.index > base.last_included.index);
        }
        next
    }

    /// As a start shows it: the term is at least that of the last entry.
    pub fn restarted(&self) -> Self {
        let mut next = self.clone();
        if next.hard_state.current_term < self.last().term {
            next.hard_state = HardState { current_term: self.last().term, voted_for: None };
        }
        next
    }

    pub fn of(recovered: &Recovered) -> Self {
        assert_eq!(
            recovered.last_log,
            recovered.tail.last().map_or(recovered.base.last_included, |entry| entry.log_id)
        );
        let mut runs = Vec::new();
        let mut configurations = Vec::new();
        for entry in &recovered.tail {
            if runs.last().is_none_or(|&(_, term)| term != entry.log_id.term) {
                runs.push((entry.log_id.index, entry.log_id.term));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                configurations.push((entry.log_id.index, configuration.clone()));
            }
        }
        assert_eq!(recovered.term_runs, runs);
        assert_eq!(recovered.configurations, configurations);
        Self {
            base: recovered.base.clone(),
            entries: recovered.tail.clone(),
            hard_state: recovered.hard_state,
        }
    }

    /// One to three writes that a core could ask for in this state.
    pub fn random_batch(&self, rng: &mut Rng) -> Vec<Persist> {
        let mut now = self.clone();
        let mut batch = Vec::new();
        for _ in 0..=rng.below(3) {
            let write = now.random_write(rng);
            now = now.after(std::slice::from_ref(&write));
            batch.push(write);
        }
        batch
    }

    fn random_write(&self, rng: &mut Rng) -> Persist {
        let mut write = Persist::default();
        let mut last = self.last();
        if rng.chance(25) {
            let snapshot =
                base(last.term.get() + rng.below(2), last.index.get() + 1 + rng.below(9));
            last = snapshot.last_included;
            write.reset = Some(snapshot);
        } else if rng.chance(4) && !self.entries.is_empty() {
            let keep = usize::try_from(rng.below(self.entries.len() as u64 + 1)).unwrap();
            last = if keep == 0 { self.base.last_included } else { self.entries[keep - 1].log_id };
            write.truncate_after = Some(last.index);
        }
        let term = last.term.get().max(1) + u64::from(rng.chance(5));
        for offset in 1..=rng.below(6) {
            write.entries.push(random_entry(rng, id(term, last.index.get() + offset)));
        }
        if rng.chance(3) {
            let current_term = self.hard_state.current_term.get().max(term) + rng.below(2);
            let voted_for = rng.chance(2).then(|| NodeId::new(rng.below(3)));
            write.hard_state = Some(HardState { current_term: Term::new(current_term), voted_for });
        }
        write
    }

    /// A base somewhere in the log.
    pub fn random_base(&self, rng: &mut Rng) -> Option<SnapshotMeta> {
        let at = rng.below(self.entries.len() as u64 + 1);
        let at = usize::try_from(at).unwrap().checked_sub(1)?;
        let last_included = self.entries[at].log_id;
        let configuration = configuration(last_included.index.get());
        Some(SnapshotMeta { last_included, configuration })
    }
}

fn random_entry(rng: &mut Rng, log_id: LogId) -> Entry {
    match rng.below(8) {
        0 => Entry { log_id, payload: Payload::Noop },
        1 => Entry { log_id, payload: Payload::Configuration(configuration(rng.below(99))) },
        // Few sizes, so that a new record often ends exactly where an old one did.
        2 => command(log_id.term.get(), log_id.index.get(), 700),
        3 => {
            command(log_id.term.get(), log_id.index.get(), usize::try_from(rng.below(50)).unwrap())
        }
        _ => command(log_id.term.get(), log_id.index.get(), 100),
    }
}

/// Where a failed operation may have left the log.
pub fn assert_allowed(found: &Model, allowed: &[Model], context: &str) {
    let fits = allowed.iter().any(|model| model.restarted() == *found);
    let last = |model: &Model| (model.base.last_included, model.last(), model.hard_state);
    assert!(
        fits,
        "{context}: found {:?}, allowed {:?}",
        last(found),
        allowed.iter().map(last).collect::<Vec<_>>()
    );
    let _ = index(0);
}
