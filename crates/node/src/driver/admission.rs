//! Whose votes and acknowledgements count: those of a member whose disk is the one that the
//! configuration records, or, where none is recorded, that is proven to hold what it promised.
//! Knows what others said of their disks; must not know what this node thinks of its own.

use super::io::{Introduction, Seen};
use quorate_core::{Configuration, Message, NodeId};
use std::collections::BTreeMap;

/// What a node has said of its disk in this life of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquaintance {
    storage_id: u128,
    /// The highest that it has named: a lower one may only be late.
    era: u32,
    is_proven: bool,
}

/// Everybody who has introduced themselves.
#[derive(Debug, Default)]
pub(super) struct Acquaintances(BTreeMap<NodeId, Acquaintance>);

impl Acquaintances {
    /// A node says which disk it has; returns what is known of that disk now.
    pub(super) fn introduced(&mut self, from: NodeId, by: &Introduction) -> Seen {
        let Introduction { storage_id, era, is_proven, .. } = *by;
        let before = self.0.get(&from).filter(|known| known.storage_id == storage_id);
        let era = before.map_or(era, |known| known.era.max(era));
        self.0.insert(from, Acquaintance { storage_id, era, is_proven });
        Seen { storage_id, era }
    }

    /// What it has said, if anything.
    pub(super) fn get(&self, id: NodeId) -> Option<&Acquaintance> {
        self.0.get(&id)
    }
}

/// Whether what `from` promises with the disk `storage_id` counts.
pub(super) fn admits(
    configuration: &Configuration,
    from: NodeId,
    storage_id: u128,
    known: Option<&Acquaintance>,
) -> bool {
    if let Some(recorded) = configuration.storages.get(&from) {
        return *recorded == storage_id;
    }
    let is_known = |known: &Acquaintance| known.is_proven && known.storage_id == storage_id;
    !configuration.is_voter(from) || known.is_some_and(is_known)
}

/// Whether a message promises something of its sender's disk.
pub(super) const fn is_promise(message: &Message) -> bool {
    match message {
        Message::RequestVoteResponse(_)
        | Message::AppendEntriesResponse(_)
        | Message::HeartbeatResponse(_)
        | Message::InstallSnapshotResponse(_) => true,
        Message::RequestVote(_)
        | Message::AppendEntries(_)
        | Message::Heartbeat(_)
        | Message::InstallSnapshot(_)
        | Message::TimeoutNow(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexResponse(_)
        | Message::NotAMember(_)
        | Message::LostEntries(_)
        | Message::LostEntriesResponse(_) => false,
    }
}

/// Whether a message is a vote that was given.
pub(super) const fn is_vote(message: &Message) -> bool {
    matches!(message, Message::RequestVoteResponse(response) if response.granted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{Member, MemberRole};

    const DISK: u128 = 30;

    fn configuration(role: Option<MemberRole>, recorded: Option<u128>) -> Configuration {
        let member = |role| {
            let context = bytes::Bytes::new();
            (NodeId::new(3), Member { role, rank: 0, address: String::new(), context })
        };
        let members = role.into_iter().map(member).collect();
        let storages = recorded.map(|disk| (NodeId::new(3), disk)).into_iter().collect();
        Configuration { storages, ..Configuration::new(1, members) }
    }

    fn introduction(storage_id: u128, era: u32, is_proven: bool) -> Introduction {
        let (has_history, beginning, answers) = (true, None, None);
        Introduction { storage_id, era, is_proven, has_history, beginning, answers }
    }

    /// Each row: the role, the recorded disk, what was introduced, and whether disk 30 counts.
    #[test]
    fn a_disk_counts_if_it_is_recorded_or_if_none_is_and_it_is_proven_or_promises_nothing() {
        use MemberRole::{Incoming, Learner, Outgoing, Voter};
        let proven = Some(introduction(DISK, 1, true));
        let unproven = Some(introduction(DISK, 1, false));
        let other = Some(introduction(99, 1, true));
        for role in [Voter, Incoming, Outgoing] {
            let rows = [
                (Some(DISK), None, true),
                (Some(DISK), unproven, true),
                (Some(99), proven, false),
                (None, None, false),
                (None, unproven, false),
                (None, other, false),
                (None, proven, true),
            ];
            for (recorded, said, expected) in rows {
                assert_eq!(counts(Some(role), recorded, said), expected, "{role:?} {recorded:?}");
            }
        }
        assert!(counts(Some(Learner), None, None), "it promises nothing that counts");
        assert!(counts(Some(Learner), Some(DISK), unproven));
        assert!(!counts(Some(Learner), Some(99), proven), "what is known is of another disk");
        assert!(counts(None, None, None), "who is no member");
    }

    fn counts(
        role: Option<MemberRole>,
        recorded: Option<u128>,
        said: Option<Introduction>,
    ) -> bool {
        let mut known = Acquaintances::default();
        if let Some(said) = &said {
            known.introduced(NodeId::new(3), said);
        }
        admits(&configuration(role, recorded), NodeId::new(3), DISK, known.get(NodeId::new(3)))
    }

    #[test]
    fn of_each_disk_the_highest_era_is_remembered_and_of_each_node_the_last_disk() {
        let mut known = Acquaintances::default();
        let mut seen = |disk, era| {
            let Seen { storage_id, era } =
                known.introduced(NodeId::new(3), &introduction(disk, era, true));
            (storage_id, era)
        };
        assert_eq!(
            (seen(DISK, 5), seen(DISK, 6), seen(DISK, 4)),
            ((DISK, 5), (DISK, 6), (DISK, 6))
        );
        assert_eq!(seen(31, 1), (31, 1));
    }
}
