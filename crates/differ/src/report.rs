//! What was done and found, over all seeds, and how it is told. Must not know how it came about.

use crate::explained;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// How many operations pass between two lines about them.
const LINE_EACH: u64 = 5_000;
/// A text longer than this is cut.
const SHOWN_CHARACTERS_MAX: usize = 3_000;
/// After so many differences with one seed the two have parted for good.
const DIFFERENCES_PER_SEED_MAX: u64 = 8;

/// Counts of a whole run.
pub(crate) struct Report {
    started: Instant,
    operations: BTreeMap<&'static str, u64>,
    pub(crate) gateway_count: u64,
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
            gateway_count: 0,
            comparison_count: 0,
            event_count: 0,
            explained: vec![0; explained::ALL.len()],
            unexplained: BTreeMap::new(),
        }
    }

    pub(crate) fn operation_count(&self) -> u64 {
        self.operations.values().sum()
    }

    /// How many differences nothing explains.
    pub(crate) fn unexplained_count(&self) -> u64 {
        self.unexplained.values().sum()
    }

    /// Counts an operation, and says now and then how far the run is.
    pub(crate) fn count(&mut self, service: &'static str, seed: u64, operation: u64) {
        *self.operations.entry(service).or_default() += 1;
        let count = self.operation_count();
        if count.is_multiple_of(LINE_EACH) {
            let seconds = self.started.elapsed().as_secs();
            println!("{count} operations in {seconds} s; now operation {operation} of seed {seed}");
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
        let services: Vec<String> =
            self.operations.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "operations: {} ({})", self.operation_count(), services.join(", "))?;
        writeln!(f, "  of them by the JSON gateway: {}", self.gateway_count)?;
        let (answers, events) = (self.comparison_count, self.event_count);
        writeln!(f, "comparisons: {} ({answers} answers, {events} of watches)", answers + events)?;
        writeln!(f, "explained differences: {}", self.explained.iter().sum::<u64>())?;
        for (explained, count) in explained::ALL.iter().zip(&self.explained) {
            if *count > 0 {
                writeln!(f, "  {count:>6} {}", explained.name)?;
            }
        }
        writeln!(f, "time: {} s", self.started.elapsed().as_secs())?;
        write!(f, "unexplained: {}", self.unexplained_count())
    }
}
