//! What revisions allow to check in linear time: every write has a revision of its own, whoever
//! asks later is told at least what was told before, and a value always bears the same revision.

use super::codec::Told;
use super::model::{KeyOp, KeyReply, Value};
use crate::application::Complaint;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The judge of revisions.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    /// The highest revision that anybody was told.
    highest: u64,
    /// Which revision made which write.
    writes: BTreeMap<u64, Bytes>,
    /// The revision of each value that was seen.
    values: BTreeMap<Value, u64>,
    /// For each key the latest change that is known for sure: its revision and the value.
    latest: BTreeMap<Bytes, (u64, Option<Value>)>,
}

impl Revisions {
    /// What nobody who asks now may be told less than.
    pub(super) const fn floor(&self) -> u64 {
        self.highest
    }

    /// Somebody who asked when the floor was `floor` is told this.
    pub(super) fn told(
        &mut self,
        key: &Bytes,
        op: KeyOp,
        floor: u64,
        told: &Told,
    ) -> Result<(), Complaint> {
        if told.revision < floor {
            let text = format!("{op:?} is told revision {} after {floor}", told.revision);
            return Err(Complaint(text));
        }
        self.highest = self.highest.max(told.revision);
        for (value, revision) in &told.seen {
            self.seen(key, *value, *revision)?;
            if *revision > told.revision {
                let text = format!("at revision {} a row of {revision}", told.revision);
                return Err(Complaint(text));
            }
        }
        match (op, told.reply) {
            (KeyOp::Put { value }, _) | (KeyOp::Swap { value, .. }, KeyReply::Swapped) => {
                self.wrote(key, floor, told.revision, Some(value))
            }
            (KeyOp::Delete, KeyReply::Held(Some(_))) => self.wrote(key, floor, told.revision, None),
            (KeyOp::Get | KeyOp::Delete | KeyOp::Swap { .. }, _) => Ok(()),
        }
    }

    /// Somebody who asked when the floor was `floor` is told that nothing came of it.
    pub(super) fn forbidden(&mut self, floor: u64, revision: u64) -> Result<(), Complaint> {
        if revision < floor {
            return Err(Complaint(format!("a refusal is of revision {revision} after {floor}")));
        }
        self.highest = self.highest.max(revision);
        Ok(())
    }

    fn wrote(
        &mut self,
        key: &Bytes,
        floor: u64,
        revision: u64,
        value: Option<Value>,
    ) -> Result<(), Complaint> {
        if revision <= floor {
            return Err(Complaint(format!("a write got revision {revision}, not above {floor}")));
        }
        if let Some(other) = self.writes.insert(revision, key.clone()) {
            let text =
                format!("revision {revision} is told to two writes, of {other:?} and {key:?}");
            return Err(Complaint(text));
        }
        if let Some(value) = value {
            self.seen(key, value, revision)?;
        }
        self.note(key, revision, value);
        Ok(())
    }

    fn seen(&mut self, key: &Bytes, value: Value, revision: u64) -> Result<(), Complaint> {
        let known = *self.values.entry(value).or_insert(revision);
        if known != revision {
            let text =
                format!("value {value} of {key:?} bears revision {revision}, earlier {known}");
            return Err(Complaint(text));
        }
        self.note(key, revision, Some(value));
        Ok(())
    }

    fn note(&mut self, key: &Bytes, revision: u64, value: Option<Value>) {
        let latest = self.latest.entry(key.clone()).or_insert((revision, value));
        if revision >= latest.0 {
            *latest = (revision, value);
        }
    }

    /// The durability scan: what a key holds at the end. `may_be_deleted` if a deletion of it was
    /// asked for whose outcome nobody knows.
    pub(super) fn holds(
        &mut self,
        key: &Bytes,
        found: Option<(Value, u64)>,
        may_be_deleted: bool,
    ) -> Result<(), Complaint> {
        if let Some((value, revision)) = found {
            self.seen(key, value, revision)?;
        }
        let Some((latest, value)) = self.latest.get(key).copied() else { return Ok(()) };
        let is_right = match (found, value) {
            (Some((_, revision)), Some(_)) => revision >= latest,
            (Some((_, revision)), None) => revision > latest,
            (None, Some(_)) => may_be_deleted,
            (None, None) => true,
        };
        if is_right {
            return Ok(());
        }
        Err(Complaint(format!(
            "{key:?} should hold {value:?} of revision {latest} or later, and holds {found:?}"
        )))
    }

    /// The keys of which something is known.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.latest.keys().cloned().collect()
    }
}
