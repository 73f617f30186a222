//! Any order of writes, truncations, resets, releases and restarts gives what plain vectors give;
//! every value of the codec comes back, and no bytes make it panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::fault_disk::FaultDisk;
use common::model::Model;
use common::{Rng, create, index, initial, open, read_all};
use proptest::prelude::*;
use quorate_core::{Change, Configuration, Entry, LogId, LogIndex, Member, MemberRole, NodeId};
use quorate_core::{Payload, ProtocolVersion, SnapshotMeta, Term};
use quorate_wal::{WalError, codec};
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/node";

proptest! {
    #[test]
    fn the_log_is_what_vectors_are(ops in prop::collection::vec((0_u8..12, any::<u64>()), 0..60)) {
        let disk = FaultDisk::default();
        let (mut wal, _) = create(&disk.arc(), Path::new(DIR)).unwrap();
        let mut model = Model::new(initial());
        for (op, seed) in ops {
            let mut rng = Rng::new(seed);
            match op {
                0 => {
                    drop(wal);
                    let (opened, recovered) = open(&disk.arc(), Path::new(DIR)).unwrap();
                    wal = opened;
                    model = model.restarted();
                    prop_assert_eq!(&Model::of(&recovered), &model);
                }
                1 => {
                    if let Some(base) = model.random_base(&mut rng) {
                        wal.release_prefix(&base).unwrap();
                        model = model.released(&base);
                    }
                }
                2 => drop(wal.prepare().map(|job| job.run().unwrap())),
                _ => {
                    let batch = model.random_batch(&mut rng);
                    wal.persist(&batch).unwrap();
                    model = model.after(&batch);
                }
            }
            prop_assert_eq!(wal.last_log(), model.last());
            prop_assert_eq!(wal.hard_state(), model.hard_state);
            prop_assert_eq!(&read_all(&mut wal).unwrap(), &model.entries);
            check_some_read(&mut wal, &model, &mut rng)?;
        }
    }

    #[test]
    fn an_entry_comes_back_from_its_bytes(entry in entries(), rest in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = Vec::new();
        codec::encode_entry(&entry, &mut bytes);
        bytes.extend(&rest);
        let mut bytes = Bytes::from(bytes);
        prop_assert_eq!(codec::decode_entry(&mut bytes), Ok(entry));
        prop_assert_eq!(&bytes[..], &rest[..]);
    }

    #[test]
    fn every_prefix_of_an_entry_is_an_error(entry in entries(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        codec::encode_entry(&entry, &mut bytes);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(codec::decode_entry(&mut Bytes::from(bytes)).is_err());
    }

    #[test]
    fn any_bytes_decode_or_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = codec::decode_entry(&mut bytes.clone());
        let _ = codec::decode_configuration(&mut bytes.clone());
        let mut input = bytes.clone();
        // One value has one encoding.
        if let Ok(meta) = codec::decode_snapshot_meta(&mut input) {
            let mut again = Vec::new();
            codec::encode_snapshot_meta(&meta, &mut again);
            prop_assert_eq!(&again[..], &bytes[..again.len()]);
        }
    }

    #[test]
    fn a_number_comes_back_from_its_bytes(number in any::<u64>(), shift in 0_u32..64) {
        let number = number >> shift;
        let mut bytes = Vec::new();
        codec::encode_varint(number, &mut bytes);
        prop_assert_eq!(codec::decode_varint(&mut Bytes::from(bytes), "number"), Ok(number));
    }
}

/// A read of any range within any limit is a piece of the whole, and not empty without reason.
fn check_some_read(
    wal: &mut quorate_wal::Wal,
    model: &Model,
    rng: &mut Rng,
) -> Result<(), TestCaseError> {
    let start = model.base.last_included.index.get();
    let first = start + rng.below(model.entries.len() as u64 + 3);
    let last = first + rng.below(20);
    let limit = usize::try_from(rng.below(2000)).unwrap();
    let found = wal.read(index(first), index(last), limit).unwrap();
    let wanted: Vec<_> = model
        .entries
        .iter()
        .filter(|entry| first > start && (first..=last).contains(&entry.log_id.index.get()))
        .cloned()
        .collect();
    prop_assert!(wanted.starts_with(&found));
    prop_assert_eq!(found.is_empty(), wanted.is_empty());
    let size: usize = found.iter().map(Entry::size_bytes).sum();
    prop_assert!(size <= limit || found.len() == 1);
    Ok(())
}

#[test]
fn overlong_and_overlarge_numbers_are_errors() {
    for bytes in
        [&[0x80, 0][..], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
    {
        let mut bytes = Bytes::copy_from_slice(bytes);
        assert!(codec::decode_varint(&mut bytes, "number").is_err());
    }
}

#[test]
fn an_entry_beyond_the_limit_of_a_record_is_refused() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), Path::new(DIR)).unwrap();
    let at_limit = 256 << 20;
    let command = |size| quorate_core::Persist {
        entries: vec![Entry {
            log_id: common::id(1, 1),
            payload: Payload::Command(Bytes::from(vec![0; size])),
        }],
        ..quorate_core::Persist::default()
    };
    let error = wal.persist(&[command(at_limit + 1)]).unwrap_err();
    assert!(matches!(error, WalError::TooLarge { limit_bytes, .. } if limit_bytes == at_limit));
}

