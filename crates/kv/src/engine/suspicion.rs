//! Remembers beside a file, over a restart, that writing it failed: after a failed sync the system
//! may give back what never reached the disk, and a later sync may succeed. A write that finds no room
//! is no such failure: it is tried again for as long as somebody has patience, and the engine above,
//! which would not go on after an error, hears of nothing. Must not know what the file holds.

use super::EngineError;
use super::place::sync_folder_of;
use quorate::wal::is_full;
use redb::{BackendError, StorageBackend};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

type Locked<T> = Result<T, BackendError>;

const WORDS: &str = "Writing the file beside this one failed. What it says since then cannot be \
                     believed.\n";

/// Asked when a write has found no room: whether to try it again. It may block for a while.
pub type Patience = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a file is to the store at present. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Standing(Arc<Mutex<Stands>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It may become the store's. If it cannot be written, that is no loss, and nobody waits for it.
    Next,
    /// It is the store's.
    Current,
    /// It was the store's, and has no name any more: who still reads it may go on.
    Retired,
}

impl Standing {
    pub(super) fn new(stands: Stands) -> Self {
        Self(Arc::new(Mutex::new(stands)))
    }

    pub(super) fn get(&self) -> Stands {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, stands: Stands) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stands;
    }
}

/// A file of the engine whose failures are written down before anybody hears of them.
#[derive(Debug)]
pub(super) struct Watched {
    file: Box<dyn StorageBackend>,
    watch: Watch,
}

/// Who writes them down. Clones speak of the same file.
#[derive(Clone)]
pub(super) struct Watch {
    marker: PathBuf,
    patience: Patience,
    pub(super) standing: Standing,
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watch").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(path: &Path, patience: Patience, stands: Stands) -> Self {
        Self { marker: marker_of(path), patience, standing: Standing::new(stands) }
    }

    /// Of a file that may come to lie there.
    pub(super) fn next(&self) -> Self {
        Self { standing: Standing::new(Stands::Next), ..self.clone() }
    }

    /// Of the file that lies there now.
    pub(super) fn current(&self) -> Self {
        Self { standing: Standing::new(Stands::Current), ..self.clone() }
    }

    /// The file cannot be believed any more because of `error`; returns that, to be handed on.
    pub(super) fn suspect(&self, error: io::Error) -> io::Error {
        if self.standing.get() != Stands::Current {
            return error;
        }
        match mark(&self.marker) {
            Ok(()) => error,
            Err(second) => {
                let marker = self.marker.display();
                let text = format!("{error}; and {marker} could not be written: {second}");
                io::Error::new(error.kind(), text)
            }
        }
    }

    /// Does it, and does it again while there is no room for it. Without room what was there before is
    /// what it was, and a part that was written is written again.
    fn patiently(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        loop {
            match write() {
                Err(error) if !is_full(&error) => return Err(self.suspect(error)),
                Err(error) if self.standing.get() == Stands::Next => return Err(error),
                Err(error) if !(self.patience)() => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    /// What nobody will look at is not written.
    fn check(&self) -> io::Result<()> {
        match self.standing.get() {
            Stands::Retired => {
                Err(io::Error::other("another file has taken the place of this one"))
            }
            Stands::Next | Stands::Current => Ok(()),
        }
    }
}

impl Watched {
    pub(super) fn new(file: Box<dyn StorageBackend>, watch: Watch) -> Self {
        Self { file, watch }
    }
}

/// Refuses a file that is under suspicion.
///
/// # Errors
///
/// [`EngineError::Suspect`] for such a file, [`EngineError::Failed`] if that cannot be found out.
pub(super) fn check(path: &Path) -> Result<(), EngineError> {
    let failed = |error: io::Error| EngineError::Failed {
        doing: "looked for an earlier failure",
        source: error.into(),
    };
    let marker = marker_of(path);
    if !marker.try_exists().map_err(failed)? {
        return Ok(());
    }
    if path.try_exists().map_err(failed)? {
        return Err(EngineError::Suspect { marker });
    }
    // Somebody took the file away: a new one is not to blame.
    fs::remove_file(&marker).and_then(|()| sync_folder_of(&marker)).map_err(failed)
}

/// Whether a file is under suspicion, found out without removing anything.
///
/// # Errors
///
/// As [`check`].
pub(super) fn look(path: &Path) -> Result<(), EngineError> {
    let marker = marker_of(path);
    match marker.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(EngineError::Suspect { marker }),
        Err(error) => Err(EngineError::Failed {
            doing: "looked for an earlier failure",
            source: error.into(),
        }),
    }
}

fn marker_of(path: &Path) -> PathBuf {
    path.with_added_extension("suspect")
}

/// See [`super::RedbEngine::set_aside`]. The file goes first: without it the marker says nothing of use.
pub(super) fn set_aside(path: &Path, to: &Path) -> io::Result<()> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    for moved in [fs::rename(path, to), fs::remove_file(marker_of(path))] {
        moved.or_else(|error| if is_missing(&error) { Ok(()) } else { Err(error) })?;
    }
    sync_folder_of(path)
}

