//! Measures the store alone: puts by batch size while the engine is being filled, reads, restart.
//! `cargo run --release -p quorate-kv --example apply_speed [keys] [folder]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// The one place of this crate that looks at a clock: it measures, it decides nothing.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALUE_SIZE_BYTES: usize = 256;

struct Bench {
    store: KvStateMachine,
    reader: Reader,
    next_index: u64,
    value: Bytes,
    seed: u64,
}

fn open_store(path: &Path) -> (KvStateMachine, Reader) {
    let engine = RedbEngine::open(path).unwrap();
    open(Arc::new(engine), Arc::new(BackgroundThread::start().unwrap())).unwrap()
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/{number:010}").into()
}

impl Bench {
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn batch(&mut self, numbers: &[u64]) -> Vec<Committed> {
        let put = |number: &u64| {
            let put =
                PutRequest { key: key(*number), value: self.value.clone(), ..Default::default() };
            let command = Command::new(CommandKind::Put(put)).encode_to_vec().into();
            let log_id = LogId::new(Term::new(1), LogIndex::new(self.next_index));
            self.next_index += 1;
            Committed { log_id, command }
        };
        numbers.iter().map(put).collect()
    }

    /// Applies `total` puts in batches, and prints rate and latency of apply itself.
    fn puts(
        &mut self,
        name: &str,
        batch_count: usize,
        total: usize,
        mut number: impl FnMut(u64, u64) -> u64,
    ) {
        let mut times = Vec::with_capacity(total / batch_count);
        let mut done = 0;
        while done < total {
            let numbers: Vec<u64> = (0..batch_count)
                .map(|place| number((done + place) as u64, self.random()))
                .collect();
            let batch = self.batch(&numbers);
            let start = Instant::now();
            self.store.apply(&batch, &mut Replies::default()).unwrap();
            times.push(start.elapsed());
            done += batch_count;
        }
        report(name, done, &mut times);
    }

    fn gets(&mut self, name: &str, key_count: u64, total: usize) {
        let mut times = Vec::with_capacity(total);
        for _ in 0..total {
            let request =
                RangeRequest { key: key(self.random() % key_count), ..Default::default() };
            let start = Instant::now();
            assert_eq!(self.reader.range(&request).unwrap().count, 1);
            times.push(start.elapsed());
        }
        report(name, total, &mut times);
    }

    fn range(&self, name: &str, request: &RangeRequest) {
        let mut times = Vec::new();
        let mut answer = None;
        for _ in 0..5 {
            let start = Instant::now();
            answer = Some(self.reader.range(request).unwrap());
            times.push(start.elapsed());
        }
        times.sort();
        let answer = answer.unwrap();
        println!("{name:44} {:>10.2?} ({} of {})", times[2], answer.kvs.len(), answer.count);
    }
}

fn report(name: &str, total: usize, times: &mut [Duration]) {
    let sum: Duration = times.iter().sum();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let rate = total as f64 / sum.as_secs_f64();
    println!(
        "{name:44} {rate:>10.0}/s   p50 {:.1?}  p99 {:.1?}  p99.9 {:.1?}  max {:.1?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let key_count: u64 = arguments.next().map_or(1_000_000, |count| count.parse().unwrap());
    let folder = arguments
        .next()
        .map_or_else(|| std::env::temp_dir().join("quorate-kv-apply-speed"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("kv");
    let (store, reader) = open_store(&path);
    let value = Bytes::from(vec![b'v'; VALUE_SIZE_BYTES]);
    let mut bench = Bench { store, reader, next_index: 1, value, seed: 7 };
    let keys = usize::try_from(key_count).unwrap();

    bench.puts("new keys, batch 1024, while flushing", 1024, keys, |place, _| place % key_count);
    bench.puts("random updates, batch 1024, while flushing", 1024, keys / 2, |_, random| {
        random % key_count
    });
    bench.puts("random updates, batch 64, while flushing", 64, keys / 2, |_, random| {
        random % key_count
    });
    bench.puts("random updates, batch 1, while flushing", 1, keys / 4, |_, random| {
        random % key_count
    });
    bench.puts("updates of 1000 keys, batch 64", 64, keys / 4, |_, random| random % 1000);
    bench.gets("get, overlay and engine", key_count, 100_000);
    let start = Instant::now();
    bench.store.flush().unwrap();
    println!("{:44} {:>10.2?}", "flush of the rest", start.elapsed());
    bench.gets("get, engine", key_count, 100_000);
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    bench.range("range of all, limit 1 (counts)", &RangeRequest { limit: 1, ..all.clone() });
    bench.range("range of all, count only", &RangeRequest { count_only: true, ..all.clone() });
    let (from, to) = (key(key_count / 2), key(key_count / 2 + 1000));
    bench.range(
        "range of 1000 keys",
        &RangeRequest { key: from, range_end: to, ..Default::default() },
    );
    let (revision, log_end) = (bench.reader.revision(), bench.next_index);
    println!(
        "{:44} {} MB, {} MB in use",
        "size",
        bench.reader.size_bytes() >> 20,
        bench.reader.size_in_use_bytes() >> 20
    );

    let compact =
        CommandKind::Compact(CompactionRequest { revision: revision.to_wire(), physical: false });
    let command = Command::new(compact).encode_to_vec().into();
    let log_id = LogId::new(Term::new(1), LogIndex::new(log_end));
    let start = Instant::now();
    bench.store.apply(&[Committed { log_id, command }], &mut Replies::default()).unwrap();
    println!("{:44} {:>10.2?}", "compact (answer)", start.elapsed());
    let mut snapshot_size_bytes = CountingSink(0);
    let start = Instant::now();
    while bench.reader.physically_compacted_revision().is_none() {
        std::thread::yield_now();
    }
    println!("{:44} {:>10.2?}", "compact (background)", start.elapsed());
    let start = Instant::now();
    bench.store.view().unwrap().write_to(&mut snapshot_size_bytes).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let size = snapshot_size_bytes.0;
    println!(
        "{:44} {:.0} MB/s ({} MB)",
        "snapshot, written",
        size as f64 / 1e6 / seconds,
        size >> 20
    );

    drop(bench);
    let start = Instant::now();
    let (store, reader) = open_store(&path);
    println!(
        "{:44} {:>10.2?} ({} keys, applied {})",
        "restart",
        start.elapsed(),
        reader.key_count(),
        store.applied()
    );
    drop((store, reader));
    let _ = std::fs::remove_dir_all(&folder);
}

struct CountingSink(u64);

impl std::io::Write for CountingSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
