//! A recording of a node's last moments, as a file holds it, and playing it: the same core is given
//! the same events once more, and must end in the same state. Nothing of what clients wrote is in it
//! but lengths and digests that nobody can turn back, so that it can be given to others.

use quorate_core::recording::{Unreadable, image_of_replay, read_event, read_image};
use quorate_core::{Effect, Event, NodeId, Raft, Time};
use serde::{Deserialize, Serialize};
use std::hash::Hasher;

/// How a file begins.
const MAGIC: [u8; 8] = *b"QRTFLGHT";
/// Raised when a file of before could not be read any more.
const FORMAT_VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// What a core was given lately, what it was before, and a hash of what it became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Whose it is.
    pub node: NodeId,
    /// The version of the program that recorded it; only the same one plays it.
    pub program: String,
    /// The core before the first event; see [`quorate_core::recording`].
    pub(crate) began: Vec<u8>,
    pub(crate) events: Vec<u8>,
    /// How many events there are.
    pub event_count: u64,
    pub(crate) ended: u64,
}

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file is something else.
    #[error("this is no recording: it does not begin as one")]
    NoRecording,
    /// Written by a program that is too new, or too old.
    #[error("this is a recording of format {found}; this program reads format {FORMAT_VERSION}")]
    Format {
        /// The format found.
        found: u8,
    },
    /// Bytes of it are missing, or are others.
    #[error(
        "this recording is damaged: its checksum is {found:08x}, and should be {expected:08x}; \
         copy it again"
    )]
    Damaged {
        /// The checksum of what is there.
        found: u32,
        /// The checksum that the file ends with.
        expected: u32,
    },
    /// It is whole, and says what this program does not understand.
    #[error("{error}; it was written by version {program}, and this is {}", env!("CARGO_PKG_VERSION"))]
    Unreadable {
        /// What was not understood.
        error: Unreadable,
        /// Who wrote it.
        program: String,
    },
    /// All events were played, and led elsewhere.
    #[error(
        "the {count} events lead to another state here (hash {found:016x}) than where they were \
         recorded ({expected:016x}): this is another build than the one that recorded them, version \
         {program}, or the core is not deterministic"
    )]
    LedElsewhere {
        /// How many events were played.
        count: u64,
        /// The hash of the state here.
        found: u64,
        /// The hash in the recording.
        expected: u64,
        /// Who wrote it.
        program: String,
    },
}

impl Recording {
    /// As a file holds it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = [MAGIC.as_slice(), &[FORMAT_VERSION]].concat();
        // A vector takes everything.
        let mut bytes = postcard::to_extend(self, head).unwrap_or_default();
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// What a file holds.
    ///
    /// # Errors
    ///
    /// [`RecordingError`]: it is no recording, or of another format, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordingError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(RecordingError::NoRecording)?;
        let (version, _) = body.split_first().ok_or(RecordingError::NoRecording)?;
        if *version != FORMAT_VERSION {
            return Err(RecordingError::Format { found: *version });
        }
        let (covered, end) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(covered, _)| covered.len() > MAGIC.len())
            .ok_or(RecordingError::NoRecording)?;
        let (found, expected) = (crc32c::crc32c(covered), u32::from_le_bytes(*end));
        if found != expected {
            return Err(RecordingError::Damaged { found, expected });
        }
        let content = covered.get(MAGIC.len() + 1..).unwrap_or_default();
        postcard::from_bytes(content).map_err(|error| RecordingError::Unreadable {
            error: error.into(),
            program: String::from("unknown"),
        })
    }

    /// Plays it from the beginning.
    ///
    /// # Errors
    ///
    /// [`RecordingError::Unreadable`] if another build wrote it.
    pub fn play(&self) -> Result<Replay<'_>, RecordingError> {
        let raft = read_image(&self.began).map_err(|error| self.unreadable(error))?;
        Ok(Replay { recording: self, raft, rest: &self.events, played: 0 })
    }

    /// What stands for a state.
    pub(crate) fn hash(image: &[u8]) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(image);
        hasher.finish()
    }

    fn unreadable(&self, error: Unreadable) -> RecordingError {
        RecordingError::Unreadable { error, program: self.program.clone() }
    }
}

/// A recording that is being played.
#[derive(Debug)]
pub struct Replay<'a> {
    recording: &'a Recording,
    raft: Raft,
    rest: &'a [u8],
    played: u64,
}

/// One event that was played.
#[derive(Debug)]
pub struct Step {
    /// When it came, since the node started.
    pub now: Time,
    /// What happened.
    pub event: Event,
    /// What the core wanted done.
    pub effects: Vec<Effect>,
}

impl Replay<'_> {
    /// The core as of now.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Gives the core its next event; `None` after the last, if it has led where it should.
    ///
    /// # Errors
    ///
    /// [`RecordingError::Unreadable`] if another build wrote it, [`RecordingError::LedElsewhere`] after
    /// the last event, if the state is another one than the recorded one.
    pub fn step(&mut self) -> Result<Option<Step>, RecordingError> {
        if self.rest.is_empty() {
            return self.compare().map(|()| None);
        }
        let next = read_event(&mut self.rest);
        let (now, event) = next.map_err(|error| self.recording.unreadable(error))?;
        let mut effects = Vec::new();
        self.raft.step(now, event.clone(), &mut effects);
        self.played += 1;
        Ok(Some(Step { now, event, effects }))
    }

    fn compare(&self) -> Result<(), RecordingError> {
        let found = Recording::hash(&image_of_replay(&self.raft));
        let expected = self.recording.ended;
        if found == expected {
            return Ok(());
        }
        let program = self.recording.program.clone();
        Err(RecordingError::LedElsewhere { count: self.played, found, expected, program })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let (node, program) = (NodeId::new(7), String::from("0.0.0"));
        Recording { node, program, began: vec![1, 2], events: vec![3], event_count: 1, ended: 9 }
    }

    #[test]
    fn a_file_gives_back_what_was_put_into_it() {
        let bytes = recording().to_bytes();
        assert_eq!(Recording::from_bytes(&bytes).unwrap(), recording());
    }

    #[test]
    fn a_file_with_a_flipped_bit_is_refused_wherever_it_is() {
        let bytes = recording().to_bytes();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(Recording::from_bytes(&damaged).is_err(), "byte {place}");
            assert!(Recording::from_bytes(&bytes[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn what_is_no_core_is_told_with_who_wrote_it() {
        let error = recording().play().unwrap_err().to_string();
        assert!(error.contains("0.0.0"), "{error}");
    }
}
