//! What a start does about a state that was found to be wrong: it is refused, or emptied and fetched
//! anew (decision 36). Each step can be cut short by a crash and is then done again. Blocks on the disk;
//! must not know how the state comes back.

use super::open::EmptyMachine;
use crate::StartError;
use quorate_core::LogIndex;
use quorate_wal::{Recovered, SnapshotStore, StateMark, WalError};

/// What is wrong with the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It differs, and is to be emptied.
    Different,
    /// It was emptied, in this life or an earlier one, and may not be there again.
    Emptied,
}

/// Reads the mark, before anything is opened.
///
/// # Errors
///
/// [`StartError::Diverged`] if the state is not to be used and nobody wants it rebuilt;
/// [`StartError::Log`] if the mark cannot be read.
pub(super) fn look(store: &SnapshotStore, is_wanted: bool) -> Result<Option<Wrong>, StartError> {
    match store.state_mark() {
        Ok(None) => {
            if is_wanted {
                tracing::warn!(
                    "the state is to be rebuilt, and was not found to differ from a majority's: it \
                     is used as it is"
                );
            }
            Ok(None)
        }
        Ok(Some(StateMark::Rebuilding)) => Ok(Some(Wrong::Emptied)),
        // Of one that is damaged: what it said does not matter to who gives the state up.
        Ok(Some(StateMark::Diverged { .. })) | Err(WalError::Damaged { .. }) if is_wanted => {
            Ok(Some(Wrong::Different))
        }
        Ok(Some(StateMark::Diverged { index, own, others })) => {
            Err(StartError::Diverged { index, own, others })
        }
        Err(error) => Err(error.into()),
    }
}

/// Empties the state, once the log is known to be sound and ours. Returns whether a state may be missing
/// that the log does not have. The mark changes last: until then the next start does all of this anew.
///
/// # Errors
///
/// [`StartError::Empty`] if the state machine's files cannot be removed, [`StartError::Log`] if the
/// snapshots cannot.
pub(super) fn prepare(
    store: &mut SnapshotStore,
    recovered: &Recovered,
    wrong: Option<Wrong>,
    rebuild: Option<EmptyMachine>,
) -> Result<bool, StartError> {
    let Some(wrong) = wrong else { return Ok(false) };
    if wrong == Wrong::Different {
        if let Some(empty) = rebuild {
            empty().map_err(|source| StartError::Empty { source })?;
        }
        store.clear()?;
        store.mark(StateMark::Rebuilding)?;
        let base = recovered.base.last_included.index;
        if base == LogIndex::ORIGIN {
            tracing::warn!("the state was emptied; the log has all of it");
        } else {
            tracing::warn!(
                %base,
                "the state was emptied; a snapshot of the leader's is fetched, for the log begins \
                 after that. Until it is here this node votes and acknowledges, and neither leads nor \
                 answers reads"
            );
        }
    }
    Ok(true)
}

/// Takes the mark away, once the state `is_there` or the log has what is missing.
///
/// # Errors
///
/// [`StartError::Log`].
pub(super) fn finish(store: &SnapshotStore, is_there: bool) -> Result<(), StartError> {
    if is_there { Ok(store.unmark()?) } else { Ok(()) }
}
