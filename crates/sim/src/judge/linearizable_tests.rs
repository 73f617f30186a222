//! The judge is judged: histories of one register known to be good or bad, and random ones against
//! a checker that tries every order, and against another author's.

use super::*;
use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Read,
    Write(u64),
    /// Writes the second if the first is there; the reply is 1 if it was.
    Swap(u64, u64),
}

struct Register;

impl Model for Register {
    type State = u64;
    type Op = Op;
    type Reply = u64;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, op: &Op, reply: Option<&u64>) -> Option<u64> {
        let (expected, after) = match *op {
            Op::Read => (*state, *state),
            Op::Write(value) => (0, value),
            Op::Swap(old, new) if old == *state => (1, new),
            Op::Swap(_, _) => (0, *state),
        };
        reply.is_none_or(|reply| *reply == expected).then_some(after)
    }
}

type History = Vec<Operation<Op, u64>>;

/// (invoked, returned, operation, reply); returned 0 means unknown.
fn history(operations: &[(u64, u64, Op, u64)]) -> History {
    let build = |&(invoked, returned, op, reply): &(u64, u64, Op, u64)| Operation {
        invoked,
        returned: (returned > 0).then_some((returned, reply)),
        op,
    };
    operations.iter().map(build).collect()
}

fn verdict(operations: &[(u64, u64, Op, u64)]) -> Verdict {
    check(&Register, &history(operations), 1_000_000)
}

fn is_good(operations: &[(u64, u64, Op, u64)]) -> bool {
    verdict(operations) == Verdict::Linearizable
}

#[test]
fn an_empty_history_and_a_sequential_one_are_linearizable() {
    assert!(is_good(&[]));
    assert!(is_good(&[(1, 2, Op::Write(5), 0), (3, 4, Op::Read, 5), (5, 6, Op::Swap(5, 6), 1)]));
}

#[test]
fn a_stale_read_is_not() {
    assert!(!is_good(&[(1, 2, Op::Write(5), 0), (3, 4, Op::Read, 0)]));
}

#[test]
fn a_read_beside_a_write_may_see_either_value() {
    assert!(is_good(&[(1, 4, Op::Write(5), 0), (2, 3, Op::Read, 5)]));
    assert!(is_good(&[(1, 4, Op::Write(5), 0), (2, 3, Op::Read, 0)]));
}

#[test]
fn two_reads_beside_a_write_may_not_go_back_in_time() {
    let forth = [(1, 10, Op::Write(5), 0), (2, 3, Op::Read, 0), (4, 5, Op::Read, 5)];
    let back = [(1, 10, Op::Write(5), 0), (2, 3, Op::Read, 5), (4, 5, Op::Read, 0)];
    assert!(is_good(&forth));
    assert!(!is_good(&back));
}

#[test]
fn readers_agree_on_the_order_of_concurrent_writes() {
    let agree = [
        (1, 20, Op::Write(5), 0),
        (2, 21, Op::Write(6), 0),
        (3, 4, Op::Read, 5),
        (5, 6, Op::Read, 6),
    ];
    assert!(is_good(&agree));
    let mut disagree = agree.to_vec();
    disagree.push((7, 8, Op::Read, 5));
    assert!(!is_good(&disagree));
}

#[test]
fn an_unknown_write_may_have_happened_late_or_never_but_not_twice() {
    let unknown = (1, 0, Op::Write(5), 0);
    assert!(is_good(&[unknown, (2, 3, Op::Read, 0)]));
    assert!(is_good(&[unknown, (2, 3, Op::Read, 0), (4, 5, Op::Read, 5)]));
    assert!(!is_good(&[
        unknown,
        (2, 3, Op::Read, 5),
        (4, 5, Op::Write(6), 0),
        (6, 7, Op::Read, 5)
    ]));
}

#[test]
fn an_unknown_write_does_not_happen_before_it_was_asked_for() {
    assert!(!is_good(&[(1, 2, Op::Read, 5), (3, 0, Op::Write(5), 0)]));
}

#[test]
fn a_lost_acknowledged_write_is_noticed() {
    assert!(!is_good(&[(1, 2, Op::Write(5), 0), (3, 4, Op::Write(6), 0), (5, 6, Op::Read, 5)]));
}

#[test]
fn only_one_of_two_swaps_of_the_same_value_succeeds() {
    assert!(is_good(&[(1, 5, Op::Swap(0, 1), 1), (2, 6, Op::Swap(0, 2), 0)]));
    assert!(!is_good(&[(1, 5, Op::Swap(0, 1), 1), (2, 6, Op::Swap(0, 2), 1)]));
}

