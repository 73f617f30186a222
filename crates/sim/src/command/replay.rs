//! Plays a recording of a real node's last moments: the core that is shipped is given the same events
//! at the same times, and must end in the state that was recorded. Knows nothing of worlds.

use super::failure::CommandError;
use crate::words::words_of;
use quorate::core::{Effect, Event, Raft, Time};
use quorate::{PeerMessage, Recording, Step};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a recording was not played to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("reading the recording {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be played, or leads elsewhere.
    #[error("{}: {source}", path.display())]
    Play {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: quorate::RecordingError,
    },
}

/// What is told of a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Every event, not only those after which the server is another.
    pub(super) all: bool,
    pub(super) from: Time,
    pub(super) to: Time,
}

/// Plays the recording of a file, and tells what happened.
pub(super) fn replay(path: &Path, told: Told, out: &mut impl Write) -> Result<(), CommandError> {
    let bytes = std::fs::read(path)
        .map_err(|source| ReplayError::Read { path: path.to_owned(), source })?;
    let failed = |source| ReplayError::Play { path: path.to_owned(), source };
    let recording = Recording::from_bytes(&bytes).map_err(failed)?;
    let mut replay = recording.play().map_err(failed)?;
    let (count, node) = (recording.event_count, recording.node);
    writeln!(out, "{count} events of n{node}, recorded by version {}", recording.program)?;
    let mut before = Standing::of(replay.raft());
    writeln!(out, "it begins as {before}")?;
    while let Some(step) = replay.step().map_err(failed)? {
        let after = Standing::of(replay.raft());
        let is_told = told.all || after != before;
        if is_told && told.from <= step.now && step.now <= told.to {
            tell(&step, (after != before).then_some(&after), out)?;
        }
        before = after;
    }
    let raft = replay.raft();
    writeln!(
        out,
        "it ends as {before}; log up to {}, committed up to {}",
        raft.last_log(),
        raft.commit_index()
    )?;
    writeln!(out, "the state is the one that was recorded")?;
    Ok(())
}

fn tell(step: &Step, becomes: Option<&Standing>, out: &mut impl Write) -> io::Result<()> {
    let seconds = step.now.since(Time::ZERO).as_secs_f64();
    write!(out, "{seconds:>12.6} s  {}", event_words(&step.event))?;
    for effect in &step.effects {
        if let Effect::Send { to, message } = effect {
            write!(out, "; to n{to}: {}", words_of(&PeerMessage::Raft(message.clone())))?;
        }
    }
    if let Some(standing) = becomes {
        write!(out, "\n{:>16}is now {standing}", "")?;
    }
    writeln!(out)
}

/// What somebody who looks for the reason of something wants to know first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    role: quorate::Role,
    term: quorate::Term,
    leader: Option<quorate::NodeId>,
    poison: Option<String>,
}

impl Standing {
    fn of(raft: &Raft) -> Self {
        let poison = raft.is_poisoned().then(|| raft.status().poisoned).flatten();
        Self {
            role: raft.role(),
            term: raft.current_term(),
            leader: raft.leader(),
            poison: poison.map(|poison| poison.to_string()),
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of term {}", self.role, self.term)?;
        match self.leader {
            Some(leader) => write!(f, ", led by n{leader}")?,
            None => write!(f, ", led by nobody it knows")?,
        }
        match &self.poison {
            Some(poison) => write!(f, ", and takes part no more: {poison}"),
            None => Ok(()),
        }
    }
}

/// An event in a few words.
fn event_words(event: &Event) -> String {
    match event {
        Event::Message { from, message } => {
            format!("from n{from}: {}", words_of(&PeerMessage::Raft(message.clone())))
        }
        Event::Propose(proposals) => {
            let bytes: usize = proposals.iter().map(|proposal| proposal.command.len()).sum();
            format!("{} commands of {bytes} bytes", proposals.len())
        }
        Event::Loaded { request, entries } => {
            format!("{} entries are read from {} on", entries.len(), request.first)
        }
        Event::SnapshotChunk { peer, last_included, offset, chunk, .. } => {
            format!("{} bytes at {offset} of snapshot {last_included} for n{peer}", chunk.len())
        }
        Event::Read { .. }
        | Event::ReadByLease { .. }
        | Event::ClockJumped { .. }
        | Event::Deadline
        | Event::Persisted { .. }
        | Event::Applied { .. }
        | Event::Compact { .. }
        | Event::SnapshotReady { .. }
        | Event::SparesLoaded { .. }
        | Event::SnapshotGone { .. }
        | Event::SnapshotWritten { .. }
        | Event::SnapshotRestored { .. }
        | Event::TransferLeadership { .. }
        | Event::Introduced { .. }
        | Event::Speaks { .. }
        | Event::PeerGone { .. }
        | Event::SetOptions(_)
        | Event::ChangeMembership { .. }
        | Event::DiskFailed
        | Event::Diverged { .. }
        | Event::StateWanted { .. } => format!("{event:?}"),
    }
}
