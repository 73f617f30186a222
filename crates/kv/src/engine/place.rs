//! Where an engine's file lies, and the one that is to take its place: two names in one folder. Must not
//! know what is in them.

use super::EngineError;
use super::redb::failed;
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What is being done when a file cannot be opened.
pub(super) const DOING: &str = "opened its file";

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The one that counts.
    State,
    /// The one that may take its place, and is worth nothing before.
    Next,
}

/// See the module.
pub(super) trait Place: Send + Sync {
    /// Opens a file, or makes it.
    fn open(&self, name: Name) -> Result<Box<dyn StorageBackend>, EngineError>;

    /// How large a file is.
    fn size_bytes(&self, name: Name) -> io::Result<u64>;

    /// Gives the next file the name of the one that counts, which has none from then on: whichever of
    /// them a crash leaves there is whole.
    fn promote(&self) -> io::Result<()>;

    /// Makes the names durable.
    fn sync_names(&self) -> io::Result<()>;

    /// Removes the next file, if there is one.
    fn remove_next(&self) -> io::Result<()>;
}

/// Something between the engine and a file.
pub(super) type Through = Box<dyn Fn(FileBackend) -> Box<dyn StorageBackend> + Send + Sync>;

/// A folder of the system's.
pub(super) struct Folder {
    state: PathBuf,
    next: PathBuf,
    through: Through,
}

impl Folder {
    /// The folder of the file at `path`, reached through something.
    pub(super) fn of(path: &Path, through: Through) -> Self {
        Self { state: path.to_owned(), next: path.with_added_extension("next"), through }
    }

    const fn path(&self, name: Name) -> &PathBuf {
        match name {
            Name::State => &self.state,
            Name::Next => &self.next,
        }
    }
}

impl Place for Folder {
    fn open(&self, name: Name) -> Result<Box<dyn StorageBackend>, EngineError> {
        let unreadable =
            |error: io::Error| EngineError::Failed { doing: DOING, source: error.into() };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(self.path(name)).map_err(unreadable)?;
        Ok((self.through)(FileBackend::new(file).map_err(failed(DOING))?))
    }

    fn size_bytes(&self, name: Name) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn promote(&self) -> io::Result<()> {
        fs::rename(&self.next, &self.state)
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder_of(&self.state)
    }

    fn remove_next(&self) -> io::Result<()> {
        match fs::remove_file(&self.next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Makes the names in the folder durable in which `path` is one.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
