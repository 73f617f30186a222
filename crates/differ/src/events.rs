//! Whether what watches told is the same. Must not know how it was told, nor what was asked.

use crate::answer::{self, number_at};
use crate::known::Known;
use crate::twins::Twins;
use crate::watches::Told;
use serde_json::Value;
use std::ops::{AddAssign, Sub};

/// What ours told beyond the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excess {
    /// Deletions at the compacted revision: etcd has lost them until 3.6.
    pub(crate) deletions: u64,
    /// Previous values of what a watch is told first. etcd begins a watch before it notes that previous
    /// values are wanted; what it finds in history in between goes out without them.
    pub(crate) previous: u64,
}

impl AddAssign for Excess {
    fn add_assign(&mut self, other: Self) {
        self.deletions += other.deletions;
        self.previous += other.previous;
    }
}

impl Sub for Excess {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            deletions: self.deletions.saturating_sub(other.deletions),
            previous: self.previous.saturating_sub(other.previous),
        }
    }
}

/// What ours told beyond the reference, if that is all that is not the same.
pub(crate) fn compare(
    twins: &Twins,
    known: &Known,
    reference: &Told,
    ours: &Told,
) -> Option<Excess> {
    if !reference.keys().eq(ours.keys()) {
        return None;
    }
    let mut excess = Excess::default();
    for (one, other) in reference.values().zip(ours.values()) {
        excess += compare_lists(twins, known, one, other)?;
    }
    Some(excess)
}

/// The same of one watch.
fn compare_lists(twins: &Twins, known: &Known, one: &[Value], other: &[Value]) -> Option<Excess> {
    let mut excess = Excess::default();
    let mut one = one.iter().peekable();
    // Until the first previous value.
    let mut is_begun = false;
    for event in other {
        if let Some(wanted) = one.next_if(|wanted| same(twins, wanted, event)) {
            is_begun |= wanted.get("prev_kv").is_some();
        } else if !is_begun
            && one.next_if(|wanted| same_but_for_previous(twins, wanted, event)).is_some()
        {
            excess.previous += 1;
        } else if is_deletion_at_a_compaction(known, event) {
            excess.deletions += 1;
        } else {
            return None;
        }
    }
    one.next().is_none().then_some(excess)
}

fn same(twins: &Twins, one: &Value, other: &Value) -> bool {
    one == other || {
        let mut other = other.clone();
        twins.value_to_reference(&mut other);
        *one == other
    }
}

/// The same, had the one told what was there before.
fn same_but_for_previous(twins: &Twins, one: &Value, other: &Value) -> bool {
    let mut other = other.clone();
    answer::without(&mut other, "prev_kv");
    same(twins, one, &other)
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

    fn event(kind: &str, revision: i64) -> Value {
        json!({"type": kind, "kv": {"key": "YQ==", "mod_revision": revision.to_string()}})
    }

    fn excess(reference: &[Value], ours: &[Value]) -> Option<(u64, u64)> {
        let told = |events: &[Value]| Told::from([(0, events.to_vec())]);
        let known = Known { compactions: [5].into(), ..Known::default() };
        let excess = compare(&Twins::default(), &known, &told(reference), &told(ours))?;
        Some((excess.deletions, excess.previous))
    }

    #[test]
    fn only_a_deletion_at_a_compacted_revision_may_be_missing_there() {
        let both = [event("DELETE", 5), event("DELETE", 6)];
        assert_eq!(excess(&both[1..], &both), Some((1, 0)));
        assert_eq!(excess(&both, &both), Some((0, 0)));
        assert_eq!(excess(&both, &both[1..]), None, "ours has lost it");
        assert_eq!(excess(&both[..1], &both), None);
        assert_eq!(excess(&[], &[event("PUT", 5)]), None);
    }

    #[test]
    fn previous_values_may_be_missing_there_until_the_first_and_no_longer() {
        let with_previous = |revision| {
            let mut event = event("PUT", revision);
            event["prev_kv"] = json!({"key": "YQ=="});
            event
        };
        let ours = [event("PUT", 6), with_previous(7), with_previous(8)];
        let late = [event("PUT", 6), event("PUT", 7), with_previous(8)];
        assert_eq!(excess(&late, &ours), Some((0, 1)));
        let lost = [event("PUT", 6), with_previous(7), event("PUT", 8)];
        assert_eq!(excess(&lost, &ours), None);
        assert_eq!(excess(&ours, &late), None, "ours has lost it");
    }
}
