//! Answers field by field, one a line, as `etcdctl -w fields` prints them. Must not know what was asked.

use quorate_etcd_api::etcdserverpb::ResponseHeader;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::etcdserverpb::{
    AlarmResponse, DeleteRangeResponse, LeaseTimeToLiveResponse, Member, PutResponse,
    RangeResponse, TxnResponse, WatchResponse,
};
use quorate_etcd_api::mvccpb::KeyValue;
use std::fmt::{Display, Write};

/// One field.
pub(crate) fn field(name: &str, value: impl Display) {
    println!("\"{name}\" : {value}");
}

/// One field with text, or what may be none.
pub(crate) fn quoted(name: &str, value: &[u8]) {
    field(name, quote(value));
}

/// One field with many names.
pub(crate) fn names(name: &str, names: &[String]) {
    let names: Vec<String> = names.iter().map(|name| quote(name.as_bytes())).collect();
    println!("\"{name}\" : {}", names.join(" "));
}

/// Where an answer comes from. What is absent is zero, as in Go.
pub(crate) fn header(header: Option<&ResponseHeader>) {
    let header = header.copied().unwrap_or_default();
    field("ClusterID", header.cluster_id);
    field("MemberID", header.member_id);
    field("Revision", header.revision);
    field("RaftTerm", header.raft_term);
}

pub(crate) fn put(response: &PutResponse) {
    header(response.header.as_ref());
    if let Some(previous) = &response.prev_kv {
        pair("Prev", previous);
    }
}

pub(crate) fn range(response: &RangeResponse) {
    header(response.header.as_ref());
    for found in &response.kvs {
        pair("", found);
    }
    field("More", response.more);
    field("Count", response.count);
}

pub(crate) fn delete(response: &DeleteRangeResponse) {
    header(response.header.as_ref());
    field("Deleted", response.deleted);
    for previous in &response.prev_kvs {
        pair("Prev", previous);
    }
}

pub(crate) fn txn(response: &TxnResponse) {
    header(response.header.as_ref());
    field("Succeeded", response.succeeded);
    for operation in &response.responses {
        match &operation.response {
            Some(Response::ResponseRange(response)) => range(response),
            Some(Response::ResponsePut(response)) => put(response),
            Some(Response::ResponseDeleteRange(response)) => delete(response),
            Some(Response::ResponseTxn(response)) => txn(response),
            None => {}
        }
    }
}

pub(crate) fn time_to_live(response: &LeaseTimeToLiveResponse) {
    header(response.header.as_ref());
    field("ID", response.id);
    field("TTL", response.ttl);
    field("GrantedTTL", response.granted_ttl);
    for key in &response.keys {
        quoted("Key", key);
    }
}

pub(crate) fn alarms(response: &AlarmResponse) {
    header(response.header.as_ref());
    for alarm in &response.alarms {
        field("MemberID", alarm.member_id);
        field("AlarmType", alarm.alarm().as_str_name());
        println!();
    }
}

pub(crate) fn members(own: Option<&ResponseHeader>, members: &[Member]) {
    header(own);
    for member in members {
        field("ID", member.id);
        quoted("Name", member.name.as_bytes());
        for url in &member.peer_ur_ls {
            quoted("PeerURL", url.as_bytes());
        }
        for url in &member.client_ur_ls {
            quoted("ClientURL", url.as_bytes());
        }
        field("IsLearner", member.is_learner);
        println!();
    }
}

pub(crate) fn watch(response: &WatchResponse) {
    header(response.header.as_ref());
    for event in &response.events {
        field("Type", event.r#type().as_str_name());
        if let Some(previous) = &event.prev_kv {
            pair("Prev", previous);
        }
        if let Some(found) = &event.kv {
            pair("", found);
        }
    }
}

fn pair(before: &str, pair: &KeyValue) {
    quoted(&format!("{before}Key"), &pair.key);
    field(&format!("{before}CreateRevision"), pair.create_revision);
    field(&format!("{before}ModRevision"), pair.mod_revision);
    field(&format!("{before}Version"), pair.version);
    quoted(&format!("{before}Value"), &pair.value);
    field(&format!("{before}Lease"), pair.lease);
}

/// As Go writes `%q`: what cannot be printed is escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            push(&mut out, letter);
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push(out: &mut String, letter: char) {
    match letter {
        '"' | '\\' => out.extend(['\\', letter]),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        _ if letter.is_ascii_control() => {
            let _ = write!(out, "\\x{:02x}", u32::from(letter));
        }
        // Blanks of other kinds than the one that is printed, too.
        _ if letter.is_control() || (letter.is_whitespace() && letter != ' ') => {
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        }
        _ => out.push(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        for (bytes, quoted) in [
            (&b"foo"[..], r#""foo""#),
            (b"\0", r#""\x00""#),
            (b"a\"\\\n\x7f", r#""a\"\\\n\x7f""#),
            ("ä\u{a0}".as_bytes(), "\"ä\\u00a0\""),
            (b"\xff1", r#""\xff1""#),
        ] {
            assert_eq!(quote(bytes), quoted);
        }
    }
}
