//! Looks at a state file that nobody has open, without changing a byte of it: how far it goes. Must
//! not know whose it is, nor what is done about it.

use crate::engine::{Engine, EngineError, RedbEngine};
use crate::meta::Meta;
use crate::revision::Revision;
use crate::seal::SealedEngine;
use quorate::core::{LogId, LogIndex};
use std::path::Path;
use std::sync::Arc;

/// How far a state file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The last command that it contains.
    pub applied: LogId,
    /// The log up to here is contained: what followed the command changed nothing.
    pub covered: LogIndex,
    /// The last revision.
    pub revision: Revision,
    /// How many keys there are.
    pub key_count: u64,
}

/// Looks at the state file at `path`; `None` if there is none. A file that was not closed is mended
/// in memory alone. Up to the size that a start reads whole, every page is compared with its
/// checksum.
///
/// # Errors
///
/// [`EngineError`], as a start would say.
pub fn glance(path: &Path) -> Result<Option<Glance>, EngineError> {
    if !path.exists() {
        return Ok(None);
    }
    let engine = RedbEngine::look(path)?;
    let engine = SealedEngine::new(Arc::new(engine));
    // Older formats are brought up to date first, here as everywhere; in memory.
    crate::meta::upgrade(engine.bare(), &engine)?;
    let Meta { progress, .. } = Meta::read(engine.view()?.as_ref())?;
    Ok(Some(Glance {
        applied: progress.applied,
        covered: progress.covered,
        revision: progress.revision,
        key_count: progress.key_count,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, CommandKind, Inline, PutRequest, open};
    use prost::Message;
    use quorate::core::Term;
    use quorate::{Committed, Replies, StateMachine};

    fn written(path: &Path) {
        let engine = RedbEngine::open(path).unwrap();
        let (mut store, _) = open(Arc::new(engine), Arc::new(Inline)).unwrap();
        let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let command = Command::new(CommandKind::Put(put)).encode_to_vec().into();
        let log_id = LogId::new(Term::new(3), LogIndex::new(9));
        store.apply(&[Committed { log_id, command }], &mut Replies::default()).unwrap();
        store.flush().unwrap();
    }

    #[test]
    fn a_glance_says_how_far_a_state_goes_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(glance(&path).unwrap(), None);
        written(&path);
        let before = std::fs::read(&path).unwrap();
        let seen = glance(&path).unwrap().unwrap();
        let log_id = LogId::new(Term::new(3), LogIndex::new(9));
        assert_eq!((seen.applied, seen.covered), (log_id, LogIndex::new(9)));
        assert_eq!((seen.revision.get(), seen.key_count), (2, 1));
        assert!(std::fs::read(&path).unwrap() == before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_glance_at_what_no_start_believes_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::write(&path, "no state").unwrap();
        assert!(glance(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        written(&path);
        let marker = dir.path().join("state.suspect");
        std::fs::write(&marker, "").unwrap();
        assert!(matches!(glance(&path), Err(EngineError::Suspect { .. })));
        assert!(marker.exists());
    }
}
