//! That the judge of watches finds what it is there to find.

use crate::history::{Op, Record, Reply, Returned};
use crate::watched::follow;
use crate::watcher::Told;
use quorate_etcd_api::mvccpb::event::EventType;
use quorate_etcd_api::mvccpb::{Event, KeyValue};
use std::time::Instant;

fn pair(key: &str, value: u64, created: i64, revision: i64, version: i64) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        value: value.to_string().into(),
        create_revision: created,
        mod_revision: revision,
        version,
        lease: 0,
    }
}

/// The first put of a key.
fn first(key: &str, value: u64, revision: i64) -> Event {
    let kv = Some(pair(key, value, revision, revision, 1));
    Event { kv, ..Default::default() }
}

/// The second put of a key.
fn second(before: &Event, value: u64, revision: i64) -> Event {
    let prev_kv = before.kv.clone();
    let kv = prev_kv.as_ref().map(|it| KeyValue {
        value: value.to_string().into(),
        mod_revision: revision,
        version: 2,
        ..it.clone()
    });
    Event { kv, prev_kv, ..Default::default() }
}

fn deletion(before: &Event, revision: i64) -> Event {
    let prev_kv = before.kv.clone();
    let kv = prev_kv.as_ref().map(|it| KeyValue {
        key: it.key.clone(),
        mod_revision: revision,
        ..Default::default()
    });
    Event { r#type: EventType::Delete.into(), kv, prev_kv }
}

fn told(revision: i64, events: &[Event]) -> Told {
    let events = events.to_vec();
    Told { server: 0, stream: 1, arrived: Instant::now(), revision, events, end: None }
}

fn fault(messages: &[Told]) -> String {
    follow(messages).expect_err("a promise is broken")
}

fn record(key: &str, op: Op, revision: Option<i64>) -> Record {
    let reply = if op == Op::Delete { Reply::Deleted(true) } else { Reply::Written };
    let returned = revision.map(|revision| Returned { moment: 2, reply, revision });
    Record { key: key.to_owned(), op, server: 0, invoked: 1, returned }
}

#[test]
fn a_watch_that_is_told_of_everything_once_and_in_order_is_sound() {
    let (a, b) = (first("a", 1, 2), first("b", 2, 3));
    let receipt = first("receipts/b/2", 2, 3);
    let again = second(&a, 3, 4);
    let messages =
        [told(2, std::slice::from_ref(&a)), told(5, &[receipt, b, again.clone()]), told(4, &[])];
    assert!(follow(&messages[..2]).is_ok());
    let watched = follow(&messages).unwrap();
    assert_eq!(watched.keys.len(), 3);
    let gone = [&messages[..], &[told(5, &[deletion(&again, 5)])]].concat();
    let watched_on = follow(&gone).unwrap();
    assert_eq!((watched_on.keys.len(), watched_on.deletion_of("a")), (2, Some(5)));
    assert!(watched_on.same_as(&watched).is_err());
    assert!(watched_on.same_as(&watched_on).is_ok());

    let swap = Op::Swap { expected: None, expected_revision: 0, value: 2 };
    let history = [
        record("a", Op::Put(1), Some(2)),
        record("b", swap, None),
        record("a", Op::Put(3), Some(4)),
    ];
    assert_eq!(watched.accounts_for(&history), Ok(()));
    // Acknowledged, and not told; told, and nobody's; a put with a receipt; a swap without.
    for (place, wrong) in [
        (0, record("a", Op::Delete, Some(2))),
        (0, record("a", Op::Put(9), None)),
        (1, record("b", Op::Put(2), Some(3))),
        (2, record("a", Op::Swap { expected: None, expected_revision: 0, value: 3 }, Some(4))),
    ] {
        let mut history = history.clone();
        history[place] = wrong.clone();
        assert!(watched.accounts_for(&history).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_lost_repeated_torn_or_in_another_order_is_found() {
    let (a, b, c) = (first("a", 1, 2), first("b", 2, 3), first("c", 3, 4));
    let one = |event: &Event, revision| told(revision, std::slice::from_ref(event));
    assert!(fault(&[one(&a, 2), one(&c, 4)]).contains("revision 4 behind 2"));
    assert!(fault(&[one(&a, 2), one(&a, 2)]).contains("revision 2 behind 2"));
    assert!(fault(&[one(&b, 3)]).contains("revision 3 behind 1"));
    assert!(fault(&[told(3, &[a.clone(), b.clone(), a.clone()])]).contains("revision 2 behind 3"));
    let torn = first("b", 2, 2);
    assert!(follow(&[told(2, &[a.clone(), torn.clone()])]).is_ok());
    assert!(fault(&[one(&a, 2), one(&torn, 2)]).contains("revision 2 behind 2"));
    assert!(fault(&[told(2, &[a.clone(), a.clone()])]).contains("two changes"));
}

#[test]
fn what_a_watch_says_of_itself_and_of_a_key_before_is_held_against_it() {
    let a = first("a", 1, 2);
    let one = told(2, std::slice::from_ref(&a));
    assert!(fault(&[one.clone(), told(3, &[])]).contains("how far"), "ahead of what it told");
    assert!(fault(&[one.clone(), told(1, &[])]).contains("how far"), "of the past");
    assert!(fault(&[told(1, std::slice::from_ref(&a))]).contains("older than an event"));
    let ended = Told { end: Some("compacted".to_owned()), ..told(2, &[]) };
    assert!(fault(&[one.clone(), ended]).contains("compacted"));

    let mut wrong = second(&a, 2, 3);
    wrong.prev_kv = None;
    assert!(fault(&[one.clone(), told(3, &[wrong])]).contains("it was Some"));
    assert!(fault(&[told(2, &[deletion(&first("a", 1, 1), 2)])]).contains("it was None"));
    let mut nothing = deletion(&a, 2);
    nothing.prev_kv = None;
    assert!(fault(&[told(2, &[nothing])]).contains("nothing was there"));
    let mut miscounted = second(&a, 2, 3);
    miscounted.kv.as_mut().unwrap().version = 3;
    assert!(fault(&[one, told(3, &[miscounted])]).contains("counted"));
}

#[test]
fn a_write_that_was_carried_out_twice_and_a_deletion_that_nobody_asked_for_are_found() {
    let a = first("a", 1, 2);
    let gone = follow(&[told(3, &[a.clone(), deletion(&a, 3)])]).unwrap();
    let wrote = record("a", Op::Put(1), Some(2));
    let verdict = gone.accounts_for(std::slice::from_ref(&wrote));
    assert!(verdict.unwrap_err().contains("nobody deleted a"));
    let of_another = record("a", Op::Delete, Some(7));
    assert!(gone.accounts_for(&[wrote.clone(), of_another]).is_err());
    for known in [Some(3), None] {
        let deleted = record("a", Op::Delete, known);
        assert_eq!(gone.accounts_for(&[wrote.clone(), deleted]), Ok(()));
    }
    let watched = follow(&[told(3, &[a.clone(), second(&a, 1, 3)])]).unwrap();
    let verdict = watched.accounts_for(&[record("a", Op::Put(1), Some(2))]);
    assert!(verdict.unwrap_err().contains("carried out twice"));
}
