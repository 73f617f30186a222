//! Creates and opens a node's folder: lock, hard state, segments, and the clean-up of what a crash
//! left half-done. Must not know how entries are appended.

use crate::cuts::Cuts;
use crate::log_map::LogMap;
use crate::mark::{self, MarkFile, Watermark};
use crate::meta::{Meta, MetaFiles, Standing};
use crate::prepare::{self, Slot};
use crate::recovery::{self, Recovered, Replay, Witness};
use crate::scan::{Found, SCAN_WINDOW_BYTES, Scanner};
use crate::segment::{RECORDS_START, Segment, SegmentHeader, file_name, number_of};
use crate::spares::Spares;
use crate::{Damage, Disk, DiskFile, Identity, Wal, WalError, WalOptions, mending, reading};
use quorate_core::{HardState, LogId, NodeId, SnapshotMeta};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that says which process has the folder.
const LOCK_NAME: &str = "LOCK";
/// The name under which a segment is made when none was prepared.
const INLINE_NAME: &str = "next-inline.tmp";
/// The number of a new log's first segment.
pub(crate) const FIRST_SEGMENT: u64 = 1;

/// See [`Wal::create`].
pub(crate) fn create(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: WalOptions,
    identity: Identity,
    initial: SnapshotMeta,
) -> Result<(Wal, Recovered), WalError> {
    make_folder(disk.as_ref(), dir)?;
    let lock = take_lock(disk.as_ref(), dir)?;
    if Wal::exists(disk.as_ref(), dir).map_err(WalError::io("list", dir))? {
        return Err(WalError::AlreadyExists { path: dir.to_owned() });
    }
    clear_unfinished_creation(disk.as_ref(), dir)?;
    let header = SegmentHeader {
        identity,
        number: FIRST_SEGMENT,
        era: 1,
        last_log: initial.last_included,
        previous_end_bytes: 0,
        capacity_bytes: options.first_segment_size_bytes.max(RECORDS_START),
        previous_salt: 0,
    };
    let inline = dir.join(INLINE_NAME);
    let file = disk.create(&inline).map_err(WalError::io("create", &inline))?;
    prepare::fill(file.as_ref(), header.capacity_bytes)
        .map_err(WalError::io("zero-fill", &inline))?;
    let filled = unnamed_segment(header, file, inline, header.capacity_bytes);
    let active = finish_segment(disk.as_ref(), dir, filled)?;
    let meta = Meta {
        generation: 1,
        identity,
        era: header.era,
        hard_state: HardState::default(),
        first_segment: FIRST_SEGMENT,
        last_segment: FIRST_SEGMENT,
        synced_bytes: RECORDS_START,
        standing: Standing::Unproven,
        horizon: LogId::ORIGIN,
        cuts: Cuts::default(),
        protocol: initial.configuration.cluster_version,
        base: initial,
    };
    let watermark = Watermark {
        era: meta.era,
        // That of no hard state: it comes only now.
        generation: 0,
        segment: FIRST_SEGMENT,
        position: RECORDS_START,
        last_log: meta.base.last_included,
    };
    let mark = MarkFile::create(disk.as_ref(), dir, &identity, watermark)?;
    let meta = MetaFiles::create(disk.clone(), dir, meta)?;
    let replay = Replay::of_new_log(active, meta.meta().base.last_included);
    build(disk, dir, options, Files { meta, mark, is_mark_lost: false, lock }, replay)
}

/// What belongs to the folder and not to the log's records.
struct Files {
    meta: MetaFiles,
    mark: MarkFile,
    is_mark_lost: bool,
    lock: Arc<dyn Any + Send + Sync>,
}

