//! A bit flips in a file of a server that stands still; then it is started. It may refuse, in words, or
//! serve: what it serves must be what it served before. Knows files by their names only.

use crate::harness::{Client, Cluster, Rng, Server, eventually};
use crate::history::Record;
use crate::plan::Plan;
use quorate_etcd_api::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Status;

/// How many revisions of the past are compared.
const PAST_COUNT: usize = 5;
/// The file whose engine may panic over damage; that is caught, and said in words.
const STATE: &str = "state";
/// The kinds of files with something in them that a server leaves which has received no snapshot and
/// was never far ahead of another: without digits, and with the folder they are in.
const KINDS: [&str; 12] = [
    "data/LOCK",
    "data/log-place",
    "data/owner",
    "data/reserve",
    "data/state",
    "data/state.next",
    "log/LOCK",
    "log/log-.wal",
    "log/mark",
    "log/meta-a",
    "log/meta-b",
    "log/next-ahead.tmp",
];
/// Those of them that are not there each time: a log in its usual place is not noted, and its lock is that
/// of the data folder; the next file of a log is only prepared once the present one is half full.
const SELDOM: [&str; 3] = ["data/LOCK", "data/log-place", "log/next-ahead.tmp"];
/// After so many flips these have been met too.
const ENOUGH: u64 = 300;

/// What became of the flips of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) refused: u64,
    pub(crate) right: u64,
}

/// What became of the flips, by kind of file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, Count>);

impl Counts {
    pub(crate) fn all(&self) -> Count {
        let sum = |of: fn(&Count) -> u64| self.0.values().map(of).sum();
        Count { refused: sum(|count| count.refused), right: sum(|count| count.right) }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (kind, count) in other.0 {
            let sum = self.0.entry(kind).or_default();
            sum.refused += count.refused;
            sum.right += count.right;
        }
    }

    fn count(&mut self, kind: &str, outcome: Outcome) {
        let count = self.0.entry(kind.to_owned()).or_default();
        match outcome {
            Outcome::Right => count.right += 1,
            Outcome::Refused | Outcome::TakenBack => count.refused += 1,
        }
    }

    /// A run of some length has met every kind of file.
    ///
    /// # Panics
    ///
    /// If it has not.
    pub(crate) fn assert_complete(&self) {
        let Count { refused, right } = self.all();
        let is_enough = refused + right >= ENOUGH;
        let missing: Vec<&&str> =
            KINDS.iter().filter(|kind| !self.0.contains_key(**kind)).collect();
        assert!(!is_enough || missing.is_empty(), "no bit of these flipped: {missing:?}");
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, Count { refused, right }) in &self.0 {
            writeln!(out, "  bits of {kind}: {refused} refused, {right} served right")?;
        }
        Ok(())
    }
}

/// A bit of a file.
struct Flip {
    path: PathBuf,
    offset: usize,
    bit: usize,
}

impl fmt::Display for Flip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "bit {} of byte {} of {}", self.bit, self.offset, self.path.display())
    }
}

impl Flip {
    /// Some bit of one of these files, mostly where something is written.
    fn drawn(files: &[PathBuf], rng: &mut Rng) -> Self {
        let path = rng.pick(files).clone();
        let bytes = fs::read(&path).expect("a file that was listed");
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let anywhere = written.is_empty() || rng.below(4) == 0;
        let offset = if anywhere { rng.below(bytes.len()) } else { *rng.pick(&written) };
        Self { path, offset, bit: rng.below(8) }
    }

    /// Flips it; twice is not at all.
    fn carry_out(&self) {
        let mut bytes = fs::read(&self.path).expect("a file that was listed");
        bytes[self.offset] ^= 1 << self.bit;
        fs::write(&self.path, bytes).expect("the file can be written");
    }

    fn is_of_state(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == STATE)
    }
}

/// The folders of a server: its data, and its log, which may be in a place of its own.
struct Folders {
    data: PathBuf,
    log: PathBuf,
}

