//! The background's work: moving a frozen overlay into the engine, and deleting what compaction made
//! superfluous, in bounded batches. What it does changes no answer, only where it is found.

use crate::auth;
use crate::engine::{Cursor, Direction, Durability, EngineError, EngineView, Space, Write};
use crate::lease;
use crate::meta::{self, Meta, Progress, Scrub};
use crate::notes;
use crate::overlay::Overlay;
use crate::revision::{ChangeId, Revision};
use crate::row::{self, Row};
use crate::store::{Shared, State};
use std::sync::Arc;

/// How many changes one batch of a compaction looks at. A flush waits for one batch at most. Small
/// batches write the same pages of the index again and again: with 1024 each deletion cost 4 KiB.
const SCRUB_COUNT_MAX: usize = 16_384;

/// Whether the background has something to do.
pub(crate) fn has_work(state: &State) -> bool {
    state.view.frozen.is_some() || scrub_target(&state.stored).is_some()
}

/// The compaction whose superfluous changes are still there. Only what the engine itself holds
/// counts: a replay after a crash must find what its compaction had not reached.
fn scrub_target(stored: &Meta) -> Option<Revision> {
    stored.progress.compacted.filter(|target| stored.scrub.done < Some(*target))
}

/// Works until there is nothing to do. A flush goes before compaction: apply may wait for it.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut guard = PanicGuard { shared, done: false };
    while step(shared) {}
    guard.done = true;
}

/// A job that panics would leave apply waiting for ever; this makes it a failure instead.
struct PanicGuard<'a> {
    shared: &'a Shared,
    done: bool,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.fail(&"a background job panicked");
            self.shared.finish_step(|_| {});
        }
    }
}

enum Task {
    Flush(Arc<Overlay>, Progress),
    Scrub(Revision),
}

/// Does one thing; says whether there is more.
fn step(shared: &Arc<Shared>) -> bool {
    let (task, stored) = {
        let state = shared.lock();
        let frozen = state.view.frozen.as_ref().zip(state.frozen_progress.clone());
        let task = match (frozen, scrub_target(&state.stored)) {
            (Some((overlay, progress)), _) => Some(Task::Flush(Arc::clone(overlay), progress)),
            (None, Some(target)) => Some(Task::Scrub(target)),
            (None, None) => None,
        };
        (task, state.stored.clone())
    };
    let outcome = match task {
        Some(Task::Flush(overlay, progress)) => flush(shared, &overlay, progress, stored),
        Some(Task::Scrub(target)) => scrub(shared, target, stored),
        None => Ok(Box::new(|_: &mut State| {}) as Box<dyn FnOnce(&mut State)>),
    };
    match outcome {
        Ok(change) => shared.finish_step(change),
        Err(error) => {
            shared.fail(&error);
            shared.finish_step(|_| {})
        }
    }
}

type Change = Box<dyn FnOnce(&mut State)>;

/// Moves `overlay` into the engine, together with how far it goes.
fn flush(
    shared: &Shared,
    overlay: &Overlay,
    progress: Progress,
    mut stored: Meta,
) -> Result<Change, EngineError> {
    stored.progress = progress;
    let mut batch = Batch::default();
    let rows = overlay_rows(overlay);
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let (key, value) = (row::row_key(row.version.id).to_vec(), row::row_value(&row));
        let size_bytes = (key.len() + value.len()) as u64;
        let entry = row::index_value(&row.version, size_bytes);
        entries.push((row::index_key(&row.key, row.version.id), entry));
        batch.put(Space::Rows, key, value);
    }
    entries.sort_unstable();
    for (key, value) in entries {
        batch.put(Space::Index, key, value);
    }
    stored.stored_bytes += batch.put_bytes;
    batch.writes.extend(notes::writes(overlay.notes()));
    batch.writes.extend(lease_writes(overlay));
    batch.writes.extend(overlay.auth().and_then(|changed| auth::write(&changed)));
    batch.writes.push(stored.progress.write());
    batch.commit(shared, &stored)?;
    let engine = shared.engine.view()?;
    Ok(Box::new(move |state| {
        state.view.engine = engine;
        state.view.frozen = None;
        state.frozen_progress = None;
        state.stored = stored;
    }))
}

