//! Other settings for a server that runs. Nothing that is safe depends on any of them (§3.9): a timer
//! is drawn anew, a lower limit refuses what is new and drops nothing.

use super::Raft;
use crate::Options;

impl Raft {
    /// The settings that count now.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.common.options
    }

    /// Settings that cannot work together change nothing: whoever gives them has checked them.
    pub(super) fn handle_options(&mut self, mut options: Options) {
        if options.validate().is_err() {
            return;
        }
        // Whether promises are given is settled by what the folder remembers, at the start.
        options.lease_reads = self.common.options.lease_reads;
        self.common.options = options;
        self.common.draw_election_timeout();
        // Followers that were told of a shorter interval are not to wait for the rest of a long one.
        if let Some((leader, common)) = self.leader_mut() {
            let next = common.now.after(common.options.heartbeat_interval);
            leader.heartbeat_deadline = leader.heartbeat_deadline.min(next);
        }
    }
}
