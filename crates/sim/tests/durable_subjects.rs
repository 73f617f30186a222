//! State machines of one's own that keep their state in files: a right one survives crashes, failing
//! and damaged disks, and each way of being careless with files is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::wal::{Disk, DiskFile};
use quorate::{
    Checkpoint, Committed, Fatal, LogId, LogIndex, QueryError, Replies, SnapshotView, StateMachine,
};
use quorate_sim::{
    Breach, Case, FAULT_KINDS, FaultKind, Home, Request, Rng, Subject, Subjects, World, hash_of,
};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// It says that its state is durable, and has not synced the file.
    LeavesTheSyncOut,
    /// It has synced the file, and not its name.
    LeavesTheNameOut,
    /// It writes over the only copy.
    WritesOverItsFile,
    /// It says that what it finds at its start is durable, and has not synced that: the process
    /// before it may have been killed before it did.
    VouchesForWhatItFinds,
    /// It believes whatever the file says.
    BelievesItsFile,
    /// Its file names an index that is older than the rest of it.
    NamesAnEarlierIndex,
    /// It says that more is durable than it was given.
    VouchesForTheFuture,
    /// A snapshot that it takes over is not in its file, and it says so of the one before.
    ForgetsWhatItVouchedFor,
}

/// Where a file has its checksum, its index and its count: in sectors of their own, so that a crash
/// may tear them from each other.
const PLACES: [u64; 3] = [0, 512, 1024];

/// Counts commands, in a file.
struct Counter {
    wrong: Wrong,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    count: u64,
    applied: LogIndex,
    durable: LogIndex,
}

