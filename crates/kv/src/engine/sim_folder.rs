//! A folder in memory with the two files of an engine, whose disk forgets what was not synced, or says
//! no: for tests. Must not know what the files hold.

use super::EngineError;
use super::place::{Name, Place};
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

/// Pieces of this size are written as a whole, or not.
const SECTOR_BYTES: usize = 512;

/// Clones share the folder.
#[derive(Clone, Default)]
pub(super) struct SimFolder {
    disk: Arc<Mutex<Disk>>,
    /// Called before each change, with what the disk is about to do.
    looks: Arc<Mutex<Option<Look>>>,
}

pub(super) type Look = Box<dyn FnMut(&Disk, Doing) + Send>;

/// One change of the disk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doing {
    Write(Side),
    Sync(Side),
    Rename,
    SyncNames,
    Remove,
}

/// Which file: by the name that it had when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    State,
    Next,
}

#[derive(Clone, Default)]
pub(super) struct Disk {
    files: BTreeMap<u64, Content>,
    names: Names,
    /// What the names were, oldest first, since they were synced; the first are durable.
    earlier: Vec<Names>,
    last_file: u64,
    pub(super) count: u64,
    /// The change with this number, and later ones of its kind, fail so.
    pub(super) fails: Option<(u64, ErrorKind)>,
    failing: Option<Doing>,
}

#[derive(Clone, Copy, Default)]
struct Names {
    state: Option<u64>,
    next: Option<u64>,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// Numbers by which a test draws: a sequence that is the same each time.
#[derive(Clone)]
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // Knuth's multiplier.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

impl Content {
    fn change(bytes: &mut Vec<u8>, pending: &Pending) {
        match pending {
            Pending::Length(length) => bytes.resize(*length, 0),
            Pending::Write(offset, data) => {
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    fn push(&mut self, pending: Pending) {
        Self::change(&mut self.now, &pending);
        self.pending.push(pending);
    }

    /// What a power cut leaves: all, nothing, or any sectors of what was not synced.
    fn survivors(&self, draws: &mut Draws) -> Self {
        let luck = draws.below(4);
        let mut left = self.durable.clone();
        for pending in &self.pending {
            match pending {
                _ if luck == 0 => {}
                Pending::Length(_) if luck == 1 || draws.below(2) == 0 => {
                    Self::change(&mut left, pending);
                }
                Pending::Length(_) => {}
                Pending::Write(offset, data) => {
                    for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        if luck == 1 || draws.below(2) == 0 {
                            let offset = offset + index * SECTOR_BYTES;
                            Self::change(&mut left, &Pending::Write(offset, sector.to_vec()));
                        }
                    }
                }
            }
        }
        Self { now: left.clone(), durable: left, pending: Vec::new() }
    }
}

impl Disk {
    /// What is there after a power cut.
    pub(super) fn survivors(&self, draws: &mut Draws) -> SimFolder {
        let mut possible = self.earlier.clone();
        possible.push(self.names);
        let names = possible[usize::try_from(draws.below(possible.len() as u64)).unwrap()];
        let found = [names.state, names.next].into_iter().flatten();
        let files = found.map(|file| (file, self.files[&file].survivors(draws))).collect();
        let disk = Self { files, names, last_file: self.last_file, ..Self::default() };
        SimFolder { disk: Arc::new(Mutex::new(disk)), looks: Arc::default() }
    }

    /// Whether the file that counts is another one than it was at first.
    pub(super) fn has_been_renewed(&self) -> bool {
        self.names.state != Some(1)
    }

    fn rename(&mut self, names: Names) {
        self.earlier.push(self.names);
        self.names = names;
    }

    fn file(&mut self, name: Name) -> io::Result<&mut Content> {
        let file = match name {
            Name::State => self.names.state,
            Name::Next => self.names.next,
        };
        let file = file.and_then(|file| self.files.get_mut(&file));
        file.ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    }
}

impl SimFolder {
    pub(super) fn look(&self, look: Look) {
        *self.looks.lock().unwrap() = Some(look);
    }

    pub(super) fn stop_looking(&self) {
        self.looks.lock().unwrap().take();
    }

    pub(super) fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    pub(super) fn has_next(&self) -> bool {
        self.disk().names.next.is_some()
    }

    /// A change is about to come.
    fn begin(&self, doing: Doing) -> io::Result<()> {
        if let Some(look) = self.looks.lock().unwrap().as_mut() {
            look(&self.disk(), doing);
        }
        let mut disk = self.disk();
        disk.count += 1;
        let Some((at, kind)) = disk.fails else { return Ok(()) };
        if disk.count == at {
            disk.failing = Some(doing);
        }
        if disk.failing == Some(doing) { Err(kind.into()) } else { Ok(()) }
    }
}

impl Place for SimFolder {
    fn open(&self, name: Name) -> Result<Box<dyn StorageBackend>, EngineError> {
        let mut disk = self.disk();
        let there = match name {
            Name::State => disk.names.state,
            Name::Next => disk.names.next,
        };
        let file = there.unwrap_or_else(|| {
            disk.last_file += 1;
            let file = disk.last_file;
            disk.files.insert(file, Content::default());
            let names = match name {
                Name::State => Names { state: Some(file), ..disk.names },
                Name::Next => Names { next: Some(file), ..disk.names },
            };
            disk.rename(names);
            file
        });
        let side = match name {
            Name::State => Side::State,
            Name::Next => Side::Next,
        };
        Ok(Box::new(SimFile { folder: self.clone(), file, side }))
    }

    fn size_bytes(&self, name: Name) -> io::Result<u64> {
        Ok(self.disk().file(name)?.now.len() as u64)
    }

    fn promote(&self) -> io::Result<()> {
        self.begin(Doing::Rename)?;
        let mut disk = self.disk();
        let names = Names { state: disk.names.next, next: None };
        disk.rename(names);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.begin(Doing::SyncNames)?;
        self.disk().earlier.clear();
        Ok(())
    }

    fn remove_next(&self) -> io::Result<()> {
        if !self.has_next() {
            return Ok(());
        }
        self.begin(Doing::Remove)?;
        let mut disk = self.disk();
        let names = Names { next: None, ..disk.names };
        disk.rename(names);
        Ok(())
    }
}

struct SimFile {
    folder: SimFolder,
    file: u64,
    side: Side,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SimFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl SimFile {
    fn with<T>(&self, ask: impl FnOnce(&mut Content) -> T) -> T {
        ask(self.folder.disk().files.get_mut(&self.file).unwrap())
    }

    fn push(&self, pending: Pending) -> io::Result<()> {
        self.folder.begin(Doing::Write(self.side))?;
        self.with(|content| content.push(pending));
        Ok(())
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

impl StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|content| content.now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (from, to) = (place(offset), place(offset) + out.len());
        self.with(|content| {
            let found = content.now.get(from..to).ok_or(ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.push(Pending::Length(place(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.folder.begin(Doing::Sync(self.side))?;
        self.with(|content| {
            for pending in std::mem::take(&mut content.pending) {
                Content::change(&mut content.durable, &pending);
            }
        });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.push(Pending::Write(place(offset), data.to_vec()))
    }
}
