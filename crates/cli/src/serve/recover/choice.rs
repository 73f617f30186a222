//! Which of the remaining folders a cluster goes on from, and what can be said of what is missing then.
//! Decides by Raft's order (§3.6.1) and by who could have decided without these folders; reads nothing.

use super::remains::{Reach, Remains, Root};
use quorate::core::{Configuration, LogId, LogIndex, MemberRole, NodeId};
use quorate::wal::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What a folder is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Its log is sound.
    Source {
        /// The last entry that a store can be brought to.
        end: LogId,
    },
    /// Its log is damaged: of use up to here, if that is accepted.
    Damaged {
        /// The last entry before the damage that a store can be brought to.
        end: LogId,
        /// The operator has said so.
        is_accepted: bool,
    },
    /// None.
    Useless(Why),
}

/// Why a folder is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    /// It does not say whose it is.
    #[error("it does not say whose it is: {0}")]
    Nameless(String),
    /// Nothing was ever written.
    #[error("nothing was ever written to its log")]
    Empty,
    /// It never was a member's that counted.
    #[error(
        "it is a new folder that never counted: its cluster had not begun, or had not taken it in"
    )]
    Unproven,
    /// The member was known with another disk at last.
    #[error(
        "it is not the disk that the cluster knew the member with ({recorded:032x}): it was emptied, or \
         was replaced"
    )]
    OtherDisk {
        /// That disk.
        recorded: u128,
    },
    /// There is a newer image of the same disk.
    #[error("it is an older image of {}", newer.display())]
    Older {
        /// Where.
        newer: PathBuf,
    },
    /// Its log does not begin with the first entry, and what was before is gone.
    #[error("neither its state nor a snapshot reaches to where its log begins")]
    NoBeginning,
}

/// What can be said of entries that are in none of these folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Assurance {
    /// Without one of the sound folders nothing could be committed: all that was acknowledged is here.
    Complete,
    /// The members that are not here could decide among themselves.
    MayMiss {
        /// The voters without a sound folder here.
        absent: Vec<NodeId>,
    },
}

/// What was chosen.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// What each folder is good for.
    pub(super) worths: Vec<Worth>,
    /// Which is the best.
    pub(super) best: usize,
    pub(super) reach: Reach,
    /// The members at its end.
    pub(super) configuration: Arc<Configuration>,
    /// Everything up to here was committed, by what any folder says.
    pub(super) committed: LogIndex,
    pub(super) assurance: Assurance,
    /// The sound folders are a quorum: the members could simply be started.
    pub(super) is_needless: bool,
}

/// Why nothing was chosen.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoChoice {
    /// The folders are not of one cluster.
    #[error(
        "{} is of cluster {first_id:x}, and {} of cluster {other_id:x}: give folders of one cluster",
        first.display(),
        other.display()
    )]
    Clusters { first: PathBuf, first_id: u64, other: PathBuf, other_id: u64 },
    /// No folder can be used.
    #[error("none of these folders can be used:{}", list(folders))]
    NoSource { folders: Vec<(PathBuf, Worth)> },
    /// The operator accepts a loss that there is not.
    #[error(
        "--accept-loss-after {given}: no damaged folder here ends with entry {given}; the plan names the \
         flag where it is of use"
    )]
    NoSuchLoss { given: LogIndex },
}

fn list(folders: &[(PathBuf, Worth)]) -> String {
    let lines = folders.iter().map(|(dir, worth)| format!("\n  {}: {worth}", dir.display()));
    lines.collect()
}

impl std::fmt::Display for Worth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source { end } => write!(f, "sound, of use up to entry {end}"),
            Self::Damaged { end, is_accepted: true } => {
                write!(f, "damaged; used up to entry {end}, the loss behind it accepted")
            }
            Self::Damaged { end, is_accepted: false } => write!(
                f,
                "damaged, and not used. It could be up to entry {end}, with --accept-loss-after {}: \
                 whatever it held behind that is given up, acknowledged or not",
                end.index
            ),
            Self::Useless(why) => write!(f, "not used: {why}"),
        }
    }
}

