//! What a world tells its recorder, if it has one. Looks and changes nothing.

use super::Cluster;
use super::node::{SimNode, State};
use crate::application::{Application, OpId, Outcome, Request};
use crate::judge::Breach;
use crate::record::{NodeState, Record, Recorder, Recording, Told};
use crate::words::{is_of_the_story, words_of};
use quorate::PeerMessage;
use quorate_core::{NodeId, Time};

impl<A: Application> Cluster<A> {
    /// From now on everything that `recording` wants is kept. The world goes on as if nobody
    /// listened.
    pub fn record(&mut self, recording: Recording) {
        self.trace.recorder = Some(Box::new(Recorder::new(recording)));
        self.begin_telling();
        self.tell_states();
    }

    /// What was kept since [`Self::record`], with the breach if there is one.
    pub fn take_record(&mut self) -> Record {
        self.trace.recorder.take().map_or_else(Record::default, |recorder| recorder.finish())
    }

    /// A step begins.
    pub(super) fn begin_telling(&mut self) {
        if let Some(recorder) = &mut self.trace.recorder {
            recorder.begin_step(self.now, self.steps);
        }
    }

    /// A step is over.
    pub(super) fn tell_states(&mut self) {
        if let Some(recorder) = &mut self.trace.recorder {
            for (id, node) in &self.nodes {
                recorder.state(*id, state_of(node));
            }
        }
    }

    pub(super) fn tell_received(&mut self, from: NodeId, to: NodeId, message: &PeerMessage) {
        if let Some(recorder) = &mut self.trace.recorder
            && recorder.wants_now()
            && (recorder.wants_all() || is_of_the_story(message))
        {
            let message = words_of(message);
            recorder.tell(Some(to), Told::Received { from, message });
        }
    }

    pub(super) fn tell_sent(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: &PeerMessage,
        arrivals: impl Iterator<Item = Time>,
    ) {
        if let Some(recorder) = &mut self.trace.recorder
            && recorder.wants_all()
        {
            let (message, arrivals) = (words_of(message), arrivals.collect());
            recorder.tell(Some(from), Told::Sent { to, message, arrivals });
        }
    }

    pub(super) fn tell_asked(
        &mut self,
        op: OpId,
        client: Option<usize>,
        node: NodeId,
        request: &Request,
    ) {
        if let Some(recorder) = &mut self.trace.recorder {
            let words = self.application.describe(op, request);
            recorder.tell(Some(node), Told::Asked { op, client, words });
        }
    }

    pub(super) fn tell_answered(&mut self, op: OpId, client: Option<usize>, outcome: &Outcome) {
        if let Some(recorder) = &mut self.trace.recorder {
            let words = self.application.describe_outcome(op, outcome);
            recorder.tell(None, Told::Answered { op, client, words });
        }
    }

    /// A judge has spoken.
    pub(crate) fn tell_breach(&mut self, breach: &Breach) {
        if let Some(recorder) = &mut self.trace.recorder {
            let (kind, text) = (breach.kind(), breach.to_string());
            recorder.tell(None, Told::Breach { kind, text });
        }
    }
}

fn state_of(node: &SimNode) -> NodeState {
    match &node.state {
        State::Down => NodeState::Down,
        State::Starting(_) => NodeState::Starting,
        State::Up(running) => {
            let raft = running.driver.raft();
            NodeState::Up {
                is_paused: node.paused,
                role: raft.role(),
                term: raft.current_term(),
                last_log: raft.last_log(),
                commit: raft.commit_index(),
            }
        }
    }
}
