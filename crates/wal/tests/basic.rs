//! The log on the real disk, from the outside: what is persisted comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, Member, MemberRole, NodeId, Payload, Persist,
    SnapshotMeta, Term,
};
use quorate_wal::{Damage, Identity, RealDisk, Standing, Wal, WalError, WalOptions};
use std::path::Path;
use std::sync::Arc;

const NODE: NodeId = NodeId::new(2);

fn identity() -> Identity {
    Identity { cluster_id: 1, node_id: NODE, storage_id: 3 }
}

fn configuration(version: u64) -> Arc<Configuration> {
    let member = Member {
        role: MemberRole::Voter,
        rank: 7,
        address: "127.0.0.1:2380".to_owned(),
        context: Bytes::from_static(b"n1"),
    };
    Arc::new(Configuration::new(version, [(NODE, member)].into()))
}

fn initial() -> SnapshotMeta {
    SnapshotMeta { last_included: LogId::ORIGIN, configuration: configuration(1) }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

fn command(term: u64, index: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(vec![index.to_le_bytes()[0]; 100]));
    Entry { log_id: id(term, index), payload }
}

fn commands(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Persist {
    Persist { entries: indexes.map(|index| command(term, index)).collect(), ..Persist::default() }
}

fn create(dir: &Path) -> Wal {
    let disk = Arc::new(RealDisk);
    Wal::create(disk, dir, WalOptions::default(), identity(), initial()).unwrap().0
}

fn open(dir: &Path) -> (Wal, quorate_wal::Recovered) {
    Wal::open(Arc::new(RealDisk), dir, WalOptions::default(), 1, NODE).unwrap()
}

#[test]
fn what_was_persisted_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    let hard_state = HardState { current_term: Term::new(2), voted_for: Some(NODE) };
    let changed = Entry { log_id: id(2, 4), payload: Payload::Configuration(configuration(2)) };
    let noop = Entry { log_id: id(2, 5), payload: Payload::Noop };
    wal.persist(&[
        commands(1, 1..=3),
        Persist {
            truncate_after: Some(LogIndex::new(3)),
            entries: vec![changed.clone(), noop.clone()],
            hard_state: Some(hard_state),
            ..Persist::default()
        },
    ])
    .unwrap();
    drop(wal);
    let (mut wal, recovered) = open(dir.path());
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!(recovered.base, initial());
    assert_eq!(recovered.last_log, id(2, 5));
    assert_eq!(
        recovered.term_runs,
        [(LogIndex::new(1), Term::new(1)), (LogIndex::new(4), Term::new(2))]
    );
    assert_eq!(recovered.configurations, [(LogIndex::new(4), configuration(2))]);
    assert_eq!(recovered.torn_tail, None);
    let all = vec![command(1, 1), command(1, 2), command(1, 3), changed, noop];
    assert_eq!(recovered.tail, all);
    assert_eq!(wal.read(LogIndex::new(1), LogIndex::new(9), 1 << 20).unwrap(), all);
    assert_eq!(wal.read(LogIndex::new(2), LogIndex::new(3), 1 << 20).unwrap(), all[1..3]);
    assert_eq!(wal.read(LogIndex::new(2), LogIndex::new(9), 1).unwrap(), all[1..2], "at least one");
    assert_eq!(wal.read(LogIndex::new(6), LogIndex::new(9), 1 << 20).unwrap(), []);
}

#[test]
fn every_kind_of_entry_comes_back_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    let text = Bytes::from_static(b"a command");
    let payloads = [
        Payload::Noop,
        Payload::Command(text.clone()),
        Payload::Session(text),
        Payload::Configuration(configuration(4)),
        Payload::Command(Bytes::new()),
        Payload::Session(Bytes::new()),
    ];
    let entries: Vec<_> = (1..)
        .zip(payloads)
        .map(|(index, payload)| Entry { log_id: id(1, index), payload })
        .collect();
    wal.persist(&[Persist { entries: entries.clone(), ..Persist::default() }]).unwrap();
    assert_eq!(wal.read(LogIndex::new(1), LogIndex::new(9), 1 << 20).unwrap(), entries);
    drop(wal);
    assert_eq!(open(dir.path()).1.tail, entries);
}

#[test]
fn truncation_reset_and_release_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.persist(&[commands(1, 1..=10)]).unwrap();
    let cut = Persist { truncate_after: Some(LogIndex::new(6)), ..Persist::default() };
    wal.persist(&[cut, commands(2, 7..=8)]).unwrap();
    let base = SnapshotMeta { last_included: id(1, 4), configuration: configuration(1) };
    wal.release_prefix(&base).unwrap();
    drop(wal);
    let (mut wal, recovered) = open(dir.path());
    assert_eq!((recovered.base, recovered.last_log), (base, id(2, 8)));
    assert_eq!(recovered.tail.len(), 4);
    assert_eq!(wal.read(LogIndex::new(4), LogIndex::new(8), 1 << 20).unwrap(), []);
    let base = SnapshotMeta { last_included: id(5, 50), configuration: configuration(9) };
    let reset = Persist { reset: Some(base.clone()), ..commands(5, 51..=52) };
    wal.persist(&[reset]).unwrap();
    drop(wal);
    let (wal, recovered) = open(dir.path());
    assert_eq!((recovered.base, recovered.last_log), (base, id(5, 52)));
    assert_eq!(recovered.tail, [command(5, 51), command(5, 52)]);
    assert_eq!(wal.first_index(), LogIndex::new(51));
}

