//! The engine on disk: one redb file, one table per space. Must not know what it stores; durability
//! between batches is the log's business.

use super::suspicion::{self, Patience, Watched};
use super::untouched::Untouched;
use super::{Cursor, Direction, Durability, Engine, EngineError, EngineView, Feed, Space, Write};
use ::redb::backends::FileBackend;
use ::redb::{
    AccessGuard, Database, Range, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageBackend,
    Table, TableDefinition, WriteTransaction,
};
use bytes::Bytes;
use std::fs::OpenOptions;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteTable<'a> = Table<'a, &'static [u8], &'static [u8]>;
type Guard = AccessGuard<'static, &'static [u8]>;

/// How much of the file redb keeps in memory, beside the system's own cache.
pub const CACHE_SIZE_BYTES_DEFAULT: usize = 256 << 20;

/// A file up to this size is read whole when it is opened, and every page compared with its
/// checksum: that takes no longer than a second or two.
const CHECKED_BYTES_MAX: u64 = 256 << 20;

/// How much of a file is kept in memory that is only looked at.
const LOOK_CACHE_SIZE_BYTES: usize = 16 << 20;
/// What is being done when a file cannot be opened.
const DOING: &str = "opened its file";

/// See the module.
pub struct RedbEngine {
    database: Database,
    path: PathBuf,
}

const fn definition(space: Space) -> Definition {
    TableDefinition::new(match space {
        Space::Meta => "meta",
        Space::Index => "index",
        Space::Rows => "rows",
        Space::Leases => "leases",
    })
}

fn failed<E: Into<::redb::Error>>(doing: &'static str) -> impl FnOnce(E) -> EngineError {
    move |error| {
        let error = error.into();
        let is_damage = matches!(error, ::redb::Error::Corrupted(_));
        let source = Box::new(error);
        if is_damage {
            EngineError::Damaged { doing, source }
        } else {
            EngineError::Failed { doing, source }
        }
    }
}

/// redb trusts the pages of a file that it closed itself, and panics on some damage of theirs.
fn guarded<T>(
    doing: &'static str,
    ask: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    // After a panic nothing of redb's is used any more but to be dropped: the store has failed.
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| {
        let source = "the engine met what it could not make sense of".into();
        Err(EngineError::Damaged { doing, source })
    })
}

impl RedbEngine {
    /// Opens the file, or makes it, with [`CACHE_SIZE_BYTES_DEFAULT`] of cache.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] if the file cannot be opened, or is none of redb's;
    /// [`EngineError::Damaged`] if it is damaged, as far as that shows; [`EngineError::Suspect`] if
    /// writing it failed in an earlier life.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::open_with_cache(path, CACHE_SIZE_BYTES_DEFAULT)
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub fn open_with_cache(path: &Path, cache_size_bytes: usize) -> Result<Self, EngineError> {
        Self::open_through(path, cache_size_bytes, Arc::new(|| false), |file| file)
    }

    /// Gives a store that is not to be used any more another name, where somebody may look at it; one of
    /// that name is replaced. What is not there need not be moved.
    ///
    /// # Errors
    ///
    /// What the disk says; the store may have moved then.
    pub fn set_aside(path: &Path, to: &Path) -> io::Result<()> {
        suspicion::set_aside(path, to)
    }

    /// As [`RedbEngine::open`], for a store that outlives a full disk: a write that finds no room asks
    /// `patience` whether to go on trying. It is no failure until that says no.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub fn open_patiently(path: &Path, patience: Patience) -> Result<Self, EngineError> {
        Self::open_through(path, CACHE_SIZE_BYTES_DEFAULT, patience, |file| file)
    }

    /// [`RedbEngine::open_with_cache`], with something between redb and the file.
    pub(super) fn open_through<B: StorageBackend>(
        path: &Path,
        cache_size_bytes: usize,
        patience: Patience,
        through: impl FnOnce(FileBackend) -> B,
    ) -> Result<Self, EngineError> {
        suspicion::check(path)?;
        let unreadable =
            |error: io::Error| EngineError::Failed { doing: DOING, source: error.into() };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(unreadable)?;
        let is_checked = file.metadata().map_err(unreadable)?.len() <= CHECKED_BYTES_MAX;
        let file = through(FileBackend::new(file).map_err(failed(DOING))?);
        let backend = Watched::new(file, path, patience);
        Self::open_in(backend, path, cache_size_bytes, is_checked)
    }

    /// Opens a file that exists, to look at: whatever redb writes to mend it is kept in memory, and
    /// the file stays as it is. Nothing but small changes should be made in what this returns.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub(crate) fn look(path: &Path) -> Result<Self, EngineError> {
        suspicion::look(path)?;
        let unreadable =
            |error: io::Error| EngineError::Failed { doing: DOING, source: error.into() };
        let file = Untouched::open(path).map_err(unreadable)?;
        let is_checked = file.len().map_err(unreadable)? <= CHECKED_BYTES_MAX;
        Self::open_in(file, path, LOOK_CACHE_SIZE_BYTES, is_checked)
    }

    fn open_in(
        backend: impl StorageBackend,
        path: &Path,
        cache_size_bytes: usize,
        is_checked: bool,
    ) -> Result<Self, EngineError> {
        let database = guarded(DOING, || {
            Database::builder()
                .set_cache_size(cache_size_bytes)
                .set_check_integrity_on_open(is_checked)
                .create_with_backend(backend)
                .map_err(failed(DOING))
        })?;
        let engine = Self { database, path: path.to_owned() };
        // A view can only be taken of tables that exist.
        engine.write_batch(Vec::new(), Durability::Now)?;
        Ok(engine)
    }

    fn begin(&self, durability: Durability) -> Result<WriteTransaction, EngineError> {
        let mut transaction = self.database.begin_write().map_err(failed("began a batch"))?;
        let redbs = match durability {
            Durability::Now => ::redb::Durability::Immediate,
            Durability::Later => ::redb::Durability::None,
        };
        transaction.set_durability(redbs).map_err(failed("began a batch"))?;
        // Otherwise the next start walks the whole file, unless this process closes it.
        transaction.set_quick_repair(durability == Durability::Now);
        Ok(transaction)
    }
}