fn log_ids() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(term, at)| LogId::new(Term::new(term), LogIndex::new(at)))
}

fn configurations() -> impl Strategy<Value = Configuration> {
    let role = prop_oneof![
        Just(MemberRole::Voter),
        Just(MemberRole::Incoming),
        Just(MemberRole::Outgoing),
        Just(MemberRole::Learner),
    ];
    let context = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let member = (role, any::<u32>(), ".{0,20}", context)
        .prop_map(|(role, rank, address, context)| Member { role, rank, address, context });
    let members = prop::collection::btree_map(any::<u64>().prop_map(NodeId::new), member, 0..6);
    let change = (members.clone(), members.clone())
        .prop_map(|(target, origin)| Box::new(Change { target, origin }));
    let removed = prop::collection::vec(any::<u64>().prop_map(NodeId::new), 0..6);
    let storages =
        prop::collection::btree_map(any::<u64>().prop_map(NodeId::new), any::<u128>(), 0..6);
    let spoken = prop_oneof![Just(ProtocolVersion::UNRECORDED), Just(ProtocolVersion::NEWEST)];
    (any::<u64>(), members, prop::option::of(change), removed, (storages, spoken)).prop_map(
        |(version, members, change, removed, (storages, cluster_version))| Configuration {
            version,
            members,
            change,
            removed,
            storages,
            cluster_version,
        },
    )
}

/// Encoding 2 is encoding 3 without its end: what was written before disks were recorded is read.
#[test]
fn a_configuration_of_encoding_2_is_read_as_one_that_knows_no_disks() {
    let known = common::configuration(4);
    let mut bytes = bytes::BytesMut::new();
    codec::encode_configuration(&known, &mut bytes);
    assert_eq!((bytes[0], bytes[bytes.len() - 1]), (3, 0), "no disk is known");
    bytes.truncate(bytes.len() - 1);
    bytes[0] = 2;
    assert_eq!(codec::decode_configuration(&mut bytes.freeze()).as_ref(), Ok(known.as_ref()));
}

/// Encoding 4 is encoding 3 with the protocol at its end, and is written only where one is recorded: a
/// program that records none goes on reading the logs of a cluster that speaks none later.
#[test]
fn a_configuration_says_which_protocol_the_cluster_speaks_only_if_one_is_recorded() {
    let known = common::configuration(4).as_ref().clone();
    let encoded = |known: &Configuration| {
        let mut bytes = bytes::BytesMut::new();
        codec::encode_configuration(known, &mut bytes);
        bytes
    };
    let older = encoded(&known);
    let newer = encoded(&Configuration { cluster_version: ProtocolVersion::new(6), ..known });
    assert_eq!((older[0], newer[0]), (3, 4));
    assert_eq!((&newer[1..older.len()], &newer[older.len()..]), (&older[1..], &[6][..]));
}

#[test]
fn a_protocol_that_this_program_does_not_speak_is_refused_by_name() {
    let next = ProtocolVersion::new(ProtocolVersion::NEWEST.get() + 1);
    let decoded = |cluster_version| {
        let mut bytes = bytes::BytesMut::new();
        let known = common::configuration(4).as_ref().clone();
        codec::encode_configuration(&Configuration { cluster_version, ..known }, &mut bytes);
        codec::decode_configuration(&mut bytes.freeze()).map_err(|error| error.to_string())
    };
    let expected = format!(
        "the cluster speaks protocol version {next}, this program up to {}: start the program that the \
         other members run",
        ProtocolVersion::NEWEST
    );
    assert_eq!(decoded(next), Err(expected));
    assert!(decoded(ProtocolVersion::new(4)).is_err(), "nobody has recorded that");
}

#[test]
fn disks_out_of_order_are_an_error() {
    let mut known = common::configuration(4).as_ref().clone();
    known.storages = [(NodeId::new(1), 7), (NodeId::new(2), 8)].into();
    let mut bytes = bytes::BytesMut::new();
    codec::encode_configuration(&known, &mut bytes);
    let second = bytes.len() - 17;
    bytes[second] = 1;
    let decoded = codec::decode_configuration(&mut bytes.freeze());
    assert!(matches!(decoded, Err(codec::DecodeError::MemberOrder { .. })), "{decoded:?}");
}

fn entries() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(Payload::Noop),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|it| Payload::Command(it.into())),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|it| Payload::Session(it.into())),
        configurations().prop_map(|it| Payload::Configuration(Arc::new(it))),
    ];
    (log_ids(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

#[test]
fn a_snapshot_meta_comes_back_from_its_bytes() {
    let meta =
        SnapshotMeta { last_included: common::id(3, 9), configuration: common::configuration(4) };
    let mut bytes = bytes::BytesMut::new();
    codec::encode_snapshot_meta(&meta, &mut bytes);
    assert_eq!(codec::decode_snapshot_meta(&mut bytes.freeze()), Ok(meta));
}
