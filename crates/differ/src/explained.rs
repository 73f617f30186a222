//! The differences that are meant, one by one, each as narrow as it can be said. docs/etcd-compatibility.md
//! has them for people. Must not know how answers are had.

mod operators;

use crate::answer::{self, Answer, number_at};
use crate::driver::Ask;
use crate::known::Known;
use crate::method;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// Two answers that are not the same, and what they are answers to.
pub(crate) struct Case<'a> {
    /// `None` for what is no call of a method: a page, or bytes that need not be a message.
    pub(crate) ask: Option<&'a Ask>,
    pub(crate) asked: &'a str,
    pub(crate) reference: &'a Answer,
    pub(crate) ours: &'a Answer,
    pub(crate) known: &'a Known,
}

/// A difference that is meant.
pub(crate) struct Explained {
    /// As a person may look for it in docs/etcd-compatibility.md.
    pub(crate) name: &'static str,
    holds: fn(&Case<'_>) -> bool,
    /// Whether the reference did something that ours refused, and that ours is then told to do as root.
    heals: bool,
}

const fn meant(name: &'static str, holds: fn(&Case<'_>) -> bool) -> Explained {
    Explained { name, holds, heals: false }
}

const fn healed(name: &'static str, holds: fn(&Case<'_>) -> bool) -> Explained {
    Explained { name, holds, heals: true }
}

/// Counted by events instead of answers: see `events`.
pub(crate) const LOST_DELETIONS: &str =
    "watch: a watch from the compacted revision is told of the deletions there";

/// Counted in the same way.
pub(crate) const LATE_PREVIOUS: &str =
    "watch: a watch from the past is told previous values from its first event on";

/// All of them.
pub(crate) const ALL: &[Explained] = &[
    meant("keys: in the order of their keys, if equal by what they are sorted by", is_tie),
    meant("leases: the keys of a lease in order", is_order_of_lease_keys),
    meant("leases: as they will end, to half a second", is_order_of_leases),
    meant(LOST_DELETIONS, |_| false),
    meant(LATE_PREVIOUS, |_| false),
    meant("locks: a call does not renew its lease", is_renewal),
    meant("maintenance: the version that is reported, and what 3.6 says beside it", is_version),
    meant("maintenance: HashKV says of which revision, as in 3.6", is_hash_revision),
    meant("maintenance: HashKV at the compacted revision", is_hash_of_compacted),
    meant("maintenance: Downgrade to the version before", is_downgrade),
    healed("users: a nested transaction is looked into", is_nested_transaction),
    healed("users: a put in a transaction needs the rights that it needs by itself", is_put_in_txn),
    healed(
        "users: a place in a line needs the rights that its put needs by itself",
        is_put_of_claim,
    ),
    meant("users: a transaction of nothing is somebody's", is_empty_transaction),
    healed("users: a compaction and an alarm ask root", is_for_root),
    meant("users: another leader and a downgrade ask root", operators::is_for_root),
    meant(
        "users: who is told of the status or the members is somebody",
        operators::is_told_to_users,
    ),
    meant(
        "users: digests and backups, with codes and words as everywhere",
        operators::is_inside_out,
    ),
    meant("users: who adds a member is asked before what is added", operators::is_addition),
    meant("users: who keeps a lease alive may write its keys", is_keep_alive),
    meant("users: who lists leases, or the keys of one, may read the keys", is_lease_list),
    meant("users: a watch that is refused has the id -1, and says why", is_refused_watch),
    meant("users: a watch from a key on needs a right to all of it", is_open_watch),
    healed("users: are asked while an alarm is raised, too", is_under_alarm),
    meant("users: Observe that may not read ends with the reason", is_observer),
    healed("users: who grants or revokes a lease is somebody", is_lease),
    meant("users: a token is looked at before what comes with it", is_token_first),
    meant("users: nobody is not told that a user without a name is not there", is_nobodys_user),
    meant("users: a token that nobody knows, while users are off", is_strange_token),
    meant("keys: a number for an order that means nothing is refused", is_sort_option),
    healed("users: a range that nothing can be in needs a right as any other", is_empty_range),
    meant("pages: what follows a message is refused", is_more_than_a_message),
    meant("pages: base64 without its end, and that of addresses, is taken", is_unpadded),
    meant("pages: HashKV has a path of its own, as in 3.6", is_hash_path),
    meant("pages: the words about what is no message", is_malformed),
    meant("pages: the words about methods that are not there", is_no_method),
];

