//! What a round is: which servers, which harm and how much of it, all from the round's seed. Does
//! nothing itself.

use crate::harness::{Options, Rng};
use std::fmt;

/// The harm that servers come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGKILL: the system has everything that was written.
    Kill,
    /// A power cut: the disk has what was synced, and any part of the rest.
    Cut,
    /// A write or a sync fails, and then the power.
    Fail,
    /// Bits flip in the files of a server that stands still.
    Flip,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Kill, Self::Cut, Self::Fail, Self::Flip];

    /// What it is called in `QUORATE_KINDS`.
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Cut => "cut",
            Self::Fail => "fail",
            Self::Flip => "flip",
        }
    }
}

/// The kinds that a run plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    /// Those that `QUORATE_KINDS` names, separated by commas; without it all of them.
    ///
    /// # Panics
    ///
    /// If it names another one.
    pub(crate) fn given() -> Self {
        let given = std::env::var("QUORATE_KINDS").ok();
        given.map_or_else(|| Self(Kind::ALL.to_vec()), |text| Self::named(&text))
    }

    fn named(text: &str) -> Self {
        let kind = |name: &str| {
            let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            found.unwrap_or_else(|| {
                panic!("QUORATE_KINDS: expected kill, cut, fail or flip, found `{name}`")
            })
        };
        Self(text.split(',').map(kind).collect())
    }

    /// [`TURNS`], without those of other kinds.
    fn turns(&self) -> Vec<(Kind, usize)> {
        TURNS.into_iter().filter(|(kind, _)| self.0.contains(kind)).collect()
    }
}

/// Rounds with seeds in a row have these kinds in turn, with so many servers.
const TURNS: [(Kind, usize); 10] = [
    (Kind::Kill, 1),
    (Kind::Cut, 3),
    (Kind::Flip, 1),
    (Kind::Cut, 1),
    (Kind::Fail, 3),
    (Kind::Kill, 3),
    (Kind::Cut, 3),
    (Kind::Flip, 3),
    (Kind::Cut, 1),
    (Kind::Fail, 1),
];
/// How often in a round servers come to harm.
const STRIKES: u64 = 3;
const ELECTION_TIMEOUT_MS: u64 = 500;
/// A reserve in proportion to the small disks.
const RESERVE_BYTES: u64 = 1 << 20;

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) server_count: usize,
    pub(crate) strikes: u64,
    /// How many rounds of these kinds come before it, by its seed: what is tried in turn goes by that.
    pub(crate) turn: u64,
    /// Whether the log is in a folder of its own.
    pub(crate) has_log_elsewhere: bool,
    /// Up to how long values are.
    pub(crate) digits_max: usize,
    /// `--snapshot-count`, if not the usual one: how soon the log is released behind the state.
    snapshot_count: Option<u64>,
    /// Whether the disks give less than they are asked for.
    pub(crate) has_short_reads: bool,
    kinds: Kinds,
}

impl Plan {
    /// The round of this seed, on a machine that may have no disks that forget.
    pub(crate) fn of(seed: u64, kinds: &Kinds, can_forget: bool) -> Self {
        let mut rng = Rng::new(seed, 0);
        let turns = kinds.turns();
        let turn = seed / turns.len() as u64;
        let place = usize::try_from(seed % turns.len() as u64).expect("a short list");
        let (kind, server_count) = match turns[place] {
            (Kind::Cut | Kind::Fail, server_count) if !can_forget => (Kind::Kill, server_count),
            turn => turn,
        };
        let snapshot_count = *rng.pick(&[None, Some(50), Some(200)]);
        Self {
            seed,
            kind,
            server_count,
            strikes: if kind == Kind::Flip { 1 } else { STRIKES },
            digits_max: *rng.pick(&[0, 2_000, 40_000]),
            // Who is told to move his state away needs the whole log.
            snapshot_count: snapshot_count.filter(|_| kind != Kind::Fail),
            has_short_reads: rng.below(3) == 0,
            turn,
            has_log_elsewhere: kind == Kind::Flip && !turn.is_multiple_of(2),
            kinds: kinds.clone(),
        }
    }

    /// What to type to play it again.
    pub(crate) fn replay(&self) -> String {
        let command = format!("cargo xtask crash --rounds 1 --seed {}", self.seed);
        if self.kinds.turns().len() == TURNS.len() {
            return command;
        }
        let names: Vec<&str> = self.kinds.0.iter().map(|kind| kind.name()).collect();
        format!("{command} --kinds {}", names.join(","))
    }

    /// Whether the servers' disks forget.
    pub(crate) fn needs_disks(&self) -> bool {
        matches!(self.kind, Kind::Cut | Kind::Fail)
    }

    /// How the servers are started.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::servers(self.server_count);
        options.heartbeat_ms = ELECTION_TIMEOUT_MS / 10;
        options.election_timeout_ms = ELECTION_TIMEOUT_MS;
        options.more.push(("--disk-reserve".to_owned(), RESERVE_BYTES.to_string()));
        if let Some(count) = self.snapshot_count {
            options.more.push(("--snapshot-count".to_owned(), count.to_string()));
        }
        options
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Kill => "kills",
            Kind::Cut => "power cuts",
            Kind::Fail => "failing disks",
            Kind::Flip => "flipped bits",
        };
        let servers = if self.server_count == 1 { "server" } else { "servers" };
        write!(out, "{what}, {} {servers}, values up to {} B", self.server_count, self.digits_max)?;
        if let Some(count) = self.snapshot_count {
            write!(out, ", a snapshot every {count} entries")?;
        }
        if self.needs_disks() && self.has_short_reads {
            write!(out, ", short reads")?;
        }
        if self.has_log_elsewhere {
            write!(out, ", logs in folders of their own")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_chosen_kinds_come_in_turn_with_one_server_and_three() {
        let kinds = Kinds::named("kill");
        let plans: Vec<Plan> = (7..11).map(|seed| Plan::of(seed, &kinds, true)).collect();
        assert!(plans.iter().all(|plan| plan.kind == Kind::Kill));
        let counts: Vec<usize> = plans.iter().map(|plan| plan.server_count).collect();
        assert_eq!(counts, [3, 1, 3, 1]);
        assert_eq!(plans[0].replay(), "cargo xtask crash --rounds 1 --seed 7 --kinds kill");
        let any = Plan::of(7, &Kinds(Kind::ALL.to_vec()), true);
        assert_eq!(any.replay(), "cargo xtask crash --rounds 1 --seed 7");
    }

    #[test]
    #[should_panic(expected = "expected kill, cut, fail or flip, found `kil`")]
    fn a_kind_that_there_is_not_is_named() {
        Kinds::named("flip,kil");
    }
}
