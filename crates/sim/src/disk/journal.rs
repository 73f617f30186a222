//! Which changes are durable, which are on their way, and what a crash leaves of them. Knows
//! nothing of handles, errors or who writes.

use super::damage::{LastSync, Past};
use super::image::{Change, Image, Inode, SECTOR_BYTES};
use super::{CrashStyle, IMMEDIATE, Task};
use crate::rng::{Chance, Rng};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

/// The changes since the last state that is durable for sure, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Journal {
    steps: Vec<Step>,
    /// What survives any crash.
    pub(super) durable: Image,
    /// What each file's last sync made durable.
    pub(super) last_syncs: BTreeMap<Inode, LastSync>,
    /// The number of the youngest step.
    last_number: u64,
}

#[derive(Debug)]
struct Step {
    /// Its number: they were asked for in this order.
    number: u64,
    task: Task,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A change; if it is lost, no sync will ever make it durable.
    Change(Change, Fate),
    Sync(Inode),
    SyncFolder(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Dirty,
    Lost,
}

impl Journal {
    /// Notes a change that is visible and not yet durable.
    pub(super) fn change(&mut self, task: Task, change: Change) {
        self.push(task, What::Change(change, Fate::Dirty));
    }

    /// Notes that a file was synced.
    pub(super) fn sync(&mut self, task: Task, inode: Inode) {
        self.push(task, What::Sync(inode));
    }

    /// Notes that a folder was synced.
    pub(super) fn sync_folder(&mut self, task: Task, folder: PathBuf) {
        self.push(task, What::SyncFolder(folder));
    }

    fn push(&mut self, task: Task, what: What) {
        self.last_number += 1;
        self.steps.push(Step { number: self.last_number, task, what });
    }

    /// A sync of this file failed: what it should have made durable may never become so, although
    /// it stays visible, and although a later sync succeeds.
    pub(super) fn lose_dirty(&mut self, inode: Inode, rng: &mut Rng) {
        let is_sync = |step: &Step| matches!(&step.what, What::Sync(other) if *other == inode);
        let clean_count = self.steps.iter().rposition(is_sync).map_or(0, |place| place + 1);
        for step in self.steps.iter_mut().skip(clean_count) {
            if let What::Change(change, fate) = &mut step.what
                && change.inode() == Some(inode)
                && rng.coin()
            {
                *fate = Fate::Lost;
            }
        }
    }

    /// How much is on its way.
    pub(super) const fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// Makes durable what is behind the syncs of tasks that are done.
    pub(super) fn settle(&mut self, is_done: impl Fn(Task) -> bool, past: &mut Past) {
        let mut files: BTreeMap<Inode, u64> = BTreeMap::new();
        let mut folders: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for step in self.steps.iter().filter(|step| is_done(step.task)) {
            match &step.what {
                What::Sync(inode) => {
                    files.insert(*inode, step.number);
                }
                What::SyncFolder(folder) => {
                    folders.insert(folder.clone(), step.number);
                }
                What::Change(..) => {}
            }
        }
        if files.is_empty() && folders.is_empty() {
            return;
        }
        // The number of the sync that a step is behind.
        let sync_of = |step: &Step| match &step.what {
            What::Change(change, _) => match change.inode() {
                Some(inode) => files.get(&inode).copied().filter(|sync| step.number < *sync),
                None => folders
                    .iter()
                    .find(|(folder, sync)| step.number < **sync && change.is_name_in(folder))
                    .map(|(_, sync)| *sync),
            },
            What::Sync(_) | What::SyncFolder(_) => is_done(step.task).then_some(step.number),
        };
        for step in std::mem::take(&mut self.steps) {
            match (sync_of(&step), &step.what) {
                (Some(sync), What::Change(change, Fate::Dirty)) => {
                    self.make_durable(change, step.number, sync, past);
                }
                (Some(_), What::Change(_, Fate::Lost) | What::Sync(_) | What::SyncFolder(_)) => {}
                (None, _) => self.steps.push(step),
            }
        }
    }

    /// The system writes back by itself what finished tasks wrote to a file, as it may at any time.
    pub(super) fn write_back(
        &mut self,
        inode: Inode,
        is_done: impl Fn(Task) -> bool,
        past: &mut Past,
    ) {
        for step in std::mem::take(&mut self.steps) {
            match &step.what {
                What::Change(change @ Change::Write { inode: other, .. }, Fate::Dirty)
                    if *other == inode && is_done(step.task) =>
                {
                    self.make_durable(change, step.number, step.number, past);
                }
                What::Change(..) | What::Sync(_) | What::SyncFolder(_) => self.steps.push(step),
            }
        }
    }