impl Counter {
    fn open(wrong: Wrong, home: &Home) -> io::Result<Self> {
        let (disk, dir) = (Arc::clone(&home.disk), home.dir.clone());
        disk.create_dir_all(&dir)?;
        disk.sync_dir(Path::new("/"))?;
        let mut words = [[0; 8]; 3];
        match disk.open(&dir.join("count")) {
            Ok(file) => {
                for (word, at) in words.iter_mut().zip(PLACES) {
                    let mut count = 0;
                    while count < word.len() {
                        match file.read_at(&mut word[count..], at + count as u64)? {
                            0 => break,
                            more => count += more,
                        }
                    }
                }
                if wrong != Wrong::VouchesForWhatItFinds {
                    file.sync()?;
                    disk.sync_dir(&dir)?;
                }
                if wrong != Wrong::BelievesItsFile && words[0] != sum(words[1], words[2]) {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the file is damaged"));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (durable, count) = (LogIndex::new(u64::from_le_bytes(words[1])), words[2]);
        let count = u64::from_le_bytes(count);
        Ok(Self { wrong, disk, dir, count, applied: durable, durable })
    }

    fn store(&mut self) -> io::Result<()> {
        let early = if self.wrong == Wrong::NamesAnEarlierIndex { 3 } else { 0 };
        let index = self.applied.get().saturating_sub(early).max(self.durable.get());
        let [at, count] = [index, self.count].map(u64::to_le_bytes);
        let words = [sum(at, count), at, count];
        let (new, path) = (self.dir.join("count.new"), self.dir.join("count"));
        if self.wrong == Wrong::WritesOverItsFile {
            let file = self.disk.open(&path).or_else(|_| self.disk.create(&path))?;
            write_words(&*file, words)?;
            file.sync()?;
        } else {
            match self.disk.remove(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(()) => {}
            }
            let file = self.disk.create(&new)?;
            write_words(&*file, words)?;
            if self.wrong != Wrong::LeavesTheSyncOut {
                file.sync()?;
            }
            self.disk.rename(&new, &path)?;
        }
        if self.wrong != Wrong::LeavesTheNameOut {
            self.disk.sync_dir(&self.dir)?;
        }
        self.durable = LogIndex::new(index);
        Ok(())
    }
}

fn write_words(file: &dyn DiskFile, words: [[u8; 8]; 3]) -> io::Result<()> {
    words.iter().zip(PLACES).try_for_each(|(word, at)| file.write_at(word, at))
}

fn sum(index: [u8; 8], count: [u8; 8]) -> [u8; 8] {
    hash_of(&[index, count].concat()).to_le_bytes()
}

impl StateMachine for Counter {
    fn applied(&self) -> LogIndex {
        if self.wrong == Wrong::VouchesForTheFuture && self.count > 8 {
            return self.applied.next();
        }
        let forgets = self.wrong == Wrong::ForgetsWhatItVouchedFor && self.count % 16 == 15;
        if forgets { LogIndex::ORIGIN } else { self.durable }
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { log_id, .. } in batch {
            self.count += 1;
            self.applied = log_id.index;
            replies.push(self.count.to_string());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.count.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(View(self.count)))
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.store().map_err(|error| Fatal::caused_by("not stored", error))?;
        Ok(Checkpoint::Begun)
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes).map_err(|error| Fatal::caused_by("too short", error))?;
        self.count = u64::from_le_bytes(bytes);
        self.applied = last_included.index;
        self.store().map_err(|error| Fatal::caused_by("not stored", error))
    }
}

struct View(u64);

impl SnapshotView for View {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> io::Result<()> {
        target.write_all(&self.0.to_le_bytes())
    }
}

#[derive(Clone)]
struct CounterTest {
    wrong: Wrong,
    /// How often a node began with what its file held.
    found: Arc<AtomicU64>,
}

impl Subject for CounterTest {
    fn machine(&self, home: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        let counter = Counter::open(self.wrong, home);
        let counter = counter.map_err(|error| Fatal::caused_by("not opened", error))?;
        self.found.fetch_add(u64::from(counter.count > 0), Ordering::Relaxed);
        Ok(Box::new(counter))
    }

    fn request(&self, _: u64, rng: &mut Rng) -> Request {
        if rng.below(4) == 0 { Request::Query("?".into()) } else { Request::Command("add".into()) }
    }

    fn last_look(&self) -> Vec<Bytes> {
        vec!["?".into()]
    }
}

/// The first breach in so many worlds, and how often a node found its file in all of them.
fn hunt(wrong: Wrong, world_count: u64, without: &str) -> (Option<(u64, Breach)>, u64) {
    let found = Arc::new(AtomicU64::new(0));
    let worlds = Subjects::new("durable", || CounterTest { wrong, found: Arc::clone(&found) });
    let breach = (1..=world_count).find_map(|seed| {
        let mut case = Case::from(World { seed, node_count: 3, steps: 6_000 });
        case.changes.without = FaultKind::named(without, FAULT_KINDS).unwrap();
        case.run(&worlds).err().map(|violation| (seed, violation.breach))
    });
    (breach, found.load(Ordering::Relaxed))
}

fn is_noticed(wrong: Wrong, without: &str) -> Breach {
    let (seed, breach) = hunt(wrong, 1_000, without).0.expect("no judge noticed");
    println!("seed {seed}: {breach}");
    breach
}

#[test]
fn a_right_machine_survives_and_is_opened_again_with_what_it_kept() {
    let (breach, found) = hunt(Wrong::Nothing, 60, "");
    assert!(breach.is_none(), "{breach:?}");
    println!("{found} starts with a file");
    assert!(found > 20, "{found}");
}

#[test]
fn a_file_that_is_not_synced_is_noticed() {
    is_noticed(Wrong::LeavesTheSyncOut, "damage");
}

#[test]
fn a_name_that_is_not_synced_is_noticed() {
    is_noticed(Wrong::LeavesTheNameOut, "damage");
}

#[test]
fn writing_over_the_only_copy_is_noticed_when_a_crash_tears_it() {
    is_noticed(Wrong::WritesOverItsFile, "damage");
}

#[test]
fn vouching_for_what_a_killed_process_left_unsynced_is_noticed() {
    is_noticed(Wrong::VouchesForWhatItFinds, "damage");
}

#[test]
fn a_machine_that_believes_a_damaged_file_is_noticed() {
    is_noticed(Wrong::BelievesItsFile, "");
}

#[test]
fn an_index_that_does_not_belong_to_the_state_is_noticed() {
    is_noticed(Wrong::NamesAnEarlierIndex, "damage");
}

#[test]
fn vouching_for_more_than_was_given_is_noticed() {
    let words = is_noticed(Wrong::VouchesForTheFuture, "").to_string();
    assert!(words.contains("was given the log to"), "{words}");
}

#[test]
fn vouching_for_less_than_before_is_noticed() {
    is_noticed(Wrong::ForgetsWhatItVouchedFor, "");
}
