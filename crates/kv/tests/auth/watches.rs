//! A watch is a read that goes on: it is refused with a reason, and ends when its right is gone.

use crate::common::put;
use crate::*;
use quorate_kv::auth::Right;
use quorate_kv::watch::{
    Pulled, WatchCreateRequest, WatchHub, WatchLimits, WatchResponse, WatchStream,
};

const DENIED: &str = "permission denied";

fn watch(key: &'static str, range_end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn pull_all(stream: &mut WatchStream) -> Vec<WatchResponse> {
    let mut responses = Vec::new();
    loop {
        match stream.pull().unwrap() {
            Pulled::Response(response) => responses.push(response),
            Pulled::Busy => {}
            Pulled::Idle => return responses,
        }
    }
}

/// Ends what alice may not read, as she is known now.
fn check(store: &Store, stream: &mut WatchStream) -> usize {
    let (state, alice) = (store.reader.auth(), store.access("alice"));
    stream.end_unless(|key, range_end| {
        let admitted = state.admit_to_keys(&alice, Right::Read, key, range_end);
        admitted.map_err(|error| error.to_string())
    })
}

#[test]
fn a_watch_that_is_refused_is_created_and_canceled_with_the_reason() {
    let mut store = guarded();
    let hub = WatchHub::new(&store.reader, WatchLimits::default(), || {});
    let mut stream = hub.stream(|| {});
    stream.create(&watch("a", ""));
    stream.refuse(DENIED.to_owned());
    let responses = pull_all(&mut stream);
    let [first, second] = responses.as_slice() else { panic!("{responses:?}") };
    assert!(first.created && !first.canceled);
    assert!(second.created && second.canceled);
    assert_eq!((second.watch_id, second.cancel_reason.as_str()), (-1, DENIED));
    store.send(store.user("alice"), put("a", "1")).unwrap();
    while hub.advance().unwrap() {}
    assert_eq!(pull_all(&mut stream)[0].events.len(), 1, "the other one goes on");
}

#[test]
fn a_watch_whose_right_is_taken_away_ends_and_shows_nothing_that_still_waits() {
    let mut store = guarded();
    store.change(permit("letters", PermissionType::Read, "x", "\0")).unwrap();
    let hub = WatchHub::new(&store.reader, WatchLimits::default(), || {});
    let mut stream = hub.stream(|| {});
    for request in [watch("a", ""), watch("x", "\0"), watch("y", ""), watch("b", "c")] {
        stream.create(&request);
    }
    assert_eq!(pull_all(&mut stream).len(), 4);
    assert_eq!(check(&store, &mut stream), 0);

    for key in ["a", "x", "y", "b"] {
        store.send(store.user("root"), put(key, "1")).unwrap();
    }
    while hub.advance().unwrap() {}
    assert!(hub.figures().pending_bytes > 0);
    let (role, key, range_end) = ("letters".to_owned(), "x".into(), "\0".into());
    let request = RoleRevokePermissionRequest { role, key, range_end };
    store.change(AuthRequestKind::RoleRevokePermission(request)).unwrap();
    store.send(store.user("root"), put("y", "2")).unwrap();
    while hub.advance().unwrap() {}

    assert_eq!(check(&store, &mut stream), 2);
    let responses = pull_all(&mut stream);
    let shown = responses.iter().flat_map(|response| &response.events);
    let shown: Vec<_> = shown.filter_map(|event| event.kv.as_ref()).map(|kv| &kv.key).collect();
    assert_eq!(shown, ["a", "b"]);
    let ended = responses.iter().filter(|response| response.canceled);
    let ended: Vec<_> = ended.map(|one| (one.watch_id, one.cancel_reason.as_str())).collect();
    assert_eq!(ended, [(1, DENIED), (2, DENIED)]);
    assert_eq!((stream.watch_count(), hub.figures().pending_bytes), (2, 0));

    store.send(store.user("root"), put("x", "3")).unwrap();
    while hub.advance().unwrap() {}
    assert!(pull_all(&mut stream).is_empty(), "what has ended hears no more");
}
