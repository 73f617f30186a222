//! A disk in memory that loses and tears what was not synced, stops at a chosen operation, and
//! fails one or reads one wrongly on command. What was synced, it keeps.

use super::Rng;
use quorate_wal::{Disk, DiskFile, DiskSpace};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub struct FaultDisk(Arc<Mutex<World>>);

#[derive(Clone, Default)]
struct World {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    locks: BTreeSet<PathBuf>,
    /// Operations that change something, so far.
    count: u64,
    /// The power fails at this operation: it may happen in part, later ones not at all.
    stop_at: Option<u64>,
    /// This operation fails, once. A failed sync loses what it should have made durable.
    fail_at: Option<(u64, io::ErrorKind)>,
    /// Reads so far.
    read_count: u64,
    /// This read gives something else than what is there, once.
    misread_at: Option<u64>,
    /// Sectors that cannot be read until they are written again.
    unreadable: BTreeSet<(usize, usize)>,
    /// A read gives no more than this.
    read_bytes_max: Option<usize>,
    /// How much all files together may take.
    room_bytes: Option<usize>,
    /// What cannot be opened or listed.
    forbidden: BTreeSet<PathBuf>,
    /// Up to where files have room, whatever else fills the disk.
    reserved: BTreeMap<usize, usize>,
}

#[derive(Clone, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

enum Outcome {
    Go,
    Stop,
    Fail(io::Error),
}

fn apply(bytes: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    let end = offset + piece.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(piece);
}

/// The pieces of a write, one a sector.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
        pieces.push((offset + at, &bytes[at..at + length]));
        at += length;
    }
    pieces
}

impl World {
    fn step(&mut self) -> Outcome {
        let now = self.count;
        self.count += 1;
        if self.stop_at.is_some_and(|at| now >= at) {
            return Outcome::Stop;
        }
        match self.fail_at {
            Some((at, kind)) if at == now => Outcome::Fail(io::Error::from(kind)),
            _ => Outcome::Go,
        }
    }

    /// For operations that happen whole or not at all.
    fn whole(&mut self) -> io::Result<()> {
        match self.step() {
            Outcome::Go => Ok(()),
            Outcome::Stop => Err(stopped()),
            Outcome::Fail(error) => Err(error),
        }
    }

