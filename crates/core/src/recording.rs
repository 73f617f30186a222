//! A core in bytes, so that what happened to it can happen again elsewhere: its whole state, and then
//! the events that it was given, one behind the other. Commands and pieces of snapshots are not in
//! there, only a digest of each and its length: the core does not look into them, so that a stand-in
//! of the same length is as good to it. Not a format for the disk or the wire: only the build that
//! wrote it reads it.

use crate::{Event, Raft, Time};
use std::cell::RefCell;
use std::hash::RandomState;

thread_local! {
    /// By what payloads are digested while they are written; `None`: they are stand-ins already.
    static KEY: RefCell<Option<RandomState>> = const { RefCell::new(None) };
}

/// What is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no recording that this build wrote: {0}")]
pub struct Unreadable(String);

impl From<postcard::Error> for Unreadable {
    fn from(error: postcard::Error) -> Self {
        Self(error.to_string())
    }
}

/// Writes recordings. Nobody can guess a payload by its digest: the key is in memory only, and each
/// scribe has one of its own.
#[derive(Clone, Debug, Default)]
pub struct Scribe {
    key: RandomState,
}

impl Scribe {
    /// The whole state of `raft`, between two steps.
    #[must_use]
    pub fn image(&self, raft: &Raft) -> Vec<u8> {
        self.digesting(|| image_of_replay(raft))
    }

    /// Appends one event to `recording`.
    pub fn note(&self, now: Time, event: &Event, recording: &mut Vec<u8>) {
        let before = std::mem::take(recording);
        // A vector takes everything.
        let written = self.digesting(|| postcard::to_extend(&(now, event), before));
        *recording = written.unwrap_or_default();
    }

    fn digesting<T>(&self, write: impl FnOnce() -> T) -> T {
        /// The key goes even if the writing panics.
        struct Guard;
        impl Drop for Guard {
            fn drop(&mut self) {
                KEY.set(None);
            }
        }
        KEY.set(Some(self.key.clone()));
        let _guard = Guard;
        write()
    }
}

/// The same of a core that was read from a recording: equal to the [`Scribe::image`] that the
/// recorded core would have at this moment.
#[must_use]
pub fn image_of_replay(raft: &Raft) -> Vec<u8> {
    // A vector takes everything.
    postcard::to_extend(raft, Vec::new()).unwrap_or_default()
}

/// The core of an image.
///
/// # Errors
///
/// [`Unreadable`] if it is damaged, or of another build.
pub fn read_image(image: &[u8]) -> Result<Raft, Unreadable> {
    let (raft, rest) = postcard::take_from_bytes(image)?;
    match rest.len() {
        0 => Ok(raft),
        count => Err(Unreadable(format!("{count} bytes follow the state of the core"))),
    }
}

/// Takes one event from the front of `recording`, and when it came.
///
/// # Errors
///
/// [`Unreadable`] if it is damaged, or of another build.
pub fn read_event(recording: &mut &[u8]) -> Result<(Time, Event), Unreadable> {
    let (event, rest) = postcard::take_from_bytes(recording)?;
    *recording = rest;
    Ok(event)
}

/// How the bytes of commands and pieces are written, which are nobody's business.
pub(crate) mod payload {
    use super::KEY;
    use bytes::{Bytes, BytesMut};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::hash::BuildHasher;

    /// No payload is longer; whatever says so is damaged, and is not given memory.
    const SIZE_BYTES_MAX: usize = 1 << 30;

    /// Length, and as much of the digest as is not longer than that.
    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, out: S) -> Result<S::Ok, S::Error> {
        let mut digest = [0; 8];
        let size = bytes.len().min(digest.len());
        let keyed = KEY.with_borrow(|key| key.as_ref().map(|key| key.hash_one(bytes)));
        let keyed = keyed.map(u64::to_le_bytes);
        let source = keyed.as_ref().map_or(bytes.as_ref(), |keyed| keyed.as_slice());
        for (to, from) in digest.iter_mut().zip(source).take(size) {
            *to = *from;
        }
        (bytes.len(), digest).serialize(out)
    }

    /// A stand-in: of that length, beginning with the digest.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let (size, digest) = <(usize, [u8; 8])>::deserialize(from)?;
        if size > SIZE_BYTES_MAX {
            return Err(D::Error::custom("a payload is longer than any can be"));
        }
        let mut bytes = BytesMut::zeroed(size);
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = from;
        }
        Ok(bytes.freeze())
    }
}
