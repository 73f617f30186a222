//! That time goes on: a world in which more and more happens at one and the same moment would never
//! come to an end, and no limit of virtual time would stop it. Knows nothing of what happens.

use super::Cluster;
use crate::application::Application;
use crate::judge::Breach;
use crate::pulse::Pulse;
use quorate_core::Time;
use std::sync::Arc;

/// More cannot happen at one moment. In 120 drawn worlds the busiest one had 114 steps of which a
/// story tells.
const STEPS_AT_ONCE_MAX: u64 = 100_000;

/// How much has happened at the present moment, and who is told of every step.
#[derive(Debug, Default)]
pub(super) struct Moment {
    steps: u64,
    #[cfg(test)]
    busiest: u64,
    pulse: Option<Arc<Pulse>>,
}

impl<A: Application> Cluster<A> {
    /// Shows every step here, to somebody who may be in another thread.
    pub(crate) fn show(&mut self, pulse: Arc<Pulse>) {
        self.moment.pulse = Some(pulse);
    }

    /// A step begins; the time before it was `before`.
    pub(super) fn begin_moment(&mut self, before: Time) -> Result<(), Breach> {
        if let Some(pulse) = &self.moment.pulse {
            pulse.beat(self.steps, self.now);
        }
        if self.now > before {
            self.moment.steps = 0;
        }
        self.moment.steps += 1;
        #[cfg(test)]
        {
            self.moment.busiest = self.moment.busiest.max(self.moment.steps);
        }
        if self.moment.steps > STEPS_AT_ONCE_MAX {
            return Err(Breach::TimeStandsStill { at: self.now, steps: self.moment.steps });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ClusterOptions;
    use super::super::happening::Happening;
    use super::*;
    use crate::kv::{KvApplication, KvOptions};
    use crate::run::{World, kv_world};
    use quorate_core::NodeId;
    use std::time::Duration;

    fn crowded(count: u64) -> Cluster<KvApplication> {
        let app = KvApplication::new(KvOptions::default());
        let mut cluster = Cluster::new(ClusterOptions::calm(1, 1), app);
        cluster.run_for(Duration::from_secs(1));
        let at = cluster.now().after(Duration::from_micros(1));
        for _ in 0..count {
            // Nobody is called so: it is nothing but a step.
            cluster.queue.push(at, Happening::Resume { node: NodeId::new(99) });
        }
        cluster
    }

    #[test]
    fn no_moment_of_a_drawn_world_is_nearly_as_busy_as_none_may_be() {
        let busiest = (1..=30).map(|seed| {
            let world = World { seed, node_count: 0, steps: 3_000 };
            let (options, application) = kv_world(&world);
            let mut cluster = Cluster::new(options, application);
            cluster.run_steps(world.steps);
            cluster.converge().expect("it ends well");
            cluster.moment.busiest
        });
        let busiest = busiest.max();
        assert!(busiest < Some(STEPS_AT_ONCE_MAX / 100), "{busiest:?}");
    }

    #[test]
    fn a_world_in_which_time_stands_still_is_a_breach_and_a_busy_moment_is_none() {
        // The node itself may have something to do at that moment.
        let mut busy = crowded(STEPS_AT_ONCE_MAX - 100);
        busy.run_for(Duration::from_secs(1));
        busy.finish().expect("time goes on behind the busy moment");

        let mut stands = crowded(STEPS_AT_ONCE_MAX + 1);
        stands.run_for(Duration::from_secs(1));
        let breach = stands.finish().expect_err("more happens than can");
        assert_eq!(breach.kind(), "time_stands_still");
    }
}