/// Chooses; `accepted` are the entries after which the operator accepts the loss of what a damaged
/// log held.
pub(super) fn choose(folders: &[Remains], accepted: &[LogIndex]) -> Result<Choice, NoChoice> {
    check_one_cluster(folders)?;
    let newest = newest_configuration(folders);
    let worth = |(place, folder)| worth(folders, place, folder, newest.as_deref(), accepted);
    let worths: Vec<Worth> = folders.iter().enumerate().map(worth).collect();
    let is_unused = |index: &&LogIndex| {
        let ends =
            |worth: &Worth| matches!(worth, Worth::Damaged { end, .. } if end.index == **index);
        !worths.iter().any(ends)
    };
    if let Some(given) = accepted.iter().find(is_unused) {
        return Err(NoChoice::NoSuchLoss { given: *given });
    }
    let candidates =
        worths.iter().zip(folders).enumerate().filter_map(|(place, (worth, folder))| {
            let is_sound = matches!(worth, Worth::Source { .. });
            let is_usable = is_sound || matches!(worth, Worth::Damaged { is_accepted: true, .. });
            let reach = folder.reach().filter(|_| is_usable)?;
            // Of equal ones a sound one, the shortest way, the first given.
            Some(((reach.end, is_sound, reach.from, usize::MAX - place), (place, reach)))
        });
    let Some((_, (best, reach))) = candidates.max_by_key(|(order, _)| *order) else {
        let dirs = folders.iter().map(|folder| folder.dir.clone());
        return Err(NoChoice::NoSource { folders: dirs.zip(worths).collect() });
    };
    let configuration = folders.get(best).and_then(|best| best.configuration_at(reach.end.index));
    let configuration = configuration.unwrap_or_default();
    let present = present(folders, &worths, &configuration);
    let is_needless = configuration.has_quorum(|id| present.contains(&id));
    let assurance = assurance(&configuration, &present);
    let committed = folders.iter().map(Remains::known_committed).max().unwrap_or_default();
    Ok(Choice { worths, best, reach, configuration, committed, assurance, is_needless })
}

fn check_one_cluster(folders: &[Remains]) -> Result<(), NoChoice> {
    let mut known = folders
        .iter()
        .filter_map(|folder| Some((&folder.dir, folder.root.as_ref()?.identity.cluster_id)));
    let Some((first, first_id)) = known.next() else { return Ok(()) };
    match known.find(|(_, id)| *id != first_id) {
        Some((other, other_id)) => {
            let (first, other) = (first.clone(), other.clone());
            Err(NoChoice::Clusters { first, first_id, other, other_id })
        }
        None => Ok(()),
    }
}

/// The newest that any folder knows of: whose disks it records, they are.
fn newest_configuration(folders: &[Remains]) -> Option<Arc<Configuration>> {
    let last = LogIndex::new(u64::MAX);
    let all = folders.iter().filter_map(|folder| folder.configuration_at(last));
    all.max_by_key(|configuration| configuration.version)
}

fn worth(
    folders: &[Remains],
    place: usize,
    folder: &Remains,
    newest: Option<&Configuration>,
    accepted: &[LogIndex],
) -> Worth {
    let Some(root) = &folder.root else {
        return Worth::Useless(Why::Nameless(folder.log.verdict.clone()));
    };
    if let Some(newer) = newer_image(folders, place, root) {
        return Worth::Useless(Why::Older { newer });
    }
    let id = root.identity.node_id;
    let recorded = newest.and_then(|newest| newest.storages.get(&id));
    match recorded {
        Some(recorded) if *recorded != root.identity.storage_id => {
            return Worth::Useless(Why::OtherDisk { recorded: *recorded });
        }
        None if root.standing == Standing::Unproven => return Worth::Useless(Why::Unproven),
        Some(_) | None => {}
    }
    match folder.reach() {
        None => Worth::Useless(Why::NoBeginning),
        Some(Reach { end, .. }) if end == LogId::ORIGIN => Worth::Useless(Why::Empty),
        Some(Reach { end, .. }) if folder.log.is_sound => Worth::Source { end },
        Some(Reach { end, .. }) => {
            Worth::Damaged { end, is_accepted: accepted.contains(&end.index) }
        }
    }
}

/// Where the same disk is as of a later time. How often it was opened says so, and then how far it
/// is; of two that are alike in both the first given counts.
fn newer_image(folders: &[Remains], place: usize, root: &Root) -> Option<PathBuf> {
    let age = |root: &Root, folder: &Remains| (root.era, root.term, folder.last_log());
    let own = folders.get(place).map(|folder| age(root, folder))?;
    let others = folders.iter().enumerate().filter_map(|(at, other)| {
        let its = other.root.as_ref()?;
        let is_same = its.identity == root.identity && at != place;
        let age = age(its, other);
        (is_same && (age > own || (age == own && at < place))).then_some((age, &other.dir))
    });
    others.max_by_key(|(age, _)| *age).map(|(_, dir)| dir.clone())
}

/// The voters whose promises are all here: those with a sound folder on the disk that is known.
fn present(
    folders: &[Remains],
    worths: &[Worth],
    configuration: &Configuration,
) -> BTreeSet<NodeId> {
    let sound = folders.iter().zip(worths).filter(|(_, it)| matches!(it, Worth::Source { .. }));
    let ids = sound.filter_map(|(folder, _)| Some(folder.root.as_ref()?.identity.node_id));
    ids.filter(|id| configuration.is_voter(*id)).collect()
}

