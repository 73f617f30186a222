//! What is done wrong on purpose, to see whether the judges notice. No honest runtime does any of
//! it.

use super::node::Running;
use quorate::SnapshotView;
use std::io::{self, Read, Write};

/// A snapshot whose table of sessions is empty.
pub(super) struct WithoutSessions(pub(super) Box<dyn SnapshotView>);

impl SnapshotView for WithoutSessions {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> io::Result<()> {
        let mut whole = Vec::new();
        self.0.write_to(&mut whole)?;
        let mut rest = whole.as_slice();
        let mut size_bytes = [0; 8];
        rest.read_exact(&mut size_bytes)?;
        io::copy(&mut rest.by_ref().take(u64::from_le_bytes(size_bytes)), &mut io::sink())?;
        target.write_all(&0_u64.to_le_bytes())?;
        target.write_all(rest)
    }
}

/// The node forgets every session; the state machine stays as it is.
pub(super) fn forget_sessions(running: &mut Running) -> Result<(), quorate::Fatal> {
    let applier = running.machine.worker.applier_mut();
    let (meta, view) = applier.view()?;
    let mut bytes = Vec::new();
    Box::new(WithoutSessions(view))
        .write_to(&mut bytes)
        .map_err(|error| quorate::Fatal::caused_by("a snapshot cannot be written", error))?;
    applier.restore(&meta, &mut bytes.as_slice())
}
