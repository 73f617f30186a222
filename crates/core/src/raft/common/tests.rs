use crate::raft::Raft;
use crate::{
    Configuration, Event, HardState, LogId, LogIndex, Member, MemberRole, NodeId, Options,
    Restored, SnapshotMeta, Term, Time,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A server whose log starts after 3@1 and ends with 5@1.
fn server() -> Raft {
    let (role, context) = (MemberRole::Voter, bytes::Bytes::new());
    let member = Member { role, rank: 0, address: String::new(), context };
    let members = (1..=3).map(|id| (NodeId::new(id), member.clone())).collect();
    let configuration = Arc::new(Configuration::new(0, members));
    let log_id = |index| LogId::new(Term::new(1), LogIndex::new(index));
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: SnapshotMeta { last_included: log_id(3), configuration },
        term_runs: vec![(LogIndex::new(4), Term::new(1))],
        configurations: Vec::new(),
        last_log: log_id(5),
        tail: Vec::new(),
        applied: LogIndex::new(4),
        lost: None,
    };
    Raft::new(NodeId::new(1), Options::default(), 7, restored, Time::ZERO).unwrap()
}

/// Whether it gets through a step after `damage`.
fn goes_on(damage: impl FnOnce(&mut Raft)) -> bool {
    let mut raft = server();
    damage(&mut raft);
    let nothing = Event::Compact { through: LogIndex::ORIGIN };
    catch_unwind(AssertUnwindSafe(|| raft.step(Time::ZERO, nothing, &mut Vec::new()))).is_ok()
}

#[test]
fn a_server_whose_state_contradicts_itself_does_not_go_on() {
    assert!(goes_on(|_| {}));
    assert!(!goes_on(|raft| raft.common.commit_index = LogIndex::new(6)), "beyond the log");
    assert!(!goes_on(|raft| raft.common.commit_index = LogIndex::new(2)), "below the base");
    assert!(!goes_on(|raft| raft.common.commit_index = LogIndex::new(3)), "below what is applied");
    assert!(!goes_on(|raft| raft.common.current_term = Term::new(0)), "below the last term");
}
