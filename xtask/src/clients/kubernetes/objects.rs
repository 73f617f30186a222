//! The objects that are stored in Kubernetes, and how they are read back: lists, pages, watches. Knows
//! nothing of servers but how to ask them.

use super::servers::Api;
use crate::clients::programs::Running;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = "limit=500";
const REVISION: &str = "/metadata/resourceVersion";

/// Writes a file with config maps.
pub(super) fn write_maps(file: &Path, first: usize, count: usize) -> anyhow::Result<()> {
    let map = |number: usize| {
        let metadata = json!({"name": format!("m{number:05}"), "namespace": "load"});
        let data = json!({"number": number.to_string()});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    };
    let maps: Vec<Value> = (first..first + count).map(map).collect();
    Ok(fs::write(file, json!({"apiVersion": "v1", "kind": "List", "items": maps}).to_string())?)
}

/// Writes a file with an event, which lives as long as the API server has been told.
pub(super) fn write_event(file: &Path) -> anyhow::Result<()> {
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "short", "namespace": "load"},
        "involvedObject": {"kind": "ConfigMap", "name": "m00001", "namespace": "load"},
    });
    Ok(fs::write(file, event.to_string())?)
}

/// Everything that is at a path, with its revisions, by name: who lists from memory has no order.
pub(super) fn objects_of(api: &Api, path: &str) -> anyhow::Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&api.ctl(&["get", "--raw", path])?)?;
    let items = list.get("items").context("expected a list")?;
    // An empty one may have no items at all.
    let mut items = items.as_array().cloned().unwrap_or_default();
    items.sort_by_cached_key(|item| name(item).ok());
    Ok(items)
}

pub(super) fn names(objects: &[Value]) -> anyhow::Result<Vec<String>> {
    objects.iter().map(name).collect()
}

fn name(object: &Value) -> anyhow::Result<String> {
    let name = text(object, "/metadata/name");
    Ok(name.context("expected an object with a name")?.to_owned())
}

fn text<'a>(value: &'a Value, place: &str) -> Option<&'a str> {
    value.pointer(place).and_then(Value::as_str)
}

/// A part of a list.
pub(super) struct Page {
    pub(super) names: Vec<String>,
    pub(super) revision: String,
    pub(super) next: Option<String>,
}

pub(super) fn page(api: &Api, path: &str, begin: Option<&str>) -> anyhow::Result<Page> {
    let begin = begin.map_or_else(String::new, |begin| format!("&continue={begin}"));
    let list = api.ctl(&["get", "--raw", &format!("{path}?{PAGE}{begin}")])?;
    let list: Value = serde_json::from_str(&list)?;
    let items = list.get("items").and_then(Value::as_array).context("expected a list")?;
    let revision = text(&list, REVISION).context("expected a revision")?.to_owned();
    let next = text(&list, "/metadata/continue").filter(|next| !next.is_empty());
    Ok(Page { names: names(items)?, revision, next: next.map(str::to_owned) })
}

/// A watch that runs from its start on.
pub(super) struct Watch {
    running: Running,
}

impl Watch {
    pub(super) fn start(api: &Api, path: &str, name: &str) -> anyhow::Result<Self> {
        let log = api.log(name);
        let list: Value = serde_json::from_str(&api.ctl(&["get", "--raw", path])?)?;
        let revision = text(&list, REVISION).context("expected a revision")?;
        let path = format!("{path}?watch=1&resourceVersion={revision}&timeoutSeconds=3600");
        Ok(Self { running: Running::start(api.command().args(["get", "--raw", &path]), log)? })
    }

    pub(super) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.running.end()?.is_none())
    }

    /// The names of what was created; none may be told twice.
    pub(super) fn added(&self) -> anyhow::Result<BTreeSet<String>> {
        self.told("ADDED")
    }

    /// The names of what was deleted.
    pub(super) fn deleted(&self) -> anyhow::Result<BTreeSet<String>> {
        self.told("DELETED")
    }

    fn told(&self, kind: &str) -> anyhow::Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for event in self.events()? {
            if text(&event, "/type") == Some(kind) {
                let name = name(event.get("object").context("expected an object")?)?;
                ensure!(all.insert(name.clone()), "expected {kind} of {name} once");
            }
        }
        Ok(all)
    }

    /// Whether each event is of a later revision than the one before.
    pub(super) fn is_in_order(&self) -> anyhow::Result<()> {
        let mut last = 0;
        for event in self.events()? {
            let revision = text(&event, "/object/metadata/resourceVersion");
            let revision: u64 = revision.context("an event with a revision")?.parse()?;
            ensure!(revision > last, "expected a revision after {last}, found {revision}");
            last = revision;
        }
        Ok(())
    }

    fn events(&self) -> anyhow::Result<Vec<Value>> {
        let said = fs::read_to_string(&self.running.log)?;
        // The last line may be on its way.
        let (whole, _) = said.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
