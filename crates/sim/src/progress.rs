//! How far a campaign is, and the file that keeps it: which seeds are done, what they added up to,
//! and which failed. The file is replaced whole, so that a campaign that is killed can go on from
//! it. Runs no worlds.

use crate::case::Case;
use crate::json::object;
use crate::run::{Summary, Violation};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The format of the file that this build writes and reads.
const FORMAT: u64 = 1;
/// More than any file of this format is: what is larger is none, and is not read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// No campaign reaches such a figure, and so many may be added to it without overflow.
const FIGURE_MAX: u64 = 1 << 62;
/// How much of a failure's words is kept, in letters.
const LETTERS_KEPT_MAX: usize = 4_096;
/// How many failures are kept with their words; more are only counted.
pub const FAILURES_KEPT_MAX: usize = 1_000;

/// How far a campaign is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Which seeds are done.
    pub done: SeedSet,
    /// What those that ended well add up to.
    pub total: Summary,
    /// Those that ended badly.
    pub failures: Vec<Failure>,
    /// How many ended badly, kept or not.
    pub failure_count: u64,
    /// Time on the clock, over all sessions.
    pub wall: Duration,
    /// Time of the processors, over all sessions.
    pub cpu: Duration,
}

/// A world that ended badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which promise was broken.
    pub kind: String,
    /// In words.
    pub text: String,
    /// The command that shows it again.
    pub reproduce: String,
}

/// Seeds, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedSet {
    /// First and last seed of each range; ranges do not touch.
    ranges: BTreeMap<u64, u64>,
}

/// What has to be the same in all sessions of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names the build.
    pub build: String,
    /// The flags without the seed.
    pub options: String,
}

/// Why a campaign's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// It cannot be read or written.
    #[error("{path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no file, so that none can be kept there.
    #[error(
        "expected {path} to be a plain file, or nothing yet; it is {found}: choose another name"
    )]
    NoPlainFile {
        /// Which file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is larger than any progress file.
    #[error("{path} is no progress file: it has {bytes} bytes, and none has more than {limit}")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// Another process keeps its progress there.
    #[error(
        "{path} is in use by another campaign: wait until that ends, or keep this one's progress in \
         another file"
    )]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// It is not a progress file, or one of another format.
    #[error("{path} is not a campaign's progress file of this version: {reason}")]
    Garbled {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// It belongs to a campaign with other settings.
    #[error("{path} belongs to a campaign of worlds with `{theirs}`; these have `{ours}`")]
    OtherOptions {
        /// Which file.
        path: PathBuf,
        /// The file's.
        theirs: String,
        /// What is asked for now.
        ours: String,
    },
    /// It was written by another build, whose figures are not this one's.
    #[error(
        "{path} was written by build {theirs}, this is build {ours}: start another file, or go on \
         with --another-build"
    )]
    OtherBuild {
        /// Which file.
        path: PathBuf,
        /// The file's.
        theirs: String,
        /// Ours.
        ours: String,
    },
}

impl fmt::Display for SeedSet {
    /// `seeds 1 to 20, 31, 40 to 52 and 3 ranges more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 4;
        if self.ranges.is_empty() {
            return f.write_str("no seeds");
        }
        f.write_str("seeds ")?;
        for (place, (first, last)) in self.ranges().enumerate().take(SHOWN_MAX) {
            let before = if place == 0 { "" } else { ", " };
            if first == last {
                write!(f, "{before}{first}")?;
            } else {
                write!(f, "{before}{first} to {last}")?;
            }
        }
        match self.ranges.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} ranges more"),
        }
    }
}

