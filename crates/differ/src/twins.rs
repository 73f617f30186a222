//! What the one system calls otherwise than the other: leases and members whose ids are made of the
//! time, keys with such an id in them, tokens. Each pair is learnt from an answer and translated from
//! then on. Must not know what the values stand for.

use crate::answer::Answer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use std::collections::BTreeMap;

/// Pairs of values, as texts of a message's JSON.
#[derive(Default)]
pub(crate) struct Twins {
    ours_of: BTreeMap<String, String>,
    reference_of: BTreeMap<String, String>,
}

impl Twins {
    /// Takes the values at this place of two answers for one thing, if both have one.
    pub(crate) fn learn(&mut self, reference: &Answer, ours: &Answer, pointer: &str) {
        if let (Some(reference), Some(ours)) = (reference.text(pointer), ours.text(pointer)) {
            self.pair(reference, ours);
        }
    }

    fn pair(&mut self, reference: &str, ours: &str) {
        if reference != ours {
            self.ours_of.insert(reference.to_owned(), ours.to_owned());
            self.reference_of.insert(ours.to_owned(), reference.to_owned());
        }
    }

    /// Takes the keys of two locks for one, and the leases that they end with.
    pub(crate) fn learn_claim(&mut self, reference: &Answer, ours: &Answer) {
        self.learn(reference, ours, "/key");
        if let (Some(reference), Some(ours)) = (lease_of(reference), lease_of(ours)) {
            self.pair(&reference.to_string(), &ours.to_string());
        }
    }

    /// What we call a thing that the reference calls so.
    pub(crate) fn ours<'a>(&'a self, reference: &'a str) -> &'a str {
        self.ours_of.get(reference).map_or(reference, String::as_str)
    }

    /// A request for us; `None` if it is the reference's.
    pub(crate) fn to_ours(&self, request: &Value) -> Option<Value> {
        let mut translated = request.clone();
        translate(&mut translated, &self.ours_of);
        (translated != *request).then_some(translated)
    }

    /// Our answer, as the reference would have put it.
    pub(crate) fn to_reference(&self, answer: &mut Answer) {
        match answer {
            Answer::Given(value) | Answer::Page { body: value, .. } => {
                translate(value, &self.reference_of);
            }
            Answer::Refused { .. } | Answer::Silence(_) => {}
        }
    }

    pub(crate) fn value_to_reference(&self, value: &mut Value) {
        translate(value, &self.reference_of);
    }
}

/// The lease that a lock's key ends with.
fn lease_of(answer: &Answer) -> Option<i64> {
    let key = BASE64_STANDARD.decode(answer.text("/key")?).ok()?;
    let text = String::from_utf8(key).ok()?;
    i64::from_str_radix(text.rsplit('/').next()?, 16).ok()
}

fn translate(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(other) = names.get(text) {
                text.clone_from(other);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| translate(item, names)),
        Value::Object(fields) => fields.values_mut().for_each(|value| translate(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lock_that_the_server_made_a_lease_for_tells_its_lease() {
        let mut twins = Twins::default();
        let key = |text: &str| Answer::Given(json!({"key": BASE64_STANDARD.encode(text)}));
        twins.learn_claim(&key("l/10"), &key("l/1f"));
        assert_eq!(twins.ours("16"), "31");
    }

    #[test]
    fn what_was_learnt_is_translated_each_way_and_nothing_else() {
        let mut twins = Twins::default();
        let [reference, ours] = ["77", "88"].map(|id| Answer::Given(json!({"ID": id, "TTL": "5"})));
        twins.learn(&reference, &ours, "/ID");
        twins.learn(&reference, &ours, "/TTL");
        assert_eq!(twins.to_ours(&json!({"lease": "77"})), Some(json!({"lease": "88"})));
        assert_eq!(twins.to_ours(&json!({"lease": "5"})), None);
        let mut answer = Answer::Given(json!([{"lease": "88"}, "x"]));
        twins.to_reference(&mut answer);
        assert_eq!(answer, Answer::Given(json!([{"lease": "77"}, "x"])));
    }
}
