//! What the tests of the log share: entries, a model, and a disk that breaks.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod fault_disk;
pub mod model;
pub mod watched_disk;
pub mod wounded;

use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, LogId, LogIndex, Member, MemberRole, NodeId, Payload, Persist,
    SnapshotMeta, Term,
};
use quorate_wal::{Disk, Identity, Recovered, Wal, WalError, WalOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const NODE: NodeId = NodeId::new(2);
pub const CLUSTER: u64 = 1;

/// Segments so small that every history crosses several.
pub const SMALL: WalOptions = WalOptions {
    segment_size_bytes: 7 << 10,
    first_segment_size_bytes: 5 << 10,
    tail_bytes_max: 1 << 20,
    kept_free_bytes: 0,
    mends: false,
};

/// Where the log of a test is.
pub fn dir() -> &'static Path {
    Path::new("/node")
}

/// One of its files.
pub fn segment(number: u64) -> PathBuf {
    dir().join(format!("log-{number:020}.wal"))
}

pub fn identity() -> Identity {
    Identity { cluster_id: CLUSTER, node_id: NODE, storage_id: 3 }
}

pub fn configuration(version: u64) -> Arc<Configuration> {
    let member = Member {
        role: MemberRole::Voter,
        rank: 7,
        address: "127.0.0.1:2380".to_owned(),
        context: Bytes::from_static(b"n1"),
    };
    Arc::new(Configuration::new(version, [(NODE, member)].into()))
}

pub fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

pub fn index(index: u64) -> LogIndex {
    LogIndex::new(index)
}

pub fn base(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last_included: id(term, index), configuration: configuration(index) }
}

pub fn initial() -> SnapshotMeta {
    base(0, 0)
}

pub fn command(term: u64, index: u64, size: usize) -> Entry {
    let fill = index.wrapping_mul(31).wrapping_add(term).to_le_bytes()[0];
    Entry { log_id: id(term, index), payload: Payload::Command(Bytes::from(vec![fill; size])) }
}

pub fn commands(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Persist {
    Persist {
        entries: indexes.map(|index| command(term, index, 100)).collect(),
        ..Persist::default()
    }
}

pub fn create(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(Wal, Recovered), WalError> {
    Wal::create(disk.clone(), dir, SMALL, identity(), initial())
}

pub fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(Wal, Recovered), WalError> {
    Wal::open(disk.clone(), dir, SMALL, CLUSTER, NODE)
}

/// Everything that a log holds, through its reads.
pub fn read_all(wal: &mut Wal) -> Result<Vec<Entry>, WalError> {
    let mut entries = Vec::new();
    loop {
        let next = wal.first_index().plus(entries.len() as u64);
        let more = wal.read(next, LogIndex::new(u64::MAX), 700)?;
        if more.is_empty() {
            return Ok(entries);
        }
        entries.extend(more);
    }
}

/// A small random source: the same seed gives the same test.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}
