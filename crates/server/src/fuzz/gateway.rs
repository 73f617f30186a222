//! JSON as the gateway reads it. What is read has one JSON form and one protobuf form, and each is
//! read as the same message again, by the store's own messages too. What is done with it is not
//! known here.

use crate::http::{from_json, requests_of};
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_kv::{api, lease, watch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// JSON as a gateway request, its first byte choosing which.
pub(super) fn gateway_request(data: &[u8]) {
    let Some((method, json)) = data.split_first() else { return };
    match method % 21 {
        0 => stored::<pb::RangeRequest, api::RangeRequest>(json),
        1 => stored::<pb::PutRequest, api::PutRequest>(json),
        2 => stored::<pb::DeleteRangeRequest, api::DeleteRangeRequest>(json),
        3 => stored::<pb::TxnRequest, api::TxnRequest>(json),
        4 => stored::<pb::CompactionRequest, api::CompactionRequest>(json),
        5 => round::<pb::StatusRequest>(json),
        6 => stored::<pb::AlarmRequest, quorate_kv::AlarmRequest>(json),
        7 => round::<pb::MemberListRequest>(json),
        8 => round::<pb::MemberAddRequest>(json),
        9 => round::<pb::MemberRemoveRequest>(json),
        10 => round::<pb::MemberUpdateRequest>(json),
        11 => round::<pb::MemberPromoteRequest>(json),
        12 => stored::<pb::LeaseGrantRequest, lease::api::LeaseGrantRequest>(json),
        13 => stored::<pb::LeaseRevokeRequest, lease::api::LeaseRevokeRequest>(json),
        14 => round::<pb::LeaseTimeToLiveRequest>(json),
        15 => round::<pb::LeaseLeasesRequest>(json),
        16 => round::<pb::DefragmentRequest>(json),
        17 => round::<pb::HashRequest>(json),
        18 => round::<pb::HashKvRequest>(json),
        19 => round::<pb::MoveLeaderRequest>(json),
        _ => round::<pb::DowngradeRequest>(json),
    }
}

/// JSON as the body of one of the gateway's streams: watches, or keep-alives.
pub(super) fn gateway_stream(data: &[u8]) {
    let Some((method, body)) = data.split_first() else { return };
    if method % 2 == 0 {
        for request in requests_of::<pb::WatchRequest>(body).map_while(Result::ok) {
            check(&request);
            same::<watch::WatchRequest>(&request.encode_to_vec());
        }
    } else {
        let requests = requests_of::<pb::LeaseKeepAliveRequest>(body);
        requests.map_while(Result::ok).for_each(|request| check(&request));
    }
}

fn round<Q>(json: &[u8])
where
    Q: Message + DeserializeOwned + Serialize + Default + PartialEq + Debug,
{
    if let Ok(request) = from_json::<Q>(json) {
        check(&request);
    }
}

/// [`round`], for a request that the store reads by a message `K` of its own.
fn stored<Q, K>(json: &[u8])
where
    Q: Message + DeserializeOwned + Serialize + Default + PartialEq + Debug,
    K: Message + Default,
{
    if let Ok(request) = from_json::<Q>(json) {
        check(&request);
        same::<K>(&request.encode_to_vec());
    }
}

fn check<Q>(request: &Q)
where
    Q: Message + DeserializeOwned + Serialize + Default + PartialEq + Debug,
{
    assert_eq!(Q::decode(request.encode_to_vec().as_slice()).as_ref(), Ok(request));
    let written = serde_json::to_vec(request);
    let again = written.as_ref().map(|json| from_json::<Q>(json));
    assert!(matches!(&again, Ok(Ok(same)) if same == request), "{request:?}: {again:?}");
}

/// The store reads every field: what it writes again is what it was given.
fn same<K: Message + Default>(message: &[u8]) {
    let read = K::decode(message).map(|read| read.encode_to_vec());
    assert_eq!(read.as_deref(), Ok(message), "the store reads what the gateway wrote");
}
