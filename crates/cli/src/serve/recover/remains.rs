//! What is left of one member: what its folder's log, state and snapshots say, as facts, and how far a
//! store can be brought with them. Knows no other folder; what follows is decided in `choice`.

use quorate::core::{Configuration, LogId, LogIndex, NodeId, SnapshotMeta, Term};
use quorate::wal::{Identity, RecordContent, RecordSight, Standing};
use std::path::PathBuf;
use std::sync::Arc;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Remains {
    pub(super) dir: PathBuf,
    /// Where its log is.
    pub(super) log_dir: PathBuf,
    /// The better copy of the hard state; `None` if neither can be read.
    pub(super) root: Option<Root>,
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) snapshots: Vec<Snapshot>,
    /// Why they cannot be looked at.
    pub(super) snapshot_trouble: Option<String>,
}

/// Whose folder it is, and what it has promised.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) identity: Identity,
    pub(super) era: u32,
    pub(super) term: Term,
    pub(super) voted_for: Option<NodeId>,
    pub(super) standing: Standing,
    /// What the log starts after.
    pub(super) base: SnapshotMeta,
}

/// The log, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// A start would take it.
    pub(super) is_sound: bool,
    /// `whole`, `torn`, `wounded` or `refused`.
    pub(super) case: &'static str,
    /// What `quorate wal verify` says.
    pub(super) verdict: String,
    pub(super) trace: Trace,
}

/// Which entries the log ends with, as its records are read one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    last: Option<LogId>,
    /// The first index of each run of entries with one term.
    runs: Vec<(LogIndex, Term)>,
    configurations: Vec<(LogIndex, Arc<Configuration>)>,
}

/// The state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Missing,
    /// Why no start would believe it.
    Unusable(String),
    At {
        applied: LogId,
        covered: LogIndex,
        revision: u64,
        key_count: u64,
    },
}

/// A snapshot file whose head can be read.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) meta: SnapshotMeta,
    /// What is wrong with the rest of it.
    pub(super) damage: Option<String>,
}

/// What a store is begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Nothing,
    Snapshot(LogId),
    State,
}

/// How far a store can be brought with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) start: Start,
    /// Up to here the start goes. The entries behind it come from the log.
    pub(super) from: LogIndex,
    /// The last entry.
    pub(super) end: LogId,
}

impl Trace {
    /// The next record that continues the log.
    pub(super) fn record(&mut self, record: &RecordSight<'_>) {
        match &record.content {
            RecordContent::Entry(payload) => {
                self.append(record.log_id);
                if let quorate::core::Payload::Configuration(configuration) = payload {
                    self.configurations.push((record.log_id.index, Arc::clone(configuration)));
                }
            }
            RecordContent::Truncation => self.truncate_after(record.log_id),
            // Recovery has taken it as an entry.
            RecordContent::Undecodable => self.append(record.log_id),
        }
    }

    pub(super) fn append(&mut self, log_id: LogId) {
        if self.runs.last().is_none_or(|(_, term)| *term != log_id.term) {
            self.runs.push((log_id.index, log_id.term));
        }
        self.last = Some(log_id);
    }

    pub(super) fn truncate_after(&mut self, last: LogId) {
        self.runs.retain(|(first, _)| *first <= last.index);
        self.configurations.retain(|(index, _)| *index <= last.index);
        self.last = Some(last);
    }

    /// The term of an entry that the log ends up with; `None` if no record is left of it.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        let is_there = self.last.is_some_and(|last| index <= last.index);
        let run = self.runs.iter().rev().find(|(first, _)| *first <= index);
        run.filter(|_| is_there).map(|(_, term)| *term)
    }
}

impl Remains {
    /// The last entry that can be read, or what the log starts after.
    pub(super) fn last_log(&self) -> LogId {
        let base = self.root.as_ref().map_or(LogId::ORIGIN, |root| root.base.last_included);
        self.log.trace.last.unwrap_or(base)
    }

    /// The configuration in force at `index`, as far as this folder says, and where it stands.
    pub(super) fn configuration_at(&self, index: LogIndex) -> Option<Arc<Configuration>> {
        let root = self.root.as_ref()?;
        let in_log = self.log.trace.configurations.iter().map(|(at, found)| (*at, found));
        let in_snapshots = self.snapshots.iter().filter(|snapshot| snapshot.damage.is_none());
        let in_snapshots = in_snapshots
            .map(|snapshot| (snapshot.meta.last_included.index, &snapshot.meta.configuration));
        let base = (root.base.last_included.index, &root.base.configuration);
        let all = in_log.chain(in_snapshots).chain([base]);
        let last = all.filter(|(at, _)| *at <= index).max_by_key(|(at, _)| *at);
        last.map(|(_, found)| Arc::clone(found))
    }

