//! What a log is asked to do, in a row: one script, and as many histories as are drawn; and how far it
//! came. Must not know what goes wrong beneath.

use super::model::{Contents, LARGE, base, command, commands, random_batch};
use super::{LogError, LogStore, OpenLog};
use crate::finding::{Finding, Promise};
use crate::machine::Machine;
use crate::rng::Rng;
use quorate_core::{HardState, LogIndex, NodeId, Persist, SnapshotMeta, Term};

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Persist(Vec<Persist>),
    Release(SnapshotMeta),
    /// The process ends as it should, and another one begins.
    Reopen,
}

/// A write of one entry with whole sectors of its own: a torn one is not seen by its length.
fn large(term: u64, index: u64) -> Persist {
    Persist { entries: vec![command(term, index, LARGE)], ..Persist::default() }
}

/// Appends, votes, cuts off and goes on in a later term, fills more than one small file, releases,
/// begins anew after a snapshot, and is opened again twice.
pub(super) fn script() -> Vec<Op> {
    let vote = |term| HardState { current_term: Term::new(term), voted_for: Some(NodeId::new(1)) };
    let with_vote = |term, write| Persist { hard_state: Some(vote(term)), ..write };
    let cut = |after, write| Persist { truncate_after: Some(LogIndex::new(after)), ..write };
    vec![
        Op::Persist(vec![with_vote(1, commands(1, 1..=3))]),
        Op::Persist(vec![commands(1, 4..=9), commands(1, 10..=12)]),
        Op::Persist(vec![with_vote(2, Persist::default())]),
        Op::Persist(vec![cut(7, commands(2, 8..=9)), with_vote(3, Persist::default())]),
        Op::Persist(vec![cut(8, Persist::default())]),
        Op::Persist(vec![commands(3, 9..=30)]),
        Op::Release(base(3, 15)),
        Op::Reopen,
        Op::Persist(vec![large(3, 31)]),
        Op::Persist(vec![commands(3, 32..=34), with_vote(5, cut(32, commands(5, 33..=35)))]),
        Op::Persist(vec![Persist {
            reset: Some(base(6, 90)),
            ..with_vote(6, commands(6, 91..=93))
        }]),
        Op::Reopen,
        Op::Persist(vec![commands(6, 94..=96), large(6, 97)]),
    ]
}

/// A log on its way.
pub(super) struct Run<'a> {
    store: &'a dyn LogStore,
    log: Option<Box<dyn OpenLog>>,
    /// What it has acknowledged.
    pub(super) state: Contents,
    /// What was asked last, if it has not been acknowledged.
    pub(super) in_flight: Vec<Persist>,
    released: Option<SnapshotMeta>,
}

impl<'a> Run<'a> {
    /// Opens a log, which may hold anything.
    pub(super) fn open(
        store: &'a dyn LogStore,
        machine: &mut impl Machine,
    ) -> Result<(Self, Contents), LogError> {
        let (log, shown) = store.open(machine.disk(), machine.dir())?;
        let state = shown.clone();
        let log = Some(log);
        Ok((Self { store, log, state, in_flight: Vec::new(), released: None }, shown))
    }

    /// Does what is asked; an error leaves it in flight.
    pub(super) fn act(&mut self, op: &Op, machine: &mut impl Machine) -> Result<(), Trouble> {
        match op {
            Op::Persist(batch) => {
                self.in_flight.clone_from(batch);
                self.log()?.persist(batch)?;
                self.state = self.state.after(batch);
                self.in_flight.clear();
            }
            Op::Release(base) => {
                self.released = Some(base.clone());
                if self.log()?.release(base)? {
                    self.state = self.state.released(base);
                }
                self.released = None;
            }
            Op::Reopen => {
                self.log = None;
                let (log, shown) = self.store.open(machine.disk(), machine.dir())?;
                self.log = Some(log);
                if !self.state.may_become(&[], &shown) {
                    return Err(Trouble::Wrong(self.lost("it was opened again", &shown)));
                }
                self.state = shown;
            }
        }
        Ok(())
    }

    fn log(&mut self) -> Result<&mut (dyn OpenLog + 'static), Trouble> {
        match &mut self.log {
            Some(log) => Ok(log.as_mut()),
            None => Err(Trouble::Failed("the log is closed".into())),
        }
    }

    /// The process is over.
    pub(super) fn end(&mut self) {
        self.log = None;
    }

    /// Whether a log that crashed here may hold this.
    pub(super) fn judge(&self, shown: &Contents, when: &str) -> Result<(), Finding> {
        let is_right = self.state.may_become(&self.in_flight, shown)
            || self
                .released
                .as_ref()
                .is_some_and(|base| self.state.released(base).may_become(&[], shown));
        if is_right { Ok(()) } else { Err(self.lost(when, shown)) }
    }

    fn lost(&self, when: &str, shown: &Contents) -> Finding {
        let under_way = match self.in_flight.len() {
            0 => String::new(),
            count => format!(", and {count} writes were under way"),
        };
        let (expected, found) = (self.state.described(), shown.described());
        let stranger = self.state.stranger(&self.in_flight, shown);
        let torn = stranger.map_or_else(String::new, |index| {
            format!("; what stands at {index} was never to be written there")
        });
        let text = format!("{when}; acknowledged: {expected}{under_way}; found: {found}{torn}");
        Finding::new(Promise::AcknowledgedStays, text)
    }
}

/// Why an operation did not go on.
pub(super) enum Trouble {
    /// The log says that it failed.
    Failed(LogError),
    /// The log says that all is well, and holds something else.
    Wrong(Finding),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Failed(error)
    }
}

/// An operation that fits a state.
pub(super) fn random_op(state: &Contents, rng: &mut Rng) -> Op {
    match rng.below(14) {
        0 => Op::Reopen,
        1 => match rng.pick(&state.entries) {
            Some(entry) => Op::Release(base(entry.log_id.term.get(), entry.log_id.index.get())),
            None => Op::Persist(random_batch(state, rng)),
        },
        _ => Op::Persist(random_batch(state, rng)),
    }
}