    fn check_allowed(&self, path: &Path) -> io::Result<()> {
        let is_forbidden = self.forbidden.contains(path);
        if is_forbidden { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn is_off(&self) -> bool {
        self.stop_at.is_some_and(|at| self.count > at)
    }

    fn room_of(&self, number: usize) -> usize {
        self.files[number].current.len().max(self.reserved.get(&number).copied().unwrap_or(0))
    }

    fn used_bytes(&self) -> usize {
        self.names.values().map(|number| self.room_of(*number)).sum()
    }

    /// Refuses a file that would grow up to here on a full disk.
    fn check_room(&self, number: usize, end: usize) -> io::Result<()> {
        let held = self.room_of(number);
        let grows = end.saturating_sub(held);
        let is_full = self.room_bytes.is_some_and(|room| self.used_bytes() + grows > room);
        if grows > 0 && is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the power is off")
}

impl FaultDisk {
    pub fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().count
    }

    pub fn stop_at(&self, count: u64) {
        self.0.lock().unwrap().stop_at = Some(count);
    }

    pub fn fail_at(&self, count: u64, kind: io::ErrorKind) {
        self.0.lock().unwrap().fail_at = Some((count, kind));
    }

    pub fn read_count(&self) -> u64 {
        self.0.lock().unwrap().read_count
    }

    pub fn misread_at(&self, count: u64) {
        self.0.lock().unwrap().misread_at = Some(count);
    }

    /// The sector that holds this byte cannot be read until it is written again.
    pub fn break_sector(&self, path: &Path, offset: usize) {
        let mut world = self.0.lock().unwrap();
        let file = world.names[path];
        world.unreadable.insert((file, offset / SECTOR));
    }

    /// From now on this file cannot be opened, this folder not be listed.
    pub fn forbid(&self, path: &Path) {
        self.0.lock().unwrap().forbidden.insert(path.to_owned());
    }

    /// Up to where this file has room, whatever else fills the disk.
    pub fn reserved_bytes(&self, path: &Path) -> usize {
        let world = self.0.lock().unwrap();
        world.reserved.get(&world.names[path]).copied().unwrap_or(0)
    }

    /// From now on no read gives more than this.
    pub fn shorten_reads(&self, bytes_max: usize) {
        self.0.lock().unwrap().read_bytes_max = Some(bytes_max);
    }

    pub fn is_off(&self) -> bool {
        self.0.lock().unwrap().is_off()
    }

    /// From now on all files together may take so much more than they do, or whatever they like.
    pub fn leave_room(&self, bytes: Option<usize>) {
        let mut world = self.0.lock().unwrap();
        world.room_bytes = bytes.map(|bytes| world.used_bytes() + bytes);
    }

    fn restarted(mut world: World) -> Self {
        world.locks.clear();
        world.stop_at = None;
        world.fail_at = None;
        world.misread_at = None;
        Self(Arc::new(Mutex::new(world)))
    }

    /// The process ends, the operating system stays: nothing is lost, nothing becomes durable.
    pub fn process_crash(&self) -> Self {
        Self::restarted(self.0.lock().unwrap().clone())
    }

    /// The power fails. `keep` decides for each sector of each write, and for each name, whether
    /// it survived.
    pub fn power_loss(&self, mut keep: impl FnMut(&Path, usize) -> bool) -> Self {
        let mut world = self.0.lock().unwrap().clone();
        let old_names = world.names.clone();
        let all: BTreeSet<_> =
            world.names.keys().chain(world.durable_names.keys()).cloned().collect();
        for name in all {
            let (current, durable) = (world.names.get(&name), world.durable_names.get(&name));
            if current != durable && !keep(&name, usize::MAX) {
                match durable.copied() {
                    Some(file) => world.names.insert(name, file),
                    None => world.names.remove(&name),
                };
            }
        }
        world.durable_names = world.names.clone();
        for (number, content) in world.files.iter_mut().enumerate() {
            let name = old_names.iter().find(|&(_, &file)| file == number);
            let name = name.map_or(PathBuf::new(), |(name, _)| name.clone());
            content.lose(|offset| keep(&name, offset));
        }
        Self::restarted(world)
    }

    pub fn random_power_loss(&self, rng: &mut Rng) -> Self {
        let style = rng.below(4);
        self.power_loss(|_, _| match style {
            0 => false,
            1 => true,
            2 => rng.chance(2),
            _ => !rng.chance(5),
        })
    }

    /// A copy that shares nothing with this disk.
    pub fn fork(&self) -> Self {
        self.process_crash()
    }

    pub fn names(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock().unwrap();
        world.files[world.names[path]].current.clone()
    }

    /// Replaces a file's bytes, durably, as damage would.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut world = self.0.lock().unwrap();
        let file = world.names[path];
        world.files[file] = Content { durable: bytes.clone(), current: bytes, pending: Vec::new() };
    }

    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(path);
        edit(&mut bytes);
        self.set_bytes(path, bytes);
    }

    pub fn delete(&self, path: &Path) {
        let mut world = self.0.lock().unwrap();
        world.names.remove(path);
        world.durable_names.remove(path);
    }
}

impl Content {
    fn lose(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(offset, bytes) => {
                    for (at, piece) in sectors(offset, &bytes) {
                        if keep(at) {
                            apply(&mut self.durable, at, piece);
                        }
                    }
                }
                Change::Size(size) => {
                    if keep(size) {
                        self.durable.resize(size, 0);
                    }
                }
            }
        }
        self.current = self.durable.clone();
    }
}

struct FaultFile {
    world: Arc<Mutex<World>>,
    number: usize,
}

