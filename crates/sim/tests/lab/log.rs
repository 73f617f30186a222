//! Part B of the lab: the log, in agreement and not, and what it costs. Nobody crashes here.

use crate::raft::{ELECTION_TIMEOUT, Lab, a_second, command, lab};
use crate::stage::{each_seed, millis};
use bytes::Bytes;
use quorate_sim::{Request, seconds};

fn basic_agree(seed: u64, node_count: u64) {
    let mut lab = lab(seed, node_count);
    let leader = lab.check_one_leader();
    let count = lab.nodes().len();
    // The new leader's no-op has taken the first index; the commands follow without a gap.
    let before = lab.cluster().last_index(leader).unwrap();
    for number in 1..=3 {
        let index = before + number;
        assert_eq!(lab.applied_count(index), 0, "nothing is committed before it is proposed");
        let command = command(number * 100);
        assert_eq!(lab.one(&command, count, false), index);
        assert_eq!(lab.place_of(&command), usize::try_from(number).ok());
    }
    lab.finish();
}

#[test]
fn b_basic_agree() {
    each_seed(1..=10, |seed| basic_agree(seed, 3));
}

#[test]
fn b_basic_agree_of_five() {
    each_seed(1..=10, |seed| basic_agree(seed, 5));
}

#[test]
fn b_rpc_bytes() {
    each_seed(1..=5, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(99), 3, false);
        let before = lab.cluster().counts().sent_bytes;
        let mut proposed = 0;
        for number in 0..10 {
            let command = Bytes::from(vec![number; 5_000]);
            proposed += command.len() as u64;
            lab.one(&command, 3, false);
        }
        let sent = lab.cluster().counts().sent_bytes - before;
        println!("seed {seed}: {sent} bytes sent for {proposed}");
        assert!(sent <= 3 * proposed + 50_000, "{sent} bytes sent for {proposed}");
        lab.finish();
    });
}

#[test]
fn b_follower_failure() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(101), 3, false);
        let leader = lab.check_one_leader();
        lab.disconnect([lab.after(leader, 1)]);
        lab.one(&command(102), 2, false);
        lab.run_for(ELECTION_TIMEOUT);
        let third = lab.one(&command(103), 2, false);

        // With two of three gone, the fourth command must not be committed.
        let leader = lab.check_one_leader();
        lab.disconnect([1, 2].map(|steps| lab.after(leader, steps)));
        let index = lab.propose(leader, &command(104));
        assert_eq!(index, third + 1);
        lab.run_for(seconds(2));
        assert_eq!(lab.applied_count(index), 0, "committed without a majority");
        lab.finish();
    });
}

#[test]
fn b_leader_failure() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(101), 3, false);
        let first = lab.check_one_leader();
        lab.disconnect([first]);
        lab.one(&command(102), 2, false);
        lab.run_for(ELECTION_TIMEOUT);
        lab.one(&command(103), 2, false);

        let second = lab.check_one_leader();
        lab.disconnect([second]);
        let nodes = lab.nodes();
        for node in nodes {
            // Whoever still believes to lead takes it; the others do not.
            let _in_vain = lab.cluster().propose(node, command(104));
        }
        lab.run_for(seconds(2));
        assert_eq!(lab.applied_commands(), 3, "a fourth was committed without a majority");
        lab.finish();
    });
}

#[test]
fn b_fail_agree() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(101), 3, false);
        let leader = lab.check_one_leader();
        let follower = lab.after(leader, 1);
        lab.disconnect([follower]);
        lab.one(&command(102), 2, false);
        lab.one(&command(103), 2, false);
        lab.run_for(ELECTION_TIMEOUT);
        lab.one(&command(104), 2, false);
        lab.one(&command(105), 2, false);

        lab.reconnect([follower]);
        lab.one(&command(106), 3, true);
        lab.run_for(ELECTION_TIMEOUT);
        lab.one(&command(107), 3, true);
        lab.finish();
    });
}

#[test]
fn b_fail_no_agree() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 5);
        let first = lab.one(&command(10), 5, false);
        let leader = lab.check_one_leader();
        let gone = [1, 2, 3].map(|steps| lab.after(leader, steps));
        lab.disconnect(gone);
        let index = lab.propose(leader, &command(20));
        assert_eq!(index, first + 1);
        lab.run_for(seconds(2));
        assert_eq!(lab.applied_count(index), 0, "committed without a majority");

        // The second command may survive the change of leaders, or be overwritten.
        lab.reconnect(gone);
        let leader = lab.check_one_leader();
        lab.propose(leader, &command(30));
        lab.one(&command(1000), 5, true);
        let place = lab.place_of(&command(30));
        assert!(matches!(place, Some(2 | 3)), "it stands at place {place:?}");
        lab.finish();
    });
}

/// Five commands at the same moment; `None` if the term changed, and that is no failure.
fn five_at_once(lab: &mut Lab) -> Option<()> {
    let leader = lab.check_one_leader();
    let first = lab.cluster().propose(leader, lab.any_command())?;
    let commands: Vec<Bytes> = (0..5).map(|_| lab.any_command()).collect();
    let mut indexes = Vec::new();
    for command in &commands {
        let log_id = lab.cluster().propose(leader, command.clone())?;
        if log_id.term != first.term {
            return None;
        }
        indexes.push(log_id.index.get());
    }
    for index in indexes {
        lab.wait_for_all(index);
    }
    if lab.cluster().term(leader) != Some(first.term.get()) {
        return None;
    }
    for command in commands {
        assert!(lab.place_of(&command).is_some(), "{command:?} was lost within one term");
    }
    Some(())
}

