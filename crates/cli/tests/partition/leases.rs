//! Leases through whatever happens: some that are kept alive, one that nobody keeps. Knows when they
//! may end and what goes with them, and nothing of what happens to the servers.

use crate::harness::{Cluster, eventually};
use crate::owner::{Asked, Owner};
use crate::watched::Watched;
use crate::watcher::Told;
use std::time::{Duration, Instant};

/// Longer than any fault of a story keeps its owner from renewing it.
const KEPT_SECONDS: u32 = 8;
const LEFT_SECONDS: u32 = 5;

/// The leases of a story. Each has two keys, put by one transaction.
pub(crate) struct Leases {
    kept: Vec<(Owner, [String; 2])>,
    left: [String; 2],
    left_since: Instant,
}

fn keys(lease: &str) -> [String; 2] {
    ["a", "b"].map(|key| format!("{lease}/{key}"))
}

impl Leases {
    /// Two that are kept, granted by the first and by the last of these members, and one that is not.
    pub(crate) async fn begin(urls: &[String]) -> Self {
        let reversed: Vec<String> = urls.iter().rev().cloned().collect();
        let mut kept = Vec::new();
        for (name, urls) in [("kept-1", urls), ("kept-2", &reversed)] {
            let keys = keys(name);
            kept.push((Owner::of(urls, KEPT_SECONDS, &[&keys[0], &keys[1]]).await, keys));
        }
        let left = keys("left");
        let (_, left_since) =
            Asked::at(&urls[0]).lease_with(LEFT_SECONDS.into(), &[&left[0], &left[1]]).await;
        Self { kept, left, left_since }
    }

    /// Keeps no lease any more, and waits until the keys of all of them are gone.
    pub(crate) async fn end(self, cluster: &Cluster) -> Ended {
        let has = async |key: &str| {
            eventually("a read", async || cluster.client(0).get(key).await.ok()).await.is_some()
        };
        let mut ended = Ended { together: vec![self.left], left_since: self.left_since };
        for (owner, keys) in self.kept {
            let were_there = [has(&keys[0]).await, has(&keys[1]).await];
            if owner.stop() {
                assert_eq!(were_there, [true; 2], "{keys:?}: a lease that is kept alive lives");
            }
            ended.together.push(keys);
        }
        for key in ended.together.iter().flatten() {
            eventually("the end of each lease", async || (!has(key).await).then_some(())).await;
        }
        ended
    }
}

/// Leases of which nothing is there any more.
pub(crate) struct Ended {
    /// The keys of each; first those of the one that nobody kept.
    together: Vec<[String; 2]>,
    left_since: Instant,
}

impl Ended {
    /// Checks how a watcher was told of the ends.
    ///
    /// # Panics
    ///
    /// If the keys of a lease went one by one, twice, or before its time.
    pub(crate) fn assert_told(&self, told: &[Told], watched: &Watched) {
        for keys in &self.together {
            let revisions = keys.each_ref().map(|key| watched.deletion_of(key));
            assert!(revisions[0].is_some(), "the end of {keys:?} is told once: {revisions:?}");
            assert_eq!(revisions[0], revisions[1], "{keys:?} go together");
        }
        let end = watched.deletion_of(&self.together[0][0]);
        let is_end = |told: &&Told| {
            told.events.iter().any(|event| event.kv.as_ref().map(|it| it.mod_revision) == end)
        };
        let message = told.iter().find(is_end).expect("a deletion came in a message");
        let age = message.arrived - self.left_since;
        assert!(
            age >= Duration::from_secs(LEFT_SECONDS.into()),
            "a lease of {LEFT_SECONDS} s ended after {age:?}: {message:?}"
        );
    }
}
