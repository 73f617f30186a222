//! What a disk should hold, and what a crash may have left of it: per name the files that it may stand
//! for, per byte the values that it may have. Must not know how a machine crashes.

use crate::finding::{Finding, Promise};
use quorate_wal::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    files: Vec<FileModel>,
    names: BTreeMap<String, usize>,
    /// What each name may stand for after a crash.
    possible: BTreeMap<String, BTreeSet<Option<usize>>>,
    /// Every file that each name has ever stood for.
    former: BTreeMap<String, BTreeSet<usize>>,
}

#[derive(Clone, Debug, Default)]
struct FileModel {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

/// A read that did not go as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRead {
    #[error("{0}")]
    Failed(#[from] io::Error),
    #[error("{0}")]
    Differs(String),
}

impl Model {
    fn may_stand_for(&mut self, name: &str, file: Option<usize>) {
        let possible = self.possible.entry(name.to_owned()).or_insert_with(|| [None].into());
        possible.insert(file);
    }

    fn bind(&mut self, name: &str, file: usize) {
        self.names.insert(name.to_owned(), file);
        self.former.entry(name.to_owned()).or_default().insert(file);
        self.may_stand_for(name, Some(file));
    }

    fn unbind(&mut self, name: &str) -> Option<usize> {
        self.may_stand_for(name, None);
        self.names.remove(name)
    }

