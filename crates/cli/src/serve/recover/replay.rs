//! Brings a store to the last entry of a log that nobody owns any more, by the code that applies entries
//! in a running node. Works on copies; must not know who the new members are.

use super::remains::{Reach, Remains, Start};
use super::survey::{open_snapshots, read_entries};
use crate::serve::STATE_FILE;
use anyhow::{Context, ensure};
use quorate::core::{LogId, Term};
use quorate::{Applier, ApplyBatch, StateMachine};
use quorate_kv::{Inline, Reader, RedbEngine};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// The store's bytes are gathered to this size before they go to the file.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Writes the store as it is at the end of `reach` to `target`, as a backup; `scratch` is an empty folder
/// to work in. Returns how many entries were applied.
///
/// # Errors
///
/// If something cannot be read or applied, or the disk refuses.
pub(super) fn replay(
    folder: &Remains,
    reach: Reach,
    scratch: &Path,
    target: &Path,
) -> anyhow::Result<u64> {
    let (mut applier, reader) = begin(folder, reach, scratch)?;
    let mut count = 0_u64;
    read_entries(folder, reach.from, reach.end, &mut |entries| {
        count += entries.len() as u64;
        let batch = ApplyBatch { entries, waiters: Vec::new(), place: None };
        applier.apply(&batch).context("applying the log's entries")?;
        Ok(())
    })?;
    applier.finish()?;
    let mut file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::create(target)?);
    reader.backup().write_to(&mut file).context("writing the state down")?;
    file.flush()?;
    if let Some(why) = reader.failure() {
        anyhow::bail!("the state has failed: {why}");
    }
    Ok(count)
}

/// A store as of the start.
fn begin(folder: &Remains, reach: Reach, scratch: &Path) -> anyhow::Result<(Applier, Reader)> {
    let path = scratch.join(STATE_FILE);
    if reach.start == Start::State {
        let source = folder.dir.join(STATE_FILE);
        fs::copy(&source, &path).with_context(|| format!("copying {}", source.display()))?;
    }
    let engine = RedbEngine::open(&path).context("opening the copy of the state")?;
    let (machine, reader) = quorate_kv::open(Arc::new(engine), Arc::new(Inline))?;
    let (found, expected) = (machine.applied(), reach.from);
    ensure!(
        found == expected || reach.start != Start::State,
        "the state of {} goes up to entry {found}, and went up to {expected} when it was read first",
        folder.dir.display()
    );
    let term = folder.log.trace.term_at(reach.from).unwrap_or(Term::new(0));
    let at = if reach.start == Start::State { LogId::new(term, reach.from) } else { LogId::ORIGIN };
    let configuration = folder.configuration_at(reach.from).unwrap_or_default();
    let mut applier = Applier::new(Box::new(machine), at, configuration)?;
    if let Start::Snapshot(last_included) = reach.start {
        let store = open_snapshots(&folder.dir)?.context("the snapshots are gone")?;
        let snapshot = store.reader(last_included)?;
        let restored = applier.restore(snapshot.meta(), &mut snapshot.body());
        restored.with_context(|| format!("taking over the snapshot {last_included}"))?;
    }
    Ok((applier, reader))
}
