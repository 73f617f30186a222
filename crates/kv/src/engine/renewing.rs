//! The engine on disk: a file of redb's, and from time to time another one that takes its place, because
//! a file does not shrink by itself. The next file is written in parts beside the one that counts
//! (decision 47). Must not know what is stored, nor a clock.

use super::copying::Copying;
use super::place::{DOING, Folder, Name, Place, Through};
use super::redb::{Opening, RedbFile};
use super::suspicion::{self, Patience, Stands, Watch, Watched};
use super::untouched::Untouched;
use super::{
    Durability, Engine, EngineError, EngineView, Feed, NoSteward, Refusal, Renewal, Space, Steward,
    Write,
};
use quorate::wal::is_full;
use redb::StorageBackend as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of the file redb keeps in memory, beside the system's own cache.
pub const CACHE_SIZE_BYTES_DEFAULT: usize = 256 << 20;

/// A file up to this size is read whole when it is opened, and every page compared with its
/// checksum: that takes no longer than a second or two.
const CHECKED_BYTES_MAX: u64 = 256 << 20;
/// How much of a file is kept in memory that is only looked at.
const LOOK_CACHE_SIZE_BYTES: usize = 16 << 20;

/// How much of the next file is kept in memory while it is written.
const COPY_CACHE_SIZE_BYTES: usize = 16 << 20;
/// About so many bytes are copied at a time, and synced: a batch waits for one part at most.
const PART_BYTES: usize = 4 << 20;
/// A file that is this much larger than twice what it has to be is made anew.
const SLACK_BYTES: u64 = 64 << 20;
/// What a file takes that was just written, in percent of what is in use, until it was measured: pages
/// that are filled in the order of their keys stay half empty.
const FRESH_PERCENT: u64 = 250;
/// What a file takes that holds nothing.
const EMPTY_BYTES: u64 = 4 << 20;

/// See the module.
pub struct RedbEngine {
    /// The file that counts. Locked for a moment: whoever has got it goes on with it.
    current: Mutex<Arc<RedbFile>>,
    /// Locked as long as anything is written.
    renewing: Mutex<Renewing>,
    /// Absent if the file is only looked at.
    place: Option<Box<dyn Place>>,
    watch: Watch,
    pub(super) steward: Arc<dyn Steward>,
    cache_size_bytes: usize,
    pub(super) part_bytes: usize,
}

struct Renewing {
    next: Option<Draft>,
    /// What a file takes that was just written, in percent of what was in use then.
    fresh_percent: u64,
    /// The last attempt failed, though not for want of room: only who asks for one gets another.
    has_failed: bool,
}

/// The next file, as far as it is written.
struct Draft {
    file: RedbFile,
    copying: Copying,
}

impl RedbEngine {
    /// Opens the file, or makes it, with [`CACHE_SIZE_BYTES_DEFAULT`] of cache. It is made anew only if
    /// somebody asks for it.
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
        Self::open_through(
            path,
            cache_size_bytes,
            Arc::new(|| false),
            Box::new(|file| Box::new(file)),
        )
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

