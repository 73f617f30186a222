//! How fast the log appends, beside the bare `pwrite` and `fdatasync` of the same bytes into a
//! zero-filled file, in turns on the same disk. Knows only the log's public face.
//!
//! `cargo run --release -p quorate-wal --example append_speed [folder]`
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, LogId, LogIndex, NodeId, Payload, Persist, SnapshotMeta, Term,
};
use quorate_wal::{Disk, DiskFile, Identity, RealDisk, Wal, WalOptions};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ENTRY_BYTES: usize = 256;
const ROUND_COUNT: usize = 5;
const SECONDS: u64 = 1;
const BARE_FILE_BYTES: usize = 64 << 20;

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

/// Appends for a while; the next file is prepared on a thread of its own, as a node does it.
fn run_wal(disk: Arc<dyn Disk>, dir: &Path, entries: usize) -> Sample {
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
        if let Some(job) = wal.prepare() {
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

/// The same bytes, without a log.
fn run_bare(path: &Path, entries: usize) -> Sample {
    let file: Box<dyn DiskFile> = RealDisk.create(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for step in 0..BARE_FILE_BYTES / zeros.len() {
        file.write_at(&zeros, (step * zeros.len()) as u64).unwrap();
    }
    file.sync().unwrap();
    // What a record adds to its payload.
    let bytes = vec![7; entries * (ENTRY_BYTES + 40)];
    let mut position = 0;
    let mut batches = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(SECONDS) {
        if position + bytes.len() > BARE_FILE_BYTES {
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

fn main() {
    let root = std::env::args().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    println!(
        "{ENTRY_BYTES}-byte entries, {ROUND_COUNT} rounds of {SECONDS} s each in turn, medians"
    );
    println!(
        "batch   log: entries/s  p50 us  p99 us   bare: entries/s  p50 us  p99 us   log/bare: rate  p50  p99"
    );
    for entries in [1, 16, 256] {
        let mut rows = Vec::new();
        for _ in 0..ROUND_COUNT {
            let dir = tempfile::tempdir_in(&root).unwrap();
            let mut log = run_wal(Arc::new(RealDisk), &dir.path().join("wal"), entries);
            let mut bare = run_bare(&dir.path().join("bare"), entries);
            rows.push([
                log.per_second(entries),
                log.percentile_us(50),
                log.percentile_us(99),
                bare.per_second(entries),
                bare.percentile_us(50),
                bare.percentile_us(99),
            ]);
        }
        let column = |at: usize| median(rows.iter().map(|row| row[at]).collect());
        let ratio = |a: usize, b: usize| median(rows.iter().map(|row| row[a] / row[b]).collect());
        println!(
            "{entries:>5} {:>16.0} {:>7.0} {:>7.0} {:>17.0} {:>7.0} {:>7.0} {:>16.2} {:>4.2} {:>4.2}",
            column(0),
            column(1),
            column(2),
            column(3),
            column(4),
            column(5),
            ratio(0, 3),
            ratio(1, 4),
            ratio(2, 5)
        );
        let mut own = run_wal(Arc::new(NoDisk), Path::new("none"), entries);
        println!(
            "      without a disk: {:.0} entries/s, p50 {:.2} us per batch",
            own.per_second(entries),
            own.percentile_us(50)
        );
    }
}
