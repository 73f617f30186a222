//! The place of a campaign's progress file, held by one process. What is in the file, somebody else
//! knows.

use crate::progress::ProgressError;
use std::fs::{self, File, FileType, TryLockError};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A progress file that this process alone writes, until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct ProgressFile {
    /// Behind symbolic links, so that the file is replaced and no link to it.
    path: PathBuf,
    /// The file itself is replaced at each write, so another one beside it is what is locked.
    _lock: File,
}

impl ProgressFile {
    /// Takes it, whether it exists yet or not.
    ///
    /// # Errors
    ///
    /// [`ProgressError::NoPlainFile`] if something else is there, [`ProgressError::InUse`] if another
    /// process has it, [`ProgressError::Io`] if there can be no lock beside it.
    pub(crate) fn take(path: &Path) -> Result<Self, ProgressError> {
        let path = plain_file(path)?;
        let mut beside = path.clone().into_os_string();
        beside.push(".lock");
        let wrap = |source| ProgressError::Io { path: PathBuf::from(&beside), source };
        let lock = File::create(&beside).map_err(wrap)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ProgressError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(wrap(source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Where a file is, behind symbolic links, or will be. Nothing else can be replaced by one, and what
/// is no file may have no end, or nobody who writes it.
fn plain_file(path: &Path) -> Result<PathBuf, ProgressError> {
    let wrap = |source| ProgressError::Io { path: path.into(), source };
    let refuse = |found| ProgressError::NoPlainFile { path: path.into(), found };
    match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path).map_err(wrap),
        Ok(there) => Err(refuse(what_it_is(there.file_type()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(refuse("a symbolic link to nothing"));
            }
            Ok(path.to_owned())
        }
        Err(source) => Err(wrap(source)),
    }
}

fn what_it_is(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_file_has_one_writer_and_a_link_to_it_is_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("link.json"));
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let taken = ProgressFile::take(&link).unwrap();
        assert_eq!(taken.path(), fs::canonicalize(&real).unwrap());
        let second = ProgressFile::take(&real);
        assert!(matches!(second, Err(ProgressError::InUse { .. })), "{second:?}");
        drop(taken);
        ProgressFile::take(&real).unwrap();
    }

    #[test]
    fn what_is_no_plain_file_is_refused_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let dangling = dir.path().join("dangling.json");
        std::os::unix::fs::symlink(dir.path().join("nothing"), &dangling).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let pipe = dir.path().join("pipe");
        // No process of its own: until it has begun, it holds whatever the test beside this one locks.
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let device = Path::new("/dev/full");
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for (path, what) in [
            (dangling.as_path(), "a symbolic link to nothing"),
            (socket.as_path(), "a socket"),
            (pipe.as_path(), "a pipe"),
            (device, "a device"),
            (folder.as_path(), "a directory"),
        ] {
            let refused = ProgressFile::take(path).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "no lock beside any of them");
        assert!(!Path::new("/dev/full.lock").exists());
    }
}
