//! Part A of the lab: elections. Knows nothing of logs.

use crate::raft::{ELECTION_TIMEOUT, a_second, lab};
use crate::stage::{each_seed, millis};
use quorate_sim::seconds;

#[test]
fn a_initial_election() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        let leader = lab.check_one_leader();
        lab.run_for(millis(50));
        let term = lab.check_terms();
        assert!(term >= 1, "an election has a term");
        lab.run_for(seconds(2));
        // The lab only warns if there was another election without a failure; here it must not be.
        assert_eq!(lab.check_terms(), term);
        assert_eq!(lab.check_one_leader(), leader);
        lab.finish();
    });
}

#[test]
fn a_re_election() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        let first = lab.check_one_leader();

        // The leader is cut off: another one takes over.
        lab.disconnect([first]);
        let second = lab.check_one_leader();
        let term = lab.cluster().term(second);

        // The old one rejoins, which disturbs nobody: its pre-votes raise no term.
        lab.reconnect([first]);
        lab.run_for(a_second());
        assert_eq!(lab.check_one_leader(), second);
        assert_eq!(lab.cluster().term(second), term);

        // Without a quorum nobody leads, on either side.
        let third = lab.after(second, 1);
        lab.disconnect([second, third]);
        lab.run_for(seconds(2));
        lab.check_no_leader();
        for node in lab.nodes() {
            assert_ne!(lab.cluster().role(node), Some(quorate_core::Role::Leader));
        }

        // With a quorum somebody does, and one more node makes no difference.
        lab.reconnect([third]);
        let last = lab.check_one_leader();
        lab.reconnect([second]);
        assert_eq!(lab.check_one_leader(), last);
        lab.finish();
    });
}

#[test]
fn a_leader_that_is_alive_outlives_what_is_told_of_its_end_to_one_after_the_other() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3 + 2 * (seed % 2));
        let leader = lab.check_one_leader();
        let term = lab.check_terms();
        for _ in 0..50 {
            let steps = 1 + lab.random(lab.nodes().len() as u64 - 1);
            let listener = lab.after(leader, steps);
            lab.cluster().rumour(listener, leader);
            // Nobody minds what is said of others.
            lab.cluster().rumour(leader, listener);
            lab.run_for(millis(150 + lab.random(300)));
            assert_eq!(lab.check_terms(), term);
        }
        assert_eq!(lab.check_one_leader(), leader);
        lab.finish();
    });
}

#[test]
fn a_leader_of_whose_end_all_are_told_has_a_successor_long_before_an_election_timeout() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3 + 2 * (seed % 2));
        let gone = lab.check_one_leader();
        lab.crash([gone]);
        for node in lab.nodes().into_iter().filter(|node| *node != gone) {
            lab.run_for(millis(lab.random(10)));
            lab.cluster().rumour(node, gone);
        }
        lab.run_for(ELECTION_TIMEOUT / 4);
        let leaders = lab.cluster().leaders();
        assert!(!leaders.is_empty(), "seed {seed}: nobody leads");
        lab.start([gone]);
        lab.finish();
    });
}

#[test]
fn a_many_elections() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 7);
        lab.check_one_leader();
        for _ in 0..10 {
            let gone = [(); 3].map(|()| lab.random(7) + 1);
            lab.disconnect(gone);
            // The leader is still there, or the four that remain elect another one.
            lab.check_one_leader();
            lab.reconnect(gone);
        }
        lab.check_one_leader();
        lab.finish();
    });
}
