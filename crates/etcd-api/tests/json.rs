//! The JSON forms against what etcd 3.5.1's gateway said to the same requests (`curl`, recorded).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use quorate_etcd_api::etcdserverpb::{self as pb, compare, range_request, request_op, response_op};
use quorate_etcd_api::mvccpb::KeyValue;

fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: 12_101_053_776_118_486_841,
        member_id: 15_985_099_378_392_235_387,
        revision,
        raft_term: 2,
    }
}

fn greeting() -> KeyValue {
    KeyValue {
        key: Bytes::from_static(b"greeting"),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: Bytes::from_static(b"hello"),
        lease: 0,
    }
}

#[test]
fn a_range_response_is_written_byte_for_byte_as_etcd_writes_it() {
    let response =
        pb::RangeResponse { header: Some(header(3)), kvs: vec![greeting()], more: false, count: 1 };
    assert_eq!(
        serde_json::to_string(&response).unwrap(),
        r#"{"header":{"cluster_id":"12101053776118486841","member_id":"15985099378392235387","revision":"3","raft_term":"2"},"kvs":[{"key":"Z3JlZXRpbmc=","create_revision":"2","mod_revision":"3","version":"2","value":"aGVsbG8="}],"count":"1"}"#
    );
}

#[test]
fn a_transaction_response_is_written_byte_for_byte_as_etcd_writes_it() {
    let range = pb::RangeResponse {
        header: Some(pb::ResponseHeader { revision: 3, ..Default::default() }),
        kvs: vec![greeting()],
        more: false,
        count: 1,
    };
    let put = pb::PutResponse {
        header: Some(pb::ResponseHeader { revision: 4, ..Default::default() }),
        prev_kv: None,
    };
    let nested = pb::TxnResponse {
        header: Some(pb::ResponseHeader::default()),
        succeeded: true,
        responses: Vec::new(),
    };
    let response = pb::TxnResponse {
        header: Some(header(4)),
        succeeded: true,
        responses: vec![
            pb::ResponseOp { response: Some(response_op::Response::ResponseRange(range)) },
            pb::ResponseOp { response: Some(response_op::Response::ResponsePut(put)) },
            pb::ResponseOp { response: Some(response_op::Response::ResponseTxn(nested)) },
        ],
    };
    assert_eq!(
        serde_json::to_string(&response).unwrap(),
        r#"{"header":{"cluster_id":"12101053776118486841","member_id":"15985099378392235387","revision":"4","raft_term":"2"},"succeeded":true,"responses":[{"response_range":{"header":{"revision":"3"},"kvs":[{"key":"Z3JlZXRpbmc=","create_revision":"2","mod_revision":"3","version":"2","value":"aGVsbG8="}],"count":"1"}},{"response_put":{"header":{"revision":"4"}}},{"response_txn":{"header":{},"succeeded":true}}]}"#
    );
}

#[test]
fn the_odd_capitals_of_the_cluster_and_maintenance_messages_are_kept() {
    let members = pb::MemberListResponse {
        header: Some(pb::ResponseHeader { revision: 0, ..header(0) }),
        members: vec![pb::Member {
            id: 15_985_099_378_392_235_387,
            name: "default".into(),
            peer_ur_ls: vec!["http://127.0.0.1:12380".into()],
            client_ur_ls: vec!["http://127.0.0.1:12379".into()],
            is_learner: false,
        }],
    };
    assert_eq!(
        serde_json::to_string(&members).unwrap(),
        r#"{"header":{"cluster_id":"12101053776118486841","member_id":"15985099378392235387","raft_term":"2"},"members":[{"ID":"15985099378392235387","name":"default","peerURLs":["http://127.0.0.1:12380"],"clientURLs":["http://127.0.0.1:12379"]}]}"#
    );
    let status = pb::StatusResponse {
        header: Some(header(5)),
        version: "3.5.1".into(),
        db_size: 24_576,
        leader: 15_985_099_378_392_235_387,
        raft_index: 12,
        raft_term: 2,
        raft_applied_index: 12,
        db_size_in_use: 16_384,
        ..Default::default()
    };
    assert_eq!(
        serde_json::to_string(&status).unwrap(),
        r#"{"header":{"cluster_id":"12101053776118486841","member_id":"15985099378392235387","revision":"5","raft_term":"2"},"version":"3.5.1","dbSize":"24576","leader":"15985099378392235387","raftIndex":"12","raftTerm":"2","raftAppliedIndex":"12","dbSizeInUse":"16384"}"#
    );
}

