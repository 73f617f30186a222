//! Decides whether a history could have come from one copy of the data, used by one client at a
//! time (linearizability). The search is Wing and Gong's with Lowe's cache of visited
//! configurations; it must not know what the operations mean, only a sequential [`Model`].

use std::collections::BTreeMap;

/// What a correct single copy would do.
pub trait Model {
    /// The state of the copy.
    type State: Clone + Ord;
    /// What a client asks.
    type Op;
    /// What it is told.
    type Reply;

    /// The state before any operation.
    fn initial(&self) -> Self::State;

    /// The state after `op` took effect in `state` and was answered by `reply` (`None`: nobody
    /// knows the answer); `None` if it could not have been answered so.
    fn step(
        &self,
        state: &Self::State,
        op: &Self::Op,
        reply: Option<&Self::Reply>,
    ) -> Option<Self::State>;
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// When the client asked. Moments are distinct within a history.
    pub invoked: u64,
    /// When the answer arrived, and what it was. `None` if the outcome is unknown: the operation
    /// may have taken effect at any time after `invoked`, or never.
    pub returned: Option<(u64, R)>,
    /// What was asked.
    pub op: O,
}

/// What the checker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a legal order.
    Linearizable,
    /// There is none.
    Illegal {
        /// How many answered operations the best attempt could explain.
        explained_count: usize,
    },
    /// The search was given up after visiting as many configurations as allowed.
    Undecided,
}

/// Checks one history (of one key, if keys are independent: linearizability is local).
/// `visits_max` bounds the configurations that are remembered.
#[must_use]
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Op, M::Reply>],
    visits_max: usize,
) -> Verdict {
    Search::new(model, history, visits_max).run()
}

/// A place in the list of events: operation `n` is called at `2n` and returns at `2n + 1`.
type Place = usize;

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Op, M::Reply>],
    events: Events,
    linearized: Bits,
    visited: BTreeMap<(u64, M::State), Vec<Words>>,
    visit_count: usize,
    visits_max: usize,
    /// What was linearized, with the state before it.
    path: Vec<(usize, M::State)>,
    explained_count: usize,
    explained_max: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Op, M::Reply>], visits_max: usize) -> Self {
        let times = history.iter().map(|operation| {
            (operation.invoked, operation.returned.as_ref().map(|(returned, _)| *returned))
        });
        Self {
            model,
            history,
            events: Events::new(times),
            linearized: Bits::new(history.len()),
            visited: BTreeMap::new(),
            visit_count: 0,
            visits_max,
            path: Vec::new(),
            explained_count: 0,
            explained_max: 0,
        }
    }

    fn run(mut self) -> Verdict {
        let answered_count = self.history.iter().filter(|op| op.returned.is_some()).count();
        let mut state = self.model.initial();
        let mut place = self.events.first();
        while self.explained_count < answered_count {
            let next = match place {
                Some(place) if place.is_multiple_of(2) => self.try_next(place / 2, &mut state),
                // An operation returned that we have not linearized: this attempt went wrong.
                Some(_) | None => {
                    if self.path.is_empty() {
                        return Verdict::Illegal { explained_count: self.explained_max };
                    }
                    self.backtrack(&mut state)
                }
            };
            if self.visit_count > self.visits_max {
                return Verdict::Undecided;
            }
            place = next;
        }
        Verdict::Linearizable
    }

    /// Lets `operation` take effect next if it can and if that leads somewhere new; returns where
    /// to go on.
    fn try_next(&mut self, operation: usize, state: &mut M::State) -> Option<Place> {
        let asked = self.history.get(operation)?;
        let reply = asked.returned.as_ref().map(|(_, reply)| reply);
        let after = self.model.step(state, &asked.op, reply);
        if let Some(after) = after
            && self.is_new(operation, &after)
        {
            self.path.push((operation, std::mem::replace(state, after)));
            self.events.lift(operation);
            self.explained_count += usize::from(reply.is_some());
            self.explained_max = self.explained_max.max(self.explained_count);
            return self.events.first();
        }
        self.linearized.set(operation, false);
        self.events.after(2 * operation)
    }

    /// Notes the configuration reached by linearizing `operation`; false if it was seen before.
    fn is_new(&mut self, operation: usize, after: &M::State) -> bool {
        self.linearized.set(operation, true);
        let seen = self.visited.entry((self.linearized.hash, after.clone())).or_default();
        let is_new = !seen.contains(&self.linearized.words);
        if is_new {
            seen.push(self.linearized.words.clone());
            self.visit_count += 1;
        }
        is_new
    }

    /// Takes back what was linearized last; returns where to go on.
    fn backtrack(&mut self, state: &mut M::State) -> Option<Place> {
        let (operation, before) = self.path.pop()?;
        *state = before;
        self.linearized.set(operation, false);
        self.events.unlift(operation);
        let has_reply = self.history.get(operation).is_some_and(|op| op.returned.is_some());
        self.explained_count -= usize::from(has_reply);
        self.events.after(2 * operation)
    }
}

