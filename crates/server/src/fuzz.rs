//! What arbitrary bytes of clients are fed to, as plain functions that must not panic on any input:
//! the gateway's JSON. Who finds the inputs is not known here; `quorate_sim::fuzz` has the targets
//! below the server.

use crate::http::from_json;
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// JSON as a gateway request, its first byte choosing which. What is read has one JSON form, and
/// is read from it again; and its protobuf form is read too.
///
/// # Panics
///
/// If something is wrong with the server.
pub fn gateway_request(data: &[u8]) {
    let Some((method, json)) = data.split_first() else { return };
    match method % 8 {
        0 => round::<pb::RangeRequest>(json),
        1 => round::<pb::PutRequest>(json),
        2 => round::<pb::DeleteRangeRequest>(json),
        3 => round::<pb::TxnRequest>(json),
        4 => round::<pb::CompactionRequest>(json),
        5 => round::<pb::StatusRequest>(json),
        6 => round::<pb::AlarmRequest>(json),
        _ => round::<pb::MemberListRequest>(json),
    }
}

fn round<Q>(json: &[u8])
where
    Q: Message + DeserializeOwned + Serialize + Default + PartialEq + Debug,
{
    let Ok(request) = from_json::<Q>(json) else { return };
    assert_eq!(Q::decode(request.encode_to_vec().as_slice()).as_ref(), Ok(&request));
    let written = serde_json::to_vec(&request);
    let again = written.as_ref().map(|json| from_json::<Q>(json));
    assert!(matches!(&again, Ok(Ok(same)) if *same == request), "{request:?}: {again:?}");
}
