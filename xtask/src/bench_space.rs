//! `cargo xtask bench-space`: what a large compaction does to puts at a fixed rate, and to the size of
//! the state file: before it, while it is under way, after it, and after as much was written again; and
//! what it does to puts that the files are made anew, without a pause.

use crate::bench_etcd::number;
use crate::measured::{Place, compact, load, machine, mib, ratio, said, size_of, status, write};
use crate::servers::{Programs, Servers, Setup, System};
use anyhow::Context;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How often the size of the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The figures of a report: heading, place.
const FIGURES: [(&str, &str); 4] = [
    ("operations/s", "/per_second"),
    ("p50 us", "/latency_us/p50"),
    ("p99 us", "/latency_us/p99"),
    ("p99.9 us", "/latency_us/p99_9"),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How much is written that the compaction makes superfluous, in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
    mib: u64,
    /// How many keys there are
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// How large a value is, in bytes
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    value_size: u64,
    /// How long each measurement takes
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// How many puts a second begin, ready or not
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    #[command(flatten)]
    place: Place,
}

/// The state file of the first server, in bytes, and how much of that is in use.
#[derive(Clone, Copy)]
struct Size {
    file: u64,
    in_use: u64,
}

impl Size {
    fn of(servers: &Servers) -> anyhow::Result<Self> {
        let endpoint = servers.endpoints.first().context("there are three servers")?;
        let in_use = said(&status(endpoint)?, "/dbSizeInUse")?;
        Ok(Self { file: size_of(&servers.data_dir(0).join("state")), in_use })
    }
}

/// Measures and prints.
///
/// # Errors
///
/// If an operation failed.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let (programs, scratch) = options.place.prepared(root)?;
    let more = vec![("--quota-backend-bytes", "-1".to_owned())];
    let setup = Setup { more, ..Setup::default() };
    let servers = Servers::start_with(System::Quorate, &programs, &scratch.0, &setup)?;
    let count = (options.mib << 20) / options.value_size;
    let fill =
        || write(&programs.quorate, &servers.endpoints, count, options.keys, options.value_size);
    fill()?;
    let mut sizes = vec![("before", Size::of(&servers)?)];
    let before = puts(&programs, &servers, options)?;
    let (meanwhile, took, course) = while_compacted(&programs, &servers, options)?;
    let in_use = Size::of(&servers)?.in_use;
    let largest = course.iter().map(|(_, file)| *file).max().unwrap_or_default();
    sizes.push(("at most meanwhile", Size { file: largest, in_use }));
    sizes.push(("when it was over", Size::of(&servers)?));
    let after = puts(&programs, &servers, options)?;
    sizes.push(("a measurement later", Size::of(&servers)?));
    let (renewing, renewals) = while_renewed(&programs, &servers, options)?;
    fill()?;
    sizes.push(("as much written again", Size::of(&servers)?));
    compact(&programs.quorate, &servers.endpoints)?;
    sizes.push(("and compacted again", Size::of(&servers)?));
    println!(
        "\n{}; quorate alone, three servers; {} MiB in {} keys, then a compaction, which took {} ms; {} \
         puts of {} bytes a second, {} s each\n",
        machine(root),
        options.mib,
        options.keys,
        took.as_millis(),
        options.rate,
        options.value_size,
        options.seconds,
    );
    print_sizes(&sizes);
    print_course(&course);
    print_puts(&[before, meanwhile, after, renewing]);
    println!("\nfiles made anew during the last measurement, of each server: {renewals}");
    drop(servers);
    scratch.done();
    Ok(())
}

fn puts(programs: &Programs, servers: &Servers, options: &Options) -> anyhow::Result<Value> {
    let arguments = [
        ("--op", "put".to_owned()),
        ("--keys", options.keys.to_string()),
        ("--rate", options.rate.to_string()),
        ("--seconds", options.seconds.to_string()),
        ("--warm-up", "0s".to_owned()),
        ("--value-size", options.value_size.to_string()),
    ];
    let report = load(&programs.quorate, &servers.endpoints, &arguments)?;
    let figure = |place| number(&report, place).unwrap_or_default();
    eprintln!("  p50 {} us, p99 {} us", figure("/latency_us/p50"), figure("/latency_us/p99"));
    Ok(report)
}

/// When a file was how large.
type Course = Vec<(Duration, u64)>;

/// Puts while what is superfluous goes; how long that took, and how large the file was meanwhile.
fn while_compacted(
    programs: &Programs,
    servers: &Servers,
    options: &Options,
) -> anyhow::Result<(Value, Duration, Course)> {
    let (course, is_over) = (&Mutex::new(Course::new()), &AtomicBool::new(false));
    let file = &servers.data_dir(0).join("state");
    let start = Instant::now();
    let (report, took) = thread::scope(|scope| {
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let look = (start.elapsed(), size_of(file));
                course.lock().unwrap_or_else(PoisonError::into_inner).push(look);
                sleep(LOOK_EVERY);
            }
        });
        let load = scope.spawn(|| puts(programs, servers, options));
        let outcome = compact(&programs.quorate, &servers.endpoints);
        let took = start.elapsed();
        let report = load.join();
        is_over.store(true, Ordering::Relaxed);
        outcome?;
        let report = report.map_err(|_| anyhow::anyhow!("the load panicked"))??;
        anyhow::Ok((report, took))
    })?;
    let course = std::mem::take(&mut *course.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((report, took, course))
}

/// Puts while each server makes its file anew, again and again; how often each of them did.
fn while_renewed(
    programs: &Programs,
    servers: &Servers,
    options: &Options,
) -> anyhow::Result<(Value, u32)> {
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let renewals = scope.spawn(move || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let mut command = Command::new(&programs.quorate);
                command.args(["defrag", "--command-timeout", "60s", "--endpoints"]);
                let output = command.arg(servers.endpoints.join(",")).output()?;
                let errors = String::from_utf8_lossy(&output.stderr);
                anyhow::ensure!(output.status.success(), "{command:?} failed: {errors}");
                count += 1;
            }
            Ok(count)
        });
        let report = puts(programs, servers, options);
        is_over.store(true, Ordering::Relaxed);
        let count = renewals.join().map_err(|_| anyhow::anyhow!("the renewals panicked"))??;
        Ok((report?, count))
    })
}

/// The sizes that differ by more than a few MiB from the one before.
fn print_course(course: &Course) {
    const NEWS_BYTES: u64 = 4 << 20;
    println!("the state file, since the compaction began:");
    let mut shown = None;
    for (at, file) in course {
        if shown.is_none_or(|shown: u64| shown.abs_diff(*file) > NEWS_BYTES) {
            println!("- after {} ms: {} MiB", at.as_millis(), mib(*file));
            shown = Some(*file);
        }
    }
    println!();
}

fn print_sizes(sizes: &[(&str, Size)]) {
    println!("| compaction | state file MiB | of that in use MiB |\n|---|---|---|");
    for (when, size) in sizes {
        println!("| {when} | {} | {} |", mib(size.file), mib(size.in_use));
    }
    println!();
}

fn print_puts(reports: &[Value; 4]) {
    println!(
        "| puts | before | while space is freed | ratio | after | ratio | while files are made anew | \
         ratio |\n|---|---|---|---|---|---|---|---|"
    );
    for (heading, place) in FIGURES {
        let [before, others @ ..] =
            reports.each_ref().map(|report| number(report, place).unwrap_or_default());
        print!("| {heading} | {before} |");
        for other in others {
            print!(" {other} | {} |", ratio(before, other));
        }
        println!();
    }
}
