//! A file that is read and never written: what is written to it stays in memory, page by page, so
//! that an engine can mend a file that was not closed and whoever only looks changes nothing. Must not
//! know what the file holds.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Changes are kept in pieces of this size.
const PAGE_BYTES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Untouched {
    file: File,
    changed: Mutex<Changed>,
}

/// What differs from the file.
#[derive(Debug)]
struct Changed {
    size_bytes: u64,
    /// How much of the file is still part of it.
    file_bytes: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

/// A piece of a page: which, from where in it, and how many bytes.
struct Piece {
    page: u64,
    start: usize,
    length: usize,
}

impl Untouched {
    /// Opens a file that exists.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let changed = Changed { size_bytes, file_bytes: size_bytes, pages: BTreeMap::new() };
        Ok(Self { file, changed: Mutex::new(changed) })
    }

    fn changed(&self) -> MutexGuard<'_, Changed> {
        // Pages are put in whole: a panic elsewhere leaves nothing half-done.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has there, and zeros behind what is left of it.
    fn read_file(&self, file_bytes: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let in_file = file_bytes.saturating_sub(offset);
        let count = usize::try_from(in_file).unwrap_or(usize::MAX).min(out.len());
        let (old, new) = out.split_at_mut(count);
        new.fill(0);
        self.file.read_exact_at(old, offset)
    }

    fn page(&self, file_bytes: u64, page: u64) -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; PAGE_BYTES].into_boxed_slice();
        self.read_file(file_bytes, page * PAGE_BYTES as u64, &mut bytes)?;
        Ok(bytes)
    }
}

impl Changed {
    fn check(&self, offset: u64, length: usize) -> io::Result<()> {
        let end = offset.checked_add(length as u64);
        if end.is_some_and(|end| end <= self.size_bytes) {
            return Ok(());
        }
        let text = format!("bytes {offset} and {length} more, of {}", self.size_bytes);
        Err(io::Error::new(ErrorKind::UnexpectedEof, text))
    }
}

/// The pieces of which so many bytes from `offset` on consist.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = Piece> {
    let page_bytes = PAGE_BYTES as u64;
    let mut at = offset;
    let mut left = length;
    std::iter::from_fn(move || {
        let start = usize::try_from(at % page_bytes).unwrap_or_default();
        let piece = Piece { page: at / page_bytes, start, length: left.min(PAGE_BYTES - start) };
        at += piece.length as u64;
        left -= piece.length;
        (piece.length > 0).then_some(piece)
    })
}

impl StorageBackend for Untouched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed().size_bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = self.changed();
        changed.check(offset, out.len())?;
        self.read_file(changed.file_bytes, offset, out)?;
        let mut rest = out;
        for Piece { page, start, length } in pieces(offset, rest.len()) {
            let (piece, behind) = rest.split_at_mut(length);
            let new = changed.pages.get(&page).and_then(|page| page.get(start..start + length));
            if let Some(new) = new {
                piece.copy_from_slice(new);
            }
            rest = behind;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = self.changed();
        if len < changed.size_bytes {
            let (page, start) = (len / PAGE_BYTES as u64, len % PAGE_BYTES as u64);
            let _gone = changed.pages.split_off(&(page + u64::from(start > 0)));
            let start = usize::try_from(start).unwrap_or_default();
            // Should it grow again, there are zeros.
            let cut = changed.pages.get_mut(&page).and_then(|page| page.get_mut(start..));
            cut.unwrap_or_default().fill(0);
        }
        changed.file_bytes = changed.file_bytes.min(len);
        changed.size_bytes = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut guard = self.changed();
        guard.check(offset, data.len())?;
        let Changed { file_bytes, pages, .. } = &mut *guard;
        let mut rest = data;
        for Piece { page, start, length } in pieces(offset, rest.len()) {
            let (new, behind) = rest.split_at(length);
            let there = match pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => place.insert(self.page(*file_bytes, page)?),
            };
            if let Some(old) = there.get_mut(start..start + length) {
                old.copy_from_slice(new);
            }
            rest = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it should be, kept in one piece.
    fn compare(file: &Untouched, model: &[u8]) {
        assert_eq!(file.len().unwrap(), model.len() as u64);
        let mut all = vec![7; model.len()];
        file.read(0, &mut all).unwrap();
        assert!(all == model, "the whole");
        for offset in [0, 1, 4095, 4096, 5000] {
            let part = model.get(offset..offset + 4200).unwrap_or_default();
            if part.is_empty() {
                continue;
            }
            let mut read = vec![7; part.len()];
            file.read(offset as u64, &mut read).unwrap();
            assert!(read == part, "from {offset}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_the_file_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let before: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        std::fs::write(&path, &before).unwrap();
        let file = Untouched::open(&path).unwrap();
        let mut model = before.clone();
        compare(&file, &model);
        for (offset, length) in [(10, 20), (4090, 12), (0, 9000), (9990, 10)] {
            let data = vec![u8::try_from(length % 251).unwrap(); length];
            file.write(offset as u64, &data).unwrap();
            model[offset..offset + length].copy_from_slice(&data);
            compare(&file, &model);
        }
        for size_bytes in [20_000, 4100, 9999, 8192, 12_000, 0, 6000] {
            file.set_len(size_bytes as u64).unwrap();
            model.resize(size_bytes, 0);
            compare(&file, &model);
        }
        file.sync_data().unwrap();
        assert!(file.read(5999, &mut [0; 2]).is_err(), "behind the end");
        assert!(file.write(6000, &[1]).is_err(), "behind the end");
        drop(file);
        assert!(std::fs::read(&path).unwrap() == before);
    }
}
