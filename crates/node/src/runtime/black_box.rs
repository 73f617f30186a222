//! Keeps what happened to a node that has to stop because the protocol is broken: in its folder, for
//! whoever looks for the reason. Knows nothing of what is in a recording.

use crate::{Flight, Recording};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The last one; the one before it has one more ending.
const FILE: &str = "poisoned.recording";
const FILE_BEFORE: &str = "poisoned.recording.before";

/// Where a node leaves its last recording.
#[derive(Debug)]
pub(crate) struct BlackBox {
    dir: PathBuf,
}

impl BlackBox {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Writes what was recorded, if anything was. A node that cannot stops all the same.
    pub(crate) fn keep(&self, flight: Option<Flight>) {
        let Some(flight) = flight else { return };
        let path = self.dir.join(FILE);
        match self.write(&path, &Recording::from(flight)) {
            Ok(()) => tracing::error!(
                path = %path.display(),
                "what led to this was recorded: play it with `quorate sim --replay`, and send it to \
                 the developers; nothing that clients wrote is in it"
            ),
            Err(error) => tracing::error!(
                path = %path.display(), "what led to this cannot be written down: {error}"
            ),
        }
    }

    fn write(&self, path: &Path, recording: &Recording) -> io::Result<()> {
        match fs::rename(path, self.dir.join(FILE_BEFORE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let mut file = fs::File::create(path)?;
        file.write_all(&recording.to_bytes())?;
        file.sync_all()
    }
}