/// The place in [`ALL`] of what explains this, and whether ours is to be told to do it.
pub(crate) fn find(case: &Case<'_>) -> Option<(usize, bool)> {
    let place = ALL.iter().position(|explained| (explained.holds)(case))?;
    let did = case.reference.given().is_some();
    ALL.get(place).map(|explained| (place, explained.heals && did))
}

impl Case<'_> {
    fn is(&self, methods: &[&method::Method]) -> bool {
        self.ask.is_some_and(|ask| methods.contains(&ask.method))
    }

    fn json(&self) -> Option<&Value> {
        self.ask?.json.as_ref()
    }

    /// Both as messages.
    fn given(&self) -> Option<(&Value, &Value)> {
        Some((self.reference.given()?, self.ours.given()?))
    }

    /// Somebody who is not root was asked who that is, by us.
    fn is_refused_by_us(&self) -> bool {
        let texts = [
            "etcdserver: permission denied",
            "etcdserver: user name is empty",
            "etcdserver: invalid auth token",
        ];
        let is_root = self.ask.is_some_and(|ask| ask.user == "root");
        self.known.auth && !is_root && texts.iter().any(|text| self.ours.says(text))
    }
}

fn is_tie(case: &Case<'_>) -> bool {
    let (Some((reference, ours)), Some(json)) = (case.given(), case.json()) else { return false };
    if case.is(&[&method::RANGE]) {
        return same_but_for_ties(json, reference, ours);
    }
    case.is(&[&method::TXN]) && same_transactions(json, reference, ours)
}

/// Whether two answers to a range are the same, or would be if keys that are equal by what they are
/// sorted by were in one order.
fn same_but_for_ties(request: &Value, reference: &Value, ours: &Value) -> bool {
    if reference == ours {
        return true;
    }
    let sorted_by = match request.get("sort_target").and_then(Value::as_str) {
        Some("VERSION") => "/version",
        Some("CREATE") => "/create_revision",
        Some("MOD") => "/mod_revision",
        Some("VALUE") => "/value",
        _ => return false,
    };
    // Up to six keys, Go's sort leaves equal ones as they were.
    if number_at(reference, "/count").unwrap_or(0) <= 6 {
        return false;
    }
    let is_values = sorted_by == "/value" && request.get("keys_only").is_some();
    let order = |answer: &Value| -> Vec<Option<Value>> {
        list(answer, "kvs").iter().map(|kv| kv.pointer(sorted_by).cloned()).collect()
    };
    let rest = |answer: &Value| {
        let mut answer = answer.clone();
        if number_at(request, "/limit").unwrap_or(0) > 0 {
            // Which of the equal ones the limit leaves is part of it.
            let count = list(&answer, "kvs").len();
            answer::without(&mut answer, "kvs");
            return (answer, count);
        }
        answer::sort_by_text(&mut answer, "kvs", "/key");
        (answer, 0)
    };
    (is_values || order(reference) == order(ours)) && rest(reference) == rest(ours)
}