/// Whatever was committed at the end of the best log or behind it needed a majority of its voters, in
/// a joint configuration of each half (§4.3); and the next configuration needed that as well. So if in
/// neither half the absent are a majority, somebody present holds all that was committed, and the best
/// log is at least as far (§3.6.1).
fn assurance(configuration: &Configuration, present: &BTreeSet<NodeId>) -> Assurance {
    let decides = |counts: fn(MemberRole) -> bool| {
        let half: BTreeMap<_, _> =
            configuration.members.iter().filter(|(_, member)| counts(member.role)).collect();
        let absent = half.keys().filter(|id| !present.contains(**id)).count();
        absent * 2 > half.len() || half.is_empty()
    };
    if decides(MemberRole::is_incoming_voter) || decides(MemberRole::is_outgoing_voter) {
        let absent = configuration.voters().filter(|id| !present.contains(id)).collect();
        return Assurance::MayMiss { absent };
    }
    Assurance::Complete
}

#[cfg(test)]
mod tests {
    use super::super::remains::tests::{at, remains, state, three};
    use super::*;
    use quorate::core::{Member, Term};

    fn chosen(folders: &[Remains]) -> Choice {
        choose(folders, &[]).unwrap()
    }

    /// Each row: where the folders of n1, n2 and n3 end, and whose is the best.
    #[test]
    fn the_best_log_is_the_one_with_the_highest_last_term_and_then_the_longest() {
        let rows = [
            (&["9@2"][..], 0),
            (&["9@2", "8@2"], 0),
            (&["8@2", "9@2"], 1),
            (&["9@2", "3@3"], 1),
            (&["3@3", "9@2", "4@3"], 2),
            (&["9@2", "9@2"], 0),
        ];
        for (ends, best) in rows {
            let folders = (1..).zip(ends).map(|(id, end)| remains(id, end));
            let folders: Vec<Remains> = folders.collect();
            let choice = chosen(&folders);
            assert_eq!((choice.best, choice.reach.end), (best, at(ends[best])), "{ends:?}");
        }
    }

    fn damaged(id: u64, end: &str) -> Remains {
        let mut folder = remains(id, end);
        folder.log.is_sound = false;
        folder.log.case = "wounded";
        folder
    }

    #[test]
    fn a_damaged_log_is_unused_up_to_the_damage_only_if_that_very_loss_is_accepted() {
        let folders = [remains(1, "7@2"), damaged(2, "9@2")];
        let choice = chosen(&folders);
        assert_eq!((choice.best, choice.reach.end), (0, at("7@2")));
        let is_accepted = false;
        assert_eq!(choice.worths[1], Worth::Damaged { end: at("9@2"), is_accepted });
        let choice = choose(&folders, &[LogIndex::new(9)]).unwrap();
        assert_eq!((choice.best, choice.reach.end), (1, at("9@2")));
        // Whose log is damaged vouches for nothing.
        let absent = vec![NodeId::new(2), NodeId::new(3)];
        assert_eq!(choice.assurance, Assurance::MayMiss { absent });
        let refused = choose(&folders, &[LogIndex::new(8)]).unwrap_err();
        assert!(matches!(refused, NoChoice::NoSuchLoss { given } if given == LogIndex::new(8)));
        let refused = choose(&folders[1..], &[]).unwrap_err().to_string();
        assert!(refused.contains("--accept-loss-after 9"), "{refused}");
        // Of two that reach equally far the sound one.
        let folders = [damaged(1, "9@2"), remains(2, "9@2")];
        assert_eq!(choose(&folders, &[LogIndex::new(9)]).unwrap().best, 1);
    }

    #[test]
    fn what_any_folder_knows_to_be_committed_is_known_though_it_is_not_the_best() {
        let mut folders = [remains(1, "7@2"), damaged(2, "3@2")];
        folders[1].state = state("8@2", 8);
        let choice = chosen(&folders);
        assert_eq!((choice.best, choice.committed), (0, LogIndex::new(8)));
        assert_eq!(choose(&folders, &[LogIndex::new(8)]).unwrap().reach.end, at("8@2"));
    }

