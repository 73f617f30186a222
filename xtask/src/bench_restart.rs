//! `cargo xtask bench-restart`: how long a server, or three, take from their start to the first answer
//! to a linearizable read, after histories of different lengths: over some keys, with what is
//! superfluous compacted away, and over as many keys as writes. After a clean stop and after SIGKILL.

use crate::measured::{
    Place, Scratch, compact, fill, load, machine, median, mib, revision, size_of, write,
};
use crate::servers::{Programs, Servers, Setup, System};
use anyhow::Context;
use std::fmt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What `--large` adds.
const LARGE_WRITES: u64 = 10_000_000;
/// Who has to ask again waits this long.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_mins(10);
/// So many writes come before each end, so that the end is not that of an idle server.
const LAST_WRITES: u64 = 2000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many writes there were, for one measurement after the other: rising
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    writes: Vec<u64>,
    /// Ten million writes as well: that takes more than half an hour
    #[arg(long)]
    large: bool,
    /// How many servers, for one measurement after the other
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    servers: Vec<u16>,
    /// How many keys there are where there are few
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// How large a value is, in bytes
    #[arg(long, default_value_t = 32)]
    value_size: u64,
    /// How often each restart is measured; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    trials: u32,
    #[command(flatten)]
    place: Place,
}

/// Over which keys is written.
#[derive(Clone, Copy)]
enum Keys {
    Few,
    AsManyAsWrites,
}

/// How servers end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Killed,
}

/// What was found after one history.
struct Row {
    server_count: u16,
    keys: Keys,
    writes: u64,
    state_bytes: u64,
    log_bytes: u64,
    clean_ms: u64,
    killed_ms: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self.keys {
            Keys::Few => "few, compacted",
            Keys::AsManyAsWrites => "as many as writes",
        };
        let Self { server_count, writes, clean_ms, killed_ms, .. } = self;
        let (state, log) = (mib(self.state_bytes), mib(self.log_bytes));
        write!(
            f,
            "| {server_count} | {keys} | {writes} | {state} | {log} | {clean_ms} | {killed_ms} |"
        )
    }
}

/// Measures and prints.
///
/// # Errors
///
/// If servers do not start, stop or answer.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let (programs, scratch) = options.place.prepared(root)?;
    let mut writes = options.writes.clone();
    writes.extend(options.large.then_some(LARGE_WRITES));
    writes.sort_unstable();
    let mut rows = Vec::new();
    for server_count in &options.servers {
        for keys in [Keys::Few, Keys::AsManyAsWrites] {
            measure(&programs, &scratch, options, (*server_count, keys), &writes, &mut rows)?;
        }
    }
    println!(
        "\n{}; quorate alone; values of {} bytes, few keys are {}; from the start of the processes, all \
         at once, to the first answer to a linearizable read, medians of {}\n",
        machine(root),
        options.value_size,
        options.keys,
        options.trials,
    );
    println!("| servers | keys | writes | state MiB | log MiB | clean stop ms | SIGKILL ms |");
    println!("|---|---|---|---|---|---|---|");
    for row in &rows {
        println!("{row}");
    }
    scratch.done();
    Ok(())
}

/// One cluster, whose history grows.
fn measure(
    programs: &Programs,
    scratch: &Scratch,
    options: &Options,
    (server_count, keys): (u16, Keys),
    writes: &[u64],
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let more = vec![("--quota-backend-bytes", "-1".to_owned())];
    let setup = Setup { count: server_count, more };
    let mut servers = Servers::start_with(System::Quorate, programs, &scratch.0, &setup)?;
    let mut before = 0;
    for count in writes {
        eprintln!("{server_count} servers, up to {count} writes");
        let (quorate, endpoints) = (&programs.quorate, &servers.endpoints);
        match keys {
            Keys::Few => {
                let more = count.saturating_sub(before);
                write(quorate, endpoints, more, options.keys, options.value_size)?;
                compact(quorate, endpoints)?;
            }
            Keys::AsManyAsWrites => fill(quorate, endpoints, *count, options.value_size)?,
        }
        before = *count;
        let (clean_ms, _) = restarts(&mut servers, programs, options, End::Clean)?;
        let (killed_ms, (state_bytes, log_bytes)) =
            restarts(&mut servers, programs, options, End::Killed)?;
        let row =
            Row { server_count, keys, writes: *count, state_bytes, log_bytes, clean_ms, killed_ms };
        eprintln!("  {row}");
        rows.push(row);
    }
    Ok(())
}

/// The median time, in milliseconds, and the sizes of state and log when the last one began.
fn restarts(
    servers: &mut Servers,
    programs: &Programs,
    options: &Options,
    end: End,
) -> anyhow::Result<(u64, (u64, u64))> {
    let mut times = Vec::new();
    let mut sizes = (0, 0);
    for _ in 0..options.trials {
        let last = [
            ("--op", "put".to_owned()),
            ("--rate", LAST_WRITES.to_string()),
            ("--keys", options.keys.to_string()),
            ("--value-size", options.value_size.to_string()),
            ("--seconds", "1".to_owned()),
            ("--warm-up", "0s".to_owned()),
        ];
        load(&programs.quorate, &servers.endpoints, &last)?;
        match end {
            End::Clean => servers.stop_all()?,
            End::Killed => servers.kill_all()?,
        }
        let folder = servers.data_dir(0);
        sizes = (size_of(&folder.join("state")), size_of(&folder.join("wal")));
        let took = first_answer(servers)?;
        eprintln!(
            "  {took:?} after {}",
            if end == End::Clean { "a clean stop" } else { "SIGKILL" }
        );
        times.push(u64::try_from(took.as_millis())?);
    }
    Ok((median(times), sizes))
}

/// Starts all servers; how long it took until one of them answered. All of them answer when this
/// returns.
fn first_answer(servers: &mut Servers) -> anyhow::Result<Duration> {
    let start = Instant::now();
    servers.start_all_again()?;
    let mut first = None;
    let mut missing = servers.endpoints.clone();
    while !missing.is_empty() {
        missing.retain(|endpoint| revision(endpoint).is_err());
        if missing.len() < servers.endpoints.len() {
            first.get_or_insert_with(|| start.elapsed());
        } else {
            servers.are_alive()?;
        }
        if start.elapsed() > PATIENCE {
            anyhow::bail!("{} do not answer within {PATIENCE:?}", missing.join(", "));
        }
        sleep(PAUSE);
    }
    first.context("there is a server")
}
