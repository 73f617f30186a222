//! The keys and requests that locks and elections consist of, as etcd's recipes have them: other
//! clients carry out the same recipes by themselves, with the same keys. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_etcd_api::{etcdserverpb as pb, mvccpb};
use quorate_kv::api::{
    Compare, CompareResult, CompareTarget, CompareUnion, DeleteRangeRequest, KeyValue, PutRequest,
    RangeRequest, Request, RequestOp, Response, ResponseHeader, ResponseOp, SortOrder, SortTarget,
    TxnRequest, TxnResponse,
};

/// What stands between a name and what belongs to it, and what comes after that.
const SEPARATOR: u8 = b'/';
const AFTER_SEPARATOR: u8 = SEPARATOR + 1;

/// All keys of one name: who was there first holds the lock, or leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) from: Bytes,
    pub(super) end: Bytes,
}

impl Line {
    pub(super) fn of(name: &[u8]) -> Self {
        Self { from: joined(name, &[SEPARATOR]), end: joined(name, &[AFTER_SEPARATOR]) }
    }

    /// The key of whoever has this lease.
    pub(super) fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        joined(&self.from, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes())
    }

    /// Reads the key that is the oldest.
    pub(super) fn first(&self) -> RangeRequest {
        self.one(SortOrder::Ascend, 0)
    }

    /// Reads the key that is the next older than one of this revision.
    fn last_before(&self, revision: i64) -> RangeRequest {
        self.one(SortOrder::Descend, revision - 1)
    }

    fn one(&self, order: SortOrder, max_create_revision: i64) -> RangeRequest {
        RangeRequest {
            key: self.from.clone(),
            range_end: self.end.clone(),
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision,
            ..RangeRequest::default()
        }
    }

    /// Puts a key into the line unless it is there, and looks who is first.
    pub(super) fn enter(&self, key: &Bytes, value: Bytes, lease: i64) -> TxnRequest {
        let first = || op(Request::Range(self.first()));
        TxnRequest {
            compare: vec![created_at(key, 0)],
            success: vec![put(key, value, lease), first()],
            failure: vec![op(Request::Range(read(key))), first()],
        }
    }

    /// Looks whether a key is in the line, and who is in front of it. `revision` is the key's.
    pub(super) fn look(&self, key: &Bytes, revision: i64) -> TxnRequest {
        let before = op(Request::Range(self.last_before(revision)));
        TxnRequest { success: vec![op(Request::Range(read(key))), before], ..TxnRequest::default() }
    }
}

fn joined(name: &[u8], rest: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(name.len() + rest.len());
    key.put_slice(name);
    key.put_slice(rest);
    key.freeze()
}

/// Gives a key another value, if it is still the one that was created at that revision.
pub(super) fn replace(key: &Bytes, revision: i64, value: Bytes, lease: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![put(key, value, lease)],
        failure: Vec::new(),
    }
}

/// Deletes a key, if it is still the one that was created at that revision.
pub(super) fn leave(key: &Bytes, revision: i64) -> TxnRequest {
    let request = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Request::DeleteRange(request))],
        failure: Vec::new(),
    }
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(CompareUnion::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

fn read(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

fn put(key: &Bytes, value: Bytes, lease: i64) -> RequestOp {
    op(Request::Put(PutRequest { key: key.clone(), value, lease, ..PutRequest::default() }))
}

const fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// What [`Line::enter`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) header: ResponseHeader,
    /// Of the key's creation.
    pub(super) revision: i64,
    /// What the key held, if it was there before.
    pub(super) found: Option<Bytes>,
    pub(super) is_first: bool,
}

impl Entry {
    /// `None` if that is no answer to it.
    pub(super) fn of(answer: TxnResponse) -> Option<Self> {
        let header = answer.header?;
        let mut responses = answer.responses.into_iter();
        let (own, first) = (responses.next()?, keys_of(responses.next()?)?);
        let (revision, found) = if answer.succeeded {
            (header.revision, None)
        } else {
            let own = keys_of(own)?.pop()?;
            (own.create_revision, Some(own.value))
        };
        let is_first = first.iter().all(|first| first.create_revision == revision);
        Some(Self { header, revision, found, is_first })
    }
}

/// What [`Line::look`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) header: ResponseHeader,
    /// Whether the key is still the one that entered.
    pub(super) is_kept: bool,
    /// The next key in front of it.
    pub(super) before: Option<Bytes>,
}

