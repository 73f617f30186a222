//! Breadth first through all states, so that the first violation found is one of the shortest. Knows
//! the rules of the world only through what can happen and what a step makes of a server.

use super::action::{Action, Kind, LocalEvent};
use super::bounds::Bounds;
use super::history::{Change, Fault, History};
use super::local::{Envelope, Local, Outcome, Setup};
use super::pool::{HashMap64, HashSet64, Pool, number, place, spread};
use super::tale;
use super::world::{Pools, Shelf, World};
use quorate_core::LogIndex;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One level of the search is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Actions from the start.
    pub depth: u32,
    /// States first reached at this depth.
    pub new_states: u64,
    /// States reached so far.
    pub states: u64,
    /// Steps of the cluster looked at so far.
    pub steps: u64,
    /// States of single servers so far.
    pub server_states: u64,
    /// Messages that are different from each other, so far.
    pub messages: u64,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last level; its states were reached, but what follows from them was not looked at.
    pub last: Level,
    /// Nothing was left: within the bounds every state has been reached.
    pub is_complete: bool,
    /// The limit of states ended the search: of the last level only a part was reached.
    pub is_partial: bool,
    /// What was found to be wrong.
    pub found: Option<Found>,
}

/// A violation and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is broken.
    pub fault: Fault,
    /// The actions, one a line, with what they did; no shorter way leads to a violation.
    pub script: Vec<String>,
}

/// What a step of one server did, to be looked up.
#[derive(Debug)]
struct Step {
    to: u32,
    sent: Box<[u32]>,
    reads_ready: Box<[(u64, LogIndex)]>,
    began_write: bool,
    /// Nothing that the history of the run could contradict.
    is_quiet: bool,
    fault: Option<Fault>,
}

/// The search.
pub(super) struct Search<'a> {
    bounds: &'a Bounds,
    pub(super) setup: Setup,
    pub(super) pools: Pools,
    steps: Vec<Step>,
    step_numbers: HashMap64,
    seen: HashSet64,
    /// For each state how it was first reached: from which state, by which action.
    origins: Vec<(u32, u32)>,
    step_count: u64,
    /// Memory for the world after a step.
    scratch: World,
}

/// Explores, and tells `progress` about every level.
///
/// # Panics
///
/// If bounds are outside of what the explorer can count, or if an audit finds two steps of equal
/// servers that differ.
pub fn explore(bounds: &Bounds, progress: &mut dyn FnMut(&Level)) -> Report {
    assert!((2..=Bounds::NODES_MAX).contains(&bounds.nodes), "2 to 5 voters");
    assert!(bounds.states_max <= Bounds::STATES_MAX, "states are numbered with 32 bits");
    let mut search = Search::new(bounds);
    match search.first_world() {
        Ok(world) => search.run(&world, progress),
        Err(fault) => {
            let found = Some(Found { fault, script: Vec::new() });
            Report { last: search.level(0, 0), is_complete: false, is_partial: false, found }
        }
    }
}

/// Why a state is not followed.
enum End {
    Found(Box<Found>),
    Full,
}

