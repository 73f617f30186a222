//! What each version says and knows. The bytes of `protocol-5.txt` were written by a program that spoke
//! no other version.

use super::hello::{LinkFrame, put_link_frame, take_link_frame};
use super::samples::{self, FIVE, Named};
use super::{
    Reject, SpokenRange, WireError, decode_peer_message, encode_peer_message, put_peer_frame, since,
};
use crate::PeerMessage;
use bytes::{Bytes, BytesMut};
use quorate_core::{
    AppendEntries, Configuration, Entry, InstallSnapshot, LogId, LogIndex, Message, Payload,
    ProtocolVersion, SnapshotMeta, Term,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SAID_BY_FIVE: &str = include_str!("protocol-5.txt");
const SIX: ProtocolVersion = ProtocolVersion::new(6);

fn said_by_five() -> BTreeMap<&'static str, Bytes> {
    let line = |line: &'static str| {
        let (name, digits) = line.split_once(": ").unwrap();
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        (name, pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect())
    };
    SAID_BY_FIVE.lines().map(line).collect()
}

/// Of each name the bytes, and what has become of them.
fn each<T>(samples: Vec<Named<T>>, mut check: impl FnMut(&str, Bytes, T)) {
    let said = said_by_five();
    for (name, sample) in samples {
        check(name, said[name].clone(), sample);
    }
}

#[test]
fn what_version_5_said_is_understood_and_said_again_byte_by_byte() {
    each(samples::messages(), |name, bytes, message| {
        assert_eq!(decode_peer_message(bytes.clone(), FIVE).as_ref(), Ok(&message), "{name}");
        let mut out = BytesMut::new();
        encode_peer_message(&message, FIVE, &mut out).unwrap();
        assert_eq!(out.freeze(), bytes, "{name}");
    });
    each(samples::link_frames(), |name, bytes, frame| {
        assert_eq!(take_link_frame(bytes.clone()).as_ref(), Ok(&frame), "{name}");
        let mut out = BytesMut::new();
        put_link_frame(&frame, &mut out);
        assert_eq!(out.freeze(), bytes, "{name}");
    });
}

#[test]
fn every_kind_that_version_5_had_is_among_what_it_said() {
    let said = said_by_five();
    let kinds: BTreeSet<u8> = said.values().map(|bytes| bytes[0]).collect();
    let expected = (0x01..=0x0c).chain(0x20..=0x26).chain(0x60..=0x66);
    assert_eq!(kinds, expected.collect());
    assert_eq!(said.len(), samples::messages().len() + samples::link_frames().len());
}

/// What a cluster of version 6 has in its log, and in its snapshots.
fn of_version_6() -> [PeerMessage; 2] {
    let known = Configuration { cluster_version: SIX, ..samples::configuration() };
    let (term, configuration) = (Term::new(1), Arc::new(known));
    let log_id = LogId::new(term, LogIndex::new(1));
    let payload = Payload::Configuration(Arc::clone(&configuration));
    let append = AppendEntries {
        term,
        prev_log: LogId::ORIGIN,
        entries: vec![Entry { log_id, payload }],
        leader_commit: LogIndex::ORIGIN,
    };
    let meta = SnapshotMeta { last_included: log_id, configuration };
    let install = InstallSnapshot { term, meta, offset: 0, chunk: Bytes::new(), done: false };
    [Message::AppendEntries(append), Message::InstallSnapshot(install)].map(PeerMessage::Raft)
}

#[test]
fn what_version_5_does_not_know_is_neither_said_to_it_nor_believed_of_it() {
    for message in of_version_6() {
        assert_eq!(since(&message), SIX);
        let mut out = BytesMut::new();
        let unknown = WireError::NotInVersion { since: SIX, spoken: FIVE };
        assert_eq!(encode_peer_message(&message, FIVE, &mut out), Err(unknown.clone()));
        assert_eq!(put_peer_frame(&message, FIVE, &mut out), Err(unknown.clone()));
        assert!(out.is_empty(), "nothing is half said");
        encode_peer_message(&message, SIX, &mut out).unwrap();
        let body = out.freeze();
        assert_eq!(decode_peer_message(body.clone(), FIVE), Err(unknown));
        assert_eq!(decode_peer_message(body, SIX), Ok(message));
    }
}

/// From version 6 on, a handshake of a later version is understood as far as it goes.
#[test]
fn what_a_later_version_adds_to_its_handshake_is_passed_over() {
    let later = ProtocolVersion::new(ProtocolVersion::NEWEST.get() + 1);
    let hello = samples::link_frames().into_iter().find_map(|(_, frame)| match frame {
        LinkFrame::Hello(hello) => Some(hello),
        _ => None,
    });
    let hello = hello.unwrap();
    let spoken = |newest| Some(super::Spoken { version: SIX, newest });
    let range = |newest| Some(SpokenRange { newest, is_cluster: false });
    let frames = |newest| {
        let welcome = LinkFrame::Welcome { storage_id: 3, spoken: spoken(newest) };
        let reject = Reject::Version { expected: SIX, got: FIVE, range: range(newest) };
        let hello = super::Hello { version: newest, ..hello.clone() };
        [LinkFrame::Hello(hello), welcome, LinkFrame::Reject(reject)]
    };
    let with_more = |frame: &LinkFrame| {
        let mut out = BytesMut::new();
        put_link_frame(frame, &mut out);
        out.extend_from_slice(b"more");
        take_link_frame(out.freeze())
    };
    for frame in frames(later) {
        assert_eq!(with_more(&frame), Ok(frame));
    }
    for frame in frames(ProtocolVersion::NEWEST) {
        assert_eq!(with_more(&frame), Err(WireError::Trailing { left_bytes: 4 }));
    }
}

#[test]
fn who_is_turned_away_for_its_version_is_told_both_and_what_to_do() {
    let reject = |expected, got, range: Option<(u16, bool)>| {
        let protocol = ProtocolVersion::new;
        let range =
            range.map(|(newest, is_cluster)| SpokenRange { newest: protocol(newest), is_cluster });
        Reject::Version { expected: protocol(expected), got: protocol(got), range }.to_string()
    };
    for (told, words) in [
        (reject(6, 5, None), ["version 6 expected, got 5", "the older program has to be upgraded"]),
        (
            reject(7, 6, Some((8, true))),
            ["speaks protocol version 7", "that the other members run"],
        ),
        (reject(7, 6, Some((8, false))), ["versions 7 to 8 expected, got 6", "upgrade the caller"]),
        (reject(5, 9, Some((6, false))), ["versions 5 to 6 expected, got 9", "the acceptor, one"]),
    ] {
        assert!(words.iter().all(|words| told.contains(words)), "{told}");
    }
}
