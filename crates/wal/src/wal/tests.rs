//! What the log keeps in memory, which cannot be seen from outside.
//! Must not test what can be.

use super::*;
use crate::RealDisk;
use bytes::Bytes;
use quorate_core::Term;

fn command(at: u64, size: usize) -> Persist {
    let log_id = LogId::new(Term::new(1), LogIndex::new(at));
    let payload = Payload::Command(Bytes::from(vec![0; size]));
    Persist { entries: vec![Entry { log_id, payload }], ..Persist::default() }
}

#[test]
fn the_memory_of_a_large_batch_is_given_back_and_that_of_a_usual_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity { cluster_id: 1, node_id: NodeId::new(2), storage_id: 3 };
    let initial = SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::default() };
    let disk = Arc::new(RealDisk);
    let (mut wal, _) =
        Wal::create(disk, dir.path(), WalOptions::default(), identity, initial).unwrap();
    wal.persist(&[command(1, BUFFER_BYTES_KEPT + 1)]).unwrap();
    assert!(wal.buffer.capacity() <= BUFFER_BYTES_KEPT);
    wal.persist(&[command(2, 100_000)]).unwrap();
    assert!(wal.buffer.capacity() >= 100_000);
    assert_eq!(BUFFER_BYTES_KEPT, 8 << 20);
}
