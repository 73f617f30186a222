use super::*;
use crate::Case;
use crate::record::{Detail, Event, NodeState, Recording, Told};
use crate::run::{World, kv_world};
use quorate_core::{LogId, LogIndex, NodeId, Role, Term, Time};

fn up(role: Role, term: u64, last: u64) -> NodeState {
    let last_log = LogId { term: Term::new(term), index: LogIndex::new(last) };
    NodeState::Up {
        is_paused: false,
        role,
        term: Term::new(term),
        last_log,
        commit: LogIndex::new(1),
    }
}

fn example() -> Record {
    let event = |micros, step, node, what| Event {
        at: Time::from_micros(micros),
        step,
        node: Some(NodeId::new(node)),
        what,
    };
    let before = (1..=3).map(|id| (NodeId::new(id), up(Role::Follower, 1, 4))).collect();
    let vote = Told::Received { from: NodeId::new(1), message: "Vote t2".to_owned() };
    let crash = Told::Headline { trouble: Some(7), text: "crashes".to_owned() };
    let events = vec![
        event(1_000_000, 1, 1, Told::State(up(Role::Candidate, 2, 4))),
        event(1_002_000, 2, 3, vote),
        event(1_004_000, 3, 2, crash),
        event(1_004_000, 3, 2, Told::State(NodeState::Down)),
        event(1_009_000, 4, 1, Told::State(up(Role::Leader, 2, 5))),
    ];
    Record { before, events, is_cut_short: false }
}

#[test]
fn each_node_has_a_column_and_messages_are_arrows_between_them() {
    let lines = timeline(&example(), Look::default());
    let expected = [
        "    time (s)  n1         n2         n3",
        "    1.000000  C2 4@2 c1  F1 4@1 c1  F1 4@1 c1",
        "    1.002000  ●──────────┼──────────▶          n1 → n3  Vote t2",
        "    1.004000  │          down       │          #7 n2 crashes",
        "    1.009000  L2 5@2 c1             │          n1 leads term 2",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_narrow_terminal_gets_shorter_columns_and_lines_that_are_cut() {
    let look = Look { width: Some(70), has_colour: false };
    let lines = timeline(&example(), look);
    assert!(lines[1].contains("C2 4/1 "), "{}", lines[1]);
    assert!(lines.iter().all(|line| line.chars().count() <= 70));
    let look = Look { width: Some(40), has_colour: false };
    assert!(timeline(&example(), look)[3].ends_with('…'));
}

#[test]
fn colours_come_only_where_they_are_understood() {
    let has_codes = |has_colour| {
        timeline(&example(), Look { width: None, has_colour }).concat().contains('\x1b')
    };
    assert!(has_codes(true) && !has_codes(false));
}

#[test]
fn a_recorded_world_goes_on_as_if_nobody_listened() {
    let world = World { seed: 3, node_count: 3, steps: 3_000 };
    let silent = world.run().unwrap();
    let (told, record) = Case::from(world).record(&kv_world, Recording::of(Detail::All));
    assert_eq!(told.unwrap(), silent);
    let (_, story) = Case::from(world).record(&kv_world, Recording::of(Detail::Story));
    assert!(story.events.len() < record.events.len());
    let lines = timeline(&story, Look::default());
    assert!(lines.iter().any(|line| line.contains("leads term")));
}

#[test]
fn a_part_of_a_story_begins_with_the_nodes_as_they_are_then() {
    let case = Case::from(World { seed: 3, node_count: 3, steps: 3_000 });
    let from = Time::from_micros(2_000_000);
    let recording = Recording { from, ..Recording::of(Detail::All) };
    let (_, record) = case.record(&kv_world, recording);
    assert_eq!(record.before.len(), 3);
    assert!(record.events.iter().all(|event| event.at >= from));
}
