//! What the reference's answers told so far, which is what the next requests are drawn from. Must not
//! know ours: both are asked what the one made likely.

use crate::answer::Answer;
use crate::chance::Chance;
use std::collections::{BTreeMap, BTreeSet};

/// A token that nobody was ever given. etcd waits for the entry that it names.
const STRANGE_TOKEN: &str = "abcdefghijklmnop.1";

/// What is known of the reference.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four things that are so or not, each by itself")]
pub(crate) struct Known {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Every revision that was compacted to.
    pub(crate) compactions: BTreeSet<i64>,
    pub(crate) member_id: u64,
    /// Leases that were granted and not ended.
    pub(crate) leases: BTreeSet<i64>,
    /// Whether the server has made a lease's id.
    pub(crate) has_named_lease: bool,
    /// Whether users are asked.
    pub(crate) auth: bool,
    /// Whether users were ever asked.
    pub(crate) was_auth: bool,
    /// Whether an alarm is raised.
    pub(crate) is_alarmed: bool,
    /// Users and their passwords.
    pub(crate) users: BTreeMap<String, String>,
    pub(crate) tokens: BTreeMap<String, String>,
    /// A learner that was added and not removed.
    pub(crate) learner: Option<u64>,
    /// How many were asked for.
    pub(crate) added_count: u64,
    /// Leases that were named in a call about a lock or an election.
    pub(crate) claimants: BTreeSet<i64>,
    /// Keys of locks and elections that somebody holds.
    pub(crate) claims: Vec<Claim>,
}

/// What a lock or an election gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    pub(crate) name: String,
    /// As bytes.
    pub(crate) key: Vec<u8>,
    pub(crate) revision: i64,
    pub(crate) lease: i64,
    pub(crate) is_election: bool,
}

impl Known {
    /// Notes the revision that an answer tells.
    pub(crate) fn learn(&mut self, answer: &Answer) {
        self.revision = self.revision.max(answer.number("/header/revision"));
    }

    /// A revision that may be now, past, compacted, to come or none.
    pub(crate) fn revision(&self, chance: &mut Chance) -> i64 {
        let back = i64::try_from(chance.below(12)).unwrap_or(0);
        match chance.below(12) {
            0 => self.compacted - 1,
            1 => self.compacted,
            2 => self.compacted + 1,
            3 => self.revision + 1,
            4 => self.revision + 5,
            5 => chance.of(&[-1, 1, 2, i64::MAX, i64::MIN]),
            6 => self.revision,
            7..=10 => self.revision - back,
            _ => 0,
        }
    }

    /// A lease that is there most of the time; 0 is none.
    pub(crate) fn lease(&self, chance: &mut Chance) -> i64 {
        if chance.one_in(8) {
            return chance.of(&[0, -1, 999, i64::MAX]);
        }
        let leases: Vec<i64> = self.leases.iter().copied().collect();
        chance.of(&leases)
    }

    /// Who asks, with what token.
    pub(crate) fn speaker(&self, chance: &mut Chance) -> (String, Option<String>) {
        if !self.auth {
            return ("nobody".to_owned(), None);
        }
        match chance.below(20) {
            0 => ("nobody".to_owned(), None),
            1 => ("a stranger".to_owned(), Some(STRANGE_TOKEN.to_owned())),
            2..=9 => {
                let users: Vec<_> = self.tokens.keys().cloned().collect();
                let user = chance.of(&users);
                let token = self.tokens.get(&user).cloned();
                (user, token)
            }
            _ => self.root(),
        }
    }

    /// Who may do everything.
    pub(crate) fn root(&self) -> (String, Option<String>) {
        if !self.auth {
            return ("nobody".to_owned(), None);
        }
        ("root".to_owned(), self.tokens.get("root").cloned())
    }
}
