//! What goes wrong in a world, and how often: drawn from the seed, so that most worlds have some
//! faults off and others high. Only intensities live here; who suffers when is decided in `cluster/trouble.rs`.

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
    /// Links that stop one by one and come back in another order, if any do.
    pub swizzles: Option<Rhythm>,
    /// Connections that break and are made anew, if any are.
    pub breaks: Option<Rhythm>,
    /// Links that lose messages by some rule, if any do.
    pub omissions: Option<Rhythm>,
    /// Clocks that are not the world's, if any are.
    pub clocks: Option<Clocks>,
    /// Processes that stop for a while and go on, if any do.
    pub pauses: Option<Rhythm>,
    /// How often somebody asks for another leader, if anybody does.
    pub transfers_every: Option<Duration>,
    /// How often somebody wishes for other members, if anybody does.
    pub changes_every: Option<Duration>,
    /// How often nodes are told that another one's process has ended although it has not, if they are
    /// told of ends at all.
    pub rumours_every: Option<Duration>,
    /// How often a node is given other settings while it runs, if any is.
    pub settings_every: Option<Duration>,
    /// How often a machine is given the new program, or the old one again, if machines begin with an old
    /// one at all.
    pub upgrades_every: Option<Duration>,
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
    /// The chance of a message of which a garbled copy arrives, too.
    pub garbled: Chance,
    /// The chance that a machine which starts has another one's disk in it at first.
    pub wrong_disk: Chance,
    /// The chance of a write that fails, of a storage that the state machine has beside the disk.
    pub engine_fails: Chance,
    /// The chance of a client's request that has to do with alarms, while none is raised.
    pub alarms: Chance,
    /// In the end all nodes lose power together and come back together, and from then on nothing
    /// in this world is left to chance but what nodes draw themselves.
    pub ends_in_lockstep: bool,
    /// Leaders do not look whether their disks finish anything. It proves that the judges do.
    pub blind_watchdogs: bool,
    /// What the node does wrong with its table of sessions; as above.
    pub sessions: Option<SessionFault>,
}

/// What can be wrong with a table of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFault {
    /// It is not in the snapshots.
    LeftOutOfSnapshots,
    /// The leader alone has it, and its successor begins without.
    KeptByTheLeader,
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
    /// Whether links are connections as TCP has them: nothing is lost, doubled or overtaken until
    /// the connection breaks, and then everything that has not arrived is lost; a cut holds back
    /// what is sent until it is mended or noticed.
    pub is_stream: bool,
    /// The chance of a link that carries only so much...
    pub slow: Chance,
    /// ...namely this.
    pub slow_bytes_per_second: u64,
    /// The chance of a message of which a copy arrives much later, if both ends still live...
    pub stale: Chance,
    /// ...by up to this.
    pub stale_after_max: Duration,
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
    /// Disks that finish nothing for a while, if any do.
    pub hangs: Option<Rhythm>,
    /// Disks that are full for a while, if any are.
    pub full: Option<Rhythm>,
    /// How often something on some disk goes bad, if anything does. Never mended.
    pub damage_every: Option<Duration>,
    /// How often a machine is lost for ever with its disk, if any is.
    pub losses_every: Option<Duration>,
    /// How often a member's disk is replaced by an empty one, if any is; once the cluster is
    /// founded, and only as long as those who keep their disks can decide.
    pub wipes_every: Option<Duration>,
    /// Whether damage and losses touch only a minority of the voters: then the cluster has to
    /// serve in the end. If not, all that it owes is never to be wrong.
    pub spares_majority: bool,
    /// The judges are not told of damage. It proves that they notice who stops for no reason.
    pub damage_is_secret: bool,
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

