//! The state of a whole cluster as a few numbers, and what can happen in it. Knows the servers only
//! by their numbers in the pools.

use super::action::{Action, Kind, LocalEvent};
use super::bounds::Bounds;
use super::history::History;
use super::local::{Envelope, Local};
use super::pool::{Pool, number, place, spread};

/// What has been used up of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) timeouts: u8,
    pub(super) crashes: u8,
    pub(super) duplications: u8,
    pub(super) slow_writes: u8,
    pub(super) reads: u8,
    pub(super) transfers: u8,
    pub(super) values: u8,
}

impl Spent {
    fn words(self) -> [u32; 2] {
        let Self { timeouts, crashes, duplications, slow_writes, reads, transfers, values } = self;
        [
            u32::from_le_bytes([timeouts, crashes, duplications, slow_writes]),
            u32::from_le_bytes([reads, transfers, values, 0]),
        ]
    }

    fn from_words(words: [u32; 2]) -> Self {
        let [timeouts, crashes, duplications, slow_writes] = words[0].to_le_bytes();
        let [reads, transfers, values, _] = words[1].to_le_bytes();
        Self { timeouts, crashes, duplications, slow_writes, reads, transfers, values }
    }
}

impl Spent {
    /// Counts what an action uses up.
    pub(super) fn count(&mut self, action: Action) {
        self.duplications += u8::from(action.keeps);
        match action.event.kind {
            Kind::Take | Kind::TakeLate | Kind::Written => {}
            Kind::Deadline | Kind::DeadlineLate => self.timeouts += 1,
            Kind::Crash => self.crashes += 1,
            Kind::Propose => self.values += 1,
            Kind::Read => self.reads += 1,
            Kind::Transfer => self.transfers += 1,
        }
    }
}

/// A state of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct World {
    /// The servers, by number.
    pub(super) locals: Vec<u32>,
    pub(super) history: u32,
    pub(super) spent: Spent,
    /// The messages under way, by number, sorted.
    pub(super) bag: Vec<u32>,
}

/// Everything that has a number.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) locals: Pool<Local>,
    pub(super) envelopes: Pool<Envelope>,
    pub(super) histories: Pool<History>,
}

/// Many worlds, end to end in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    words: Vec<u32>,
    read_to: usize,
    count: u64,
}

impl Shelf {
    pub(super) fn push(&mut self, world: &World) {
        self.count += 1;
        self.words.push(number(world.bag.len()));
        self.words.push(world.history);
        self.words.extend(world.spent.words());
        self.words.extend(&world.locals);
        self.words.extend(&world.bag);
    }

    /// Takes the next world out into `world`, which says how many servers there are.
    pub(super) fn next_into(&mut self, world: &mut World) -> bool {
        let rest = self.words.get(self.read_to..).unwrap_or_default();
        let Some(([bag_count, history, a, b], rest)) = rest.split_first_chunk::<4>() else {
            return false;
        };
        let node_count = world.locals.len();
        let (locals, rest) = rest.split_at(node_count.min(rest.len()));
        let bag = rest.get(..place(*bag_count)).unwrap_or_default();
        world.locals.clear();
        world.locals.extend(locals);
        world.bag.clear();
        world.bag.extend(bag);
        world.history = *history;
        world.spent = Spent::from_words([*a, *b]);
        self.read_to += 4 + locals.len() + bag.len();
        true
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Empties it, but keeps the memory.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.read_to = 0;
        self.count = 0;
    }
}

impl World {
    /// Equal for equal worlds, and for no others as far as 64 bits go.
    pub(super) fn hash(&self, pools: &Pools) -> u64 {
        let mut hash = spread(pools.histories.hash(self.history));
        for word in self.spent.words() {
            hash = spread(hash ^ u64::from(word));
        }
        for local in &self.locals {
            hash = spread(hash ^ pools.locals.hash(*local));
        }
        // A bag: the order of the numbers says only which message was seen first.
        let bag = self.bag.iter().map(|message| spread(pools.envelopes.hash(*message)));
        spread(hash ^ bag.fold(0, u64::wrapping_add))
    }

