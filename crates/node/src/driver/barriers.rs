//! Local reads on their way: first a proof of leadership, then the state machine must have applied
//! enough (§6.4). Knows nothing of what is read.

use super::io::Ticket;
use crate::ReadError;
use quorate_core::{LogIndex, ReadId, Time};
use std::collections::BTreeMap;

/// A read that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) deadline: Time,
    /// When it is refused if there is still no leader.
    pub(super) leaderless_until: Time,
}

/// What a driver tells the reader.
pub(super) type Answers = Vec<(Ticket, Result<LogIndex, ReadError>)>;

/// All local reads that wait.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    next_id: u64,
    /// Those who need a proof of leadership and have not asked for it.
    unasked: Vec<Waiting>,
    /// Those who share a question to the core.
    asked: BTreeMap<ReadId, Vec<Waiting>>,
    /// Those who wait for the state machine.
    unapplied: BTreeMap<LogIndex, Vec<Waiting>>,
    count: usize,
}

impl Barriers {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn needs_proof(&mut self, waiting: Waiting) {
        self.count += 1;
        self.unasked.push(waiting);
    }

    pub(super) fn needs_applied(&mut self, index: LogIndex, waiting: Waiting) {
        self.count += 1;
        self.unapplied.entry(index).or_default().push(waiting);
    }

    /// One question for everybody who has not asked: reads that arrive together share a round.
    pub(super) fn ask(&mut self) -> Option<ReadId> {
        if self.unasked.is_empty() {
            return None;
        }
        self.next_id += 1;
        let id = ReadId::new(self.next_id);
        self.asked.insert(id, std::mem::take(&mut self.unasked));
        Some(id)
    }

    /// The core's answer: leadership was proven, wait for `index` to be applied.
    pub(super) fn ready(&mut self, id: ReadId, index: LogIndex) {
        if let Some(mut waiting) = self.asked.remove(&id) {
            self.unapplied.entry(index).or_default().append(&mut waiting);
        }
    }

    /// The core could not serve the question; it will be asked again.
    pub(super) fn refused(&mut self, id: ReadId) {
        if let Some(mut waiting) = self.asked.remove(&id) {
            self.unasked.append(&mut waiting);
        }
    }

    /// The state machine has come this far.
    pub(super) fn applied(&mut self, applied: LogIndex, answers: &mut Answers) {
        while let Some(first) = self.unapplied.first_entry().filter(|e| *e.key() <= applied) {
            let waiting = first.remove();
            self.count -= waiting.len();
            answers.extend(waiting.iter().map(|waiting| (waiting.ticket, Ok(applied))));
        }
    }

    /// Answers those whose time is up.
    pub(super) fn expire(&mut self, now: Time, leaderless: bool, answers: &mut Answers) {
        let before = answers.len();
        self.unasked.retain(|waiting| {
            let keep = now < waiting.deadline.min(waiting.leaderless_until);
            if !keep {
                let reason = if leaderless { ReadError::NoLeader } else { ReadError::NotConfirmed };
                answers.push((waiting.ticket, Err(reason)));
            }
            keep
        });
        for waiting in self.asked.values_mut() {
            take_late(waiting, now, &ReadError::NotConfirmed, answers);
        }
        for (&index, waiting) in &mut self.unapplied {
            take_late(waiting, now, &ReadError::NotApplied { index }, answers);
        }
        self.unapplied.retain(|_, waiting| !waiting.is_empty());
        self.count -= answers.len() - before;
    }
}

fn take_late(waiting: &mut Vec<Waiting>, now: Time, error: &ReadError, answers: &mut Answers) {
    waiting.retain(|waiting| {
        let keep = now < waiting.deadline;
        if !keep {
            answers.push((waiting.ticket, Err(error.clone())));
        }
        keep
    });
}
