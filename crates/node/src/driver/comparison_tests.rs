//! Who is wrong, by what members told of one window; and how much of that is remembered.

use super::*;
use bytes::Bytes;
use quorate_core::{Member, MemberRole};

const RULES: DigestRules = DigestRules { window_count: 4, version: 0 };
/// The hashes after each entry of a sound window, and of one that goes wrong at its third.
const SOUND: [u64; 4] = [1, 2, 3, 4];
const WRONG: [u64; 4] = [1, 2, 30, 40];

fn configuration(roles: &[MemberRole]) -> Configuration {
    let member = |role| Member { role, rank: 0, address: String::new(), context: Bytes::new() };
    let members = (1..).map(NodeId::new).zip(roles.iter().map(|role| member(*role)));
    Configuration::new(0, members.collect())
}

fn voters(count: usize) -> Configuration {
    configuration(&vec![MemberRole::Voter; count])
}

fn last(index: u64) -> LogIndex {
    LogIndex::new(index)
}

/// Node 1, which has applied the window that ends with 7.
fn having(list: [u64; 4]) -> Comparison {
    let mut comparison = Comparison::new(RULES);
    comparison.finished(&Digest { last: last(7), list: list.into() });
    comparison
}

/// What comes of it that others tell these hashes of that window, and nobody says more.
fn judged(own: [u64; 4], told: &[(u64, u64)], configuration: &Configuration) -> Option<Divergence> {
    let mut comparison = having(own);
    for (from, hash) in told {
        comparison.told((NodeId::new(*from), 1), last(7), *hash, configuration);
        comparison.compare(last(7), [NodeId::new(*from)]);
        comparison.judge(last(7), configuration, Time::ZERO);
    }
    comparison.take_divergence(Time::ZERO)
}

#[test]
fn who_is_alone_against_a_majority_with_one_hash_is_wrong() {
    let index = last(4);
    let wrong = Some(Divergence { index, own: 40, others: 4 });
    assert_eq!(judged(WRONG, &[(2, 4), (3, 4)], &voters(3)), wrong);
    assert_eq!(judged(WRONG, &[(2, 4), (3, 4), (4, 4)], &voters(5)), wrong);
    assert_eq!(judged(WRONG, &[(2, 40), (3, 4), (4, 4), (5, 4)], &voters(5)), wrong, "two of five");
}

#[test]
fn nobody_is_wrong_by_the_word_of_less_than_a_majority() {
    assert_eq!(judged(WRONG, &[(2, 4)], &voters(2)), None, "two of two");
    assert_eq!(judged(WRONG, &[(2, 4)], &voters(3)), None, "the other one says nothing");
    assert_eq!(judged(WRONG, &[(2, 4), (3, 5)], &voters(3)), None, "three of three");
    assert_eq!(judged(SOUND, &[(2, 4), (3, 40)], &voters(3)), None);
    assert_eq!(judged(SOUND, &[(2, 40), (3, 40)], &voters(5)), None, "two wrong of five");
    assert_eq!(
        judged(WRONG, &[(2, 4), (2, 4), (9, 4)], &voters(3)),
        None,
        "nor twice, nor a stranger"
    );
}

#[test]
fn learners_have_no_say_and_are_told_by_the_voters() {
    use MemberRole::{Learner, Voter};
    let with_learners = configuration(&[Voter, Voter, Voter, Learner, Learner]);
    assert_eq!(judged(WRONG, &[(2, 4), (4, 4), (5, 4)], &with_learners), None);
    let as_learner = configuration(&[Learner, Voter, Voter, Voter]);
    assert!(judged(WRONG, &[(2, 4), (3, 4)], &as_learner).is_some());
}

#[test]
fn a_joint_configuration_needs_a_majority_of_each_half() {
    use MemberRole::{Incoming, Outgoing, Voter};
    let joint = configuration(&[Voter, Voter, Voter, Incoming, Incoming, Outgoing, Outgoing]);
    let new_half = [(2, 4), (3, 4), (4, 4), (5, 4)];
    assert!(judged(WRONG, &new_half[..3], &joint).is_none(), "3 of 5 there, 2 of 5 here");
    assert!(judged(WRONG, &[(2, 4), (3, 4), (4, 4), (6, 4)], &joint).is_some());
}

