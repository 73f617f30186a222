//! A disk that notes what is asked of it, and refuses or cuts short some of it on command. What it
//! lets through, another disk does.

use quorate_wal::{Disk, DiskFile};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// One thing that was asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub op: &'static str,
    pub path: PathBuf,
    pub offset: u64,
    pub length: usize,
}

#[derive(Clone)]
pub struct WatchedDisk {
    inner: Arc<dyn Disk>,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Default)]
struct Watch {
    calls: Vec<Call>,
    refusals: Vec<(&'static str, PathBuf, io::ErrorKind)>,
    /// Reads of this file, after so many more of them, stop so many bytes early.
    short: Option<(PathBuf, usize, usize)>,
    /// The present name of each open file.
    names: Vec<Arc<Mutex<PathBuf>>>,
}

impl WatchedDisk {
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, watch: Arc::default() }
    }

    pub fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// From now on `op` on `path` fails.
    pub fn refuse(&self, op: &'static str, path: impl AsRef<Path>, kind: io::ErrorKind) {
        self.watch().refusals.push((op, path.as_ref().to_owned(), kind));
    }

    pub fn refuse_nothing(&self) {
        self.watch().refusals.clear();
    }

    /// After `whole` more reads, those of `path` miss their last `missing` bytes.
    pub fn cut_reads(&self, path: impl AsRef<Path>, whole: usize, missing: usize) {
        self.watch().short = Some((path.as_ref().to_owned(), whole, missing));
    }

    /// What was asked since the last time.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.watch().calls)
    }

    /// The calls of one kind since the last time; forgets the others.
    pub fn calls_of(&self, op: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.op == op).collect()
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap()
    }

    fn note(&self, op: &'static str, path: &Path) -> io::Result<()> {
        self.watch().note(op, path, 0, 0)
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let name = Arc::new(Mutex::new(path.to_owned()));
        self.watch().names.push(name.clone());
        Box::new(WatchedFile { inner: file, name, watch: self.watch.clone() })
    }
}

impl Watch {
    fn note(
        &mut self,
        op: &'static str,
        path: &Path,
        offset: u64,
        length: usize,
    ) -> io::Result<()> {
        self.calls.push(Call { op, path: path.to_owned(), offset, length });
        let refusal = self.refusals.iter().find(|(what, at, _)| *what == op && at == path);
        refusal.map_or(Ok(()), |&(_, _, kind)| Err(io::Error::from(kind)))
    }
}

struct WatchedFile {
    inner: Box<dyn DiskFile>,
    name: Arc<Mutex<PathBuf>>,
    watch: Arc<Mutex<Watch>>,
}

impl WatchedFile {
    fn note(&self, op: &'static str, offset: u64, length: usize) -> io::Result<()> {
        let name = self.name.lock().unwrap().clone();
        self.watch.lock().unwrap().note(op, &name, offset, length)
    }
}

impl Disk for WatchedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note("create", path)?;
        Ok(self.file(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note("open", path)?;
        Ok(self.file(path, self.inner.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.note("list", dir)?;
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.note("create_dir_all", dir)?;
        self.inner.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", to)?;
        self.inner.rename(from, to)?;
        for name in &self.watch().names {
            let mut name = name.lock().unwrap();
            if *name == from {
                to.clone_into(&mut name);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("sync_dir", dir)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.note("lock", path)?;
        self.inner.lock(path)
    }
}

impl DiskFile for WatchedFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.note("measure", 0, 0)?;
        self.inner.size_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.note("read", offset, buffer.len())?;
        let count = self.inner.read_at(buffer, offset)?;
        let name = self.name.lock().unwrap().clone();
        match &mut self.watch.lock().unwrap().short {
            Some((path, 0, missing)) if *path == name => Ok(count.saturating_sub(*missing)),
            Some((path, whole, _)) if *path == name => {
                *whole -= 1;
                Ok(count)
            }
            _ => Ok(count),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note("write", offset, bytes.len())?;
        self.inner.write_at(bytes, offset)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.note("set_size", size_bytes, 0)?;
        self.inner.set_size(size_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.note("sync", 0, 0)?;
        self.inner.sync()
    }
}
