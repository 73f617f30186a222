//! The place of a campaign's progress file, held by one process. What is in the file, somebody else
//! knows.

use crate::progress::ProgressError;
use std::fs::{self, File, TryLockError};
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
    /// [`ProgressError::InUse`] if another process has it, [`ProgressError::Io`] if there can be no
    /// lock beside it.
    pub(crate) fn take(path: &Path) -> Result<Self, ProgressError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
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
}
