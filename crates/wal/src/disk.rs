//! The few things that the log asks of a disk. Everything the log does to storage passes through
//! here, so that a simulated disk can lose, tear or refuse it; it must not know what the bytes mean.

use std::any::Any;
use std::io;
use std::path::Path;

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
