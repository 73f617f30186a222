//! The last turn of a node whose log or state has failed: it is told, as its runtime tells it, and what
//! it says is sent. Must not know why that is so; how the node ends is in the room beside this one.

use super::Cluster;
use crate::application::Application;
use crate::judge::{Breach, check_last_words};
use quorate::{Input, Output, PeerMessage};
use quorate_core::{LogId, Message, NodeId, ProtocolVersion, Raft, RequestVote, Role, VotePhase};

impl<A: Application> Cluster<A> {
    /// Lets a node say what it may. Then it hears, as no runtime lets it, what else has reached it, and
    /// is asked whether it would vote: it must have nothing to say to that.
    pub(super) fn speak_last(&mut self, id: NodeId, why: Input) -> Result<(), Breach> {
        let Some(node) = self.nodes.get(&id).filter(|node| !node.paused) else { return Ok(()) };
        let own_now = node.clock.own(self.now);
        let Some(raft) = node.running().map(|running| running.driver.raft()) else { return Ok(()) };
        let led = (raft.role() == Role::Leader).then(|| raft.current_term());
        let (from, message) = would_you_vote(raft);
        let storage_id = self.nodes.get(&from).map_or(0, |node| node.storage_id);
        let version = ProtocolVersion::OLDEST;
        let question = Input::Peer { from, storage_id, version, message };
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(running) = node.running_mut() else { return Ok(()) };
        let mut said = Vec::new();
        running.driver.handle(own_now, why, &mut said);
        check_last_words(id, led, &said)?;
        let heard = std::mem::take(&mut running.inbox).into_iter().chain([question]);
        let mut said_later = Vec::new();
        running.driver.turn(own_now, heard, &mut said_later);
        check_last_words(id, None, &said_later)?;
        for output in said {
            if let Output::Send { to, message } = output {
                self.trace.counts.successors_called += 1;
                self.trace.headline(self.now, Some(id), format!("calls node {to} to succeed"));
                self.send(id, to, &message, own_now)?;
            }
        }
        Ok(())
    }
}

/// A question that nobody in his senses leaves unanswered, from another member, if there is one.
fn would_you_vote(raft: &Raft) -> (NodeId, PeerMessage) {
    let others = raft.configuration().members.keys().copied().filter(|other| *other != raft.id());
    let from = others.min().unwrap_or_else(|| NodeId::new(raft.id().get() + 1));
    let term = raft.current_term().next();
    let last_log = LogId::new(term, raft.last_log().index.next());
    let request = RequestVote { term, last_log, phase: VotePhase::PreVote };
    (from, PeerMessage::Raft(Message::RequestVote(request)))
}
