//! Decides whether what a watcher was told is what etcd promises: every change once, in the order of
//! the revisions, all of a revision at once, whatever happened to its streams. Knows messages and
//! histories, and no server.

use crate::history::{Op, Record};
use crate::watcher::Told;
use crate::workload::receipt;
use quorate_etcd_api::mvccpb::event::EventType;
use quorate_etcd_api::mvccpb::{Event, KeyValue};
use std::collections::{BTreeMap, BTreeSet};

/// What a watcher that was told of everything knows.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// The keys at the end.
    pub(crate) keys: BTreeMap<Vec<u8>, KeyValue>,
    /// What happened at each revision.
    pub(crate) changes: BTreeMap<i64, Vec<Event>>,
}

/// Goes through what a watcher of all keys from revision 2 on was told, in the order in which it was
/// told, on however many streams.
///
/// # Errors
///
/// The message that breaks a promise, and which, for a person.
pub(crate) fn follow(told: &[Told]) -> Result<Watched, String> {
    let mut watched = Watched::default();
    let mut last = 1;
    for message in told {
        let teller = message.server + 1;
        let blame = |what| format!("{what}: n{teller}, behind revision {last}: {message:#?}");
        if let Some(reason) = &message.end {
            return Err(blame(format!("nobody asked for an end ({reason})")));
        }
        // Complete up to here, it says; and no watch of the future hears of the past.
        if message.events.is_empty() && message.revision != last {
            return Err(blame("how far the watch is, is not how far it was told".to_owned()));
        }
        let newest = watched.learn(&message.events, last).map_err(blame)?;
        if message.revision < newest {
            return Err(blame("a header is older than an event".to_owned()));
        }
        last = newest;
    }
    Ok(watched)
}

