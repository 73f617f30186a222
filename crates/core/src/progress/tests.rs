//! What a leader keeps of one follower, at the edges of its windows.

use super::*;

fn index(value: u64) -> LogIndex {
    LogIndex::new(value)
}

/// A follower that has everything up to 3, and was sent 4 and 5 in one message of 100 bytes.
fn replicating() -> Progress {
    let mut progress = Progress::new(index(4), Time::ZERO);
    progress.accept(index(3));
    progress.record_sent(index(5), 100, Time::ZERO);
    progress
}

#[test]
fn a_refusal_is_news_only_between_what_matches_and_what_is_sent_next() {
    let progress = replicating();
    let fresh: Vec<u64> = (0..=8).filter(|at| progress.is_fresh_rejection(index(*at))).collect();
    assert_eq!(fresh, [4, 5]);
    let probing = Progress::new(index(4), Time::ZERO);
    let fresh: Vec<u64> = (0..=8).filter(|at| probing.is_fresh_rejection(index(*at))).collect();
    assert_eq!(fresh, [3]);
}

#[test]
fn a_window_counts_the_bytes_under_way_until_they_have_arrived() {
    let bytes = |progress: &Progress| match &progress.state {
        ProgressState::Replicate(window) => (window.count(), window.bytes()),
        ProgressState::Probe { .. } | ProgressState::Snapshot(_) => (0, 0),
    };
    let mut progress = replicating();
    progress.record_sent(index(6), 30, Time::ZERO);
    assert_eq!(bytes(&progress), (2, 130));
    // A heartbeat, or what was sent before, takes no place.
    progress.record_sent(index(6), 7, Time::ZERO);
    assert_eq!(bytes(&progress), (2, 130));
    progress.accept(index(4));
    assert_eq!(bytes(&progress), (2, 130), "half of a message has not made room");
    progress.accept(index(5));
    assert_eq!(bytes(&progress), (1, 30));
    progress.accept(index(2));
    assert_eq!((progress.match_index, progress.next_index), (index(5), index(7)));
    progress.accept(index(6));
    assert_eq!(bytes(&progress), (0, 0));
}

#[test]
fn a_probe_that_is_accepted_goes_on_behind_what_it_carried() {
    let mut progress = Progress::new(index(4), Time::ZERO);
    progress.record_sent(index(9), 50, Time::ZERO);
    assert!(!progress.may_send(&Options::default()), "one at a time");
    progress.accept(index(3));
    assert_eq!(progress.next_index, index(10));
    assert!(!progress.is_quiet());
    progress.accept(index(9));
    assert!(progress.is_quiet());
    // All of it durable at once.
    let mut progress = Progress::new(index(4), Time::ZERO);
    progress.record_sent(index(9), 50, Time::ZERO);
    progress.accept(index(9));
    assert_eq!((progress.next_index, progress.is_quiet()), (index(10), true));
}

#[test]
fn a_window_is_full_by_count_or_by_bytes() {
    let options =
        Options { in_flight_count_max: 3, in_flight_bytes_max: 1000, ..Options::default() };
    let mut progress = replicating();
    assert_eq!(progress.window_room(&options), 900);
    progress.record_sent(index(6), 1, Time::ZERO);
    assert!(progress.may_send(&options));
    progress.record_sent(index(7), 1, Time::ZERO);
    assert!(!progress.may_send(&options), "three messages");
    let mut progress = replicating();
    progress.record_sent(index(6), 900, Time::ZERO);
    assert!(!progress.may_send(&options), "1000 bytes");
    assert_eq!(progress.window_room(&options), 0);
}

#[test]
fn a_follower_needs_a_snapshot_once_its_next_entry_is_released() {
    let progress = replicating();
    assert_eq!(progress.next_index, index(6));
    assert!(!progress.needs_snapshot(index(5)));
    assert!(progress.needs_snapshot(index(6)));
}
