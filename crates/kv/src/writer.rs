//! Writes the changes of one command into the active overlay, all at one revision. What it writes
//! is invisible to readers until the revision is published; it must not decide whether to write.

use crate::api::{
    DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest,
    RangeResponse,
};
use crate::engine::EngineError;
use crate::error::{OpError, ReadError};
use crate::lease::Bond;
use crate::meta::Progress;
use crate::range::{self, header};
use crate::revision::{ChangeId, Revision};
use crate::row::{Row, Version};
use crate::view::{Found, KeyRange, View};
use bytes::Bytes;

/// The changes of one command. `view.revision` is where it starts.
pub(crate) struct Writer<'a> {
    view: &'a View,
    /// How many changes were made; the place of the next one.
    change_count: u32,
    /// How many keys came into being or were deleted.
    created_count: u64,
    deleted_count: u64,
    /// What the changes mean for leases; kept once the command is through.
    bonds: Vec<Bond>,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(view: &'a View) -> Self {
        Self { view, change_count: 0, created_count: 0, deleted_count: 0, bonds: Vec::new() }
    }

    /// The revision that a reader inside this command sees: one more once something changed.
    pub(crate) const fn now(&self) -> Revision {
        if self.change_count == 0 { self.view.revision } else { self.view.revision.next() }
    }

    /// The command is through: `progress` includes it from now on.
    pub(crate) fn finish(self, progress: &mut Progress) {
        progress.revision = self.now();
        let key_count = progress.key_count + self.created_count;
        progress.key_count = key_count.saturating_sub(self.deleted_count);
        self.view.active.bind(self.bonds);
    }

    /// Takes back what was written: the command is refused after all.
    pub(crate) fn undo(self) {
        self.view.active.undo(self.change_count as usize);
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        range::range(self.view, self.now(), request)
    }

    /// Writes a key. The lease was checked before.
    ///
    /// # Errors
    ///
    /// [`OpError::KeyNotFound`] if something of a missing key should be kept.
    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, ReadError> {
        let existing = self.living(&request.key)?;
        let wants_old = request.ignore_value || request.prev_kv;
        let old = match &existing {
            Some(found) if wants_old => Some(self.view.load(found)?),
            _ => None,
        };
        if existing.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(OpError::KeyNotFound.into());
        }
        let before = existing.as_ref().map(|found| *found.version());
        let value = match &old {
            Some(old) if request.ignore_value => old.value.clone(),
            _ => request.value.clone(),
        };
        let lease = match before {
            Some(before) if request.ignore_lease => before.lease,
            _ => request.lease,
        };
        self.write_put(request.key.clone(), value, lease, before);
        let prev_kv = old.filter(|_| request.prev_kv);
        Ok(PutResponse { header: Some(header(self.now())), prev_kv })
    }

    /// Deletes the keys of a range.
    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, ReadError> {
        let doomed = self.doomed(request)?;
        let mut prev_kvs = Vec::new();
        if request.prev_kv {
            for (_, found) in &doomed {
                prev_kvs.push(self.view.load(found)?);
            }
        }
        let deleted = i64::try_from(doomed.len()).unwrap_or(i64::MAX);
        for (key, found) in doomed {
            self.delete(key, found.version().lease);
        }
        Ok(DeleteRangeResponse { header: Some(header(self.now())), deleted, prev_kvs })
    }

    fn doomed(&self, request: &DeleteRangeRequest) -> Result<Vec<(Bytes, Found)>, EngineError> {
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut doomed = Vec::new();
        let mut keys = self.view.keys(&range, ChangeId::last_of(self.now()))?;
        while let Some(found) = keys.next()? {
            doomed.push((keys.key_of(&found), found));
        }
        Ok(doomed)
    }

    fn living(&self, key: &Bytes) -> Result<Option<Found>, EngineError> {
        self.view.living(key, ChangeId::last_of(self.now()))
    }

    /// Deletes a key that exists and is attached to `lease`, or to none if that is 0.
    pub(crate) fn delete(&mut self, key: Bytes, lease: i64) {
        self.attach(&key, lease, 0);
        self.write_tombstone(key);
    }

    /// Keeps in mind that a key changes its lease; 0 is none.
    fn attach(&mut self, key: &Bytes, from: i64, to: i64) {
        if from == to {
            return;
        }
        for (lease, attached) in [(from, false), (to, true)] {
            if lease != 0 {
                self.bonds.push(Bond { lease, key: key.clone(), attached });
            }
        }
    }

    fn write_put(&mut self, key: Bytes, value: Bytes, lease: i64, before: Option<Version>) {
        self.attach(&key, before.map_or(0, |before| before.lease), lease);
        let id = self.next_id();
        self.created_count += u64::from(before.is_none());
        let version = Version {
            id,
            create_revision: before.map_or(id.main, |before| before.create_revision),
            put_count: before.map_or(1, |before| before.put_count + 1),
            lease,
            tombstone: false,
        };
        self.view.active.insert(Row { key, value, version });
    }

    fn write_tombstone(&mut self, key: Bytes) {
        self.deleted_count += 1;
        let version = Version {
            id: self.next_id(),
            create_revision: Revision::default(),
            put_count: 0,
            lease: 0,
            tombstone: true,
        };
        self.view.active.insert(Row { key, value: Bytes::new(), version });
    }

    fn next_id(&mut self) -> ChangeId {
        let id = ChangeId::new(self.view.revision.next(), self.change_count);
        self.change_count += 1;
        id
    }
}

/// The keys and values of a range as a condition sees them, one at a time.
pub(crate) fn for_each_living(
    view: &View,
    range: &KeyRange,
    at: ChangeId,
    with_value: bool,
    mut visit: impl FnMut(&KeyValue) -> bool,
) -> Result<(), EngineError> {
    let mut keys = view.keys(range, at)?;
    while let Some(found) = keys.next()? {
        let kv = if with_value {
            view.load(&found)?
        } else {
            found.version().to_key_value(Bytes::new(), Bytes::new())
        };
        if !visit(&kv) {
            return Ok(());
        }
    }
    Ok(())
}
