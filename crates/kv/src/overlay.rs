//! Changes in memory that the engine does not hold yet. One thread adds, any number read; a reader
//! holds the lock for a bounded number of keys at a time, so that adding never waits for long.

use crate::auth::AuthState;
use crate::lease::{Bond, Lease, LeaseChanges};
use crate::revision::ChangeId;
use crate::row::Row;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// How many keys or rows a reader takes under one lock.
pub(crate) const CHUNK_COUNT_MAX: usize = 128;

/// See the module.
#[derive(Default)]
pub(crate) struct Overlay {
    tables: RwLock<Tables>,
    size_bytes: AtomicUsize,
    /// The node's notes that changed; see `quorate::Notebook`. No reader sees them.
    notes: Mutex<BTreeMap<Bytes, Option<Bytes>>>,
    leases: RwLock<LeaseChanges>,
    /// Users and roles, if they changed.
    auth: Mutex<Option<Arc<AuthState>>>,
}

#[derive(Default)]
struct Tables {
    /// In the order of their change ids.
    rows: Vec<Arc<Row>>,
    keys: BTreeMap<Bytes, Versions>,
}

/// The changes of one key. Most keys have one.
struct Versions {
    newest: Arc<Row>,
    /// In the order of their change ids.
    older: Vec<Arc<Row>>,
}

impl Versions {
    fn newest_at(&self, at: ChangeId) -> Option<&Arc<Row>> {
        if self.newest.version.id <= at {
            return Some(&self.newest);
        }
        let visible = self.older.partition_point(|row| row.version.id <= at);
        self.older.get(visible.checked_sub(1)?)
    }
}

impl Overlay {
    /// Adds a change; its id is above all that are here.
    pub(crate) fn insert(&self, row: Row) {
        self.size_bytes.fetch_add(row.size_bytes(), Ordering::Relaxed);
        let row = Arc::new(row);
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.rows.push(Arc::clone(&row));
        if let Some(versions) = tables.keys.get_mut(&row.key) {
            let previous = std::mem::replace(&mut versions.newest, row);
            versions.older.push(previous);
        } else {
            let versions = Versions { newest: Arc::clone(&row), older: Vec::new() };
            tables.keys.insert(row.key.clone(), versions);
        }
    }

