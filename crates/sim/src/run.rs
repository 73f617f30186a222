//! One world from its seed to its verdict: troubles for so many steps, then healing and
//! convergence. Looks at no clock but the world's.

use crate::application::{Application, Findings};
use crate::cluster::{Cluster, ClusterOptions};
use crate::counts::{Counts, MessageCounts};
use crate::judge::Breach;
use crate::kv::{KvApplication, KvOptions};
use crate::rng::Rng;
use quorate_core::Time;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One world to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// Decides everything.
    pub seed: u64,
    /// How many voters; 0 for as many voters and learners as the seed says.
    pub node_count: u64,
    /// How many things happen before everything is healed.
    pub steps: u64,
}

/// What happened in a world that ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The world's seed; of many worlds the last.
    pub seed: u64,
    /// How many worlds this speaks of.
    pub world_count: u64,
    /// Things that happened.
    pub steps: u64,
    /// How much time passed in the worlds.
    pub virtual_micros: u64,
    /// The hash over everything that happened; of many worlds a hash of theirs.
    pub trace_hash: u64,
    /// How often things happened.
    pub counts: Counts,
    /// What became of the messages.
    pub messages: MessageCounts,
    /// Entries committed.
    pub committed: u64,
    /// What the application's judge looked at.
    pub findings: Findings,
}

/// A world that ended badly.
#[derive(Debug, thiserror::Error)]
#[error("seed {}: at {at:?}, step {step}: {breach}", world.seed)]
pub struct Violation {
    /// The world.
    pub world: World,
    /// When, in the world.
    pub at: Time,
    /// At which step.
    pub step: u64,
    /// What was broken.
    pub breach: Breach,
    /// The end of the story, line by line.
    pub story: Vec<String>,
}

impl Violation {
    /// The command that shows the same again.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let World { seed, node_count, steps } = self.world;
        let nodes = match node_count {
            0 => String::new(),
            count => format!("--nodes {count} "),
        };
        format!("quorate sim --seed {seed} {nodes}--steps {steps}")
    }
}

impl World {
    /// Runs the key-value store in this world.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that a judge found.
    pub fn run(self) -> Result<Summary, Box<Violation>> {
        let options = ClusterOptions::swarm(self.seed, self.node_count);
        let kv = KvOptions::draw(&mut Rng::new(self.seed).fork("kv"));
        self.run_with(options, KvApplication::new(kv))
    }

    /// Runs an application of your own in this world.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that a judge found.
    pub fn run_with<A: Application>(
        self,
        options: ClusterOptions,
        application: A,
    ) -> Result<Summary, Box<Violation>> {
        let mut cluster = Cluster::new(options, application);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            cluster.run_steps(self.steps);
            cluster.converge()
        }));
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(panic) => Err(Breach::Panicked { message: panic_message(panic.as_ref()) }),
        };
        match outcome {
            Ok(findings) => Ok(self.summary(&cluster, findings)),
            Err(breach) => Err(Box::new(Violation {
                world: self,
                at: cluster.now(),
                step: cluster.steps(),
                breach,
                story: cluster.story(),
            })),
        }
    }

    fn summary<A: Application>(self, cluster: &Cluster<A>, findings: Findings) -> Summary {
        Summary {
            seed: self.seed,
            world_count: 1,
            steps: cluster.steps(),
            virtual_micros: cluster.now().as_micros(),
            trace_hash: cluster.trace_hash(),
            counts: cluster.counts(),
            messages: cluster.message_counts(),
            committed: u64::try_from(cluster.committed_count()).unwrap_or(u64::MAX),
            findings,
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

impl Summary {
    /// The troubles of all kinds, by name.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        self.counts.faults().chain(self.messages.faults())
    }

    /// How often everything else happened, by name.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        self.counts.figures().chain(self.messages.figures())
    }

    /// Adds another world's figures.
    pub fn add(&mut self, other: &Self) {
        self.seed = other.seed;
        self.world_count += other.world_count;
        self.steps += other.steps;
        self.virtual_micros += other.virtual_micros;
        // Worlds may end in any order: the sum does not depend on it.
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
        self.counts.add(&other.counts);
        self.messages.add(&other.messages);
        self.committed += other.committed;
        self.findings.checked_count += other.findings.checked_count;
        self.findings.undecided_count += other.findings.undecided_count;
    }
}
