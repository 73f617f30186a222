//! Answers for programs: the fields, names and numbers of `etcdctl -w json`, keys and values in
//! base64, zero values left out. This is not the gateway's JSON, which writes numbers as strings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::etcdserverpb::{
    AlarmMember, AlarmResponse, CompactionResponse, DeleteRangeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
    StatusResponse, TxnResponse, WatchResponse,
};
use quorate_etcd_api::mvccpb::{Event, KeyValue};
use serde_json::{Value, json};

/// Fields in the order in which etcdctl prints them; others come behind, by their names.
const ORDER: [&str; 63] = [
    "Endpoint",
    "endpoint",
    "health",
    "took",
    "error",
    "Status",
    "HashKV",
    "header",
    "Header",
    "cluster_id",
    "member_id",
    "revision",
    "raft_term",
    "enabled",
    "authRevision",
    "succeeded",
    "deleted",
    "type",
    "permType",
    "key",
    "create_revision",
    "mod_revision",
    "version",
    "value",
    "lease",
    "range_end",
    "kv",
    "prev_kv",
    "kvs",
    "more",
    "count",
    "prev_kvs",
    "responses",
    "ID",
    "name",
    "peerURLs",
    "clientURLs",
    "clientURLS",
    "member",
    "members",
    "TTL",
    "Error",
    "id",
    "ttl",
    "granted-ttl",
    "keys",
    "leases",
    "memberID",
    "alarm",
    "hash",
    "compact_revision",
    "hash_revision",
    "dbSize",
    "leader",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "errors",
    "dbSizeInUse",
    "isLearner",
    "Events",
    "CompactRevision",
    "Canceled",
];

/// Prints one line.
pub(crate) fn print(value: &Value) -> anyhow::Result<()> {
    std::io::Write::write_all(&mut std::io::stdout(), format!("{}\n", ordered(value)).as_bytes())?;
    Ok(())
}

/// A value as text, its fields in their order.
fn ordered(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let place = |name: &str| ORDER.iter().position(|known| *known == name);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| place(name).unwrap_or(ORDER.len()));
            let member = |(name, value): (&String, &Value)| {
                format!("{}:{}", Value::from(name.as_str()), ordered(value))
            };
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(ordered).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

pub(crate) fn put(response: &PutResponse) -> Value {
    brief(json!({
        "header": header(response.header.as_ref()),
        "prev_kv": response.prev_kv.as_ref().map(pair),
    }))
}

pub(crate) fn range(response: &RangeResponse) -> Value {
    brief(json!({
        "header": header(response.header.as_ref()),
        "kvs": pairs(&response.kvs),
        "more": response.more,
        "count": response.count,
    }))
}

pub(crate) fn delete(response: &DeleteRangeResponse) -> Value {
    brief(json!({
        "header": header(response.header.as_ref()),
        "deleted": response.deleted,
        "prev_kvs": pairs(&response.prev_kvs),
    }))
}

pub(crate) fn compaction(response: &CompactionResponse) -> Value {
    brief(json!({ "header": header(response.header.as_ref()) }))
}

pub(crate) fn alarms(response: &AlarmResponse) -> Value {
    let alarm =
        |alarm: &AlarmMember| brief(json!({ "memberID": alarm.member_id, "alarm": alarm.alarm }));
    let alarms: Vec<Value> = response.alarms.iter().map(alarm).collect();
    brief(json!({ "header": header(response.header.as_ref()), "alarms": alarms }))
}

pub(crate) fn hash_kv(response: &HashKvResponse) -> Value {
    brief(json!({
        "header": header(response.header.as_ref()),
        "hash": response.hash,
        "compact_revision": response.compact_revision,
        "hash_revision": response.hash_revision,
    }))
}

pub(crate) fn txn(response: &TxnResponse) -> Value {
    let responses: Vec<Value> = response.responses.iter().map(operation).collect();
    brief(json!({
        "header": header(response.header.as_ref()),
        "succeeded": response.succeeded,
        "responses": responses,
    }))
}

/// The answer of any of the methods about members; `member` is who was added.
pub(crate) fn members(
    own: Option<&ResponseHeader>,
    member: Option<&Member>,
    members: &[Member],
) -> Value {
    let members: Vec<Value> = members.iter().map(one_member).collect();
    brief(json!({ "header": header(own), "member": member.map(one_member), "members": members }))
}

fn one_member(member: &Member) -> Value {
    brief(json!({
        "ID": member.id,
        "name": member.name,
        "peerURLs": member.peer_ur_ls,
        "clientURLs": member.client_ur_ls,
        "isLearner": member.is_learner,
    }))
}

fn operation(operation: &ResponseOp) -> Value {
    let (name, answer) = match &operation.response {
        Some(Response::ResponseRange(response)) => ("response_range", range(response)),
        Some(Response::ResponsePut(response)) => ("response_put", put(response)),
        Some(Response::ResponseDeleteRange(response)) => {
            ("response_delete_range", delete(response))
        }
        Some(Response::ResponseTxn(response)) => ("response_txn", txn(response)),
        None => return json!({ "Response": Value::Null }),
    };
    json!({ "Response": { name: answer } })
}

pub(crate) fn status(response: &StatusResponse) -> Value {
    brief(json!({
        "header": header(response.header.as_ref()),
        "version": response.version,
        "dbSize": response.db_size,
        "leader": response.leader,
        "raftIndex": response.raft_index,
        "raftTerm": response.raft_term,
        "raftAppliedIndex": response.raft_applied_index,
        "errors": response.errors,
        "dbSizeInUse": response.db_size_in_use,
        "isLearner": response.is_learner,
    }))
}