/// Makes a folder whose own name survives a power failure: everything in it is lost if only what
/// it contains was synced. An earlier life may have made the folders and died before it synced
/// them, so those that exist are synced too, as far as we may.
pub(crate) fn make_folder(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    let is_missing =
        |path: &Path| disk.list(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    // Below each of these a name is new, or may be.
    let parents = dir
        .ancestors()
        .skip(1)
        .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let ours: Vec<(&Path, bool)> =
        parents.zip(dir.ancestors()).map(|(parent, child)| (parent, is_missing(child))).collect();
    disk.create_dir_all(dir).map_err(WalError::io("create", dir))?;
    for (place, (parent, is_new)) in ours.into_iter().enumerate() {
        let Err(error) = disk.sync_dir(parent) else {
            continue;
        };
        // A folder that was given to us may stand where we may not look.
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        if is_new || (place == 0 && !is_denied) {
            return Err(WalError::io("sync", parent)(error));
        }
    }
    Ok(())
}

/// See [`Wal::open`].
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: WalOptions,
    cluster_id: u64,
    node_id: NodeId,
) -> Result<(Wal, Recovered), WalError> {
    if !Wal::exists(disk.as_ref(), dir).map_err(WalError::io("list", dir))? {
        return Err(WalError::Missing { path: dir.to_owned() });
    }
    let lock = take_lock(disk.as_ref(), dir)?;
    let mut meta_files = MetaFiles::open(disk.clone(), dir)?;
    let mut meta = meta_files.meta().clone();
    let found = meta.identity;
    if (found.cluster_id, found.node_id) != (cluster_id, node_id) {
        return Err(WalError::WrongIdentity {
            path: dir.to_owned(),
            expected_cluster_id: cluster_id,
            expected_node_id: node_id,
            found,
        });
    }
    let mark = open_mark(disk.as_ref(), dir, &meta)?;
    let mut replay = examine(disk.as_ref(), dir, &meta, mark.as_ref(), &mut ())?;
    let wound = replay.wound.take();
    if let Some(wound) = &wound {
        mending::check(disk.as_ref(), dir, options, (&meta, mark.as_ref()), (&replay, wound))?;
    }
    let is_mark_lost = mark.is_none() && meta_files.version() > 1;
    if wound.is_none() {
        meta.synced_bytes = make_durable(disk.as_ref(), dir, &replay, &meta)?;
    }
    // From here on nothing that was cut off can come back: later records are of a later era.
    meta.era =
        meta.era.checked_add(1).ok_or_else(|| WalError::damaged(dir, 0, Damage::Unannounced))?;
    let lost = if let Some(wound) = wound {
        let lost = wound.lost(replay.map.last());
        mending::cut(disk.as_ref(), dir, options, &mut meta, (&mut replay, wound))?;
        Some(lost).filter(|_| meta.lost().is_some())
    } else {
        mending::close(&mut meta, replay.map.last());
        mending::lost(dir, &meta, replay.map.last())
    };
    // Entries are written before the term that came with them, so a crash can leave a log whose
    // last term is above the stored one. To hear of a term is always allowed; no vote was given
    // in it, for the vote would have been stored with it.
    let last_term = replay.map.last().term.max(meta.horizon.term);
    if meta.hard_state.current_term < last_term {
        meta.hard_state = HardState { current_term: last_term, voted_for: None };
    }
    // This also makes a folder of an older format one of the newest.
    meta_files.store(meta)?;
    // Not earlier: what was read may have been a copy that never reached the disk, and the one
    // that did still needs the segments that this one has released.
    clear_leftovers(disk.as_ref(), dir, meta_files.meta())?;
    let mark = set_mark(disk.as_ref(), dir, mark, meta_files.meta(), &replay)?;
    let files = Files { meta: meta_files, mark, is_mark_lost, lock };
    let (mut wal, recovered) = build(disk, dir, options, files, replay)?;
    wal.look_for_spares();
    Ok((wal, Recovered { lost, ..recovered }))
}

/// The mark, which must not know more than the hard state.
pub(crate) fn open_mark(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
) -> Result<Option<MarkFile>, WalError> {
    let mark = MarkFile::open(disk, dir, &meta.identity)?;
    if mark.as_ref().is_some_and(|mark| mark.watermark().is_beyond(meta)) {
        return Err(WalError::damaged(&dir.join(mark::NAME), 0, Damage::Unannounced));
    }
    Ok(mark)
}

/// Reads the log, as every start does before it changes anything.
pub(crate) fn examine(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    mark: Option<&MarkFile>,
    witness: &mut dyn Witness,
) -> Result<Replay, WalError> {
    let replay = recovery::replay(disk, dir, meta, mark.map(MarkFile::watermark), witness)?;
    check_unannounced(disk, dir, meta)?;
    Ok(replay)
}

/// Notes in the mark where the log stands now, and makes one in a folder that has none. After both
/// copies of the hard state are durable: what it says of them must be true of either.
fn set_mark(
    disk: &dyn Disk,
    dir: &Path,
    mark: Option<MarkFile>,
    meta: &Meta,
    replay: &Replay,
) -> Result<MarkFile, WalError> {
    let watermark = Watermark {
        era: meta.era,
        generation: meta.generation,
        segment: meta.last_segment,
        position: meta.synced_bytes,
        last_log: replay.map.last(),
    };
    match mark {
        Some(mut mark) => mark.write(watermark).map(|()| mark),
        None => MarkFile::create(disk, dir, &meta.identity, watermark),
    }
}

