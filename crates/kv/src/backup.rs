//! A store as it is at one moment, to be written to somewhere else while writes go on. The bytes are
//! those of a snapshot. Must not know where they go.

use crate::revision::Revision;
use crate::snapshot::StoreView;
use quorate::SnapshotView;
use std::io::{self, Write};

/// See the module. It keeps the state from being freed for as long as it lives.
pub struct Backup {
    view: StoreView,
}

impl Backup {
    pub(crate) const fn new(view: StoreView) -> Self {
        Self { view }
    }

    /// The last change that it contains.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.revision()
    }

    /// How many bytes [`Backup::write_to`] will write. Takes as long as writing them.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn size_bytes(&self) -> io::Result<u64> {
        let mut count = ByteCount(0);
        Box::new(self.view.clone()).write_to(&mut count)?;
        Ok(count.0)
    }

    /// Writes it, in pieces of bounded size.
    ///
    /// # Errors
    ///
    /// What `target` says, or that the store cannot be read.
    pub fn write_to(self, target: &mut dyn Write) -> io::Result<()> {
        Box::new(self.view).write_to(target)
    }
}

struct ByteCount(u64);

impl Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
