//! Local callers who wait for an answer. Whoever has the answer gives it to the caller directly,
//! from whatever thread; nobody is asked twice and nobody is forgotten.

use super::passage::{Milestones, Passage};
use super::queue::lock;
use crate::{ApplyBatch, Doubt, Fate, MembershipError, MembershipFate, ReadError, Refusal, Ticket};
use bytes::Bytes;
use quorate_core::LogIndex;
use std::sync::Mutex;
use tokio::sync::oneshot;

/// Where a fate goes.
pub(crate) type FateSender = oneshot::Sender<Fate>;
/// Where the permission to read goes.
pub(crate) type BarrierSender = oneshot::Sender<Result<LogIndex, ReadError>>;
/// Where the answer to a query goes.
pub(crate) type QuerySender = oneshot::Sender<Result<Bytes, ReadError>>;

/// Where the end of a wish for other members goes.
pub(crate) type WishSender = oneshot::Sender<MembershipFate>;

/// Somebody who waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    Proposal(FateSender, Passage),
    Barrier(BarrierSender),
    /// A barrier first, then the query.
    Query(Bytes, QuerySender),
    Wish(WishSender),
}

impl Waiting {
    /// The answer when the node stops under a caller.
    fn stopped(self) {
        match self {
            Self::Proposal(sender, passage) => {
                answer(sender, Fate::Unknown(Doubt::Stopped));
                passage.stopped();
            }
            Self::Barrier(sender) => answer(sender, Err(ReadError::Stopped)),
            Self::Query(_, sender) => answer(sender, Err(ReadError::Stopped)),
            Self::Wish(sender) => answer(sender, Err(MembershipError::Unknown(Doubt::Stopped))),
        }
    }
}

/// Answers a caller. One who has gone away needs no answer.
pub(crate) fn answer<T>(sender: oneshot::Sender<T>, value: T) {
    let _gone = sender.send(value);
}

/// Everybody who waits, by ticket.
#[derive(Debug)]
pub(crate) struct Waiters {
    slots: Mutex<Slots>,
    count_max: usize,
}

/// A ticket is a slot's place and how often the slot was used: an answer to somebody who has long
/// been answered finds nobody.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<(u32, Option<Waiting>)>,
    free: Vec<u32>,
    is_closed: bool,
}

impl Waiters {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { slots: Mutex::default(), count_max: count_max.min(u32::MAX as usize) }
    }

    /// Registers somebody who waits.
    pub(crate) fn add(&self, waiting: Waiting) -> Result<Ticket, Refusal> {
        let mut slots = lock(&self.slots);
        if slots.is_closed {
            return Err(Refusal::Stopped);
        }
        let place = match slots.free.pop() {
            Some(place) => place,
            None if slots.all.len() < self.count_max => slots.grow(),
            None => {
                let (what, unit) = ("waiting requests", "requests");
                return Err(Refusal::Overloaded { what, limit: self.count_max, unit });
            }
        };
        let uses = match slots.all.get_mut(place as usize) {
            Some((uses, slot)) => {
                *slot = Some(waiting);
                *uses
            }
            None => 0,
        };
        Ok(Ticket(u64::from(uses) << 32 | u64::from(place)))
    }

    /// Takes somebody out, to be answered.
    pub(crate) fn take(&self, ticket: Ticket) -> Option<Waiting> {
        lock(&self.slots).take(ticket)
    }

    /// Committed entries are on their way to the state machine: notes for their callers when these
    /// were how far.
    pub(crate) fn note(&self, batch: &ApplyBatch, milestones: &Milestones) {
        let mut in_log = milestones.of(batch).peekable();
        if in_log.peek().is_none() {
            return;
        }
        let mut slots = lock(&self.slots);
        for (ticket, in_log) in in_log {
            if let Some((_, _, Some(Waiting::Proposal(_, passage)))) = slots.slot(ticket) {
                passage.in_log = Some(in_log);
            }
        }
    }

    /// Gives everybody their fate, and returns what their proposals came through.
    pub(crate) fn answer_all(&self, fates: Vec<(Ticket, Fate)>) -> Vec<Passage> {
        let mut answers = Vec::with_capacity(fates.len());
        let mut slots = lock(&self.slots);
        for (ticket, fate) in fates {
            answers.extend(slots.take(ticket).map(|waiting| (waiting, fate)));
        }
        drop(slots);
        let mut passages = Vec::with_capacity(answers.len());
        for (waiting, fate) in answers {
            match waiting {
                Waiting::Proposal(sender, mut passage) => {
                    passage.tell(&fate);
                    answer(sender, fate);
                    passages.push(passage);
                }
                Waiting::Barrier(_) | Waiting::Query(..) | Waiting::Wish(_) => waiting.stopped(),
            }
        }
        passages
    }

    /// A wish for other members has come to its end.
    pub(crate) fn answer_wish(&self, ticket: Ticket, fate: MembershipFate) {
        match self.take(ticket) {
            Some(Waiting::Wish(sender)) => answer(sender, fate),
            Some(other @ (Waiting::Proposal(..) | Waiting::Barrier(_) | Waiting::Query(..))) => {
                other.stopped();
            }
            None => {}
        }
    }

    /// A barrier has passed, or will not. Returns the ticket if its query is to be asked now.
    pub(crate) fn barrier(
        &self,
        ticket: Ticket,
        result: Result<LogIndex, ReadError>,
    ) -> Option<Ticket> {
        let mut slots = lock(&self.slots);
        if result.is_ok() && slots.is_query(ticket) {
            return Some(ticket);
        }
        let waiting = slots.take(ticket)?;
        drop(slots);
        match (waiting, result) {
            (Waiting::Barrier(sender), result) => answer(sender, result),
            (Waiting::Query(_, sender), Err(error)) => answer(sender, Err(error)),
            (waiting @ (Waiting::Query(..) | Waiting::Proposal(..) | Waiting::Wish(_)), _) => {
                waiting.stopped();
            }
        }
        None
    }

    /// Takes out a query, to be answered.
    pub(crate) fn take_query(&self, ticket: Ticket) -> Option<(Bytes, QuerySender)> {
        match lock(&self.slots).take(ticket)? {
            Waiting::Query(query, sender) => Some((query, sender)),
            other @ (Waiting::Barrier(_) | Waiting::Proposal(..) | Waiting::Wish(_)) => {
                other.stopped();
                None
            }
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        let slots = lock(&self.slots);
        slots.all.len() - slots.free.len()
    }

    /// Lets nobody in any more and tells everybody that the node stopped.
    pub(crate) fn close(&self) {
        let mut slots = lock(&self.slots);
        slots.is_closed = true;
        slots.free.clear();
        let all = std::mem::take(&mut slots.all);
        drop(slots);
        all.into_iter().filter_map(|(_, waiting)| waiting).for_each(Waiting::stopped);
    }
}

