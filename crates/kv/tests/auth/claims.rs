//! Who gets through, one claim at a time.

use crate::common::{as_format, compact, delete, everything, get, put, snapshot};
use crate::*;
use bytes::Bytes;
use quorate_kv::auth::{AuthFeed, AuthNews, Right};
use quorate_kv::lease::api::{
    LeaseExpireRequest, LeaseGrantRequest, LeaseRenewRequest, LeaseRevokeRequest,
};
use std::sync::Mutex;

const DENIED: OpError = OpError::Auth(AuthError::PermissionDenied);
const NOBODY: OpError = OpError::Auth(AuthError::UserEmpty);
const OLD: OpError = OpError::Auth(AuthError::OldRevision);

fn put_request(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..Default::default() }
}

fn delete_request(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
}

fn grant_lease(id: i64) -> CommandKind {
    CommandKind::LeaseGrant(LeaseGrantRequest { ttl: 10, id })
}

fn revoke_lease(id: i64) -> CommandKind {
    CommandKind::LeaseRevoke(LeaseRevokeRequest { id })
}

fn put_with(key: &'static str, lease: i64) -> CommandKind {
    CommandKind::Put(PutRequest { lease, ..put_request(key) })
}

/// The request within that many transactions, in the branch that is not taken.
fn nested(request: Request, depth: usize, is_success: bool) -> Request {
    (0..depth).fold(request, |request, _| {
        let ops = vec![RequestOp { request: Some(request) }];
        let never = Compare {
            key: "a".into(),
            target_union: Some(CompareUnion::Version(i64::from(is_success))),
            ..Default::default()
        };
        let (success, failure) = if is_success { (ops, vec![]) } else { (vec![], ops) };
        Request::Txn(TxnRequest { compare: vec![never], success, failure })
    })
}

fn txn(request: Request) -> TxnRequest {
    let Request::Txn(txn) = request else { panic!("{request:?}") };
    txn
}

#[test]
fn nested_transactions_are_authorised_at_every_depth() {
    let mut store = guarded();
    store.send(store.user("root"), grant_lease(7)).unwrap();
    store.send(store.user("root"), put_with("x", 7)).unwrap();
    let compare = Compare { key: "x".into(), ..Default::default() };
    let writes = [
        Request::Put(put_request("x")),
        Request::Put(PutRequest { lease: 7, ..put_request("a") }),
        Request::DeleteRange(delete_request("x", "")),
        Request::DeleteRange(delete_request("a", "x")),
        Request::DeleteRange(delete_request("a", "\0")),
    ];
    let reads = [
        Request::Range(get("x")),
        Request::Range(RangeRequest { range_end: "x".into(), ..get("a") }),
        Request::Range(everything()),
        Request::Txn(TxnRequest { compare: vec![compare], ..Default::default() }),
    ];
    let before = store.reader.range(&everything()).unwrap();
    for depth in 1..6 {
        for is_success in [true, false] {
            for request in reads.iter().chain(&writes) {
                let request = txn(nested(request.clone(), depth, is_success));
                let sent = store.send(store.user("alice"), CommandKind::Txn(request.clone()));
                assert_eq!(sent, Err(DENIED), "{request:?}");
                let root = store.send(store.user("root"), CommandKind::Txn(request));
                assert!(root.is_ok(), "not taken, and allowed: {root:?}");
            }
            for request in &reads {
                let request = txn(nested(request.clone(), depth, is_success));
                let read = store.reader.txn_read_only_for(&store.access("alice"), &request);
                assert_eq!(read.unwrap_err().refused(), Some(DENIED), "{request:?}");
            }
            let mine = txn(nested(Request::Put(put_request("b")), depth, is_success));
            store.send(store.user("alice"), CommandKind::Txn(mine)).unwrap();
        }
    }
    assert_eq!(store.reader.range(&everything()).unwrap(), before);
}

#[test]
fn rights_are_checked_where_commands_are_applied_not_where_they_were_proposed() {
    let mut store = guarded();
    let proposed = store.user("alice");
    store.send(proposed.clone(), put("a", "1")).unwrap();
    store.change(revoke_role("alice", "letters")).unwrap();
    assert_eq!(store.send(proposed.clone(), put("a", "2")), Err(OLD));
    let forged = Some(CallerMessage::user("alice", u64::MAX));
    assert_eq!(store.send(forged.clone(), put("a", "2")), Err(DENIED));

    store.change(grant_role("alice", "letters")).unwrap();
    assert_eq!(store.send(proposed.clone(), put("a", "2")), Err(OLD), "she must be known anew");
    store.send(store.user("alice"), put("a", "3")).unwrap();

    let name = "alice".to_owned();
    store.change(AuthRequestKind::UserDelete(UserDeleteRequest { name })).unwrap();
    assert_eq!(store.send(forged, put("a", "4")), Err(DENIED));
    assert_eq!(store.reader.range(&get("a")).unwrap().kvs[0].value, "3");
    store.change(disable()).unwrap();
    store.send(proposed, put("a", "5")).unwrap();
}

