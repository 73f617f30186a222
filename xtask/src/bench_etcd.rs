//! `cargo xtask bench-etcd`: three real etcds and three of ours in turn, on the same disk, under the
//! same load, with fsync on both sides. Only ratios of one run count; refuses to report a run with
//! an error in it.

use crate::servers::{Programs, Servers, System, fetch_etcd};
use anyhow::{Context, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each system is measured, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How many clients, for one measurement after the other
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    clients: Vec<u32>,
    /// What the clients do: put, get, serializable-get, mixed, txn
    #[arg(long, value_delimiter = ',', default_value = "put")]
    op: Vec<String>,
    /// How large a value is, in bytes
    #[arg(long, default_value_t = 256)]
    value_size: u32,
    /// Where the data goes, on the disk to measure [default: target/bench-etcd]
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What is measured with one kind of load.
struct Case {
    operation: String,
    client_count: u32,
    /// One object of `quorate bench --json` a round, for etcd and for us.
    etcd: Vec<Value>,
    quorate: Vec<Value>,
}

/// A figure of a report: its heading, and its place in the JSON.
type Figure = (&'static str, &'static str);

const FIGURES: [Figure; 8] = [
    ("operations/s", "/per_second"),
    ("p50 us", "/latency_us/p50"),
    ("p90 us", "/latency_us/p90"),
    ("p99 us", "/latency_us/p99"),
    ("p99.9 us", "/latency_us/p99_9"),
    ("server CPU ms", "/server_cpu_ms"),
    ("operations/CPU s", "/per_server_cpu_second"),
    ("bytes written/operation", "/disk_written_bytes_per_operation"),
];

/// Measures and prints.
///
/// # Errors
///
/// If anything failed, so that figures with errors in them are never seen.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let programs = Programs { etcd: fetch_etcd(root)?, quorate: build(root)? };
    let folder = options.folder.clone().unwrap_or_else(|| root.join("target/bench-etcd"));
    let mut cases = cases(options);
    for round in 1..=options.rounds {
        for system in [System::Etcd, System::Quorate] {
            println!("round {round} of {}: {}", options.rounds, system.name());
            let servers = Servers::start(system, &programs, &folder)?;
            for case in &mut cases {
                let report = measure(case, options, &programs, &servers)?;
                println!("  {}", in_short(case, &report));
                match system {
                    System::Etcd => case.etcd.push(report),
                    System::Quorate => case.quorate.push(report),
                }
            }
        }
    }
    print_header(root, options);
    for case in &cases {
        print_case(case);
    }
    Ok(())
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in &options.op {
        for client_count in &options.clients {
            cases.push(Case {
                operation: operation.clone(),
                client_count: *client_count,
                etcd: Vec::new(),
                quorate: Vec::new(),
            });
        }
    }
    cases
}

/// A release build of this tree.
///
/// # Errors
///
/// If it fails.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let status = Command::new(crate::ci::cargo())
        .args(["build", "--release", "--package", "quorate-cli"])
        .current_dir(root)
        .status()?;
    if !status.success() {
        bail!("the release build failed");
    }
    Ok(crate::ci::release_binary(root))
}

fn measure(
    case: &Case,
    options: &Options,
    programs: &Programs,
    servers: &Servers,
) -> anyhow::Result<Value> {
    let before = servers.fsync_counts()?;
    let output = Command::new(&programs.quorate)
        .args(["bench", "--json", "--endpoints", &servers.endpoints.join(",")])
        .args(["--clients", &case.client_count.to_string(), "--op", &case.operation])
        .args(["--seconds", &options.seconds.to_string(), "--pids", &servers.pids()])
        .args(["--value-size", &options.value_size.to_string()])
        .output()
        .context("running quorate bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "no figures, because there were errors: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let writes = !case.operation.ends_with("get");
    let syncing = servers.fsync_counts()?.into_iter().zip(before).filter(|(now, then)| now > then);
    let majority = servers.endpoints.len() / 2 + 1;
    if writes && syncing.count() < majority {
        bail!("no figures, because fsync is off: the servers counted none under load");
    }
    serde_json::from_str(&text).with_context(|| format!("expected JSON, found `{text}`"))
}

/// A figure of a report.
pub(crate) fn number(report: &Value, place: &str) -> Option<u64> {
    report.pointer(place).and_then(Value::as_u64)
}

fn in_short(case: &Case, report: &Value) -> String {
    let shown = |place| number(report, place).map_or_else(|| "-".to_owned(), |n| n.to_string());
    format!(
        "{} with {} clients: {}/s, p50 {} us, p99 {} us, {} per CPU s, generator {} ms CPU",
        case.operation,
        case.client_count,
        shown("/per_second"),
        shown("/latency_us/p50"),
        shown("/latency_us/p99"),
        shown("/per_server_cpu_second"),
        shown("/generator_cpu_ms"),
    )
}

fn print_header(root: &Path, options: &Options) {
    println!(
        "\n{}; etcd 3.5.1 and quorate, three servers each, fsync on, values of {} bytes; medians of \
         {} rounds of {} s in turn (least to most)\n",
        crate::measured::machine(root),
        options.value_size,
        options.rounds,
        options.seconds,
    );
}

fn print_case(case: &Case) {
    println!("### {}, {} clients\n", case.operation, case.client_count);
    println!("| | etcd | quorate | ratio |\n|---|---|---|---|");
    for (heading, place) in FIGURES {
        let of = |reports: &[Value]| Spread::of(reports.iter().filter_map(|r| number(r, place)));
        let (etcd, quorate) = (of(&case.etcd), of(&case.quorate));
        let shown = |spread: &Option<Spread>| {
            spread.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
        };
        let ratio = etcd.as_ref().zip(quorate.as_ref()).and_then(|(etcd, quorate)| {
            let hundredths = quorate.median.saturating_mul(100).checked_div(etcd.median)?;
            Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
        });
        let ratio = ratio.unwrap_or_else(|| "-".to_owned());
        println!("| {heading} | {} | {} | {ratio} |", shown(&etcd), shown(&quorate));
    }
    println!();
}

/// The middle of some figures, and how far they spread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) median: u64,
    least: u64,
    most: u64,
}

impl Spread {
    pub(crate) fn of(figures: impl Iterator<Item = u64>) -> Option<Self> {
        let mut figures: Vec<u64> = figures.collect();
        figures.sort_unstable();
        let median = *figures.get(figures.len() / 2)?;
        Some(Self { median, least: *figures.first()?, most: *figures.last()? })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} to {})", self.median, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_figure_that_was_measured() {
        let spread = Spread::of([5, 1, 9].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 5, least: 1, most: 9 });
        assert_eq!(spread.to_string(), "5 (1 to 9)");
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
