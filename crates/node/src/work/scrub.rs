//! What is done about damage that is found before anybody needs what is damaged: it is named, a
//! snapshot is replaced, and nothing is deleted. Must not know how it is found.

use super::{FileDone, MachineJob, SharedStore};
use crate::Input;
use quorate_core::{LogId, LogIndex};
use quorate_wal::{Rotten, RottenFile, Scrubbed, WalError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rot {
    /// Which.
    pub file: RottenFile,
    /// What is wrong with it.
    pub why: String,
    /// A snapshot that has what the file has, if one is there.
    pub covered_by: Option<LogId>,
}

/// For whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubDone {
    /// How much was read.
    pub read_bytes: u64,
    /// Everything was read once more.
    pub is_round_over: bool,
    /// How many files are damaged.
    pub rotten_count: u64,
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file, self.covered_by) {
            (RottenFile::Snapshot { last_included }, None) => write!(
                f,
                "snapshot {last_included} is damaged; it is used for nothing, and another one is taken"
            ),
            (RottenFile::Snapshot { last_included }, Some(newer)) => write!(
                f,
                "snapshot {last_included} is damaged; {newer} takes its place, and it goes when the log \
                 is released"
            ),
            (RottenFile::Segment { number, .. }, Some(snapshot)) => write!(
                f,
                "segment {number} of the log is damaged; snapshot {snapshot} has what it holds, but this \
                 folder will not start again before the segment goes, when the log is released: do not \
                 stop this node until then, or replace the member"
            ),
            (RottenFile::Segment { number, .. }, None) => write!(
                f,
                "segment {number} of the log is damaged, and this folder will not start again: do not \
                 stop this node before another member is added in its place; then remove this one"
            ),
        }
    }
}

/// What is known to be damaged.
#[derive(Debug)]
pub(super) struct Rots {
    known: BTreeMap<RottenFile, Rot>,
    /// What was found in this round.
    found: BTreeSet<RottenFile>,
}

impl Rots {
    pub(super) const fn new() -> Self {
        Self { known: BTreeMap::new(), found: BTreeSet::new() }
    }

    /// A stretch was read. What is not found to be damaged again in a whole round is gone, or whole.
    pub(super) fn stretch(
        &mut self,
        scrubbed: Result<Scrubbed, WalError>,
        store: &SharedStore,
    ) -> FileDone {
        let Scrubbed { read_bytes, damage, is_round_over } = scrubbed.unwrap_or_else(|error| {
            tracing::warn!("the files cannot be read again: {error}");
            Scrubbed::default()
        });
        let before = self.known.len();
        let mut is_news = false;
        let mut machine_job = None;
        if let Some(Rotten { file, error }) = damage {
            self.found.insert(file);
            let rot = Rot { file, why: error.to_string(), covered_by: covering(file, store) };
            if self.known.get(&file) != Some(&rot) {
                tracing::error!("{rot}. Found when it was read again: {}", rot.why);
                self.known.insert(file, rot);
                is_news = true;
            }
            if let RottenFile::Snapshot { last_included } = file {
                machine_job = Some(MachineJob::SnapshotRotten(last_included));
            }
        }
        if is_round_over {
            let found = std::mem::take(&mut self.found);
            self.known.retain(|file, _| found.contains(file));
            is_news |= self.known.len() != before;
        }
        let rotten = is_news.then(|| self.known.values().cloned().collect::<Arc<[Rot]>>());
        let rotten_count = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
        FileDone {
            machine_job,
            input: Some(Input::Scrubbed { read_bytes, rotten }),
            scrub: Some(ScrubDone { read_bytes, is_round_over, rotten_count }),
            ..FileDone::default()
        }
    }
}

/// The newest snapshot that has all of what a file has, by what the snapshots say of themselves.
fn covering(file: RottenFile, store: &SharedStore) -> Option<LogId> {
    let needed = match file {
        RottenFile::Segment { last, .. } if last == LogIndex::ORIGIN => return None,
        RottenFile::Segment { last, .. } => last,
        RottenFile::Snapshot { last_included } => last_included.index.next(),
    };
    let snapshots = store.lock().list().ok()?;
    let newest = snapshots.into_iter().map(|meta| meta.last_included).next()?;
    (newest.index >= needed).then_some(newest)
}
