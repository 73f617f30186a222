//! What measurements of servers share: the load that is put on them, what they say of themselves, how
//! large their files are, and a folder that is gone afterwards. Knows nothing of what is measured.

use crate::servers::{Programs, Servers, http_post};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// So many clients write when it shall be over soon.
const EAGER_CLIENTS: u32 = 256;
/// How long a compaction may take.
const COMPACTION_PATIENCE: Duration = Duration::from_mins(5);
/// How long a stretch of such writing is.
const STRETCH_SECONDS: u64 = 2;

/// Which servers are measured, and where.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// A quorate that is built already [default: a release build of this tree]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where the data goes, on the disk to measure; it is removed afterwards [default: target/bench]
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Place {
    /// The program, and the folder.
    ///
    /// # Errors
    ///
    /// If a build fails.
    pub(crate) fn prepared(&self, root: &Path) -> anyhow::Result<(Programs, Scratch)> {
        let quorate = match &self.program {
            Some(program) => program.clone(),
            None => crate::bench_etcd::build(root)?,
        };
        let folder = self.folder.clone().unwrap_or_else(|| root.join("target/bench"));
        Ok((Programs { etcd: PathBuf::new(), quorate }, Scratch(folder)))
    }
}

/// A folder whose data is removed when this is dropped; logs stay if something failed.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// Nobody needs the logs.
    pub(crate) fn done(self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Date, commit and machine.
pub(crate) fn machine(root: &Path) -> String {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(root).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_else(|| "?".to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    format!(
        "{}, commit {}, {} with {cpus} CPUs",
        output("date", &["-u", "+%Y-%m-%d"]),
        output("git", &["rev-parse", "--short", "HEAD"]),
        output("uname", &["-sr"]),
    )
}

/// Puts a load on servers, and returns what was measured, as `quorate bench --json` says it.
///
/// # Errors
///
/// If an operation failed.
pub(crate) fn load(
    quorate: &Path,
    endpoints: &[String],
    arguments: &[(&str, String)],
) -> anyhow::Result<Value> {
    let mut command = Command::new(quorate);
    command.args(["bench", "--json", "--endpoints", &endpoints.join(",")]);
    for (flag, value) in arguments {
        command.arg(flag).arg(value);
    }
    let output = command.output().context("running quorate bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("no figures, because there were errors: {text}{errors}");
    }
    serde_json::from_str(&text).with_context(|| format!("expected JSON, found `{text}`"))
}

/// Stores a value under so many keys, a hundred in each transaction.
///
/// # Errors
///
/// If one cannot be stored.
pub(crate) fn fill(
    quorate: &Path,
    endpoints: &[String],
    key_count: u64,
    value_size: u64,
) -> anyhow::Result<()> {
    eprintln!("  storing {key_count} keys with values of {value_size} bytes");
    let arguments = [
        ("--op", "serializable-get".to_owned()),
        ("--keys", key_count.to_string()),
        ("--value-size", value_size.to_string()),
        ("--clients", "1".to_owned()),
        ("--seconds", "1".to_owned()),
        ("--warm-up", "0s".to_owned()),
    ];
    load(quorate, endpoints, &arguments).map(drop)
}

/// Writes one value after the other, as fast as it goes, until so many more have been written.
///
/// # Errors
///
/// If one cannot be written.
pub(crate) fn write(
    quorate: &Path,
    endpoints: &[String],
    count: u64,
    key_count: u64,
    value_size: u64,
) -> anyhow::Result<()> {
    let asked = endpoints.first().context("there is a server")?;
    let target = revision(asked)? + count;
    loop {
        let left = target.saturating_sub(revision(asked)?);
        eprintln!("  {left} of {count} writes to go");
        if left == 0 {
            return Ok(());
        }
        // The last ones at a rate, so that they are not far too many.
        let is_short = left < 20_000;
        let seconds = if is_short { 1 } else { STRETCH_SECONDS };
        let mut arguments = vec![
            ("--op", "put".to_owned()),
            ("--keys", key_count.to_string()),
            ("--value-size", value_size.to_string()),
            ("--clients", EAGER_CLIENTS.to_string()),
            ("--seconds", seconds.to_string()),
            ("--warm-up", "0s".to_owned()),
        ];
        if is_short {
            arguments.push(("--rate", left.max(100).to_string()));
        }
        load(quorate, endpoints, &arguments)?;
    }
}

/// Forgets what keys held before now, and waits until it is gone from the disk of one server.
///
/// # Errors
///
/// If that takes more than five minutes.
pub(crate) fn compact(quorate: &Path, endpoints: &[String]) -> anyhow::Result<()> {
    let asked = endpoints.first().context("there is a server")?;
    let start = Instant::now();
    loop {
        // A revision that nobody has named before: the answer to another one would not wait.
        let request = json!({ "key": "Y29tcGFjdGVk", "value": "MQ==" });
        http_post(asked, "/v3/kv/put", &request.to_string())?;
        let revision = revision(asked)?.to_string();
        let mut command = Command::new(quorate);
        command.args(["compaction", "--physical", "--command-timeout", "60s"]);
        command.args([&revision, "--endpoints", asked]);
        let output = command.output().context("running quorate compaction")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => return Ok(()),
            // The server answers before it is over, and goes on.
            false if is_too_slow(&errors) && start.elapsed() < COMPACTION_PATIENCE => {}
            false => bail!("{command:?} ended with {}: {errors}", output.status),
        }
    }
}

/// Whether the answer to a compaction came before it was over: it goes on all the same.
fn is_too_slow(errors: &str) -> bool {
    errors.contains("timed out") || errors.contains("no answer")
}

/// The store's revision, as a linearizable read shows it.
///
/// # Errors
///
/// If nobody answers.
pub(crate) fn revision(endpoint: &str) -> anyhow::Result<u64> {
    let request = json!({ "key": "cmV2aXNpb24=" });
    let answer = http_post(endpoint, "/v3/kv/range", &request.to_string())?;
    said(&serde_json::from_str(&answer)?, "/header/revision")
}

/// What a server says of itself.
///
/// # Errors
///
/// If it does not answer.
pub(crate) fn status(endpoint: &str) -> anyhow::Result<Value> {
    let answer = http_post(endpoint, "/v3/maintenance/status", "{}")?;
    Ok(serde_json::from_str(&answer)?)
}

/// A number in an answer, where JSON has it as text.
///
/// # Errors
///
/// If there is none.
pub(crate) fn said(answer: &Value, place: &str) -> anyhow::Result<u64> {
    let number = answer.pointer(place).and_then(Value::as_str).and_then(|text| text.parse().ok());
    number.with_context(|| format!("expected a number at {place}, found {answer}"))
}

/// Which server leads.
///
/// # Errors
///
/// If one does not answer, or nobody leads.
pub(crate) fn leader(servers: &Servers) -> anyhow::Result<usize> {
    for (index, endpoint) in servers.endpoints.iter().enumerate() {
        let status = status(endpoint)?;
        let of = |place| status.pointer(place).cloned();
        if of("/leader").is_some() && of("/leader") == of("/header/member_id") {
            return Ok(index);
        }
    }
    bail!("none of the servers leads")
}

/// Asks until the answer is yes.
///
/// # Errors
///
/// If it is not within `patience`.
pub(crate) fn wait_until(
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    loop {
        let outcome = is_so();
        if matches!(outcome, Ok(true)) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > patience {
            return Err(outcome.err().unwrap_or_else(|| anyhow::anyhow!("it was not so")))
                .with_context(|| format!("waiting for {what} for {patience:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How large the files below a folder are together; what is gone meanwhile counts nothing.
pub(crate) fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}

/// Bytes as MiB, with one decimal.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// `new` as a multiple of `old`.
pub(crate) fn ratio(old: u64, new: u64) -> String {
    let hundredths = new.saturating_mul(100).checked_div(old);
    hundredths.map_or_else(|| "-".to_owned(), |it| format!("{}.{:02}", it / 100, it % 100))
}

/// The middle one.
pub(crate) fn median(figures: impl IntoIterator<Item = u64>) -> u64 {
    crate::bench_etcd::Spread::of(figures.into_iter()).map_or(0, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ratios_are_shown_with_as_many_decimals_as_they_deserve() {
        assert_eq!(
            (mib(0), mib(1 << 20), mib(3 << 19)),
            ("0.0".into(), "1.0".into(), "1.5".into())
        );
        assert_eq!((ratio(200, 300), ratio(0, 1)), ("1.50".into(), "-".into()));
    }

    #[test]
    fn the_files_of_a_folder_are_counted_and_its_data_goes_with_the_scratch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench");
        fs::create_dir_all(path.join("b1/wal")).unwrap();
        fs::write(path.join("b1/wal/one"), [0; 10]).unwrap();
        fs::write(path.join("b1/state"), [0; 5]).unwrap();
        fs::write(path.join("b1.log"), [0; 3]).unwrap();
        assert_eq!(size_of(&path), 18);
        drop(Scratch(path.clone()));
        assert_eq!(size_of(&path), 3, "the log is there");
        Scratch(path.clone()).done();
        assert!(!path.exists());
    }

    #[test]
    fn a_number_that_is_text_in_json_is_read_and_what_is_none_is_named() {
        let answer = json!({ "header": { "revision": "17" } });
        assert_eq!(said(&answer, "/header/revision").unwrap(), 17);
        let error = said(&answer, "/dbSize").unwrap_err().to_string();
        assert!(error.contains("/dbSize"), "{error}");
    }
}
