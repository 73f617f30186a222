//! The background's work: moving a frozen overlay into the engine, and deleting what compaction made
//! superfluous, in bounded batches. What it does changes no answer, only where it is found.

use crate::auth;
use crate::engine::{
    Cursor, Direction, Durability, EngineError, EngineView, Refusal, Renewal, Space, Write,
};
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
    state.view.frozen.is_some() || scrub_target(&state.stored).is_some() || state.renewal.has_work()
}

/// When the engine is asked to give back its free space, and what came of it.
#[derive(Debug)]
pub(crate) struct RenewalState {
    /// After each batch, and at the start.
    is_due: bool,
    /// So often somebody wanted that to be done.
    wanted: u64,
    /// Who wanted it so early, or earlier, has been served...
    served: u64,
    /// ...or refused, for this reason.
    refusal: Option<Refusal>,
    /// The store is closing: nothing is begun any more.
    is_over: bool,
}

impl Default for RenewalState {
    fn default() -> Self {
        Self { is_due: true, wanted: 0, served: 0, refusal: None, is_over: false }
    }
}

impl RenewalState {
    /// It is to be done in any case. Returns whose turn that is.
    pub(crate) const fn want(&mut self) -> u64 {
        self.is_due = true;
        self.wanted += 1;
        self.wanted
    }

    /// There will be no more.
    pub(crate) fn close(&mut self) {
        self.is_over = true;
        self.end(self.wanted, Some(Refusal::Interrupted));
    }

    /// Whether the engine is to be asked.
    pub(crate) const fn has_work(&self) -> bool {
        self.is_due && !self.is_over
    }

    /// What came of it, once it is over: why it was not done, if so.
    pub(crate) fn outcome_of(&self, turn: u64) -> Option<Result<(), Refusal>> {
        if self.is_over {
            return Some(Err(Refusal::Interrupted));
        }
        (self.served >= turn).then(|| self.refusal.clone().map_or(Ok(()), Err))
    }

    /// Everything was replaced: the same people wait.
    pub(crate) fn take(&mut self) -> Self {
        let Self { wanted, served, .. } = *self;
        let is_over = self.is_over;
        Self { is_due: true, wanted, served, refusal: self.refusal.take(), is_over }
    }

    /// It is over for whoever had wanted it before it began.
    fn end(&mut self, wanted: u64, refusal: Option<Refusal>) {
        self.served = wanted;
        self.refusal = refusal;
        self.is_due = self.wanted > wanted;
    }
}

/// The compaction whose superfluous changes are still there. Only what the engine itself holds
/// counts: a replay after a crash must find what its compaction had not reached.
fn scrub_target(stored: &Meta) -> Option<Revision> {
    stored.progress.compacted.filter(|target| stored.scrub.done < Some(*target))
}

impl State {
    /// Whether whoever had an overlay to move, or something to delete, has nothing to wait for.
    fn is_only_renewing(&self) -> bool {
        self.view.frozen.is_none() && scrub_target(&self.stored).is_none()
    }
}

/// Works until there is nothing to do. A flush goes before compaction: apply may wait for it.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut guard = PanicGuard { shared, done: false };
    // Nobody waits for the last parts of a renewal once the store is gone.
    while step(shared) && (Arc::strong_count(shared) > 1 || !shared.lock().is_only_renewing()) {}
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
    /// For whoever has wanted it so early.
    Renew(u64),
}

/// Does one thing; says whether there is more.
fn step(shared: &Arc<Shared>) -> bool {
    let (task, stored) = {
        let state = shared.lock();
        let frozen = state.view.frozen.as_ref().zip(state.frozen_progress.clone());
        let task = match (frozen, scrub_target(&state.stored)) {
            (Some((overlay, progress)), _) => Some(Task::Flush(Arc::clone(overlay), progress)),
            (None, Some(target)) => Some(Task::Scrub(target)),
            (None, None) if state.renewal.has_work() => Some(Task::Renew(state.renewal.wanted)),
            (None, None) => None,
        };
        (task, state.stored.clone())
    };
    let outcome = match task {
        Some(Task::Flush(overlay, progress)) => flush(shared, &overlay, progress, stored),
        Some(Task::Scrub(target)) => scrub(shared, target, stored),
        Some(Task::Renew(wanted)) => renew(shared, wanted, stored.stored_bytes),
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

/// Lets the engine give back a part of what is free in it. Its content is the same before and after.
fn renew(shared: &Shared, wanted: u64, in_use_bytes: u64) -> Result<Change, EngineError> {
    let is_wanted = wanted > shared.lock().renewal.served;
    let refusal = match shared.engine.renew(in_use_bytes, is_wanted)? {
        Renewal::UnderWay => return Ok(Box::new(|_| {})),
        Renewal::Done => {
            let engine = shared.engine.view()?;
            return Ok(Box::new(move |state| {
                state.view.engine = engine;
                state.renewal.end(wanted, None);
            }));
        }
        Renewal::Idle => None,
        Renewal::Refused(refusal) => Some(refusal),
    };
    Ok(Box::new(move |state| state.renewal.end(wanted, refusal)))
}

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
        state.renewal.is_due = true;
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
        state.renewal.is_due = true;
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