fn mark(marker: &Path) -> io::Result<()> {
    let mut file = File::create(marker)?;
    file.write_all(WORDS.as_bytes())?;
    file.sync_all()?;
    sync_folder_of(marker)
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch.patiently(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.check()?;
        self.file.sync_data().map_err(|error| self.watch.suspect(error))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch.patiently(|| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::place::Through;
    use crate::engine::{Engine, RedbEngine};
    use crate::{BackgroundThread, CommandKind, PutRequest};
    use prost::Message;
    use quorate::core::{LogId, LogIndex, Term};
    use quorate::{Committed, Replies, StateMachine};
    use redb::backends::FileBackend;
    use std::io::ErrorKind;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    /// A disk that says no when it is told to: to a write or to a sync.
    #[derive(Clone, Debug, Default)]
    struct Trouble {
        of_write: Arc<Mutex<Option<ErrorKind>>>,
        of_sync: Arc<AtomicBool>,
    }

    #[derive(Debug)]
    struct Troubled(FileBackend, Trouble);

    impl StorageBackend for Troubled {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            let fails = self.1.of_sync.load(Ordering::Relaxed);
            if fails { Err(io::Error::other("no sync")) } else { self.0.sync_data() }
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            match *self.1.of_write.lock().unwrap() {
                Some(kind) => Err(kind.into()),
                None => self.0.write(offset, data),
            }
        }
    }

    fn open(path: &Path, trouble: &Trouble) -> RedbEngine {
        open_patiently(path, trouble, Arc::new(|| false))
    }

    fn open_patiently(path: &Path, trouble: &Trouble, patience: Patience) -> RedbEngine {
        let trouble = trouble.clone();
        let through: Through = Box::new(move |file| Box::new(Troubled(file, trouble.clone())));
        RedbEngine::open_through(path, 1 << 20, patience, through).unwrap()
    }

    fn apply(store: &mut crate::KvStateMachine, index: u64) {
        let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let command = crate::Command::new(CommandKind::Put(put)).encode_to_vec().into();
        let log_id = LogId::new(Term::new(1), LogIndex::new(index));
        store.apply(&[Committed { log_id, command }], &mut Replies::default()).unwrap();
    }

    /// Whether a store on such a disk fails, and what the next start on a good disk makes of it.
    fn life(path: &Path, begin: impl FnOnce(&Trouble)) -> Option<EngineError> {
        let trouble = Trouble::default();
        let engine = Arc::new(open(path, &trouble));
        let background = Arc::new(BackgroundThread::start().unwrap());
        let (mut store, reader) = crate::open(engine, background).unwrap();
        apply(&mut store, 1);
        store.flush().unwrap();
        apply(&mut store, 2);
        begin(&trouble);
        assert!(store.flush().is_err());
        assert!(reader.failure().is_some(), "the store takes nothing any more");
        // The disk is well again, as if nothing had been: what redb writes at its end succeeds.
        trouble.of_sync.store(false, Ordering::Relaxed);
        *trouble.of_write.lock().unwrap() = None;
        drop((store, reader));
        RedbEngine::open(path).err()
    }

    #[test]
    fn a_failed_write_of_the_engine_makes_the_next_start_distrust_it() {
        let folder = tempfile::tempdir().unwrap();
        for what in ["sync", "write"] {
            let fail = |trouble: &Trouble| match what {
                "sync" => trouble.of_sync.store(true, Ordering::Relaxed),
                _ => *trouble.of_write.lock().unwrap() = Some(ErrorKind::Other),
            };
            let path = folder.path().join(what);
            let refused = life(&path, fail).expect(what);
            assert!(matches!(refused, EngineError::Suspect { .. }), "{what}: {refused}");
            assert!(refused.is_damage() && refused.to_string().contains("suspect"), "{refused}");
            assert!(RedbEngine::open(&path).is_err(), "{what}: and the one after that");
            // Whoever takes the file away starts anew, and is not suspected for long.
            fs::rename(&path, folder.path().join("aside")).unwrap();
            drop(RedbEngine::open(&path).unwrap());
            assert!(RedbEngine::open(&path).unwrap().view().is_ok());
        }
    }

    #[test]
    fn a_store_on_a_full_disk_is_read_and_goes_on_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let trouble = Trouble::default();
        // Asked for the third time, it finds that somebody has made room; meanwhile there are readers.
        let (asked, reader) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None)));
        let (count, reading, room) = (Arc::clone(&asked), Arc::clone(&reader), trouble.clone());
        let patience = move || {
            let reader: Option<crate::Reader> = reading.lock().unwrap().clone();
            let request = crate::RangeRequest { key: "k".into(), ..Default::default() };
            assert_eq!(reader.unwrap().range(&request).unwrap().kvs.len(), 1);
            if count.fetch_add(1, Ordering::Relaxed) == 2 {
                *room.of_write.lock().unwrap() = None;
            }
            true
        };
        let engine = Arc::new(open_patiently(&path, &trouble, Arc::new(patience)));
        let background = Arc::new(BackgroundThread::start().unwrap());
        let (mut store, of_store) = crate::open(engine, background).unwrap();
        *reader.lock().unwrap() = Some(of_store.clone());
        apply(&mut store, 1);
        store.flush().unwrap();
        apply(&mut store, 2);
        *trouble.of_write.lock().unwrap() = Some(ErrorKind::StorageFull);
        store.flush().unwrap();
        assert!(asked.load(Ordering::Relaxed) >= 3);
        assert_eq!((of_store.failure(), store.applied()), (None, LogIndex::new(2)));
        reader.lock().unwrap().take();
        drop((store, of_store));
        assert!(RedbEngine::open(&path).is_ok());
    }

    #[test]
    fn a_full_disk_is_no_reason_to_distrust_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let fill =
            |trouble: &Trouble| *trouble.of_write.lock().unwrap() = Some(ErrorKind::StorageFull);
        assert!(life(&path, fill).is_none());
    }
}
