//! A leader whose process has ended is noticed by its connections, which break, and at its address,
//! where nobody listens any more: the transport says so long before an election timeout has passed.
//! All that comes of it is that its followers ask early whether they would win (§9.6). What is said
//! may be wrong at any moment: no rule of safety may rest on it, and a leader that is alive is heard
//! again, which ends all of it. What a follower has promised for a lease (§6.4.1) it keeps, told of an
//! end or not (`lease.rs`).

use super::common::Common;
use super::{Raft, RoleState};
use crate::{NodeId, ReadRefusal};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::time::Duration;

/// A heartbeat interval has so many steps: in one, at first, a campaign on a quick disk is over.
const STEPS_PER_HEARTBEAT: u32 = 10;

/// A server looks for a successor to a leader that is said to be gone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Haste {
    /// Whose.
    gone: NodeId,
    /// How often it has asked since it was told, and once more for each time that it ran: an election
    /// takes longer than the question before it, for two disks have a part in it.
    campaign_count: u32,
}

impl Raft {
    /// Somebody says that a node's process has ended. Only who follows that node is concerned: it
    /// waits for its next word no longer than others need to be first, and until then hears no
    /// leader (§4.2.3), so that it helps whoever asks.
    pub(super) fn handle_peer_gone(&mut self, peer: NodeId) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        if follower.leader != Some(peer) {
            return;
        }
        // It stays the only leader that this term can have, so what is known to match its log stays
        // known, should it speak again.
        follower.leader = None;
        self.refuse_reads(ReadRefusal::LeaderChanged);
        self.common.heard_from_leader_at = None;
        self.common.haste = Some(Haste { gone: peer, campaign_count: 0 });
        self.common.restart_election_timer();
        self.common.draw_election_timeout();
    }
}

impl Common {
    /// There is a leader, or somebody who has our vote: nothing is urgent any more.
    pub(crate) fn take_time(&mut self) {
        if self.haste.take().is_some() {
            self.draw_election_timeout();
        }
    }

    /// Somebody else runs already, of whom it was not known: its election takes its time.
    pub(crate) fn let_others_run(&mut self) {
        if self.haste.is_some() {
            self.restart_election_timer();
        }
    }

    /// One more campaign, or what would have been one.
    pub(crate) fn count_campaign(&mut self) {
        if let Some(haste) = &mut self.haste {
            haste.campaign_count = haste.campaign_count.saturating_add(1);
        }
    }

    /// How long to wait in haste; `None` if there is none, or no more: each wait is about twice as
    /// long as the last, and the ordinary one is as long as any may be.
    ///
    /// Voters go one after the other, the highest rank first, so that the first has won before the
    /// second begins. Chance decides within a step, for those that begin together all the same. Who
    /// failed lets everybody have a turn before its next: the others may have been told later, or
    /// have more of the log.
    pub(super) fn hasty_timeout(&mut self) -> Option<Duration> {
        let Haste { gone, campaign_count } = self.haste?;
        let first = self.options.heartbeat_interval / STEPS_PER_HEARTBEAT;
        let factor = 1_u32.checked_shl(campaign_count).unwrap_or(u32::MAX);
        let step = first.saturating_mul(factor);
        let turns = self.turns_before(gone).saturating_add(u32::from(campaign_count > 0));
        let within = self.chance.below(u64::try_from(step.as_micros() / 2).unwrap_or(u64::MAX));
        let timeout = step.saturating_mul(turns).saturating_add(Duration::from_micros(within));
        if step.max(timeout) >= self.options.election_timeout {
            self.haste = None;
            return None;
        }
        Some(timeout)
    }

    /// How many voters go before this server: those of a higher rank, and of its own rank those with
    /// a lower id.
    fn turns_before(&self, gone: NodeId) -> u32 {
        let configuration = self.log.configuration();
        let place = |id: NodeId| (configuration.rank(id), Reverse(id));
        let others = configuration.voters().filter(|id| *id != gone);
        let count = others.filter(|id| place(*id) > place(self.id)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}
