//! Requests as clients send them: decoded, judged by the rules for clients, and carried out on a
//! store that holds a few keys. Whatever passes the rules gets an answer that can be encoded, and
//! what is refused changes nothing.

use super::input::Input;
use super::store::Store;
use bytes::Bytes;
use prost::Message;
use quorate::{LogId, LogIndex, StateMachine, Term};
use quorate_kv::api::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, Request, TxnRequest,
};
use quorate_kv::auth::Right;
use quorate_kv::auth::api::AuthRequest;
use quorate_kv::lease::TTL_SECONDS_MAX;
use quorate_kv::lease::api::{
    LeaseExpireRequest, LeaseGrantRequest, LeaseRenewRequest, LeaseRevokeRequest, Overdue,
};
use quorate_kv::{
    Access, AlarmAction, AlarmKind, AlarmRequest, CallerMessage, Command, CommandReply, CommandTag,
    OpError, Reader, Revision,
};

/// One request after the other: a byte for the method, one for the size, the message.
pub(super) fn client_request(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut store) = Store::fresh() else { return };
    for key in [b"a", b"b", b"c"] {
        let put = PutRequest { key: Bytes::from_static(key), ..PutRequest::default() };
        let _ = store.apply(Command::wrap(CommandTag::Put, &put.encode_to_vec()));
    }
    while !input.is_empty() {
        let (method, size) = (input.below(16), usize::from(input.byte()));
        // What is decoded is proposed as it came, as the server does it.
        let message = Bytes::copy_from_slice(input.bytes(size));
        match method {
            0..5 => answer_about_keys(&mut store, method, &message),
            5..10 => answer_about_leases(&mut store, method, &message),
            _ => answer_about_all(&mut store, method, &message),
        }
    }
}

fn answer_about_keys(store: &mut Store, method: u8, message: &Bytes) {
    match method {
        0 => read(&store.reader, message),
        1 if PutRequest::decode(message.clone()).is_ok_and(|put| is_fine(&Request::Put(put))) => {
            let _ = store.carry_out(Command::wrap(CommandTag::Put, message));
        }
        2 if is_deletion(message) => {
            let _ = store.carry_out(Command::wrap(CommandTag::DeleteRange, message));
        }
        3 => transact(store, message),
        4 if CompactionRequest::decode(message.clone()).is_ok() => {
            let _ = store.carry_out(Command::wrap(CommandTag::Compact, message));
        }
        _ => {}
    }
}

fn answer_about_leases(store: &mut Store, method: u8, message: &Bytes) {
    match method {
        5 => grant(store, message),
        6 if LeaseRevokeRequest::decode(message.clone()).is_ok() => {
            let _ = store.carry_out(Command::wrap(CommandTag::LeaseRevoke, message));
        }
        // A keep-alive, a question for the time to live, and one to end a lease all name it alike.
        7..10 => {
            let Ok(LeaseRevokeRequest { id }) = LeaseRevokeRequest::decode(message.clone()) else {
                return;
            };
            match method {
                7 => {
                    let renew = LeaseRenewRequest { ids: vec![id] }.encode_to_vec();
                    let _ = store.carry_out(Command::wrap(CommandTag::LeaseRenew, &renew));
                }
                8 => check_lease(&store.reader, id),
                _ => expire(store, id),
            }
        }
        _ => {}
    }
}

fn answer_about_all(store: &mut Store, method: u8, message: &Bytes) {
    match method {
        10 => raise(store, message),
        11 => {
            let revision = i64::decode(message.clone()).map(i64::cast_unsigned);
            let revision = revision.ok().filter(|revision| *revision > 0).map(Revision::new);
            let _ = store.reader.hash(revision);
        }
        12 => back_up(&store.reader),
        13 => {
            let Ok(reply) = CommandReply::decode(message.clone()) else { return };
            assert_eq!(CommandReply::decode(reply.encode_to_vec().as_slice()).as_ref(), Ok(&reply));
            // A leader sends this to the member that asked for a command.
            let _ = reply.into_result();
        }
        14 if AuthRequest::decode(message.clone()).is_ok() => {
            let root = CallerMessage::system();
            let _ = store.carry_out(Command::wrap_for(CommandTag::Auth, message, Some(&root)));
        }
        15 => ask_as(store, message),
        _ => {}
    }
}

/// Whoever that is: what it gets is what it has a right to, and nobody gets anything.
fn ask_as(store: &mut Store, message: &Bytes) {
    let Ok(caller) = CallerMessage::decode(message.clone()) else { return };
    let access = Access::from(Some(caller.clone()));
    let (auth, one) = (store.reader.auth(), Bytes::new());
    let (key, to_the_end) = (Bytes::from_static(b"b"), Bytes::from_static(&[0]));
    let put = PutRequest { key: key.clone(), ..PutRequest::default() }.encode_to_vec();
    let by_caller = store.carry_out(Command::wrap_for(CommandTag::Put, &put, Some(&caller)));
    let may_write = auth.admit_to_keys(&access, Right::Write, &key, &one);
    assert!(by_caller.is_err() || may_write.is_ok(), "{access:?} wrote: {may_write:?}");
    let by_nobody = store.carry_out(Command::wrap(CommandTag::Put, &put));
    assert!(by_nobody.is_err() || !auth.is_enabled(), "nobody wrote");
    let range = RangeRequest { key, range_end: to_the_end, ..RangeRequest::default() };
    let read = store.reader.range_for(&access, &range);
    let may_read = store.reader.may_read(&access, &range.key, &range.range_end);
    assert_eq!(read.is_ok(), may_read.is_ok(), "{access:?} read");
}