#[test]
fn a_search_beyond_its_bound_is_undecided_and_says_so() {
    let mut operations: Vec<_> = (1..=12).map(|n| (n, 0, Op::Write(n), 0)).collect();
    operations.extend([(20, 21, Op::Read, 3), (22, 23, Op::Read, 99)]);
    assert_eq!(check(&Register, &history(&operations), 100), Verdict::Undecided);
}

#[test]
fn the_checker_agrees_with_one_that_tries_every_order() {
    let mut rng = Rng::new(11);
    let mut counts = [0, 0];
    for _ in 0..3_000 {
        let history = random_history(&mut rng, 6);
        let expected = tries_every_order(&history, 0, 0);
        let found = check(&Register, &history, 1_000_000) == Verdict::Linearizable;
        assert_eq!(found, expected, "{history:?}");
        counts[usize::from(found)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 300), "both verdicts occur: {counts:?}");
}

/// The same register in the words of `todc-utils`: an operation carries its reply.
struct TheirRegister;

impl todc_utils::specifications::Specification for TheirRegister {
    type State = u64;
    type Operation = (Op, u64);

    fn init() -> u64 {
        0
    }

    fn apply((op, reply): &(Op, u64), state: &u64) -> (bool, u64) {
        let after = Register.step(state, op, Some(reply));
        (after.is_some(), after.unwrap_or(*state))
    }
}

fn their_verdict(history: &History) -> bool {
    use todc_utils::linearizability::{WGLChecker, history::Action};
    let mut actions = Vec::new();
    for (process, Operation { invoked, returned, op }) in history.iter().enumerate() {
        let (returned, reply) = returned.unwrap();
        actions.push((*invoked, (process, Action::Call((*op, reply)))));
        actions.push((returned, (process, Action::Response((*op, reply)))));
    }
    actions.sort_by_key(|(moment, _)| *moment);
    let actions = actions.into_iter().map(|(_, action)| action).collect();
    WGLChecker::<TheirRegister>::is_linearizable(
        todc_utils::linearizability::history::History::from_actions(actions),
    )
}

#[test]
fn the_checker_agrees_with_another_authors_on_longer_histories() {
    let mut rng = Rng::new(12);
    let mut counts = [0, 0];
    for _ in 0..1_500 {
        let mut history = random_history(&mut rng, 14);
        // Theirs knows complete histories only.
        history.retain(|operation| operation.returned.is_some());
        if history.is_empty() {
            continue;
        }
        make_plausible(&mut history, &mut rng);
        let found = check(&Register, &history, 1_000_000) == Verdict::Linearizable;
        assert_eq!(found, their_verdict(&history), "{history:?}");
        counts[usize::from(found)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 100), "both verdicts occur: {counts:?}");
}

/// Random replies are hardly ever right in a long history: gives most operations the reply that
/// they would have had in the order of their returns.
fn make_plausible(history: &mut History, rng: &mut Rng) {
    history.sort_by_key(|operation| operation.returned.unwrap().0);
    let mut state = 0;
    for Operation { returned, op, .. } in history {
        let right = (0..3).find(|reply| Register.step(&state, op, Some(reply)).is_some()).unwrap();
        state = Register.step(&state, op, Some(&right)).unwrap();
        if rng.below(8) > 0 {
            returned.as_mut().unwrap().1 = right;
        }
    }
}

fn random_history(rng: &mut Rng, count_max: u64) -> History {
    let count = rng.between(2, count_max);
    let mut moments: Vec<u64> = (1..=2 * count).collect();
    rng.shuffle(&mut moments);
    let build = |pair: &[u64]| {
        let (invoked, returned) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        let (op, reply) = match rng.below(3) {
            0 => (Op::Read, rng.below(3)),
            1 => (Op::Write(rng.below(3)), 0),
            _ => (Op::Swap(rng.below(3), rng.below(3)), rng.below(2)),
        };
        Operation { invoked, returned: (rng.below(4) > 0).then_some((returned, reply)), op }
    };
    moments.chunks(2).map(build).collect()
}

fn tries_every_order(history: &History, done: u32, state: u64) -> bool {
    let open = |n: &usize| done & (1 << n) == 0;
    let answered: Vec<usize> =
        (0..history.len()).filter(|n| open(n) && history[*n].returned.is_some()).collect();
    if answered.is_empty() {
        return true;
    }
    let first_return = answered.iter().map(|n| history[*n].returned.unwrap().0).min().unwrap();
    (0..history.len()).filter(open).filter(|n| history[*n].invoked < first_return).any(|n| {
        let reply = history[n].returned.as_ref().map(|(_, reply)| reply);
        let after = Register.step(&state, &history[n].op, reply);
        after.is_some_and(|after| tries_every_order(history, done | 1 << n, after))
    })
}
