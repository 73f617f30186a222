//! Nodes whose state machine goes by something besides its log: their end, and the start after it.
//! Must not know how anybody finds out.

use super::Cluster;
use super::node;
use crate::application::{Application, Machine};
use crate::disk::CrashStyle;
use crate::judge::Breach;
use quorate::{NodeFailure, StartError};
use quorate_core::{LogIndex, NodeId};
use std::time::Duration;

/// Until somebody starts such a node again.
const PAUSE: Duration = Duration::from_secs(1);

impl<A: Application> Cluster<A> {
    /// A node says that its state is wrong, has its last word, and ends; with it goes what it had not
    /// made durable.
    pub(super) fn node_diverged(
        &mut self,
        id: NodeId,
        index: LogIndex,
        failure: &NodeFailure,
    ) -> Result<(), Breach> {
        if !self.application.may_diverge() {
            return Err(Breach::DivergedByItself { node: id, index });
        }
        self.trace.headline(self.now, Some(id), format!("stops: {failure}"));
        if let Some(why) = failure.last_input() {
            self.speak_last(id, why)?;
        }
        self.application.diverged(id, index);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.diverged = Some(index);
        }
        self.crash_node(id, CrashStyle::LoseAll);
        self.plan_start(id, PAUSE);
        Ok(())
    }

    /// Somebody starts a node that has diverged without a word about its state: it must refuse, before
    /// it has opened its state machine.
    pub(super) fn is_refused_if_diverged(&mut self, id: NodeId) -> Result<(), Breach> {
        let founders = self.first_configuration(id);
        let (options, now) = (&self.options, self.now);
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.diverged.is_some()) else {
            return Ok(());
        };
        let diverged = node.diverged.take();
        let Machine { machine, .. } = Machine::broken("the state is not to be used");
        let opened = node::read_disk(node, options, now, founders, machine);
        node.diverged = diverged;
        match opened {
            Err(StartError::Diverged { .. }) => Ok(()),
            Err(error) => Err(Breach::DoesNotStart { node: id, reason: error.to_string() }),
            Ok(_) => Err(Breach::WrongStateUsed { node: id }),
        }
    }
}
