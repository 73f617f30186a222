//! Which version of the protocol has brought what: nothing is said on a connection that the other side
//! does not know, and what it should not know yet is not believed. Must not know a byte of it.

use super::cursor::WireError;
use super::message::{put_peer_message, take_peer_message};
use crate::PeerMessage;
use bytes::{Bytes, BytesMut};
use quorate_core::{Configuration, Entry, Message, Payload, ProtocolVersion};

/// Appends a message as version `spoken` of the protocol says it: its kind, then its fields.
///
/// # Errors
///
/// [`WireError::NotInVersion`] if that version does not know it; nothing is appended then.
pub fn encode_peer_message(
    message: &PeerMessage,
    spoken: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    check_said_in(message, spoken)?;
    put_peer_message(message, out);
    Ok(())
}

/// Reads what [`encode_peer_message`] wrote; commands and chunks share `body`'s buffer.
///
/// # Errors
///
/// [`WireError`] if the body is not exactly one well-formed message of version `spoken`: then its sender
/// is broken, or is no node at all.
pub fn decode_peer_message(body: Bytes, spoken: ProtocolVersion) -> Result<PeerMessage, WireError> {
    let message = take_peer_message(body)?;
    check_said_in(&message, spoken)?;
    Ok(message)
}

/// The oldest version of the protocol in which a message can be said, by its kind and by what it
/// carries: entries and snapshots are those of a cluster, and whoever gets them has to speak what the
/// cluster speaks.
#[must_use]
pub fn since(message: &PeerMessage) -> ProtocolVersion {
    match message {
        PeerMessage::Raft(message) => since_of_raft(message),
        PeerMessage::Forward { .. }
        | PeerMessage::ForwardReplies { .. }
        | PeerMessage::ChangeMembership { .. }
        | PeerMessage::MembershipReply { .. }
        | PeerMessage::Introduce(_)
        | PeerMessage::Digest(_)
        | PeerMessage::StateWanted { .. } => ProtocolVersion::OLDEST,
    }
}

fn since_of_raft(message: &Message) -> ProtocolVersion {
    match message {
        Message::AppendEntries(append) => {
            let versions = append.entries.iter().filter_map(configuration_of).map(since_of);
            versions.max().unwrap_or(ProtocolVersion::OLDEST)
        }
        Message::InstallSnapshot(install) => since_of(&install.meta.configuration),
        Message::RequestVote(_)
        | Message::RequestVoteResponse(_)
        | Message::AppendEntriesResponse(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatResponse(_)
        | Message::InstallSnapshotResponse(_)
        | Message::TimeoutNow(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexResponse(_)
        | Message::NotAMember(_) => ProtocolVersion::OLDEST,
        Message::LostEntries(_) | Message::LostEntriesResponse(_) => ProtocolVersion::new(6),
    }
}

fn configuration_of(entry: &Entry) -> Option<&Configuration> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some(configuration),
        Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
    }
}

fn since_of(configuration: &Configuration) -> ProtocolVersion {
    configuration.cluster_version.max(ProtocolVersion::OLDEST)
}

/// Whether a message can be said in this version.
///
/// # Errors
///
/// [`WireError::NotInVersion`].
pub(crate) fn check_said_in(
    message: &PeerMessage,
    spoken: ProtocolVersion,
) -> Result<(), WireError> {
    let since = since(message);
    if since > spoken {
        return Err(WireError::NotInVersion { since, spoken });
    }
    Ok(())
}
