//! Hashes of what entries hold, by which judges tell them apart. Knows nothing of where an entry stands.

use crate::hash::TraceHash;
use quorate_core::Payload;

/// A command's hash as an entry's content.
pub(super) fn command_hash(command: &[u8]) -> u64 {
    let mut hash = TraceHash::default();
    hash.number(1);
    hash.bytes(command);
    hash.value()
}

/// The hash of all that an entry holds beside its place.
pub(super) fn content_hash(payload: &Payload) -> u64 {
    let mut hash = TraceHash::default();
    match payload {
        Payload::Noop => hash.number(0),
        Payload::Command(command) => return command_hash(command),
        Payload::Session(request) => {
            hash.number(3);
            hash.bytes(request);
        }
        Payload::Configuration(configuration) => {
            hash.number(2);
            hash.bytes(format!("{configuration:?}").as_bytes());
        }
    }
    hash.value()
}
