//! `--rebuild-state`: a member whose state was found to differ from a majority's is refused, and comes back
//! with the state of its leader.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options};
use quorate::LogIndex;
use quorate::wal::{RealDisk, SnapshotStore, StateMark};
use std::path::Path;
use std::sync::Arc;

fn snapshots(data: &Path) -> SnapshotStore {
    SnapshotStore::open(Arc::new(RealDisk), &data.join("snapshots")).unwrap()
}

#[tokio::test]
async fn a_member_whose_state_is_marked_as_wrong_is_refused_and_comes_back_rebuilt() {
    let mut options = Options::servers(3);
    for (flag, value) in [("--snapshot-count", "40"), ("--rebuild-state", "false")] {
        options.more.push((flag.to_owned(), value.to_owned()));
    }
    let mut cluster = Cluster::new("rebuild-state", &options);
    cluster.start_all().await;
    let wrong = (cluster.leader(None).await + 1) % 3;
    for number in 0..200 {
        let key = format!("key-{number}");
        cluster.client(wrong).put(&key, "value").await.unwrap();
    }
    let data = cluster.server(wrong).data_dir.clone();
    cluster.server(wrong).kill();
    // As the node leaves it.
    let (index, own, others) = (LogIndex::new(150), 0xabc, 0xdef);
    snapshots(&data).mark(StateMark::Diverged { index, own, others }).unwrap();

    let said = cluster.server(wrong).start_in_vain().await;
    assert!(said.contains("from entry 150 on") && said.contains("--rebuild-state"), "{said}");
    assert!(!data.join("state.diverged").exists(), "a refused start changes nothing");

    cluster.server(wrong).set_flag("--rebuild-state", "true");
    cluster.restart(wrong).await;
    assert_eq!(cluster.assert_equal_replicas().await, 200);
    assert!(data.join("state.diverged").exists(), "somebody may want to look at it");
    assert_eq!(snapshots(&data).state_mark().unwrap(), None);

    // Left in, the flag does nothing more.
    cluster.server(wrong).kill();
    std::fs::remove_file(data.join("state.diverged")).unwrap();
    cluster.restart(wrong).await;
    assert!(!data.join("state.diverged").exists());
    assert_eq!(cluster.assert_equal_replicas().await, 200);
    cluster.finish();
}
