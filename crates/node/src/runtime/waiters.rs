//! Local callers who wait for an answer. Whoever has the answer gives it to the caller directly,
//! from whatever thread; nobody is asked twice and nobody is forgotten.

use super::mailbox::Mailbox;
use super::passage::{Milestones, Passage};
use super::queue::lock;
use crate::{ApplyBatch, Doubt, Fate, MembershipError, MembershipFate, ReadError, Refusal, Ticket};
use bytes::Bytes;
use quorate_core::{LogIndex, Time};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Where a fate goes.
pub(crate) type FateSender = oneshot::Sender<Fate>;
/// Where the permission to read goes.
pub(crate) type BarrierSender = oneshot::Sender<Result<LogIndex, ReadError>>;
/// Where the answer to a query goes.
pub(crate) type QuerySender = oneshot::Sender<Result<Bytes, ReadError>>;

/// Where the end of a wish for other members goes.
pub(crate) type WishSender = oneshot::Sender<MembershipFate>;

/// Somebody who waits, and until when.
#[derive(Debug)]
struct Pending {
    waiting: Waiting,
    deadline: Time,
}

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
    /// Whoever looks for those whose time is up.
    watch: Arc<Mailbox>,
}

/// A ticket is a slot's place and how often the slot was used: an answer to somebody who has long
/// been answered finds nobody.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<(u32, Option<Pending>)>,
    free: Vec<u32>,
    is_closed: bool,
    /// Somebody will look for those whose time is up.
    is_watched: bool,
}

impl Waiters {
    pub(crate) fn new(count_max: usize, watch: Arc<Mailbox>) -> Self {
        Self { slots: Mutex::default(), count_max: count_max.min(u32::MAX as usize), watch }
    }

    /// Registers somebody who waits, until `deadline` at the latest.
    pub(crate) fn add(&self, waiting: Waiting, deadline: Time) -> Result<Ticket, Refusal> {
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
                *slot = Some(Pending { waiting, deadline });
                *uses
            }
            None => 0,
        };
        if !std::mem::replace(&mut slots.is_watched, true) {
            self.watch.nudge();
        }
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
            if let Some((_, _, Some(pending))) = slots.slot(ticket)
                && let Waiting::Proposal(_, passage) = &mut pending.waiting
            {
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

    /// Those whose deadline is past by `grace`. A state machine that stands still keeps what it was
    /// given; those who wait for it are not to stand still with it. Returns whether anybody waits, for
    /// whom to look again.
    pub(crate) fn late(&self, now: Time, grace: Duration) -> (Vec<Ticket>, bool) {
        let mut slots = lock(&self.slots);
        slots.is_watched = slots.all.len() > slots.free.len();
        if !slots.is_watched {
            return (Vec::new(), false);
        }
        let ticket = |(place, (uses, slot)): (usize, &(u32, Option<Pending>))| {
            let is_late = slot.as_ref().is_some_and(|pending| pending.deadline.after(grace) <= now);
            is_late.then(|| Ticket(u64::from(*uses) << 32 | place as u64))
        };
        (slots.all.iter().enumerate().filter_map(ticket).collect(), true)
    }

    /// Tells those of them who read that there was no answer; returns the others, who are owed a fate.
    pub(crate) fn tell_late(&self, late: Vec<Ticket>) -> Vec<Ticket> {
        let mut owed = Vec::new();
        for ticket in late {
            let mut slots = lock(&self.slots);
            if slots.is_proposal(ticket) {
                owed.push(ticket);
                continue;
            }
            let waiting = slots.take(ticket);
            drop(slots);
            match waiting {
                Some(Waiting::Barrier(sender)) => answer(sender, Err(ReadError::Unanswered)),
                Some(Waiting::Query(_, sender)) => answer(sender, Err(ReadError::Unanswered)),
                Some(Waiting::Wish(sender)) => {
                    answer(sender, Err(MembershipError::Unknown(Doubt::Deadline)));
                }
                Some(Waiting::Proposal(..)) | None => {}
            }
        }
        owed
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
        all.into_iter().filter_map(|(_, pending)| pending).for_each(|it| it.waiting.stopped());
    }
}

impl Slots {
    fn grow(&mut self) -> u32 {
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push((0, None));
        place
    }

    /// The slot that a ticket still stands for.
    fn slot(&mut self, Ticket(ticket): Ticket) -> Option<(u32, &mut u32, &mut Option<Pending>)> {
        let place = u32::try_from(ticket & u64::from(u32::MAX)).ok()?;
        let (uses, slot) = self.all.get_mut(usize::try_from(place).ok()?)?;
        (u64::from(*uses) == ticket >> 32).then_some((place, uses, slot))
    }