impl Watched {
    /// Takes the events of one message, which must go on behind revision `last`, and returns the
    /// revision of the last one. As there is no revision at which nothing happened, a gap is a loss;
    /// and as the next message begins with the next revision, none is told in two parts or twice.
    fn learn(&mut self, events: &[Event], last: i64) -> Result<i64, String> {
        let mut revision = last;
        for event in events {
            let pair = event.kv.as_ref().ok_or("an event without a key")?;
            let is_next = pair.mod_revision == revision + 1;
            let is_same = pair.mod_revision == revision && revision > last;
            if !is_next && !is_same {
                return Err(format!("revision {} behind {revision}", pair.mod_revision));
            }
            revision = pair.mod_revision;
            let changes = self.changes.entry(revision).or_default();
            if changes.iter().any(|it| it.kv.as_ref().is_some_and(|it| it.key == pair.key)) {
                return Err(format!("two changes of {:?} at revision {revision}", pair.key));
            }
            changes.push(event.clone());
            self.change(event.r#type(), pair, event.prev_kv.as_ref())?;
        }
        Ok(revision)
    }

    fn change(
        &mut self,
        kind: EventType,
        pair: &KeyValue,
        told_before: Option<&KeyValue>,
    ) -> Result<(), String> {
        let before = self.keys.remove(pair.key.as_ref());
        if before.as_ref() != told_before {
            return Err(format!("before {pair:?} it was {before:?}, not {told_before:?}"));
        }
        match kind {
            EventType::Delete if before.is_none() => {
                return Err(format!("nothing was there to delete: {pair:?}"));
            }
            EventType::Delete => return Ok(()),
            EventType::Put => {}
        }
        let expected = before
            .map_or((pair.mod_revision, 1), |before| (before.create_revision, before.version + 1));
        if (pair.create_revision, pair.version) != expected {
            return Err(format!("{pair:?} should have been created and counted as {expected:?}"));
        }
        self.keys.insert(pair.key.to_vec(), pair.clone());
        Ok(())
    }

    /// Checks that two watchers were told the same.
    ///
    /// # Errors
    ///
    /// The first revision that they know differently.
    pub(crate) fn same_as(&self, other: &Self) -> Result<(), String> {
        let all: BTreeSet<&i64> = self.changes.keys().chain(other.changes.keys()).collect();
        for revision in all {
            let (one, two) = (self.changes.get(revision), other.changes.get(revision));
            if one != two {
                return Err(format!("one was told of {one:?}, another of {two:?}"));
            }
        }
        Ok(())
    }

    /// Checks what it was told against what clients did: what they were acknowledged is there,
    /// whatever was written they asked for, once, and a transaction is there with all its parts.
    ///
    /// # Errors
    ///
    /// The operation or the change for which that is not so.
    pub(crate) fn accounts_for(&self, history: &[Record]) -> Result<(), String> {
        for record in history {
            let Some(revision) = record.written_revision() else { continue };
            let changes = self.changes.get(&revision).map_or(&[][..], Vec::as_slice);
            if !changes.iter().any(|event| is_of(event, record)) {
                return Err(format!("nobody was told of {record:?}, only of {changes:?}"));
            }
        }
        let records: BTreeMap<(&str, u64), &Record> = history
            .iter()
            .filter_map(|record| Some(((record.key.as_str(), record.value()?), record)))
            .collect();
        let of_clients: BTreeSet<&str> = history.iter().map(|record| record.key.as_str()).collect();
        let mut written = BTreeSet::new();
        for (revision, changes) in &self.changes {
            let mut keys = changes.iter().filter_map(deleted);
            if let Some(key) = keys.find(|key| of_clients.contains(key.as_str()))
                && !history.iter().any(|it| may_have_deleted(it, &key, *revision))
            {
                return Err(format!("nobody deleted {key}, at revision {revision}"));
            }
            for (key, value) in changes.iter().filter_map(put) {
                if !of_clients.contains(key.as_str()) {
                    continue;
                }
                let Some(record) = records.get(&(key.as_str(), value)) else {
                    return Err(format!("nobody wrote {value} to {key}, at revision {revision}"));
                };
                if !written.insert(value) {
                    return Err(format!("carried out twice: {record:?}, at revision {revision}"));
                }
                is_whole(record, value, changes)?;
            }
        }
        Ok(())
    }

    /// The revision at which a key was deleted, if that happened once.
    pub(crate) fn deletion_of(&self, key: &str) -> Option<i64> {
        let is_it = |event: &Event| {
            event.r#type() == EventType::Delete
                && event.kv.as_ref().is_some_and(|pair| pair.key == key.as_bytes())
        };
        let mut revisions =
            self.changes.iter().filter(|(_, changes)| changes.iter().any(is_it)).map(|it| *it.0);
        let only = revisions.next();
        if revisions.next().is_none() { only } else { None }
    }
}

/// A swap leaves its receipt at the same revision, and nothing else writes one.
fn is_whole(record: &Record, value: u64, changes: &[Event]) -> Result<(), String> {
    let receipt = receipt(&record.key, value);
    let has_receipt = changes.iter().filter_map(put).any(|(key, _)| key == receipt);
    let is_swap = matches!(record.op, Op::Swap { .. });
    let part_count = if is_swap { 2 } else { 1 };
    if has_receipt == is_swap && changes.len() == part_count {
        return Ok(());
    }
    Err(format!("{record:?} should have {part_count} parts, but has {changes:?}"))
}

fn put(event: &Event) -> Option<(String, u64)> {
    let pair = event.kv.as_ref()?;
    let value = std::str::from_utf8(&pair.value).ok()?.parse().ok()?;
    let key = String::from_utf8(pair.key.to_vec()).ok()?;
    (event.r#type() == EventType::Put).then_some((key, value))
}

fn deleted(event: &Event) -> Option<String> {
    let key = String::from_utf8(event.kv.as_ref()?.key.to_vec()).ok()?;
    (event.r#type() == EventType::Delete).then_some(key)
}

fn may_have_deleted(record: &Record, key: &str, revision: i64) -> bool {
    let is_then = record.returned.is_none() || record.written_revision() == Some(revision);
    record.op == Op::Delete && record.key == key && is_then
}

/// Whether this event is what the operation did to its key.
fn is_of(event: &Event, record: &Record) -> bool {
    let is_key = event.kv.as_ref().is_some_and(|pair| pair.key == record.key.as_bytes());
    match record.value() {
        Some(value) => put(event) == Some((record.key.clone(), value)),
        None => is_key && event.r#type() == EventType::Delete,
    }
}
