//! Reads the folders of stopped members, by the code that a start reads them with, and changes nothing
//! in them. While it is at work no server can start from them. Must not know what follows.

use super::remains::{Log, Remains, Root, Snapshot, State, Trace};
use crate::serve::STATE_FILE;
use crate::serve::folder::{self, Owner};
use crate::serve::forced;
use anyhow::{Context, bail, ensure};
use quorate::LogNote;
use quorate::core::{Entry, LogId, LogIndex, Payload, SnapshotMeta};
use quorate::wal::{
    Disk, MetaSight, ReadOnlyDisk, RecordContent, Sight, SnapshotStore, Verdict, Wal, inspect,
};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries are handed on when they have gathered to this size.
const BATCH_BYTES: usize = 1 << 20;

/// The locks of the folders that are looked at, for as long as this lives.
pub(in crate::serve) struct Held(#[expect(dead_code, reason = "dropping it is its use")] Vec<File>);

/// Looks at folders, none of which may be in use.
///
/// # Errors
///
/// If one is no folder, is given twice, is in use, or if its log is not to be found.
pub(super) fn survey(
    dirs: &[PathBuf],
    wal_dirs: &[PathBuf],
) -> anyhow::Result<(Vec<Remains>, Held)> {
    check_distinct(dirs)?;
    dirs.iter().try_for_each(|dir| forced::check_whole(dir))?;
    let mut places = Vec::new();
    for dir in dirs {
        places.push((dir, log_dir(dir, wal_dirs)?));
    }
    if let Some(unused) = wal_dirs.iter().find(|it| !places.iter().any(|(_, used)| used == *it)) {
        bail!("--wal-dir {}: the log there is of none of these data folders", unused.display());
    }
    let all = places.iter().flat_map(|(dir, log_dir)| [dir.as_path(), log_dir.as_path()]);
    let locks = all.filter_map(|dir| lock(dir).transpose());
    let held = Held(locks.collect::<anyhow::Result<_>>()?);
    Ok((places.iter().map(|(dir, log_dir)| look(dir, log_dir)).collect(), held))
}

/// Where the log of a data folder is: in the one of `given` that holds it, or where the folder says.
fn log_dir(dir: &Path, given: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let note = LogNote::read(&ReadOnlyDisk, dir)?;
    let owner = folder::owner_of(dir);
    let is_its = |place: &&PathBuf| {
        let Ok(Some((found, _))) = Wal::look(&ReadOnlyDisk, place) else { return false };
        let found_owner = Owner { cluster_id: found.cluster_id, member_id: found.node_id.get() };
        match &note {
            Some(note) => note.storage_id == found.storage_id,
            None => owner.as_ref() == Some(&found_owner),
        }
    };
    let noted = note.as_ref().map(|note| &note.dir);
    let place = given.iter().find(is_its).or(noted).map(PathBuf::as_path);
    Ok(folder::log_place(dir, place)?.dir().to_owned())
}

fn check_distinct(dirs: &[PathBuf]) -> anyhow::Result<()> {
    let mut known: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        let shown = dir.display();
        let real = dir.canonicalize().with_context(|| format!("--data-dir {shown}"))?;
        ensure!(real.is_dir(), "--data-dir {shown} is no folder");
        ensure!(!known.contains(&real), "--data-dir {shown} is given twice");
        known.push(real);
    }
    Ok(())
}

/// The lock that a server takes, if the folder has one: that of its log, or one whose log is elsewhere.
fn lock(dir: &Path) -> anyhow::Result<Option<File>> {
    let path = dir.join("LOCK");
    let Ok(file) = File::open(&path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "{} is in use by process {}: a cluster is recovered from members that are stopped, and \
                 that will not be started again",
                dir.display(),
                pid.trim()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", path.display()))
        }
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(ReadOnlyDisk)
}