fn same_transactions(request: &Value, reference: &Value, ours: &Value) -> bool {
    let head = |answer: &Value| (answer.get("header").cloned(), answer.get("succeeded").cloned());
    if head(reference) != head(ours) {
        return false;
    }
    let branch = if reference.get("succeeded").is_some() { "success" } else { "failure" };
    let (operations, answers) = (list(request, branch), list(reference, "responses"));
    let ours = list(ours, "responses");
    answers.len() == ours.len()
        && operations.iter().zip(answers.iter().zip(ours)).all(|(operation, (one, other))| {
            let part = |value: &Value, name: &str| value.get(name).cloned().unwrap_or_default();
            let ranges = || {
                let name = "response_range";
                let range = part(operation, "request_range");
                same_but_for_ties(&range, &part(one, name), &part(other, name))
            };
            let transactions = || {
                let name = "response_txn";
                let txn = part(operation, "request_txn");
                same_transactions(&txn, &part(one, name), &part(other, name))
            };
            one == other
                || (operation.get("request_range").is_some() && ranges())
                || (operation.get("request_txn").is_some() && transactions())
        })
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The same once the list is sorted.
fn same_sorted(case: &Case<'_>, name: &str, pointer: &str) -> bool {
    case.given().is_some_and(|(reference, ours)| {
        let [mut reference, mut ours] = [reference.clone(), ours.clone()];
        answer::sort_by_text(&mut reference, name, pointer);
        answer::sort_by_text(&mut ours, name, pointer);
        reference == ours
    })
}

fn is_order_of_lease_keys(case: &Case<'_>) -> bool {
    case.is(&[&method::LEASE_TIME_TO_LIVE]) && same_sorted(case, "keys", "")
}

/// Both have them as they will end. Ours notes when a lease was granted or renewed twice a second, so
/// two that end that close together may be the other way round; when they end is not in the answer.
fn is_order_of_leases(case: &Case<'_>) -> bool {
    case.is(&[&method::LEASE_LEASES]) && same_sorted(case, "leases", "/ID")
}

fn is_version(case: &Case<'_>) -> bool {
    let Some((reference, ours)) = case.given() else { return false };
    if case.asked.starts_with("GET /version") {
        return is_text(reference, "3.5.1") && is_text(ours, "3.6.0");
    }
    let [mut reference, mut ours] = [reference.clone(), ours.clone()];
    for answer in [&mut reference, &mut ours] {
        for field in ["version", "storageVersion", "dbSizeQuota", "downgradeInfo"] {
            answer::without(answer, field);
        }
    }
    case.is(&[&method::STATUS]) && reference == ours
}

fn is_text(page: &Value, version: &str) -> bool {
    page.get("etcdserver").and_then(Value::as_str) == Some(version)
}

fn is_hash_revision(case: &Case<'_>) -> bool {
    let Some((reference, ours)) = case.given() else { return false };
    let mut ours = ours.clone();
    answer::without(&mut ours, "hash_revision");
    case.is(&[&method::HASH_KV]) && *reference == ours
}

fn is_hash_of_compacted(case: &Case<'_>) -> bool {
    let text = "etcdserver: mvcc: required revision has been compacted";
    let revision = case.json().and_then(|json| number_at(json, "/revision")).unwrap_or(0);
    case.is(&[&method::HASH_KV])
        && case.reference.says(text)
        && revision == case.known.compacted
        && case.ours.given().is_some()
}

fn is_downgrade(case: &Case<'_>) -> bool {
    let version = case.json().and_then(|json| json.get("version")).and_then(Value::as_str);
    case.is(&[&method::DOWNGRADE])
        && version == Some("3.4.0")
        && case.reference.given().is_some()
        && case.ours.says("etcdserver: invalid downgrade target version")
}

fn is_nested_transaction(case: &Case<'_>) -> bool {
    let is_nested = |branch| {
        let operations = case.json().map_or(&[][..], |json| list(json, branch));
        operations.iter().any(|operation| operation.get("request_txn").is_some())
    };
    case.is(&[&method::TXN])
        && case.is_refused_by_us()
        && (is_nested("success") || is_nested("failure"))
}

fn is_put_in_txn(case: &Case<'_>) -> bool {
    // Other keys end with its lease, or it shows what was there.
    let puts_more = |branch| {
        let operations = case.json().map_or(&[][..], |json| list(json, branch));
        let places = ["/request_put/lease", "/request_put/prev_kv"];
        let is_more =
            |operation: &Value| places.iter().any(|place| operation.pointer(place).is_some());
        operations.iter().any(is_more)
    };
    case.is(&[&method::TXN])
        && case.is_refused_by_us()
        && case.ours.says("etcdserver: permission denied")
        && (puts_more("success") || puts_more("failure"))
}

/// Others' keys end with the lease that the key of a lock or an election is put with.
fn is_put_of_claim(case: &Case<'_>) -> bool {
    let places = ["/lease", "/leader/lease"];
    let has_lease = places
        .iter()
        .any(|place| case.json().is_some_and(|json| number_at(json, place).unwrap_or(0) != 0));
    case.is(&[&method::LOCK, &method::PROCLAIM])
        && has_lease
        && case.is_refused_by_us()
        && case.ours.says("etcdserver: permission denied")
        && !case.reference.says("etcdserver: permission denied")
}

fn is_empty_transaction(case: &Case<'_>) -> bool {
    let is_empty = case.json() == Some(&Value::Object(Map::new()));
    case.is(&[&method::TXN]) && is_empty && case.is_refused_by_us()
}

fn is_for_root(case: &Case<'_>) -> bool {
    case.is(&[&method::COMPACT, &method::ALARM]) && case.is_refused_by_us()
}

fn is_keep_alive(case: &Case<'_>) -> bool {
    case.is(&[&method::LEASE_KEEP_ALIVE]) && case.is_refused_by_us()
}

fn is_lease_list(case: &Case<'_>) -> bool {
    case.is(&[&method::LEASE_LEASES, &method::LEASE_TIME_TO_LIVE]) && case.is_refused_by_us()
}

/// What a watch was told first, if it was refused: why, and its id.
fn refused_watch(answer: &Value) -> Option<(&str, Option<&str>)> {
    let answer = answer.get("result").unwrap_or(answer);
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let is_refused = answer.get("canceled").is_some() && answer.get("created").is_some();
    is_refused.then(|| (text("cancel_reason").unwrap_or_default(), text("watch_id")))
}

const WATCH_DENIED: &str =
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

fn is_refused_watch(case: &Case<'_>) -> bool {
    let Some((reference, ours)) = case.given() else { return false };
    let (Some((why, _)), Some((our_why, id))) = (refused_watch(reference), refused_watch(ours))
    else {
        return false;
    };
    case.known.auth
        && case.is(&[&method::WATCH])
        && why == WATCH_DENIED
        && is_reason_of_users(our_why)
        && id == Some("-1")
}

fn is_reason_of_users(why: &str) -> bool {
    let reasons = [
        WATCH_DENIED,
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
    ];
    reasons.contains(&why)
}

/// etcd asks for a right to the key alone, where the range has no end (GHSA-xg4h-6gfc-h4m8).
fn is_open_watch(case: &Case<'_>) -> bool {
    let Some((reference, ours)) = case.given() else { return false };
    let end = case.json().and_then(|json| json.pointer("/create_request/range_end"));
    let is_root = case.ask.is_some_and(|ask| ask.user == "root");
    case.known.auth
        && !is_root
        && case.is(&[&method::WATCH])
        && end.and_then(Value::as_str) == Some("AA==")
        && refused_watch(reference).is_none()
        && refused_watch(ours) == Some((WATCH_DENIED, Some("-1")))
}

fn is_under_alarm(case: &Case<'_>) -> bool {
    case.known.is_alarmed && !operators::is_asked(case) && case.is_refused_by_us()
}

fn is_observer(case: &Case<'_>) -> bool {
    let empty = Answer::Page { status: 200, body: Value::String(String::new()) };
    let is_end = [crate::wire::the_end(), empty].contains(case.reference);
    case.is(&[&method::OBSERVE]) && is_end && case.is_refused_by_us()
}

fn is_sort_option(case: &Case<'_>) -> bool {
    let is_odd = case.ask.is_some_and(|ask| ask.json.is_none());
    case.is(&[&method::RANGE]) && is_odd && case.ours.says("etcdserver: invalid sort option")
}

fn is_hash_path(case: &Case<'_>) -> bool {
    let is_page = case.ask.is_some_and(|ask| ask.by_gateway);
    let is_missing = matches!(case.reference, Answer::Page { status: 404, .. });
    let is_call = is_page && case.is(&[&method::HASH_KV]);
    is_missing && (is_call || case.asked.contains(" /v3/maintenance/hashkv "))
}

/// A lease's time is what it was when somebody came with it for a lock or an election.
fn is_renewal(case: &Case<'_>) -> bool {
    let Some((reference, ours)) = case.given() else { return false };
    let is_claimants =
        number_at(reference, "/ID").is_some_and(|id| case.known.claimants.contains(&id));
    let [mut reference, mut ours] = [reference.clone(), ours.clone()];
    let is_longer = number_at(&reference, "/TTL") > number_at(&ours, "/TTL");
    for answer in [&mut reference, &mut ours] {
        answer::without(answer, "TTL");
        answer::sort_by_text(answer, "keys", "");
    }
    case.is(&[&method::LEASE_TIME_TO_LIVE]) && is_claimants && is_longer && reference == ours
}

fn is_empty_range(case: &Case<'_>) -> bool {
    let methods = [&method::RANGE, &method::DELETE_RANGE, &method::TXN];
    let is_refused = case.is(&methods) && case.is_refused_by_us();
    let is_watch = case.known.auth
        && case.is(&[&method::WATCH])
        && case.given().is_some_and(|(reference, ours)| {
            let empty = Some(("mvcc: watcher range is empty", Some("-1")));
            let reason = refused_watch(ours).map(|(why, _)| why);
            refused_watch(reference) == empty && reason.is_some_and(is_reason_of_users)
        });
    (is_refused || is_watch) && case.json().is_some_and(has_empty_range)
}

/// Whether there is a range, at any depth, whose end is not behind its key.
fn has_empty_range(value: &Value) -> bool {
    let bytes = |name: &str| {
        let text = value.get(name).and_then(Value::as_str).unwrap_or_default();
        BASE64_STANDARD.decode(text).unwrap_or_default()
    };
    let (key, end) = (bytes("key"), bytes("range_end"));
    let is_empty = !end.is_empty() && end != [0] && end <= key;
    is_empty
        || match value {
            Value::Object(fields) => fields.values().any(has_empty_range),
            Value::Array(items) => items.iter().any(has_empty_range),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
}

fn is_more_than_a_message(case: &Case<'_>) -> bool {
    case.ask.is_none()
        && case.asked.ends_with(" {} x")
        && case
            .ours
            .refusal()
            .is_some_and(|(code, text)| code == 3 && text.starts_with("trailing characters"))
}

fn is_unpadded(case: &Case<'_>) -> bool {
    let is_odd = [r#"{"key":"YQ""#, r#"{"key":"_w==""#].iter().any(|odd| case.asked.contains(odd));
    is_odd && case.reference.says("illegal base64 data at input byte 0")
}

fn is_lease(case: &Case<'_>) -> bool {
    case.is(&[&method::LEASE_GRANT, &method::LEASE_REVOKE]) && case.is_refused_by_us()
}

fn is_token_first(case: &Case<'_>) -> bool {
    let is_refused = case.reference.refusal().is_some() && !operators::is_asked(case);
    is_refused && case.is_refused_by_us() && case.ours.says("etcdserver: invalid auth token")
}

fn is_nobodys_user(case: &Case<'_>) -> bool {
    let is_nameless = case.asked.starts_with("POST /v3/auth/user/get ")
        || (case.is(&[&method::USER_GET]) && case.json() == Some(&Value::Object(Map::new())));
    case.known.auth
        && is_nameless
        && case.reference.says("etcdserver: user name not found")
        && case.ours.says("etcdserver: user name is empty")
}

fn is_strange_token(case: &Case<'_>) -> bool {
    let is_stranger = case.ask.is_some_and(|ask| ask.user == "a stranger");
    !case.known.auth && is_stranger && case.reference.says("etcdserver: invalid auth token")
}

/// The same code, for what is no message at all.
fn is_malformed(case: &Case<'_>) -> bool {
    let codes = [case.reference, case.ours].map(|answer| answer.refusal().map(|(code, _)| code));
    let streams = ["POST /v3/watch ", "POST /v3/lease/keepalive "];
    let of_a_stream = streams.iter().any(|stream| case.asked.starts_with(stream));
    let is_code = match codes[0] {
        Some(2) => of_a_stream,
        Some(3 | 13) => !of_a_stream,
        _ => false,
    };
    case.ask.is_none() && codes[0] == codes[1] && is_code
}

fn is_no_method(case: &Case<'_>) -> bool {
    let codes = [case.reference, case.ours].map(|answer| answer.refusal().map(|(code, _)| code));
    let is_named = case
        .reference
        .refusal()
        .is_some_and(|(code, text)| code == 12 || text.starts_with("malformed method name: "));
    let is_page = |answer: &Answer, wanted| matches!(answer, Answer::Page { status, .. } if *status == wanted);
    let is_moved = is_page(case.reference, 301) && is_page(case.ours, 404);
    case.ask.is_none() && ((is_named && codes[1] == Some(12)) || is_moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use quorate_etcd_api::etcdserverpb as pb;
    use serde_json::json;

    fn kvs(keys: &[(&str, i64)], count: i64) -> Answer {
        let kvs: Vec<Value> =
            keys.iter().map(|(key, version)| json!({"key": key, "version": version})).collect();
        Answer::Given(json!({"kvs": kvs, "count": count.to_string()}))
    }

    fn is_explained(request: &pb::RangeRequest, reference: &Answer, ours: &Answer) -> bool {
        let ask = Ask::new(&method::RANGE, request);
        let known = Known::default();
        find(&Case { ask: Some(&ask), asked: "", reference, ours, known: &known }).is_some()
    }

    #[test]
    fn only_keys_that_are_equal_by_what_they_are_sorted_by_may_change_places() {
        let sorted = pb::RangeRequest { sort_target: 1, ..Default::default() };
        let one = kvs(&[("a", 1), ("b", 1), ("c", 2)], 7);
        assert!(is_explained(&sorted, &one, &kvs(&[("b", 1), ("a", 1), ("c", 2)], 7)));
        assert!(!is_explained(&sorted, &one, &kvs(&[("a", 1), ("c", 2), ("b", 1)], 7)));
        assert!(!is_explained(&sorted, &one, &kvs(&[("a", 1), ("d", 1), ("c", 2)], 7)));
        let other = kvs(&[("b", 1), ("a", 1), ("c", 2)], 7);
        assert!(!is_explained(&pb::RangeRequest::default(), &one, &other));
        let few = [kvs(&[("a", 1), ("b", 1)], 2), kvs(&[("b", 1), ("a", 1)], 2)];
        assert!(!is_explained(&sorted, &few[0], &few[1]));
    }

    #[test]
    fn a_refusal_is_explained_only_where_users_are_asked() {
        let ask = Ask::new(&method::COMPACT, &pb::CompactionRequest::default());
        let reference = Answer::Given(json!({}));
        let ours = Answer::Refused { code: 7, text: "etcdserver: permission denied".to_owned() };
        let mut known = Known { auth: true, ..Known::default() };
        let found = |known: &Known| {
            let case =
                Case { ask: Some(&ask), asked: "", reference: &reference, ours: &ours, known };
            find(&case)
        };
        assert!(found(&known).is_some_and(|(_, heals)| heals));
        known.auth = false;
        assert_eq!(found(&known), None);
    }
}
