//! Whether this node's own disk may speak for it: a disk that is new under a known name has none of
//! the promises that were made by that name. Decides by what the log and the other nodes say; must
//! not know how either is asked.

use super::io::{Beginning, Introduction};
use quorate_core::{Configuration, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Pauses between two introductions to those who have not answered grow by doubling, from one sweep
/// up to so many.
const PAUSE_SWEEPS_MAX: u32 = 10;

/// A node's own disk, as its log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnDisk {
    /// Its identity, minted with the folder.
    pub storage_id: u128,
    /// How often its log was opened.
    pub era: u32,
    /// Whether it is known to hold all that this node has ever promised.
    pub is_proven: bool,
    /// What its log began with, if not with nothing and as long as it still starts there.
    pub beginning: Option<Beginning>,
}

/// Whether a node votes and counts, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does, as far as the configuration lets it.
    Admitted,
    /// The cluster begins only when all its founders have been up together: these have not been
    /// heard, or are not ready.
    Founding {
        /// Who is waited for; nobody while it is being written down that all were heard.
        missing: Vec<NodeId>,
    },
    /// This folder was made from a backup, and those of these founders were not, or from another
    /// one: a cluster has one beginning.
    Unlike {
        /// Who begins otherwise.
        others: Vec<NodeId>,
    },
    /// It does not: its disk does not hold what it promised.
    Recovering(Recovering),
}

/// What is wrong with a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovering {
    /// The configuration knows the node with another disk.
    OtherDisk {
        /// The disk that it is known with.
        recorded: u128,
        /// The disk that it has.
        own: u128,
    },
    /// The disk is new, and the cluster is not: it is recorded once a leader is told of it, unless
    /// the node votes already.
    NewDisk {
        /// The disk that it has.
        own: u128,
    },
    /// The disk was put back from an older copy: others remember more of it than it knows itself.
    OlderDisk {
        /// Who remembers.
        witness: NodeId,
    },
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted => f.write_str("this member is admitted"),
            Self::Founding { missing } if missing.is_empty() => {
                f.write_str("founding: all founders are there, and that is being written down")
            }
            Self::Founding { missing } => {
                write!(f, "founding waits for {}", list(missing))
            }
            Self::Unlike { others } => write!(
                f,
                "founding waits until {} has the same beginning: this folder was made from a backup, \
                 and that one was not, or from another file, or with other flags",
                list(others)
            ),
            Self::Recovering(recovering) => recovering.fmt(f),
        }
    }
}

fn list(ids: &[NodeId]) -> String {
    ids.iter().map(|id| format!("node {id}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Recovering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherDisk { recorded, own } => write!(
                f,
                "the cluster knows this member with another disk ({recorded:032x}, not {own:032x}): \
                 this folder is new or another one, and what the member had promised is lost with \
                 the old one"
            ),
            Self::NewDisk { own } => write!(
                f,
                "this folder ({own:032x}) is new and the cluster is not: either this member has just \
                 joined and is taken in shortly, or what it had promised is lost with an earlier \
                 folder"
            ),
            Self::OlderDisk { witness } => write!(
                f,
                "this folder was put back from an older copy: node {witness} remembers more of it \
                 than it holds"
            ),
        }
    }
}

/// What this node knows of itself, for [`judge`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) id: NodeId,
    pub(super) is_proven: bool,
    /// Something came after what its log began with.
    pub(super) has_history: bool,
}

/// What another node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) is_proven: bool,
    pub(super) has_history: bool,
}

/// What follows for a disk that no configuration records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may vote.
    Admitted,
    /// Nobody has promised anything: it is the first of its name, and that is to be written down.
    Prove,
    /// It cannot be known before these are heard.
    Waits(Vec<NodeId>),
    /// It may not vote before a configuration records it.
    New,
}

/// Decides whether a disk that no configuration records may vote; `first` is what its log begins
/// with.
///
/// Nobody votes before all founders have been heard, and each has durably noted that all were there
/// without a past. So whoever comes later with an empty disk hears of a past from at least one: what
/// is committed is on a majority, and every founder is asked.
pub(super) fn judge(
    own: Own,
    first: &Configuration,
    heard: &BTreeMap<NodeId, Told>,
    hears_history: bool,
) -> Verdict {
    if own.has_history || hears_history || !first.is_voter(own.id) {
        return if own.is_proven { Verdict::Admitted } else { Verdict::New };
    }
    let others = first.voters().filter(|id| *id != own.id);
    let is_ready = |id: &NodeId| heard.get(id).is_some_and(|told| told.is_proven || !own.is_proven);
    let missing: Vec<NodeId> = others.filter(|id| !is_ready(id)).collect();
    match (missing.is_empty(), own.is_proven) {
        (true, true) => Verdict::Admitted,
        (true, false) => Verdict::Prove,
        (false, _) => Verdict::Waits(missing),
    }
}

