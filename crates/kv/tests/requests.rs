//! What is refused before anything is proposed, with etcd's words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use quorate_kv::*;

fn put(key: &'static str) -> Request {
    Request::Put(PutRequest { key: key.into(), ..Default::default() })
}

fn delete(key: &'static str, range_end: &'static str) -> Request {
    Request::DeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    })
}

fn ops(requests: Vec<Request>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

fn txn(success: Vec<Request>, failure: Vec<Request>) -> Request {
    Request::Txn(TxnRequest { compare: Vec::new(), success: ops(success), failure: ops(failure) })
}

fn refused(request: &Request, text: &str) {
    assert_eq!(validate(request).unwrap_err().to_string(), text);
}

#[test]
fn an_empty_key_is_refused_everywhere() {
    refused(&Request::Range(RangeRequest::default()), "key is not provided");
    refused(&put(""), "key is not provided");
    refused(&delete("", ""), "key is not provided");
    refused(&txn(vec![put("")], vec![]), "key is not provided");
    let compare = vec![Compare::default()];
    let request = Request::Txn(TxnRequest { compare, ..Default::default() });
    refused(&request, "key is not provided");
}

#[test]
fn an_empty_operation_is_refused() {
    let success = vec![RequestOp { request: None }];
    refused(&Request::Txn(TxnRequest { success, ..Default::default() }), "key not found");
}

#[test]
fn what_should_be_kept_must_not_be_given() {
    let request =
        PutRequest { key: "a".into(), value: "1".into(), ignore_value: true, ..Default::default() };
    refused(&Request::Put(request), "value is provided");
    let request =
        PutRequest { key: "a".into(), lease: 1, ignore_lease: true, ..Default::default() };
    refused(&Request::Put(request), "lease is provided");
}

#[test]
fn an_order_that_does_not_exist_is_refused() {
    for (sort_order, sort_target) in [(3, 0), (0, 5), (-1, 0)] {
        let key = Bytes::from("a");
        let request = RangeRequest { key, sort_order, sort_target, ..Default::default() };
        refused(&Request::Range(request), "invalid sort option");
    }
}

#[test]
fn a_transaction_may_have_128_operations_and_not_129() {
    let many =
        |count| vec![Request::Range(RangeRequest { key: "a".into(), ..Default::default() }); count];
    assert_eq!(validate(&txn(many(128), many(128))), Ok(()));
    refused(&txn(many(129), vec![]), "too many operations in txn request");
    assert_eq!(validate_with(&txn(many(3), vec![]), 2), Err(RequestError::TooManyOps));
}

#[test]
fn nesting_uses_the_budget_of_operations_up() {
    let nested = |count| {
        let mut outer =
            vec![Request::Range(RangeRequest { key: "a".into(), ..Default::default() }); 64];
        outer[0] = txn(vec![outer[1].clone(); count], vec![]);
        txn(outer, vec![])
    };
    assert_eq!(validate(&nested(64)), Ok(()));
    refused(&nested(65), "too many operations in txn request");
}

#[test]
fn a_key_may_be_written_once() {
    let duplicate = "duplicate key given in txn request";
    refused(&txn(vec![put("a"), put("a")], vec![]), duplicate);
    refused(&txn(vec![], vec![put("a"), delete("a", "")]), duplicate);
    refused(&txn(vec![delete("a", "c"), put("b")], vec![]), duplicate);
    refused(&txn(vec![put("a"), txn(vec![put("a")], vec![])], vec![]), duplicate);
    refused(&txn(vec![txn(vec![delete("a", "")], vec![]), put("a")], vec![]), duplicate);
    assert_eq!(validate(&txn(vec![put("c"), delete("a", "c")], vec![put("c")])), Ok(()));
    assert_eq!(validate(&txn(vec![delete("a", ""), delete("a", "c")], vec![])), Ok(()));
}

#[test]
fn a_deletion_without_an_end_or_with_one_before_it_leaves_its_keys_to_be_written() {
    // What etcd 3.5.1 accepts; it carries the operations out in their order.
    for (key, range_end) in [("aa", "\0"), ("\0", "\0"), ("c", "a"), ("c", "c")] {
        let txn = txn(vec![delete(key, range_end), delete("b", ""), put(key)], vec![]);
        assert_eq!(validate(&txn), Ok(()), "{key:?} to {range_end:?}");
    }
    let text = "duplicate key given in txn request";
    refused(&txn(vec![delete("aa", "\0"), delete("aa", ""), put("aa")], vec![]), text);
}

#[test]
fn the_branches_of_a_nested_transaction_may_write_the_same_key() {
    assert_eq!(validate(&txn(vec![txn(vec![put("a")], vec![put("a")])], vec![])), Ok(()));
}

#[test]
fn read_only_looks_into_both_branches_and_all_depths() {
    let read = Request::Range(RangeRequest { key: "a".into(), ..Default::default() });
    let is_read_only = |request: Request| match request {
        Request::Txn(txn) => is_read_only(&txn),
        Request::Range(_) | Request::Put(_) | Request::DeleteRange(_) => panic!(),
    };
    assert!(is_read_only(txn(vec![read.clone()], vec![txn(vec![], vec![read])])));
    assert!(!is_read_only(txn(vec![], vec![txn(vec![], vec![put("a")])])));
}
