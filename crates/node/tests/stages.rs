//! What can be seen of a proposal on its way: its span, its stages, and how long they took.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, leads, say};
use quorate::{Doubt, Fate, Histogram, Node};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What was recorded of each span, in order; and what happened to it last.
#[derive(Clone, Default)]
struct Recorder {
    spans: Arc<Mutex<BTreeMap<u64, Span>>>,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Default)]
struct Span {
    values: Vec<(&'static str, String)>,
    is_closed: bool,
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.values.push((field.name(), format!("{value:?}")));
    }
}

impl Recorder {
    /// Waits until so many spans have ended, and returns them in the order of their beginnings.
    async fn ended(&self, count: usize) -> Vec<Span> {
        let ended = async {
            loop {
                let spans: Vec<Span> = self.spans.lock().unwrap().values().cloned().collect();
                if spans.iter().filter(|span| span.is_closed).count() == count {
                    return spans;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap()
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "quorate::proposal"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        assert_eq!(attributes.metadata().name(), "proposal");
        assert!(attributes.is_contextual(), "it belongs to what its caller does");
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut span = Span::default();
        attributes.record(&mut span);
        self.spans.lock().unwrap().insert(id, span);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(self.spans.lock().unwrap().get_mut(&id.into_u64()).unwrap());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.spans.lock().unwrap().get_mut(&id.into_u64()).unwrap().is_closed = true;
        true
    }
}

impl Span {
    fn names(&self) -> Vec<&str> {
        self.values.iter().map(|(name, _)| *name).collect()
    }

    fn value(&self, name: &str) -> &str {
        &self.values.iter().find(|(found, _)| *found == name).unwrap().1
    }

    fn stages(&self) -> Vec<u64> {
        let stages = self.values.iter().filter(|(name, _)| name.ends_with("_us"));
        // The first is the node's time, the others are counted from there.
        stages.skip(1).map(|(_, micros)| micros.parse().unwrap()).collect()
    }
}

/// Waits until so many were counted: a proposal is, just after its caller was answered.
async fn counted(histogram: &Histogram, count: u64) {
    let counted = async {
        while histogram.count() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    assert_eq!(histogram.count(), count);
}

#[tokio::test]
async fn the_stages_of_a_proposal_are_seen_in_order() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    leads(&node).await;
    for (count, word) in (1..=3).zip(["one", "two", "three"]) {
        assert_eq!(say(&node, word).await, count);
    }
    let spans = recorder.ended(3).await;
    for span in &spans {
        let expected = [
            "node",
            "received_us",
            "log_id",
            "proposed_us",
            "persisted_us",
            "committed_us",
            "applied_us",
            "answered_us",
            "fate",
        ];
        assert_eq!(span.names(), expected);
        assert_eq!(span.value("node"), "1");
        assert_eq!(span.value("fate"), "\"applied\"");
        assert!(span.stages().is_sorted(), "{:?}", span.values);
    }
    let received: Vec<u64> =
        spans.iter().map(|span| span.value("received_us").parse().unwrap()).collect();
    assert!(received.is_sorted(), "{received:?}");
    node.stop().await;
}

#[tokio::test]
async fn the_span_of_a_proposal_that_stops_its_node_ends_too() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    leads(&node).await;
    assert_eq!(node.propose("die", PATIENCE).await, Fate::Unknown(Doubt::Stopped));
    let spans = recorder.ended(1).await;
    assert_eq!(spans[0].value("fate"), "\"unknown\"");
    assert!(!spans[0].names().contains(&"applied_us"), "{:?}", spans[0].values);
    node.stop().await;
}

#[tokio::test]
async fn a_leader_counts_the_stages_of_its_callers_and_a_follower_the_whole() {
    const COUNT: u64 = 20;
    // Who comes to a span first decides for all tests whether anybody wants it.
    let _guard = tracing::subscriber::set_default(Recorder::default());
    let mut cluster = Cluster::led_by_the_first(|_, builder| builder).await;
    let (leader, follower, mut count) = (1, 2, 0);
    assert_eq!(cluster.leader().await, leader);
    for _ in 0..COUNT {
        for id in [leader, follower] {
            count += 1;
            assert_eq!(say(&cluster.up[&id], "word").await, count);
        }
    }
    let led = cluster.up[&leader].metrics();
    counted(&led.proposal_times.whole, COUNT).await;
    for (stage, histogram) in led.proposal_times.stages() {
        assert_eq!(histogram.count(), COUNT, "{stage}");
    }
    let sums = led.proposal_times.stages().map(|(_, histogram)| histogram.sum_micros());
    let [proposed, persisted, committed, applied, answered] = sums;
    let in_a_row = proposed + applied + answered;
    let whole = led.proposal_times.whole.sum_micros();
    assert!(whole >= in_a_row + persisted.max(committed), "{whole} of {sums:?}");
    assert!(whole <= in_a_row + persisted + committed, "{whole} of {sums:?}");

    let passed_on = cluster.up[&follower].metrics();
    counted(&passed_on.proposal_times.whole, COUNT).await;
    for (stage, histogram) in passed_on.proposal_times.stages() {
        assert_eq!(histogram.count(), 0, "{stage} is the leader's to know");
    }
    for metrics in [led, passed_on] {
        assert_eq!((metrics.proposals_applied.get(), metrics.proposals_failed.get()), (COUNT, 0));
    }
    cluster.stop_all().await;
}