    /// As [`RedbEngine::open`], for a store that outlives a full disk, and gives back the space that it
    /// does not need any more: a write that finds no room asks `patience` whether to go on trying. It is no
    /// failure until that says no. `steward` decides over the room for another file.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub fn open_patiently(
        path: &Path,
        patience: Patience,
        steward: Arc<dyn Steward>,
    ) -> Result<Self, EngineError> {
        let through: Through = Box::new(|file| Box::new(file));
        let mut engine = Self::open_through(path, CACHE_SIZE_BYTES_DEFAULT, patience, through)?;
        engine.steward = steward;
        Ok(engine)
    }

    /// [`RedbEngine::open_with_cache`], with something between redb and its files.
    pub(super) fn open_through(
        path: &Path,
        cache_size_bytes: usize,
        patience: Patience,
        through: Through,
    ) -> Result<Self, EngineError> {
        let place = Box::new(Folder::of(path, through));
        Self::open_at(place, path, cache_size_bytes, patience)
    }

    /// Opens what is at a place; `path` is the name of what lies beside it.
    pub(super) fn open_at(
        place: Box<dyn Place>,
        path: &Path,
        cache_size_bytes: usize,
        patience: Patience,
    ) -> Result<Self, EngineError> {
        let unreadable =
            |error: io::Error| EngineError::Failed { doing: DOING, source: error.into() };
        suspicion::check(path)?;
        // Whatever it is, it did not come to count.
        place.remove_next().map_err(unreadable)?;
        let file = place.open(Name::State)?;
        let is_checked = file.len().map_err(unreadable)? <= CHECKED_BYTES_MAX;
        let opening = Opening { cache_size_bytes, is_checked, is_draft: false };
        let watch = Watch::new(path, patience, Stands::Current);
        let standing = watch.standing.clone();
        let file = RedbFile::open(Watched::new(file, watch.clone()), standing, opening)?;
        Ok(Self::with(file, Some(place), watch, cache_size_bytes))
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
        let cache_size_bytes = LOOK_CACHE_SIZE_BYTES;
        let opening = Opening { cache_size_bytes, is_checked, is_draft: false };
        let watch = Watch::new(path, Arc::new(|| false), Stands::Current);
        let file = RedbFile::open(file, watch.standing.clone(), opening)?;
        Ok(Self::with(file, None, watch, cache_size_bytes))
    }

    fn with(
        file: RedbFile,
        place: Option<Box<dyn Place>>,
        watch: Watch,
        cache_size_bytes: usize,
    ) -> Self {
        let renewing = Renewing { next: None, fresh_percent: FRESH_PERCENT, has_failed: false };
        Self {
            current: Mutex::new(Arc::new(file)),
            renewing: Mutex::new(renewing),
            place,
            watch,
            steward: Arc::new(NoSteward),
            cache_size_bytes,
            part_bytes: PART_BYTES,
        }
    }

    pub(super) fn current(&self) -> Arc<RedbFile> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A row that was copied is gone, as if it had not been found.
    #[cfg(test)]
    pub(super) fn lose_from_next(&self, row: &Write) {
        let renewing = self.renewing();
        let draft = renewing.next.as_ref().unwrap();
        draft.file.write([row], Durability::Later).unwrap();
    }

    fn renewing(&self) -> MutexGuard<'_, Renewing> {
        // After a panic within redb the store has failed, or the next file is given up.
        self.renewing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of a renewal; whether it was the last one.
    fn renew_at(
        &self,
        place: &dyn Place,
        renewing: &mut Renewing,
        in_use_bytes: u64,
    ) -> Result<Renewal, RenewalError> {
        let Some(mut draft) = renewing.next.take() else {
            let needed_bytes = renewing.fresh_bytes(in_use_bytes);
            self.check_room(needed_bytes)?;
            renewing.next = Some(self.begin(place)?);
            self.steward.has_begun(self.size_bytes(), in_use_bytes);
            return Ok(Renewal::UnderWay);
        };
        if draft.copying.is_complete() {
            let before_bytes = self.size_bytes();
            let fresh_bytes = self.finish(place, draft)?;
            renewing.fresh_percent = percent(fresh_bytes, in_use_bytes);
            renewing.has_failed = false;
            self.steward.has_ended(before_bytes, fresh_bytes);
            return Ok(Renewal::Done);
        }
        // Somebody else may be filling the disk.
        self.check_room(PART_BYTES as u64)?;
        let view = self.current().view().map_err(RenewalError::Store)?;
        let part = draft.copying.take_part(&view, self.part_bytes).map_err(RenewalError::Store)?;
        draft.file.write(&part, Durability::Now)?;
        renewing.next = Some(draft);
        Ok(Renewal::UnderWay)
    }

    fn check_room(&self, needed_bytes: u64) -> Result<(), RenewalError> {
        match self.steward.room_bytes() {
            Some(free_bytes) if free_bytes < needed_bytes => {
                Err(RenewalError::Next(Refusal::NoRoom { needed_bytes, free_bytes }))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn begin(&self, place: &dyn Place) -> Result<Draft, RenewalError> {
        place.remove_next()?;
        let cache_size_bytes = COPY_CACHE_SIZE_BYTES.min(self.cache_size_bytes);
        let opening = Opening { cache_size_bytes, is_checked: false, is_draft: true };
        let file = self.open_next(place, opening)?;
        Ok(Draft { file, copying: Copying::new() })
    }

    fn open_next(&self, place: &dyn Place, opening: Opening) -> Result<RedbFile, EngineError> {
        let watch = self.watch.next();
        let standing = watch.standing.clone();
        RedbFile::open(Watched::new(place.open(Name::Next)?, watch), standing, opening)
    }

    /// Lets the next file take the place of the one that counts. What is in the one is in the other, and
    /// nobody writes to either meanwhile. Returns how large it is.
    fn finish(&self, place: &dyn Place, draft: Draft) -> Result<u64, RenewalError> {
        draft.file.close()?;
        let fresh_bytes = place.size_bytes(Name::Next)?;
        let cache_size_bytes = self.cache_size_bytes;
        let opening = Opening { cache_size_bytes, is_checked: false, is_draft: false };
        let next = Arc::new(self.open_next(place, opening)?);
        self.compare(&next)?;
        // Its opening ended with a batch, which is durable, and with it everything before.
        self.promote(place)?;
        // From here on it is the store's, whatever happens: of the other one nobody finds the name.
        let before = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            next.standing().set(Stands::Current);
            std::mem::replace(&mut *current, next)
        };
        before.standing().set(Stands::Retired);
        drop(before);
        // Until then a crash may bring the old file back, which must not be behind what is let go of.
        place.sync_names().map_err(|error| {
            let source = self.watch.current().suspect(error).into();
            RenewalError::Store(EngineError::Failed { doing: "renamed its file", source })
        })?;
        Ok(fresh_bytes)
    }

    fn promote(&self, place: &dyn Place) -> Result<(), RenewalError> {
        let Err(error) = place.promote() else { return Ok(()) };
        if place.size_bytes(Name::Next).is_ok() {
            return Err(error.into());
        }
        // It was renamed, or nobody knows: what is written to the old file now may be found by nobody.
        let source = self.watch.current().suspect(error).into();
        Err(RenewalError::Store(EngineError::Failed { doing: "renamed its file", source }))
    }

    /// A damaged page can make rows vanish from a walk: then the copy lacks them. How many there are is
    /// written elsewhere.
    fn compare(&self, next: &Arc<RedbFile>) -> Result<(), RenewalError> {
        let (old, new) = (self.current().view().map_err(RenewalError::Store)?, next.view()?);
        for space in Space::ALL {
            let expected = old.row_count(space).map_err(RenewalError::Store)?;
            let got = new.row_count(space)?;
            if got != expected {
                let source = format!("{got} rows in {space:?}, expected {expected}").into();
                let doing = "copied what it holds";
                return Err(RenewalError::Store(EngineError::Damaged { doing, source }));
            }
        }
        Ok(())
    }

    /// There will be no next file for now.
    fn give_up(&self, renewing: &mut Renewing, refusal: &Refusal) {
        let next = renewing.next.take();
        let had_begun = next.is_some();
        if let Some(draft) = next {
            draft.file.standing().set(Stands::Retired);
        }
        let removed = self.place.as_ref().map(|place| place.remove_next());
        if let Some(Err(error)) = removed {
            self.steward.has_given_up(&Refusal::Failed { reason: error.to_string() });
        }
        renewing.has_failed |= matches!(refusal, Refusal::Failed { .. });
        let is_news = had_begun || !matches!(refusal, Refusal::Interrupted);
        if is_news {
            self.steward.has_given_up(refusal);
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    let percent = part.saturating_sub(EMPTY_BYTES).saturating_mul(100) / whole.max(1);
    // Of little nothing can be learnt.
    percent.max(FRESH_PERCENT)
}

impl Renewing {
    /// What a file takes at most that is written now.
    fn fresh_bytes(&self, in_use_bytes: u64) -> u64 {
        EMPTY_BYTES.saturating_add(in_use_bytes.saturating_mul(self.fresh_percent) / 100)
    }

    fn is_due(&self, file_bytes: u64, in_use_bytes: u64) -> bool {
        let most = self.fresh_bytes(in_use_bytes).saturating_mul(2).saturating_add(SLACK_BYTES);
        self.next.is_some() || (!self.has_failed && file_bytes > most)
    }
}

/// What a part of a renewal came to instead.
enum RenewalError {
    /// The store's own file is not what it should be.
    Store(EngineError),
    /// There is no next file, which is no loss.
    Next(Refusal),
}

impl From<EngineError> for RenewalError {
    fn from(error: EngineError) -> Self {
        Self::Next(refusal_of(&error))
    }
}

/// Why there is no next file if it cannot be written.
fn refusal_of(error: &EngineError) -> Refusal {
    if let EngineError::Failed { source, .. } = error
        && let Some(redb::Error::Io(error)) = source.downcast_ref()
        && is_full(error)
    {
        return Refusal::NoRoom { needed_bytes: PART_BYTES as u64, free_bytes: 0 };
    }
    Refusal::Failed { reason: error.to_string() }
}

impl From<io::Error> for RenewalError {
    fn from(error: io::Error) -> Self {
        Self::Next(Refusal::Failed { reason: error.to_string() })
    }
}

impl Engine for RedbEngine {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        Ok(Arc::new(self.current().view()?))
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        let mut renewing = self.renewing();
        if renewing.next.is_some()
            && let Err(RenewalError::Next(refusal)) = self.check_room(PART_BYTES as u64)
        {
            // The batch may need it, and would wait for it.
            self.give_up(&mut renewing, &refusal);
        }
        self.current().write(&batch, durability)?;
        let Some(draft) = &renewing.next else { return Ok(()) };
        let behind = batch.iter().filter(|write| draft.copying.has_passed(write));
        if let Err(error) = draft.file.write(behind, Durability::Later) {
            self.give_up(&mut renewing, &refusal_of(&error));
        }
        Ok(())
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        let mut renewing = self.renewing();
        self.give_up(&mut renewing, &Refusal::Interrupted);
        self.current().replace(next)
    }

    fn renew(&self, in_use_bytes: u64, is_wanted: bool) -> Result<Renewal, EngineError> {
        let Some(place) = &self.place else { return Ok(Renewal::Idle) };
        let mut renewing = self.renewing();
        if !is_wanted && !renewing.is_due(self.size_bytes(), in_use_bytes) {
            return Ok(Renewal::Idle);
        }
        let outcome = self.renew_at(place.as_ref(), &mut renewing, in_use_bytes);
        let outcome = match outcome {
            Ok(renewal) => Ok(renewal),
            Err(RenewalError::Store(error)) => {
                self.give_up(&mut renewing, &Refusal::Failed { reason: error.to_string() });
                Err(error)
            }
            Err(RenewalError::Next(refusal)) => {
                self.give_up(&mut renewing, &refusal);
                Ok(Renewal::Refused(refusal))
            }
        };
        drop(renewing);
        if matches!(outcome, Ok(Renewal::UnderWay)) {
            self.steward.pace(PART_BYTES as u64);
        }
        outcome
    }

    fn size_bytes(&self) -> u64 {
        // Only for people and quotas: a file that cannot be asked counts as empty.
        let asked = self.place.as_ref().map(|place| place.size_bytes(Name::State));
        asked.map_or(0, Result::unwrap_or_default)
    }
}
