//! What a server says it waits for, where no script leads: pieces that are on their way, disks in
//! between, and what an operator is told to do about each reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod harness;

use bytes::Bytes;
use harness::{index, log_id, node, voters};
use quorate_core::{
    ChangeWait, Event, HardState, InstallSnapshot, LeaderWait, LogId, Message, Options, Raft,
    Reason, RequestVote, Restored, SnapshotMeta, Term, Time, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

/// n1 of three, with an empty log.
fn server(options: Options) -> Raft {
    let configuration = Arc::new(voters(3));
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: SnapshotMeta { last_included: LogId::ORIGIN, configuration },
        term_runs: Vec::new(),
        configurations: Vec::new(),
        last_log: LogId::ORIGIN,
        tail: Vec::new(),
        applied: LogId::ORIGIN.index,
        lost: None,
    };
    Raft::new(node(1), options, 7, restored, Time::ZERO).unwrap()
}

#[test]
fn a_snapshot_is_said_to_arrive_until_it_is_whole_and_then_to_be_restored() {
    let (mut raft, last_included) = (server(Options::default()), log_id(10, 1));
    let meta = SnapshotMeta { last_included, configuration: Arc::new(voters(3)) };
    let (term, chunk) = (Term::new(1), Bytes::from_static(b"abc"));
    let piece = InstallSnapshot { term, meta, offset: 0, chunk, done: false };
    let message = Message::InstallSnapshot(piece);
    let mut effects = Vec::new();
    raft.step(Time::ZERO, Event::Message { from: node(2), message }, &mut effects);
    for (complete, text) in [
        (false, "node 2 sends it the snapshot 10@1: 3 bytes have arrived"),
        (true, "node 2 sends it the snapshot 10@1: it has arrived and is being restored"),
    ] {
        let written = Event::SnapshotWritten { last_included, next_offset: 3, complete };
        raft.step(Time::ZERO, written, &mut effects);
        let said: Vec<String> = raft.explain().iter().map(ToString::to_string).collect();
        assert!(said.contains(&text.to_owned()), "{said:?}");
    }
}

#[test]
fn a_voter_whose_disk_hangs_waits_for_the_others_to_campaign() {
    let stall = Duration::from_millis(100);
    let mut raft = server(Options { disk_stall_timeout: stall, ..Options::default() });
    let request =
        RequestVote { term: Term::new(2), phase: VotePhase::Vote, last_log: log_id(1, 1) };
    let message = Message::RequestVote(request);
    raft.step(Time::ZERO, Event::Message { from: node(2), message }, &mut Vec::new());
    let silence = |raft: &Raft| match raft.explain().pop() {
        Some(Reason::NoLeader(wait)) => wait,
        other => panic!("{other:?}"),
    };
    assert!(matches!(silence(&raft), LeaderWait::Timeout { .. }));
    // Its vote is not on its disk, and nothing says that it will be.
    raft.step(Time::ZERO.after(2 * stall), Event::Deadline, &mut Vec::new());
    assert_eq!(silence(&raft), LeaderWait::Others { voters: vec![node(2), node(3)] });
}

/// Who cannot be helped by reaching anybody is not told to.
#[test]
fn an_operator_is_told_whom_to_reach_and_nothing_where_that_would_not_help() {
    let others = || vec![node(2), node(3)];
    let (reach, take_back) =
        ("see that node 2, node 3 run and can be reached", "take the change back");
    let not_committed = |missing| Reason::NotCommitted {
        index: index(4),
        holders: Vec::new(),
        missing,
        is_on_own_disk: false,
        is_joint: true,
    };
    let advice = |reason: &Reason| reason.advice();
    assert_eq!(advice(&not_committed(others())).as_deref(), Some(reach));
    assert_eq!(advice(&not_committed(Vec::new())), None);
    let text = not_committed(others()).to_string();
    assert!(text.ends_with("a majority before and after the change is needed"), "{text}");

    let commit = |missing| Reason::Change(ChangeWait::Commit { index: index(4), missing });
    assert_eq!(advice(&commit(others())).as_deref(), Some(reach));
    assert_eq!(advice(&commit(Vec::new())), None);
    let catch_up = |is_reachable| {
        Reason::Change(ChangeWait::CatchUp { member: node(4), behind_count: 9, is_reachable })
    };
    assert_eq!(advice(&catch_up(true)), None);
    assert_eq!(
        advice(&catch_up(false)).unwrap(),
        format!("see that node 4 runs and can be reached, or {take_back}")
    );
    let majority = Reason::Change(ChangeWait::Majority { silent: others(), needed_count: 2 });
    assert_eq!(advice(&majority).unwrap(), format!("{reach}, or {take_back}"));
    for wait in [ChangeWait::LeaderTooNew { index: index(4) }, ChangeWait::Handover { to: node(2) }]
    {
        assert_eq!(advice(&Reason::Change(wait)), None);
    }
}
