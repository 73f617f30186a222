//! Real server processes for the process tests: started, killed, paused, asked, and always cleaned
//! up. Knows the etcd protocol and the operating system's signals, nothing of Quorate's inside, so
//! that the same tests run against a real etcd.
//!
//! Settings, all from the environment:
//!
//! - `QUORATE_TEST_SERVER`: another server binary to test (a real etcd, to test the tests).
//! - `QUORATE_NO_NETWORKS`: set to anything, leaves the tests out that make networks of their own,
//!   for which one has to be root.
//! - `QUORATE_SEED`: the seed of every random choice; printed by each test that makes any.

// Each test binary uses its own part of the harness.
#![allow(dead_code, unused_imports)]

mod client;
mod cluster;
mod etcdctl;
pub(crate) mod http;
mod name_server;
pub(crate) mod ongoing;
#[path = "../../../node/tests/common/ports.rs"]
mod ports;
mod rng;
mod server;

pub(crate) use client::{Client, message_of};
pub(crate) use cluster::{Cluster, Options, scratch_folder};
pub(crate) use etcdctl::{
    Running, Said, etcdctl, etcdctl_child, etcdctl_with_input, installed, run_as_etcdctl,
};
pub(crate) use name_server::{NameServer, Reply};
pub(crate) use ports::Port;
pub(crate) use rng::{Rng, seed};
pub(crate) use server::{Machine, Server, processes_mentioning};

use std::time::{Duration, Instant};

/// How long a test waits for what must happen before it calls it a hang. Far above anything
/// healthy, because the machine may be busy: no test measures time by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Asks `question` again and again until it answers, with a pause between two tries.
///
/// # Panics
///
/// If there is no answer within [`PATIENCE`]; `what` says what was waited for.
pub(crate) async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
