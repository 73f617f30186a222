//! What was done and found, over all seeds, and how it is told. Must not know how it came about.

use crate::explained;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// A text longer than this is cut.
const SHOWN_CHARACTERS_MAX: usize = 3_000;
/// After so many differences with one seed the two have parted for good.
const DIFFERENCES_PER_SEED_MAX: u64 = 8;

/// Counts of a whole run.
pub(crate) struct Report {
    started: Instant,
    /// By method, and of them by the gateway.
    operations: BTreeMap<&'static str, [u64; 2]>,
    pub(crate) comparison_count: u64,
    pub(crate) event_count: u64,
    explained: Vec<u64>,
    unexplained: BTreeMap<u64, u64>,
}

/// Two answers that ought to be the same.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) seed: u64,
    /// Of how many.
    pub(crate) operation: u64,
    pub(crate) asked: String,
    pub(crate) reference: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "UNEXPLAINED with seed {}, operation {}:", self.seed, self.operation)?;
        writeln!(f, "  asked:  {}", cut(&self.asked))?;
        writeln!(f, "  etcd:   {}", cut(&self.reference))?;
        writeln!(f, "  ours:   {}", cut(&self.ours))?;
        let (seed, operations) = (self.seed, self.operation);
        write!(f, "  again:  cargo xtask differ --seed {seed} --operations {operations}")
    }
}

/// A text that is not too long to be read.
pub(crate) fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            operations: BTreeMap::new(),
            comparison_count: 0,
            event_count: 0,
            explained: vec![0; explained::ALL.len()],
            unexplained: BTreeMap::new(),
        }
    }

    pub(crate) fn operation_count(&self) -> u64 {
        self.operations.values().map(|[all, _]| all).sum()
    }

    /// How many differences nothing explains.
    pub(crate) fn unexplained_count(&self) -> u64 {
        self.unexplained.values().sum()
    }

    /// Counts an operation.
    pub(crate) fn count(&mut self, name: &'static str) {
        let [all, _] = self.operations.entry(name).or_default();
        *all += 1;
    }

    /// Counts that an operation took the gateway.
    pub(crate) fn count_gateway(&mut self, name: &'static str) {
        let [_, by_gateway] = self.operations.entry(name).or_default();
        *by_gateway += 1;
    }

    /// What has been found so far.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            operations: self.operation_count(),
            answers: self.comparison_count,
            events: self.event_count,
            explained: self.explained.iter().sum(),
            unexplained: self.unexplained_count(),
            seconds: self.started.elapsed().as_secs(),
        }
    }

    pub(crate) fn explain(&mut self, place: usize) {
        if let Some(count) = self.explained.get_mut(place) {
            *count += 1;
        }
    }

    /// Counts events of which one system was told more.
    pub(crate) fn explain_events(&mut self, name: &str, count: u64) {
        let counts = explained::ALL.iter().zip(&mut self.explained);
        for (_, counted) in counts.filter(|(explained, _)| explained.name == name) {
            *counted += count;
        }
    }

    /// Counts a difference; true if its seed has had enough of them.
    pub(crate) fn note(&mut self, seed: u64) -> bool {
        let count = self.unexplained.entry(seed).or_default();
        *count += 1;
        *count >= DIFFERENCES_PER_SEED_MAX
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "operations, and those by the JSON gateway:")?;
        for (name, [all, by_gateway]) in &self.operations {
            writeln!(f, "  {all:>6} {by_gateway:>6} {name}")?;
        }
        writeln!(f, "explained differences:")?;
        for (explained, count) in explained::ALL.iter().zip(&self.explained) {
            if *count > 0 {
                writeln!(f, "  {count:>6} {}", explained.name)?;
            }
        }
        write!(f, "all: {}", self.figures())
    }
}

/// A whole run, or one seed, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    operations: u64,
    answers: u64,
    events: u64,
    explained: u64,
    unexplained: u64,
    seconds: u64,
}

impl Figures {
    /// What was added to what there was before.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            operations: self.operations - before.operations,
            answers: self.answers - before.answers,
            events: self.events - before.events,
            explained: self.explained - before.explained,
            unexplained: self.unexplained - before.unexplained,
            seconds: self.seconds - before.seconds,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, answers, events, explained, unexplained, seconds } = self;
        write!(
            f,
            "{operations} operations, {answers} answers and {events} events compared, \
             {explained} explained, {unexplained} unexplained, {seconds} s"
        )
    }
}