    #[test]
    fn a_folder_that_was_emptied_or_is_new_or_nameless_or_empty_is_no_source() {
        let with = |change: fn(&mut Remains)| {
            let mut folder = remains(2, "9@2");
            change(&mut folder);
            let choice = chosen(&[remains(1, "7@2"), folder]);
            assert_eq!(choice.best, 0);
            choice.worths[1].clone()
        };
        let worth = with(|folder| folder.root.as_mut().unwrap().identity.storage_id = 99);
        assert_eq!(worth, Worth::Useless(Why::OtherDisk { recorded: 32 }));
        let worth = with(|folder| folder.root = None);
        assert!(matches!(worth, Worth::Useless(Why::Nameless(_))));
        let worth = with(|folder| folder.root.as_mut().unwrap().base.last_included = at("5@1"));
        assert_eq!(worth, Worth::Useless(Why::NoBeginning));
        let worth = with(|folder| folder.log.trace = super::super::remains::Trace::default());
        assert_eq!(worth, Worth::Useless(Why::Empty));
        let mut unproven = remains(4, "9@2");
        unproven.root.as_mut().unwrap().standing = Standing::Unproven;
        let choice = chosen(&[remains(1, "7@2"), unproven]);
        assert_eq!(choice.worths[1], Worth::Useless(Why::Unproven));
    }

    #[test]
    fn an_older_image_of_the_same_disk_is_noticed_and_one_of_two_equal_ones_is_left_out() {
        let image = |dir: &str, era: u32, end: &str| {
            let mut folder = remains(1, end);
            folder.dir = dir.into();
            folder.root.as_mut().unwrap().era = era;
            folder
        };
        let older = |newer: &str| Worth::Useless(Why::Older { newer: newer.into() });
        // It was opened once more since, and is shorter: the end was overwritten.
        let choice = chosen(&[image("old", 2, "9@2"), image("new", 3, "8@2")]);
        assert_eq!((choice.best, &choice.worths[0]), (1, &older("new")));
        let choice = chosen(&[image("new", 2, "9@2"), image("old", 2, "8@2")]);
        assert_eq!((choice.best, &choice.worths[1]), (0, &older("new")));
        let choice = chosen(&[image("one", 2, "9@2"), image("same", 2, "9@2")]);
        assert_eq!((choice.best, &choice.worths[1]), (0, &older("one")));
    }

    #[test]
    fn folders_of_different_clusters_are_refused() {
        let mut other = remains(2, "9@2");
        other.root.as_mut().unwrap().identity.cluster_id = 7;
        let refused = choose(&[remains(1, "7@2"), other], &[]).unwrap_err().to_string();
        assert!(
            refused.contains("n1.data is of cluster c1, and n2.data of cluster 7"),
            "{refused}"
        );
    }

    fn configuration(roles: &str) -> Configuration {
        let member = |(id, role): (u64, char)| {
            let role = match role {
                'v' => MemberRole::Voter,
                'i' => MemberRole::Incoming,
                'o' => MemberRole::Outgoing,
                _ => MemberRole::Learner,
            };
            let context = bytes::Bytes::new();
            (NodeId::new(id), Member { role, rank: 0, address: String::new(), context })
        };
        Configuration::new(1, (1..).zip(roles.chars()).map(member).collect())
    }

    /// Each row: the roles of members 1, 2, ..., who is present, and whether the absent could have
    /// decided something by themselves.
    #[test]
    fn nothing_acknowledged_is_missing_if_the_absent_could_decide_nothing() {
        let rows = [
            ("v", &[1][..], false),
            ("vv", &[2], false),
            ("vvv", &[1], true),
            ("vvv", &[1, 3], false),
            ("vvvv", &[1], true),
            ("vvvv", &[1, 4], false),
            ("vvvvv", &[1, 2], true),
            ("vvvvv", &[1, 2, 3], false),
            ("vvvl", &[1, 4], true),
            ("vvl", &[1], false),
            // A joint configuration: neither half of it, and nothing that may follow.
            ("ooovii", &[4], true),
            ("ooovii", &[1, 4], true),
            ("ooovii", &[4, 5], true),
            ("ooovii", &[1, 4, 5], false),
        ];
        for (roles, present, may_miss) in rows {
            let present = present.iter().map(|id| NodeId::new(*id)).collect();
            let assurance = assurance(&configuration(roles), &present);
            let found = matches!(assurance, Assurance::MayMiss { .. });
            assert_eq!(found, may_miss, "{roles} {present:?}");
        }
        assert_ne!(assurance(&Configuration::default(), &BTreeSet::new()), Assurance::Complete);
    }

    #[test]
    fn two_of_three_sound_folders_need_no_recovery_and_one_does() {
        let folders = [remains(1, "7@2"), remains(2, "9@2")];
        let two = chosen(&folders);
        assert!(two.is_needless && two.assurance == Assurance::Complete);
        let one = chosen(&folders[1..]);
        assert!(!one.is_needless);
        let absent = vec![NodeId::new(1), NodeId::new(3)];
        assert_eq!(one.assurance, Assurance::MayMiss { absent });
        assert_eq!(*one.configuration, three());
        assert_eq!(one.reach.end.term, Term::new(2));
    }
}