impl SeedSet {
    /// Adds a seed.
    pub fn insert(&mut self, seed: u64) {
        if self.contains(seed) {
            return;
        }
        let before = self.ranges.range(..seed).next_back().map(|(first, last)| (*first, *last));
        let joined = before.filter(|(_, last)| last.checked_add(1) == Some(seed));
        let first = joined.map_or(seed, |(first, _)| first);
        let after = seed.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, after.unwrap_or(seed));
    }

    /// Whether a seed is in it.
    #[must_use]
    pub fn contains(&self, seed: u64) -> bool {
        self.ranges.range(..=seed).next_back().is_some_and(|(_, last)| *last >= seed)
    }

    /// How many of these seeds are in it.
    #[must_use]
    pub fn count_within(&self, first: u64, last: u64) -> u64 {
        let common = |(one, two): (&u64, &u64)| {
            let (low, high) = ((*one).max(first), (*two).min(last));
            if low <= high { high - low + 1 } else { 0 }
        };
        self.ranges.iter().map(common).sum()
    }

    /// The ranges, first and last seed of each.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }
}

impl Failure {
    /// What is kept of a violation.
    #[must_use]
    pub fn of(violation: &Violation) -> Self {
        Self {
            seed: violation.case.world.seed,
            kind: violation.breach.kind(),
            text: violation.breach.to_string().chars().take(LETTERS_KEPT_MAX).collect(),
            reproduce: violation.reproduce(),
        }
    }
}

impl Identity {
    /// Of a campaign whose worlds are like this one.
    #[must_use]
    pub fn new(build: &str, case: &Case) -> Self {
        let options = case.to_string();
        let without_seed = options.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
        Self { build: build.to_owned(), options: without_seed }
    }
}

impl Progress {
    /// A world ended well.
    pub fn add(&mut self, summary: &Summary) {
        self.done.insert(summary.seed);
        self.total.add(summary);
    }

    /// A world ended badly.
    pub fn add_failure(&mut self, violation: &Violation) {
        self.done.insert(violation.case.world.seed);
        self.failure_count += 1;
        if self.failures.len() < FAILURES_KEPT_MAX {
            self.failures.push(Failure::of(violation));
        }
    }

    /// Reads a campaign's file; nothing is done yet if there is none.
    ///
    /// # Errors
    ///
    /// [`ProgressError`]; another build is no error if `may_be_another_build`.
    pub fn load(
        path: &Path,
        identity: &Identity,
        may_be_another_build: bool,
    ) -> Result<Self, ProgressError> {
        let garbled = |reason: String| ProgressError::Garbled { path: path.into(), reason };
        let Some(text) = read_text(path)? else { return Ok(Self::default()) };
        let file: Value =
            serde_json::from_str(&text).map_err(|error| garbled(error.to_string()))?;
        if number(&file, "format") != Some(FORMAT) {
            return Err(garbled(format!("expected \"format\": {FORMAT}")));
        }
        let word = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default();
        if word("options") != identity.options {
            let (theirs, ours) = (word("options").to_owned(), identity.options.clone());
            return Err(ProgressError::OtherOptions { path: path.into(), theirs, ours });
        }
        if word("build") != identity.build && !may_be_another_build {
            let (theirs, ours) = (word("build").to_owned(), identity.build.clone());
            return Err(ProgressError::OtherBuild { path: path.into(), theirs, ours });
        }
        let missing = || {
            let limit = format!("a figure is missing, or is none from 0 to {FIGURE_MAX}");
            garbled(limit)
        };
        let progress = read(&file).ok_or_else(missing)?;
        progress.check().map_err(|what| garbled(what.to_owned()))?;
        Ok(progress)
    }