/// The tables of a batch that is being written.
struct Tables<'a> {
    meta: WriteTable<'a>,
    index: WriteTable<'a>,
    rows: WriteTable<'a>,
    leases: WriteTable<'a>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, EngineError> {
        let open =
            |space| transaction.open_table(definition(space)).map_err(failed("opened a table"));
        Ok(Self {
            meta: open(Space::Meta)?,
            index: open(Space::Index)?,
            rows: open(Space::Rows)?,
            leases: open(Space::Leases)?,
        })
    }

    const fn get(&mut self, space: Space) -> &mut WriteTable<'a> {
        match space {
            Space::Meta => &mut self.meta,
            Space::Index => &mut self.index,
            Space::Rows => &mut self.rows,
            Space::Leases => &mut self.leases,
        }
    }

    fn write(&mut self, write: &Write) -> Result<(), EngineError> {
        match write {
            Write::Put { space, key, value } => {
                let table = self.get(*space);
                table.insert(key.as_slice(), value.as_slice()).map_err(failed("stored a row"))?;
            }
            Write::Delete { space, key } => {
                self.get(*space).remove(key.as_slice()).map_err(failed("deleted a row"))?;
            }
        }
        Ok(())
    }
}

impl Engine for RedbEngine {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        guarded("took a view", || {
            let transaction = self.database.begin_read().map_err(failed("took a view"))?;
            Ok(Arc::new(RedbView::new(&transaction)?) as Arc<dyn EngineView>)
        })
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        guarded("wrote a batch", || {
            let transaction = self.begin(durability)?;
            let mut tables = Tables::open(&transaction)?;
            for write in &batch {
                tables.write(write)?;
            }
            drop(tables);
            transaction.commit().map_err(failed("committed a batch"))
        })
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        guarded("replaced its content", || {
            let transaction = self.begin(Durability::Now)?;
            for space in Space::ALL {
                transaction.delete_table(definition(space)).map_err(failed("dropped a table"))?;
            }
            let mut tables = Tables::open(&transaction)?;
            loop {
                match next() {
                    Feed::Write(write) => tables.write(&write)?,
                    Feed::End => break,
                    // Dropping the transaction undoes it.
                    Feed::Abort => return Err(EngineError::Aborted),
                }
            }
            drop(tables);
            transaction.commit().map_err(failed("committed a replacement"))
        })
    }

    fn size_bytes(&self) -> u64 {
        // Only for people and quotas: a file that cannot be asked counts as empty.
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

/// The open tables keep the snapshot alive.
struct RedbView {
    meta: ReadTable,
    index: ReadTable,
    rows: ReadTable,
    leases: ReadTable,
}

impl RedbView {
    fn new(transaction: &ReadTransaction) -> Result<Self, EngineError> {
        let open =
            |space| transaction.open_table(definition(space)).map_err(failed("opened a table"));
        Ok(Self {
            meta: open(Space::Meta)?,
            index: open(Space::Index)?,
            rows: open(Space::Rows)?,
            leases: open(Space::Leases)?,
        })
    }

    const fn table(&self, space: Space) -> &ReadTable {
        match space {
            Space::Meta => &self.meta,
            Space::Index => &self.index,
            Space::Rows => &self.rows,
            Space::Leases => &self.leases,
        }
    }
}

impl EngineView for RedbView {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        guarded("read a row", || {
            let value = self.table(space).get(key).map_err(failed("read a row"))?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn Cursor>, EngineError> {
        let table = self.table(space);
        let range = guarded("began a scan", || {
            let range = match to {
                // Such a range is empty, and redb need not be asked what it thinks of it.
                Some(to) if to <= from => None,
                Some(to) => Some(table.range::<&[u8]>(from..to)),
                None => Some(table.range::<&[u8]>(from..)),
            };
            range.transpose().map_err(failed("began a scan"))
        })?;
        Ok(Box::new(RedbCursor { range, direction, row: None }))
    }
}

struct RedbCursor {
    range: Option<Range<'static, &'static [u8], &'static [u8]>>,
    direction: Direction,
    row: Option<(Guard, Guard)>,
}

impl Cursor for RedbCursor {
    fn advance(&mut self) -> Result<bool, EngineError> {
        self.row = None;
        self.row = guarded("went on with a scan", || {
            let row = self.range.as_mut().and_then(|range| match self.direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            });
            let row = row.transpose().map_err(failed("went on with a scan"))?;
            // That both can be had is found out here, where it may fail.
            Ok(row.inspect(|(key, value)| {
                let _ = (key.value(), value.value());
            }))
        })?;
        Ok(self.row.is_some())
    }

    fn key(&self) -> &[u8] {
        self.row.as_ref().map_or(&[], |(key, _)| key.value())
    }

    fn value(&self) -> &[u8] {
        self.row.as_ref().map_or(&[], |(_, value)| value.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::redb::DatabaseError;

    const ROW_COUNT: u32 = 2000;

    fn put(number: u32) -> Write {
        let (space, key) = (Space::Rows, number.to_be_bytes().to_vec());
        Write::Put { space, key, value: vec![7; 100] }
    }

    fn row_count(engine: &RedbEngine) -> usize {
        let view = engine.view().unwrap();
        let mut rows = view.scan(Space::Rows, &[], None, Direction::Forward).unwrap();
        let mut count = 0;
        while rows.advance().unwrap() {
            count += 1;
        }
        count
    }

    /// What a SIGKILL now would leave.
    fn killed(path: &Path) -> PathBuf {
        let copy = path.with_added_extension("killed");
        std::fs::copy(path, &copy).unwrap();
        copy
    }

    /// Whether redb opens a file without walking all of it.
    fn opens_at_once(path: &Path) -> bool {
        let mut builder = Database::builder();
        match builder.set_repair_callback(::redb::RepairSession::abort).open(path) {
            Ok(_) => true,
            Err(DatabaseError::RepairAborted) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_file_that_was_not_closed_is_opened_without_walking_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let engine = RedbEngine::open(&path).unwrap();
        assert!(opens_at_once(&killed(&path)), "a fresh one");
        engine.write_batch((0..ROW_COUNT).map(put).collect(), Durability::Now).unwrap();
        assert!(opens_at_once(&killed(&path)), "after a batch");
        engine.write_batch(vec![put(ROW_COUNT)], Durability::Later).unwrap();
        assert!(opens_at_once(&killed(&path)), "while a batch is not durable");
        let found = row_count(&RedbEngine::open(&killed(&path)).unwrap());
        assert_eq!(found, usize::try_from(ROW_COUNT).unwrap(), "what was durable is there");
        let mut left = 10;
        let mut next = || {
            left -= 1;
            if left == 0 { Feed::End } else { Feed::Write(put(left)) }
        };
        engine.replace(&mut next).unwrap();
        assert!(opens_at_once(&killed(&path)), "after a replacement");
        assert_eq!(row_count(&RedbEngine::open(&killed(&path)).unwrap()), 9);
    }

    /// A file of a program from before that, which was killed: its next start walks it, and no later
    /// one does.
    #[test]
    fn a_file_that_needs_a_walk_needs_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let engine = RedbEngine::open(&path).unwrap();
        let transaction = engine.database.begin_write().unwrap();
        Tables::open(&transaction).unwrap().write(&put(1)).unwrap();
        transaction.commit().unwrap();
        let copy = killed(&path);
        assert!(!opens_at_once(&copy), "as it was");
        let engine = RedbEngine::open(&copy).unwrap();
        assert_eq!(row_count(&engine), 1);
        assert!(opens_at_once(&killed(&copy)), "killed right after the start");
    }

    /// Each batch is durable before it counts: damage of the newest state has no innocent reason.
    #[test]
    fn a_damaged_newest_state_is_refused_and_the_one_before_it_never_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let engine = RedbEngine::open(&path).unwrap();
        engine.write_batch((0..ROW_COUNT).map(put).collect(), Durability::Now).unwrap();
        let before = std::fs::read(&path).unwrap();
        engine.write_batch((0..ROW_COUNT + 50).map(put).collect(), Durability::Now).unwrap();
        let after = std::fs::read(&path).unwrap();
        let differs = |place: &usize| before.get(*place) != after.get(*place);
        // Behind the header, one bit of which says which of two states counts.
        let places: Vec<usize> = (4096..after.len()).filter(differs).collect();
        let mut refused_count = 0;
        for place in places.iter().step_by(places.len() / 40) {
            let mut damaged = after.clone();
            *damaged.get_mut(*place).unwrap() ^= 1;
            let copy = folder.path().join("damaged");
            std::fs::write(&copy, damaged).unwrap();
            match RedbEngine::open(&copy) {
                Ok(engine) => {
                    let expected = usize::try_from(ROW_COUNT + 50).unwrap();
                    assert_eq!(row_count(&engine), expected, "byte {place}");
                }
                Err(error) => {
                    assert!(error.is_damage(), "byte {place}: {error}");
                    refused_count += 1;
                }
            }
        }
        assert!(refused_count > 0, "none of {} met a page in use", places.len());
    }
}
