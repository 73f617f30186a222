//! The few things that the log asks of a disk. Everything the log does to storage passes through
//! here, so that a simulated disk can lose, tear or refuse it; it must not know what the bytes mean.

use std::any::Any;
use std::io;
use std::path::Path;

/// How much room a disk has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this process may still take.
    pub free_bytes: u64,
    /// All there is.
    pub size_bytes: u64,
}

impl DiskSpace {
    /// That of a disk without an end.
    pub const ENDLESS: Self = Self { free_bytes: u64::MAX, size_bytes: u64::MAX };
}

/// A place for files. Only what was synced survives a power loss: a file's bytes by
/// [`DiskFile::sync`], a name (created, renamed or removed) by [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// Creates a file that must not exist yet, for reading and writing.
    ///
    /// # Errors
    ///
    /// What the operating system says; `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that must exist, for reading and writing.
    ///
    /// # Errors
    ///
    /// What the operating system says; `NotFound` if there is no such file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The names of the files in a folder, sorted.
    ///
    /// # Errors
    ///
    /// What the operating system says; `NotFound` if there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a folder and those above it; no error if they exist.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing what has that name.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    ///
    /// What the operating system says. Afterwards no name in it may be believed durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How much room there is where this folder is. A disk that does not say has no end.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn space(&self, _dir: &Path) -> io::Result<DiskSpace> {
        Ok(DiskSpace::ENDLESS)
    }

    /// Takes a folder for this process alone, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait DiskFile: Send + Sync + 'static {
    /// The file's length.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Reads from `offset` on, up to `buffer`'s length; returns how much. That may be less than
    /// there is, and is nothing only at the end of the file: whoever wants more asks again.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file if needed.
    ///
    /// # Errors
    ///
    /// What the operating system says; any part may have been written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or grows it with zeros.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn set_size(&self, size_bytes: u64) -> io::Result<()>;

    /// Takes room for `size_bytes` from `offset` on, so that no write there meets a full disk; neither
    /// the file's length nor what it holds changes. Returns whether the disk can do that: one that
    /// does not say cannot.
    ///
    /// # Errors
    ///
    /// `StorageFull` or `QuotaExceeded` if there is not enough; nothing has happened to the file then.
    fn reserve(&self, _offset: u64, _size_bytes: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    ///
    /// What the operating system says. A failure is final: what was written since the last success
    /// may be gone although a second attempt succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// Reads until `buffer` is full or the file ends, however little each read gives; returns how much.
pub(crate) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Whether this says that the disk, or the quota on it, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
}
