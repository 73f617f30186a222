//! Makes a failing case small: fewer steps, kinds of trouble, nodes, clients, requests and single
//! troubles, one attempt after the other, as long as the same kind of breach remains. Each attempt
//! is a case like any other; nothing here knows what a trouble does.

use crate::case::Case;
use crate::kinds::{FAULT_KINDS, FaultKind};
use crate::run::{Violation, World, Worlds};
use std::ops::ControlFlow;

/// How many orders of chance each change is tried with. A change makes everything after it come
/// otherwise, so that the same weakness may need another order to show.
const SCHEDULE_COUNT: usize = 4;
/// How often everything is gone through again, since one change makes others possible.
const ROUNDS_MAX: u32 = 3;

/// How far shrinking is.
#[derive(Clone, Debug)]
pub struct ShrinkProgress<'a> {
    /// How many worlds were run.
    pub attempt_count: u32,
    /// How many may be run.
    pub attempt_count_max: u32,
    /// What is tried, in a few words.
    pub trying: &'a str,
    /// The smallest that is known.
    pub best: &'a Violation,
}

/// Makes a failing case small; returns the smallest that was found, and after how many attempts. Ends
/// early, with the smallest so far, if `progress` breaks off.
pub fn shrink<W: Worlds>(
    violation: Violation,
    worlds: &W,
    attempt_count_max: u32,
    progress: &mut dyn FnMut(&ShrinkProgress<'_>) -> ControlFlow<()>,
) -> (Violation, u32) {
    let mut shrinker = Shrinker {
        worlds,
        best: violation,
        attempt_count: 0,
        attempt_count_max,
        progress,
        is_stopped: false,
    };
    shrinker.cut();
    for _ in 0..ROUNDS_MAX {
        let before = shrinker.best.case.clone();
        shrinker.kinds();
        shrinker.nodes();
        shrinker.clients();
        shrinker.troubles();
        shrinker.requests();
        shrinker.steps();
        if shrinker.best.case == before || shrinker.is_over() {
            break;
        }
    }
    (shrinker.best, shrinker.attempt_count)
}

struct Shrinker<'a, W> {
    worlds: &'a W,
    best: Violation,
    attempt_count: u32,
    attempt_count_max: u32,
    progress: &'a mut dyn FnMut(&ShrinkProgress<'_>) -> ControlFlow<()>,
    is_stopped: bool,
}

impl<W: Worlds> Shrinker<'_, W> {
    fn is_over(&self) -> bool {
        self.is_stopped || self.attempt_count >= self.attempt_count_max
    }

    /// Whether a smaller case fails in the same way, with one order of chance or another; if so it
    /// is the best now.
    fn fails(&mut self, trying: &str, case: &Case) -> bool {
        let own = case.changes.schedule;
        let others = (1..).filter(|schedule| *schedule != own);
        for schedule in std::iter::once(own).chain(others).take(SCHEDULE_COUNT) {
            if self.is_over() {
                return false;
            }
            let mut case = case.clone();
            case.changes.schedule = schedule;
            if self.attempt(trying, &case) {
                return true;
            }
        }
        false
    }

    fn attempt(&mut self, trying: &str, case: &Case) -> bool {
        self.attempt_count += 1;
        let going_on = (self.progress)(&ShrinkProgress {
            attempt_count: self.attempt_count,
            attempt_count_max: self.attempt_count_max,
            trying,
            best: &self.best,
        });
        self.is_stopped |= going_on.is_break();
        match case.run(self.worlds) {
            Err(violation) if violation.breach.is_like(&self.best.breach) => {
                self.best = *violation;
                self.cut();
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// Nothing after the breach belongs to the case.
    fn cut(&mut self) {
        let Violation { case, step, trouble_count, .. } = &mut self.best;
        case.world.steps = case.world.steps.min(*step);
        case.changes.skip =
            (1..=*trouble_count).filter(|ordinal| case.changes.skip.contains(*ordinal)).collect();
    }

    fn kinds(&mut self) {
        let is_left =
            |best: &Violation, kind: &FaultKind| !best.case.changes.without.contains(&kind);
        let left: Vec<&FaultKind> =
            FAULT_KINDS.iter().filter(|kind| is_left(&self.best, kind)).collect();
        // All together first, then halves, then each alone.
        self.remove_chunks(left, "without kinds of trouble", |case, kinds| {
            case.changes.without.extend(kinds);
        });
    }

    fn nodes(&mut self) {
        // A world whose members are drawn may have learners, which one of a fixed size has not.
        let is_drawn = self.best.case.world.node_count == 0;
        for node_count in 1..self.best.node_count + u64::from(is_drawn) {
            let mut case = self.best.case.clone();
            case.world.node_count = node_count;
            if self.fails("fewer nodes", &case) {
                return;
            }
        }
    }

    fn clients(&mut self) {
        for clients in 0..self.best.client_count {
            let mut case = self.best.case.clone();
            case.changes.clients = Some(clients);
            if self.fails("fewer clients", &case) {
                return;
            }
        }
    }

    fn requests(&mut self) {
        self.lower(
            "fewer requests",
            |best| best.request_count,
            |case, requests| {
                case.changes.requests = Some(requests);
            },
        );
    }

    fn steps(&mut self) {
        self.lower(
            "fewer steps",
            |best| best.case.world.steps,
            |case, steps| {
                case.world = World { steps, ..case.world };
            },
        );
    }

    /// Lowers a number: to nothing, to a half, to three quarters, and so on towards what it is.
    fn lower(&mut self, trying: &str, number: fn(&Violation) -> u64, set: fn(&mut Case, u64)) {
        let mut low = 0;
        while low < number(&self.best) && !self.is_over() {
            let mut case = self.best.case.clone();
            set(&mut case, low);
            if !self.fails(trying, &case) {
                low += (number(&self.best) - low).div_ceil(2);
            }
        }
    }

    fn troubles(&mut self) {
        let Violation { case, trouble_count, .. } = &self.best;
        let skipped = &case.changes.skip;
        let left: Vec<u64> =
            (1..=*trouble_count).filter(|ordinal| !skipped.contains(*ordinal)).collect();
        self.remove_chunks(left, "without single troubles", |case, ordinals| {
            let skip = &case.changes.skip;
            let before = ordinals.iter().copied().max().unwrap_or(0).max(skip.last());
            case.changes.skip = (1..=before)
                .filter(|ordinal| skip.contains(*ordinal) || ordinals.contains(ordinal))
                .collect();
        });
    }

    /// Tries to do without parts of what is `left`: all of it, halves, quarters, and in the end
    /// each alone (Zeller's delta debugging, complements only).
    fn remove_chunks<T: Clone + PartialEq>(
        &mut self,
        mut left: Vec<T>,
        trying: &str,
        remove: fn(&mut Case, &[T]),
    ) {
        let mut chunk_len = left.len();
        while chunk_len > 0 && !self.is_over() {
            let mut start = 0;
            while start < left.len() {
                let end = (start + chunk_len).min(left.len());
                let chunk = left.get(start..end).unwrap_or_default().to_vec();
                let mut case = self.best.case.clone();
                remove(&mut case, &chunk);
                if self.fails(trying, &case) {
                    left.drain(start..end);
                } else {
                    start = end;
                }
            }
            chunk_len = if chunk_len == 1 { 0 } else { chunk_len.div_ceil(2) };
        }
    }
}
