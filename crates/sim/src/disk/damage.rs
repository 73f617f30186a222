//! What goes bad in data at rest: flipped bits, zeros, what was meant for elsewhere, what stood
//! there before, and sectors that cannot be read any more. Chance decides what and where.
//!
//! One place is spared, because nobody could tell damage there from something harmless: see
//! [`Journal::unvouched`]; and so is the log's `mark` as long as nothing but it tells them apart.
//! And data never falls back to an older state in the files that hold term
//! and vote (`meta-*`): each of the two copies stands in for the other, and an old copy beside one
//! that a crash has torn is two faults at once, which two copies cannot survive. One of the copies
//! keeps its name: files that vanish one by one would leave an empty disk, and a machine with an
//! empty disk is another machine.

use super::image::{Inode, SECTOR_BYTES};
use super::journal::Journal;
use super::{SimDisk, State};
use crate::rng::Rng;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How many overwritten sectors a disk remembers, to fall back to them.
const REMEMBERED_MAX: usize = 64;

/// The name of the file in which a log notes how far it is durable.
const MARK_NAME: &str = "mark";

/// How often a place is drawn before a disk counts as having none.
const DRAWS_MAX: u32 = 40;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DamageKind {
    /// Some bits of a sector have flipped.
    BitRot,
    /// Sectors hold zeros.
    Zeroed,
    /// A sector holds what another should hold.
    Misdirected,
    /// A sector holds what it held before it was last written.
    Stale,
    /// A sector cannot be read until it is written again.
    Unreadable,
    /// A file ends earlier than it did, as a copy from an older backup would.
    Shortened,
    /// A file has lost its name.
    Deleted,
}

/// All of them.
const KINDS: [DamageKind; 7] = [
    DamageKind::BitRot,
    DamageKind::Zeroed,
    DamageKind::Misdirected,
    DamageKind::Stale,
    DamageKind::Unreadable,
    DamageKind::Shortened,
    DamageKind::Deleted,
];

/// What has gone bad, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What happened.
    pub kind: DamageKind,
    /// To which file.
    pub path: PathBuf,
    /// From which byte on.
    pub offset: usize,
    /// For how many bytes.
    pub len: usize,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, path, offset, len } = self;
        write!(f, "{kind:?} in {} at {offset}, {len} bytes", path.display())
    }
}

/// What sectors held before they were last overwritten; the youngest last.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Whether anything is remembered at all.
    pub(super) is_kept: bool,
    sectors: VecDeque<(Inode, usize, Vec<u8>)>,
}

impl Past {
    /// A sector is overwritten.
    pub(super) fn remember(&mut self, inode: Inode, start: usize, bytes: &[u8]) {
        if self.sectors.len() == REMEMBERED_MAX {
            self.sectors.pop_front();
        }
        self.sectors.push_back((inode, start, bytes.to_vec()));
    }
}

impl SimDisk {
    /// From now on the disk remembers what it needs to know to go bad.
    pub fn keep_past(&self) {
        self.state().past.is_kept = true;
    }

    /// Something at rest goes bad; returns what, or `None` if there is nothing to go bad.
    pub fn damage(&self, rng: &mut Rng) -> Option<Damage> {
        let kind = *rng.pick(&KINDS)?;
        self.damage_with(kind, rng)
    }

    /// Something at rest goes bad in this way.
    pub fn damage_with(&self, kind: DamageKind, rng: &mut Rng) -> Option<Damage> {
        self.damage_file(kind, "", rng)
    }

    /// Something at rest goes bad in this way, in a file whose name begins so.
    pub fn damage_file(&self, kind: DamageKind, stem: &str, rng: &mut Rng) -> Option<Damage> {
        let mut state = self.state();
        match kind {
            DamageKind::Stale => state.fall_back(rng),
            DamageKind::Shortened | DamageKind::Deleted => {
                (0..DRAWS_MAX).find_map(|_| state.lose_part(kind, stem, rng))
            }
            DamageKind::BitRot
            | DamageKind::Zeroed
            | DamageKind::Misdirected
            | DamageKind::Unreadable => {
                (0..DRAWS_MAX).find_map(|_| state.try_damage(kind, stem, rng))
            }
        }
    }
}

impl State {
    fn try_damage(&mut self, kind: DamageKind, stem: &str, rng: &mut Rng) -> Option<Damage> {
        let (path, inode, place) = self.draw_sector(stem, rng)?;
        let held = self.visible.contents.get(&inode)?.get(place.clone())?.to_vec();
        // What was never written is rarely of interest, and sometimes it is.
        if held.iter().all(|byte| *byte == 0) && rng.below(10) > 0 {
            return None;
        }
        let mut bytes = held.clone();
        match kind {
            DamageKind::BitRot => flip_bits(&mut bytes, rng),
            DamageKind::Zeroed => bytes.fill(0),
            DamageKind::Misdirected => {
                let (_, other, there) = self.draw_sector("", rng)?;
                let source = self.visible.contents.get(&other)?.get(there)?;
                let count = source.len().min(bytes.len());
                bytes.get_mut(..count)?.copy_from_slice(source.get(..count)?);
            }
            DamageKind::Unreadable => {
                self.strike(inode);
                self.unreadable.insert((inode, place.start));
                return Some(Damage { kind, path, offset: place.start, len: place.len() });
            }
            DamageKind::Stale | DamageKind::Shortened | DamageKind::Deleted => return None,
        }
        if bytes == held {
            return None;
        }
        self.overwrite(inode, place.start, &bytes);
        Some(Damage { kind, path, offset: place.start, len: place.len() })
    }