    pub(super) fn create(&mut self, name: &str) {
        self.files.push(FileModel::default());
        self.bind(name, self.files.len() - 1);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(file) = self.unbind(from) {
            self.bind(to, file);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.unbind(name);
    }

    fn file_mut(&mut self, name: &str) -> Option<&mut FileModel> {
        let file = *self.names.get(name)?;
        self.files.get_mut(file)
    }

    pub(super) fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) {
        let Some(file) = self.file_mut(name) else { return };
        let end = offset + bytes.len();
        if file.current.len() < end {
            file.current.resize(end, 0);
        }
        if let Some(place) = file.current.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        file.pending.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn set_size(&mut self, name: &str, size: usize) {
        let Some(file) = self.file_mut(name) else { return };
        file.current.resize(size, 0);
        file.pending.push(Change::Size(size));
    }

    pub(super) fn synced(&mut self, name: &str) {
        let Some(file) = self.file_mut(name) else { return };
        file.pending.clear();
        file.durable.clone_from(&file.current);
    }

    pub(super) fn dir_synced(&mut self) {
        for (name, possible) in &mut self.possible {
            *possible = [self.names.get(name).copied()].into();
        }
    }

    /// Reads one file as it should be now.
    pub(super) fn check_read(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        name: &str,
    ) -> Result<(), BadRead> {
        let Some(file) = self.names.get(name).and_then(|at| self.files.get(*at)) else {
            return Ok(());
        };
        let open = disk.open(&dir.join(name))?;
        let size = open.size_bytes()?;
        let found = read_whole(open.as_ref())?;
        if size != file.current.len() as u64 || found != file.current {
            return Err(BadRead::Differs(difference(name, &file.current, &found, size)));
        }
        Ok(())
    }

    /// Reads everything as it should be now, and the list of names.
    pub(super) fn check_reads(&self, disk: &dyn Disk, dir: &Path) -> Result<(), BadRead> {
        self.names.keys().try_for_each(|name| self.check_read(disk, dir, name))?;
        let listed = disk.list(dir)?;
        let expected: Vec<&String> = self.names.keys().collect();
        if listed.iter().collect::<Vec<_>>() != expected {
            let found = format!("the names {expected:?} were expected, {listed:?} were listed");
            return Err(BadRead::Differs(found));
        }
        Ok(())
    }

    /// Looks at what a crash has left.
    pub(super) fn judge(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Finding> {
        let listed = match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|error| failed(&error))?,
        };
        for (name, possible) in &self.possible {
            let found = match disk.open(&dir.join(name)) {
                Ok(file) => Some(read_whole(file.as_ref()).map_err(|error| failed(&error))?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(failed(&error)),
            };
            if listed.contains(name) != found.is_some() {
                let found = format!("{name} can be opened or is listed, but not both");
                return Err(Finding::new(Promise::NothingElseAppears, found));
            }
            match found {
                Some(found) => self.judge_file(name, possible, &found)?,
                None if possible.contains(&None) => {}
                None => {
                    let found = format!("{name} is not there, although its name was synced");
                    return Err(Finding::new(Promise::SyncedNamesStay, found));
                }
            }
        }
        Ok(())
    }

    fn judge_file(
        &self,
        name: &str,
        possible: &BTreeSet<Option<usize>>,
        bytes: &[u8],
    ) -> Result<(), Finding> {
        let candidates = possible.iter().flatten().filter_map(|file| self.files.get(*file));
        let mut refusal = None;
        for candidate in candidates {
            match candidate.allows(bytes) {
                Ok(()) => return Ok(()),
                Err((promise, why)) => refusal = Some((promise, format!("{name}: {why}"))),
            }
        }
        let Some((mut promise, mut found)) = refusal else {
            let found = format!("{name} is there, although it was synced that it is not");
            return Err(Finding::new(Promise::SyncedNamesStay, found));
        };
        if self.is_former(name, possible, bytes) {
            promise = Promise::SyncedNamesStay;
            found = format!("{found}; that is another file, which had this name before");
        } else if possible.iter().flatten().count() > 1 && promise == Promise::SyncedBytesStay {
            // Of several files that the name may stand for none fits: then it is none of them.
            promise = Promise::NothingElseAppears;
        }
        Err(Finding::new(promise, found))
    }

    /// Whether these are the bytes of a file that a name stands for no more.
    fn is_former(&self, name: &str, possible: &BTreeSet<Option<usize>>, bytes: &[u8]) -> bool {
        let former = self.former.get(name).into_iter().flatten();
        former
            .filter(|file| !possible.contains(&Some(**file)))
            .filter_map(|file| self.files.get(*file))
            .any(|file| file.allows(bytes).is_ok())
    }
}

fn failed(error: &io::Error) -> Finding {
    Finding::new(Promise::NoErrorWithoutCause, format!("after the crash: {error}"))
}

fn difference(name: &str, expected: &[u8], found: &[u8], size: u64) -> String {
    let at = expected.iter().zip(found).position(|(one, other)| one != other);
    format!(
        "{name}: {} bytes were expected, {} were read, and the length is said to be {size}; the first \
         other byte: {at:?}",
        expected.len(),
        found.len(),
    )
}

/// Reads as whoever uses a disk has to: until nothing comes any more.
pub(super) fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    let mut piece = vec![0; 1000];
    loop {
        let count = file.read_at(&mut piece, whole.len() as u64)?;
        match piece.get(..count) {
            Some([]) => return Ok(whole),
            Some(read) => whole.extend_from_slice(read),
            None => {
                let count = format!("a read of 1000 bytes says that it gave {count}");
                return Err(io::Error::other(count));
            }
        }
    }
}

impl FileModel {
    /// Whether a crash may have left this.
    fn allows(&self, found: &[u8]) -> Result<(), (Promise, String)> {
        self.allows_length(found.len())?;
        for (at, byte) in found.iter().enumerate() {
            let is_cut = |change: &Change| matches!(change, Change::Size(size) if *size <= at);
            let written = |change: &Change| match change {
                Change::Write(offset, bytes) => bytes.get(at.checked_sub(*offset)?).copied(),
                Change::Size(_) => None,
            };
            let durable = self.durable.get(at).copied().unwrap_or(0);
            let is_right = *byte == durable
                || self.pending.iter().any(|change| written(change) == Some(*byte))
                || (*byte == 0 && self.pending.iter().any(is_cut));
            if !is_right {
                let is_synced = !self.pending.iter().any(|it| is_cut(it) || written(it).is_some());
                let promise = promise(is_synced);
                return Err((promise, format!("byte {at} is {byte}; it was synced as {durable}")));
            }
        }
        Ok(())
    }

    /// A length is one on the way from the durable one through those since: how a disk grows or cuts a
    /// file is nobody's business.
    fn allows_length(&self, length: usize) -> Result<(), (Promise, String)> {
        let (mut shortest, mut longest) = (self.durable.len(), self.durable.len());
        for change in &self.pending {
            match change {
                Change::Write(offset, bytes) => longest = longest.max(offset + bytes.len()),
                Change::Size(size) => {
                    (shortest, longest) = (shortest.min(*size), longest.max(*size));
                }
            }
        }
        if (shortest..=longest).contains(&length) {
            return Ok(());
        }
        let promise = promise(length < shortest || self.pending.is_empty());
        Err((promise, format!("{length} bytes; {} were synced", self.durable.len())))
    }
}

fn promise(is_synced: bool) -> Promise {
    if is_synced { Promise::SyncedBytesStay } else { Promise::NothingElseAppears }
}
