//! A bit flips in a file of a server that stands still; then it is started. It may refuse, in words, or
//! serve: what it serves must be what it served before. Knows files by their names only.

use crate::harness::{Client, Cluster, Rng, eventually};
use crate::history::Record;
use quorate_etcd_api::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Status;

/// How many bits flip in a round, one at a time.
const FLIP_COUNT: usize = 6;
/// How many revisions of the past are compared.
const PAST_COUNT: usize = 5;
/// The file whose engine may panic over damage; that is caught, and said in words.
const STATE: &str = "state";

/// What became of the flips.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) refused: u64,
    pub(crate) right: u64,
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
    /// Some bit of some kind of file below a folder: each kind as often as any other, and mostly where
    /// something is written.
    fn drawn(folder: &Path, rng: &mut Rng) -> Self {
        let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for path in files_below(folder) {
            let is_empty = fs::metadata(&path).is_ok_and(|it| it.len() == 0);
            if !is_empty {
                kinds.entry(kind_of(&path)).or_default().push(path);
            }
        }
        let kinds: Vec<Vec<PathBuf>> = kinds.into_values().collect();
        let files = rng.pick(&kinds);
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

/// `log-00001.wal` and `log-00002.wal` are of one kind.
fn kind_of(path: &Path) -> String {
    let name = path.file_name().expect("files have names").to_string_lossy();
    name.chars().filter(|it| !it.is_ascii_digit()).collect()
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

/// Flips bits of one server's files, one after the other, and looks what comes of it.
pub(crate) async fn flip(cluster: &mut Cluster, rng: &mut Rng, history: &[Record]) -> Count {
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
    let folder = server.data_dir.clone();
    let whole = folder.with_extension("whole");
    copy_folder(&folder, &whole);
    let mut count = Count::default();
    for _ in 0..FLIP_COUNT {
        let flip = Flip::drawn(&folder, rng);
        flip.carry_out();
        let outcome = outcome(cluster, victim, &flip, &revisions, &expected).await;
        count.right += u64::from(outcome == Outcome::Right);
        count.refused += u64::from(outcome != Outcome::Right);
        if outcome != Outcome::Refused && cluster.indexes().len() > 1 {
            // It has met the others since: they would not hear one with an older image of its folder.
            return count;
        }
        cluster.server(victim).strike();
        cluster.server(victim).bury();
        fs::remove_dir_all(&folder).expect("the folder can be removed");
        copy_folder(&whole, &folder);
    }
    cluster.restart(victim).await;
    count
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