    /// A file at rest loses its end, or its name.
    fn lose_part(&mut self, kind: DamageKind, stem: &str, rng: &mut Rng) -> Option<Damage> {
        let (path, inode, sector) = self.draw_place(stem, rng)?;
        let len = self.visible.contents.get(&inode)?.len();
        let place = if kind == DamageKind::Deleted { 0..len } else { sector.start..len };
        let is_last_meta = begins(&path, "meta-") && self.inodes_named("meta-").len() == 1;
        let is_wiped = kind == DamageKind::Deleted && is_last_meta;
        if is_wiped || self.journal.mentions(inode) || !self.may_go_bad(inode, &place) {
            return None;
        }
        self.strike(inode);
        // What a file loses by damage is not free: it was promised to whoever has the file open.
        let room = self.room_of(inode);
        self.reserved.insert(inode, room);
        for image in [&mut self.visible, &mut self.journal.durable] {
            if kind == DamageKind::Deleted {
                image.names.remove(&path);
            } else if let Some(content) = image.contents.get_mut(&inode) {
                content.truncate(place.start);
            }
        }
        Some(Damage { kind, path, offset: place.start, len: place.len() })
    }

    /// A sector at rest, of a file that has a name, that may go bad.
    fn draw_sector(&self, stem: &str, rng: &mut Rng) -> Option<(PathBuf, Inode, Range<usize>)> {
        let drawn = self.draw_place(stem, rng);
        drawn.filter(|(_, inode, place)| self.may_go_bad(*inode, place))
    }

    /// A sector of a file that has a name.
    fn draw_place(&self, stem: &str, rng: &mut Rng) -> Option<(PathBuf, Inode, Range<usize>)> {
        let names = self.visible.names.iter();
        let files: Vec<(&PathBuf, &Inode)> = names.filter(|(path, _)| begins(path, stem)).collect();
        let (path, inode) = rng.pick(&files).copied()?;
        let len = self.visible.contents.get(inode)?.len();
        let durable_len = self.journal.durable.contents.get(inode)?.len();
        let start = rng.index(len.min(durable_len).div_ceil(SECTOR_BYTES)) * SECTOR_BYTES;
        Some((path.clone(), *inode, start..(start + SECTOR_BYTES).min(len)))
    }

    /// One sector of what was read is not what is there; `None` if none may be.
    pub(super) fn garble(&mut self, inode: Inode, offset: usize, bytes: &mut [u8]) -> Option<()> {
        let (first, end) = (offset / SECTOR_BYTES, (offset + bytes.len()).div_ceil(SECTOR_BYTES));
        let start = (first + self.rng.index(end - first)) * SECTOR_BYTES;
        let place = start.max(offset)..(start + SECTOR_BYTES).min(offset + bytes.len());
        if !self.may_go_bad(inode, &place) {
            return None;
        }
        let target = bytes.get_mut(place.start - offset..place.end - offset)?;
        let before = target.to_vec();
        match self.rng.below(3) {
            0 => flip_bits(target, &mut self.rng),
            1 => target.fill(0),
            _ => {
                let mut rng = self.rng.fork("misread");
                let (_, other, there) = self.draw_place("", &mut rng)?;
                let source = self.visible.contents.get(&other)?.get(there)?;
                let count = source.len().min(target.len());
                target.get_mut(..count)?.copy_from_slice(source.get(..count)?);
            }
        }
        (before != *target).then_some(())
    }

    fn may_go_bad(&self, inode: Inode, place: &Range<usize>) -> bool {
        let touches = |other: &Range<usize>| other.start < place.end && place.start < other.end;
        let is_log = self.is_named(inode, "log-");
        let metas: Vec<Inode> = self.inodes_named("meta-");
        let is_pending = self.journal.pending(inode).any(|other| touches(&other));
        let marked = self.marked_at();
        let is_unvouched =
            is_log && self.journal.unvouched(inode, &metas, marked).iter().any(touches);
        let logs = self.inodes_named("log-");
        let needs_mark = |log: &Inode| !self.journal.unvouched(*log, &metas, None).is_empty();
        let is_spared = self.mark() == Some(inode) && logs.iter().any(needs_mark);
        !place.is_empty()
            && !is_pending
            && !is_spared
            && is_unvouched == self.faults.damages_last_batch
    }

