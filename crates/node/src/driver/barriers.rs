//! Local reads on their way: first a proof of leadership, then the state machine must have applied
//! enough (§6.4). A proof is remembered for those who do not need a newer one. Knows nothing of what
//! is read.

use super::io::Ticket;
use crate::ReadError;
use quorate_core::{Drift, LogIndex, ReadId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

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

/// What may prove leadership: a round of heartbeats, or also a lease, if clocks are off by no more than
/// that.
pub(super) type Proof = Option<Drift>;

/// A question to the core, and who shares it.
#[derive(Debug)]
struct Question {
    proof: Proof,
    /// `None` if the clock has jumped since.
    asked_at: Option<Time>,
    waiting: Vec<Waiting>,
}

/// Whoever has applied everything up to `index` has everything that was acknowledged by `asked_at`,
/// whatever clocks do.
#[derive(Clone, Copy, Debug)]
struct Proved {
    asked_at: Time,
    index: LogIndex,
}

/// All local reads that wait.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    next_id: u64,
    /// Those who need a proof of leadership and have not asked for it.
    unasked: BTreeMap<Proof, Vec<Waiting>>,
    /// Those who share a question to the core.
    asked: BTreeMap<ReadId, Question>,
    /// The latest answer.
    proved: Option<Proved>,
    /// Those who wait for the state machine.
    unapplied: BTreeMap<LogIndex, Vec<Waiting>>,
    count: usize,
}

impl Barriers {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn needs_proof(&mut self, proof: Proof, waiting: Waiting) {
        self.count += 1;
        self.unasked.entry(proof).or_default().push(waiting);
    }

    /// What has to be applied here to show everything that was acknowledged at least `age` ago; `None`
    /// if that is not known. Times are whole microseconds: one less is certain.
    pub(super) fn proved_within(&self, now: Time, age: Duration) -> Option<LogIndex> {
        let is_young = |proved: &Proved| now.since(proved.asked_at) < age;
        self.proved.filter(is_young).map(|proved| proved.index)
    }

    /// How long ago something was is not known any more.
    pub(super) fn clock_jumped(&mut self) {
        self.proved = None;
        for question in self.asked.values_mut() {
            question.asked_at = None;
        }
    }

    pub(super) fn needs_applied(&mut self, index: LogIndex, waiting: Waiting) {
        self.count += 1;
        self.unapplied.entry(index).or_default().push(waiting);
    }

    /// One question for everybody who has not asked and is content with the same proof: reads that
    /// arrive together share it.
    pub(super) fn ask(&mut self, now: Time) -> Vec<(ReadId, Proof)> {
        let unasked = std::mem::take(&mut self.unasked);
        let mut questions = Vec::new();
        for (proof, waiting) in unasked {
            self.next_id += 1;
            let id = ReadId::new(self.next_id);
            self.asked.insert(id, Question { proof, asked_at: Some(now), waiting });
            questions.push((id, proof));
        }
        questions
    }

    /// The core's answer: leadership was proven, wait for `index` to be applied.
    pub(super) fn ready(&mut self, id: ReadId, index: LogIndex) {
        let Some(Question { proof, asked_at, mut waiting }) = self.asked.remove(&id) else {
            return;
        };
        self.unapplied.entry(index).or_default().append(&mut waiting);
        // What rests on clocks is not for those who did not ask for that.
        if proof.is_some() {
            return;
        }
        let asked_at = asked_at.filter(|at| self.proved.is_none_or(|known| known.asked_at < *at));
        if let Some(asked_at) = asked_at {
            self.proved = Some(Proved { asked_at, index });
        }
    }