#[test]
fn a_command_without_a_caller_is_nobodys_once_auth_is_on() {
    let mut store = guarded();
    let users = CommandKind::Auth(AuthRequest::new(add_user("mallory")));
    let alarm = CommandKind::Alarm(AlarmRequest { action: 1, member_id: 7, alarm: 1 });
    let list = CommandKind::Alarm(AlarmRequest { action: 0, member_id: 0, alarm: 0 });
    let empty = CommandKind::Txn(TxnRequest::default());
    let unknown = CommandKind::Auth(AuthRequest { kind: None });
    let kinds = [
        put("a", "1"),
        delete("a"),
        empty,
        compact(1),
        grant_lease(1),
        revoke_lease(1),
        users,
        alarm,
        list,
        unknown,
    ];
    let before = snapshot(&store.machine).len();
    for kind in kinds {
        let unnamed = CallerMessage { auth_revision: u64::MAX, ..Default::default() };
        for caller in [None, Some(unnamed)] {
            assert_eq!(store.send(caller, kind.clone()), Err(NOBODY), "{kind:?}");
        }
        let ghost = Some(CallerMessage::user("ghost", u64::MAX));
        let refused = store.send(ghost, kind.clone()).unwrap_err();
        assert!([DENIED, OpError::Auth(AuthError::UserNotFound)].contains(&refused), "{kind:?}");
    }
    assert_eq!(snapshot(&store.machine).len(), before, "nothing has happened");

    // These are only ever a server's own.
    let renew = CommandKind::LeaseRenew(LeaseRenewRequest { ids: vec![1] });
    let expire = CommandKind::LeaseExpire(LeaseExpireRequest::default());
    for kind in [renew, expire] {
        assert!(store.send(None, kind).is_ok());
    }
    for kind in [put("x", "1"), compact(1), grant_lease(1)] {
        store.send(Some(CallerMessage::system()), kind).unwrap();
    }
    for request in [get("a"), everything()] {
        let read = store.reader.range_for(&Access::Nobody, &request);
        assert_eq!(read.unwrap_err().refused(), Some(NOBODY));
    }
}

#[test]
fn without_auth_a_command_is_the_same_bytes_as_ever_and_its_sender_does_not_matter() {
    let request = put_request("a").encode_to_vec();
    let old = [&[0x0a, 3, 0x0a, 1][..], b"a"].concat();
    assert_eq!(Command::wrap(CommandTag::Put, &request), old);
    assert_eq!(Command::new(put("a", "")).encode_to_vec(), old);
    let alice = CallerMessage::user("alice", 7);
    let wrapped = Command::wrap_for(CommandTag::Put, &request, Some(&alice));
    assert_eq!(wrapped, Command::new(put("a", "")).by(alice.clone()).encode_to_vec());
    let auth = AuthRequest::new(enable());
    let wrapped = Command::wrap_for(CommandTag::Auth, &auth.encode_to_vec(), Some(&alice));
    assert_eq!(Command::decode(wrapped).unwrap(), Command::new(CommandKind::Auth(auth)).by(alice));

    let mut store = guarded();
    store.change(disable()).unwrap();
    for caller in [None, store.user("ghost"), Some(CallerMessage::user("alice", 0))] {
        store.send(caller.clone(), put("x", "1")).unwrap();
        let access = Access::from(caller);
        assert_eq!(store.reader.range_for(&access, &get("x")).unwrap().count, 1);
    }
}

