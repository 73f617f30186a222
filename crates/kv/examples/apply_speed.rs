//! Measures the store alone: puts by batch size while the engine is being filled, reads, restart.
//! `cargo run --release -p quorate-kv --example apply_speed [keys] [folder]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// The one place of this crate that looks at a clock: it measures, it decides nothing.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::{
    BackgroundThread, Command, CommandKind, CompactionRequest, KvStateMachine, PutRequest,
    RangeRequest, Reader, RedbEngine, open,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALUE_SIZE_BYTES: usize = 256;
/// How many batches are made before they are applied, so that making them is not measured.
const GROUP_COUNT: usize = 64;

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
        let mut cpu = Duration::ZERO;
        let mut done: u64 = 0;
        while done < total as u64 {
            let mut group = Vec::new();
            for _ in 0..GROUP_COUNT {
                let numbers: Vec<u64> = (0..batch_count as u64)
                    .map(|place| number(done + place, self.random()))
                    .collect();
                group.push(self.batch(&numbers));
                done += batch_count as u64;
            }
            let cpu_start = cpu_time();
            for batch in group {
                let start = Instant::now();
                self.store.apply(&batch, &mut Replies::default()).unwrap();
                times.push(start.elapsed());
            }
            cpu += cpu_time().saturating_sub(cpu_start);
        }
        report(name, done, cpu, &mut times);
    }

    fn gets(&mut self, name: &str, key_count: u64, total: u64) {
        let requests: Vec<RangeRequest> = (0..total)
            .map(|_| RangeRequest { key: key(self.random() % key_count), ..Default::default() })
            .collect();
        let mut times = Vec::with_capacity(requests.len());
        let cpu_start = cpu_time();
        for request in &requests {
            let start = Instant::now();
            assert_eq!(self.reader.range(request).unwrap().count, 1);
            times.push(start.elapsed());
        }
        report(name, total, cpu_time().saturating_sub(cpu_start), &mut times);
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

/// The CPU time of this thread: on a busy machine the only honest figure. Zero where the system
/// does not tell.
fn cpu_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}

fn report(name: &str, total: u64, cpu: Duration, times: &mut [Duration]) {
    let sum: Duration = times.iter().sum();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let rate = total as f64 / sum.as_secs_f64();
    let each = cpu.as_secs_f64() * 1e6 / total as f64;
    println!(
        "{name:44} {rate:>9.0}/s  cpu {each:.2} us  p50 {:.1?}  p99 {:.1?}  p99.9 {:.1?}  max {:.1?}",
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
    bench.measure_puts(key_count);
    bench.measure_reads(key_count);
    bench.measure_compaction();
    drop(bench);
    let start = Instant::now();
    let (store, reader) = open_store(&path);
    let (took, keys, applied) = (start.elapsed(), reader.key_count(), store.applied());
    println!("{:44} {took:>10.2?} ({keys} keys, applied {applied})", "restart");
    drop((store, reader));
    let _ = std::fs::remove_dir_all(&folder);
}

impl Bench {
    fn measure_puts(&mut self, key_count: u64) {
        let keys = usize::try_from(key_count).unwrap();
        self.puts("new keys, batch 1024, while flushing", 1024, keys, |place, _| place % key_count);
        for batch_count in [1024, 64, 1] {
            let name = format!("random updates, batch {batch_count}, while flushing");
            self.puts(&name, batch_count, keys / 2, |_, random| random % key_count);
        }
        self.puts("updates of 1000 keys, batch 64", 64, keys / 4, |_, random| random % 1000);
    }

    fn measure_reads(&mut self, key_count: u64) {
        self.gets("get, overlay and engine", key_count, 100_000);
        let start = Instant::now();
        self.store.flush().unwrap();
        println!("{:44} {:>10.2?}", "flush of the rest", start.elapsed());
        self.gets("get, engine", key_count, 100_000);
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        self.range("range of all, limit 1", &RangeRequest { limit: 1, ..all.clone() });
        self.range("range of all, count only", &RangeRequest { count_only: true, ..all });
        let (key, range_end) = (key(key_count / 2), key(key_count / 2 + 1000));
        let request = RangeRequest { key, range_end, ..Default::default() };
        self.range("range of 1000 keys", &request);
        let (size, in_use) =
            (self.reader.size_bytes() >> 20, self.reader.size_in_use_bytes() >> 20);
        println!("{:44} {size} MB, {in_use} MB in use", "size");
    }

    fn measure_compaction(&mut self) {
        let revision = self.reader.revision().to_wire();
        let request = CompactionRequest { revision, physical: false };
        let command = Command::new(CommandKind::Compact(request)).encode_to_vec().into();
        let log_id = LogId::new(Term::new(1), LogIndex::new(self.next_index));
        let start = Instant::now();
        self.store.apply(&[Committed { log_id, command }], &mut Replies::default()).unwrap();
        println!("{:44} {:>10.2?}", "compact, until it is answered", start.elapsed());
        while self.reader.physically_compacted_revision().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{:44} {:>10.2?}", "compact, until the space is free", start.elapsed());
        let (start, mut sink) = (Instant::now(), CountingSink(0));
        self.store.view().unwrap().write_to(&mut sink).unwrap();
        let rate = sink.0 as f64 / 1e6 / start.elapsed().as_secs_f64();
        println!("{:44} {rate:>6.0} MB/s ({} MB)", "snapshot, written out", sink.0 >> 20);
    }
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
