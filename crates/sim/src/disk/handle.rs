//! The disk as the log sees it: the [`Disk`] and [`DiskFile`] of crate `quorate-wal`. Answers and
//! errors are those that a real file system would give.

use super::SimDisk;
use super::image::{Change, Inode, is_top};
use quorate_wal::{Disk, DiskFile, DiskSpace};
use std::any::Any;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// An open file.
struct SimFile {
    disk: SimDisk,
    inode: Inode,
}

/// A taken lock.
struct Lock {
    disk: SimDisk,
    path: PathBuf,
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.alive()?;
        if state.visible.names.contains_key(path) {
            return Err(refused(ErrorKind::AlreadyExists, path));
        }
        if !has_parent(&state.visible.folders, path) {
            return Err(refused(ErrorKind::NotFound, path));
        }
        state.inode_count += 1;
        let inode = Inode(state.inode_count);
        state.change_or_fail(Change::Create { path: path.to_path_buf(), inode })?;
        drop(state);
        Ok(Box::new(SimFile::new(self, inode)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.alive()?.visible.names.get(path).copied();
        match inode {
            Some(inode) => Ok(Box::new(SimFile::new(self, inode))),
            None => Err(refused(ErrorKind::NotFound, path)),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.alive()?;
        if !is_top(dir) && !state.visible.folders.contains(dir) {
            return Err(refused(ErrorKind::NotFound, dir));
        }
        let names = state.visible.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        let above: Vec<&Path> = dir.ancestors().filter(|path| !is_top(path)).collect();
        for path in above.into_iter().rev() {
            if !state.visible.folders.contains(path) {
                state.change(Change::Folder { path: path.to_path_buf() });
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        let inode = state.visible.names.get(from).copied();
        let inode = inode.ok_or_else(|| refused(ErrorKind::NotFound, from))?;
        if !has_parent(&state.visible.folders, to) {
            return Err(refused(ErrorKind::NotFound, to));
        }
        state.change_or_fail(Change::Rename {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            inode,
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        if !state.visible.names.contains_key(path) {
            return Err(refused(ErrorKind::NotFound, path));
        }
        state.change_or_fail(Change::Remove { path: path.to_path_buf() })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        if !is_top(dir) && !state.visible.folders.contains(dir) {
            return Err(refused(ErrorKind::NotFound, dir));
        }
        state.sync_folder(dir)
    }

    fn space(&self, _: &Path) -> io::Result<DiskSpace> {
        Ok(self.alive()?.space())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !self.alive()?.locks.insert(path.to_path_buf()) {
            return Err(refused(ErrorKind::WouldBlock, path));
        }
        Ok(Box::new(Lock { disk: self.clone(), path: path.to_path_buf() }))
    }
}

impl SimFile {
    fn new(disk: &SimDisk, inode: Inode) -> Self {
        *disk.state().open.entry(inode).or_default() += 1;
        Self { disk: disk.clone(), inode }
    }
}

impl DiskFile for SimFile {
    fn size_bytes(&self) -> io::Result<u64> {
        let state = self.disk.alive()?;
        let len = state.visible.contents.get(&self.inode).map_or(0, Vec::len);
        u64::try_from(len).map_err(io::Error::other)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.alive()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        state.check_readable(self.inode, start, buffer.len())?;
        let held = state.visible.contents.get(&self.inode).map_or(0, Vec::len);
        let count = state.read_count(held.saturating_sub(start).min(buffer.len()));
        let content = state.visible.contents.get(&self.inode);
        let rest = content.and_then(|content| content.get(start..)).unwrap_or_default();
        if let (Some(target), Some(source)) = (buffer.get_mut(..count), rest.get(..count)) {
            target.copy_from_slice(source);
            state.misread(self.inode, start, target);
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.disk.alive()?.write(self.inode, offset, bytes)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let size = usize::try_from(size_bytes).map_err(io::Error::other)?;
        self.disk.alive()?.resize(self.inode, size)
    }

    fn reserve(&self, offset: u64, size_bytes: u64) -> io::Result<bool> {
        let end = usize::try_from(offset + size_bytes).map_err(io::Error::other)?;
        self.disk.alive()?.reserve(self.inode, end).map(|()| true)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.alive()?.sync(self.inode)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let Ok(mut state) = self.disk.alive() else { return };
        if let Some(count) = state.open.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.inode);
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.alive() {
            state.locks.remove(&self.path);
        }
    }
}

fn has_parent(folders: &std::collections::BTreeSet<PathBuf>, path: &Path) -> bool {
    path.parent().is_none_or(|parent| is_top(parent) || folders.contains(parent))
}

fn refused(kind: ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("simulated disk: {kind} ({})", path.display()))
}