#[test]
fn touching_permissions_cover_a_range_together() {
    let mut store = guarded();
    let read = |store: &Store, from: &str, to: &str| {
        let (key, range_end) = (from.to_owned().into(), to.to_owned().into());
        store.reader.may_read(&store.access("alice"), &key, &range_end).is_ok()
    };
    store.change(permit("letters", PermissionType::Read, "c", "")).unwrap();
    store.change(add_role("more")).unwrap();
    store.change(permit("more", PermissionType::Read, "c\0", "e")).unwrap();
    store.change(permit("more", PermissionType::Write, "e", "f")).unwrap();
    store.change(permit("more", PermissionType::Read, "f", "\0")).unwrap();
    assert!(read(&store, "a", "c\0"));
    assert!(!read(&store, "a", "e"), "the other role is not hers");
    store.change(grant_role("alice", "more")).unwrap();
    assert!(read(&store, "a", "e") && read(&store, "b", "d") && read(&store, "c", "c\0"));
    assert!(!read(&store, "a", "e\0") && !read(&store, "e", "f") && !read(&store, "a", "\0"));
    assert!(!read(&store, "d", "g"), "a gap is a gap");
    assert!(read(&store, "f", "\0") && read(&store, "zz", "\0") && read(&store, "zz", ""));
    assert!(!read(&store, "c", "a") && !read(&store, "c", "c"), "no key is no right");
    assert!(!read(&store, "", "e") && !read(&store, "", ""));
    store.change(permit("more", PermissionType::ReadWrite, "e", "f")).unwrap();
    assert!(read(&store, "a", "\0") && read(&store, "d", "g"));
}

#[test]
fn what_a_put_or_a_deletion_shows_must_be_readable_too() {
    let mut store = guarded();
    store.change(permit("letters", PermissionType::Write, "w", "")).unwrap();
    store.send(store.user("alice"), put("w", "secret")).unwrap();
    let show = PutRequest { prev_kv: true, ..put_request("w") };
    let delete = DeleteRangeRequest { prev_kv: true, ..delete_request("w", "") };
    for kind in [CommandKind::Put(show), CommandKind::DeleteRange(delete)] {
        assert_eq!(store.send(store.user("alice"), kind), Err(DENIED));
    }
    let blind = CommandKind::DeleteRange(delete_request("w", ""));
    store.send(store.user("alice"), blind).unwrap();
}

#[test]
fn who_ends_a_lease_or_gives_it_more_keys_must_own_those_that_it_has() {
    let mut store = guarded();
    let (root, alice) = (store.user("root"), store.user("alice"));
    store.send(alice.clone(), grant_lease(7)).unwrap();
    store.send(alice.clone(), put_with("a", 7)).unwrap();
    let access = store.access("alice");
    assert_eq!(store.reader.lease_keys_for(&access, 7).unwrap(), ["a"]);
    store.reader.may_keep_lease(&access, 7).unwrap();
    store.reader.may_list_leases(&access).unwrap();

    store.send(root.clone(), put_with("x", 7)).unwrap();
    assert_eq!(store.send(alice.clone(), put_with("b", 7)), Err(DENIED));
    assert_eq!(store.send(alice.clone(), revoke_lease(7)), Err(DENIED));
    for refused in [
        store.reader.may_keep_lease(&access, 7),
        store.reader.may_list_leases(&access),
        store.reader.lease_keys_for(&access, 7).map(drop),
    ] {
        assert_eq!(refused.unwrap_err().refused(), Some(DENIED));
    }
    assert_eq!(store.send(alice.clone(), revoke_lease(8)), Err(OpError::LeaseNotFound));
    store.send(root, revoke_lease(7)).unwrap();
    assert_eq!(store.reader.range(&everything()).unwrap().count, 0);
}

#[test]
fn alarms_come_before_rights_and_users_can_be_changed_while_the_cluster_is_corrupt() {
    let mut store = guarded();
    let raise = |alarm: AlarmKind| {
        CommandKind::Alarm(AlarmRequest { action: 1, member_id: 7, alarm: alarm.into() })
    };
    assert_eq!(store.send(store.user("alice"), raise(AlarmKind::NoSpace)), Err(DENIED));
    store.send(store.user("root"), raise(AlarmKind::NoSpace)).unwrap();
    assert_eq!(store.send(None, put("a", "1")), Err(OpError::NoSpace));
    store.change_by(store.user("root"), add_user("bob")).unwrap();
    store.send(store.user("root"), raise(AlarmKind::Corrupt)).unwrap();
    assert_eq!(store.send(store.user("alice"), delete("x")), Err(OpError::Corrupt));
    assert_eq!(store.change_by(store.user("alice"), add_role("r")), Err(DENIED));
    store.change_by(store.user("root"), add_role("r")).unwrap();
    store.change_by(None, manage::authenticate("alice", store.reader.auth().revision())).unwrap();
}

