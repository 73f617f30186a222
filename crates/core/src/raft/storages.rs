//! Who has which disk: a leader has it recorded in the configuration, by an entry like any other,
//! so that nobody can come back with an empty disk under a name that has promised something.
//! Decides what is recorded; whose messages count by it is the driver's to decide.

use super::common::{Common, Introduction};
use super::leader::Leader;
use crate::progress::Progress;
use crate::{Configuration, LogIndex, MemberRole, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// What a leader keeps of its members' disks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Storages {
    /// The disks of learners that `progress` is about.
    served: BTreeMap<NodeId, u128>,
    /// The last entry of this term that did nothing but record disks.
    recorded_at: Option<LogIndex>,
    /// The versions before and after the last run of such entries: they all have the same members.
    run: Option<(u64, u64)>,
}

impl Storages {
    /// See `behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, state: &mut impl Hasher) {
        let Self { served, recorded_at, run } = self;
        (served, recorded_at, run).hash(state);
    }

    /// Whether the entry at `index` changes nothing that votes or counts.
    pub(crate) fn is_only_a_record(&self, index: LogIndex) -> bool {
        self.recorded_at == Some(index)
    }

    /// Whether the members of version `version` are those of version `seen`, which is earlier.
    pub(crate) fn differ_only_in_records(&self, seen: u64, version: u64) -> bool {
        self.run.is_some_and(|(first, last)| first <= seen && seen <= last && last == version)
    }

    fn note_record(&mut self, version: u64) {
        let first = self.run.filter(|(_, last)| *last == version).map_or(version, |run| run.0);
        self.run = Some((first, version + 1));
    }
}

impl Common {
    /// A new leader believes what is recorded rather than what it was told, maybe long before: whoever
    /// has another disk than the recorded one goes on saying so.
    pub(crate) fn forget_old_introductions(&mut self) {
        let storages = &self.log.configuration().storages;
        let is_other = |id: &NodeId, told: &Introduction| {
            storages.get(id).is_some_and(|recorded| *recorded != told.storage_id)
        };
        self.introduced.retain(|id, told| !is_other(id, told));
    }
}

impl Leader {
    /// Has recorded what is not: the disks, all that are known in one entry, and which protocol the
    /// cluster speaks; if nothing is on its way.
    pub(crate) fn record_members(&mut self, common: &mut Common) {
        let is_settled = common.commit_index >= self.configuration_index.max(self.term_start);
        let knows_nothing = common.introduced.is_empty() && common.speaks.is_empty();
        if !is_settled || self.transfer.is_some() || knows_nothing {
            return;
        }
        let configuration = std::sync::Arc::clone(common.log.configuration());
        if configuration.is_joint() {
            return;
        }
        let members = configuration.members.iter();
        let due = members.filter_map(|(id, member)| {
            let storage_id = wanted_record(common, &configuration, *id, member.role)?;
            Some((*id, storage_id))
        });
        let due: Vec<(NodeId, u128)> = due.collect();
        let raised = self.raised_version(common, &configuration);
        if !due.is_empty() || raised.is_some() {
            let version = raised.unwrap_or(configuration.cluster_version);
            let next = configuration.with_storages(due).with_version(version);
            self.membership.storages.note_record(configuration.version);
            self.membership.storages.recorded_at =
                Some(self.append_configuration(common, next).index);
        }
    }

    /// Whether a new voter's disk is recorded. Where nobody's is, nobody says which disk it has.
    pub(crate) fn has_known_storage(common: &Common, id: NodeId) -> bool {
        let storages = &common.log.configuration().storages;
        storages.is_empty() || storages.contains_key(&id)
    }

    /// What was known of a learner with another disk is not known of this one.
    pub(crate) fn forget_replaced_storages(
        &mut self,
        common: &Common,
        configuration: &Configuration,
        next_index: LogIndex,
    ) {
        let served = &mut self.membership.storages.served;
        served.retain(|id, _| configuration.members.contains_key(id));
        for (id, storage_id) in &configuration.storages {
            let before = served.insert(*id, *storage_id);
            let role = configuration.members.get(id).map(|member| member.role);
            if before != Some(*storage_id) && role == Some(MemberRole::Learner) {
                // What it promised on another disk it may not know on this one.
                self.lease.forget_member(*id);
                let fresh = Progress::new(next_index, common.now);
                if let Some(progress) = self.progress.get_mut(id) {
                    *progress = fresh;
                }
            }
        }
    }
}

/// The disk that is to be recorded of a member. What a learner says last counts: it has promised
/// nothing. A voter's is recorded once, and only if it is known to hold what the voter promised.
fn wanted_record(
    common: &Common,
    configuration: &Configuration,
    id: NodeId,
    role: MemberRole,
) -> Option<u128> {
    let introduction = common.introduced.get(&id)?;
    let recorded = configuration.storages.get(&id);
    let is_due = match role {
        MemberRole::Learner => recorded != Some(&introduction.storage_id),
        MemberRole::Voter | MemberRole::Incoming | MemberRole::Outgoing => {
            recorded.is_none() && introduction.is_proven
        }
    };
    is_due.then_some(introduction.storage_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(versions: &[u64]) -> Storages {
        let mut storages = Storages::default();
        for version in versions {
            storages.note_record(*version);
        }
        storages
    }

    #[test]
    fn only_versions_of_one_unbroken_run_of_records_have_the_same_members() {
        assert!(!recorded(&[]).differ_only_in_records(3, 4));
        // From 3 to 4 and from 4 to 5; then another change; then from 7 to 8.
        let run = recorded(&[3, 4]);
        for (seen, version, expected) in
            [(3, 5, true), (4, 5, true), (5, 5, true), (2, 5, false), (3, 4, false), (6, 5, false)]
        {
            assert_eq!(run.differ_only_in_records(seen, version), expected, "{seen} {version}");
        }
        let later = recorded(&[3, 4, 7]);
        assert!(later.differ_only_in_records(7, 8) && !later.differ_only_in_records(3, 8));
    }

    #[test]
    fn what_a_leader_keeps_of_disks_is_behaviour() {
        let hash = |storages: &Storages| {
            let mut hasher = std::hash::DefaultHasher::new();
            storages.hash_behaviour(&mut hasher);
            hasher.finish()
        };
        let plain = hash(&Storages::default());
        assert_ne!(hash(&recorded(&[3])), plain);
        assert_ne!(hash(&Storages { recorded_at: Some(LogIndex::new(1)), ..recorded(&[]) }), plain);
        let served = [(NodeId::new(2), 20)].into();
        assert_ne!(hash(&Storages { served, ..recorded(&[]) }), plain);
    }
}