fn build(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: WalOptions,
    files: Files,
    replay: Replay,
) -> Result<(Wal, Recovered), WalError> {
    let Files { meta, mark, is_mark_lost, lock } = files;
    let Replay { map, configurations, mut segments, torn_tail, .. } = replay;
    let oldest = meta.meta().first_segment;
    let active = segments.pop().ok_or_else(|| WalError::damaged(dir, 0, Damage::FileMissing))?;
    let mut wal = Wal {
        disk,
        dir: dir.to_owned(),
        options,
        meta,
        mark,
        sealed: segments,
        oldest,
        active,
        map,
        buffer: Vec::new(),
        slot: Slot::default(),
        poison: None,
        read_file: None,
        spares: Spares::default(),
        lock,
    };
    let tail = reading::read_tail(&mut wal, options.tail_bytes_max)?;
    let recovered = Recovered {
        hard_state: wal.hard_state(),
        base: wal.base().clone(),
        term_runs: wal.map.runs().to_vec(),
        configurations,
        last_log: wal.last_log(),
        tail,
        torn_tail,
        is_mark_lost,
        lost: None,
    };
    Ok((wal, recovered))
}

impl Replay {
    /// What replaying a log without records gives.
    fn of_new_log(active: Segment, start: LogId) -> Self {
        Self {
            map: LogMap::new(start),
            configurations: Vec::new(),
            segments: vec![active],
            torn_tail: None,
            wound: None,
            last_batch_bytes: RECORDS_START,
            era: 1,
            mark: None,
        }
    }
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn Any + Send + Sync>, WalError> {
    let path = dir.join(LOCK_NAME);
    match disk.lock(&path) {
        Ok(guard) => Ok(guard.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(WalError::Locked { path: dir.to_owned(), pid: read_pid(disk, &path) })
        }
        Err(error) => Err(WalError::io("lock", &path)(error)),
    }
}

/// The process that the lock file names.
fn read_pid(disk: &dyn Disk, path: &Path) -> Option<u32> {
    let mut text = [0; 16];
    let count = disk.open(path).ok()?.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..count)?).ok()?.trim().parse().ok()
}

/// Makes a segment with room for so many bytes of records, out of a prepared file, or out of a new one
/// that will grow. If there is no room, nothing is left of it.
pub(crate) fn make_segment(
    disk: &dyn Disk,
    dir: &Path,
    header: SegmentHeader,
    prepared: Option<Box<dyn DiskFile>>,
    size_bytes: u64,
) -> Result<Segment, WalError> {
    let mut unnamed = if let Some(file) = prepared {
        let temporary = dir.join(prepare::PREPARED_NAME);
        // It may have been prepared for an earlier segment than this, and be smaller.
        let filled_bytes = file.size_bytes().map_err(WalError::io("measure", &temporary))?;
        unnamed_segment(header, file, temporary, filled_bytes)
    } else {
        let inline = dir.join(INLINE_NAME);
        let file = disk.create(&inline).map_err(WalError::io("create", &inline))?;
        unnamed_segment(header, file, inline, 0)
    };
    let temporary = unnamed.path.clone();
    let made = unnamed.reserve(size_bytes).and_then(|()| finish_segment(disk, dir, unnamed));
    if matches!(made, Err(WalError::DiskFull { .. })) {
        discard(disk, &temporary)?;
    }
    made
}

/// Makes an empty segment that will grow, in the place of what a crash has left of it.
pub(crate) fn begin_segment(
    disk: &dyn Disk,
    dir: &Path,
    header: SegmentHeader,
) -> Result<Segment, WalError> {
    discard(disk, &dir.join(INLINE_NAME))?;
    make_segment(disk, dir, header, None, 0)
}