/// As the server proposes it: with an id.
fn grant(store: &mut Store, message: &Bytes) {
    let Ok(LeaseGrantRequest { ttl, id }) = LeaseGrantRequest::decode(message.clone()) else {
        return;
    };
    if ttl > TTL_SECONDS_MAX {
        return;
    }
    let request = LeaseGrantRequest { ttl: ttl.max(1), id: if id == 0 { 77 } else { id } };
    let command = Command::wrap(CommandTag::LeaseGrant, &request.encode_to_vec());
    let granted = store.carry_out(command);
    let is_there = store.reader.lease(request.id).is_some();
    let is_earlier = matches!(granted, Err(OpError::LeaseExists));
    assert!(is_there || !(granted.is_ok() || is_earlier), "what is granted is there: {granted:?}");
}

fn check_lease(reader: &Reader, id: i64) {
    let keys = reader.lease_keys(id);
    let Ok(keys) = keys else { panic!("the keys of a lease can be read: {keys:?}") };
    assert!(keys.is_empty() || reader.lease(id).is_some(), "no keys without a lease");
    assert_eq!(reader.lease_count(), reader.leases().len());
}

/// Its time is up.
fn expire(store: &mut Store, id: i64) {
    let Some(lease) = store.reader.lease(id) else { return };
    let leases = vec![Overdue { id, renewed_at: lease.renewed_at.get() }];
    let request = LeaseExpireRequest { leases }.encode_to_vec();
    let expired = store.carry_out(Command::wrap(CommandTag::LeaseExpire, &request));
    let is_gone = store.reader.lease(id).is_none();
    assert!(is_gone || expired.is_err(), "nobody had renewed it: {expired:?}");
}

fn raise(store: &mut Store, message: &Bytes) {
    let Ok(request) = AlarmRequest::decode(message.clone()) else { return };
    let (kind, action) =
        (AlarmKind::try_from(request.alarm), AlarmAction::try_from(request.action));
    match (kind, action) {
        (Ok(kind), Ok(AlarmAction::Get)) => drop(store.reader.alarms(kind)),
        (Ok(_), Ok(AlarmAction::Activate | AlarmAction::Deactivate)) => {
            let _ = store.carry_out(Command::wrap(CommandTag::Alarm, message));
        }
        (Err(_), _) | (_, Err(_)) => {}
    }
}

/// A backup is as long as it says, and a store takes it for a snapshot.
fn back_up(reader: &Reader) {
    let size = reader.backup().size_bytes().ok();
    let mut written = Vec::new();
    assert!(reader.backup().write_to(&mut written).is_ok(), "a backup can be written");
    assert_eq!(size, u64::try_from(written.len()).ok(), "the size that was announced");
    let Some(mut copy) = Store::fresh() else { return };
    let anywhere = LogId::new(Term::new(u64::MAX), LogIndex::new(u64::MAX));
    let taken = copy.machine.restore(anywhere, &mut written.as_slice());
    assert!(taken.is_ok(), "a backup can be restored: {taken:?}");
    let hashes = (copy.reader.hash(None).ok(), reader.hash(None).ok());
    assert_eq!(hashes.0, hashes.1, "the same store");
}

fn is_fine(request: &Request) -> bool {
    quorate_kv::validate(request).is_ok()
}

fn is_deletion(message: &Bytes) -> bool {
    DeleteRangeRequest::decode(message.clone())
        .is_ok_and(|deletion| is_fine(&Request::DeleteRange(deletion)))
}

fn read(reader: &Reader, message: &Bytes) {
    let Ok(range) = RangeRequest::decode(message.clone()) else { return };
    if !is_fine(&Request::Range(range.clone())) {
        return;
    }
    if let Ok(response) = reader.range(&range) {
        let count = usize::try_from(response.count).unwrap_or_default();
        assert!(response.kvs.len() <= count, "no more keys than are counted");
        assert_eq!(response.encode_to_vec().len(), response.encoded_len());
    }
}

fn transact(store: &mut Store, message: &Bytes) {
    let Ok(txn) = TxnRequest::decode(message.clone()) else { return };
    if !is_fine(&Request::Txn(txn.clone())) {
        return;
    }
    if !quorate_kv::is_read_only(&txn) {
        let _ = store.carry_out(Command::wrap(CommandTag::Txn, message));
        return;
    }
    if let Ok(response) = store.reader.txn_read_only(&txn) {
        let response = response.unwrap_or_default();
        assert_eq!(response.encode_to_vec().len(), response.encoded_len());
    }
}