#[test]
fn a_folder_of_another_cluster_or_node_is_refused_and_so_is_a_second_process() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<RealDisk> = Arc::new(RealDisk);
    let missing = Wal::open(disk.clone(), dir.path(), WalOptions::default(), 1, NODE).err();
    assert!(matches!(missing, Some(WalError::Missing { .. })));
    let wal = create(dir.path());
    let locked = Wal::open(disk.clone(), dir.path(), WalOptions::default(), 1, NODE).err().unwrap();
    let own_pid = std::process::id();
    assert!(matches!(locked, WalError::Locked { pid: Some(pid), .. } if pid == own_pid));
    assert!(locked.to_string().contains(&own_pid.to_string()), "{locked}");
    drop(wal);
    for (cluster_id, node_id) in [(9, NODE), (1, NodeId::new(9))] {
        let error = Wal::open(disk.clone(), dir.path(), WalOptions::default(), cluster_id, node_id)
            .err()
            .unwrap();
        assert!(matches!(error, WalError::WrongIdentity { found, .. } if found == identity()));
    }
    let again = Wal::create(disk, dir.path(), WalOptions::default(), identity(), initial()).err();
    assert!(matches!(again, Some(WalError::AlreadyExists { .. })));
}

/// What somebody does to the bytes of a file.
type Inflict = fn(&mut Vec<u8>);

#[test]
fn a_log_without_its_hard_state_is_never_begun_anew_not_even_if_its_records_are_damaged() {
    let damages: [(&str, Inflict); 5] = [
        ("none", |_| ()),
        ("a flipped bit in the first record", |bytes| bytes[4096 + 20] ^= 1),
        ("a first record that is gone", |bytes| bytes[4096..4096 + 24].fill(0)),
        ("a lost end", |bytes| bytes.truncate(4096)),
        ("a lost end of zeros", |bytes| {
            bytes[4096..].fill(0);
            bytes.truncate(8192);
        }),
    ];
    // The mark alone would tell, and the records alone.
    let both =
        [true, false].map(|has_mark| damages.map(|(damage, inflict)| (damage, inflict, has_mark)));
    for (damage, inflict, has_mark) in both.into_iter().flatten() {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = create(dir.path());
        wal.persist(&[commands(1, 1..=1)]).unwrap();
        drop(wal);
        std::fs::remove_file(dir.path().join("meta-a")).unwrap();
        std::fs::remove_file(dir.path().join("meta-b")).unwrap();
        if !has_mark {
            std::fs::remove_file(dir.path().join("mark")).unwrap();
        }
        let log = dir.path().join("log-00000000000000000001.wal");
        let mut bytes = std::fs::read(&log).unwrap();
        inflict(&mut bytes);
        std::fs::write(&log, &bytes).unwrap();
        let disk = Arc::new(RealDisk);
        let begun = Wal::create(disk, dir.path(), WalOptions::default(), identity(), initial());
        let error = begun.err().unwrap();
        let is_right = matches!(error, WalError::Damaged { damage: Damage::BothCopies, .. });
        assert!(is_right, "{damage}: {error}");
        assert!(log.exists(), "{damage}");
    }
}

#[test]
fn a_new_folder_is_unproven_until_that_is_noted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let wal = create(dir.path());
    assert_eq!((wal.standing(), wal.era()), (Standing::Unproven, 1));
    drop(wal);
    let (mut wal, _) = open(dir.path());
    assert_eq!((wal.standing(), wal.era()), (Standing::Unproven, 2));
    wal.prove().unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    drop(wal);
    let (wal, recovered) = open(dir.path());
    assert_eq!((wal.standing(), wal.era()), (Standing::Proven, 3));
    assert_eq!(recovered.last_log, id(1, 3));
}

#[test]
fn a_log_knows_what_it_was_created_after_as_long_as_it_starts_there() {
    let after = |last_included| {
        let dir = tempfile::tempdir().unwrap();
        let base = SnapshotMeta { last_included, configuration: configuration(1) };
        let options = WalOptions::default();
        let begun = Wal::create(Arc::new(RealDisk), dir.path(), options, identity(), base);
        (dir, begun.unwrap().0)
    };
    let (_dir, mut wal) = after(LogId::ORIGIN);
    wal.persist(&[commands(1, 1..=2)]).unwrap();
    assert_eq!(wal.created_after(), None);

    let (dir, mut wal) = after(id(5, 7));
    wal.persist(&[commands(6, 8..=9)]).unwrap();
    assert_eq!(wal.created_after(), Some(id(5, 7)));
    drop(wal);
    let (mut wal, _) = open(dir.path());
    assert_eq!(wal.created_after(), Some(id(5, 7)));
    let base = SnapshotMeta { last_included: id(6, 20), configuration: configuration(2) };
    wal.persist(&[Persist { reset: Some(base), ..Persist::default() }]).unwrap();
    assert_eq!(wal.created_after(), None, "it starts elsewhere now");
}
