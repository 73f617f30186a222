//! What changed about leases and is not in the engine yet, as a part of an overlay; and the keys of
//! a lease out of all layers together. Must not decide when a key is attached.

use super::record;
use super::table::Lease;
use crate::engine::EngineError;
use crate::overlay::CHUNK_COUNT_MAX;
use crate::revision::ChangeId;
use crate::view::View;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// That a key is attached to a lease from now on, or is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bond {
    pub(crate) lease: i64,
    pub(crate) key: Bytes,
    pub(crate) attached: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct LeaseChanges {
    records: BTreeMap<i64, Option<Lease>>,
    bonds: BTreeMap<(i64, Bytes), bool>,
}

impl LeaseChanges {
    /// What a changed lease, or the place of a key, counts for beside the key's bytes.
    const ENTRY_BYTES: usize = 64;

    /// Keeps a lease, or that it is gone; returns how much larger this has become, in bytes.
    pub(crate) fn keep(&mut self, id: i64, lease: Option<Lease>) -> usize {
        if self.records.insert(id, lease).is_some() { 0 } else { Self::ENTRY_BYTES }
    }

    /// Keeps a bond; returns how much larger this has become, in bytes.
    pub(crate) fn bind(&mut self, Bond { lease, key, attached }: Bond) -> usize {
        let size_bytes = Self::ENTRY_BYTES + key.len();
        if self.bonds.insert((lease, key), attached).is_some() { 0 } else { size_bytes }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (i64, Option<Lease>)> + '_ {
        self.records.iter().map(|(id, lease)| (*id, *lease))
    }

    pub(crate) fn bonds(&self) -> impl Iterator<Item = (i64, &Bytes, bool)> {
        self.bonds.iter().map(|((lease, key), attached)| (*lease, key, *attached))
    }

    /// Up to [`CHUNK_COUNT_MAX`] keys of a lease after `after`, each with whether it is attached.
    pub(crate) fn bonds_after(&self, lease: i64, after: &Bytes) -> Vec<(Bytes, bool)> {
        // No key is empty: whoever starts with the empty key misses none.
        let from = Bound::Excluded((lease, after.clone()));
        let rows = self.bonds.range((from, Bound::Unbounded));
        rows.take_while(|((of, _), _)| *of == lease)
            .take(CHUNK_COUNT_MAX)
            .map(|((_, key), attached)| (key.clone(), *attached))
            .collect()
    }
}

/// The keys that are attached to `lease` in `view`, in order.
///
/// Layers say which keys to look at; the keys themselves say whether it is so, as of the view's
/// revision. A key that was detached after that may be missing: overlays know only the newest state.
pub(crate) fn keys_of(view: &View, lease: i64) -> Result<Vec<Bytes>, EngineError> {
    let mut keys = BTreeSet::new();
    record::for_each_bond(view.engine.as_ref(), lease, |key| {
        keys.insert(key);
    })?;
    for overlay in view.frozen.iter().chain([&view.active]) {
        let mut after = Bytes::new();
        loop {
            let chunk = overlay.bonds_after(lease, &after);
            let Some((last, _)) = chunk.last() else { break };
            after = last.clone();
            for (key, attached) in chunk {
                if attached {
                    keys.insert(key)
                } else {
                    keys.remove(&key)
                };
            }
        }
    }
    let at = ChangeId::last_of(view.revision);
    let mut attached = Vec::with_capacity(keys.len());
    for key in keys {
        if view.living(&key, at)?.is_some_and(|found| found.version().lease == lease) {
            attached.push(key);
        }
    }
    Ok(attached)
}
