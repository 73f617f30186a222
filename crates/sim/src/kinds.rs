//! The kinds of trouble by name, and how each is switched off: for `--without`, and for making a
//! failing case small. A new intensity in `faults.rs` belongs to one of these kinds, or is a new
//! one; the test below fails until it does. Decides nothing in a world.

use crate::cluster::ClusterOptions;
use crate::faults::SessionFault;
use crate::faults::{DiskPace, Faults, NetworkFaults};
use crate::rng::Chance;
use std::time::Duration;

/// One kind of trouble, or one sabotage.
#[derive(Clone, Copy, Debug)]
pub struct FaultKind {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    change: fn(&mut ClusterOptions),
}

/// Every kind of a list.
const ALL: &str = "all";
/// Before a name: all but that.
const LEFT_OUT: char = '-';

impl FaultKind {
    const fn new(name: &'static str, what: &'static str, change: fn(&mut ClusterOptions)) -> Self {
        Self { name, what, change }
    }

    /// Those of a list such as `pauses,loss`, `all` or `all,-loss`, out of these.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if none has a name.
    pub fn named(list: &str, kinds: &'static [Self]) -> Result<Vec<&'static Self>, UnknownName> {
        let find = |name: &str| {
            let names = || kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            let kind = kinds.iter().find(|kind| kind.name == name);
            let expected = || format!("{ALL}, {}", names());
            kind.ok_or_else(|| UnknownName { expected: expected(), got: name.to_owned() })
        };
        let names = || list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let without = names().filter_map(|name| name.strip_prefix(LEFT_OUT)).map(find);
        let without: Vec<&Self> = without.collect::<Result<_, _>>()?;
        let chosen = names().filter(|name| *name != ALL && !name.starts_with(LEFT_OUT)).map(find);
        let mut chosen: Vec<&Self> = chosen.collect::<Result<_, _>>()?;
        if names().any(|name| name == ALL) {
            chosen = kinds.iter().collect();
        }
        chosen.retain(|kind| !without.contains(kind));
        Ok(chosen)
    }

    /// Some of these as a list that [`FaultKind::named`] reads, in their order, and the shorter way.
    pub(crate) fn list(chosen: &[&'static Self], kinds: &'static [Self]) -> String {
        let (named, left): (Vec<&Self>, Vec<&Self>) =
            kinds.iter().partition(|kind| chosen.contains(kind));
        if left.len() >= named.len() {
            return named.iter().map(|kind| kind.name).collect::<Vec<_>>().join(",");
        }
        let left = left.iter().map(|kind| format!(",{LEFT_OUT}{}", kind.name));
        format!("{ALL}{}", left.collect::<String>())
    }

    /// Changes a world: a kind of trouble is switched off, a sabotage on.
    pub fn apply(&self, options: &mut ClusterOptions) {
        (self.change)(options);
    }
}

/// A name that no kind has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected some of {expected}, got {got:?}")]
pub struct UnknownName {
    /// The names that there are.
    pub expected: String,
    /// What was found.
    pub got: String,
}

impl PartialEq for FaultKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for FaultKind {}

/// Every kind of trouble that can be switched off.
pub const FAULT_KINDS: &[FaultKind] = &[
    FaultKind::new("crashes", "nodes lose power or their process", |options| {
        options.faults.crashes = None;
    }),
    FaultKind::new("partitions", "links are cut for a while", |options| {
        options.faults.partitions = None;
    }),
    FaultKind::new("pauses", "processes stop and go on", |options| options.faults.pauses = None),
    FaultKind::new("transfers", "somebody asks for another leader", |options| {
        options.faults.transfers_every = None;
    }),
    FaultKind::new("changes", "somebody wishes for other members", |options| {
        options.faults.changes_every = None;
    }),
    FaultKind::new("rumours", "nodes are told that others are gone, which may be so", |options| {
        options.faults.rumours_every = None;
    }),
    FaultKind::new("settings", "nodes are given other settings while they run", |options| {
        options.faults.settings_every = None;
    }),
    FaultKind::new("versions", "nodes begin with an old program and get the new one", |options| {
        options.faults.upgrades_every = None;
    }),
    FaultKind::new("loss", "messages never arrive", |options| {
        options.faults.network.loss = Chance::NEVER;
    }),
    FaultKind::new("duplication", "messages arrive twice", |options| {
        options.faults.network.duplication = Chance::NEVER;
    }),
    FaultKind::new("reordering", "messages overtake one another", |options| {
        options.faults.network.reorders = false;
    }),
    FaultKind::new(
        "connections",
        "links keep their order, break, and lose what is on its way",
        |o| {
            (o.faults.network.is_stream, o.faults.breaks) = (false, None);
        },
    ),
    FaultKind::new("late-answers", "some answers between nodes are held back", |options| {
        options.faults.network.late_answers = Chance::NEVER;
    }),
    FaultKind::new(
        "client-loss",
        "clients' requests and the answers to them are lost",
        |options| {
            options.faults.network.client_loss = Chance::NEVER;
        },
    ),
    FaultKind::new("swizzles", "links stop one by one and come back in another order", |o| {
        o.faults.swizzles = None;
    }),
    FaultKind::new("omissions", "links lose messages by a rule", |o| o.faults.omissions = None),
    FaultKind::new("slow-links", "some links carry only so many bytes a second", |options| {
        let network = &mut options.faults.network;
        (network.slow, network.slow_bytes_per_second) = (Chance::NEVER, 0);
    }),
    FaultKind::new("stale-messages", "copies of messages arrive minutes later", |options| {
        let network = &mut options.faults.network;
        (network.stale, network.stale_after_max) = (Chance::NEVER, Duration::ZERO);
    }),
    FaultKind::new("clocks", "clocks drift, and jump ahead", |o| o.faults.clocks = None),
    FaultKind::new("ranks", "some voters should rather lead than others", |o| o.ranks.clear()),
    FaultKind::new("slow-network", "messages take long, some of them much longer", |options| {
        let calm = NetworkFaults::calm();
        let network = &mut options.faults.network;
        (network.delay_min, network.delay_mean) = (calm.delay_min, calm.delay_mean);
        (network.tail, network.tail_max) = (calm.tail, calm.tail_max);
    }),
    FaultKind::new("slow-disk", "syncs take long, some of them hang", |options| {
        let calm = DiskPace::calm();
        let disk = &mut options.faults.disk;
        (disk.sync_min, disk.sync_mean) = (calm.sync_min, calm.sync_mean);
        (disk.stall, disk.stall_max) = (calm.stall, calm.stall_max);
    }),
    FaultKind::new("sync-failures", "syncs fail and lose what they should keep", |options| {
        options.faults.disk.faults.sync_fails = Chance::NEVER;
    }),
    FaultKind::new("read-and-write-failures", "reads and writes fail now and then", |options| {
        let faults = &mut options.faults.disk.faults;
        (faults.read_fails, faults.write_fails) = (Chance::NEVER, Chance::NEVER);
    }),
    FaultKind::new("wrong-reads", "reads give something else than what is there", |options| {
        options.faults.disk.faults.misreads = Chance::NEVER;
    }),
    FaultKind::new("short-reads", "reads give less than there is", |options| {
        options.faults.disk.faults.short_reads = Chance::NEVER;
    }),
    FaultKind::new("hanging-disks", "disks finish nothing for a while", |options| {
        options.faults.disk.hangs = None;
    }),
    FaultKind::new("full-disks", "disks are full for a while", |options| {
        options.faults.disk.full = None;
    }),
    FaultKind::new("damage", "data at rest goes bad", |options| {
        let disk = &mut options.faults.disk;
        disk.damage_every = None;
        disk.spares_majority |= disk.losses_every.is_none();
    }),
    FaultKind::new("losses", "machines are lost for ever", |options| {
        let disk = &mut options.faults.disk;
        disk.losses_every = None;
        disk.spares_majority |= disk.damage_every.is_none();
    }),
    FaultKind::new("wipes", "machines come back with empty disks", |options| {
        options.faults.disk.wipes_every = None;
    }),
    FaultKind::new("slow-nodes", "loops and state machines take their time", |options| {
        let calm = Faults::none();
        options.faults.reaction_max = calm.reaction_max;
        options.faults.apply_max = calm.apply_max;
    }),
    FaultKind::new("shuffled-outputs", "a turn's outputs happen in another order", |options| {
        options.faults.shuffled_outputs = Chance::NEVER;
    }),
    FaultKind::new("garbled-messages", "garbled copies of messages arrive, too", |options| {
        options.faults.garbled = Chance::NEVER;
    }),
    FaultKind::new("wrong-disks", "machines start with another one's disk at first", |options| {
        options.faults.wrong_disk = Chance::NEVER;
    }),
    FaultKind::new("failing-engines", "the store's engine refuses a write", |options| {
        options.faults.engine_fails = Chance::NEVER;
    }),
    FaultKind::new("alarms", "clients raise alarms, which forbid commands for a while", |o| {
        o.faults.alarms = Chance::NEVER;
    }),
    FaultKind::new("read-kinds", "reads by lease, reads of bounded age, late answers", |o| {
        (o.reads, o.raft.lease_reads) = (None, false);
    }),
    FaultKind::new("lockstep", "all start together in the end, in an even world", |options| {
        options.faults.ends_in_lockstep = false;
    }),
    FaultKind::new("small-limits", "small batches, windows, caches and segments", |options| {
        let calm = ClusterOptions::calm(options.seed, options.node_count);
        (options.raft, options.driver, options.wal) = (calm.raft, calm.driver, calm.wal);
    }),
];

/// What no honest machine does: a world with one of these has to end badly. They prove that the
/// judges notice, and give the tools for failing worlds something to work on.
pub const SABOTAGES: &[FaultKind] = &[
    FaultKind::new("early-acks", "nodes believe writes durable that are not", |options| {
        options.faults.acks_too_early = true;
    }),
    FaultKind::new("lying-disks", "syncs do nothing", |options| {
        options.faults.disk.faults.sync_lies = Chance::ALWAYS;
    }),
    FaultKind::new("sessions-left-out", "snapshots are without the table of sessions", |options| {
        options.faults.sessions = Some(SessionFault::LeftOutOfSnapshots);
    }),
    FaultKind::new("sessions-of-leaders", "only a leader keeps a table of sessions", |options| {
        options.faults.sessions = Some(SessionFault::KeptByTheLeader);
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_with_every_kind_switched_off_is_a_quiet_one() {
        for seed in 1..=100 {
            let mut options = ClusterOptions::swarm(seed, 3);
            for kind in FAULT_KINDS {
                kind.apply(&mut options);
            }
            let calm = ClusterOptions::calm(seed, 3);
            assert_eq!(format!("{:?}", options.faults), format!("{:?}", calm.faults));
            assert_eq!(format!("{:?}", options.raft), format!("{:?}", calm.raft));
        }
    }

    #[test]
    fn all_is_a_name_beside_others_and_but_some_and_excuses_no_wrong_one() {
        let named = |list| FaultKind::named(list, FAULT_KINDS);
        assert_eq!(named("all,crashes").map(|kinds| kinds.len()), Ok(FAULT_KINDS.len()));
        assert_eq!(named("crashes,loss").map(|kinds| kinds.len()), Ok(2));
        let but_one = named("all,-loss").expect("it is a list");
        assert!(but_one.len() == FAULT_KINDS.len() - 1 && but_one.iter().all(|k| k.name != "loss"));
        assert_eq!(FaultKind::list(&but_one, FAULT_KINDS), "all,-loss");
        assert!(named("all,-gremlins").is_err());
        let refused = named("all,gremlins").expect_err("nothing is called so").to_string();
        assert!(refused.contains("gremlins") && refused.contains("all, crashes"), "{refused}");
    }

    #[test]
    fn kinds_have_different_names() {
        for kind in FAULT_KINDS {
            assert_eq!(FAULT_KINDS.iter().filter(|other| *other == kind).count(), 1);
        }
    }
}
