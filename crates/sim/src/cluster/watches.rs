//! The watch clients: each looks from time to time for what it is told, on nodes that can be
//! reached. Who they are and what they may be told is the application's part.

use super::Cluster;
use super::happening::Happening;
use crate::application::Application;
use crate::judge::Breach;
use quorate_core::NodeId;
use std::time::Duration;

impl<A: Application> Cluster<A> {
    /// Every watch client will look for the first time. There are not more of them than of other
    /// clients, so that a case without clients is a quiet one.
    pub(super) fn plan_first_looks(&mut self) {
        for watcher in 0..self.application.watcher_count().min(self.options.client_count) {
            self.plan_look(watcher, Duration::from_millis(100));
        }
    }

    fn plan_look(&mut self, watcher: usize, mean: Duration) {
        let delay = self.clients.rng.wait(mean);
        self.queue.push(self.now.after(delay), Happening::Look { watcher });
    }

    /// A watch client looks.
    pub(super) fn look_for_events(&mut self, watcher: usize) -> Result<(), Breach> {
        if !self.is_troubled {
            return Ok(());
        }
        let up: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.running().is_some() && !node.paused)
            .map(|node| node.id)
            .collect();
        let mean = self.application.look(watcher, &up, &mut self.clients.rng)?;
        self.plan_look(watcher, mean);
        Ok(())
    }
}
