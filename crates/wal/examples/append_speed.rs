//! How fast the log appends, beside the bare `pwrite` and `fdatasync` of the same bytes into a
//! zero-filled file, in turns on the same disk; and what it would be if it were done otherwise: with
//! `O_DSYNC` instead of a sync of its own, or into files that grow. Knows only the log's public face.
//!
//! `cargo run --release -p quorate-wal --example append_speed [folder] [--dsync] [--growing]`
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, LogId, LogIndex, NodeId, Payload, Persist, SnapshotMeta, Term,
};
use quorate_wal::{Disk, DiskFile, Identity, RealDisk, Wal, WalOptions};
use rustix::fs::OFlags;
use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ENTRY_BYTES: usize = 256;
const ROUND_COUNT: usize = 5;
const SECONDS: u64 = 1;
const BARE_FILE_BYTES: usize = 64 << 20;

/// How a batch gets to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `pwrite` into a file that was filled with zeros, and `fdatasync`: what the log does.
    Filled,
    /// `pwrite` into such a file that was opened with `O_DSYNC`.
    Dsync,
    /// `pwrite` into a file that grows with it, and `fdatasync`.
    Growing,
}

impl Way {
    fn disk(self) -> Arc<dyn Disk> {
        match self {
            Self::Filled | Self::Growing => Arc::new(RealDisk),
            Self::Dsync => Arc::new(DsyncDisk),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Filled => "prepared files, fdatasync",
            Self::Dsync => "prepared files, O_DSYNC",
            Self::Growing => "growing files, fdatasync",
        }
    }
}

/// The durations of the batches of one kind.
struct Sample {
    batches: Vec<Duration>,
}

impl Sample {
    fn percentile_us(&mut self, percent: usize) -> f64 {
        self.batches.sort_unstable();
        self.batches[(self.batches.len() * percent / 100).min(self.batches.len() - 1)].as_secs_f64()
            * 1e6
    }

    fn per_second(&self, entries: usize) -> f64 {
        let seconds: f64 = self.batches.iter().map(Duration::as_secs_f64).sum();
        let count = u32::try_from(self.batches.len() * entries).unwrap();
        f64::from(count) / seconds
    }
}

fn batch(next: &mut u64, entries: usize, command: &Bytes) -> Persist {
    let entry = |index| Entry {
        log_id: LogId::new(Term::new(1), LogIndex::new(index)),
        payload: Payload::Command(command.clone()),
    };
    let first = *next;
    *next += entries as u64;
    Persist { entries: (first..*next).map(entry).collect(), ..Persist::default() }
}

/// Appends for a while; the next file is prepared on a thread of its own, as a node does it, if at all.
fn run_wal(disk: Arc<dyn Disk>, is_prepared: bool, dir: &Path, entries: usize) -> Sample {
    let identity = Identity { cluster_id: 1, node_id: NodeId::new(1), storage_id: 1 };
    let initial = SnapshotMeta {
        last_included: LogId::ORIGIN,
        configuration: Arc::new(Configuration::default()),
    };
    let (mut wal, _) = Wal::create(disk, dir, WalOptions::default(), identity, initial).unwrap();
    let (jobs, queue) = std::sync::mpsc::channel::<quorate_wal::PrepareJob>();
    let helper = std::thread::spawn(move || {
        for job in queue {
            job.run().unwrap();
        }
    });
    let command = Bytes::from(vec![7; ENTRY_BYTES]);
    let mut next = 1;
    let mut batches = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(SECONDS) {
        let write = [batch(&mut next, entries, &command)];
        let begin = Instant::now();
        wal.persist(&write).unwrap();
        batches.push(begin.elapsed());
        // A job that is dropped leaves the log to do without.
        if let Some(job) = wal.prepare().filter(|_| is_prepared) {
            jobs.send(job).unwrap();
        }
    }
    drop(jobs);
    helper.join().unwrap();
    Sample { batches }
}

/// A disk that forgets everything at once: what is left of the time is the log's own.
struct NoDisk;

#[derive(Default)]
struct NoFile(AtomicU64);

impl Disk for NoDisk {
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::<NoFile>::default())
    }

    fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

