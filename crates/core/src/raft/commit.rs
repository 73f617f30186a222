//! What is committed, and who must be told (§3.5, §3.6.2). Sends no entries.

use super::common::Common;
use super::leader::Leader;
use crate::{Heartbeat, Message};

impl Leader {
    /// `AdvanceCommitIndex` in the TLA+ specification. The leader's own copy counts only once it
    /// is durable, and is not waited for if others make up a quorum (§10.2.1).
    pub(crate) fn advance_commit_index(&mut self, common: &mut Common) {
        let durable_index = common.persistence.durable_index();
        self.uncommitted.release_through(common.commit_index.min(durable_index));
        if common.commit_index == common.log.last().index {
            return;
        }
        let reached = common.log.configuration().committed_index(|id| {
            if id == common.id {
                return Some(durable_index);
            }
            self.progress.get(&id).map(|progress| progress.match_index)
        });
        // §3.6.2: only entries of the current term are committed by counting replicas; those of
        // earlier terms are committed with them. An earlier entry on a majority may yet be
        // overwritten (Figure 3.7).
        if let Some(index) = reached
            && index > common.commit_index
            && common.log.term_at(index) == Some(common.current_term)
        {
            common.commit_through(index);
        }
        self.uncommitted.release_through(common.commit_index.min(durable_index));
    }

    /// §4.2.2: a leader that is not in the configuration leads until that is committed.
    pub(crate) fn is_removed(&self, common: &Common) -> bool {
        self.configuration_index <= common.commit_index
            && !common.log.configuration().is_voter(common.id)
    }

    /// Tells a follower to which nothing is on its way that more is committed. Others learn it
    /// with the entries that they are sent.
    pub(crate) fn notify_of_commit(&mut self, common: &mut Common) {
        for (peer, progress) in &mut self.progress {
            // A heartbeat proves nothing about the log: it must not promise beyond the match.
            let leader_commit = common.commit_index.min(progress.match_index);
            if leader_commit > progress.commit_told && progress.is_quiet() {
                progress.commit_told = leader_commit;
                let term = common.current_term;
                let notice = Heartbeat { term, leader_commit, round: None };
                common.send(*peer, Message::Heartbeat(notice));
            }
        }
    }
}
