//! What disks hold, as the judge of safety books it: what is asked of them and durable, which disk a
//! member has, and whether a committed entry is on a majority. Knows nothing of terms in office.

use super::{Safety, only_grows};
use crate::judge::Breach;
use crate::judge::bounds::Sizes;
use crate::judge::durable::Durable;
use quorate_core::{Configuration, HardState, LogId, Member, MemberRole, NodeId, Payload, Persist};

impl Safety {
    /// A node has another disk, and no word of what it has promised. Before anybody has led that is
    /// nothing.
    pub(crate) fn wiped(&mut self, node: NodeId, storage_id: u128) {
        let is_founded = !self.leaders.is_empty();
        let watched = self.nodes.entry(node).or_default();
        let durable = std::mem::take(&mut watched.durable);
        if !watched.is_adrift {
            watched.lost.push(durable);
        }
        watched.before = None;
        (watched.storage_id, watched.is_adrift) = (Some(storage_id), is_founded);
        watched.is_new_disk = true;
    }

    /// A configuration that somebody writes records disks: whoever has such a one counts again.
    fn recorded(&mut self, configuration: &Configuration) {
        for (id, storage_id) in &configuration.storages {
            if let Some(watched) = self.nodes.get_mut(id)
                && watched.storage_id == Some(*storage_id)
            {
                watched.is_adrift = false;
            }
        }
    }

    /// Whether an entry that this node calls committed is durable on a majority of each half.
    pub(super) fn is_on_quorum(
        &self,
        node: NodeId,
        log_id: LogId,
        configuration: &Configuration,
    ) -> Result<(), Breach> {
        // The leader committed it by the configuration that it had then: the last committed one or
        // any later one.
        let mut seen = self.members.written_since(self.members.last_committed());
        match self.missing_quorum(log_id, configuration) {
            Some((durable_count, voter_count))
                if seen.all(|seen| self.missing_quorum(log_id, seen).is_some()) =>
            {
                Err(Breach::NotOnQuorum { node, log_id, durable_count, voter_count })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// How many disks of how many voters hold the entry, if that is no majority of a half.
    pub(super) fn missing_quorum(
        &self,
        log_id: LogId,
        configuration: &Configuration,
    ) -> Option<(usize, usize)> {
        let holds =
            |node: &NodeId| self.nodes.get(node).is_some_and(|watched| watched.holds(log_id));
        let counts = [MemberRole::Incoming, MemberRole::Outgoing].map(|half| {
            let is_in = |member: &Member| member.role == MemberRole::Voter || member.role == half;
            let members = configuration.members.iter().filter(|(_, member)| is_in(member));
            let voters: Vec<&NodeId> = members.map(|(id, _)| id).collect();
            (voters.iter().filter(|id| holds(id)).count(), voters.len())
        });
        counts.into_iter().find(|(durable_count, voter_count)| 2 * durable_count <= *voter_count)
    }

    /// A node will ask its disk for these writes; what it may hold now, by what it and others have
    /// written so far.
    pub(crate) fn will_write<'a>(
        &mut self,
        node: NodeId,
        persists: impl Iterator<Item = &'a Persist>,
    ) -> Sizes {
        let mut not_durable_bytes = 0;
        for entry in persists.flat_map(|persist| &persist.entries) {
            let size = entry.size_bytes();
            self.largest_entry_bytes = self.largest_entry_bytes.max(size);
            not_durable_bytes += size;
        }
        let durable = self.nodes.get(&node).map(|watched| &watched.durable);
        not_durable_bytes += durable.map_or(0, Durable::in_flight_bytes);
        Sizes { largest_entry_bytes: self.largest_entry_bytes, not_durable_bytes }
    }

    /// A node asks its disk for a write.
    pub(crate) fn persist_asked(&mut self, node: NodeId, persist: &Persist) {
        self.members.written(&persist.entries);
        for entry in &persist.entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                self.recorded(configuration);
            }
        }
        self.nodes.entry(node).or_default().durable.asked(persist);
    }

    /// A node's oldest write is durable.
    pub(crate) fn persisted(&mut self, node: NodeId) -> Result<(), Breach> {
        let watched = self.nodes.entry(node).or_default();
        let before = watched.durable.hard_state;
        let removed = watched.durable.completed();
        keeps_its_vote(node, before, watched.durable.hard_state)?;
        let is_committed = |log_id: &LogId| {
            let known = self.committed_at(log_id.index);
            known.is_some_and(|known| known.log_id == *log_id && known.by <= removed.term)
        };
        match removed.log_ids.into_iter().find(is_committed) {
            Some(log_id) => Err(Breach::CommittedRemoved { node, log_id }),
            None => Ok(()),
        }
    }
}

fn keeps_its_vote(node: NodeId, before: HardState, after: HardState) -> Result<(), Breach> {
    only_grows(node, "durable term", before.current_term.get(), after.current_term.get())?;
    match (before.voted_for, after.voted_for) {
        (Some(first), second)
            if before.current_term == after.current_term && second != Some(first) =>
        {
            let second = second.unwrap_or_default();
            Err(Breach::VotedTwice { node, term: after.current_term, first, second })
        }
        (Some(_) | None, _) => Ok(()),
    }
}