impl Folders {
    fn of(server: &Server, plan: &Plan) -> Self {
        let data = server.data_dir.clone();
        let log = if plan.has_log_elsewhere {
            data.with_file_name(format!("{}-wal", server.name))
        } else {
            data.join("wal")
        };
        Self { data, log }
    }

    /// Every kind of file in them, with those of it that have something in them. `log-00001.wal` and
    /// `log-00002.wal` are of one kind.
    fn kinds(&self) -> BTreeMap<String, Vec<PathBuf>> {
        let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut paths = files_below(&self.data);
        if !self.log.starts_with(&self.data) {
            paths.extend(files_below(&self.log));
        }
        for path in paths {
            let (place, inner) = match path.strip_prefix(&self.log) {
                Ok(inner) => ("log", inner),
                Err(_) => ("data", path.strip_prefix(&self.data).expect("it is below")),
            };
            let name = inner.to_string_lossy();
            let name: String = name.chars().filter(|it| !it.is_ascii_digit()).collect();
            let is_empty = fs::metadata(&path).is_ok_and(|it| it.len() == 0);
            if !is_empty {
                kinds.entry(format!("{place}/{name}")).or_default().push(path);
            }
        }
        kinds
    }

    /// Every folder of them that is in no other.
    fn roots(&self) -> Vec<&Path> {
        let is_apart = !self.log.starts_with(&self.data);
        [Some(&self.data), is_apart.then_some(&self.log)]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }

    fn keep(&self) {
        for root in self.roots() {
            copy_folder(root, &root.with_extension("whole"));
        }
    }

    fn put_back(&self) {
        for root in self.roots() {
            fs::remove_dir_all(root).expect("the folder can be removed");
            copy_folder(&root.with_extension("whole"), root);
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("it can be listed").path()).collect();
    paths.sort();
    let below = paths
        .into_iter()
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] });
    below.collect()
}

fn copy_folder(from: &Path, to: &Path) {
    for path in files_below(from) {
        let copy = to.join(path.strip_prefix(from).expect("it is below"));
        fs::create_dir_all(copy.parent().expect("it is below")).expect("a folder can be made");
        fs::copy(&path, &copy).expect("a file can be copied");
    }
}

/// What a server shows of the present and of some of the past.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    revision: i64,
    present: Vec<KeyValue>,
    pasts: Vec<Vec<KeyValue>>,
}

impl Shown {
    async fn by(client: &Client, revisions: &[i64]) -> Result<Self, Status> {
        let present = client.everything().await?;
        let mut pasts = Vec::new();
        for revision in revisions {
            pasts.push(client.everything_at(*revision).await?.kvs);
        }
        let revision = present.header.expect("every answer has a header").revision;
        Ok(Self { revision, present: present.kvs, pasts })
    }
}

/// Flips a bit of every kind of file of one server, one after the other, and looks what comes of it.
/// Among several servers the first one that serves is the last of its round; the next round begins with
/// the next kind.
pub(crate) async fn flip(
    cluster: &mut Cluster,
    plan: &Plan,
    rng: &mut Rng,
    history: &[Record],
) -> Counts {
    cluster.assert_equal_replicas().await;
    let victim = rng.below(cluster.indexes().len());
    let revisions: Vec<i64> = history.iter().filter_map(Record::written_revision).collect();
    let revisions: Vec<i64> = (0..PAST_COUNT).map(|_| *rng.pick(&revisions)).collect();
    let expected = Shown::by(cluster.client(victim), &revisions).await.expect("all is well");
    let server = cluster.server(victim);
    if rng.coin() {
        server.kill();
    } else {
        assert!(server.terminate().await.success());
    }
    let folders = Folders::of(server, plan);
    // What a crash leaves while the state file is made anew.
    let state = server.data_dir.join(STATE);
    fs::copy(&state, state.with_extension("next")).expect("the file can be copied");
    folders.keep();
    let mut kinds: Vec<String> = folders.kinds().into_keys().collect();
    let unknown: Vec<&String> = kinds.iter().filter(|it| !KINDS.contains(&it.as_str())).collect();
    assert!(unknown.is_empty(), "these kinds of files are not listed in flips.rs: {unknown:?}");
    for kind in KINDS.iter().filter(|kind| !SELDOM.contains(kind)) {
        assert!(kinds.iter().any(|it| it == kind), "a server that was stopped has no {kind}");
    }
    let first = usize::try_from(plan.turn / 2).expect("a small number") % kinds.len();
    kinds.rotate_left(first);
    let mut counts = Counts::default();
    for kind in kinds {
        // What was put back has other files than what a start made of it.
        let files = folders.kinds().remove(&kind).expect("it was there a moment ago");
        let flip = Flip::drawn(&files, rng);
        flip.carry_out();
        let outcome = outcome(cluster, victim, &flip, &revisions, &expected).await;
        counts.count(&kind, outcome);
        if outcome != Outcome::Refused && cluster.indexes().len() > 1 {
            // It has met the others since: they would not hear one with an older image of its folder.
            return counts;
        }
        cluster.server(victim).strike();
        cluster.server(victim).bury();
        folders.put_back();
    }
    cluster.restart(victim).await;
    counts
}

