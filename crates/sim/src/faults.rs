//! What goes wrong in a world, and how often: drawn from the seed, so that most worlds have some
//! faults off and others high. Only intensities live here; who suffers when is the nemesis's part.

use crate::disk::DiskFaults;
use crate::rng::{Chance, Rng};
use std::time::Duration;

/// Every intensity of one world.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Of messages.
    pub network: NetworkFaults,
    /// Of disks.
    pub disk: DiskPace,
    /// Nodes that lose power, if any do.
    pub crashes: Option<Crashes>,
    /// Links that are cut, if any are.
    pub partitions: Option<Rhythm>,
    /// Processes that stop for a while and go on, if any do.
    pub pauses: Option<Rhythm>,
    /// How often somebody asks for another leader, if anybody does.
    pub transfers_every: Option<Duration>,
    /// How long a node's loop takes to notice what arrived, at most.
    pub reaction_max: Duration,
    /// How long the state machine takes for a batch, at most.
    pub apply_max: Duration,
    /// Chance that the outputs of a turn are carried out in another order than they came in, as
    /// far as their contract allows.
    pub shuffled_outputs: Chance,
    /// The node believes its writes durable as soon as they are begun. No honest runtime does
    /// this: it proves that the judges notice.
    pub acks_too_early: bool,
}

/// How messages travel.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFaults {
    /// The shortest way.
    pub delay_min: Duration,
    /// What the way takes on average beyond that.
    pub delay_mean: Duration,
    /// And evenly up to this.
    pub jitter_max: Duration,
    /// The chance of a message that takes much longer...
    pub tail: Chance,
    /// ...by up to this.
    pub tail_max: Duration,
    /// The chance of a message that never arrives.
    pub loss: Chance,
    /// The chance of a message that arrives twice.
    pub duplication: Chance,
    /// Whether messages of one link may overtake each other.
    pub reorders: bool,
    /// The chance of an answer that is held back for 200 ms to 2.2 s.
    pub late_answers: Chance,
    /// The chance that a client's request, or the answer to it, never arrives.
    pub client_loss: Chance,
}

/// How long a disk takes.
#[derive(Clone, Copy, Debug)]
pub struct DiskPace {
    /// The shortest sync.
    pub sync_min: Duration,
    /// What a sync takes on average beyond that.
    pub sync_mean: Duration,
    /// The chance of a sync that hangs...
    pub stall: Chance,
    /// ...by up to this.
    pub stall_max: Duration,
    /// What the disk does that it should not.
    pub faults: DiskFaults,
}

/// Something that begins now and then and lasts for a while.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// The mean time between two beginnings.
    pub every: Duration,
    /// It lasts up to this.
    pub lasts_max: Duration,
}

/// How nodes crash.
#[derive(Clone, Copy, Debug)]
pub struct Crashes {
    /// How often, and for how long a node stays down.
    pub rhythm: Rhythm,
    /// The chance that unsynced writes are torn, sector by sector; else they are all lost or, as
    /// often, all kept.
    pub tears: Chance,
    /// The chance that the crash waits for the middle of a turn and comes between two outputs.
    pub mid_turn: Chance,
    /// The chance that all nodes crash together.
    pub everybody: Chance,
    /// The chance that a node which starts crashes again while it recovers.
    pub while_starting: Chance,
}

impl Faults {
    /// A quiet world: a local network and healthy disks.
    #[must_use]
    pub fn none() -> Self {
        Self {
            network: NetworkFaults::calm(),
            disk: DiskPace::calm(),
            crashes: None,
            partitions: None,
            pauses: None,
            transfers_every: None,
            reaction_max: Duration::from_micros(50),
            apply_max: Duration::from_micros(200),
            shuffled_outputs: Chance::NEVER,
            acks_too_early: false,
        }
    }

