//! `quorate bench`: puts a cluster under load and measures it. It speaks etcd's protocol, so that
//! one generator measures etcd and Quorate; it must not be the bottleneck, and reports its own CPU
//! so that anybody can see that it was not.

mod load;
mod processes;
mod report;
mod wire;
mod workload;

use crate::client::{Address, DEFAULT_ENDPOINTS, parse_duration, runtime};
use crate::output;
use anyhow::{Context, bail};
use clap::ValueEnum;
use load::{Load, Window};
use report::Report;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::Wire;
use workload::Workload;

const EXAMPLES: &str = "\
Examples:
  quorate bench                                          64 clients put for ten seconds
  quorate bench --op get --clients 256 --seconds 30
  quorate bench --rate 2000                              open loop: waiting counts as latency
  quorate bench --op lease-keep-alive --keys 100000      grants so many leases and renews them
  quorate bench --pids 4711,4712,4713 --json             with the servers' CPU, for programs
Every operation goes to the next connection in turn, so that all endpoints are loaded alike.
It exits with 1 if any operation failed.";

/// Puts a cluster under load and measures it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Which servers
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_ENDPOINTS, value_name = "HOST:PORT,...")]
    endpoints: Vec<Address>,
    /// How many operations are under way at a time
    #[arg(long, default_value = "64", value_name = "COUNT")]
    clients: NonZeroUsize,
    /// How many connections they share [default: one an endpoint]
    #[arg(long, value_name = "COUNT")]
    connections: Option<NonZeroUsize>,
    /// What they do
    #[arg(long, value_enum, default_value_t = Operation::Put)]
    op: Operation,
    /// How large a value is, in bytes
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = parse_value_size)]
    value_size: usize,
    /// How many different keys, or leases, there are
    #[arg(long, default_value = "10000", value_name = "COUNT")]
    keys: NonZeroUsize,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long to run before measuring
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    warm_up: Duration,
    /// How long an operation may take before it counts as failed
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    timeout: Duration,
    /// How many operations a second to start, ready or not [default: each after the last]
    #[arg(long, value_name = "PER SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// The servers' process ids: report their CPU
    #[arg(long, value_delimiter = ',', value_name = "PID,...")]
    pids: Vec<u32>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Store a value under a random key
    Put,
    /// Read a random key, seeing all that was acknowledged
    Get,
    /// Read a random key as the asked member has it
    SerializableGet,
    /// Half puts, half gets
    Mixed,
    /// Compare a key's revision and put
    Txn,
    /// Renew a random lease of those that were granted before
    LeaseKeepAlive,
}

/// Values come from a pool of this size; the pool is larger than the largest value.
const VALUE_SIZE_MAX: usize = 1 << 20;

fn parse_value_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size <= VALUE_SIZE_MAX);
    size.ok_or_else(|| format!("expected at most {VALUE_SIZE_MAX} bytes, found `{text}`"))
}

/// Runs the load and prints what was measured.
///
/// # Errors
///
/// If nobody can be reached, or any operation failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let report = runtime()?.block_on(measure(options))?;
    if options.json {
        println!("{}", serde_json::to_string(&report.as_json())?);
    } else {
        print!("{report}");
    }
    match report.error_count() {
        0 => Ok(()),
        errors => bail!("{errors} operations failed: the figures are not worth comparing"),
    }
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    let wires = connect(options).await?;
    let workload = Arc::new(Workload::new(options.op, options.keys, options.value_size));
    if workload.needs_filling() {
        workload.fill(&wires).await.context("storing the keys, or granting the leases")?;
    }
    let start = Instant::now() + options.warm_up;
    let window = Window { start, stop: start + Duration::from_secs(options.seconds) };
    let load = Load::start(options, &wires, &workload, window)?;
    let usage = watch(options, &load, window).await?;
    Ok(Report::new(options, wires.len(), load.finish().await?, usage))
}

async fn connect(options: &Options) -> anyhow::Result<Vec<Wire>> {
    let count = options.connections.map_or(options.endpoints.len(), NonZeroUsize::get);
    let mut wires = Vec::new();
    if let Some(secure) = options.endpoints.iter().find(|one| one.is_secure() == Some(true)) {
        bail!("expected HOST:PORT, found `https://{secure}`: bench does not speak https");
    }
    for address in options.endpoints.iter().cycle().take(count) {
        let wire = Wire::connect(&address.to_string(), Duration::from_secs(2)).await;
        wires.push(wire.with_context(|| format!("connecting to {address}"))?);
    }
    Ok(wires)
}

/// What was used while it was measured.
struct Used {
    /// CPU of this process.
    own_cpu: Duration,
    /// CPU of the servers, if we know which they are.
    server_cpu: Option<Duration>,
    /// Written to this machine's disks, by anybody.
    disk_written_bytes: u64,
}

/// Waits until the measurement is over; on a terminal, says each second how it goes.
async fn watch(options: &Options, load: &Load, window: Window) -> anyhow::Result<Used> {
    let own_pid = [std::process::id()];
    tokio::time::sleep_until(window.start).await;
    let written = processes::disk_written_bytes();
    let (own, servers) = (processes::cpu_time(&own_pid)?, processes::cpu_time(&options.pids)?);
    show_progress(options, load, window).await;
    let own_cpu = processes::cpu_time(&own_pid)?.saturating_sub(own);
    let server_cpu = processes::cpu_time(&options.pids)?.saturating_sub(servers);
    Ok(Used {
        own_cpu,
        server_cpu: (!options.pids.is_empty()).then_some(server_cpu),
        disk_written_bytes: processes::disk_written_bytes().saturating_sub(written),
    })
}

async fn show_progress(options: &Options, load: &Load, window: Window) {
    let is_shown = std::io::stderr().is_terminal();
    let mut shown = load.operation_count();
    for second in 1..=options.seconds {
        tokio::time::sleep_until(window.start + Duration::from_secs(second)).await;
        let count = load.operation_count();
        if is_shown {
            eprint!("\r{second} of {} s: {} operations/s   ", options.seconds, count - shown);
        }
        shown = count;
    }
    if is_shown {
        eprintln!();
    }
}

/// A number with its thousands apart: `35 880`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Tells a table's reader what a byte count is.
fn bytes(count: u64) -> String {
    output::size(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_035_880), "1 035 880");
    }
}