#[test]
fn a_request_may_use_either_spelling_numbers_or_strings_and_unknown_fields() {
    let put: pb::PutRequest = serde_json::from_str(
        r#"{"key":"Z3JlZXRpbmc=","value":"aGVsbG8=","prevKv":true,"lease":7,"unknown":{"a":[1]}}"#,
    )
    .unwrap();
    assert_eq!(put.key, &b"greeting"[..]);
    assert_eq!((put.prev_kv, put.lease), (true, 7));

    let range: pb::RangeRequest = serde_json::from_str(
        r#"{"key":"Z3JlZXRpbmc=","limit":"1","sort_order":"DESCEND","sortTarget":3,"keys_only":true}"#,
    )
    .unwrap();
    assert_eq!((range.limit, range.keys_only), (1, true));
    assert_eq!(range.sort_order(), range_request::SortOrder::Descend);
    assert_eq!(range.sort_target(), range_request::SortTarget::Mod);
}

#[test]
fn a_nested_transaction_is_read() {
    let txn: pb::TxnRequest = serde_json::from_str(
        r#"{"compare":[{"target":"VERSION","result":"NOT_EQUAL","key":"YQ==","version":"2"}],
            "success":[{"request_range":{"key":"YQ=="}},
                       {"requestPut":{"key":"YQ==","value":"Yg==","prev_kv":true}},
                       {"request_txn":{"failure":[{"request_delete_range":{"key":"YQ=="}}]}}]}"#,
    )
    .unwrap();
    assert_eq!(txn.compare[0].result(), compare::CompareResult::NotEqual);
    assert_eq!(txn.compare[0].target_union, Some(compare::TargetUnion::Version(2)));
    let Some(request_op::Request::RequestTxn(nested)) = &txn.success[2].request else {
        panic!("the third operation is a transaction");
    };
    assert_eq!(nested.failure.len(), 1);
}

#[test]
fn url_safe_base64_is_read_too() {
    let put: pb::PutRequest = serde_json::from_str(r#"{"key":"-_8=","value":"+/8="}"#).unwrap();
    assert_eq!(put.key, put.value);
}

#[test]
fn base64_may_have_line_ends_and_loose_bits_as_in_go() {
    let key = |text: &str| {
        let json = serde_json::json!({ "key": text }).to_string();
        serde_json::from_str::<pb::PutRequest>(&json).map(|put| put.key)
    };
    for text in ["YQ==\n", "\nYQ==", "Y\r\nQ=\n=\r\n", "YQ", "YQ\n", "YR=="] {
        assert_eq!(key(text).unwrap(), &b"a"[..], "{text:?}");
    }
    assert_eq!(key("-_8=\n").unwrap(), key("+/8=").unwrap());
    assert_eq!(key("\r\n").unwrap(), b""[..]);
    for wrong in ["Y Q==", "YQ==\t", "YQ==x", "YQ=\nx", "YQ==YQ==", "Y", "=", "!", "+_8=\n"] {
        let error = key(wrong).unwrap_err().to_string();
        assert!(error.starts_with("expected base64: "), "{wrong:?}: {error}");
    }
}

#[test]
fn a_number_in_a_string_is_read_as_json_of_its_own() {
    let limit = |text: &str| {
        let json = format!(r#"{{"limit":{text}}}"#);
        serde_json::from_str::<pb::RangeRequest>(&json).map(|range| range.limit)
    };
    for (text, number) in [
        ("7", 7),
        (r#""7""#, 7),
        (r#"" -7 ""#, -7),
        (r#""-0""#, 0),
        (r#""9223372036854775807""#, i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(limit(text).unwrap(), number, "{text}");
    }
    for wrong in [
        r#""+1""#,
        r#""01""#,
        r#""-01""#,
        r#""1e3""#,
        r#""1.0""#,
        r#""""#,
        r#""-""#,
        r#""- 1""#,
        r#""\t1""#,
        r#""9223372036854775808""#,
        "9223372036854775808",
        "1.5",
        "1e3",
        "true",
        "{}",
    ] {
        let error = limit(wrong).unwrap_err().to_string();
        let told = "expected an integer from -9223372036854775808 to 9223372036854775807, \
                    as a number or a string";
        assert!(error.contains(told), "{wrong}: {error}");
    }
    let id = |text: &str| {
        let json = format!(r#"{{"ID":{text}}}"#);
        serde_json::from_str::<pb::MemberRemoveRequest>(&json).map(|remove| remove.id)
    };
    assert_eq!(id("18446744073709551615").unwrap(), u64::MAX);
    assert_eq!(id(r#""18446744073709551615""#).unwrap(), u64::MAX);
    let error = id("-1").unwrap_err().to_string();
    let told = "invalid value: integer `-1`, expected an integer from 0 to 18446744073709551615";
    assert!(error.contains(told), "{error}");
}
