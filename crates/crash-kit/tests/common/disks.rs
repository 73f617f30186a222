//! Disks above another one, each wrong in its own way, to see the kit find it.

use quorate_wal::{Disk, DiskFile, DiskSpace};
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A file's sync does nothing.
    IgnoresSyncs,
    /// A folder's sync does nothing.
    IgnoresFolderSyncs,
    /// A folder's sync does nothing for renames: after one, it is not carried out.
    ForgetsRenames,
    /// Errors of writes and syncs are kept from whoever asked.
    SwallowsErrors,
    /// A sync that fails is tried again, and the second answer given.
    SyncsAgain,
    /// The same of a folder's sync.
    SyncsFoldersAgain,
    /// Errors of reads are taken for the end of the file.
    TakesErrorsForTheEnd,
    /// A read that gives less than was asked for is taken for the end of the file.
    TakesShortReadsForTheEnd,
    /// A write is carried out page by page, each cleared first: a torn one takes its neighbours along.
    TearsNeighbours,
    /// A write is filled up to pages, by one read, which may give less than was asked for.
    FillsUpShortReads,
    /// A write is filled up to pages, with zeros where they cannot be read.
    FillsUpFailedReads,
    /// A file is created under a name of the disk's own and renamed; what a crash leaves of that is in the
    /// way of the next one.
    StumblesOverItsOwn,
    /// Writes are held back until the next sync, and reads do not know of them.
    HidesWrites,
    /// A file that is there is created again, and is empty.
    CreatesOver,
    /// Names are listed as they come.
    ListsInDisorder,
    /// Everybody gets the lock.
    LocksForAll,
    /// A file that was cut and grows again shows what it held.
    RemembersWhatWasCut,
}

pub const WRONGS: [Wrong; 17] = [
    Wrong::IgnoresSyncs,
    Wrong::IgnoresFolderSyncs,
    Wrong::ForgetsRenames,
    Wrong::SwallowsErrors,
    Wrong::SyncsAgain,
    Wrong::SyncsFoldersAgain,
    Wrong::TakesErrorsForTheEnd,
    Wrong::TakesShortReadsForTheEnd,
    Wrong::TearsNeighbours,
    Wrong::FillsUpShortReads,
    Wrong::FillsUpFailedReads,
    Wrong::StumblesOverItsOwn,
    Wrong::HidesWrites,
    Wrong::CreatesOver,
    Wrong::ListsInDisorder,
    Wrong::LocksForAll,
    Wrong::RemembersWhatWasCut,
];

/// How much such a disk clears before it writes.
const PAGE_SIZE: u64 = 256;

#[derive(Default)]
struct Memory {
    has_renamed: bool,
    /// What was held back, of every file.
    hidden: BTreeMap<PathBuf, Vec<(u64, Vec<u8>)>>,
    /// Where a file seemed to end.
    ends: BTreeMap<PathBuf, u64>,
    /// What was cut off.
    cut: BTreeMap<PathBuf, (u64, Vec<u8>)>,
}

/// A disk that is wrong in one way.
pub struct WrongDisk {
    beneath: Arc<dyn Disk>,
    wrong: Wrong,
    memory: Arc<Mutex<Memory>>,
}

impl WrongDisk {
    pub fn above(beneath: Arc<dyn Disk>, wrong: Wrong) -> Arc<dyn Disk> {
        Arc::new(Self { beneath, wrong, memory: Arc::default() })
    }

