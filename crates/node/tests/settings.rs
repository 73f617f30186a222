//! Settings that are changed while a node runs: they count from then on, or are refused as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{PATIENCE, Words};
use quorate::{
    DriverOptions, Fate, LogIndex, Node, Options, OptionsError, Reason, Refusal, SettingsError,
};
use std::time::Duration;

#[tokio::test]
async fn settings_count_while_the_node_runs_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    let before = node.options();

    let hasty = Options { election_timeout: before.heartbeat_interval, ..before.clone() };
    let refused = node.set_options(hasty).unwrap_err();
    let together =
        matches!(refused, SettingsError::Together(OptionsError::ElectionTimeoutTooShort { .. }));
    assert!(together, "{refused}");
    let huge = Options { append_bytes_max: 1 << 30, ..before.clone() };
    let refused = node.set_options(huge).unwrap_err();
    assert!(
        matches!(refused, SettingsError::Limits { smaller: "Options::append_bytes_max", .. }),
        "{refused}"
    );
    assert_eq!(node.options(), before);

    let patient = Options { election_timeout: Duration::from_secs(5), ..before };
    node.set_options(patient.clone()).unwrap();
    assert_eq!(node.options(), patient);
    assert!(matches!(node.propose("goes on", PATIENCE).await, Fate::Applied { .. }));

    let driver = node.driver_options();
    let closed = DriverOptions { outstanding_bytes_max: 1, ..driver.clone() };
    node.set_driver_options(closed).unwrap();
    let refused = node.propose("too much", PATIENCE).await;
    let is_overloaded = matches!(
        refused,
        Fate::NotAppended(Refusal::Overloaded { what: "proposals on the way to the leader", .. })
    );
    assert!(is_overloaded, "{refused:?}");
    node.set_driver_options(driver).unwrap();
    assert!(matches!(node.propose("not too much", PATIENCE).await, Fate::Applied { .. }));

    assert_eq!(node.explain_commit(node.status().commit_index).await, None);
    let ahead = LogIndex::new(1_000);
    let reason = node.explain_commit(ahead).await.unwrap();
    assert!(matches!(reason, Reason::NotThere { index, .. } if index == ahead), "{reason}");
}
