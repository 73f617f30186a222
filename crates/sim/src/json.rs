//! Worlds, events, breaches and campaigns as JSON for other tools: one object a line, each with its
//! `type`. The fields are listed in docs/simulation.md; they are added to, never renamed. Decides
//! nothing.

use crate::record::{Event, NodeState, Told};
use crate::run::{Summary, Violation};
use serde_json::{Map, Value, json};

/// A world that ended well, or the sum of many.
#[must_use]
pub fn summary_json(summary: &Summary) -> Value {
    json!({
        "type": "world",
        "seed": summary.seed,
        "seeds": summary.world_count,
        "steps": summary.steps,
        "virtual_micros": summary.virtual_micros,
        "trace_hash": format!("{:016x}", summary.trace_hash),
        "committed": summary.committed,
        "checked_operations": summary.findings.checked_count,
        "undecided_histories": summary.findings.undecided_count,
        "watched_events": summary.findings.watched_count,
        "faults": object(summary.faults()),
        "figures": object(summary.figures()),
    })
}

/// A world that ended badly.
#[must_use]
pub fn violation_json(violation: &Violation) -> Value {
    json!({
        "type": "violation",
        "seed": violation.case.world.seed,
        "kind": violation.breach.kind(),
        "text": violation.breach.to_string(),
        "step": violation.step,
        "at_micros": violation.at.as_micros(),
        "nodes": violation.node_count,
        "troubles": violation.trouble_count,
        "requests": violation.request_count,
        "case": violation.case.to_string(),
        "reproduce": violation.reproduce(),
        "story": violation.story,
    })
}

/// Something that happened.
#[must_use]
pub fn event_json(event: &Event) -> Value {
    let (what, mut fields) = told(&event.what);
    fields.insert("type".to_owned(), json!("event"));
    fields.insert("what".to_owned(), json!(what));
    fields.insert("at_micros".to_owned(), json!(event.at.as_micros()));
    fields.insert("step".to_owned(), json!(event.step));
    if let Some(node) = event.node {
        fields.insert("node".to_owned(), json!(node.get()));
    }
    Value::Object(fields)
}

/// Said after the events if there were more than are kept.
#[must_use]
pub(crate) fn cut_short_json() -> Value {
    json!({
        "type": "cut_short",
        "text": "more happened than is kept: choose a part by --from and --to",
    })
}

/// Counters by their names.
pub(crate) fn object(counters: impl Iterator<Item = (&'static str, u64)>) -> Value {
    Value::Object(counters.map(|(name, count)| (name.to_owned(), json!(count))).collect())
}

fn told(what: &Told) -> (&'static str, Map<String, Value>) {
    let (name, fields) = match what {
        Told::Headline { trouble, text } => {
            ("headline", json!({ "trouble": trouble, "text": text }))
        }
        Told::State(state) => ("state", state_json(state)),
        Told::Committed(index) => ("committed", json!({ "index": index.get() })),
        Told::Sent { to, message, arrivals } => {
            let arrivals: Vec<u64> = arrivals.iter().map(|at| at.as_micros()).collect();
            ("sent", json!({ "to": to.get(), "message": message, "arrivals_micros": arrivals }))
        }
        Told::Received { from, message } => {
            ("received", json!({ "from": from.get(), "message": message }))
        }
        Told::Persisted { seq } => ("persisted", json!({ "seq": seq })),
        Told::Applied { through } => ("applied", json!({ "index": through })),
        Told::Asked { op, client, words } => {
            ("asked", json!({ "op": op.0, "client": client, "text": words }))
        }
        Told::Answered { op, client, words } => {
            ("answered", json!({ "op": op.0, "client": client, "text": words }))
        }
        Told::Breach { kind, text } => ("breach", json!({ "kind": kind, "text": text })),
    };
    match fields {
        Value::Object(fields) => (name, fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            (name, Map::new())
        }
    }
}

fn state_json(state: &NodeState) -> Value {
    match state {
        NodeState::Down => json!({ "life": "down" }),
        NodeState::Starting => json!({ "life": "starting" }),
        NodeState::Up { is_paused, role, term, last_log, commit } => json!({
            "life": if *is_paused { "stopped" } else { "up" },
            "role": role.to_string(),
            "term": term.get(),
            "last_index": last_log.index.get(),
            "last_term": last_log.term.get(),
            "commit_index": commit.get(),
        }),
    }
}