    /// Intensities for one world: each kind of fault is off in some worlds, mild in others, and
    /// fierce in a few.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            network: NetworkFaults::draw(rng),
            disk: DiskPace::draw(rng),
            crashes: Crashes::draw(rng),
            partitions: Rhythm::draw(rng, millis(8_000)),
            pauses: if rng.coin() { Rhythm::draw(rng, millis(5_000)) } else { None },
            transfers_every: rng.coin().then(|| rng.duration(millis(500), millis(20_000))),
            reaction_max: *rng.pick(&[micros(50), micros(500), millis(5)]).unwrap_or(&micros(50)),
            apply_max: *rng.pick(&[micros(200), millis(2), millis(50)]).unwrap_or(&millis(2)),
            shuffled_outputs: level(rng, 50),
            acks_too_early: false,
        }
    }
}

impl NetworkFaults {
    /// A local network that loses nothing.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            delay_min: micros(100),
            delay_mean: micros(200),
            jitter_max: Duration::ZERO,
            tail: Chance::NEVER,
            tail_max: Duration::ZERO,
            loss: Chance::NEVER,
            duplication: Chance::NEVER,
            reorders: false,
            late_answers: Chance::NEVER,
            client_loss: Chance::NEVER,
        }
    }

    /// The unreliable network of the lab's tests: each message takes up to 26 ms and one in ten is
    /// lost, those of clients too.
    #[must_use]
    pub fn unreliable() -> Self {
        Self {
            delay_min: Duration::ZERO,
            delay_mean: Duration::ZERO,
            jitter_max: millis(26),
            loss: Chance::percent(10),
            reorders: true,
            client_loss: Chance::percent(10),
            ..Self::calm()
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        Self {
            delay_min: rng.duration(micros(50), millis(2)),
            delay_mean: rng.duration(micros(100), millis(30)),
            tail: level(rng, 25),
            tail_max: rng
                .pick(&[millis(100), millis(500), millis(3_000), millis(20_000)])
                .copied()
                .unwrap_or_default(),
            loss: level(rng, 30),
            duplication: level(rng, 50),
            reorders: rng.coin(),
            ..Self::calm()
        }
    }
}

impl DiskPace {
    /// A fast disk that does what it says.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            sync_min: micros(80),
            sync_mean: micros(50),
            stall: Chance::NEVER,
            stall_max: Duration::ZERO,
            faults: DiskFaults::default(),
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        Self {
            sync_min: rng.duration(micros(50), millis(2)),
            sync_mean: rng.duration(micros(50), millis(20)),
            stall: level(rng, 2),
            stall_max: rng.duration(millis(100), millis(8_000)),
            faults: DiskFaults {
                sync_fails: if rng.below(4) == 0 {
                    Chance::per_million(u32::try_from(rng.between(20, 2_000)).unwrap_or(20))
                } else {
                    Chance::NEVER
                },
                sync_lies: Chance::NEVER,
            },
        }
    }
}

impl Rhythm {
    fn draw(rng: &mut Rng, lasts_max: Duration) -> Option<Self> {
        let every = match rng.below(4) {
            0 => return None,
            1 => rng.duration(millis(500), millis(2_000)),
            2 => rng.duration(millis(2_000), millis(10_000)),
            _ => rng.duration(millis(10_000), millis(60_000)),
        };
        Some(Self { every, lasts_max: rng.duration(millis(200), lasts_max) })
    }
}

impl Crashes {
    fn draw(rng: &mut Rng) -> Option<Self> {
        let rhythm = Rhythm::draw(rng, millis(8_000))?;
        Some(Self {
            rhythm,
            tears: level(rng, 100),
            mid_turn: level(rng, 100),
            everybody: level(rng, 20),
            while_starting: level(rng, 40),
        })
    }
}

/// Off in a third of the worlds, else a chance of up to `percent_max`, mostly low.
fn level(rng: &mut Rng, percent_max: u32) -> Chance {
    let cap = u64::from(percent_max) * 10_000;
    let parts = match rng.below(3) {
        0 => 0,
        1 => rng.below(cap / 10 + 1),
        _ => rng.below(cap + 1),
    };
    Chance::per_million(u32::try_from(parts).unwrap_or(0))
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}
