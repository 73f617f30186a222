//! Which protocol a program has to know to read a log stands where every program looks first. Until the
//! cluster speaks a later one, the folder is as an older program would have left it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::{base, commands, configuration, create, dir, id, index, open, read_all};
use quorate_core::{Configuration, Entry, Payload, Persist, ProtocolVersion, SnapshotMeta};
use quorate_wal::{Wal, WalError};
use std::sync::Arc;

const SIX: ProtocolVersion = ProtocolVersion::new(6);

/// A log of three commands.
fn log() -> (FaultDisk, Wal) {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    (disk, wal)
}

fn speaking(version: ProtocolVersion) -> Arc<Configuration> {
    Arc::new(Configuration { cluster_version: version, ..configuration(2).as_ref().clone() })
}

fn rise(at: u64, version: ProtocolVersion) -> Persist {
    let payload = Payload::Configuration(speaking(version));
    Persist { entries: vec![Entry { log_id: id(1, at), payload }], ..Persist::default() }
}

/// The format version of both copies of the hard state.
fn formats(disk: &FaultDisk) -> [u8; 2] {
    ["meta-a", "meta-b"].map(|name| disk.bytes(&dir().join(name))[8])
}

#[test]
fn a_log_is_of_the_older_format_until_the_cluster_speaks_a_later_protocol_and_never_again() {
    let (disk, mut wal) = log();
    assert_eq!(formats(&disk), [2, 2]);
    wal.persist(&[rise(4, SIX)]).unwrap();
    assert_eq!(formats(&disk), [3, 3]);
    drop(wal);
    let (mut wal, recovered) = open(&disk.arc(), dir()).unwrap();
    assert_eq!(recovered.configurations.last().unwrap().1.cluster_version, SIX);
    assert_eq!(read_all(&mut wal).unwrap().len(), 4);
    // Another leader takes it back: some other entry may have told of it.
    wal.persist(&[Persist { truncate_after: Some(index(3)), ..Persist::default() }]).unwrap();
    drop(wal);
    drop(open(&disk.arc(), dir()).unwrap());
    assert_eq!(formats(&disk), [3, 3]);
}

#[test]
fn a_log_that_begins_anew_after_a_snapshot_of_a_later_protocol_says_so() {
    let (disk, mut wal) = log();
    let meta = SnapshotMeta { configuration: speaking(SIX), ..base(2, 9) };
    wal.persist(&[Persist { reset: Some(meta), ..Persist::default() }]).unwrap();
    assert_eq!(formats(&disk), [3, 3]);
}

/// The record is not taken for a damaged one: this member is to be started with another program, and
/// not to be given up.
#[test]
fn a_log_of_a_protocol_that_this_program_does_not_know_is_refused_by_name() {
    let later = ProtocolVersion::new(ProtocolVersion::NEWEST.get() + 1);
    let (disk, mut wal) = log();
    wal.persist(&[rise(4, later)]).unwrap();
    drop(wal);
    let error = open(&disk.arc(), dir()).err().unwrap();
    let newest = ProtocolVersion::NEWEST;
    assert!(
        matches!(error, WalError::NewerProtocol { found, newest: known, .. }
            if (found, known) == (later, newest)),
        "{error}"
    );
}