    /// The file in which a log notes how far it is durable.
    fn mark(&self) -> Option<Inode> {
        let mut names = self.visible.names.iter();
        names.find(|(path, _)| path.ends_with(MARK_NAME)).map(|(_, inode)| *inode)
    }

    /// When that was last noted, in a file that has never gone bad.
    fn marked_at(&self) -> Option<u64> {
        let mark = self.mark().filter(|mark| !self.spoiled.contains(mark))?;
        let is_worth_something = !self.faults.damages_last_batch;
        let marked = self.journal.last_write(mark, |task| !self.unfinished.contains(&task));
        marked.filter(|_| is_worth_something)
    }

    /// A file is about to go bad. If it is a log, what vouches for its last batch may be a mark that
    /// is not durable yet: then the system has written it back in the meantime, or, if the last batch
    /// is to be lost unnoticed, the mark is lost with it.
    fn strike(&mut self, inode: Inode) {
        let Some(mark) = self.mark() else { return };
        let is_log = self.is_named(inode, "log-");
        if mark == inode {
            self.spoiled.insert(mark);
        } else if is_log && self.faults.damages_last_batch {
            for image in [&mut self.visible, &mut self.journal.durable] {
                image.names.retain(|path, _| !path.ends_with(MARK_NAME));
            }
        } else if is_log {
            self.write_mark_back();
        }
    }

    /// The system writes back what finished tasks have noted in a log's mark.
    pub(super) fn write_mark_back(&mut self) {
        let Some(mark) = self.mark() else { return };
        let (unfinished, past) = (&self.unfinished, &mut self.past);
        self.journal.write_back(mark, |task| !unfinished.contains(&task), past);
    }

    /// A sector falls back to what it held before.
    fn fall_back(&mut self, rng: &mut Rng) -> Option<Damage> {
        let metas = self.inodes_named("meta-");
        let past: Vec<(Inode, usize, Vec<u8>)> = self
            .past
            .sectors
            .iter()
            .filter(|(inode, ..)| !metas.contains(inode))
            .cloned()
            .collect();
        let (inode, start, bytes) = rng.pick(&past)?.clone();
        let place = start..start + bytes.len();
        let held = self.visible.contents.get(&inode)?.get(place.clone())?;
        if held == bytes || !self.may_go_bad(inode, &place) {
            return None;
        }
        let path = self.visible.names.iter().find(|(_, other)| **other == inode)?.0.clone();
        self.overwrite(inode, start, &bytes);
        Some(Damage { kind: DamageKind::Stale, path, offset: start, len: bytes.len() })
    }

    /// Changes what is at rest, past everybody.
    fn overwrite(&mut self, inode: Inode, start: usize, bytes: &[u8]) {
        self.strike(inode);
        self.visible.write(inode, start, bytes);
        self.journal.durable.write(inode, start, bytes);
    }

    fn is_named(&self, inode: Inode, stem: &str) -> bool {
        self.inodes_named(stem).contains(&inode)
    }

    fn inodes_named(&self, stem: &str) -> Vec<Inode> {
        let names = self.visible.names.iter();
        names.filter(|(path, _)| begins(path, stem)).map(|(_, inode)| *inode).collect()
    }
}

/// Whether a file's name begins so.
fn begins(path: &Path, stem: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(stem))
}

fn flip_bits(bytes: &mut [u8], rng: &mut Rng) {
    for _ in 0..rng.between(1, 8) {
        let place = rng.index(bytes.len());
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << rng.below(8);
        }
    }
}

/// When and where a file was last made durable.
#[derive(Debug, Default)]
pub(super) struct LastSync {
    /// The number of the sync.
    sync: u64,
    /// The number of the last write that is durable.
    write: u64,
    written: Vec<Range<usize>>,
}

impl LastSync {
    /// Bytes of a file, written in the step of number `write`, became durable with the sync of
    /// number `sync`.
    pub(super) fn note(&mut self, write: u64, sync: u64, written: Range<usize>) {
        if self.sync != sync {
            self.written.clear();
        }
        (self.sync, self.write) = (sync, self.write.max(write));
        self.written.push(written);
    }

    /// The number of the last write that is durable.
    pub(super) const fn last_write(&self) -> u64 {
        self.write
    }
}

impl Journal {
    /// What the last sync of a log file made durable, if both files that hold its bounds were written
    /// before it, and its mark too.
    ///
    /// Until something that was written later vouches for the last batch of a log, damage to it
    /// looks like a write that a crash has torn, and a start cuts it off: `docs/wal-format.md`,
    /// "What this cannot see". Only a second sync for each batch could tell them apart.
    fn unvouched(&self, log: Inode, metas: &[Inode], marked: Option<u64>) -> Vec<Range<usize>> {
        let Some(last) = self.last_syncs.get(&log) else { return Vec::new() };
        let vouches =
            |meta| self.last_syncs.get(meta).is_some_and(|it: &LastSync| it.write > last.sync);
        let is_marked = marked.is_some_and(|marked| marked > last.sync);
        if is_marked || metas.iter().all(vouches) { Vec::new() } else { last.written.clone() }
    }
}