impl Slots {
    fn grow(&mut self) -> u32 {
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push((0, None));
        place
    }

    /// The slot that a ticket still stands for.
    fn slot(&mut self, Ticket(ticket): Ticket) -> Option<(u32, &mut u32, &mut Option<Waiting>)> {
        let place = u32::try_from(ticket & u64::from(u32::MAX)).ok()?;
        let (uses, slot) = self.all.get_mut(usize::try_from(place).ok()?)?;
        (u64::from(*uses) == ticket >> 32).then_some((place, uses, slot))
    }

    fn is_query(&mut self, ticket: Ticket) -> bool {
        self.slot(ticket).is_some_and(|(_, _, slot)| matches!(slot, Some(Waiting::Query(..))))
    }

    fn take(&mut self, ticket: Ticket) -> Option<Waiting> {
        let (place, uses, slot) = self.slot(ticket)?;
        let waiting = slot.take()?;
        *uses = uses.wrapping_add(1);
        self.free.push(place);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{NodeId, Time};

    fn proposal() -> (Waiting, oneshot::Receiver<Fate>) {
        let (sender, receiver) = oneshot::channel();
        let passage = Passage::begin(NodeId::new(1), Time::ZERO);
        (Waiting::Proposal(sender, passage), receiver)
    }

    #[test]
    fn a_ticket_is_good_for_one_answer() {
        let waiters = Waiters::new(10);
        let (waiting, mut receiver) = proposal();
        let ticket = waiters.add(waiting).unwrap();
        waiters.answer_all(vec![
            (ticket, Fate::NotAppended(Refusal::NoLeader)),
            (ticket, Fate::Unknown(Doubt::Deadline)),
        ]);
        assert_eq!(receiver.try_recv(), Ok(Fate::NotAppended(Refusal::NoLeader)));
        assert_eq!(waiters.count(), 0);
    }

    #[test]
    fn an_old_ticket_does_not_reach_whoever_has_its_slot_now() {
        let waiters = Waiters::new(10);
        let old = waiters.add(proposal().0).unwrap();
        waiters.take(old);
        let (waiting, mut receiver) = proposal();
        waiters.add(waiting).unwrap();
        assert!(waiters.take(old).is_none());
        assert_eq!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn one_more_than_the_limit_is_refused() {
        let waiters = Waiters::new(2);
        waiters.add(proposal().0).unwrap();
        let second = waiters.add(proposal().0).unwrap();
        let refused = waiters.add(proposal().0);
        assert!(matches!(refused, Err(Refusal::Overloaded { limit: 2, .. })), "{refused:?}");
        waiters.take(second);
        assert!(waiters.add(proposal().0).is_ok());
    }

    #[test]
    fn whoever_waits_when_the_node_stops_is_told_so() {
        let waiters = Waiters::new(2);
        let (waiting, mut fate) = proposal();
        waiters.add(waiting).unwrap();
        let (sender, mut read) = oneshot::channel();
        waiters.add(Waiting::Query(Bytes::new(), sender)).unwrap();
        waiters.close();
        assert_eq!(fate.try_recv(), Ok(Fate::Unknown(Doubt::Stopped)));
        assert_eq!(read.try_recv(), Ok(Err(ReadError::Stopped)));
        assert!(matches!(waiters.add(proposal().0), Err(Refusal::Stopped)));
    }
}