struct FaultLock {
    world: Arc<Mutex<World>>,
    path: PathBuf,
}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.world.lock().unwrap().locks.remove(&self.path);
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.0.lock().unwrap();
        if world.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        world.whole()?;
        world.files.push(Content::default());
        let number = world.files.len() - 1;
        world.names.insert(path.to_owned(), number);
        Ok(Box::new(FaultFile { world: self.0.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let world = self.0.lock().unwrap();
        world.check_allowed(path)?;
        match world.names.get(path) {
            Some(&number) => Ok(Box::new(FaultFile { world: self.0.clone(), number })),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.0.lock().unwrap();
        world.check_allowed(dir)?;
        let inside = world.names.keys().filter(|name| name.parent() == Some(dir));
        Ok(inside.map(|name| name.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.whole()?;
        let number = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        if !world.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        world.whole()?;
        world.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.whole()?;
        let names = world.names.clone();
        world.durable_names.retain(|name, _| name.parent() != Some(dir));
        world
            .durable_names
            .extend(names.into_iter().filter(|(name, _)| name.parent() == Some(dir)));
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<DiskSpace> {
        let world = self.0.lock().unwrap();
        let Some(room) = world.room_bytes else { return Ok(DiskSpace::ENDLESS) };
        let free_bytes = room.saturating_sub(world.used_bytes()) as u64;
        Ok(DiskSpace { free_bytes, size_bytes: room as u64 })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !self.0.lock().unwrap().locks.insert(path.to_owned()) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(Box::new(FaultLock { world: self.0.clone(), path: path.to_owned() }))
    }
}

impl DiskFile for FaultFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.world.lock().unwrap().files[self.number].current.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world.lock().unwrap();
        let is_wrong = world.misread_at == Some(world.read_count);
        world.read_count += 1;
        let bytes = &world.files[self.number].current;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        let count = count.min(world.read_bytes_max.unwrap_or(usize::MAX));
        let sectors =
            (self.number, start / SECTOR)..(self.number, (start + count).div_ceil(SECTOR));
        if world.unreadable.range(sectors).next().is_some() {
            return Err(io::Error::from(io::ErrorKind::Other));
        }
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        if is_wrong && count > 0 {
            buffer[count.min(40) - 1] ^= 1;
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        if world.is_off() {
            return Err(stopped());
        }
        let offset = usize::try_from(offset).unwrap();
        world.check_room(self.number, offset + bytes.len())?;
        let outcome = world.step();
        let (first, end) = (offset / SECTOR, (offset + bytes.len()).div_ceil(SECTOR));
        let number = self.number;
        world.unreadable.retain(|&(file, at)| file != number || !(first..end).contains(&at));
        let file = &mut world.files[number];
        // A write that the power loss or an error interrupts may arrive in any part.
        let arrived = match outcome {
            Outcome::Go | Outcome::Stop => bytes,
            Outcome::Fail(_) => &bytes[..bytes.len() / 2],
        };
        apply(&mut file.current, offset, arrived);
        file.pending.push(Change::Write(offset, arrived.to_vec()));
        match outcome {
            Outcome::Go => Ok(()),
            Outcome::Stop => Err(stopped()),
            Outcome::Fail(error) => Err(error),
        }
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        let size = usize::try_from(size_bytes).unwrap();
        world.check_room(self.number, size)?;
        world.whole()?;
        world.reserved.entry(self.number).and_modify(|reserved| *reserved = size.min(*reserved));
        world.files[self.number].current.resize(size, 0);
        world.files[self.number].pending.push(Change::Size(size));
        Ok(())
    }

    fn reserve(&self, offset: u64, size_bytes: u64) -> io::Result<bool> {
        let mut world = self.world.lock().unwrap();
        assert!(size_bytes > 0, "as fallocate has it");
        let end = usize::try_from(offset + size_bytes).unwrap();
        world.check_room(self.number, end)?;
        let reserved = world.reserved.entry(self.number).or_default();
        *reserved = end.max(*reserved);
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        match world.step() {
            Outcome::Go => {
                let file = &mut world.files[self.number];
                for change in std::mem::take(&mut file.pending) {
                    match change {
                        Change::Write(offset, bytes) => apply(&mut file.durable, offset, &bytes),
                        Change::Size(size) => file.durable.resize(size, 0),
                    }
                }
                Ok(())
            }
            Outcome::Stop => Err(stopped()),
            // The pages are marked clean and stay readable, but never reach the disk, unless they
            // are written again.
            Outcome::Fail(error) => {
                world.files[self.number].pending.clear();
                Err(error)
            }
        }
    }
}
