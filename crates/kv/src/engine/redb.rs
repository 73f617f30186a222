//! One file of redb's as an engine, one table per space. Must not know what it stores, nor what the file
//! is called; durability between batches is the log's business.

use super::place::DOING;
use super::suspicion::{Standing, Stands};
use super::{Cursor, Direction, Durability, EngineError, EngineView, Feed, Space, Write};
use crate::background;
use ::redb::{
    AccessGuard, Database, Range, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTableMetadata, StorageBackend, Table, TableDefinition, WriteTransaction,
};
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteTable<'a> = Table<'a, &'static [u8], &'static [u8]>;
type Guard = AccessGuard<'static, &'static [u8]>;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    pub(super) cache_size_bytes: usize,
    /// Whether it is read whole, and every page compared with its checksum.
    pub(super) is_checked: bool,
    /// Whether a crash makes it worthless: its batches need not say which pages are free.
    pub(super) is_draft: bool,
}

/// See the module.
pub(super) struct RedbFile {
    /// There, but for the end.
    database: Option<Database>,
    standing: Standing,
    is_draft: bool,
}

const fn definition(space: Space) -> Definition {
    TableDefinition::new(match space {
        Space::Meta => "meta",
        Space::Index => "index",
        Space::Rows => "rows",
        Space::Leases => "leases",
    })
}

pub(super) fn failed<E: Into<::redb::Error>>(doing: &'static str) -> impl FnOnce(E) -> EngineError {
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
pub(super) fn guarded<T>(
    doing: &'static str,
    ask: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    // After a panic nothing of redb's is used any more but to be dropped: the store has failed.
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| {
        let source = "the engine met what it could not make sense of".into();
        Err(EngineError::Damaged { doing, source })
    })
}

impl RedbFile {
    pub(super) fn open(
        file: impl StorageBackend,
        standing: Standing,
        opening: Opening,
    ) -> Result<Self, EngineError> {
        let database = guarded(DOING, || {
            Database::builder()
                .set_cache_size(opening.cache_size_bytes)
                .set_check_integrity_on_open(opening.is_checked)
                .create_with_backend(file)
                .map_err(failed(DOING))
        })?;
        let file = Self { database: Some(database), standing, is_draft: opening.is_draft };
        // A view can only be taken of tables that exist.
        file.write(&[], Durability::Now)?;
        Ok(file)
    }

    pub(super) fn database(&self) -> Result<&Database, EngineError> {
        let closed =
            || EngineError::Failed { doing: "used its file", source: "it is closed".into() };
        self.database.as_ref().ok_or_else(closed)
    }

    /// Closes it, as small as it can be.
    pub(super) fn close(mut self) -> Result<(), EngineError> {
        guarded("closed a file", || {
            let closed = self.database.take().map(Database::close);
            closed.transpose().map_err(failed("closed a file")).map(Option::unwrap_or_default)
        })
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    fn begin(&self, durability: Durability) -> Result<WriteTransaction, EngineError> {
        let database = self.database()?;
        let mut transaction = database.begin_write().map_err(failed("began a batch"))?;
        let redbs = match durability {
            Durability::Now => ::redb::Durability::Immediate,
            Durability::Later => ::redb::Durability::None,
        };
        transaction.set_durability(redbs).map_err(failed("began a batch"))?;
        // Otherwise the next start walks the whole file, unless this process closes it.
        transaction.set_quick_repair(durability == Durability::Now && !self.is_draft);
        Ok(transaction)
    }

    /// The content as of the last batch. It keeps the file open.
    pub(super) fn view(self: &Arc<Self>) -> Result<RedbView, EngineError> {
        guarded("took a view", || {
            let transaction = self.database()?.begin_read().map_err(failed("took a view"))?;
            RedbView::new(&transaction, Arc::clone(self))
        })
    }

    /// Carries out a batch, all or nothing.
    pub(super) fn write<'w>(
        &self,
        batch: impl IntoIterator<Item = &'w Write>,
        durability: Durability,
    ) -> Result<(), EngineError> {
        guarded("wrote a batch", || {
            let transaction = self.begin(durability)?;
            let mut tables = Tables::open(&transaction)?;
            for write in batch {
                tables.write(write)?;
            }
            drop(tables);
            transaction.commit().map_err(failed("committed a batch"))
        })
    }

    /// As [`super::Engine::replace`].
    pub(super) fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
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
}

impl Drop for RedbFile {
    fn drop(&mut self) {
        // The last reader of a file without a name frees what it took on disk, which may take a while.
        let database = self.database.take();
        if self.standing.get() == Stands::Retired {
            background::apart(Box::new(move || drop(database)));
        }
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

/// The open tables keep the snapshot alive, for as long as the file is open.
pub(super) struct RedbView {
    meta: ReadTable,
    index: ReadTable,
    rows: ReadTable,
    leases: ReadTable,
    file: Arc<RedbFile>,
}

impl RedbView {
    fn new(transaction: &ReadTransaction, file: Arc<RedbFile>) -> Result<Self, EngineError> {
        let open =
            |space| transaction.open_table(definition(space)).map_err(failed("opened a table"));
        Ok(Self {
            meta: open(Space::Meta)?,
            index: open(Space::Index)?,
            rows: open(Space::Rows)?,
            leases: open(Space::Leases)?,
            file,
        })
    }

    /// How many rows a space has, as the engine counted them when they were written.
    pub(super) fn row_count(&self, space: Space) -> Result<u64, EngineError> {
        guarded("counted rows", || self.table(space).len().map_err(failed("counted rows")))
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
        Ok(Box::new(RedbCursor { range, direction, row: None, _file: Arc::clone(&self.file) }))
    }
}

struct RedbCursor {
    range: Option<Range<'static, &'static [u8], &'static [u8]>>,
    direction: Direction,
    row: Option<(Guard, Guard)>,
    /// Last, since it may be closed when this is dropped.
    _file: Arc<RedbFile>,
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
    use crate::engine::{Engine, RedbEngine};
    use ::redb::DatabaseError;
    use std::path::{Path, PathBuf};

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
        let transaction = engine.current().database().unwrap().begin_write().unwrap();
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
