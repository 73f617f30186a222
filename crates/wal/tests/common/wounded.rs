//! A log that can be mended, because its node is not alone.

use super::fault_disk::FaultDisk;
use super::model::Model;
use super::{CLUSTER, NODE, SMALL, commands, dir, id, identity, index};
use quorate_core::{
    Configuration, Entry, Member, MemberRole, NodeId, Payload, Persist, SnapshotMeta,
};
use quorate_wal::{Recovered, Wal, WalError, WalOptions};
use std::sync::Arc;

pub const OTHER: NodeId = NodeId::new(3);
/// The options of a log that is mended.
pub const MENDING: WalOptions = WalOptions { mends: true, ..SMALL };

/// Two members.
pub fn pair() -> Arc<Configuration> {
    let member = |address: &str| Member {
        role: MemberRole::Voter,
        rank: 0,
        address: address.to_owned(),
        context: bytes::Bytes::new(),
    };
    Arc::new(Configuration::new(7, [(NODE, member("a:1")), (OTHER, member("b:1"))].into()))
}

/// What a log starts after.
pub fn base(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last_included: id(term, index), configuration: pair() }
}

pub fn create(disk: &FaultDisk) -> Wal {
    Wal::create(disk.arc(), dir(), MENDING, identity(), base(0, 0)).unwrap().0
}

pub fn open(disk: &FaultDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(disk.arc(), dir(), MENDING, CLUSTER, NODE)
}

/// A log of three segments in which entries were overwritten, and what it holds.
pub fn log() -> (FaultDisk, Wal, Model) {
    let disk = FaultDisk::default();
    let mut wal = create(&disk);
    let mut model = Model::new(base(0, 0));
    let configuration = Entry { log_id: id(1, 4), payload: Payload::Configuration(pair()) };
    let batches = [
        vec![commands(1, 1..=3), Persist { entries: vec![configuration], ..Persist::default() }],
        vec![commands(1, 5..=7)],
        vec![Persist { truncate_after: Some(index(5)), ..commands(2, 6..=9) }],
        vec![commands(2, 10..=20)],
        vec![Persist { truncate_after: Some(index(18)), ..commands(3, 19..=22) }],
        vec![commands(3, 23..=40)],
        vec![commands(3, 41..=42)],
    ];
    for batch in &batches {
        wal.persist(batch).unwrap();
        model = model.after(batch);
    }
    (disk, wal, model)
}

/// What the log of [`log`] held once, and not at its end.
pub fn overwritten() -> Vec<Entry> {
    [commands(1, 6..=7), commands(2, 19..=20)].into_iter().flat_map(|it| it.entries).collect()
}