/// What a server did that was started with a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It serves, and what it serves is right.
    Right,
    /// It did not serve; it is down.
    Refused,
    /// It did not; the bit was flipped back, and now it serves.
    TakenBack,
}

/// Starts the server, and looks what it does; what it serves must be what was expected.
async fn outcome(
    cluster: &mut Cluster,
    victim: usize,
    flip: &Flip,
    revisions: &[i64],
    expected: &Shown,
) -> Outcome {
    cluster.server(victim).start();
    if serves(cluster, victim, flip).await {
        match Shown::by(cluster.client(victim), revisions).await {
            Ok(shown) => {
                assert!(shown == *expected, "WRONG DATA: {flip}: {}", difference(expected, &shown));
                return Outcome::Right;
            }
            // It noticed when it was asked, and ends.
            Err(status) => {
                let ended = cluster.server(victim).ended().await;
                println!("  {flip}: {status}, and the server ended with {ended}");
                return Outcome::Refused;
            }
        }
    }
    let said = cluster.server(victim).log_of_last_life();
    assert!(flip.is_of_state() || !said.contains("panicked at"), "{flip}: a panic: {said}");
    if flip.is_of_state() {
        return Outcome::Refused;
    }
    // A refusal changed nothing: with the bit as it was, all is there.
    flip.carry_out();
    cluster.restart(victim).await;
    let shown = Shown::by(cluster.client(victim), revisions).await;
    let shown = shown.unwrap_or_else(|status| panic!("{flip}, taken back: {status}"));
    assert!(shown == *expected, "{flip}, taken back: {}", difference(expected, &shown));
    Outcome::TakenBack
}

/// Whether a server that was started serves, or has ended with words.
async fn serves(cluster: &mut Cluster, victim: usize, flip: &Flip) -> bool {
    let client = cluster.client(victim).with_timeout(Duration::from_secs(2));
    let server = cluster.server(victim);
    let what = format!("{} to serve or to refuse, after {flip}", server.name);
    eventually(&what, async || {
        if let Some(status) = server.try_ended() {
            assert!(!status.success(), "{flip}: {status} is no refusal");
            return Some(false);
        }
        client.get("is-anybody-there").await.ok().map(|_| true)
    })
    .await
}

fn difference(expected: &Shown, shown: &Shown) -> String {
    let keys = |of: &Shown| of.present.len();
    let pasts = expected.pasts.iter().zip(&shown.pasts).filter(|(one, other)| one != other);
    format!(
        "revision {} and {} keys expected, revision {} and {} keys found; the present {}, {} pasts \
         of {} differ",
        expected.revision,
        keys(expected),
        shown.revision,
        keys(shown),
        if expected.present == shown.present { "is the same" } else { "differs" },
        pasts.count(),
        expected.pasts.len(),
    )
}