/// Removes a file, if there is one.
pub(crate) fn discard(disk: &dyn Disk, path: &Path) -> Result<(), WalError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(WalError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A segment whose file has neither its header nor its name yet.
fn unnamed_segment(
    header: SegmentHeader,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    reserved_bytes: u64,
) -> Segment {
    let (salt, file) = (header.salt(), Some(file.into()));
    Segment { header, salt, end_bytes: RECORDS_START, reserved_bytes, path, file }
}

/// Writes the header, then gives the file its name: a segment's name implies a whole header.
fn finish_segment(disk: &dyn Disk, dir: &Path, unnamed: Segment) -> Result<Segment, WalError> {
    let Segment { header, path: temporary, file, .. } = &unnamed;
    let path = dir.join(file_name(header.number));
    if let Some(file) = file {
        file.write_at(&header.encode(), 0).map_err(WalError::io("write", temporary))?;
        file.sync().map_err(WalError::io("sync", temporary))?;
    }
    disk.rename(temporary, &path).map_err(WalError::io("rename to", &path))?;
    disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    Ok(Segment { path, ..unnamed })
}

/// Makes what was read durable, and returns where the log ends. Records of the last batch may
/// have been read from memory of the operating system that never reached the disk, and be counted
/// as clean after a failed sync: writing them again makes the next sync mean them. Each is verified
/// once more, for a disk that reads wrongly now would have the right bytes overwritten.
fn make_durable(
    disk: &dyn Disk,
    dir: &Path,
    replay: &Replay,
    meta: &Meta,
) -> Result<u64, WalError> {
    disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    let Some((active, file)) =
        replay.segments.last().and_then(|segment| Some((segment, segment.file.as_ref()?)))
    else {
        return Err(WalError::damaged(dir, 0, Damage::FileMissing));
    };
    let (path, end_bytes) = (&active.path, active.end_bytes);
    let salts = active.header.salts();
    let mut scanner = Scanner::new(file.as_ref(), path, salts, end_bytes, SCAN_WINDOW_BYTES)?;
    let mut position = meta.synced_bytes.max(replay.last_batch_bytes).max(RECORDS_START);
    while position < end_bytes {
        let mut piece = Vec::new();
        while position + (piece.len() as u64) < end_bytes && piece.len() < SCAN_WINDOW_BYTES {
            let next = position + piece.len() as u64;
            let Some(record) = scanner.whole_record_at(next) else {
                return Err(WalError::damaged(path, next, Damage::ReadsDiffer));
            };
            piece.extend_from_slice(&record);
        }
        file.write_at(&piece, position).map_err(WalError::io("write", path))?;
        position += piece.len() as u64;
    }
    file.sync().map_err(WalError::io("sync", path))?;
    Ok(active.end_bytes)
}

/// Refuses if a segment beyond the last announced one holds records: it was announced once.
fn check_unannounced(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<(), WalError> {
    for name in disk.list(dir).map_err(WalError::io("list", dir))? {
        let path = dir.join(&name);
        let is_beyond = number_of(&name).is_some_and(|number| number > meta.last_segment);
        if is_beyond && holds_records(disk, &path)? {
            return Err(WalError::damaged(&path, RECORDS_START, Damage::Unannounced));
        }
    }
    Ok(())
}

/// Removes what a crash left: half-made files, segments already released, and one that was made
/// and not yet announced.
fn clear_leftovers(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<(), WalError> {
    for name in disk.list(dir).map_err(WalError::io("list", dir))? {
        let path = dir.join(&name);
        let is_outside = number_of(&name)
            .is_some_and(|number| number < meta.first_segment || number > meta.last_segment);
        if is_outside || is_temporary(&name) {
            disk.remove(&path).map_err(WalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// A creation that crashed leaves temporary files and at most an empty first segment. Anything
/// more is a log whose hard state is gone: its vote is lost, and it must not be begun anew.
fn clear_unfinished_creation(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let watermark = MarkFile::watermark_of(disk, dir)?;
    if watermark.is_some_and(|it| (it.segment, it.position) > (FIRST_SEGMENT, RECORDS_START)) {
        return Err(WalError::damaged(dir, 0, Damage::BothCopies));
    }
    for name in names {
        let path = dir.join(&name);
        let number = number_of(&name);
        if number.is_some_and(|number| number != FIRST_SEGMENT)
            || (number.is_some() && !is_untouched(disk, &path)?)
        {
            return Err(WalError::damaged(dir, 0, Damage::BothCopies));
        }
        if number.is_some() || is_temporary(&name) || name == mark::NAME {
            disk.remove(&path).map_err(WalError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    [INLINE_NAME, prepare::PREPARED_NAME, mark::TEMPORARY_NAME, "meta-a.tmp", "meta-b.tmp"]
        .contains(&name)
}

/// Whether a segment has a record at its beginning.
fn holds_records(disk: &dyn Disk, path: &Path) -> Result<bool, WalError> {
    let file = disk.open(path).map_err(WalError::io("open", path))?;
    let header = SegmentHeader::read_any(file.as_ref(), path)?;
    let mut scanner =
        Scanner::new(file.as_ref(), path, header.salts(), u64::MAX, SCAN_WINDOW_BYTES)?;
    match scanner.record_at(RECORDS_START) {
        Found::Record(_) => Ok(true),
        Found::Unreadable(kind) => Err(WalError::io("read", path)(kind.into())),
        Found::End | Found::Blank | Found::Residue | Found::Invalid => Ok(false),
    }
}

/// Whether a segment is as it was made: of its full size, and nothing but zeros behind its header.
fn is_untouched(disk: &dyn Disk, path: &Path) -> Result<bool, WalError> {
    let file = disk.open(path).map_err(WalError::io("open", path))?;
    let header = SegmentHeader::read_any(file.as_ref(), path)?;
    let end = header.capacity_bytes;
    if file.size_bytes().map_err(WalError::io("measure", path))? < end {
        return Ok(false);
    }
    let mut scanner = Scanner::new(file.as_ref(), path, header.salts(), end, SCAN_WINDOW_BYTES)?;
    scanner.is_blank_from(RECORDS_START)
}