    /// Whether the seeds are ranges in order, and as many as there are figures of.
    fn check(&self) -> Result<(), &'static str> {
        let (mut after, mut count) = (None, 0_u64);
        for (first, last) in self.done.ranges() {
            if last < first || after >= Some(first) {
                return Err("expected \"done\" to be ranges of seeds in rising order");
            }
            after = Some(last);
            count = count.saturating_add((last - first).saturating_add(1));
        }
        if Some(count) != self.total.world_count.checked_add(self.failure_count) {
            return Err("expected as many seeds \"done\" as \"seeds\" and \"failure_count\" say");
        }
        Ok(())
    }

    /// Replaces the file, so that a reader finds the old one or the new one whole.
    ///
    /// # Errors
    ///
    /// [`ProgressError::Io`].
    pub fn store(&self, path: &Path, identity: &Identity) -> Result<(), ProgressError> {
        let wrap = |source| ProgressError::Io { path: path.into(), source };
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = File::create(&beside).map_err(wrap)?;
        let written = writeln!(file, "{:#}", self.json(identity)).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&beside, path)).map_err(wrap)
    }

    /// As it is written to the file.
    #[must_use]
    pub fn json(&self, identity: &Identity) -> Value {
        let ranges: Vec<[u64; 2]> = self.done.ranges().map(|(one, two)| [one, two]).collect();
        let failure = |failure: &Failure| {
            json!({
                "seed": failure.seed,
                "kind": failure.kind,
                "text": failure.text,
                "reproduce": failure.reproduce,
            })
        };
        let total = &self.total;
        json!({
            "format": FORMAT,
            "build": identity.build,
            "options": identity.options,
            "done": ranges,
            "seeds": total.world_count,
            "steps": total.steps,
            "virtual_micros": total.virtual_micros,
            "trace_hash": format!("{:016x}", total.trace_hash),
            "committed": total.committed,
            "checked_operations": total.findings.checked_count,
            "undecided_histories": total.findings.undecided_count,
            "watched_events": total.findings.watched_count,
            "faults": object(total.faults()),
            "figures": object(total.figures()),
            "wall_millis": millis(self.wall),
            "cpu_millis": millis(self.cpu),
            "failure_count": self.failure_count,
            "failures": self.failures.iter().map(failure).collect::<Vec<_>>(),
        })
    }
}

/// What is in the file; `None` if there is none.
fn read_text(path: &Path) -> Result<Option<String>, ProgressError> {
    let wrap = |source| ProgressError::Io { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(wrap(source)),
    };
    let bytes = file.metadata().map_err(wrap)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ProgressError::TooLarge { path: path.into(), bytes, limit: FILE_BYTES_MAX });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(wrap)?;
    Ok(Some(text))
}

fn read(file: &Value) -> Option<Progress> {
    let mut progress = Progress {
        failure_count: figure(file, "failure_count")?,
        wall: Duration::from_millis(figure(file, "wall_millis")?),
        cpu: Duration::from_millis(figure(file, "cpu_millis")?),
        ..Progress::default()
    };
    for range in file.get("done")?.as_array()? {
        let (first, last) = (range.get(0)?.as_u64()?, range.get(1)?.as_u64()?);
        if progress.done.ranges.insert(first, last).is_some() {
            return None;
        }
    }
    for failure in file.get("failures")?.as_array()? {
        progress.failures.push(Failure {
            seed: number(failure, "seed")?,
            kind: failure.get("kind")?.as_str()?.to_owned(),
            text: failure.get("text")?.as_str()?.to_owned(),
            reproduce: failure.get("reproduce")?.as_str()?.to_owned(),
        });
    }
    let total = &mut progress.total;
    total.world_count = figure(file, "seeds")?;
    total.steps = figure(file, "steps")?;
    total.virtual_micros = figure(file, "virtual_micros")?;
    total.trace_hash = u64::from_str_radix(file.get("trace_hash")?.as_str()?, 16).ok()?;
    total.committed = figure(file, "committed")?;
    total.findings.checked_count = figure(file, "checked_operations")?;
    total.findings.undecided_count = figure(file, "undecided_histories")?;
    // Files of earlier builds do not have it.
    total.findings.watched_count = match file.get("watched_events") {
        Some(_) => figure(file, "watched_events")?,
        None => 0,
    };
    for counters in ["faults", "figures"] {
        for (name, count) in file.get(counters)?.as_object()? {
            // A counter that this build does not have is another build's; its figure goes.
            let _known = total.set(name, count.as_u64().filter(|count| *count <= FIGURE_MAX)?);
        }
    }
    Some(progress)
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name)?.as_u64()
}

/// A number that may be counted on from.
fn figure(value: &Value, name: &str) -> Option<u64> {
    number(value, name).filter(|figure| *figure <= FIGURE_MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
