//! A file that holds room for what must be possible on a full disk: it is removed when that is needed,
//! and made again when there is room. Must not know who needs it, nor when there is room.

use crate::prepare::fill;
use crate::{Disk, WalError, folder};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name, and the one under which it is made.
const NAME: &str = "reserve";
const TEMPORARY_NAME: &str = "reserve.tmp";

/// Room on a disk, held by a file. What the file says has no meaning.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    temporary: PathBuf,
    size_bytes: u64,
    is_held: bool,
}

impl Reserve {
    /// The reserve of this size in an existing folder; that of an earlier life is recognised. One of
    /// another size is given up. Nothing is taken yet.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, size_bytes: u64) -> Result<Self, WalError> {
        let (path, temporary) = (dir.join(NAME), dir.join(TEMPORARY_NAME));
        folder::discard(disk.as_ref(), &temporary)?;
        let found = match disk.open(&path) {
            Ok(file) => Some(file.size_bytes().map_err(WalError::io("measure", &path))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(WalError::io("open", &path)(error)),
        };
        let is_held = size_bytes > 0 && found == Some(size_bytes);
        if found.is_some() && !is_held {
            folder::discard(disk.as_ref(), &path)?;
        }
        Ok(Self { disk, path, temporary, size_bytes, is_held })
    }

    /// How much it holds now.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        if self.is_held { self.size_bytes } else { 0 }
    }

    /// Gives the room back to the disk.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn release(&mut self) -> Result<(), WalError> {
        if self.is_held {
            folder::discard(self.disk.as_ref(), &self.path)?;
            self.is_held = false;
        }
        Ok(())
    }

    /// Takes the room, if it is not held.
    ///
    /// # Errors
    ///
    /// [`WalError::DiskFull`], [`WalError::Io`]; nothing is taken then.
    pub fn hold(&mut self) -> Result<(), WalError> {
        if self.is_held || self.size_bytes == 0 {
            return Ok(());
        }
        if let Err(error) = self.take() {
            folder::discard(self.disk.as_ref(), &self.temporary)?;
            return Err(WalError::io("reserve room in", &self.temporary)(error));
        }
        self.is_held = true;
        Ok(())
    }

    /// The file gets its name with its full size: whoever finds it finds all of the room.
    fn take(&self) -> io::Result<()> {
        let file = self.disk.create(&self.temporary)?;
        if file.reserve(0, self.size_bytes)? {
            file.set_size(self.size_bytes)?;
        } else {
            fill(file.as_ref(), self.size_bytes)?;
        }
        self.disk.rename(&self.temporary, &self.path)
    }
}
