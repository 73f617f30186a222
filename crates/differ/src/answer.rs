//! What a system answers, in the form that answers are compared in, and what no two systems have in
//! common: terms, indexes, sizes, and how much of a lease's time is left. Must not know which
//! differences are meant.

use crate::method::{self, Method};
use serde_json::Value;
use std::fmt;

/// How much later the one may have been asked for a lease's time than the other, in seconds: on a slow
/// machine, and yet nothing beside what leases last here.
const CLOCK_SLACK_S: i64 = 60;

/// One system's answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// A message.
    Given(Value),
    /// gRPC's code and text.
    Refused { code: i32, text: String },
    /// HTTP's status and body; a body that is no JSON is a text.
    Page { status: u16, body: Value },
    /// The connection failed, or nothing came for long.
    Silence(String),
}

impl Answer {
    /// A message of a page or of gRPC.
    pub(crate) fn given(&self) -> Option<&Value> {
        match self {
            Self::Given(value) => Some(value),
            // A stream that ends has its reason in a line of its own.
            Self::Page { status: 200, body } if body.get("error").is_none() => Some(body),
            Self::Refused { .. } | Self::Page { .. } | Self::Silence(_) => None,
        }
    }

    fn given_mut(&mut self) -> Option<&mut Value> {
        match self {
            Self::Given(value) => Some(value),
            Self::Page { status: 200, body } => Some(body),
            Self::Refused { .. } | Self::Page { .. } | Self::Silence(_) => None,
        }
    }

    /// The code and the text of a refusal, by gRPC or by the gateway.
    pub(crate) fn refusal(&self) -> Option<(i64, &str)> {
        match self {
            Self::Refused { code, text } => Some((i64::from(*code), text)),
            Self::Page { status, body } => {
                // A stream has its refusal within a line.
                let line = body.get("error").filter(|error| error.is_object());
                let error = line.or_else(|| (*status != 200).then_some(body))?;
                let code = error.get("code").or_else(|| error.get("grpc_code"))?;
                Some((code.as_i64()?, error.get("message")?.as_str()?))
            }
            Self::Given(_) | Self::Silence(_) => None,
        }
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        self.refusal().is_some_and(|(_, said)| said == text)
    }

    /// The number at this place of the message, which has 64-bit numbers as texts; 0 if there is none.
    pub(crate) fn number(&self, pointer: &str) -> i64 {
        self.given().and_then(|value| number_at(value, pointer)).unwrap_or(0)
    }

    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.given()?.pointer(pointer)?.as_str()
    }
}

/// The number at this place.
pub(crate) fn number_at(value: &Value, pointer: &str) -> Option<i64> {
    let found = value.pointer(pointer)?;
    found.as_i64().or_else(|| found.as_str()?.parse().ok())
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(value) => write!(f, "{value}"),
            Self::Refused { code, text } => write!(f, "refused, code {code}: {text}"),
            Self::Page { status, body } => write!(f, "HTTP {status}: {body}"),
            Self::Silence(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// Takes out of both answers what is nobody's promise.
pub(crate) fn level(method: Option<&Method>, reference: &mut Answer, ours: &mut Answer) {
    for answer in [&mut *reference, &mut *ours] {
        let Some(value) = answer.given_mut() else { continue };
        without(value, "raft_term");
        if method == Some(&method::STATUS) {
            for field in ["raftTerm", "raftIndex", "raftAppliedIndex", "dbSize", "dbSizeInUse"] {
                without(value, field);
            }
        }
        if [Some(&method::HASH), Some(&method::HASH_KV)].contains(&method) {
            without(value, "hash");
        }
        if method == Some(&method::WATCH) {
            // Up to where the watch is complete, or how far the store is.
            without(value, "header");
        }
        if method == Some(&method::AUTHENTICATE) {
            level_token(value);
        }
        if method.is_some_and(|method| method.service == "Cluster") {
            // In the order of their ids, which etcd makes of the time.
            sort_by_text(value, "members", "/peerURLs");
        }
    }
    if method == Some(&method::LEASE_TIME_TO_LIVE) {
        level_time(reference, ours);
    }
}

/// A token that looks like one is as good as any other.
fn level_token(value: &mut Value) {
    let Some(Value::String(token)) = value.get_mut("token") else { return };
    let is_token = token.split_once('.').is_some_and(|(letters, index)| {
        letters.len() == 16
            && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
            && index.bytes().all(|byte| byte.is_ascii_digit())
    });
    if is_token {
        "a token".clone_into(token);
    }
}

fn level_time(reference: &mut Answer, ours: &mut Answer) {
    let times = [&*reference, &*ours].map(|answer| answer.number("/TTL"));
    let is_close = times[0].abs_diff(times[1]) <= CLOCK_SLACK_S.unsigned_abs();
    // Nothing left, and less than nothing, are told from each other and from the rest.
    if is_close && times.iter().all(|time| *time > 0) {
        for answer in [reference, ours] {
            if let Some(value) = answer.given_mut() {
                without(value, "TTL");
            }
        }
    }
}

/// Removes each field of this name, at any depth.
pub(crate) fn without(value: &mut Value, field: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(field);
            fields.values_mut().for_each(|value| without(value, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| without(value, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Sorts the list of this name by the text that is at a place of each item.
pub(crate) fn sort_by_text(value: &mut Value, list: &str, pointer: &str) {
    if let Some(Value::Array(items)) = value.get_mut(list) {
        items.sort_by_key(|item| item.pointer(pointer).map(ToString::to_string));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terms_are_nobodys_promise_and_revisions_are() {
        let answer = |term: &str, revision: &str| {
            Answer::Given(json!({"header": {"raft_term": term, "revision": revision}}))
        };
        let (mut one, mut other) = (answer("2", "5"), answer("3", "5"));
        level(None, &mut one, &mut other);
        assert_eq!(one, other);
        let (mut one, mut other) = (answer("2", "5"), answer("2", "6"));
        level(None, &mut one, &mut other);
        assert_ne!(one, other);
    }

    #[test]
    fn what_is_left_of_a_lease_may_differ_by_little() {
        let answer = |left: &str| Answer::Given(json!({"ID": "1", "TTL": left}));
        for (left, equal) in [("540", true), ("599", true), ("530", false), ("-1", false)] {
            let (mut one, mut other) = (answer("600"), answer(left));
            level(Some(&method::LEASE_TIME_TO_LIVE), &mut one, &mut other);
            assert_eq!(one == other, equal, "{left}");
        }
    }

    #[test]
    fn a_refusal_is_the_same_by_gateway_and_by_grpc() {
        let page =
            Answer::Page { status: 400, body: json!({"error": "no", "code": 3, "message": "no"}) };
        let refused = Answer::Refused { code: 3, text: "no".to_owned() };
        assert_eq!(page.refusal(), refused.refusal());
        let line = json!({"error": {"grpc_code": 3, "http_code": 400, "message": "no"}});
        // After other lines, or as the first.
        for status in [200, 400] {
            let line = Answer::Page { status, body: line.clone() };
            assert_eq!(line.refusal(), refused.refusal());
            assert_eq!(line.given(), None);
        }
        assert!(page.says("no") && page.given().is_none());
    }
}