    /// Takes the last `count` changes back. No reader may have been told of them.
    pub(crate) fn undo(&self, count: usize) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..count {
            let Some(row) = tables.rows.pop() else { return };
            self.size_bytes.fetch_sub(row.size_bytes(), Ordering::Relaxed);
            match tables.keys.get_mut(&row.key).map(|versions| versions.older.pop()) {
                Some(Some(previous)) => {
                    if let Some(versions) = tables.keys.get_mut(&row.key) {
                        versions.newest = previous;
                    }
                }
                Some(None) | None => drop(tables.keys.remove(&row.key)),
            }
        }
    }

    /// Adds notes of the node's. They count for the overlay's size like changes.
    pub(crate) fn keep_notes(&self, changed: Vec<quorate::Note>) {
        if changed.is_empty() {
            return;
        }
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for quorate::Note { key, value } in changed {
            let size_bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
            self.size_bytes.fetch_add(size_bytes, Ordering::Relaxed);
            notes.insert(key, value);
        }
    }

    /// The notes that changed, in the order of their keys.
    pub(crate) fn notes(&self) -> Vec<(Bytes, Option<Bytes>)> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Keeps users and roles that changed. Readers have them too: they cost nothing here.
    pub(crate) fn keep_auth(&self, changed: Arc<AuthState>) {
        *self.auth.lock().unwrap_or_else(PoisonError::into_inner) = Some(changed);
    }

    /// Users and roles, if they changed.
    pub(crate) fn auth(&self) -> Option<Arc<AuthState>> {
        self.auth.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a lease that changed, or that it is gone. Counts for the overlay's size.
    pub(crate) fn keep_lease(&self, id: i64, lease: Option<Lease>) {
        let mut leases = self.leases.write().unwrap_or_else(PoisonError::into_inner);
        self.size_bytes.fetch_add(leases.keep(id, lease), Ordering::Relaxed);
    }

    /// Keeps which keys are attached to which leases. Counts for the overlay's size.
    pub(crate) fn bind(&self, bonds: Vec<Bond>) {
        if bonds.is_empty() {
            return;
        }
        let mut leases = self.leases.write().unwrap_or_else(PoisonError::into_inner);
        for bond in bonds {
            self.size_bytes.fetch_add(leases.bind(bond), Ordering::Relaxed);
        }
    }

    /// Up to [`CHUNK_COUNT_MAX`] keys of a lease after `after`, each with whether it is attached;
    /// what is not said here is as the layers below have it.
    pub(crate) fn bonds_after(&self, lease: i64, after: &Bytes) -> Vec<(Bytes, bool)> {
        self.leases().bonds_after(lease, after)
    }

    /// What changed about leases.
    pub(crate) fn leases(&self) -> RwLockReadGuard<'_, LeaseChanges> {
        self.leases.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn row_count(&self) -> usize {
        self.read().rows.len()
    }

    /// The newest change of `key` that a reader at `at` sees.
    pub(crate) fn newest_at(&self, key: &[u8], at: ChangeId) -> Option<Arc<Row>> {
        self.read().keys.get(key)?.newest_at(at).cloned()
    }

    /// Up to [`CHUNK_COUNT_MAX`] changes, from the `place`-th on, in the order of their ids.
    pub(crate) fn rows_from(&self, place: usize) -> Vec<Arc<Row>> {
        self.read().rows.iter().skip(place).take(CHUNK_COUNT_MAX).cloned().collect()
    }

    /// The place of the first change with this id or a later one.
    pub(crate) fn place_of(&self, id: ChangeId) -> usize {
        self.read().rows.partition_point(|row| row.version.id < id)
    }

    /// The id of the first change here.
    pub(crate) fn first_id(&self) -> Option<ChangeId> {
        self.read().rows.first().map(|row| row.version.id)
    }

    /// Looks at up to [`CHUNK_COUNT_MAX`] keys and appends the newest visible change of each to
    /// `out`. Returns where to go on, or `None` at the end.
    fn chunk(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        at: ChangeId,
        out: &mut Vec<Arc<Row>>,
    ) -> Option<Bytes> {
        let tables = self.read();
        let mut looked = 0;
        for (key, versions) in tables.keys.range::<[u8], _>((from, to)) {
            out.extend(versions.newest_at(at).cloned());
            looked += 1;
            if looked == CHUNK_COUNT_MAX {
                return Some(key.clone());
            }
        }
        None
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        // Nothing between the two changes of `insert` can panic.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Walks over the keys of an overlay, in order, each with the newest change visible at `at`.
pub(crate) struct OverlayKeys {
    overlay: Arc<Overlay>,
    at: ChangeId,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    done: bool,
    /// The rows ahead, the next one last.
    chunk: Vec<Arc<Row>>,
}

impl OverlayKeys {
    /// The keys from `from` to before `to`.
    pub(crate) fn new(overlay: Arc<Overlay>, from: Bytes, to: Option<Bytes>, at: ChangeId) -> Self {
        // An empty range must not reach `BTreeMap::range`, which panics on it.
        let done = to.as_ref().is_some_and(|to| *to <= from);
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        Self { overlay, at, from: Bound::Included(from), to, done, chunk: Vec::new() }
    }

    /// The row that [`OverlayKeys::pop`] would give.
    pub(crate) fn peek(&mut self) -> Option<&Arc<Row>> {
        while self.chunk.is_empty() && !self.done {
            self.refill();
        }
        self.chunk.last()
    }

    pub(crate) fn pop(&mut self) -> Option<Arc<Row>> {
        self.peek()?;
        self.chunk.pop()
    }

    fn refill(&mut self) {
        let last = self.overlay.chunk(
            self.from.as_ref().map(AsRef::as_ref),
            self.to.as_ref().map(AsRef::as_ref),
            self.at,
            &mut self.chunk,
        );
        self.chunk.reverse();
        match last {
            Some(last) => {
                // `(a, b)` with `a` excluded and equal to `b` would make `range` panic, but a key
                // that was looked at lies below `to`.
                self.from = Bound::Excluded(last);
            }
            None => self.done = true,
        }
    }
}