    /// Everything that can happen next. Whether a write is fast is for the step to ask.
    pub(super) fn actions(&self, bounds: &Bounds, pools: &Pools, actions: &mut Vec<Action>) {
        actions.clear();
        let mut before = None;
        for message in self.bag.iter().copied() {
            if before.replace(message) != Some(message) {
                self.taking(message, bounds, pools, actions);
            }
        }
        for (node, local) in (0_u8..).zip(&self.locals) {
            let Some(local) = pools.locals.get(*local) else { continue };
            let mut add = |kind, detail| {
                actions.push(Action { node, event: LocalEvent::new(kind, detail), keeps: false });
            };
            // At the start all servers are equal: the first to time out may as well be the first.
            let is_choice = self.spent != Spent::default() || node == 0;
            if self.spent.timeouts < bounds.timeouts && is_choice {
                add(Kind::Deadline, 0);
                if local.leads() {
                    add(Kind::DeadlineLate, 0);
                }
            }
            if !local.writes.is_empty() {
                add(Kind::Written, 0);
            }
            if self.spent.crashes < bounds.crashes {
                (0..local.crash_count()).for_each(|stages| add(Kind::Crash, stages));
            }
            if local.leads() {
                self.asking(node, bounds, &mut add);
            }
        }
    }

    fn taking(&self, message: u32, bounds: &Bounds, pools: &Pools, actions: &mut Vec<Action>) {
        let Some(envelope) = pools.envelopes.get(message) else { return };
        let Some(place) = envelope.to.get().checked_sub(1).and_then(|to| u8::try_from(to).ok())
        else {
            return;
        };
        let local = self.locals.get(usize::from(place)).and_then(|local| pools.locals.get(*local));
        let Some(local) = local else { return };
        let is_late = local.can_be_late_for(&envelope.message);
        for kind in [Some(Kind::Take), is_late.then_some(Kind::TakeLate)].into_iter().flatten() {
            let event = LocalEvent::new(kind, message);
            actions.push(Action { node: place, event, keeps: false });
            if self.spent.duplications < bounds.duplications {
                actions.push(Action { node: place, event, keeps: true });
            }
        }
    }

    /// What a leader can be asked for.
    fn asking(&self, node: u8, bounds: &Bounds, add: &mut impl FnMut(Kind, u32)) {
        if self.spent.values < bounds.values {
            add(Kind::Propose, u32::from(self.spent.values));
        }
        if self.spent.reads < bounds.reads {
            add(Kind::Read, u32::from(self.spent.reads));
        }
        if self.spent.transfers < bounds.transfers {
            let others = (0..bounds.nodes).filter(|other| *other != node);
            others.for_each(|other| add(Kind::Transfer, u32::from(other) + 1));
        }
    }

    /// Becomes a copy of `other` in the memory that it has.
    pub(super) fn copy(&mut self, other: &Self) {
        self.locals.clone_from(&other.locals);
        self.bag.clone_from(&other.bag);
        (self.history, self.spent) = (other.history, other.spent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_gives_back_the_worlds_that_it_was_given_in_order() {
        let spent = Spent { timeouts: 1, values: 200, ..Spent::default() };
        let first = World { locals: vec![1, 2, 3], history: 9, spent, bag: vec![4, 4, 5] };
        let second = World { bag: Vec::new(), history: 1, ..first.clone() };
        let mut shelf = Shelf::default();
        shelf.push(&first);
        shelf.push(&second);
        let mut world = World { locals: vec![0; 3], ..World::default() };
        assert!(shelf.next_into(&mut world));
        assert_eq!(world, first);
        assert!(shelf.next_into(&mut world));
        assert_eq!(world, second);
        assert!(!shelf.next_into(&mut world));
        assert_eq!(shelf.count(), 2);
    }
}