    /// Everything up to here was committed, by what this folder says. More may have been: how far is
    /// not written down.
    pub(super) fn known_committed(&self) -> LogIndex {
        let state = match self.state {
            State::At { covered, .. } => covered,
            State::Missing | State::Unusable(_) => LogIndex::ORIGIN,
        };
        let base = self.root.iter().map(|root| root.base.last_included.index);
        let whole = self.snapshots.iter().filter(|snapshot| snapshot.damage.is_none());
        let snapshots = whole.map(|snapshot| snapshot.meta.last_included.index);
        base.chain(snapshots).fold(state, LogIndex::max)
    }

    /// How far a store can be brought; `None` if there is nothing to begin with.
    pub(super) fn reach(&self) -> Option<Reach> {
        let root = self.root.as_ref()?;
        let (base, last) = (root.base.last_included, self.last_log());
        let continues = |from: LogIndex| (base.index..=last.index).contains(&from);
        let nothing = (base.index == LogIndex::ORIGIN).then_some(Reach {
            start: Start::Nothing,
            from: LogIndex::ORIGIN,
            end: last,
        });
        let whole = self.snapshots.iter().filter(|snapshot| snapshot.damage.is_none());
        let snapshots = whole.filter_map(|snapshot| {
            let (at, start) = (snapshot.meta.last_included, Start::Snapshot);
            let reach = |end| Some(Reach { start: start(at), from: at.index, end });
            // One that the log contradicts is left from a life before it was started anew.
            let is_of_log = at == base || self.log.trace.term_at(at.index) == Some(at.term);
            if at.index > last.index {
                reach(at)
            } else {
                reach(last).filter(|_| continues(at.index) && is_of_log)
            }
        });
        let state = match self.state {
            State::At { applied, covered, .. } if covered > LogIndex::ORIGIN => {
                let reach = |end| Some(Reach { start: Start::State, from: covered, end });
                if covered > last.index {
                    reach(applied)
                } else {
                    reach(last).filter(|_| continues(covered))
                }
            }
            State::At { .. } | State::Missing | State::Unusable(_) => None,
        };
        // Of equal ones the last: it is the shortest way.
        nothing.into_iter().chain(snapshots).chain(state).max_by_key(|it| (it.end, it.from))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use quorate::core::{Member, MemberRole};

    /// `7@2`: index 7, term 2.
    pub(crate) fn at(text: &str) -> LogId {
        let (index, term) = text.split_once('@').unwrap();
        LogId::new(Term::new(term.parse().unwrap()), LogIndex::new(index.parse().unwrap()))
    }

    /// Three voters, whose disks are those of [`remains`].
    pub(crate) fn three() -> Configuration {
        let member = |id: u64| {
            let (role, address) = (MemberRole::Voter, format!("10.0.0.{id}:2380"));
            let name = format!("n{id}");
            let context = quorate_server::MemberContext { name, ..Default::default() }.to_bytes();
            (NodeId::new(id), Member { role, rank: 0, address, context })
        };
        let storages = (1..=3).map(|id| (NodeId::new(id), u128::from(id) * 16)).collect();
        Configuration { storages, ..Configuration::new(3, (1..=3).map(member).collect()) }
    }

    /// A sound folder of a member, with a log from the very first entry that ends so.
    pub(crate) fn remains(id: u64, end: &str) -> Remains {
        let (end, node_id) = (at(end), NodeId::new(id));
        let identity = Identity { cluster_id: 0xc1, node_id, storage_id: u128::from(id) * 16 };
        let base = SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::new(three()) };
        let mut trace = Trace::default();
        for index in 1..=end.index.get() {
            trace.append(LogId::new(end.term, LogIndex::new(index)));
        }
        let (term, voted_for, standing) = (end.term, None, Standing::Proven);
        let verdict = format!("whole. It ends with {end}");
        Remains {
            dir: format!("n{id}.data").into(),
            log_dir: format!("n{id}.data/wal").into(),
            root: Some(Root { identity, era: 2, term, voted_for, standing, base }),
            log: Log { is_sound: true, case: "whole", verdict, trace },
            state: State::Missing,
            snapshots: Vec::new(),
            snapshot_trouble: None,
        }
    }