impl Place {
    /// Of the key that was created at that revision; `None` if that is no answer.
    pub(super) fn of(answer: TxnResponse, revision: i64) -> Option<Self> {
        let header = answer.header?;
        let mut responses = answer.responses.into_iter();
        let (own, mut before) = (keys_of(responses.next()?)?, keys_of(responses.next()?)?);
        let is_kept = own.iter().any(|own| own.create_revision == revision);
        Some(Self { header, is_kept, before: before.pop().map(|before| before.key) })
    }
}

/// The keys in the answer to a range, of which there is one at most; `None` if it is another answer.
fn keys_of(answer: ResponseOp) -> Option<Vec<KeyValue>> {
    match answer.response? {
        Response::Range(range) => Some(range.kvs),
        Response::Put(_) | Response::DeleteRange(_) | Response::Txn(_) => None,
    }
}

pub(super) fn wire_key(kv: KeyValue) -> mvccpb::KeyValue {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    mvccpb::KeyValue { key, create_revision, mod_revision, version, value, lease }
}

pub(super) const fn wire_header(header: ResponseHeader) -> pb::ResponseHeader {
    let ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
    pb::ResponseHeader { cluster_id, member_id, revision, raft_term }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_kv::api::{PutResponse, RangeResponse};

    #[test]
    fn keys_are_a_name_a_slash_and_the_lease_in_hexadecimal() {
        let line = Line::of(b"jobs");
        assert_eq!((line.from.as_ref(), line.end.as_ref()), (&b"jobs/"[..], &b"jobs0"[..]));
        for (lease, key) in [
            (77, "jobs/4d"),
            (0x694d_5c1d_2a3b_4c5d, "jobs/694d5c1d2a3b4c5d"),
            // As Go prints it.
            (-255, "jobs/-ff"),
            (i64::MIN, "jobs/-8000000000000000"),
        ] {
            assert_eq!(line.key(lease), key);
        }
        assert_eq!(Line::of(b"").key(1), "/1", "no name is a name");
    }

    fn kv(revision: i64, value: &'static str) -> KeyValue {
        let (key, value) = (format!("l/{revision}").into(), value.into());
        KeyValue { key, create_revision: revision, value, ..KeyValue::default() }
    }

    fn answer(revision: i64, succeeded: bool, responses: Vec<Response>) -> TxnResponse {
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let responses =
            responses.into_iter().map(|response| ResponseOp { response: Some(response) }).collect();
        TxnResponse { header, succeeded, responses }
    }

    fn range(kvs: Vec<KeyValue>) -> Response {
        Response::Range(RangeResponse { kvs, ..RangeResponse::default() })
    }

    #[test]
    fn who_enters_is_first_if_nobody_older_is_there() {
        let put = || Response::Put(PutResponse::default());
        // The header's revision is that of the put.
        let alone = Entry::of(answer(7, true, vec![put(), range(vec![kv(7, "")])])).unwrap();
        assert_eq!((alone.revision, alone.found, alone.is_first), (7, None, true));
        let second = Entry::of(answer(7, true, vec![put(), range(vec![kv(3, "")])])).unwrap();
        assert_eq!((second.revision, second.is_first), (7, false));
        let again = vec![range(vec![kv(5, "v")]), range(vec![kv(5, "v")])];
        let again = Entry::of(answer(9, false, again)).unwrap();
        assert_eq!((again.revision, again.found, again.is_first), (5, Some("v".into()), true));
    }

    #[test]
    fn a_place_is_kept_by_the_key_that_entered_and_no_later_one() {
        let place = |own: Vec<KeyValue>, before: Vec<KeyValue>| {
            let place = Place::of(answer(9, true, vec![range(own), range(before)]), 5).unwrap();
            (place.is_kept, place.before)
        };
        assert_eq!(place(vec![kv(5, "")], vec![]), (true, None));
        assert_eq!(place(vec![kv(5, "")], vec![kv(3, "")]), (true, Some("l/3".into())));
        assert_eq!(place(vec![], vec![]), (false, None));
        assert_eq!(place(vec![kv(8, "")], vec![]), (false, None));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(Entry::of(TxnResponse::default()), None);
        assert_eq!(Entry::of(answer(7, true, vec![range(vec![])])), None);
        assert_eq!(Entry::of(answer(7, false, vec![range(vec![]), range(vec![])])), None);
        assert_eq!(Place::of(answer(7, true, vec![range(vec![])]), 5), None);
    }
}
