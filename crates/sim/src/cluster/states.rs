//! The states of the nodes against each other: whoever applied the same holds the same, now
//! and whenever it did. Knows nothing of how a state came about.

use super::Cluster;
use super::node::Running;
use super::work::HashWriter;
use crate::application::Application;
use crate::judge::Breach;
use quorate_core::{LogIndex, NodeId};
use std::collections::BTreeMap;
use std::io;

/// How often the states are compared while the world goes on, in steps, and how much less often for
/// every thousand entries that have been applied: each comparison reads all that the states hold.
const COMPARE_EVERY_STEPS: u64 = 1000;
const COMPARE_LATER_STEPS: u64 = 30_000;

/// How many states are remembered.
const REMEMBERED_MAX: usize = 1000;

/// What the state of some node was once it had applied up to an index.
#[derive(Debug, Default)]
pub(super) struct States {
    /// The step that is the next to compare at.
    due: u64,
    seen: BTreeMap<LogIndex, (NodeId, u64)>,
}

impl States {
    fn agree(&mut self, two: NodeId, applied: LogIndex, second: u64) -> Result<(), Breach> {
        let (one, first) = *self.seen.entry(applied).or_insert((two, second));
        if self.seen.len() > REMEMBERED_MAX {
            // Old ones are met again only by nodes that restart, or that were away for long.
            self.seen.pop_first();
        }
        if first == second {
            return Ok(());
        }
        Err(Breach::Diverged { one, two, applied, first, second })
    }
}

impl<A: Application> Cluster<A> {
    /// Compares the states now and then.
    pub(super) fn compare_states_sometimes(&mut self) -> Result<(), Breach> {
        if self.steps < self.states.due.max(COMPARE_EVERY_STEPS) {
            return Ok(());
        }
        let thousands = self.safety.last_committed().get() / 1000;
        let pause = COMPARE_EVERY_STEPS + thousands * COMPARE_LATER_STEPS;
        self.states.due = (self.steps / COMPARE_EVERY_STEPS) * COMPARE_EVERY_STEPS + pause;
        self.compare_states()
    }

    /// Compares every node's state with what was seen at the same index, on any node.
    pub(super) fn compare_states(&mut self) -> Result<(), Breach> {
        for (id, node) in &self.nodes {
            let Some(running) = node.running() else { continue };
            let applied = running.applier().applied().index;
            let digest = match &running.digest {
                Some(digest) => sessions_hash(running).map(|sessions| digest() ^ sessions),
                None => snapshot_hash(running),
            };
            let digest = digest
                .map_err(|error| Breach::NodeFailed { node: *id, reason: error.to_string() })?;
            self.states.agree(*id, applied, digest)?;
        }
        Ok(())
    }
}

fn snapshot_hash(running: &Running) -> io::Result<u64> {
    let mut writer = HashWriter::default();
    let (_, view) = running.applier().view().map_err(io::Error::other)?;
    view.write_to(&mut writer)?;
    Ok(writer.0.value())
}

/// Of what is replicated beside the state machine; a snapshot holds it.
fn sessions_hash(running: &Running) -> io::Result<u64> {
    let mut writer = HashWriter::default();
    running.applier().sessions().write_to(&mut writer)?;
    Ok(writer.0.value())
}