    /// The core could not serve the question; it will be asked again.
    pub(super) fn refused(&mut self, id: ReadId) {
        if let Some(mut question) = self.asked.remove(&id) {
            self.unasked.entry(question.proof).or_default().append(&mut question.waiting);
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
        for unasked in self.unasked.values_mut() {
            unasked.retain(|waiting| {
                let keep = now < waiting.deadline.min(waiting.leaderless_until);
                if !keep {
                    let reason =
                        if leaderless { ReadError::NoLeader } else { ReadError::NotConfirmed };
                    answers.push((waiting.ticket, Err(reason)));
                }
                keep
            });
        }
        self.unasked.retain(|_, waiting| !waiting.is_empty());
        for Question { waiting, .. } in self.asked.values_mut() {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SLACK: Proof = Some(Drift::parts_per_million(1_000));

    fn at(millis: u64) -> Time {
        Time::ZERO.after(Duration::from_millis(millis))
    }

    fn waiting(ticket: u64) -> Waiting {
        Waiting { ticket: Ticket(ticket), deadline: at(9_000), leaderless_until: at(9_000) }
    }

    /// Who is told that it may read once this much is applied.
    fn told(barriers: &mut Barriers, applied: u64) -> Vec<u64> {
        let mut answers = Answers::new();
        barriers.applied(LogIndex::new(applied), &mut answers);
        answers.into_iter().map(|(Ticket(ticket), _)| ticket).collect()
    }

    #[test]
    fn reads_that_may_be_proved_alike_share_a_question_and_others_have_their_own() {
        let mut barriers = Barriers::default();
        for (ticket, proof) in [(1, None), (2, SLACK), (3, None), (4, SLACK)] {
            barriers.needs_proof(proof, waiting(ticket));
        }
        let questions = barriers.ask(at(0));
        assert_eq!(questions.iter().map(|(_, proof)| *proof).collect::<Vec<_>>(), [None, SLACK]);
        assert!(barriers.ask(at(0)).is_empty());
        // What the core refuses is asked again, as it was.
        barriers.refused(questions[1].0);
        barriers.ready(questions[0].0, LogIndex::new(5));
        assert!(told(&mut barriers, 4).is_empty());
        assert_eq!(told(&mut barriers, 5), [1, 3]);
        let again = barriers.ask(at(1));
        assert_eq!(again.iter().map(|(_, proof)| *proof).collect::<Vec<_>>(), [SLACK]);
        barriers.ready(again[0].0, LogIndex::new(5));
        assert_eq!(told(&mut barriers, 5), [2, 4]);
        assert_eq!(barriers.count(), 0);
    }

    /// What is known after a question at 100 ms that is answered by index 7.
    fn proved(proof: Proof) -> Barriers {
        let mut barriers = Barriers::default();
        barriers.needs_proof(proof, waiting(1));
        let questions = barriers.ask(at(100));
        barriers.ready(questions[0].0, LogIndex::new(7));
        barriers
    }

    #[test]
    fn a_proof_is_as_old_as_its_question_and_one_by_a_lease_is_for_nobody_else() {
        let age = Duration::from_millis;
        let barriers = proved(None);
        assert_eq!(barriers.proved_within(at(300), age(201)), Some(LogIndex::new(7)));
        assert_eq!(barriers.proved_within(at(300), age(200)), None, "to the microsecond");
        assert_eq!(barriers.proved_within(at(100), age(0)), None);
        assert_eq!(proved(SLACK).proved_within(at(100), age(1_000)), None);
    }

    #[test]
    fn nobody_knows_the_age_of_a_proof_across_a_jump_nor_that_of_one_under_way() {
        let mut barriers = proved(None);
        barriers.needs_proof(None, waiting(2));
        let questions = barriers.ask(at(200));
        barriers.clock_jumped();
        assert_eq!(barriers.proved_within(at(200), Duration::from_secs(1)), None);
        barriers.ready(questions[0].0, LogIndex::new(8));
        assert_eq!(barriers.proved_within(at(200), Duration::from_secs(1)), None);
        assert_eq!(told(&mut barriers, 8), [1, 2], "the read itself is served");
    }
}