fn look(dir: &Path, log_dir: &Path) -> Remains {
    let (root, log) = look_at_log(log_dir);
    let (snapshots, trouble) = match snapshots(dir) {
        Ok(snapshots) => (snapshots, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let state = match quorate_kv::glance(&dir.join(STATE_FILE)) {
        Ok(None) => State::Missing,
        Ok(Some(seen)) => State::At {
            applied: seen.applied,
            covered: seen.covered,
            revision: seen.revision.get(),
            key_count: seen.key_count,
        },
        Err(error) => State::Unusable(error.to_string()),
    };
    let snapshot_trouble = trouble.map(|error| format!("{error:#}"));
    let (dir, log_dir) = (dir.to_owned(), log_dir.to_owned());
    Remains { dir, log_dir, root, log, state, snapshots, snapshot_trouble }
}

fn look_at_log(log_dir: &Path) -> (Option<Root>, Log) {
    let (mut root, mut trace) = (None, Trace::default());
    let verdict = inspect(&disk(), log_dir, &mut |sight| match sight {
        Sight::Meta(_, Ok(meta)) => {
            let is_newer = |(generation, _): &(u64, Root)| *generation < meta.generation;
            if root.as_ref().is_none_or(is_newer) {
                root = Some((meta.generation, root_of(meta)));
            }
        }
        Sight::Record(record) => trace.record(&record),
        Sight::Meta(_, Err(_)) | Sight::Mark(_) | Sight::Segment(_) => {}
    });
    let is_sound = matches!(verdict, Verdict::Whole { .. } | Verdict::Torn { .. });
    let log = Log { is_sound, case: verdict.word(), verdict: verdict.to_string(), trace };
    (root.map(|(_, root)| root), log)
}

fn root_of(meta: MetaSight) -> Root {
    Root {
        identity: meta.identity,
        era: meta.era,
        term: meta.hard_state.current_term,
        voted_for: meta.hard_state.voted_for,
        standing: meta.standing,
        base: meta.base,
    }
}

/// The snapshots of a folder, each read to its end.
fn snapshots(dir: &Path) -> anyhow::Result<Vec<Snapshot>> {
    let Some(store) = open_snapshots(dir)? else { return Ok(Vec::new()) };
    let verified = |meta: SnapshotMeta| {
        let verified = store.reader(meta.last_included).and_then(|reader| reader.verify());
        Snapshot { meta, damage: verified.err().map(|error| error.to_string()) }
    };
    Ok(store.list()?.into_iter().map(verified).collect())
}

/// The snapshots of a folder, to look at.
///
/// # Errors
///
/// If the disk refuses.
pub(super) fn open_snapshots(dir: &Path) -> anyhow::Result<Option<SnapshotStore>> {
    Ok(SnapshotStore::look(disk(), &dir.join("snapshots"))?)
}

/// Reads the entries that a folder's log ends up with, those in `(from, end]`, and hands them on in
/// order, many at a time.
///
/// # Errors
///
/// What `take` says, or if the log does not hold them any more.
pub(super) fn read_entries(
    folder: &Remains,
    from: LogIndex,
    end: LogId,
    take: &mut dyn FnMut(Vec<Entry>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut reading = Reading { folder, next: from.next(), end, batch: Vec::new(), bytes: 0, take };
    let mut failure = None;
    inspect(&disk(), &folder.log_dir, &mut |sight| {
        if failure.is_some() {
            return;
        }
        if let Sight::Record(record) = sight
            && let RecordContent::Entry(payload) = record.content
        {
            failure = reading.entry(record.log_id, payload).err();
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    reading.hand_on()?;
    ensure!(
        reading.next > end.index,
        "the log of {} ends before entry {end}, and did not when it was read first: is its disk failing?",
        folder.dir.display()
    );
    Ok(())
}

struct Reading<'a> {
    folder: &'a Remains,
    next: LogIndex,
    end: LogId,
    batch: Vec<Entry>,
    bytes: usize,
    take: &'a mut dyn FnMut(Vec<Entry>) -> anyhow::Result<()>,
}

impl Reading<'_> {
    /// A record. What a later one truncates is passed over: the log ends up with another term there.
    /// Where the term is the same, the entry is.
    fn entry(&mut self, log_id: LogId, payload: Payload) -> anyhow::Result<()> {
        let is_left = self.folder.log.trace.term_at(log_id.index) == Some(log_id.term);
        if log_id.index != self.next || log_id.index > self.end.index || !is_left {
            return Ok(());
        }
        self.next = log_id.index.next();
        let entry = Entry { log_id, payload };
        self.bytes += entry.size_bytes();
        self.batch.push(entry);
        if self.bytes >= BATCH_BYTES { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> anyhow::Result<()> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { (self.take)(batch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::core::{HardState, NodeId, Persist, Term};
    use quorate::wal::{Identity, RealDisk, WalOptions};

    fn entry(index: u64, term: u64) -> Entry {
        let log_id = LogId::new(Term::new(term), LogIndex::new(index));
        let payload = Payload::Command(format!("{index}@{term}").into());
        Entry { log_id, payload }
    }

    /// Entries 1 to 5 of term 1, of which a leader of term 2 replaced those behind the third.
    fn made(dir: &Path) -> Wal {
        let identity = Identity { cluster_id: 7, node_id: NodeId::new(1), storage_id: 16 };
        let initial = SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::default() };
        let (disk, options) = (Arc::new(RealDisk), WalOptions::default());
        let (mut wal, _) = Wal::create(disk, &dir.join("wal"), options, identity, initial).unwrap();
        let entries = (1..=5).map(|index| entry(index, 1)).collect();
        wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
        let hard_state = Some(HardState { current_term: Term::new(2), voted_for: None });
        let entries = (4..=6).map(|index| entry(index, 2)).collect();
        let truncate_after = Some(LogIndex::new(3));
        wal.persist(&[Persist { truncate_after, entries, hard_state, ..Persist::default() }])
            .unwrap();
        wal
    }

    #[test]
    fn a_log_is_read_with_what_it_ends_up_with_and_is_held_meanwhile() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().to_owned();
        let wal = made(&dir);
        let refused = survey(std::slice::from_ref(&dir), &[]).err().unwrap().to_string();
        assert!(
            refused.contains(&format!("in use by process {}", std::process::id())),
            "{refused}"
        );
        drop(wal);
        let (folders, held) = survey(std::slice::from_ref(&dir), &[]).unwrap();
        let folder = &folders[0];
        assert!(folder.log.is_sound, "{}", folder.log.verdict);
        assert_eq!((folder.last_log(), &folder.state), (entry(6, 2).log_id, &State::Missing));
        assert_eq!(folder.root.as_ref().unwrap().term, Term::new(2));
        let mut read = Vec::new();
        let (from, end) = (LogIndex::new(2), entry(6, 2).log_id);
        read_entries(folder, from, end, &mut |batch| {
            read.extend(batch);
            Ok(())
        })
        .unwrap();
        let expected = [entry(3, 1), entry(4, 2), entry(5, 2), entry(6, 2)];
        assert_eq!(read, expected);
        let options = WalOptions::default();
        let open = || Wal::open(Arc::new(RealDisk), &dir.join("wal"), options, 7, NodeId::new(1));
        assert!(open().err().unwrap().to_string().contains("is in use"));
        drop(held);
        open().unwrap();
    }

    #[test]
    fn entries_that_are_not_there_any_more_are_missed() {
        let home = tempfile::tempdir().unwrap();
        drop(made(home.path()));
        let (folders, _held) = survey(&[home.path().to_owned()], &[]).unwrap();
        let (from, end) = (LogIndex::ORIGIN, entry(7, 2).log_id);
        let missed = read_entries(&folders[0], from, end, &mut |_| Ok(())).unwrap_err();
        assert!(missed.to_string().contains("ends before entry 7@2"), "{missed}");
    }

    #[test]
    fn a_folder_twice_and_no_folder_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let (one, same) = (home.path().to_owned(), home.path().join("."));
        let refused = survey(&[one.clone(), same], &[]).err().unwrap().to_string();
        assert!(refused.contains("is given twice"), "{refused}");
        assert!(survey(&[one.join("nowhere")], &[]).is_err());
        // Nothing is in it: that is said, and is no error.
        let (folders, _held) = survey(&[one], &[]).unwrap();
        assert!(folders[0].root.is_none() && !folders[0].log.is_sound);
    }
}