/// How the nodes' clocks go.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// How much faster or slower than the world's they may go, in parts per million.
    pub drift_ppm_max: u32,
    /// Clocks that jump ahead by up to `lasts_max`, if any do.
    pub jumps: Option<Rhythm>,
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
    /// The chance that a node crashes while, or just after, it does something that it seldom does:
    /// it releases or cuts its log, or writes, receives, takes over or removes a snapshot.
    pub at_rare_work: Chance,
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
            swizzles: None,
            breaks: None,
            omissions: None,
            clocks: None,
            pauses: None,
            transfers_every: None,
            changes_every: None,
            rumours_every: None,
            settings_every: None,
            upgrades_every: None,
            reaction_max: Duration::from_micros(50),
            apply_max: Duration::from_micros(200),
            shuffled_outputs: Chance::NEVER,
            acks_too_early: false,
            garbled: Chance::NEVER,
            wrong_disk: Chance::NEVER,
            engine_fails: Chance::NEVER,
            alarms: Chance::NEVER,
            ends_in_lockstep: false,
            blind_watchdogs: false,
            sessions: None,
        }
    }

    /// A quiet world in which everything takes as long as ever, to the microsecond.
    #[must_use]
    pub fn lockstep() -> Self {
        let mut faults = Self::none();
        // Longer than the nodes' starts can differ.
        (faults.network.delay_min, faults.network.delay_mean) = (millis(2), Duration::ZERO);
        faults.disk.sync_mean = Duration::ZERO;
        (faults.reaction_max, faults.apply_max) = (Duration::ZERO, Duration::ZERO);
        faults.ends_in_lockstep = true;
        faults
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
            swizzles: sometimes(rng, millis(6_000)),
            breaks: Rhythm::draw(rng, millis(1_000)),
            omissions: sometimes(rng, millis(8_000)),
            clocks: rng.coin().then(|| Clocks::draw(rng)),
            pauses: if rng.coin() { Rhythm::draw(rng, millis(5_000)) } else { None },
            transfers_every: rng.coin().then(|| rng.duration(millis(500), millis(20_000))),
            changes_every: None,
            rumours_every: None,
            settings_every: None,
            upgrades_every: None,
            reaction_max: *rng.pick(&[micros(50), micros(500), millis(5)]).unwrap_or(&micros(50)),
            apply_max: *rng.pick(&[micros(200), millis(2), millis(50)]).unwrap_or(&millis(2)),
            shuffled_outputs: level(rng, 50),
            acks_too_early: false,
            garbled: if rng.coin() { Chance::percent(1) } else { Chance::NEVER },
            wrong_disk: if rng.below(4) == 0 { Chance::percent(10) } else { Chance::NEVER },
            engine_fails: seldom(rng, 100_000),
            alarms: Chance::NEVER,
            ends_in_lockstep: rng.below(6) == 0,
            blind_watchdogs: false,
            sessions: None,
        }
    }

    /// In half of the worlds clients raise alarms, mostly seldom.
    pub fn draw_alarms(&mut self, rng: &mut Rng) {
        let percent = rng.pick(&[0, 0, 0, 1, 1, 5]).copied().unwrap_or(0);
        self.alarms = Chance::percent(percent);
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
            is_stream: false,
            slow: Chance::NEVER,
            slow_bytes_per_second: 0,
            stale: Chance::NEVER,
            stale_after_max: Duration::ZERO,
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
            late_answers: if rng.coin() { level(rng, 20) } else { Chance::NEVER },
            client_loss: if rng.coin() { level(rng, 10) } else { Chance::NEVER },
            is_stream: rng.coin(),
            slow: if rng.coin() { level(rng, 60) } else { Chance::NEVER },
            slow_bytes_per_second: 500 << rng.below(10),
            stale: if rng.coin() { level(rng, 2) } else { Chance::NEVER },
            stale_after_max: rng
                .pick(&[millis(5_000), millis(60_000), millis(600_000)])
                .copied()
                .unwrap_or_default(),
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
            hangs: None,
            full: None,
            damage_every: None,
            losses_every: None,
            wipes_every: None,
            spares_majority: true,
            damage_is_secret: false,
            faults: DiskFaults::default(),
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        let mut drawn = Self::draw_each(rng);
        // Without damage there is always a majority.
        drawn.spares_majority |= drawn.damage_every.is_none() && drawn.losses_every.is_none();
        drawn
    }

    fn draw_each(rng: &mut Rng) -> Self {
        Self {
            sync_min: rng.duration(micros(50), millis(2)),
            // In some worlds a sync takes as long as an election.
            sync_mean: match rng.below(6) {
                0 => rng.duration(millis(20), millis(400)),
                _ => rng.duration(micros(50), millis(20)),
            },
            stall: level(rng, 2),
            stall_max: rng.duration(millis(100), millis(8_000)),
            hangs: sometimes(rng, millis(30_000)),
            full: sometimes(rng, millis(10_000)),
            damage_every: (rng.below(3) == 0).then(|| rng.duration(millis(1_000), millis(30_000))),
            wipes_every: None,
            losses_every: (rng.below(6) == 0).then(|| rng.duration(millis(5_000), millis(60_000))),
            spares_majority: rng.below(6) > 0,
            damage_is_secret: false,
            faults: DiskFaults {
                sync_fails: seldom(rng, 20_000),
                write_fails: seldom(rng, 10_000),
                read_fails: seldom(rng, 5_000),
                misreads: seldom(rng, 30_000),
                short_reads: level(rng, 30),
                sync_lies: Chance::NEVER,
                damages_last_batch: false,
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
    /// Nodes lose power one by one, each losing all or nothing of what was not synced.
    #[must_use]
    pub const fn mild(rhythm: Rhythm) -> Self {
        let never = Chance::NEVER;
        Self {
            rhythm,
            tears: never,
            mid_turn: never,
            everybody: never,
            while_starting: never,
            at_rare_work: never,
        }
    }

    fn draw(rng: &mut Rng) -> Option<Self> {
        let rhythm = Rhythm::draw(rng, millis(8_000))?;
        Some(Self {
            rhythm,
            tears: level(rng, 100),
            mid_turn: level(rng, 100),
            everybody: level(rng, 20),
            while_starting: level(rng, 40),
            at_rare_work: if rng.coin() { level(rng, 30) } else { Chance::NEVER },
        })
    }
}

impl Clocks {
    /// Mostly within a hundredth, sometimes within a tenth.
    fn draw(rng: &mut Rng) -> Self {
        let drift_ppm_max = *rng.pick(&[200, 10_000, 10_000, 100_000]).unwrap_or(&10_000);
        Self {
            drift_ppm_max,
            jumps: rng.coin().then(|| Rhythm::draw(rng, millis(30_000))).flatten(),
        }
    }
}

/// In a quarter of the worlds, a rhythm.
fn sometimes(rng: &mut Rng, lasts_max: Duration) -> Option<Rhythm> {
    if rng.below(3) == 0 { Rhythm::draw(rng, lasts_max) } else { None }
}

/// In a quarter of the worlds, a chance of up to this, mostly a tenth of it.
fn seldom(rng: &mut Rng, per_million_max: u64) -> Chance {
    let at_most = match rng.below(16) {
        0 => per_million_max,
        1..=3 => per_million_max / 10,
        _ => return Chance::NEVER,
    };
    Chance::per_million(u32::try_from(rng.between(20, at_most)).unwrap_or(20))
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