#[test]
fn auth_survives_flush_restart_and_snapshot() {
    let mut store = guarded();
    store.change(permit("letters", PermissionType::Read, "c", "\0")).unwrap();
    store.send(store.user("alice"), put("a", "1")).unwrap();
    let (state, bytes) = (store.reader.auth(), snapshot(&store.machine));
    let copy = store.copied();
    store.restart();
    let mut restarted_copy = copy.copied();
    restarted_copy.restart();
    for mut store in [store, copy, restarted_copy] {
        assert_eq!(store.reader.auth(), state);
        assert_eq!(snapshot(&store.machine), bytes);
        assert_eq!(store.send(store.user("alice"), put("x", "1")), Err(DENIED));
        assert_eq!(store.send(None, put("a", "1")), Err(NOBODY));
        store.send(store.user("alice"), put("a", "2")).unwrap();
        assert_eq!(store.reader.auth().user("alice").unwrap().password_hash(), b"the hash");
        store.change(disable()).unwrap();
        store.restart();
        store.send(None, put("x", "1")).unwrap();
    }
}

/// In etcd the rights that a member asked for could be those from before a snapshot.
#[test]
fn etcd_14571_a_replica_that_took_a_snapshot_over_refuses_what_the_others_refuse() {
    let (mut leader, mut behind) = (guarded(), guarded());
    leader.change(revoke_role("alice", "letters")).unwrap();
    leader.change(add_user("bob")).unwrap();
    leader.change(grant_role("bob", "letters")).unwrap();
    let last_included = LogId::new(Term::new(1), LogIndex::new(leader.next_index - 1));
    behind.machine.restore(last_included, &mut snapshot(&leader.machine).as_slice()).unwrap();
    behind.next_index = leader.next_index;
    for name in ["alice", "bob", "root"] {
        let caller = leader.user(name);
        let outcome = leader.send(caller.clone(), put("a", name));
        assert_eq!(outcome.is_err(), name == "alice", "{outcome:?}");
        assert_eq!(behind.send(caller, put("a", name)), outcome, "{name}");
    }
    assert_eq!(snapshot(&behind.machine), snapshot(&leader.machine));
}

#[test]
fn what_was_not_flushed_comes_back_out_of_the_log() {
    let mut store = guarded();
    store.machine.flush().unwrap();
    let flushed = store.reader.auth();
    store.change(add_user("bob")).unwrap();
    let store = Store::on(store.engine.after_crash(), store.next_index - 1);
    assert_eq!(store.reader.auth(), flushed);
}

/// What an older version would have written of a store without users: the same without some blocks,
/// and so with other checksums.
fn as_version(version: u32, snapshot: &[u8]) -> Vec<u8> {
    let mut older = [&snapshot[..8], &version.to_le_bytes()].concat();
    let (mut rest, mut chain) = (&snapshot[12..], 0);
    for place in 0..u32::MAX {
        let Some((size, after)) = rest.split_first_chunk::<4>() else { break };
        let end = 4 + u32::from_le_bytes(*size) as usize;
        if (version..3).contains(&place) {
            assert_eq!(end, 4, "there is none of it");
        } else {
            chain = crc32c::crc32c_append(crc32c::crc32c_append(chain, size), &after[4..end]);
            older.extend_from_slice(size);
            older.extend_from_slice(&chain.to_le_bytes());
            older.extend_from_slice(&after[4..end]);
        }
        rest = &after[end..];
    }
    older
}

#[test]
fn older_snapshots_and_stores_have_no_auth() {
    let mut old = Store::new();
    old.send(None, put("a", "1")).unwrap();
    old.machine.flush().unwrap();
    let bytes = snapshot(&old.machine);
    let stores = [1, 2, 3].map(|format| Store::on(as_format(&old.engine, format), 2));
    let copies = [1, 2, 3].map(|version| Store::restored(2, &as_version(version, &bytes)));
    for mut store in stores.into_iter().chain(copies) {
        assert_eq!(*store.reader.auth(), AuthState::default());
        assert_eq!(snapshot(&store.machine), bytes);
        for kind in [add_user("root"), grant_role("root", "root"), enable()] {
            store.change(kind).unwrap();
        }
        store.restart();
        assert_eq!(store.send(None, put("a", "2")), Err(NOBODY));
        let format = store.engine.view().unwrap().get(Space::Meta, b"format").unwrap().unwrap();
        assert_eq!(format[..2], [8, 4], "a program that would let everybody in is warned");
    }
}

#[test]
fn users_that_no_store_holds_are_not_taken_out_of_a_snapshot() {
    let store = Store::new();
    let bytes = snapshot(&store.machine);
    let head_end = 12 + 8 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    // The block behind the head and the leases, of which there are none.
    let mut forged = bytes[..head_end + 8].to_vec();
    let users = [0x08, 1, 0x10, 1];
    let size = u32::try_from(users.len()).unwrap().to_le_bytes();
    let chain = u32::from_le_bytes(forged[head_end + 4..].try_into().unwrap());
    let chain = crc32c::crc32c_append(crc32c::crc32c_append(chain, &size), &users);
    forged.extend_from_slice(&size);
    forged.extend_from_slice(&chain.to_le_bytes());
    forged.extend_from_slice(&users);
    let mut other = Store::new();
    let anywhere = LogId::new(Term::new(1), LogIndex::new(9));
    let refused = other.machine.restore(anywhere, &mut forged.as_slice()).unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("users"), "{source}");
}

