//! Whether what watches told is the same. Must not know how it was told, nor what was asked.

use crate::answer::number_at;
use crate::known::Known;
use crate::twins::Twins;
use crate::watches::Told;
use serde_json::Value;

/// Whether what watches told is the same, in the reference's names. A watch that begins with the
/// compacted revision is told of the deletions there: etcd has lost them until 3.6.
pub(crate) fn same_events(twins: &Twins, known: &Known, reference: &Told, ours: &Told) -> bool {
    if reference == ours {
        return true;
    }
    let same_list = |one: &[Value], other: &[Value]| {
        let mut one = one.iter().peekable();
        let are_there = other.iter().all(|event| {
            let is_next = one.next_if(|wanted| same(twins, wanted, event)).is_some();
            is_next || is_deletion_at_a_compaction(known, event)
        });
        are_there && one.next().is_none()
    };
    let mut lists = reference.values().zip(ours.values());
    reference.keys().eq(ours.keys()) && lists.all(|(one, other)| same_list(one, other))
}

fn same(twins: &Twins, one: &Value, other: &Value) -> bool {
    one == other || {
        let mut other = other.clone();
        twins.value_to_reference(&mut other);
        *one == other
    }
}

fn is_deletion_at_a_compaction(known: &Known, event: &Value) -> bool {
    let is_deletion = event.get("type").and_then(Value::as_str) == Some("DELETE");
    let revision = number_at(event, "/kv/mod_revision").unwrap_or(0);
    is_deletion && known.compactions.contains(&revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_deletion_at_a_compacted_revision_may_be_missing_there() {
        let event = |kind: &str, revision: i64| json!({"type": kind, "kv": {"key": "YQ==", "mod_revision": revision.to_string()}});
        let told = |events: &[Value]| Told::from([(0, events.to_vec())]);
        let known = Known { compactions: [5].into(), ..Known::default() };
        let is_same = |reference: &[Value], ours: &[Value]| {
            same_events(&Twins::default(), &known, &told(reference), &told(ours))
        };
        let (lost, kept) = (event("DELETE", 5), event("DELETE", 6));
        let both = [lost, kept];
        assert!(is_same(&both[1..], &both) && is_same(&both, &both));
        assert!(!is_same(&both, &both[1..]), "ours has lost it");
        assert!(!is_same(&both[..1], &both));
        assert!(!is_same(&[], &[event("PUT", 5)]));
    }
}
