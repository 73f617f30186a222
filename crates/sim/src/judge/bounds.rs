//! The limits that have names are kept: windows, caches, queues, and the number of messages of a
//! quiet cluster. Knows what a node holds, not why.

use super::Breach;
use quorate::{Driver, DriverOptions};
use quorate_core::{NodeId, Options};
use std::time::Duration;

/// No entry of a world is larger than this, with everything that is counted beside its command.
const ENTRY_BYTES_MAX: usize = 16 << 10;

/// Looks at what a node holds at this moment.
///
/// # Errors
///
/// [`Breach::OverLimit`] with the first limit that is not kept.
pub(crate) fn check_held(
    driver: &Driver,
    raft: &Options,
    own: &DriverOptions,
) -> Result<(), Breach> {
    let status = driver.raft().status();
    let node = status.id;
    // What a leader may have sent a follower whose disk stands still, or may wait to commit itself.
    let window = raft.in_flight_bytes_max + raft.append_bytes_max;
    let not_durable = window.max(raft.uncommitted_bytes_max);
    let cache = raft.log_cache_bytes_max + raft.applying_bytes_max + not_durable;
    let pending = own.outstanding_bytes_max;
    for (name, held, limit) in [
        ("log_cache_bytes_max and what is not durable or applied", status.cached_bytes, cache),
        ("uncommitted_bytes_max", status.uncommitted_bytes, raft.uncommitted_bytes_max),
        ("outstanding_bytes_max", driver.outstanding_bytes(), pending),
    ] {
        is_kept(node, name, held, limit + ENTRY_BYTES_MAX)?;
    }
    for progress in status.progress.values() {
        is_kept(node, "in_flight_count_max", progress.in_flight_count, raft.in_flight_count_max)?;
        is_kept(node, "in_flight_bytes_max", progress.in_flight_bytes, window + ENTRY_BYTES_MAX)?;
    }
    Ok(())
}

/// A cluster at rest sends heartbeats, their answers, and next to nothing else.
///
/// # Errors
///
/// [`Breach::MessageStorm`] if it sent more.
pub(crate) fn check_quiet(
    node_count: usize,
    raft: &Options,
    passed: Duration,
    sent: u64,
) -> Result<(), Breach> {
    let peers = u64::try_from(node_count.saturating_sub(1)).unwrap_or(u64::MAX);
    let rounds = passed.as_micros() / raft.heartbeat_interval.as_micros().max(1);
    // Two ways each; once more for what a heartbeat may bring about, and one round begun.
    let limit = 4 * peers * (u64::try_from(rounds).unwrap_or(u64::MAX) + 1);
    if sent > limit { Err(Breach::MessageStorm { sent, limit, passed }) } else { Ok(()) }
}

fn is_kept(node: NodeId, name: &'static str, held: usize, limit: usize) -> Result<(), Breach> {
    if held > limit { Err(Breach::OverLimit { node, name, held, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_and_their_answers_are_no_storm_and_three_times_as_many_are() {
        let raft = Options::default();
        let second = Duration::from_secs(1);
        assert!(check_quiet(5, &raft, second, 2 * 4 * 10).is_ok());
        assert!(check_quiet(5, &raft, second, 6 * 4 * 10).is_err());
        assert!(check_quiet(1, &raft, second, 1).is_err(), "who is alone sends nothing");
    }

    #[test]
    fn a_limit_may_be_reached_and_not_passed() {
        let node = NodeId::new(1);
        assert!(is_kept(node, "outstanding_bytes_max", 10, 10).is_ok());
        let over = is_kept(node, "outstanding_bytes_max", 11, 10);
        assert!(matches!(over, Err(Breach::OverLimit { held: 11, limit: 10, .. })), "{over:?}");
    }
}
