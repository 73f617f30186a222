//! The small words of the protocol, each a type of its own so that they cannot be confused.
//! Nothing here knows a rule of Raft.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a plain number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number, for encoding and display.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A server of the cluster, for as long as the cluster lives.
    NodeId
}
number! {
    /// A term: Raft's logical clock, with at most one leader each (§3.3). 0 before any election.
    Term
}
number! {
    /// A position in the log. The first entry has index 1; 0 is the place before it.
    LogIndex
}
number! {
    /// Numbers the writes that the core asks for; they complete in this order.
    PersistSeq
}
number! {
    /// The caller's name for one proposal.
    ProposalId
}
number! {
    /// The caller's name for one read.
    ReadId
}

number! {
    /// The caller's name for one wish about the members.
    ChangeId
}

impl Term {
    /// The following term.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl PersistSeq {
    /// The following write.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogIndex {
    /// The place before the first entry.
    pub const ORIGIN: Self = Self(0);

    /// The following index.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The preceding index, or `None` at the origin.
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// How many entries lie in `(earlier, self]`; 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The index `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// The identity of an entry: two entries with the same `LogId` are the same entry, and so are all
/// entries before them (Log Matching Property, §3.5). Ordered by term first: that order is the
/// "more up-to-date" of the election restriction (§3.6.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
}

impl LogId {
    /// The place before the first entry: term 0, index 0.
    pub const ORIGIN: Self = Self { term: Term(0), index: LogIndex(0) };

    /// A log id from its parts.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for LogId {
    /// `index@term`, as in "7@2".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What must survive a crash beside the log (Figure 3.1, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term this server has seen.
    pub current_term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// What a server is at the moment (§3.3, pre-candidate: §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Answers leaders and candidates.
    Follower,
    /// Asks whether it could win, without disturbing anybody's term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Appends and replicates.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// A point in the caller's monotonic time, in microseconds from a start of its choosing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The caller's start of time.
    pub const ZERO: Self = Self(0);

    /// A time that many microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// How far clocks may be off: what a machine's clock measures of any stretch of time differs from how
/// long that is by at most so many millionths of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Drift(u32);

impl Drift {
    /// A drift of so many parts per million: 1,000 is a tenth of a percent.
    #[must_use]
    pub const fn parts_per_million(parts: u32) -> Self {
        Self(parts)
    }

    /// The parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// How long one clock may count on something that was promised for `promised` on another: the
    /// one may be as slow, and the other as fast, as this allows. Nothing, from a million on.
    pub(crate) fn certain_part(self, promised: Duration) -> Duration {
        const MILLION: u128 = 1_000_000;
        // Each of the two reads its clock twice, and in whole microseconds.
        const ROUNDING: u128 = 2;
        let drift = u128::from(self.0);
        let part = promised.as_micros().saturating_mul(MILLION.saturating_sub(drift));
        let part = (part / (MILLION + drift)).saturating_sub(ROUNDING);
        Duration::from_micros(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_clock_may_count_on_is_over_before_a_fast_one_has_counted_it() {
        for drift in [0, 1, 200, 10_000, 400_000, 999_999] {
            for promised in [3, 1_000, 1_000_000, 3_600_000_000] {
                let counted = Drift(drift).certain_part(Duration::from_micros(promised));
                // In true time, each taken to the end of its last microsecond.
                let slow = (counted.as_micros() + 1) * 1_000_000;
                let fast = (u128::from(promised) - 1) * 1_000_000;
                let (slowest, fastest) =
                    (1_000_000 - u128::from(drift), 1_000_000 + u128::from(drift));
                assert!(
                    counted.is_zero() || slow * fastest <= fast * slowest,
                    "{drift} {promised}"
                );
            }
        }
        let promised = Duration::from_secs(1);
        assert_eq!(Drift(0).certain_part(promised), Duration::from_micros(999_998));
        assert_eq!(Drift(10_000).certain_part(promised), Duration::from_micros(980_196));
        assert_eq!(Drift(u32::MAX).certain_part(promised), Duration::ZERO);
    }

    #[test]
    fn indexes_count_the_entries_between_them() {
        let index = LogIndex::new;
        assert_eq!(index(7).distance_from(index(4)), 3);
        assert_eq!(index(4).distance_from(index(7)), 0);
        assert_eq!(index(4).plus(3), index(7));
        assert_eq!((index(1).previous(), index(0).previous()), (Some(index(0)), None));
    }

    #[test]
    fn times_are_microseconds_and_stop_at_the_end() {
        let time = Time::from_micros(5).after(Duration::from_millis(2));
        assert_eq!(time.as_micros(), 2005);
        assert_eq!(time.since(Time::from_micros(5)), Duration::from_millis(2));
        assert_eq!(Time::ZERO.since(time), Duration::ZERO);
        assert_eq!(Time::from_micros(u64::MAX).after(Duration::MAX).as_micros(), u64::MAX);
    }
}
