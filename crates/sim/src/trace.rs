//! What happened, for people and for comparison: a hash over every event, counters, and the last
//! notes of the story. Written to by the world; decides nothing.

use crate::counts::Counts;
use crate::hash::TraceHash;
use crate::record::{Recorder, Told};
use quorate_core::{Message, NodeId, Role, Term, Time, VotePhase};
use std::collections::VecDeque;
use std::fmt;

/// How many notes of each kind are kept for the end of a story.
const NOTES_KEPT: usize = 40;

/// The record of one world.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: TraceHash,
    details: VecDeque<(u64, Note)>,
    headlines: VecDeque<(u64, Note)>,
    note_count: u64,
    pub(crate) counts: Counts,
    /// The trouble that is happening at this moment, by its ordinal.
    pub(crate) trouble: Option<u64>,
    /// Keeps everything, if somebody wants to read it.
    pub(crate) recorder: Option<Box<Recorder>>,
}

/// One line of the story.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) at: Time,
    pub(crate) node: Option<NodeId>,
    pub(crate) what: What,
}

/// What a line tells.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Something that a reader looks for first.
    Headline(String),
    /// A message arrived.
    Received { from: NodeId, kind: &'static str, term: Term },
    /// A write became durable.
    Persisted { seq: u64 },
    /// Entries were applied.
    Applied { through: u64 },
    /// Another role or term.
    Became { role: Role, term: Term },
}

impl Trace {
    /// Adds an event to the hash.
    pub(crate) fn event(&mut self, at: Time, kind: u64, node: u64, content: u64) {
        self.hash.number(at.as_micros());
        self.hash.number((kind << 32) | node);
        self.hash.number(content);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash.value()
    }

    /// Keeps a line.
    pub(crate) fn note(&mut self, note: Note) {
        if let Some(recorder) = &mut self.recorder
            && recorder.wants_all()
        {
            match &note.what {
                What::Persisted { seq } => recorder.tell(note.node, Told::Persisted { seq: *seq }),
                What::Applied { through } => {
                    recorder.tell(note.node, Told::Applied { through: *through });
                }
                // Told elsewhere, with more.
                What::Headline(_) | What::Received { .. } | What::Became { .. } => {}
            }
        }
        self.note_count += 1;
        let ring = match note.what {
            What::Headline(_) | What::Became { .. } => &mut self.headlines,
            What::Received { .. } | What::Persisted { .. } | What::Applied { .. } => {
                &mut self.details
            }
        };
        if ring.len() == NOTES_KEPT {
            ring.pop_front();
        }
        ring.push_back((self.note_count, note));
    }

    /// Keeps a headline.
    pub(crate) fn headline(&mut self, at: Time, node: Option<NodeId>, mut text: String) {
        if let Some(recorder) = &mut self.recorder {
            let told = Told::Headline { trouble: self.trouble, text: text.clone() };
            recorder.tell(node, told);
        }
        if let Some(ordinal) = self.trouble {
            text = format!("#{ordinal} {text}");
        }
        self.note(Note { at, node, what: What::Headline(text) });
    }

    /// The end of the story, in order.
    pub(crate) fn story(&self) -> Vec<String> {
        let mut notes: Vec<&(u64, Note)> = self.details.iter().chain(&self.headlines).collect();
        notes.sort_by_key(|(order, _)| *order);
        notes.into_iter().map(|(_, note)| note.to_string()).collect()
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_micros();
        write!(f, "{:>5}.{:06}  ", micros / 1_000_000, micros % 1_000_000)?;
        match self.node {
            Some(node) => write!(f, "n{node}  ")?,
            None => write!(f, "--  ")?,
        }
        match &self.what {
            What::Headline(text) => f.write_str(text),
            What::Received { from, kind, term } => write!(f, "<- n{from} {kind} (term {term})"),
            What::Persisted { seq } => write!(f, "write {seq} is durable"),
            What::Applied { through } => write!(f, "applied through {through}"),
            What::Became { role, term } => write!(f, "** {role} in term {term}"),
        }
    }
}

/// The name of a message, for people.
pub(crate) fn kind_of(message: &Message) -> &'static str {
    match message {
        Message::RequestVote(vote) => match vote.phase {
            VotePhase::PreVote => "RequestVote (pre-vote)",
            VotePhase::Vote => "RequestVote",
            VotePhase::Transfer => "RequestVote (transfer)",
        },
        Message::RequestVoteResponse(vote) => match (vote.phase, vote.granted) {
            (VotePhase::PreVote, true) => "RequestVoteResponse granted (pre-vote)",
            (VotePhase::PreVote, false) => "RequestVoteResponse denied (pre-vote)",
            (VotePhase::Vote | VotePhase::Transfer, true) => "RequestVoteResponse granted",
            (VotePhase::Vote | VotePhase::Transfer, false) => "RequestVoteResponse denied",
        },
        Message::AppendEntries(_) => "AppendEntries",
        Message::AppendEntriesResponse(_) => "AppendEntriesResponse",
        Message::Heartbeat(_) => "Heartbeat",
        Message::HeartbeatResponse(_) => "HeartbeatResponse",
        Message::InstallSnapshot(_) => "InstallSnapshot",
        Message::InstallSnapshotResponse(_) => "InstallSnapshotResponse",
        Message::TimeoutNow(_) => "TimeoutNow",
        Message::ReadIndex(_) => "ReadIndex",
        Message::ReadIndexResponse(_) => "ReadIndexResponse",
        Message::NotAMember(_) => "NotAMember",
        Message::LostEntries(_) => "LostEntries",
        Message::LostEntriesResponse(_) => "LostEntriesResponse",
    }
}