/// Few beside the rows, and small: they are no part of `stored_bytes`.
fn lease_writes(overlay: &Overlay) -> Vec<Write> {
    let changes = overlay.leases();
    let records = changes.records().map(|(id, lease)| lease::write_record(id, lease));
    let bonds = changes.bonds();
    records
        .chain(bonds.map(|(lease, key, attached)| lease::write_bond(lease, key, attached)))
        .collect()
}

fn overlay_rows(overlay: &Overlay) -> Vec<Arc<Row>> {
    let mut rows = Vec::with_capacity(overlay.row_count());
    loop {
        let chunk = overlay.rows_from(rows.len());
        if chunk.is_empty() {
            return rows;
        }
        rows.extend(chunk);
    }
}

/// One batch of a compaction to `target`. Every change up to `target` makes the one before it of
/// the same key superfluous; a deletion before `target` is superfluous itself. A deletion *at*
/// `target` stays until the next compaction, since that revision can still be watched.
fn scrub(shared: &Shared, target: Revision, mut stored: Meta) -> Result<Change, EngineError> {
    let view = shared.engine.view()?;
    let from = row::row_key(stored.scrub.next);
    let to = row::row_key(ChangeId::new(target.next(), 0));
    let mut cursor = view.scan(Space::Rows, &from, Some(&to), Direction::Forward)?;
    let mut batch = Batch::default();
    let mut looked = 0;
    while looked < SCRUB_COUNT_MAX && cursor.advance()? {
        looked += 1;
        let id = row::parse_row_key(cursor.key())?;
        scrub_change(view.as_ref(), cursor.as_ref(), id, target, &mut batch)?;
        stored.scrub.next = ChangeId::new(id.main, id.sub.saturating_add(1));
    }
    if looked < SCRUB_COUNT_MAX {
        stored.scrub = Scrub { next: ChangeId::new(target, 0), done: Some(target) };
    }
    stored.stored_bytes = stored.stored_bytes.saturating_sub(batch.deleted_bytes);
    batch.writes.sort_by(|a, b| a.place().cmp(&b.place()));
    batch.writes.push(stored.scrub.write());
    batch.commit(shared, &stored)?;
    let engine = shared.engine.view()?;
    Ok(Box::new(move |state| {
        state.view.engine = engine;
        state.stored = stored;
    }))
}

/// Deletes what the change under `cursor` makes superfluous: the change before it of the same key,
/// and itself if it is an old deletion. What lies further back went when those were looked at.
fn scrub_change(
    view: &dyn EngineView,
    cursor: &dyn Cursor,
    id: ChangeId,
    target: Revision,
    batch: &mut Batch,
) -> Result<(), EngineError> {
    let key = row::key_of_row(cursor.key(), cursor.value())?;
    let own = row::index_key(key, id);
    let mut changes =
        view.scan(Space::Index, &own, Some(&row::index_ceiling(key)), Direction::Forward)?;
    let old_deletion = |id: ChangeId, tombstone| tombstone && id.main < target;
    while changes.advance()? {
        let (_, other) = row::split_index_key(changes.key())?;
        let version = row::parse_index_value(changes.key(), other, changes.value())?;
        let gone_already = old_deletion(other, version.tombstone);
        if other != id {
            if !gone_already {
                batch.delete(changes.as_ref(), other)?;
            }
            break;
        }
        if gone_already {
            batch.delete(changes.as_ref(), other)?;
        }
    }
    Ok(())
}

/// Collects the writes of one step.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    put_bytes: u64,
    deleted_bytes: u64,
}

impl Batch {
    fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.put_bytes += (key.len() + value.len()) as u64;
        self.writes.push(Write::Put { space, key, value });
    }

    /// Deletes the change under the index cursor.
    fn delete(&mut self, index: &dyn Cursor, id: ChangeId) -> Result<(), EngineError> {
        self.deleted_bytes += row::parse_row_size(index.key(), index.value())?;
        self.deleted_bytes += (index.key().len() + index.value().len()) as u64;
        self.writes.push(Write::Delete { space: Space::Index, key: index.key().to_vec() });
        self.writes.push(Write::Delete { space: Space::Rows, key: row::row_key(id).to_vec() });
        Ok(())
    }

    fn commit(mut self, shared: &Shared, stored: &Meta) -> Result<(), EngineError> {
        self.writes.push(meta::write_format());
        self.writes.push(meta::write_stored_bytes(stored.stored_bytes));
        shared.engine.write_batch(self.writes, Durability::Now)
    }
}
