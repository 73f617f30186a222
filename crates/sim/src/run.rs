//! One world from its seed to its verdict: troubles for so many steps, then healing and
//! convergence. Looks at no clock but the world's.

use crate::application::{Application, Findings};
use crate::case::Case;
use crate::cluster::{Cluster, ClusterOptions};
use crate::counts::{Counts, MessageCounts};
use crate::judge::Breach;
use crate::kv::{KvApplication, KvOptions};
use crate::pulse::Pulse;
use crate::record::{Record, Recording};
use crate::rng::Rng;
use quorate_core::Time;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

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
#[error("seed {}, step {step}: {breach}", case.world.seed)]
pub struct Violation {
    /// What runs such worlds, as [`Worlds::command`] says; `None` if the settings were the caller's
    /// own.
    pub command: Option<String>,
    /// The world, and what was changed in it.
    pub case: Case,
    /// When, in the world.
    pub at: Time,
    /// At which step.
    pub step: u64,
    /// What was broken.
    pub breach: Breach,
    /// The end of the story, line by line; empty, as are the counts below, if the world hangs: then
    /// nobody can look into it.
    pub story: Vec<String>,
    /// How many nodes there were.
    pub node_count: u64,
    /// How many clients asked.
    pub client_count: usize,
    /// How many requests they had made.
    pub request_count: u64,
    /// How many troubles had come, skipped ones among them.
    pub trouble_count: u64,
}

impl Violation {
    /// What shows the same again: a command, unless the settings were the caller's own.
    #[must_use]
    pub fn reproduce(&self) -> String {
        match &self.command {
            Some(command) => format!("{command} {}", self.case),
            None => format!("{:?}, with the same settings and application", self.case.world),
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self { seed: 1, node_count: 0, steps: 20_000 }
    }
}

/// How a world's settings and its application are made from what it is: the same way every time.
/// A function will do, such as [`kv_world`].
pub trait Worlds: Sync {
    /// What is replicated in them.
    type App: Application;

    /// A world's settings, before a case changes them, and its application.
    fn world(&self, world: &World) -> (ClusterOptions, Self::App);

    /// The command that runs them, before the flags of a case: whoever reads of a world that fails
    /// pastes it.
    fn command(&self) -> String {
        "quorate sim".to_owned()
    }
}

impl<F, A> Worlds for F
where
    F: Fn(&World) -> (ClusterOptions, A) + Sync,
    A: Application,
{
    type App = A;

    fn world(&self, world: &World) -> (ClusterOptions, A) {
        self(world)
    }
}

/// The key-value store under everything that the seed draws.
#[must_use]
pub fn kv_world(world: &World) -> (ClusterOptions, KvApplication) {
    let kv = KvOptions::draw(&mut Rng::new(world.seed).fork("kv"));
    (ClusterOptions::swarm(world.seed, world.node_count), KvApplication::new(kv))
}

/// How a world ended.
pub type Ended = Result<Summary, Box<Violation>>;

impl World {
    /// Runs the key-value store in this world.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that a judge found.
    pub fn run(self) -> Ended {
        Case::from(self).run(&kv_world)
    }

    /// Runs an application of your own in this world, with settings of your own.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that a judge found.
    pub fn run_with<A: Application>(self, options: ClusterOptions, application: A) -> Ended {
        Case::from(self).play(None, &mut Cluster::new(options, application))
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

impl Case {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that a judge found.
    pub fn run<W: Worlds>(&self, worlds: &W) -> Ended {
        self.play(Some(worlds.command()), &mut self.cluster(worlds))
    }

    /// Runs it, and shows meanwhile how far it is.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that a judge found.
    pub fn run_watched<W: Worlds>(&self, worlds: &W, pulse: &Arc<Pulse>) -> Ended {
        let mut cluster = self.cluster(worlds);
        cluster.show(Arc::clone(pulse));
        self.play(Some(worlds.command()), &mut cluster)
    }

    /// Runs it, and keeps what happened.
    pub fn record<W: Worlds>(&self, worlds: &W, recording: Recording) -> (Ended, Record) {
        self.record_watched(worlds, recording, &Arc::default())
    }

    /// Runs it, keeps what happened, and shows meanwhile how far it is.
    pub fn record_watched<W: Worlds>(
        &self,
        worlds: &W,
        recording: Recording,
        pulse: &Arc<Pulse>,
    ) -> (Ended, Record) {
        let mut cluster = self.cluster(worlds);
        cluster.show(Arc::clone(pulse));
        cluster.record(recording);
        let ended = self.play(Some(worlds.command()), &mut cluster);
        if let Err(violation) = &ended {
            cluster.tell_breach(&violation.breach);
        }
        (ended, cluster.take_record())
    }

    fn cluster<W: Worlds>(&self, worlds: &W) -> Cluster<W::App> {
        let (mut options, application) = worlds.world(&self.world);
        self.changes.apply(&mut options);
        Cluster::new(options, application)
    }

    fn play<A: Application>(&self, command: Option<String>, cluster: &mut Cluster<A>) -> Ended {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            cluster.run_steps(self.world.steps);
            cluster.converge()
        }));
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(panic) => Err(Breach::Panicked { message: panic_message(panic.as_ref()) }),
        };
        match outcome {
            Ok(findings) => Ok(self.world.summary(cluster, findings)),
            Err(breach) => Err(Box::new(self.violation(command, cluster, breach))),
        }
    }

    fn violation<A: Application>(
        &self,
        command: Option<String>,
        cluster: &Cluster<A>,
        breach: Breach,
    ) -> Violation {
        Violation {
            command,
            case: self.clone(),
            at: cluster.now(),
            step: cluster.steps(),
            breach,
            story: cluster.story(),
            node_count: cluster.node_count(),
            client_count: cluster.client_count(),
            request_count: cluster.request_count(),
            trouble_count: cluster.trouble_count(),
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

    /// Sets a counter by its name; false if there is none of that name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        self.counts.set(name, value) || self.messages.set(name, value)
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
        self.findings.watched_count += other.findings.watched_count;
    }
}