    /// When a finished task last wrote to a file what has not been lost: the number of that step.
    pub(super) fn last_write(&self, inode: Inode, is_done: impl Fn(Task) -> bool) -> Option<u64> {
        let pending = self.steps.iter().filter_map(|step| match &step.what {
            What::Change(Change::Write { inode: other, .. }, Fate::Dirty)
                if *other == inode && is_done(step.task) =>
            {
                Some(step.number)
            }
            What::Change(..) | What::Sync(_) | What::SyncFolder(_) => None,
        });
        let durable = self.last_syncs.get(&inode).map(LastSync::last_write);
        pending.chain(durable).max()
    }

    fn make_durable(&mut self, change: &Change, number: u64, sync: u64, past: &mut Past) {
        if let Change::Write { inode, offset, bytes } = change
            && past.is_kept
        {
            let range = *offset..offset + bytes.len();
            self.last_syncs.entry(*inode).or_default().note(number, sync, range);
            self.durable.remember_sector(*inode, *offset, past);
        }
        self.durable.make(change);
    }

    /// Where bytes of a file were changed that are not durable yet.
    pub(super) fn pending(&self, inode: Inode) -> impl Iterator<Item = Range<usize>> {
        self.steps.iter().filter_map(move |step| match &step.what {
            What::Change(Change::Write { inode: other, offset, bytes }, _) if *other == inode => {
                Some(*offset..offset + bytes.len())
            }
            What::Change(..) | What::Sync(_) | What::SyncFolder(_) => None,
        })
    }

    /// The node dies: of each unfinished task only a beginning has happened. If the power failed
    /// too, anything may be missing of what was not synced; else it is still visible, and no more
    /// durable than before. Returns what is visible afterwards.
    pub(super) fn crash(
        &mut self,
        unfinished: &BTreeSet<Task>,
        style: CrashStyle,
        rng: &mut Rng,
        past: &mut Past,
    ) -> Image {
        for task in unfinished {
            self.cut_short(*task, rng);
        }
        self.settle(|_| true, past);
        let survives = match style {
            CrashStyle::KeepAll => return self.in_memory(),
            CrashStyle::LoseAll => Chance::NEVER,
            CrashStyle::Tear => Chance::percent(u32::try_from(rng.between(5, 95)).unwrap_or(50)),
        };
        for step in std::mem::take(&mut self.steps) {
            if let What::Change(change, Fate::Dirty) = step.what {
                self.durable.survive(&change, survives, rng);
            }
        }
        self.durable.drop_unreachable();
        self.durable.clone()
    }

    /// What the operating system holds: the durable state and every change since.
    fn in_memory(&mut self) -> Image {
        let mut visible = self.durable.clone();
        for step in &mut self.steps {
            step.task = IMMEDIATE;
            if let What::Change(change, _) = &step.what {
                visible.make(change);
            }
        }
        visible
    }

    fn cut_short(&mut self, task: Task, rng: &mut Rng) {
        let count = self.steps.iter().filter(|step| step.task == task).count();
        let mut left = rng.index(count + 1);
        self.steps.retain(|step| {
            if step.task != task {
                return true;
            }
            let happened = left > 0;
            left = left.saturating_sub(1);
            happened
        });
    }

    /// The files that the journal still speaks of.
    pub(super) fn mentions(&self, inode: Inode) -> bool {
        self.steps.iter().any(|step| match &step.what {
            What::Change(
                Change::Rename { inode: other, .. } | Change::Create { inode: other, .. },
                _,
            ) => *other == inode,
            What::Change(change, _) => change.inode() == Some(inode),
            What::Sync(_) | What::SyncFolder(_) => false,
        })
    }
}

impl Image {
    /// Notes what the sector at the beginning of a write holds, if that is anything.
    fn remember_sector(&self, inode: Inode, offset: usize, past: &mut Past) {
        let start = offset - offset % SECTOR_BYTES;
        let Some(content) = self.contents.get(&inode) else { return };
        let end = content.len().min(start + SECTOR_BYTES);
        if let Some(held) = content.get(start..end)
            && !held.is_empty()
        {
            past.remember(inode, start, held);
        }
    }

    /// Carries out what survives of a change that was not synced: each sector of a write, and each
    /// other change, for itself.
    fn survive(&mut self, change: &Change, survives: Chance, rng: &mut Rng) {
        match change {
            Change::Write { inode, offset, bytes } => {
                let mut start = 0;
                while start < bytes.len() {
                    let to_boundary = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
                    let end = bytes.len().min(start + to_boundary);
                    if let (true, Some(part)) = (rng.happens(survives), bytes.get(start..end)) {
                        self.write(*inode, offset + start, part);
                    }
                    start = end;
                }
            }
            Change::Size { .. }
            | Change::Create { .. }
            | Change::Rename { .. }
            | Change::Remove { .. }
            | Change::Folder { .. } => {
                if rng.happens(survives) {
                    self.make(change);
                }
            }
        }
    }
}