/// Calls and returns in order of time, as a list from which operations can be taken out and put
/// back in constant time.
struct Events {
    next: Vec<Option<Place>>,
    previous: Vec<Option<Place>>,
    first: Option<Place>,
    is_event: Vec<bool>,
}

impl Events {
    fn new(times: impl Iterator<Item = (u64, Option<u64>)>) -> Self {
        let mut order: Vec<(u64, Place)> = Vec::new();
        let mut count = 0;
        for (operation, (invoked, returned)) in times.enumerate() {
            order.push((invoked, 2 * operation));
            order.extend(returned.map(|returned| (returned, 2 * operation + 1)));
            count = operation + 1;
        }
        order.sort_unstable();
        let mut events = Self {
            next: vec![None; 2 * count],
            previous: vec![None; 2 * count],
            first: order.first().map(|(_, place)| *place),
            is_event: vec![false; 2 * count],
        };
        for (_, place) in &order {
            if let Some(is_event) = events.is_event.get_mut(*place) {
                *is_event = true;
            }
        }
        for pair in order.windows(2) {
            if let [(_, one), (_, two)] = pair {
                events.link(Some(*one), Some(*two));
            }
        }
        events
    }

    fn link(&mut self, one: Option<Place>, two: Option<Place>) {
        match one {
            Some(one) => {
                if let Some(next) = self.next.get_mut(one) {
                    *next = two;
                }
            }
            None => self.first = two,
        }
        if let Some(previous) = two.and_then(|two| self.previous.get_mut(two)) {
            *previous = one;
        }
    }

    fn first(&self) -> Option<Place> {
        self.first
    }

    fn after(&self, place: Place) -> Option<Place> {
        self.next.get(place).copied().flatten()
    }

    fn before(&self, place: Place) -> Option<Place> {
        self.previous.get(place).copied().flatten()
    }

    fn lift(&mut self, operation: usize) {
        for place in [2 * operation, 2 * operation + 1] {
            if self.is_event(place) {
                self.link(self.before(place), self.after(place));
            }
        }
    }

    /// Puts back what was lifted last, in the reverse order, so that its own links still hold.
    fn unlift(&mut self, operation: usize) {
        for place in [2 * operation + 1, 2 * operation] {
            if self.is_event(place) {
                let (before, after) = (self.before(place), self.after(place));
                self.link(before, Some(place));
                self.link(Some(place), after);
            }
        }
    }

    /// Whether it happened: a call always, a return only if the outcome is known.
    fn is_event(&self, place: Place) -> bool {
        self.is_event.get(place).copied().unwrap_or_default()
    }
}

/// 64 operations a word.
type Words = Box<[u64]>;

/// A set of operations with a hash that changes in constant time.
struct Bits {
    words: Words,
    hash: u64,
}

impl Bits {
    fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)].into(), hash: 0 }
    }

    fn set(&mut self, bit: usize, value: bool) {
        let mask = 1_u64 << (bit % 64);
        if let Some(word) = self.words.get_mut(bit / 64)
            && (*word & mask != 0) != value
        {
            *word ^= mask;
            let mixed = (u64::try_from(bit).unwrap_or(0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash ^= mixed ^ (mixed >> 31);
        }
    }
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;
