//! The judge of what is said to whom: nobody is sent what its program does not know. Knows by itself what
//! each version has, whatever the encoder believes.

use super::Breach;
use quorate::PeerMessage;
use quorate_core::{Configuration, Entry, Message, NodeId, Payload, ProtocolVersion};
use std::ops::RangeInclusive;

/// The kinds of messages of version 5.
const KINDS_OF_5: [RangeInclusive<u8>; 2] = [0x01..=0x0c, 0x20..=0x26];
const FIVE: ProtocolVersion = ProtocolVersion::new(5);

/// Checks a message and the kind that its bytes begin with against what is spoken on the connection that
/// brought it.
///
/// # Errors
///
/// [`Breach::UnknownToPeer`].
pub(crate) fn check_known(
    from: NodeId,
    spoken: ProtocolVersion,
    kind: u8,
    message: &PeerMessage,
) -> Result<(), Breach> {
    if spoken > FIVE {
        return Ok(());
    }
    let is_kind = KINDS_OF_5.iter().any(|kinds| kinds.contains(&kind));
    let is_known = |configuration: &Configuration| configuration.cluster_version <= FIVE;
    let is_readable = if let PeerMessage::Raft(Message::AppendEntries(append)) = message {
        append.entries.iter().filter_map(configuration_of).all(is_known)
    } else if let PeerMessage::Raft(Message::InstallSnapshot(install)) = message {
        is_known(&install.meta.configuration)
    } else {
        true
    };
    if is_kind && is_readable {
        return Ok(());
    }
    Err(Breach::UnknownToPeer { from, spoken, kind })
}

fn configuration_of(entry: &Entry) -> Option<&Configuration> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some(configuration),
        Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{InstallSnapshot, LogId, LogIndex, SnapshotMeta, Term};
    use std::sync::Arc;

    fn snapshot(cluster_version: ProtocolVersion) -> PeerMessage {
        let configuration = Configuration { cluster_version, ..Configuration::default() };
        let meta =
            SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::new(configuration) };
        let (term, chunk) = (Term::new(1), bytes::Bytes::new());
        let install = InstallSnapshot { term, meta, offset: 0, chunk, done: false };
        PeerMessage::Raft(Message::InstallSnapshot(install))
    }

    #[test]
    fn a_kind_or_a_configuration_that_version_5_does_not_know_is_a_breach_and_to_version_6_none() {
        let (from, six) = (NodeId::new(1), ProtocolVersion::new(6));
        let plain = PeerMessage::StateWanted { at_least: LogIndex::new(1) };
        let check =
            |spoken, kind, message: &PeerMessage| check_known(from, spoken, kind, message).is_ok();
        assert!(check(FIVE, 0x26, &plain) && check(FIVE, 0x07, &snapshot(FIVE)));
        assert!(!check(FIVE, 0x27, &plain) && check(six, 0x27, &plain));
        assert!(!check(FIVE, 0x07, &snapshot(six)) && check(six, 0x07, &snapshot(six)));
    }
}