impl DiskFile for NoFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.fetch_max(offset + bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.0.store(size_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The operating system's disk, but each write to a segment is durable when it returns. What is not
/// synced, the mark, stays as it is.
struct DsyncDisk;

struct DsyncFile(File);

impl DsyncDisk {
    fn is_of_log(path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A file is prepared under a name of its own, and then renamed.
        name.ends_with(".wal") || name.starts_with("next")
    }
}

impl Disk for DsyncDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if !Self::is_of_log(path) {
            return RealDisk.create(path);
        }
        let flags = i32::try_from(OFlags::DSYNC.bits()).unwrap();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).custom_flags(flags);
        Ok(Box::new(DsyncFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for DsyncFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.0.set_len(size_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The same bytes, without a log.
fn run_bare(path: &Path, entries: usize, way: Way) -> Sample {
    let zeros = vec![0; 1 << 20];
    let steps = if way == Way::Growing { 0 } else { BARE_FILE_BYTES / zeros.len() };
    let file: Box<dyn DiskFile> = RealDisk.create(path).unwrap();
    for step in 0..steps {
        file.write_at(&zeros, (step * zeros.len()) as u64).unwrap();
    }
    file.sync().unwrap();
    let file = match way {
        Way::Filled | Way::Growing => file,
        Way::Dsync => {
            let flags = i32::try_from(OFlags::DSYNC.bits()).unwrap();
            let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
            Box::new(DsyncFile(opened.unwrap()))
        }
    };
    // What a record adds to its payload.
    let bytes = vec![7; entries * (ENTRY_BYTES + 40)];
    let mut position = 0;
    let mut batches = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(SECONDS) {
        if position + bytes.len() > BARE_FILE_BYTES && way != Way::Growing {
            position = 0;
        }
        let begin = Instant::now();
        file.write_at(&bytes, position as u64).unwrap();
        file.sync().unwrap();
        batches.push(begin.elapsed());
        position += bytes.len();
    }
    Sample { batches }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one way amounts to: rate, median and 99th percentile, one of each a round.
#[derive(Default)]
struct Column {
    rounds: Vec<[f64; 3]>,
}

impl Column {
    fn add(&mut self, mut sample: Sample, entries: usize) {
        let (p50, p99) = (sample.percentile_us(50), sample.percentile_us(99));
        self.rounds.push([sample.per_second(entries), p50, p99]);
    }

    fn print(&self, entries: usize, name: &str, floor: &Self) {
        let of = |at: usize| median(self.rounds.iter().map(|round| round[at]).collect());
        let ratio = |at: usize| {
            let pairs = self.rounds.iter().zip(&floor.rounds);
            median(pairs.map(|(own, floor)| own[at] / floor[at]).collect())
        };
        println!(
            "| {entries} | {name} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} |",
            of(0),
            of(1),
            of(2),
            ratio(0),
            ratio(1),
            ratio(2)
        );
    }
}

fn main() {
    let (flags, folders): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let root = folders.first().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut ways = vec![Way::Filled];
    for flag in &flags {
        ways.push(match flag.as_str() {
            "--dsync" => Way::Dsync,
            "--growing" => Way::Growing,
            other => panic!("expected --dsync or --growing, found {other}"),
        });
    }
    println!(
        "{ENTRY_BYTES}-byte entries, {ROUND_COUNT} rounds of {SECONDS} s each in turn, medians; ratios \
         are to the bare {}\n",
        Way::Filled.name()
    );
    println!("| batch | | entries/s | p50 us | p99 us | rate ratio | p50 ratio | p99 ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    for entries in [1, 16, 256] {
        let mut bare: Vec<Column> = ways.iter().map(|_| Column::default()).collect();
        let mut log: Vec<Column> = ways.iter().map(|_| Column::default()).collect();
        for _ in 0..ROUND_COUNT {
            for ((way, bare), log) in ways.iter().zip(&mut bare).zip(&mut log) {
                let dir = tempfile::tempdir_in(&root).unwrap();
                bare.add(run_bare(&dir.path().join("bare"), entries, *way), entries);
                let is_prepared = *way != Way::Growing;
                let dir = dir.path().join("wal");
                log.add(run_wal(way.disk(), is_prepared, &dir, entries), entries);
            }
        }
        for ((way, own), log) in ways.iter().zip(&bare).zip(&log) {
            own.print(entries, &format!("bare: {}", way.name()), &bare[0]);
            log.print(entries, &format!("log: {}", way.name()), &bare[0]);
        }
        let mut own = run_wal(Arc::new(NoDisk), true, Path::new("none"), entries);
        let (rate, p50) = (own.per_second(entries), own.percentile_us(50));
        println!("| {entries} | log without a disk | {rate:.0} | {p50:.2} | | | | |");
    }
}