#[test]
fn b_concurrent_starts() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        let is_done = (0..5).any(|_| five_at_once(&mut lab).is_some());
        assert!(is_done, "the term changed too often");
        lab.finish();
    });
}

#[test]
fn b_rejoin() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(101), 3, true);
        let first = lab.check_one_leader();

        // A leader that is cut off takes three commands in vain.
        lab.disconnect([first]);
        let in_vain = [102, 103, 104].map(command);
        for command in &in_vain {
            lab.propose(first, command);
        }
        // Another one commits.
        lab.one(&command(203), 2, true);
        let second = lab.check_one_leader();
        lab.disconnect([second]);

        // The old one's log gives way.
        lab.reconnect([first]);
        lab.one(&command(204), 2, true);
        lab.reconnect([second]);
        lab.one(&command(205), 3, true);
        for command in in_vain {
            assert_eq!(lab.place_of(&command), None, "overwritten, and yet applied");
        }
        lab.finish();
    });
}

/// Fifty commands that a leader takes and cannot commit.
fn propose_fifty(lab: &Lab, leader: u64) {
    for _ in 0..50 {
        lab.propose(leader, &lab.any_command());
    }
}

fn agree_on_fifty(lab: &mut Lab) {
    for _ in 0..50 {
        lab.agree(3);
    }
}

#[test]
fn b_backup() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 5);
        lab.agree(5);
        let first = lab.check_one_leader();
        let [a, b, c, d] = [1, 2, 3, 4].map(|steps| lab.after(first, steps));

        // The leader and one follower have fifty that will not be committed...
        lab.disconnect([b, c, d]);
        propose_fifty(&lab, first);
        lab.run_for(ELECTION_TIMEOUT / 2);
        lab.disconnect([first, a]);
        // ...the others fifty that are...
        lab.reconnect([b, c, d]);
        agree_on_fifty(&mut lab);
        let second = lab.check_one_leader();
        let other = if second == b { lab.after(second, 1) } else { b };
        // ...and after them, two of these again fifty that are not.
        lab.disconnect([other]);
        propose_fifty(&lab, second);
        lab.run_for(ELECTION_TIMEOUT / 2);

        // The first leader comes back, with its follower and the one that was left out.
        lab.disconnect([first, a, b, c, d]);
        lab.reconnect([first, a, other]);
        agree_on_fifty(&mut lab);
        lab.reconnect(lab.nodes());
        let healed_at = lab.now();
        lab.agree(5);
        let lasted_us = lab.now().as_micros() - healed_at.as_micros();
        let total_s = lab.now().as_micros() / 1_000_000;
        println!("seed {seed}: all agree after {} ms, in all {total_s} s", lasted_us / 1000);
        assert!(total_s < 120, "the lab allows two minutes");
        lab.finish();
    });
}

/// What ten commands cost in one term; `None` if the term changed.
fn ten_in_one_term(lab: &mut Lab) -> Option<u64> {
    let leader = lab.check_one_leader();
    let before = lab.cluster().all_rpcs();
    let first = lab.cluster().propose(leader, lab.any_command())?;
    let mut last = first;
    for _ in 0..10 {
        last = lab.cluster().propose(leader, lab.any_command())?;
        if last.term != first.term {
            return None;
        }
    }
    lab.wait_for_all(last.index.get());
    let is_same = lab.nodes().into_iter().all(|n| lab.cluster().term(n) == Some(last.term.get()));
    let spent = lab.cluster().all_rpcs().since(&before);
    println!("  ten commands: {spent:?}");
    is_same.then(|| spent.total())
}

#[test]
fn b_count() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.check_one_leader();
        let election = lab.cluster().all_rpcs();
        println!("seed {seed}: election: {election:?}");
        // The founders' introductions, which the lab's servers do without, come once in a cluster.
        let to_elect = election.total() - election.introductions;
        assert!((1..=30).contains(&to_elect), "{election:?} to elect a leader");

        let spent = (0..5).find_map(|_| ten_in_one_term(&mut lab)).expect("a term that lasts");
        assert!(spent <= (10 + 1 + 3) * 3, "{spent} RPCs for ten commands");

        let before = lab.cluster().all_rpcs();
        lab.run_for(a_second());
        let idle = lab.cluster().all_rpcs().since(&before);
        println!("  idle for a second: {idle:?}");
        assert!(idle.total() <= 3 * 20, "{idle:?} in an idle second");
        lab.finish();
    });
}

/// Not one of the lab's: its ten commands are given to the leader itself. These come from clients,
/// through any node, at about the same time.
#[test]
fn b_count_of_commands_of_clients() {
    each_seed(1..=5, |seed| {
        let mut lab = lab(seed, 3);
        lab.check_one_leader();
        let before = lab.cluster().all_rpcs();
        for number in 0..10 {
            let request = Request::Command(command(number));
            lab.cluster().submit(number % 3 + 1, |_, _, _| request);
        }
        lab.run_for(millis(20));
        assert_eq!(lab.applied_commands(), 10);
        let spent = lab.cluster().all_rpcs().since(&before);
        println!("seed {seed}: {spent:?}");
        assert!(spent.total() <= (10 + 1 + 3) * 3, "{spent:?} for ten commands");
        lab.finish();
    });
}