    pub(crate) fn state(applied: &str, covered: u64) -> State {
        let (applied, covered) = (at(applied), LogIndex::new(covered));
        State::At { applied, covered, revision: 40, key_count: 12 }
    }

    fn snapshot(last_included: &str, damage: Option<&str>) -> Snapshot {
        let (last_included, configuration) = (at(last_included), Arc::new(three()));
        let meta = SnapshotMeta { last_included, configuration };
        Snapshot { meta, damage: damage.map(str::to_owned) }
    }

    /// A log that starts after `base` and ends with `last`.
    fn after(base: &str, last: &str, state: State, snapshots: &[(&str, bool)]) -> Remains {
        let mut folder = remains(1, last);
        let root = folder.root.as_mut().unwrap();
        root.base.last_included = at(base);
        folder.log.trace = Trace::default();
        for index in root.base.last_included.index.next().get()..=at(last).index.get() {
            folder.log.trace.append(LogId::new(at(last).term, LogIndex::new(index)));
        }
        folder.state = state;
        let made = |(at, is_whole): &(&str, bool)| {
            snapshot(at, if *is_whole { None } else { Some("damaged") })
        };
        folder.snapshots = snapshots.iter().map(made).collect();
        folder
    }

    /// Each row: the base, the last entry, the state, the snapshots, and what a store begins with and
    /// where it ends.
    #[test]
    fn a_store_is_begun_with_what_leads_furthest_by_the_shortest_way() {
        let missing = || State::Missing;
        let bad = || State::Unusable("damaged".to_owned());
        let snap = |text: &str| Start::Snapshot(at(text));
        let rows = [
            (("0@0", "9@2"), missing(), &[][..], Some((Start::Nothing, "9@2"))),
            (("0@0", "9@2"), state("4@2", 5), &[], Some((Start::State, "9@2"))),
            (("0@0", "9@2"), bad(), &[("6@2", true)], Some((snap("6@2"), "9@2"))),
            (("0@0", "9@2"), state("7@2", 7), &[("6@2", true)], Some((Start::State, "9@2"))),
            // The log was released: only what reaches over its beginning is of use.
            (("5@1", "9@2"), missing(), &[], None),
            (("5@1", "9@2"), state("3@1", 4), &[], None),
            (("5@1", "9@2"), state("3@1", 5), &[], Some((Start::State, "9@2"))),
            (("5@1", "9@2"), bad(), &[("5@1", true)], Some((snap("5@1"), "9@2"))),
            (("5@1", "9@2"), bad(), &[("5@1", false)], None),
            (("5@1", "9@2"), bad(), &[("7@1", true)], None),
            // What is further than the log stands alone.
            (("5@1", "9@2"), bad(), &[("12@3", true)], Some((snap("12@3"), "12@3"))),
            (("5@1", "9@2"), state("12@3", 12), &[("12@3", true)], Some((Start::State, "12@3"))),
            (("0@0", "3@2"), state("8@2", 9), &[], Some((Start::State, "8@2"))),
        ];
        for ((base, last), state, snapshots, expected) in rows {
            let reach = after(base, last, state.clone(), snapshots).reach();
            let found = reach.map(|reach| (reach.start, reach.end));
            let expected = expected.map(|(start, end)| (start, at(end)));
            assert_eq!(found, expected, "{base} {last} {state:?} {snapshots:?}");
        }
    }

    #[test]
    fn what_a_later_record_truncates_is_no_part_of_the_log() {
        let mut trace = Trace::default();
        for entry in ["1@1", "2@1", "3@2", "4@2"] {
            trace.append(at(entry));
        }
        trace.truncate_after(at("2@1"));
        assert_eq!((trace.last, trace.term_at(LogIndex::new(3))), (Some(at("2@1")), None));
        trace.append(at("3@4"));
        let terms = (0..=4).map(|index| trace.term_at(LogIndex::new(index)).map(Term::get));
        assert_eq!(terms.collect::<Vec<_>>(), [None, Some(1), Some(1), Some(4), None]);
    }

    #[test]
    fn what_is_known_to_be_committed_is_the_most_that_anything_whole_says() {
        let known = |base, state, snapshots: &[_]| {
            after(base, "9@2", state, snapshots).known_committed().get()
        };
        assert_eq!(known("0@0", State::Missing, &[]), 0);
        assert_eq!(known("5@1", State::Missing, &[("7@2", false)]), 5);
        assert_eq!(known("5@1", state("6@2", 8), &[("7@2", true)]), 8);
        assert_eq!(known("5@1", state("6@2", 6), &[("7@2", true)]), 7);
    }
}