/// This node's standing, and when it next introduces itself.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) own: OwnDisk,
    /// What others answered to this disk in this life.
    heard: BTreeMap<NodeId, Told>,
    /// Somebody has a past; once heard this is not forgotten.
    hears_history: bool,
    /// Who has no past either, and began otherwise.
    pub(super) unlike: BTreeSet<NodeId>,
    /// It is being written down that this disk is proven.
    pub(super) is_proving: bool,
    /// Who remembers more of this disk than it knows itself.
    pub(super) older_than: Option<NodeId>,
    /// When to introduce this node next, to whoever needs it.
    pub(super) next_at: Option<Time>,
    /// The next pause, in sweeps.
    pause_sweeps: u32,
    /// Everybody was told once.
    pub(super) has_begun: bool,
}

impl Standing {
    /// Nobody was heard yet.
    pub(super) const fn new(own: OwnDisk) -> Self {
        Self {
            own,
            heard: BTreeMap::new(),
            hears_history: false,
            unlike: BTreeSet::new(),
            is_proving: false,
            older_than: None,
            next_at: Some(Time::ZERO),
            pause_sweeps: 1,
            has_begun: false,
        }
    }

    /// Another node has introduced itself. Only an answer to this very disk says that there is no
    /// past: anything else may have been sent before it. Returns whether it was news that has to be
    /// asked for.
    pub(super) fn hears(&mut self, from: NodeId, introduction: &Introduction) -> bool {
        let Introduction { is_proven, has_history, beginning, answers, .. } = *introduction;
        // Who begins with nothing has lost what the others begin with.
        self.hears_history |= has_history || (self.own.beginning.is_none() && beginning.is_some());
        let is_alike = has_history || beginning == self.own.beginning;
        let is_newly_unlike = !is_alike && self.unlike.insert(from);
        if is_alike {
            self.unlike.remove(&from);
        } else {
            self.heard.remove(&from);
        }
        let told = Told { is_proven, has_history };
        match answers {
            Some(seen) if seen.storage_id == self.own.storage_id => {
                if seen.era > self.own.era {
                    self.older_than = Some(from);
                }
                if is_alike {
                    self.heard.insert(from, told);
                }
                false
            }
            Some(_) => false,
            None if !is_alike => is_newly_unlike,
            None => self.heard.get(&from) != Some(&told),
        }
    }

    /// See [`judge`].
    pub(super) fn verdict(&self, id: NodeId, has_history: bool, first: &Configuration) -> Verdict {
        let own = Own { id, is_proven: self.own.is_proven, has_history };
        judge(own, first, &self.heard, self.hears_history)
    }

    /// The next introduction is due a while after `now`, each time later.
    pub(super) fn rest(&mut self, now: Time, sweep_interval: Duration) {
        self.next_at = Some(now.after(sweep_interval * self.pause_sweeps));
        self.pause_sweeps = (self.pause_sweeps * 2).min(PAUSE_SWEEPS_MAX);
    }

