//! What a proposal comes through on its way, and when: for people and their graphs. Nothing is
//! decided by it, and neither the driver nor the simulator has it.
//!
//! Nobody stops a proposal to note the time. The event loop notes after each turn how far the log
//! was ([`Milestones`]); when an entry that somebody waits for is handed to the state machine, its
//! index tells when it was appended, durable and committed.

use crate::metrics::ProposalTimes;
use crate::{ApplyBatch, Fate, Ticket, Waiter};
use quorate_core::{LogId, LogIndex, NodeId, Time};
use std::collections::VecDeque;
use tracing::Span;
use tracing::field::Empty;

/// How many of the last advances of one kind are remembered. An entry that is overtaken by more is
/// not timed.
const MILESTONES_COUNT_MAX: usize = 4_096;

/// How far the log was when.
#[derive(Debug, Default)]
pub(crate) struct Milestones {
    appended: Line,
    durable: Line,
    committed: Line,
}

/// When an entry was how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InLog {
    pub(crate) log_id: LogId,
    appended: Option<Time>,
    durable: Option<Time>,
    committed: Option<Time>,
}

/// One index that rises, and when it was where; its places rise, and so do the times.
#[derive(Debug, Default)]
struct Line(VecDeque<(LogIndex, Time)>);

impl Milestones {
    /// The log is so far now.
    pub(crate) fn note(
        &mut self,
        now: Time,
        appended: LogIndex,
        durable: LogIndex,
        committed: LogIndex,
    ) {
        self.appended.note(now, appended);
        self.durable.note(now, durable);
        self.committed.note(now, committed);
    }

    /// The callers of this node who wait for entries of a batch, and when these were how far.
    pub(crate) fn of<'a>(
        &'a self,
        batch: &'a ApplyBatch,
    ) -> impl Iterator<Item = (Ticket, InLog)> + use<'a> {
        batch.waiters.iter().filter_map(|(position, waiter)| match waiter {
            Waiter::Local(ticket) => Some((*ticket, self.at(batch.entries.get(*position)?.log_id))),
            Waiter::Remote(_) => None,
        })
    }

    fn at(&self, log_id: LogId) -> InLog {
        InLog {
            log_id,
            appended: self.appended.reached(log_id.index),
            durable: self.durable.reached(log_id.index),
            committed: self.committed.reached(log_id.index),
        }
    }
}

impl Line {
    fn note(&mut self, now: Time, index: LogIndex) {
        // What was beyond is gone: another leader has another log.
        while self.0.pop_back_if(|(noted, _)| *noted > index).is_some() {}
        if self.0.back().is_some_and(|(noted, _)| *noted == index) {
            return;
        }
        if self.0.len() == MILESTONES_COUNT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((index, now));
    }

    /// When the index was reached; `None` if that is too long ago, or has not come.
    fn reached(&self, index: LogIndex) -> Option<Time> {
        let place = self.0.partition_point(|(noted, _)| *noted < index);
        // Of the first nobody knows when its lower indexes were reached.
        let is_known = place > 0 || self.0.front().is_some_and(|(noted, _)| *noted == index);
        self.0.get(place).filter(|_| is_known).map(|(_, time)| *time)
    }
}

/// A proposal of a local caller, from its call to its answer.
#[derive(Debug)]
pub(crate) struct Passage {
    received: Time,
    pub(crate) in_log: Option<InLog>,
    /// What became of it, once its caller was told.
    fate: Option<&'static str>,
    span: Span,
}

impl Passage {
    /// It has come to this node. Its span belongs to whatever span its caller is in.
    pub(crate) fn begin(node: NodeId, received: Time) -> Self {
        let span = tracing::debug_span!(
            target: "quorate::proposal",
            "proposal",
            %node,
            received_us = received.as_micros(),
            log_id = Empty,
            proposed_us = Empty,
            persisted_us = Empty,
            committed_us = Empty,
            applied_us = Empty,
            answered_us = Empty,
            fate = Empty,
        );
        Self { received, in_log: None, fate: None, span }
    }

    /// Its caller is being told.
    pub(crate) const fn tell(&mut self, fate: &Fate) {
        self.fate = Some(match fate {
            Fate::Applied { .. } => "applied",
            Fate::NotAppended(_) => "not appended",
            Fate::Lost { .. } => "lost",
            Fate::Unknown(_) => "unknown",
            Fate::Refused(_) => "refused",
        });
    }

    /// Its caller was told that the node stopped.
    pub(crate) fn stopped(self) {
        self.span.record("fate", "unknown");
    }

    /// Its caller was told, after it was applied here if it was: that is all.
    pub(crate) fn end(self, applied: Option<Time>, answered: Time, times: &ProposalTimes) {
        let is_applied = self.fate == Some("applied");
        if let (Some(in_log), Some(applied)) = (self.in_log, applied.filter(|_| is_applied)) {
            self.count(in_log, applied, answered, times);
        }
        if is_applied {
            times.whole.record(answered.since(self.received));
        }
        if !self.span.is_disabled() {
            self.record(applied, answered);
        }
    }

