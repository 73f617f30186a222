//! What the log holds. Knows nothing of how entries are stored or sent.

use crate::recording::payload;
use crate::{Configuration, LogId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One slot of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Who it is.
    pub log_id: LogId,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry, so that it can commit its predecessors' (§3.6.2, §6.4).
    Noop,
    /// A command for the state machine, opaque to Raft.
    Command(#[serde(with = "payload")] Bytes),
    /// A command of a session, opaque to Raft as well: for the layer that keeps the sessions (§6.3).
    Session(#[serde(with = "payload")] Bytes),
    /// A configuration, effective from the moment it is appended (§4.1).
    Configuration(Arc<Configuration>),
}

impl Entry {
    /// What the entry counts for in every byte limit: its payload and a fixed overhead.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 48;
        OVERHEAD_BYTES
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(bytes) | Payload::Session(bytes) => bytes.len(),
                Payload::Configuration(configuration) => configuration.size_bytes(),
            }
    }
}