    fn waiting(&mut self, ticket: Ticket) -> Option<&Waiting> {
        let (_, _, slot) = self.slot(ticket)?;
        slot.as_ref().map(|pending| &pending.waiting)
    }

    fn is_query(&mut self, ticket: Ticket) -> bool {
        matches!(self.waiting(ticket), Some(Waiting::Query(..)))
    }

    fn is_proposal(&mut self, ticket: Ticket) -> bool {
        matches!(self.waiting(ticket), Some(Waiting::Proposal(..)))
    }

    fn take(&mut self, ticket: Ticket) -> Option<Waiting> {
        let (place, uses, slot) = self.slot(ticket)?;
        let pending = slot.take()?;
        *uses = uses.wrapping_add(1);
        self.free.push(place);
        Some(pending.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mailbox::CallerLimit;
    use quorate_core::{NodeId, Time};

    const LATER: Time = Time::from_micros(1_000);
    const GRACE: Duration = Duration::from_micros(5);

    fn waiters(count_max: usize) -> Waiters {
        let limit = CallerLimit { count_max: 10, bytes_max: 10 };
        Waiters::new(count_max, Arc::new(Mailbox::new(limit)))
    }

    fn proposal() -> (Waiting, oneshot::Receiver<Fate>) {
        let (sender, receiver) = oneshot::channel();
        let passage = Passage::begin(NodeId::new(1), Time::ZERO);
        (Waiting::Proposal(sender, passage), receiver)
    }

    #[test]
    fn a_ticket_is_good_for_one_answer() {
        let waiters = waiters(10);
        let (waiting, mut receiver) = proposal();
        let ticket = waiters.add(waiting, LATER).unwrap();
        waiters.answer_all(vec![
            (ticket, Fate::NotAppended(Refusal::NoLeader)),
            (ticket, Fate::Unknown(Doubt::Deadline)),
        ]);
        assert_eq!(receiver.try_recv(), Ok(Fate::NotAppended(Refusal::NoLeader)));
        assert_eq!(waiters.count(), 0);
    }

    #[test]
    fn an_old_ticket_does_not_reach_whoever_has_its_slot_now() {
        let waiters = waiters(10);
        let old = waiters.add(proposal().0, LATER).unwrap();
        waiters.take(old);
        let (waiting, mut receiver) = proposal();
        waiters.add(waiting, LATER).unwrap();
        assert!(waiters.take(old).is_none());
        assert_eq!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn one_more_than_the_limit_is_refused() {
        let waiters = waiters(2);
        waiters.add(proposal().0, LATER).unwrap();
        let second = waiters.add(proposal().0, LATER).unwrap();
        let refused = waiters.add(proposal().0, LATER);
        assert!(matches!(refused, Err(Refusal::Overloaded { limit: 2, .. })), "{refused:?}");
        waiters.take(second);
        assert!(waiters.add(proposal().0, LATER).is_ok());
    }

    #[test]
    fn whoever_waits_when_the_node_stops_is_told_so() {
        let waiters = waiters(2);
        let (waiting, mut fate) = proposal();
        waiters.add(waiting, LATER).unwrap();
        let (sender, mut read) = oneshot::channel();
        waiters.add(Waiting::Query(Bytes::new(), sender), LATER).unwrap();
        waiters.close();
        assert_eq!(fate.try_recv(), Ok(Fate::Unknown(Doubt::Stopped)));
        assert_eq!(read.try_recv(), Ok(Err(ReadError::Stopped)));
        assert!(matches!(waiters.add(proposal().0, LATER), Err(Refusal::Stopped)));
    }

    #[test]
    fn whoever_is_not_answered_in_time_is_told_so_and_a_later_answer_finds_nobody() {
        let waiters = waiters(10);
        let (sender, mut read) = oneshot::channel();
        let query =
            waiters.add(Waiting::Query(Bytes::new(), sender), Time::from_micros(10)).unwrap();
        let (waiting, mut fate) = proposal();
        let proposed = waiters.add(waiting, Time::from_micros(20)).unwrap();
        assert_eq!(waiters.late(Time::from_micros(14), GRACE), (vec![], true));
        assert_eq!(waiters.late(Time::from_micros(15), GRACE), (vec![query], true));
        assert!(waiters.tell_late(vec![query]).is_empty());
        assert_eq!(read.try_recv(), Ok(Err(ReadError::Unanswered)));
        assert!(waiters.take_query(query).is_none());
        let (late, _) = waiters.late(Time::from_micros(25), GRACE);
        assert_eq!(waiters.tell_late(late), [proposed]);
        waiters.answer_all(vec![(proposed, Fate::Unknown(Doubt::Deadline))]);
        assert_eq!(fate.try_recv(), Ok(Fate::Unknown(Doubt::Deadline)));
        assert_eq!(waiters.late(LATER, GRACE), (vec![], false));
    }
}
