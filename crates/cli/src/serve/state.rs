//! The state's file: opened for a node, or put aside where it is wrong. Must not know what a state holds.

use super::REMEDY;
use super::renewals::Renewals;
use quorate::{DiskWatch, Fatal};
use quorate_kv::{BackgroundThread, EngineError, KvStateMachine, Patience, Reader, RedbEngine};
use quorate_server::MeasuredEngine;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The state was found to differ from a majority's: whoever wants to know why can look at it.
pub(super) fn set_aside(path: &Path) -> Result<(), Fatal> {
    let kept = path.with_added_extension("diverged");
    RedbEngine::set_aside(path, &kept).map_err(|error| {
        Fatal::caused_by(format!("cannot move {} to {}", path.display(), kept.display()), error)
    })?;
    tracing::warn!(
        "the state that differs is kept as {}: remove it when nobody wants to look at it any more",
        kept.display()
    );
    Ok(())
}

pub(super) fn open(path: &Path, disk: DiskWatch) -> Result<(KvStateMachine, Reader), Fatal> {
    let unusable = |error: EngineError| {
        let what = if error.is_damage() {
            damaged(path)
        } else {
            format!("cannot use the state in {}", path.display())
        };
        Fatal::caused_by(what, error)
    };
    let renewals = Arc::new(Renewals::new(path, disk.clone()));
    let engine = RedbEngine::open_patiently(path, patience(disk), renewals).map_err(unusable)?;
    let engine = MeasuredEngine::new(engine);
    let background = BackgroundThread::start()
        .map_err(|error| Fatal::caused_by("cannot start the state's thread", error))?;
    quorate_kv::open(Arc::new(engine), Arc::new(background)).map_err(unusable)
}

/// The state waits for room on a full disk, and says so now and then.
fn patience(disk: DiskWatch) -> Patience {
    const TOLD_EVERY: Duration = Duration::from_secs(10);
    let told: Mutex<Option<Instant>> = Mutex::new(None);
    Arc::new(move || {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::error!(
                "the state waits for room: there is no space left on its disk. Free some; it goes \
                 on by itself"
            );
        }
        disk.wait()
    })
}

/// What somebody can do who has a state that is not to be believed.
pub(super) fn damaged(path: &Path) -> String {
    format!("the state is damaged: {}. Move {REMEDY}", path.display())
}
