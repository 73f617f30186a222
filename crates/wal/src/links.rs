//! The segments that hold a log, one behind the other, each with its header or with why it has none.
//! Must not know records.

use crate::meta::Meta;
use crate::segment::{RECORDS_START, Segment, SegmentHeader, file_name, number_of};
use crate::{Damage, Disk, DiskFile, WalError};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One segment of a log.
pub(crate) struct Link {
    /// The segment, not yet read; or what became of it. That is always damage.
    pub(crate) segment: Result<Segment, Lacking>,
    /// Where the records of the segment before it end; `None` if nothing says so.
    pub(crate) previous_end_bytes: Option<u64>,
}

/// A segment that cannot be read at all.
#[derive(Clone, Debug)]
pub(crate) struct Lacking {
    pub(crate) path: PathBuf,
    pub(crate) damage: Damage,
}

/// So many segments can be missing. More, and it is another folder, or a number is wrong.
const MISSING_MAX: u64 = 64;

/// Opens all segments that `meta` names.
///
/// # Errors
///
/// Of files that are another folder's, in another's place, or of a newer program, and what the operating
/// system says: nobody can mend these. And if nearly all of them are missing.
pub(crate) fn open(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<Vec<Link>, WalError> {
    check_count(disk, dir, meta)?;
    let mut links = Vec::new();
    for number in meta.path() {
        let segment = open_segment(disk, dir, meta, number)?;
        let cut = meta.cuts.before(number).map(|cut| cut.bytes);
        let header = segment.as_ref().ok().map(|segment| segment.header.previous_end_bytes);
        links.push(Link { segment, previous_end_bytes: cut.or(header) });
    }
    Ok(links)
}

/// The numbers are our own, under a checksum, and yet one that is far off must not cost anything.
fn check_count(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<(), WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let span = meta.first_segment..=meta.last_segment;
    let numbers: BTreeSet<u64> =
        names.iter().filter_map(|name| number_of(name)).filter(|it| span.contains(it)).collect();
    let count = meta.last_segment.saturating_sub(meta.first_segment).saturating_add(1);
    if count > MISSING_MAX.saturating_add(numbers.len() as u64) {
        let missing = span.into_iter().find(|number| !numbers.contains(number));
        let path = dir.join(file_name(missing.unwrap_or(meta.last_segment)));
        return Err(WalError::damaged(&path, 0, Damage::FileMissing));
    }
    Ok(())
}

/// Opens one segment, which must be of this folder.
///
/// # Errors
///
/// As [`open`]; what is damage is no error.
pub(crate) fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    number: u64,
) -> Result<Result<Segment, Lacking>, WalError> {
    let path = dir.join(file_name(number));
    let file: Arc<dyn DiskFile> = match disk.open(&path) {
        Ok(file) => file.into(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err(Lacking { path, damage: Damage::FileMissing }));
        }
        Err(error) => return Err(WalError::io("open", &path)(error)),
    };
    let header = match SegmentHeader::read(file.as_ref(), &path, &meta.identity, number) {
        Ok(header) => header,
        Err(WalError::Damaged { damage: damage @ (Damage::NotOurs | Damage::Header), .. }) => {
            return Ok(Err(Lacking { path, damage }));
        }
        Err(error) => return Err(error),
    };
    let (salt, file) = (header.salt(), Some(file));
    let (end_bytes, reserved_bytes) = (RECORDS_START, 0);
    Ok(Ok(Segment { header, salt, end_bytes, reserved_bytes, path, file }))
}