    fn create_in_two_steps(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        match self.beneath.open(path) {
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let own = path.with_file_name("creating");
        let file = self.beneath.create(&own)?;
        self.beneath.rename(&own, path)?;
        Ok(self.file(path, file))
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let memory = self.memory.clone();
        Box::new(WrongFile { beneath: file, wrong: self.wrong, path: path.to_owned(), memory })
    }
}

struct WrongFile {
    beneath: Box<dyn DiskFile>,
    wrong: Wrong,
    path: PathBuf,
    memory: Arc<Mutex<Memory>>,
}

impl Disk for WrongDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.wrong == Wrong::StumblesOverItsOwn {
            return self.create_in_two_steps(path);
        }
        let file = match self.beneath.create(path) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && self.wrong == Wrong::CreatesOver =>
            {
                let file = self.beneath.open(path)?;
                file.set_size(0)?;
                file
            }
            created => created?,
        };
        Ok(self.file(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.beneath.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.beneath.list(dir)?;
        if self.wrong == Wrong::ListsInDisorder {
            names.reverse();
        }
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.beneath.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut memory = self.memory.lock().unwrap();
        memory.has_renamed = true;
        if let Some(hidden) = memory.hidden.remove(from) {
            memory.hidden.insert(to.to_owned(), hidden);
        }
        self.beneath.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.beneath.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let has_renamed = std::mem::take(&mut self.memory.lock().unwrap().has_renamed);
        match self.wrong {
            Wrong::IgnoresFolderSyncs => Ok(()),
            Wrong::ForgetsRenames if has_renamed => Ok(()),
            Wrong::SwallowsErrors => self.beneath.sync_dir(dir).or(Ok(())),
            Wrong::SyncsFoldersAgain => {
                self.beneath.sync_dir(dir).or_else(|_| self.beneath.sync_dir(dir))
            }
            _ => self.beneath.sync_dir(dir),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<DiskSpace> {
        self.beneath.space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if self.wrong == Wrong::LocksForAll {
            return Ok(Box::new(()));
        }
        self.beneath.lock(path)
    }
}

impl WrongFile {
    fn write_pages(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let size = self.beneath.size_bytes()?;
        let first = offset - offset % PAGE_SIZE;
        let end = (offset + bytes.len() as u64).next_multiple_of(PAGE_SIZE).min(size);
        if end > first {
            let mut page = vec![0; usize::try_from(end - first).unwrap()];
            self.beneath.read_at(&mut page, first)?;
            self.beneath.write_at(&vec![0; page.len()], first)?;
            self.beneath.write_at(&page, first)?;
        }
        self.beneath.write_at(bytes, offset)
    }

    /// Writes whole pages, up to the end of the file.
    fn write_filled_up(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let size = self.beneath.size_bytes()?;
        let first = offset - offset % PAGE_SIZE;
        let end = (offset + bytes.len() as u64).next_multiple_of(PAGE_SIZE).min(size).max(first);
        let mut page = vec![0; usize::try_from(end - first).unwrap()];
        let mut done = 0;
        while done < page.len() {
            match self.beneath.read_at(&mut page[done..], first + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if self.wrong == Wrong::FillsUpFailedReads => break,
                Err(error) => return Err(error),
            }
            if self.wrong == Wrong::FillsUpShortReads {
                break;
            }
        }
        let at = usize::try_from(offset - first).unwrap();
        page.resize(page.len().max(at + bytes.len()), 0);
        page[at..at + bytes.len()].copy_from_slice(bytes);
        self.beneath.write_at(&page, first)
    }

    fn show_what_was_hidden(&self) -> io::Result<()> {
        let hidden = self.memory.lock().unwrap().hidden.remove(&self.path).unwrap_or_default();
        hidden.iter().try_for_each(|(offset, bytes)| self.beneath.write_at(bytes, *offset))
    }
}

impl DiskFile for WrongFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.beneath.size_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.beneath.read_at(buffer, offset);
        match self.wrong {
            Wrong::TakesErrorsForTheEnd => Ok(read.unwrap_or(0)),
            Wrong::TakesShortReadsForTheEnd => {
                let mut memory = self.memory.lock().unwrap();
                let end = memory.ends.get(&self.path).copied().unwrap_or(u64::MAX);
                let count = read?;
                if offset > 0 && offset >= end {
                    return Ok(0);
                }
                if count < buffer.len() {
                    memory.ends.insert(self.path.clone(), offset + count as u64);
                } else {
                    memory.ends.remove(&self.path);
                }
                Ok(count)
            }
            _ => read,
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.memory.lock().unwrap().ends.remove(&self.path);
        match self.wrong {
            Wrong::SwallowsErrors => self.beneath.write_at(bytes, offset).or(Ok(())),
            Wrong::TearsNeighbours => self.write_pages(bytes, offset),
            Wrong::FillsUpShortReads | Wrong::FillsUpFailedReads => {
                self.write_filled_up(bytes, offset)
            }
            Wrong::HidesWrites => {
                let mut memory = self.memory.lock().unwrap();
                memory.hidden.entry(self.path.clone()).or_default().push((offset, bytes.to_vec()));
                Ok(())
            }
            _ => self.beneath.write_at(bytes, offset),
        }
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let mut memory = self.memory.lock().unwrap();
        memory.ends.remove(&self.path);
        let size = self.beneath.size_bytes()?;
        if self.wrong == Wrong::RemembersWhatWasCut {
            if size_bytes < size {
                let mut cut = vec![0; usize::try_from(size - size_bytes).unwrap()];
                self.beneath.read_at(&mut cut, size_bytes)?;
                memory.cut.insert(self.path.clone(), (size_bytes, cut));
            } else if let Some((at, mut cut)) = memory.cut.remove(&self.path) {
                cut.truncate(usize::try_from(size_bytes.saturating_sub(at)).unwrap());
                return self.beneath.write_at(&cut, at);
            }
        }
        self.beneath.set_size(size_bytes)
    }

    fn reserve(&self, offset: u64, size_bytes: u64) -> io::Result<bool> {
        self.beneath.reserve(offset, size_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.show_what_was_hidden()?;
        match self.wrong {
            Wrong::IgnoresSyncs => Ok(()),
            Wrong::SwallowsErrors => self.beneath.sync().or(Ok(())),
            Wrong::SyncsAgain => self.beneath.sync().or_else(|_| self.beneath.sync()),
            _ => self.beneath.sync(),
        }
    }
}
