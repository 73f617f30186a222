//! What followers do whose leader ends without a word, with real sockets: they call it in vain, and
//! run. How a leader that has something to say ends, `failing_log.rs` knows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, say, wait};
use quorate::{NodeId, TransportOptions};
use std::time::Instant;

#[tokio::test]
async fn a_leader_that_ends_without_a_word_has_a_successor_before_an_election_timeout() {
    let mut cluster = Cluster::led_by_the_first(|_, builder| builder).await;
    let (began, mut count) = (Instant::now(), 0);
    // A connection that breaks says something only if it had held for so long.
    while began.elapsed() < TransportOptions::default().reconnect_delay_min * 2 || count == 0 {
        count = say(&cluster.up[&1], "word").await;
    }
    cluster.settle().await;
    cluster.stop(1).await;

    // Nobody runs for want of a leader: an hour has not passed, and the first has called nobody.
    let second = &cluster.up[&2];
    let is_led = |leader: Option<NodeId>| leader.is_some_and(|id| id != NodeId::new(1));
    wait(second, |status| is_led(status.leader)).await;
    assert!(say(second, "next").await > count);
    cluster.stop_all().await;
}