#[test]
fn where_it_begins_is_asked_for_and_waited_for_but_not_for_ever() {
    let configuration = voters(3);
    let (mut comparison, later) = (having(WRONG), Time::from_micros(10));
    let peers = [NodeId::new(2), NodeId::new(3)];
    for from in peers {
        comparison.told((from, 1), last(7), 4, &configuration);
        assert_eq!(comparison.compare(last(7), [from]), [from]);
        comparison.judge(last(7), &configuration, later);
    }
    assert_eq!(comparison.take_divergence(Time::ZERO), None);
    assert_eq!(comparison.witnesses(), peers);
    let mut silent = Comparison { ..comparison };
    let given_up = Divergence { index: last(4), own: 40, others: 4 };
    let mut asked = having(WRONG);
    for from in peers {
        asked.told((from, 1), last(7), 4, &configuration);
        asked.compare(last(7), [from]);
        asked.judge(last(7), &configuration, later);
    }
    assert_eq!(silent.take_divergence(later), Some(given_up), "the window's first");
    assert_eq!(silent.take_divergence(later), None, "once");
    asked.listed(peers[0], last(7), &SOUND);
    let found = Divergence { index: last(6), own: 40, others: 4 };
    assert_eq!(asked.take_divergence(Time::ZERO), Some(found));
}

#[test]
fn a_list_that_nobody_asked_for_or_that_is_no_list_says_nothing() {
    let mut comparison = having(WRONG);
    comparison.listed(NodeId::new(2), last(7), &SOUND);
    assert!(comparison.differing().is_empty());
    comparison.told((NodeId::new(2), 1), last(7), 4, &voters(3));
    comparison.compare(last(7), [NodeId::new(2)]);
    for (window, list) in [(last(7), &[][..]), (last(7), &WRONG[..]), (last(3), &SOUND[..])] {
        comparison.listed(NodeId::new(2), window, list);
        assert_eq!(comparison.differing()[0].index, None);
    }
}

#[test]
fn a_difference_is_told_until_the_other_agrees_in_another_life() {
    let (configuration, peer) = (voters(2), NodeId::new(2));
    let mut comparison = having(WRONG);
    comparison.told((peer, 1), last(7), 4, &configuration);
    assert_eq!(comparison.compare(last(7), [peer]), [peer]);
    comparison.listed(peer, last(7), &SOUND);
    let known = [Differing { peer, window: last(7), index: Some(last(6)) }];
    assert_eq!(comparison.differing()[..], known);
    for (index, life) in [(11, 1), (15, 2)] {
        comparison.finished(&Digest { last: last(index), list: [9; 4].into() });
        comparison.told((peer, life), last(index), 9, &configuration);
        assert_eq!(comparison.compare(last(index), [peer]), []);
        assert_eq!(comparison.differing().is_empty(), life == 2, "after {index}");
    }
}

#[test]
fn so_many_windows_of_each_member_and_so_many_lists_are_remembered() {
    let (configuration, peer) = (voters(2), NodeId::new(2));
    let mut comparison = Comparison::new(RULES);
    for number in 1..=100 {
        let last = last(4 * number + 3);
        comparison.finished(&Digest { last, list: SOUND.into() });
        comparison.told((peer, 1), last, 4, &configuration);
        comparison.told((NodeId::new(number + 2), 1), last, 4, &configuration);
    }
    assert_eq!(comparison.own.len(), WINDOWS_COUNT_MAX);
    assert_eq!(comparison.told.len(), 1, "strangers are not");
    assert_eq!(comparison.told[&peer].windows.len(), WINDOWS_COUNT_MAX);
    assert_eq!(comparison.lists.len(), LISTS_COUNT_MAX);
    assert_eq!(comparison.list_of(last(403)), Some(&SOUND[..]));
    assert_eq!(comparison.list_of(last(7)), None);
}

#[test]
fn without_windows_nothing_is_compared() {
    let none = DigestRules { window_count: 0, version: 0 };
    assert_eq!(Comparison::new(none).rules(), None);
}