#[test]
fn whoever_keeps_tokens_hears_of_them_in_order_and_before_anybody_can_miss_one() {
    let mut store = guarded();
    let heard: Arc<Mutex<Vec<AuthNews>>> = Arc::default();
    let (reader, list) = (store.reader.clone(), Arc::clone(&heard));
    let indices: Arc<Mutex<Vec<u64>>> = Arc::default();
    let applied = Arc::clone(&indices);
    let feed = AuthFeed::new(&store.reader, move |news| {
        applied.lock().unwrap().push(reader.applied().index.get());
        list.lock().unwrap().extend_from_slice(news);
    });
    let revision = store.reader.auth().revision();
    let index = store.next_index;
    let reply = store.change_by(None, manage::authenticate("alice", revision)).unwrap();
    assert_eq!(reply.token, format!("abcdefgh.{index}"));
    assert_eq!(*indices.lock().unwrap(), [index - 1]);
    let (user, token) = ("alice".to_owned(), reply.token.clone());
    let assigned = AuthNews::Assigned { user: user.clone(), token };
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [assigned]);

    let change = UserChangePasswordRequest { name: user.clone(), password_hash: Bytes::new() };
    store.change(AuthRequestKind::UserChangePassword(change)).unwrap();
    store.change(permit("letters", PermissionType::Read, "d", "")).unwrap();
    let name = user.clone();
    store.change(AuthRequestKind::UserDelete(UserDeleteRequest { name })).unwrap();
    store.change(enable()).unwrap();
    store.change(disable()).unwrap();
    store.change(disable()).unwrap();
    let dropped = AuthNews::Dropped { user };
    let expected = [dropped.clone(), dropped, AuthNews::AllDropped];
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), expected);

    let bytes = snapshot(&store.machine);
    let anywhere = LogId::new(Term::new(1), LogIndex::new(store.next_index));
    store.machine.restore(anywhere, &mut bytes.as_slice()).unwrap();
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [AuthNews::AllDropped]);
    drop(feed);
    store.next_index += 1;
    store.change(enable()).unwrap();
    assert_eq!(*heard.lock().unwrap(), []);
}

#[test]
fn no_hash_and_no_token_is_in_what_can_be_printed() {
    let mut store = guarded();
    let revision = store.reader.auth().revision();
    let kind = manage::authenticate("alice", revision);
    let reply = store.change_by(None, kind.clone()).unwrap();
    let news = AuthNews::Assigned { user: "alice".to_owned(), token: reply.token.clone() };
    let change = UserChangePasswordRequest { name: "a".into(), password_hash: "the hash".into() };
    let change = AuthRequestKind::UserChangePassword(change);
    let command = Command::new(CommandKind::Auth(AuthRequest::new(add_user("bob"))));
    let outcome = Outcome::Auth(reply);
    let printed =
        format!("{:?} {kind:?} {news:?} {change:?} {command:?} {outcome:?}", store.reader.auth());
    assert!(printed.contains("alice") && printed.contains("bob"));
    for secret in ["the hash", "abcdefgh", "116, 104, 101"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn who_may_see_users_and_roles() {
    let store = guarded();
    let (state, root, alice) = (store.reader.auth(), store.access("root"), store.access("alice"));
    assert_eq!(state.admit_to_user(&alice, "alice"), Ok(()));
    assert_eq!(state.admit_to_user(&alice, "root"), Err(AuthError::PermissionDenied));
    assert_eq!(state.admit_to_user(&Access::Nobody, ""), Err(AuthError::UserEmpty));
    assert_eq!(state.admit_to_role(&alice, "letters"), Ok(()));
    assert_eq!(state.admit_to_role(&alice, "root"), Err(AuthError::PermissionDenied));
    assert_eq!(state.admit_to_user(&root, "nobody").and(state.admit_to_role(&root, "x")), Ok(()));
    assert_eq!(state.admit(&alice), Ok(()));
    let whole = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    for right in [Right::Read, Right::Write] {
        assert_eq!(state.admit_to_keys(&root, right, &whole.0, &whole.1), Ok(()));
        let denied = state.admit_to_keys(&alice, right, &whole.0, &whole.1);
        assert_eq!(denied, Err(AuthError::PermissionDenied));
    }
}