pub(crate) fn lease_revoke(response: &LeaseRevokeResponse) -> Value {
    brief(json!({ "header": header(response.header.as_ref()) }))
}

/// etcdctl prints the answers about leases with the header's fields among their own, and with their
/// zeros.
pub(crate) fn lease_grant(response: &LeaseGrantResponse) -> Value {
    beside_header(
        response.header.as_ref(),
        json!({ "ID": response.id, "TTL": response.ttl, "Error": response.error }),
    )
}

pub(crate) fn lease_keep_alive(response: &LeaseKeepAliveResponse) -> Value {
    let own = json!({ "ID": response.id, "TTL": response.ttl });
    beside_header(response.header.as_ref(), own)
}

pub(crate) fn lease_time_to_live(response: &LeaseTimeToLiveResponse) -> Value {
    let keys: Vec<String> = response.keys.iter().map(|key| STANDARD.encode(key)).collect();
    beside_header(
        response.header.as_ref(),
        json!({
            "id": response.id,
            "ttl": response.ttl,
            "granted-ttl": response.granted_ttl,
            "keys": if keys.is_empty() { Value::Null } else { keys.into() },
        }),
    )
}

pub(crate) fn lease_list(response: &LeaseLeasesResponse) -> Value {
    let leases: Vec<Value> = response.leases.iter().map(|it| json!({ "id": it.id })).collect();
    beside_header(response.header.as_ref(), json!({ "leases": leases }))
}

/// An answer of which nothing is worth a function of its own.
pub(crate) fn with_header(found: Option<&ResponseHeader>, own: Value) -> Value {
    let mut all = serde_json::Map::new();
    all.extend(header(found).map(|header| ("header".to_owned(), header)));
    if let Value::Object(own) = own {
        all.extend(own);
    }
    brief(Value::Object(all))
}

fn beside_header(found: Option<&ResponseHeader>, own: Value) -> Value {
    let (Some(Value::Object(mut members)), Value::Object(own)) = (header(found), own.clone())
    else {
        return own;
    };
    members.extend(own);
    Value::Object(members)
}

/// etcdctl prints this one with other names, and with its zeros.
pub(crate) fn watch(response: &WatchResponse) -> Value {
    let events: Vec<Value> = response.events.iter().map(event).collect();
    json!({
        "Header": header(response.header.as_ref()),
        "Events": events,
        "CompactRevision": response.compact_revision,
        "Canceled": response.canceled,
        "Created": response.created,
    })
}

fn event(event: &Event) -> Value {
    brief(json!({
        "type": event.r#type,
        "kv": event.kv.as_ref().map(pair),
        "prev_kv": event.prev_kv.as_ref().map(pair),
    }))
}

fn header(header: Option<&ResponseHeader>) -> Option<Value> {
    header.map(|header| {
        brief(json!({
            "cluster_id": header.cluster_id,
            "member_id": header.member_id,
            "revision": header.revision,
            "raft_term": header.raft_term,
        }))
    })
}

fn pairs(pairs: &[KeyValue]) -> Vec<Value> {
    pairs.iter().map(pair).collect()
}

fn pair(pair: &KeyValue) -> Value {
    brief(json!({
        "key": STANDARD.encode(&pair.key),
        "create_revision": pair.create_revision,
        "mod_revision": pair.mod_revision,
        "version": pair.version,
        "value": STANDARD.encode(&pair.value),
        "lease": pair.lease,
    }))
}

/// Leaves out the members of an object that are zero, empty, false or absent.
pub(crate) fn brief(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    Value::Object(members.into_iter().filter(|(_, member)| !is_zero(member)).collect())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_looks_as_etcdctl_prints_it() {
        let response = RangeResponse {
            header: Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 7, raft_term: 2 }),
            kvs: vec![KeyValue {
                key: "foo".into(),
                create_revision: 6,
                mod_revision: 7,
                version: 2,
                value: "bar2".into(),
                lease: 0,
            }],
            more: false,
            count: 1,
        };
        let expected = json!({
            "header": {"cluster_id": 1, "member_id": 2, "revision": 7, "raft_term": 2},
            "kvs": [{"key": "Zm9v", "create_revision": 6, "mod_revision": 7, "version": 2,
                "value": "YmFyMg=="}],
            "count": 1,
        });
        assert_eq!(range(&response), expected);
    }

    #[test]
    fn fields_are_in_etcdctls_order() {
        let value = json!({
            "count": 1, "kvs": [{ "value": "dg==", "key": "aw==" }], "more": true,
            "header": { "raft_term": 2, "cluster_id": 1, "a\"b": null },
        });
        let expected = r#"{"header":{"cluster_id":1,"raft_term":2,"a\"b":null},"kvs":[{"key":"aw==","value":"dg=="}],"more":true,"count":1}"#;
        assert_eq!(ordered(&value), expected);
        assert_eq!(serde_json::from_str::<Value>(&ordered(&value)).unwrap(), value);
    }

    #[test]
    fn a_failed_transaction_leaves_out_succeeded_as_etcdctl_does() {
        let response = TxnResponse { header: None, succeeded: false, responses: Vec::new() };
        assert_eq!(txn(&response), json!({}));
    }
}
