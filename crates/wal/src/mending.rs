//! A wounded log goes on: it is cut where it can be trusted no further, and closed when it reaches again
//! up to what it held. Nothing of what stands behind the cut is changed, until the log begins behind it.
//! Must not know who gives back what was lost, nor how.

use crate::cuts::Cut;
use crate::mark::MarkFile;
use crate::meta::Meta;
use crate::recovery::{Lost, Replay};
use crate::segment::{RECORDS_START, SegmentHeader, file_name};
use crate::spares::Spares;
use crate::wound::Wound;
use crate::{Damage, Disk, Wal, WalError, WalOptions, folder, reading};
use quorate_core::{Entry, LogId, LogIndex};
use std::path::Path;

/// So many entries that cannot be read are passed over at a time.
const PASSED_OVER_MAX: usize = 64;

/// Whether nobody else can have what is lost: the configuration names one member.
pub(crate) fn is_alone(replay: &Replay, meta: &Meta) -> bool {
    let last = replay.configurations.last().map(|(_, configuration)| configuration);
    last.unwrap_or(&meta.base.configuration).member_count() == 1
}

/// Whether a log may be cut where it is wounded: if that is wanted, if somebody else can have what is
/// lost, and if it is no whim of a moment: another look has to find the same.
pub(crate) fn check(
    disk: &dyn Disk,
    dir: &Path,
    options: WalOptions,
    (meta, mark): (&Meta, Option<&MarkFile>),
    (replay, wound): (&Replay, &Wound),
) -> Result<(), WalError> {
    let again = folder::examine(disk, dir, meta, mark, &mut ())?.wound;
    let is_sure = again.as_ref().is_some_and(|again| again.is_same(wound));
    match again {
        Some(again) if is_sure && (!options.mends || is_alone(replay, meta)) => {
            Err(again.into_error())
        }
        Some(_) if is_sure => Ok(()),
        Some(_) | None => Err(wound.differs()),
    }
}

/// Cuts a log whose wound was just found, and lets it go on in a segment of its own. That counts when
/// `meta` is durable, which is left to the caller.
pub(crate) fn cut(
    disk: &dyn Disk,
    dir: &Path,
    options: WalOptions,
    meta: &mut Meta,
    (replay, wound): (&mut Replay, Wound),
) -> Result<(), WalError> {
    let last = replay.map.last();
    let too_far = || WalError::damaged(dir, 0, Damage::Unannounced);
    let number = meta.last_segment.checked_add(1).ok_or_else(too_far)?;
    let horizon = meta.horizon.max(wound.end.last_log);
    let cut = Cut {
        segment: wound.segment,
        bytes: wound.bytes,
        resumed: number,
        end_bytes: wound.end.position,
    };
    if !meta.cuts.push(meta.first_segment, cut) {
        return Err(wound.into_error());
    }
    let before = replay.segments.last().map(|segment| segment.header.capacity_bytes);
    let header = SegmentHeader {
        identity: meta.identity,
        number,
        era: meta.era,
        last_log: last,
        previous_end_bytes: cut.bytes,
        capacity_bytes: options.next_capacity(before.unwrap_or(options.first_segment_size_bytes)),
        previous_salt: 0,
    };
    replay.segments.push(folder::begin_segment(disk, dir, header)?);
    meta.last_segment = number;
    meta.synced_bytes = RECORDS_START;
    meta.horizon = horizon;
    close(meta, last);
    Ok(())
}

/// Closes the wound of a log that ends with `last`, if that reaches as far as it once did, in the order
/// of the election rule (§3.6.1). Returns whether it did.
pub(crate) fn close(meta: &mut Meta, last: LogId) -> bool {
    let is_closed = meta.lost().is_some_and(|horizon| last >= horizon);
    if is_closed {
        meta.horizon = LogId::ORIGIN;
    }
    is_closed
}

/// The log begins anew with this segment. As long as something is lost, all of what was before it stands
/// behind a cut, up to where its records end; otherwise it is given up.
pub(crate) fn start_anew(meta: &mut Meta, number: u64, end_bytes: u64) {
    if meta.lost().is_none() {
        meta.first_segment = number;
        meta.cuts.release(number);
        return;
    }
    let segment = meta.first_segment.saturating_sub(1);
    let cut = Cut { segment, bytes: RECORDS_START, resumed: number, end_bytes };
    // It cuts off all others, so that there is room for it.
    let _ = meta.cuts.push(meta.first_segment, cut);
}

/// What is said of a log that an earlier start has cut; `None` if it is sound again.
pub(crate) fn lost(dir: &Path, meta: &Meta, after: LogId) -> Option<Lost> {
    let horizon = meta.lost()?;
    let cut = meta.cuts.newest(meta.first_segment, meta.last_segment);
    let (number, offset_bytes) =
        cut.map_or((meta.first_segment, 0), |cut| (cut.segment.max(meta.first_segment), cut.bytes));
    let path = dir.join(file_name(number));
    Some(Lost { after, horizon, path, offset_bytes, damage: None })
}

impl Wal {
    /// Notes for good that the log has what it lost, if it has. Only after that is durable.
    pub(crate) fn close_if_reached(&mut self) -> Result<(), WalError> {
        let last = self.map.last();
        if self.lost().is_none_or(|horizon| last < horizon) {
            return Ok(());
        }
        self.store_meta(|meta| {
            close(meta, last);
        })?;
        self.spares = Spares::default();
        Ok(())
    }

    /// Reads anew what stands behind the cuts, if somebody may want it.
    pub(crate) fn look_for_spares(&mut self) {
        self.spares = match self.lost() {
            Some(_) => Spares::scan(self.disk.as_ref(), &self.dir, self.meta.meta()),
            None => Spares::default(),
        };
    }

    /// See [`Wal::spares`].
    pub(crate) fn read_spares(&mut self, first: LogIndex, max_bytes: usize) -> Vec<Entry> {
        let mut from = first;
        for _ in 0..PASSED_OVER_MAX {
            let Some((place, next)) = self.spares.next(from) else { break };
            let entries = self.read_stretch(place, next, max_bytes);
            if !entries.is_empty() {
                return entries;
            }
            from = next.next();
        }
        Vec::new()
    }

    /// Reads from a stretch on, and what follows upon it.
    fn read_stretch(&mut self, mut place: usize, first: LogIndex, max_bytes: usize) -> Vec<Entry> {
        let (mut entries, mut next, mut left_bytes) = (Vec::new(), first, max_bytes);
        while let Some(last) = self.spares.map(place).map(|map| map.last().index) {
            let read = reading::read_spare(self, place, (next, last), left_bytes);
            // What has become unreadable meanwhile is no spare.
            let Ok(more) = read else { break };
            let size_bytes: usize = more.iter().map(Entry::size_bytes).sum();
            left_bytes = left_bytes.saturating_sub(size_bytes);
            next = next.plus(more.len() as u64);
            entries.extend(more);
            place += 1;
            if next <= last || left_bytes == 0 || !self.spares.follows(place) {
                break;
            }
        }
        entries
    }

    /// The segments from which the log may begin when it needs nothing before `first`: as long as
    /// something is lost, what stands behind the cuts is kept.
    pub(crate) fn kept_from(&self, first: u64) -> u64 {
        let meta = self.meta.meta();
        let cuts = meta.cuts.list().iter().map(|cut| cut.segment);
        match cuts.min().filter(|_| meta.lost().is_some()) {
            Some(cut) => first.min(cut.max(meta.first_segment)),
            None => first,
        }
    }
}
