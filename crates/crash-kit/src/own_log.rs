//! Quorate's own log as a [`LogStore`]: to try a disk with the log that will run on it. Knows the log's
//! way to open and to begin, nothing of how it is checked.

use crate::log_check::{Contents, LogError, LogStore, OpenLog};
use quorate_core::{LogIndex, NodeId, Persist, SnapshotMeta};
use quorate_wal::{Disk, Identity, Recovered, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

const IDENTITY: Identity = Identity { cluster_id: 1, node_id: NodeId::new(1), storage_id: 7 };
/// Segments so small that every history crosses several.
const OPTIONS: WalOptions = WalOptions {
    segment_size_bytes: 7 << 10,
    first_segment_size_bytes: 5 << 10,
    tail_bytes_max: 1 << 20,
    kept_free_bytes: 0,
    mends: false,
};

/// The log of `quorate-wal`.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuorateWal;

struct OpenWal(Wal);

impl LogStore for QuorateWal {
    fn open(
        &self,
        disk: Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<(Box<dyn OpenLog>, Contents), LogError> {
        let (mut wal, recovered) = if Wal::exists(disk.as_ref(), dir)? {
            Wal::open(disk, dir, OPTIONS, IDENTITY.cluster_id, IDENTITY.node_id)?
        } else {
            Wal::create(disk, dir, OPTIONS, IDENTITY, Contents::of_a_new_log().base)?
        };
        let contents = contents(&mut wal, recovered)?;
        Ok((Box::new(OpenWal(wal)), contents))
    }
}

/// What a start tells, with the entries read from the disk as a follower would need them.
fn contents(wal: &mut Wal, recovered: Recovered) -> Result<Contents, LogError> {
    let mut entries = Vec::new();
    loop {
        let next = wal.first_index().plus(entries.len() as u64);
        let more = wal.read(next, LogIndex::new(u64::MAX), 1 << 16)?;
        if more.is_empty() {
            break;
        }
        entries.extend(more);
    }
    if entries != recovered.tail {
        return Err("what the log shows at its start is not what it reads".into());
    }
    Ok(Contents { base: recovered.base, entries, hard_state: recovered.hard_state })
}

impl OpenLog for OpenWal {
    fn persist(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        Ok(self.0.persist(batch)?)
    }

    fn release(&mut self, base: &SnapshotMeta) -> Result<bool, LogError> {
        self.0.release_prefix(base)?;
        Ok(true)
    }
}