impl<'a> Search<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        Self {
            bounds,
            setup: Setup::new(bounds.nodes, bounds.sabotage),
            pools: Pools { locals: Pool::new(), envelopes: Pool::new(), histories: Pool::new() },
            steps: Vec::new(),
            step_numbers: HashMap64::new(),
            seen: HashSet64::new(),
            origins: Vec::new(),
            step_count: 0,
            scratch: World::default(),
        }
    }

    fn first_world(&mut self) -> Result<World, Fault> {
        let mut world = World::default();
        for id in 1..=u64::from(self.bounds.nodes) {
            let local = self.setup.first(id)?;
            world.locals.push(self.pools.locals.keep(local.hash(), || local));
        }
        let history = History::default();
        world.history = self.pools.histories.keep(hash_of(&history), || history);
        self.seen.insert(world.hash(&self.pools));
        self.origins.push((0, 0));
        Ok(world)
    }

    pub(super) fn level(&self, depth: u32, new_states: u64) -> Level {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Level {
            depth,
            new_states,
            states: count(self.origins.len()),
            steps: self.step_count,
            server_states: count(self.pools.locals.len()),
            messages: count(self.pools.envelopes.len()),
        }
    }

    fn run(&mut self, first: &World, progress: &mut dyn FnMut(&Level)) -> Report {
        let (mut level, mut next) = (Shelf::default(), Shelf::default());
        level.push(first);
        let mut depth = 0;
        let mut world = first.clone();
        let mut state = 0;
        loop {
            let mut end = None;
            while end.is_none() && level.next_into(&mut world) {
                end = self.follow(state, &world, &mut next).err();
                state += 1;
            }
            let is_complete = end.is_none() && next.count() == 0;
            depth += u32::from(!is_complete);
            let last = self.level(depth, next.count());
            if !is_complete {
                progress(&last);
            }
            let is_partial = matches!(end, Some(End::Full));
            let found = match end {
                Some(End::Found(found)) => Some(*found),
                Some(End::Full) => None,
                None if is_complete || depth >= self.bounds.depth => None,
                None => {
                    std::mem::swap(&mut level, &mut next);
                    next.clear();
                    continue;
                }
            };
            return Report { last, is_complete, is_partial, found };
        }
    }

    /// Looks at everything that can happen in one state.
    fn follow(&mut self, state: u32, world: &World, next: &mut Shelf) -> Result<(), End> {
        let mut actions = Vec::new();
        world.actions(self.bounds, &self.pools, &mut actions);
        for action in actions {
            self.act(state, world, action, next)?;
            if self.bounds.slow_writes.is_some() {
                let mut fast = action;
                fast.event.fast_disk = true;
                self.act(state, world, fast, next)?;
            }
        }
        Ok(())
    }

    fn act(
        &mut self,
        state: u32,
        world: &World,
        action: Action,
        next: &mut Shelf,
    ) -> Result<(), End> {
        let Some(from) = world.locals.get(usize::from(action.node)).copied() else { return Ok(()) };
        let step = self.step(from, action.event, &world.bag);
        let Some(Step { to, sent, began_write, fault, .. }) = self.steps.get(place(step)) else {
            return Ok(());
        };
        if let Some(fault) = fault.clone() {
            return Err(self.found(state, action, fault));
        }
        let has_no_effect = *to == from && sent.is_empty() && action.event.kind != Kind::Read;
        // With a fast disk nothing is different where nothing was written.
        if has_no_effect || (action.event.fast_disk && !began_write) {
            return Ok(());
        }
        let mut spent = world.spent;
        spent.count(action);
        if *began_write && !action.event.fast_disk {
            match self.bounds.slow_writes {
                Some(limit) if world.spent.slow_writes >= limit => return Ok(()),
                Some(_) => spent.slow_writes += 1,
                None => {}
            }
        }
        let to = *to;
        let mut after = std::mem::take(&mut self.scratch);
        after.copy(world);
        after.spent = spent;
        self.replace(&mut after, action, from, to, step);
        self.step_count += 1;
        if let Err(fault) = self.judge(world, &mut after, action, from, step) {
            return Err(self.found(state, action, fault));
        }
        if self.seen.insert(after.hash(&self.pools)) {
            next.push(&after);
            self.origins.push((state, action.code()));
        }
        self.scratch = after;
        let is_full =
            self.origins.len() >= place(u32::try_from(self.bounds.states_max).unwrap_or(u32::MAX));
        if is_full { Err(End::Full) } else { Ok(()) }
    }

    /// Puts the server's new state and its messages in place.
    fn replace(&self, after: &mut World, action: Action, from: u32, to: u32, step: u32) {
        if let Some(slot) = after.locals.get_mut(usize::from(action.node)) {
            *slot = to;
        }
        let takes = matches!(action.event.kind, Kind::Take | Kind::TakeLate) && !action.keeps;
        if takes && let Ok(at) = after.bag.binary_search(&action.event.detail) {
            after.bag.remove(at);
        }
        let sent = self.steps.get(place(step)).map(|step| &step.sent);
        if let Some(sent) = sent.filter(|sent| !sent.is_empty()) {
            let alive = |message: &&u32| !self.is_dead(after, **message);
            let alive: Vec<u32> = sent.iter().filter(alive).copied().collect();
            after.bag.extend(alive);
            after.bag.sort_unstable();
        }
        let (Some(old), Some(new)) = (self.pools.locals.get(from), self.pools.locals.get(to))
        else {
            return;
        };
        if old.disk.hard_state.current_term < new.disk.hard_state.current_term {
            let mut bag = std::mem::take(&mut after.bag);
            bag.retain(|message| !self.is_dead(after, *message));
            after.bag = bag;
        }
    }

    fn is_dead(&self, world: &World, message: u32) -> bool {
        let Some(Envelope { to, message, .. }) = self.pools.envelopes.get(message) else {
            return false;
        };
        let at = usize::try_from(to.get()).ok().and_then(|to| to.checked_sub(1));
        let receiver = at.and_then(|at| world.locals.get(at));
        let receiver = receiver.and_then(|receiver| self.pools.locals.get(*receiver));
        receiver.is_some_and(|receiver| receiver.is_dead(message))
    }

    fn judge(
        &mut self,
        world: &World,
        after: &mut World,
        action: Action,
        from: u32,
        step: u32,
    ) -> Result<(), Fault> {
        let Some(Step { to, reads_ready, is_quiet, .. }) = self.steps.get(place(step)) else {
            return Ok(());
        };
        if *is_quiet {
            return Ok(());
        }
        let (Some(before), Some(now)) = (self.pools.locals.get(from), self.pools.locals.get(*to))
        else {
            return Ok(());
        };
        let servers: Vec<&Local> =
            after.locals.iter().filter_map(|local| self.pools.locals.get(*local)).collect();
        let asks_read = action.event.kind == Kind::Read;
        let change = Change { before, after: now, servers: &servers, asks_read, reads_ready };
        let Some(history) = self.pools.histories.get(world.history) else { return Ok(()) };
        if let Some(history) = history.judge(&change)? {
            after.history = self.pools.histories.keep(hash_of(&history), || history);
        }
        Ok(())
    }

    /// The step of a server, computed once.
    fn step(&mut self, from: u32, event: LocalEvent, bag: &[u32]) -> u32 {
        let key = spread(u64::from(from) << 32 | u64::from(event.code()));
        if let Some(known) = self.step_numbers.get(key) {
            return known;
        }
        let Some(local) = self.pools.locals.get(from) else { return u32::MAX };
        let Outcome { next, sent, reads_ready, began_write, fault } = self.compute(local, event);
        let mut keep = |envelope: Envelope| {
            let hash = hash_of(&envelope);
            self.pools.envelopes.keep(hash, || envelope)
        };
        let sent = sent.into_iter().map(&mut keep).collect();
        let hash = next.hash();
        if self.bounds.audit {
            self.audit(&next, hash, bag);
        }
        let is_quiet =
            event.kind != Kind::Read && reads_ready.is_empty() && local.shows_the_same(&next);
        let to = self.pools.locals.keep(hash, || next);
        let reads_ready = reads_ready.into();
        let step = number(self.steps.len());
        self.steps.push(Step { to, sent, reads_ready, began_write, is_quiet, fault });
        self.step_numbers.insert(key, step);
        step
    }

    fn compute(&self, local: &Local, event: LocalEvent) -> Outcome {
        let is_taking = matches!(event.kind, Kind::Take | Kind::TakeLate);
        let taken = is_taking.then(|| self.pools.envelopes.get(event.detail)).flatten();
        local.step(&self.setup, event, taken)
    }

    /// If `fresh` is taken for a server seen before: whatever happens next, they must do the same.
    fn audit(&self, fresh: &Local, hash: u64, bag: &[u32]) {
        let Some(known) = self.pools.locals.find(hash) else { return };
        let is_for_it = |message: &&u32| {
            self.pools.envelopes.get(**message).is_some_and(|envelope| envelope.to == fresh.id())
        };
        let takes = bag.iter().filter(is_for_it).flat_map(|message| {
            [Kind::Take, Kind::TakeLate].map(|kind| LocalEvent::new(kind, *message))
        });
        let asking = [Kind::Propose, Kind::Read].into_iter().filter(|_| fresh.leads());
        let kinds = [Kind::Deadline, Kind::DeadlineLate, Kind::Written].into_iter().chain(asking);
        let crashes = (0..fresh.crash_count()).map(|stages| LocalEvent::new(Kind::Crash, stages));
        let others = kinds.map(|kind| LocalEvent::new(kind, 0));
        for event in takes.chain(crashes).chain(others) {
            let [a, b] = [fresh, known].map(|local| self.compute(local, event));
            let same = a.next.hash() == b.next.hash()
                && hash_of(&a.sent) == hash_of(&b.sent)
                && a.reads_ready == b.reads_ready
                && (a.began_write, a.fault) == (b.began_write, b.fault);
            assert!(same, "servers with equal hashes do the same: {event:?}\n{fresh:?}\n{known:?}");
        }
    }

    fn found(&self, state: u32, action: Action, fault: Fault) -> End {
        let mut actions = vec![action];
        let mut at = state;
        while at != 0 {
            let Some((from, code)) = self.origins.get(place(at)) else { break };
            actions.extend(Action::decode(*code));
            at = *from;
        }
        actions.reverse();
        let script = tale::tell(&self.setup, self.bounds, &self.pools, &actions);
        End::Found(Box::new(Found { fault, script }))
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut state = DefaultHasher::new();
    value.hash(&mut state);
    state.finish()
}