    /// Something has changed that everybody should know.
    pub(super) const fn tell_all(&mut self, now: Time) {
        self.next_at = Some(now);
        self.pause_sweeps = 1;
        self.has_begun = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{LogId, LogIndex, Member, MemberRole, Term};

    const ME: NodeId = NodeId::new(1);

    fn founders(voters: u64, learners: u64) -> Configuration {
        let member = |id| {
            let role = if id <= voters { MemberRole::Voter } else { MemberRole::Learner };
            let context = bytes::Bytes::new();
            (NodeId::new(id), Member { role, rank: 0, address: String::new(), context })
        };
        Configuration::new(0, (1..=voters + learners).map(member).collect())
    }

    /// `2:- 3:p 4:h`: what others answered: nothing to tell, proven, with a past.
    fn heard(text: &str) -> BTreeMap<NodeId, Told> {
        let words = text.split_whitespace().map(|word| {
            let (id, told) = word.split_once(':').unwrap();
            let (is_proven, has_history) = (told != "-", told == "h");
            (NodeId::new(id.parse().unwrap()), Told { is_proven, has_history })
        });
        words.collect()
    }

    fn waits(ids: &[u64]) -> Verdict {
        Verdict::Waits(ids.iter().map(|id| NodeId::new(*id)).collect())
    }

    /// Each row: proven, with a past, what others answered, and what follows.
    #[test]
    fn a_disk_that_nothing_records_is_judged_by_its_past_and_by_all_founders() {
        let rows = [
            (true, true, "", Verdict::Admitted),
            (false, true, "", Verdict::New),
            (false, true, "2:- 3:-", Verdict::New),
            (false, false, "", waits(&[2, 3])),
            (false, false, "2:-", waits(&[3])),
            (false, false, "2:p", waits(&[3])),
            (false, false, "2:- 3:p", Verdict::Prove),
            (false, false, "2:p 3:p", Verdict::Prove),
            (false, false, "2:h", Verdict::New),
            (false, false, "2:- 3:h", Verdict::New),
            (true, false, "", waits(&[2, 3])),
            (true, false, "2:- 3:p", waits(&[2])),
            (true, false, "2:p 3:p", Verdict::Admitted),
            (true, false, "2:h", Verdict::Admitted),
        ];
        for (is_proven, has_history, answers, expected) in rows {
            let own = Own { id: ME, is_proven, has_history };
            let heard = heard(answers);
            let hears_history = heard.values().any(|told| told.has_history);
            let verdict = judge(own, &founders(3, 1), &heard, hears_history);
            assert_eq!(verdict, expected, "{is_proven} {has_history} {answers}");
        }
    }

    #[test]
    fn who_founds_alone_waits_for_nobody_and_who_founds_nothing_is_new() {
        let own = |id| Own { id, is_proven: false, has_history: false };
        let judged = |id, first: &Configuration| judge(own(id), first, &BTreeMap::new(), false);
        assert_eq!(judged(ME, &founders(1, 2)), Verdict::Prove);
        assert_eq!(judged(NodeId::new(2), &founders(1, 2)), Verdict::New, "a learner");
        assert_eq!(judged(ME, &Configuration::default()), Verdict::New, "it joins");
    }

    #[test]
    fn only_an_answer_to_this_disk_says_that_there_is_no_past() {
        let own = OwnDisk { storage_id: 7, era: 2, is_proven: false, beginning: None };
        let mut standing = Standing::new(own);
        let seen = |storage_id, era| Some(super::super::io::Seen { storage_id, era });
        let told = |has_history, answers| Introduction {
            storage_id: 20,
            era: 1,
            is_proven: has_history,
            has_history,
            beginning: None,
            answers,
        };
        let two = NodeId::new(2);
        let verdict = |standing: &Standing| standing.verdict(ME, false, &founders(2, 0));
        assert!(standing.hears(two, &told(false, None)), "to be asked for");
        assert!(!standing.hears(two, &told(false, seen(6, 1))), "to an earlier disk");
        assert_eq!(verdict(&standing), waits(&[2]));
        assert!(!standing.hears(two, &told(false, seen(7, 2))));
        assert_eq!((verdict(&standing), standing.older_than), (Verdict::Prove, None));
        standing.hears(two, &told(true, None));
        assert_eq!(verdict(&standing), Verdict::New, "a past is believed from anybody");
        standing.hears(two, &told(false, seen(7, 3)));
        assert_eq!((verdict(&standing), standing.older_than), (Verdict::New, Some(two)));
    }

    fn beginning(checksum: u32) -> Beginning {
        let last_included = LogId::new(Term::new(5), LogIndex::new(70));
        Beginning { last_included, checksum }
    }

    /// One that answers to disk 7, and has no past.
    fn answer(beginning: Option<Beginning>) -> Introduction {
        let answers = Some(super::super::io::Seen { storage_id: 7, era: 2 });
        let (storage_id, era, is_proven, has_history) = (20, 1, false, false);
        Introduction { storage_id, era, is_proven, has_history, beginning, answers }
    }

    #[test]
    fn founders_that_begin_with_a_backup_wait_until_all_begin_with_the_same() {
        let own =
            OwnDisk { storage_id: 7, era: 2, is_proven: false, beginning: Some(beginning(1)) };
        let mut standing = Standing::new(own);
        let two = NodeId::new(2);
        let verdict = |standing: &Standing| standing.verdict(ME, false, &founders(2, 0));
        for other in [None, Some(beginning(2))] {
            assert!(!standing.hears(two, &answer(other)));
            assert_eq!(verdict(&standing), waits(&[2]));
            assert_eq!(standing.unlike, [two].into());
        }
        let asks = Introduction { answers: None, ..answer(None) };
        assert!(!standing.hears(two, &asks), "it was heard already: asking again would never end");
        assert!(!standing.hears(two, &answer(Some(beginning(1)))));
        assert_eq!((verdict(&standing), standing.unlike.len()), (Verdict::Prove, 0));
        assert!(!standing.hears(two, &answer(None)), "its folder was emptied again");
        assert_eq!(verdict(&standing), waits(&[2]));
    }

    #[test]
    fn who_begins_with_nothing_has_lost_what_the_others_begin_with() {
        let own = OwnDisk { storage_id: 7, era: 2, is_proven: false, beginning: None };
        let mut standing = Standing::new(own);
        standing.hears(NodeId::new(2), &answer(Some(beginning(1))));
        assert_eq!(standing.verdict(ME, false, &founders(2, 0)), Verdict::New);
    }
}
