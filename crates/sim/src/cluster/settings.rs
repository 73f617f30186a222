//! Nodes that are given other settings while they run: timeouts that are longer, heartbeats that come
//! more often, limits of any size. What a node started with counts again after its next start, and
//! when the world is healed.

use super::Cluster;
use crate::application::Application;
use quorate::{DriverOptions, Input};
use quorate_core::{NodeId, Options};
use std::time::Duration;

impl<A: Application> Cluster<A> {
    pub(super) fn give_other_settings(&mut self) {
        let Some(id) = self.victim() else { return };
        self.trace.counts.settings_changes += 1;
        if self.rng.coin() {
            let options = self.other_options();
            let text = format!(
                "is given an election timeout of {:?} and heartbeats every {:?}",
                options.election_timeout, options.heartbeat_interval
            );
            self.trace.headline(self.now, Some(id), text);
            self.tell(id, Input::SetOptions(Box::new(options)));
        } else {
            let options = self.other_driver_options();
            self.trace.headline(self.now, Some(id), "is given other limits".to_owned());
            self.tell(id, Input::SetDriverOptions(Box::new(options)));
        }
    }

    /// Whoever was given other settings has those again with which it started.
    pub(super) fn take_settings_back(&mut self, id: NodeId) {
        if self.trace.counts.settings_changes > 0 {
            self.tell(id, Input::SetOptions(Box::new(self.options.raft.clone())));
            self.tell(id, Input::SetDriverOptions(Box::new(self.options.driver.clone())));
        }
    }

    /// Lower limits, which the judges of limits need not know of; heartbeats that are not further apart
    /// than at the start, and timeouts that are not shorter, for whoever is healed has to elect within
    /// the world's bound.
    fn other_options(&mut self) -> Options {
        let options = self.options.raft.clone();
        let rng = &mut self.rng;
        let size = |old: usize, eighths: u64| {
            (old / 8).saturating_mul(usize::try_from(eighths).unwrap_or(8)).max(1)
        };
        let (heartbeat, election) = (options.heartbeat_interval, options.election_timeout);
        Options {
            heartbeat_interval: rng.duration(heartbeat / 2, heartbeat),
            election_timeout: rng.duration(election, election * 2),
            append_bytes_max: size(options.append_bytes_max, rng.between(4, 8)),
            in_flight_count_max: size(options.in_flight_count_max, rng.between(4, 8)),
            in_flight_bytes_max: size(options.in_flight_bytes_max, rng.between(4, 8)),
            log_cache_bytes_max: size(options.log_cache_bytes_max, rng.between(4, 8)),
            applying_bytes_max: size(options.applying_bytes_max, rng.between(4, 8)),
            load_bytes_max: size(options.load_bytes_max, rng.between(4, 8)),
            ..options
        }
    }

    fn other_driver_options(&mut self) -> DriverOptions {
        let options = self.options.driver.clone();
        let rng = &mut self.rng;
        DriverOptions {
            leaderless_wait: rng.duration(options.leaderless_wait / 2, options.leaderless_wait * 2),
            sweep_interval: rng.duration(options.sweep_interval / 2, options.sweep_interval),
            compact_log_bytes: (options.compact_log_bytes / 4).saturating_mul(rng.between(2, 8)),
            retain_log_count: rng.between(0, options.retain_log_count.saturating_mul(2)),
            replay_time_max: options.replay_time_max
                + rng.duration(Duration::ZERO, options.replay_time_max),
            flight_recorder_bytes: options.flight_recorder_bytes / 2,
            ..options
        }
    }
}
