//! Judges of the members that no known mistake reaches in a world, each with what it must not let
//! pass.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use super::*;
use bytes::Bytes;
use quorate_core::{LogId, Member, MemberRole, NodeId, Term};

fn members(count: u64) -> Members {
    let member = |id| {
        let (role, rank, address) = (MemberRole::Voter, 0, String::new());
        (NodeId::new(id), Member { role, rank, address, context: Bytes::new() })
    };
    (1..=count).map(member).collect()
}

fn founded() -> KnownMembers {
    KnownMembers::founded(&Arc::new(Configuration::new(0, members(3))))
}

fn at(index: u64, version: u64) -> Entry {
    let configuration = Arc::new(Configuration::new(version, members(3)));
    let log_id = LogId::new(Term::new(1), LogIndex::new(index));
    Entry { log_id, payload: Payload::Configuration(configuration) }
}

#[test]
fn committed_configurations_count_on_from_each_other() {
    let mut known = founded();
    assert!(known.committed(&at(5, 1)).is_ok());
    let leap = known.committed(&at(6, 3));
    assert!(matches!(leap, Err(Breach::VersionLeap { before: 1, version: 3, .. })), "{leap:?}");
}

#[test]
fn whoever_is_told_of_other_members_than_the_committed_ones_is_told_wrong() {
    let mut known = founded();
    assert!(known.told(0, &members(3)).is_ok());
    let wrong = known.told(0, &members(2));
    assert!(matches!(wrong, Err(Breach::FalseMembers { version: 0 })), "{wrong:?}");

    // Of a version that is not committed yet: it must come, and be what was said.
    assert!(known.told(1, &members(2)).is_ok());
    let lost = known.told_came();
    assert!(matches!(lost, Err(Breach::FalseMembers { version: 1 })), "{lost:?}");
    let other = known.committed(&at(5, 1));
    assert!(matches!(other, Err(Breach::FalseMembers { version: 1 })), "{other:?}");
}