    fn count(&self, in_log: InLog, applied: Time, answered: Time, times: &ProposalTimes) {
        let InLog { appended, durable, committed, .. } = in_log;
        let (Some(appended), Some(durable), Some(committed)) = (appended, durable, committed)
        else {
            return;
        };
        times.proposed.record(appended.since(self.received));
        times.persisted.record(durable.since(appended));
        times.committed.record(committed.since(appended));
        times.applied.record(applied.since(durable.max(committed)));
        times.answered.record(answered.since(applied));
    }

    /// All that is known, in the order in which it happens; microseconds since it was received.
    fn record(&self, applied: Option<Time>, answered: Time) {
        let record = |name: &str, time: Option<Time>| {
            if let Some(time) = time {
                let micros = time.since(self.received).as_micros();
                self.span.record(name, u64::try_from(micros).unwrap_or(u64::MAX));
            }
        };
        if let Some(in_log) = self.in_log {
            self.span.record("log_id", tracing::field::display(in_log.log_id));
            record("proposed_us", in_log.appended);
            let (persisted, committed) = (in_log.durable, in_log.committed);
            record("persisted_us", persisted.filter(|_| persisted <= committed));
            record("committed_us", committed);
            record("persisted_us", persisted.filter(|_| persisted > committed));
        }
        record("applied_us", applied.filter(|_| self.in_log.is_some()));
        record("answered_us", Some(answered));
        if let Some(fate) = self.fate {
            self.span.record("fate", fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Doubt;
    use quorate_core::Term;

    fn index(index: u64) -> LogIndex {
        LogIndex::new(index)
    }

    fn time(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    fn line(notes: &[(u64, u64)]) -> Line {
        let mut line = Line::default();
        for (at, now) in notes {
            line.note(time(*now), index(*at));
        }
        line
    }

    #[test]
    fn an_index_was_reached_by_the_first_advance_that_was_not_below_it() {
        let line = line(&[(3, 10), (3, 20), (5, 30), (9, 40)]);
        for (at, reached) in [(3, Some(10)), (4, Some(30)), (5, Some(30)), (6, Some(40))] {
            assert_eq!(line.reached(index(at)), reached.map(time), "{at}");
        }
        assert_eq!(line.reached(index(10)), None, "it has not come");
        assert_eq!(line.reached(index(2)), None, "nobody looked then");
    }

    #[test]
    fn what_another_leader_took_away_is_reached_anew() {
        let line = line(&[(3, 10), (9, 20), (5, 30), (9, 40)]);
        assert_eq!(line.reached(index(9)), Some(time(40)));
        assert_eq!(line.reached(index(3)), Some(time(10)));
    }

    #[test]
    fn the_oldest_advance_beyond_the_limit_is_forgotten() {
        let mut line = line(&[(1, 1), (2, 2), (3, 3)]);
        let last = u64::try_from(MILESTONES_COUNT_MAX).unwrap() + 1;
        for at in 4..=last {
            line.note(time(at), index(at));
        }
        assert_eq!(line.0.len(), MILESTONES_COUNT_MAX);
        assert_eq!(line.reached(index(1)), None);
        assert_eq!(line.reached(index(2)), Some(time(2)));
        assert_eq!(line.reached(index(last)), Some(time(last)));
    }

    /// Appended at 11, durable at 15, committed at 13.
    fn passage() -> Passage {
        let mut milestones = Milestones::default();
        for (now, appended, durable, committed) in
            [(5, 0, 0, 0), (11, 1, 0, 0), (13, 1, 0, 1), (15, 1, 1, 1)]
        {
            milestones.note(time(now), index(appended), index(durable), index(committed));
        }
        let mut passage = Passage::begin(NodeId::new(1), time(10));
        let log_id = LogId { term: Term::new(1), index: index(1) };
        passage.in_log = Some(milestones.at(log_id));
        passage
    }

    #[test]
    fn each_stage_is_counted_from_the_one_that_it_waits_for() {
        let times = ProposalTimes::default();
        let mut passage = passage();
        let log_id = LogId::ORIGIN;
        passage.tell(&Fate::Applied { log_id, reply: bytes::Bytes::new() });
        passage.end(Some(time(19)), time(20), &times);
        let sums = times.stages().map(|(name, histogram)| (name, histogram.sum_micros()));
        let expected =
            [("proposed", 1), ("persisted", 4), ("committed", 2), ("applied", 4), ("answered", 1)];
        assert_eq!(sums, expected);
        assert_eq!((times.whole.count(), times.whole.sum_micros()), (1, 10));
    }

    #[test]
    fn what_was_not_applied_is_not_counted_and_what_was_applied_elsewhere_only_as_a_whole() {
        let times = ProposalTimes::default();
        let mut unknown = passage();
        unknown.tell(&Fate::Unknown(Doubt::Deadline));
        unknown.end(None, time(20), &times);
        assert_eq!(times.whole.count(), 0);
        let mut forwarded = Passage::begin(NodeId::new(1), time(10));
        forwarded.tell(&Fate::Applied { log_id: LogId::ORIGIN, reply: bytes::Bytes::new() });
        forwarded.end(None, time(20), &times);
        assert_eq!(times.whole.count(), 1);
        assert!(times.stages().iter().all(|(_, histogram)| histogram.count() == 0));
    }
}
