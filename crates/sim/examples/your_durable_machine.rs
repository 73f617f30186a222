//! A state machine that keeps its state in a file, on the simulator's disk: counters with names, in
//! one file that is written anew and renamed. Every node that crashes opens it again, and what was
//! not synced is lost or torn.
//!
//!     cargo run --release -p quorate-sim --example your_durable_machine
//!     cargo run --release -p quorate-sim --example your_durable_machine -- --seed 7 --trace
//!
//! Break it to see a judge notice: leave a sync out, or the checksum.

use bytes::Bytes;
use quorate::wal::Disk;
use quorate::{
    Checkpoint, Committed, Fatal, LogId, LogIndex, QueryError, Replies, SnapshotView, StateMachine,
};
use quorate_sim::{Home, Request, Rng, Subject, examine, hash_of};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `add NAME` counts one more; a query is a name. On a real disk it is given
/// `quorate::wal::RealDisk`.
struct Counters {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    counts: BTreeMap<String, u64>,
    /// How far the log is applied, and how far it is in the file.
    reached: LogIndex,
    durable: LogIndex,
}

impl Counters {
    fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> io::Result<Self> {
        disk.create_dir_all(&dir)?;
        disk.sync_dir(Path::new("/"))?;
        let (durable, counts) = match disk.open(&dir.join("counters")) {
            Ok(file) => {
                let mut bytes = vec![0; usize::try_from(file.size_bytes()?).unwrap_or(0)];
                let mut count = 0;
                // A read may give less than there is, and gives nothing only at the end.
                while let Some(rest) = bytes.get_mut(count..).filter(|rest| !rest.is_empty()) {
                    match file.read_at(rest, count as u64)? {
                        0 => break,
                        more => count += more,
                    }
                }
                // What a killed process leaves is there, and not durable yet: a power failure could
                // still take back what is vouched for from now on.
                file.sync()?;
                disk.sync_dir(&dir)?;
                checked(bytes.get(..count).unwrap_or_default())?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { disk, dir, counts, reached: durable, durable })
    }

    /// Makes durable what is applied: a new file, its bytes, its name; only then is it vouched for.
    fn store(&mut self) -> Result<(), Fatal> {
        self.write_file()
            .map_err(|error| Fatal::caused_by("the counters are not stored", error))?;
        self.durable = self.reached;
        Ok(())
    }

    fn write_file(&self) -> io::Result<()> {
        let mut bytes = self.reached.get().to_le_bytes().to_vec();
        bytes.extend(text(&self.counts).into_bytes());
        let sum = hash_of(&bytes).to_le_bytes();
        let new = self.dir.join("counters.new");
        match self.disk.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let file = self.disk.create(&new)?;
        file.write_at(&sum, 0)?;
        file.write_at(&bytes, 8)?;
        file.sync()?;
        self.disk.rename(&new, &self.dir.join("counters"))?;
        self.disk.sync_dir(&self.dir)
    }
}

/// What a file holds, if it is what was written.
fn checked(bytes: &[u8]) -> io::Result<(LogIndex, BTreeMap<String, u64>)> {
    let damaged = || io::Error::new(ErrorKind::InvalidData, "the file of counters is damaged");
    let (sum, bytes) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let (index, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    if hash_of(bytes) != u64::from_le_bytes(*sum) {
        return Err(damaged());
    }
    Ok((LogIndex::new(u64::from_le_bytes(*index)), counts(&String::from_utf8_lossy(rest))))
}

fn text(counts: &BTreeMap<String, u64>) -> String {
    let lines: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    lines.join("\n")
}

fn counts(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

impl StateMachine for Counters {
    fn applied(&self) -> LogIndex {
        self.durable
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { log_id, command } in batch {
            let text = String::from_utf8_lossy(command);
            let name = text.strip_prefix("add ").unwrap_or_default();
            let count = self.counts.entry(name.to_owned()).or_default();
            *count += 1;
            replies.push(count.to_string());
            self.reached = log_id.index;
        }
        Ok(())
    }

    fn query(&self, name: &[u8]) -> Result<Bytes, QueryError> {
        let count = self.counts.get(&*String::from_utf8_lossy(name));
        Ok(count.copied().unwrap_or(0).to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(View(text(&self.counts))))
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.store().map(|()| Checkpoint::Begun)
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.store()
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut snapshot = String::new();
        let read = source.read_to_string(&mut snapshot);
        read.map_err(|error| Fatal::caused_by("the snapshot cannot be read", error))?;
        self.counts = counts(&snapshot);
        self.reached = last_included.index;
        self.store()
    }
}

struct View(String);

impl SnapshotView for View {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> io::Result<()> {
        target.write_all(self.0.as_bytes())
    }
}

/// What the simulator has to know: how it is opened, and what clients do with it.
struct CountersTest;

impl Subject for CountersTest {
    fn machine(&self, home: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        let opened = Counters::open(Arc::clone(&home.disk), home.dir.clone());
        let opened =
            opened.map_err(|error| Fatal::caused_by("the counters cannot be opened", error));
        Ok(Box::new(opened?))
    }

    fn request(&self, _: u64, rng: &mut Rng) -> Request {
        let name = rng.pick(&["apples", "pears", "plums"]).copied().unwrap_or("apples");
        if rng.coin() {
            Request::Query(name.into())
        } else {
            Request::Command(format!("add {name}").into())
        }
    }
}

fn main() -> std::process::ExitCode {
    examine("cargo run --release -p quorate-sim --example your_durable_machine --", || CountersTest)
}
