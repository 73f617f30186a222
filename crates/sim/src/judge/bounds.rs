//! The limits that have names are kept: windows, caches, queues, and the number of messages of a
//! quiet cluster. Knows what a node holds, not why.

use super::Breach;
use quorate::{Driver, DriverOptions};
use quorate_core::{NodeId, Options};
use quorate_wal::WalOptions;
use std::time::Duration;

/// What the world knows of sizes at this moment, by what nodes have written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of the largest entry that anybody has written.
    pub(crate) largest_entry_bytes: usize,
    /// Of the entries of this node that are not known to be on its disk.
    pub(crate) not_durable_bytes: usize,
}

/// What a node may hold, in bytes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    cached: usize,
    uncommitted: usize,
    in_flight: usize,
}

impl Bounds {
    fn new(raft: &Options, restored_max: usize, sizes: Sizes) -> Self {
        let Sizes { largest_entry_bytes, not_durable_bytes } = sizes;
        Self {
            // What is durable goes when there is too much of it, the oldest first; what the state
            // machine has not been given has a second allowance. A start brings as much as the log
            // may give it; the first event makes it less.
            cached: (raft.log_cache_bytes_max + raft.applying_bytes_max)
                .max(not_durable_bytes)
                .max(restored_max),
            // A proposal that is alone is never too large.
            uncommitted: raft.uncommitted_bytes_max.max(largest_entry_bytes),
            // A window that is not full takes one more message, which is within its own limit or
            // one entry.
            in_flight: raft.in_flight_bytes_max - 1
                + raft.append_bytes_max.max(largest_entry_bytes),
        }
    }
}

/// Looks at what a node holds at this moment.
///
/// # Errors
///
/// [`Breach::OverLimit`] with the first limit that is not kept.
pub(crate) fn check_held(
    driver: &Driver,
    raft: &Options,
    own: &DriverOptions,
    wal: &WalOptions,
    sizes: Sizes,
) -> Result<(), Breach> {
    let status = driver.raft().status();
    let (node, bounds) = (status.id, Bounds::new(raft, wal.tail_bytes_max, sizes));
    for (name, held, limit) in [
        ("log_cache_bytes_max and applying_bytes_max", status.cached_bytes, bounds.cached),
        ("uncommitted_bytes_max", status.uncommitted_bytes, bounds.uncommitted),
        ("outstanding_bytes_max", driver.outstanding_bytes(), own.outstanding_bytes_max),
    ] {
        is_kept(node, name, held, limit)?;
    }
    for progress in status.progress.values() {
        is_kept(node, "in_flight_count_max", progress.in_flight_count, raft.in_flight_count_max)?;
        is_kept(node, "in_flight_bytes_max", progress.in_flight_bytes, bounds.in_flight)?;
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
    fn a_bound_is_its_limit_or_what_may_be_alone_and_nothing_more() {
        let raft = Options {
            append_bytes_max: 100,
            in_flight_bytes_max: 300,
            uncommitted_bytes_max: 40,
            log_cache_bytes_max: 500,
            applying_bytes_max: 60,
            ..Options::default()
        };
        let of = |largest_entry_bytes, not_durable_bytes| {
            let sizes = Sizes { largest_entry_bytes, not_durable_bytes };
            let Bounds { cached, uncommitted, in_flight } = Bounds::new(&raft, 530, sizes);
            (cached, uncommitted, in_flight)
        };
        assert_eq!(of(10, 0), (560, 40, 399));
        assert_eq!(of(40, 560), (560, 40, 399));
        assert_eq!(of(70, 561), (561, 70, 399), "one entry, alone; what no disk has yet");
        assert_eq!(of(150, 0), (560, 150, 449), "a window with room for a byte takes one more");
    }

    #[test]
    fn a_limit_may_be_reached_and_not_passed() {
        let node = NodeId::new(1);
        assert!(is_kept(node, "outstanding_bytes_max", 10, 10).is_ok());
        let over = is_kept(node, "outstanding_bytes_max", 11, 10);
        assert!(matches!(over, Err(Breach::OverLimit { held: 11, limit: 10, .. })), "{over:?}");
    }
}
