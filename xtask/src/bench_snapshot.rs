//! `cargo xtask bench-snapshot`: puts at a fixed rate, alone, while a snapshot is taken and sent to a
//! member that joins, and while a backup is saved; in turn, on the same servers. The member is a
//! learner: the same two servers acknowledge all the time.

use crate::bench_etcd::number;
use crate::measured::{
    Place, Scratch, fill, load, machine, median, mib, ratio, said, size_of, status, wait_until,
};
use crate::servers::{Programs, Servers, Setup, System, http_post};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Values with what they are stored with fill pages of the store's file.
const VALUE_BYTES: u64 = 14_336;
/// How long a member that joins may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long the servers are left alone once they are full.
const SETTLE: Duration = Duration::from_secs(10);
/// Who joins has caught up if it is behind by no more entries than this.
const BEHIND_MAX: u64 = 1000;
/// The figures of a report: heading, place.
const FIGURES: [(&str, &str); 4] = [
    ("operations/s", "/per_second"),
    ("p50 us", "/latency_us/p50"),
    ("p99 us", "/latency_us/p99"),
    ("p99.9 us", "/latency_us/p99_9"),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How large the snapshot is, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    mib: u64,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 12)]
    seconds: u32,
    /// How many puts a second begin, ready or not
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// How large a value is that is put, in bytes
    #[arg(long, default_value_t = 256)]
    value_size: u32,
    /// `quorate serve --snapshot-rate`, in bytes a second: 0 for as fast as it goes
    #[arg(long, default_value_t = 0)]
    snapshot_rate: u64,
    #[command(flatten)]
    place: Place,
}

/// What was measured: one report for each measurement, of which there are several while a snapshot is
/// sent.
#[derive(Default)]
struct Cases {
    alone: Vec<Value>,
    sent: Vec<Value>,
    saved: Vec<Value>,
    /// How long it took until the member had caught up, and until the backup was there.
    sending_ms: Vec<u64>,
    saving_ms: Vec<u64>,
}

/// Measures and prints.
///
/// # Errors
///
/// If an operation failed, or a member that joins was sent no snapshot.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let (programs, scratch) = options.place.prepared(root)?;
    let more = vec![
        ("--quota-backend-bytes", "-1".to_owned()),
        ("--snapshot-rate", options.snapshot_rate.to_string()),
    ];
    let setup = Setup { count: 2, more };
    let mut servers = Servers::start_with(System::Quorate, &programs, &scratch.0, &setup)?;
    let key_count = (options.mib << 20) / VALUE_BYTES;
    fill(&programs.quorate, &servers.endpoints, key_count, VALUE_BYTES)?;
    // What the filling left to do in the background is none of the first measurement's business.
    thread::sleep(SETTLE);
    let mut cases = Cases::default();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let report = puts(&programs, &servers.endpoints, options)?;
        shown("alone", std::slice::from_ref(&report));
        cases.alone.push(report);
        let (reports, took) = while_sent(&programs, &mut servers, options, &setup)?;
        shown(&format!("sent in {took:?}"), &reports);
        cases.sent.extend(reports);
        cases.sending_ms.push(u64::try_from(took.as_millis())?);
        let (reports, took) = while_saved(&programs, &servers, options, &scratch)?;
        shown(&format!("saved in {took:?}"), &reports);
        cases.saved.extend(reports);
        cases.saving_ms.push(u64::try_from(took.as_millis())?);
    }
    let state_bytes = size_of(&servers.data_dir(0).join("state"));
    print(root, options, &cases, state_bytes);
    drop(servers);
    scratch.done();
    Ok(())
}

/// Measures again and again until `is_over`, and once at least.
fn puts_until(
    programs: &Programs,
    endpoints: &[String],
    options: &Options,
    is_over: &AtomicBool,
) -> anyhow::Result<Vec<Value>> {
    let mut reports = Vec::new();
    while reports.is_empty() || !is_over.load(Ordering::Relaxed) {
        reports.push(puts(programs, endpoints, options)?);
    }
    Ok(reports)
}

fn puts(programs: &Programs, endpoints: &[String], options: &Options) -> anyhow::Result<Value> {
    // Other keys than those that make the state large.
    let arguments = [
        ("--op", "put".to_owned()),
        ("--keys", "1000".to_owned()),
        ("--rate", options.rate.to_string()),
        ("--seconds", options.seconds.to_string()),
        ("--warm-up", "0s".to_owned()),
        ("--value-size", options.value_size.to_string()),
    ];
    load(&programs.quorate, endpoints, &arguments)
}

/// Puts while a member joins, which needs a snapshot; it is gone again afterwards.
fn while_sent(
    programs: &Programs,
    servers: &mut Servers,
    options: &Options,
    setup: &Setup,
) -> anyhow::Result<(Vec<Value>, Duration)> {
    let endpoints = servers.endpoints.clone();
    let asked = endpoints.first().context("there are two servers")?;
    let (name, url) = servers.next_peer_url()?;
    let added = Command::new(&programs.quorate)
        .args(["member", "add", &name, "--learner", "--peer-urls", &url, "--endpoints", asked])
        .output()?;
    if !added.status.success() {
        bail!("adding a learner: {}", String::from_utf8_lossy(&added.stderr));
    }
    let is_over = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let load = scope.spawn(|| puts_until(programs, &endpoints, options, &is_over));
        let took = servers.join(programs, setup).and_then(|index| {
            let learner = servers.endpoints.get(index).context("it was started")?.clone();
            wait_until("the learner to catch up", PATIENCE, || has_caught_up(asked, &learner))
        });
        is_over.store(true, Ordering::Relaxed);
        let report = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        Ok::<_, anyhow::Error>((report?, took?))
    })?;
    let index = servers.endpoints.len() - 1;
    let received = size_of(&servers.data_dir(index).join("state"));
    if received < options.mib << 19 {
        bail!("the member has {} MiB: it was sent no such snapshot", mib(received));
    }
    servers.drop_last()?;
    remove(asked, &name)?;
    Ok(outcome)
}

fn has_caught_up(leader: &str, learner: &str) -> anyhow::Result<bool> {
    let applied = |endpoint: &str| said(&status(endpoint)?, "/raftAppliedIndex");
    Ok(applied(learner)? + BEHIND_MAX >= applied(leader)?)
}

fn remove(endpoint: &str, name: &str) -> anyhow::Result<()> {
    let list: Value = serde_json::from_str(&http_post(endpoint, "/v3/cluster/member/list", "{}")?)?;
    let members =
        list.pointer("/members").and_then(Value::as_array).context("a list of members")?;
    let is_it = |member: &&Value| member.pointer("/name").and_then(Value::as_str) == Some(name);
    // Before it is started it has no name.
    let member = members.iter().find(is_it).with_context(|| format!("no {name} in {list}"))?;
    let id = member.pointer("/ID").cloned().context("members have ids")?;
    http_post(endpoint, "/v3/cluster/member/remove", &json!({ "ID": id }).to_string()).map(drop)
}

/// Puts while a backup is saved.
fn while_saved(
    programs: &Programs,
    servers: &Servers,
    options: &Options,
    scratch: &Scratch,
) -> anyhow::Result<(Vec<Value>, Duration)> {
    let endpoints = &servers.endpoints;
    let asked = endpoints.first().context("there are two servers")?;
    let file = scratch.0.join("backup");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| puts_until(programs, endpoints, options, &is_over));
        let start = Instant::now();
        let saved = Command::new(&programs.quorate)
            .args(["snapshot", "save", "--endpoints", asked])
            .arg(&file)
            .output();
        let took = start.elapsed();
        is_over.store(true, Ordering::Relaxed);
        let report = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        let saved = saved?;
        std::fs::remove_file(&file).ok();
        if !saved.status.success() {
            bail!("saving a backup: {}", String::from_utf8_lossy(&saved.stderr));
        }
        Ok((report?, took))
    })
}

/// The middle of what several measurements say.
fn middle(reports: &[Value], place: &str) -> u64 {
    median(reports.iter().filter_map(|report| number(report, place)))
}

fn shown(what: &str, reports: &[Value]) {
    let figures =
        FIGURES.iter().map(|(heading, place)| format!("{heading} {}", middle(reports, place)));
    eprintln!("  {what}: {}", figures.collect::<Vec<_>>().join(", "));
}

fn print(root: &Path, options: &Options, cases: &Cases, state_bytes: u64) {
    println!(
        "\n{}; quorate alone, two voters, a state file of {} MiB; {} puts of {} bytes a second; medians of \
         {} rounds in turn, each of one measurement of {} s, or as many as it takes. The snapshot was \
         taken and sent in {} ms (rate {}), the backup saved in {} ms\n",
        machine(root),
        mib(state_bytes),
        options.rate,
        options.value_size,
        options.rounds,
        options.seconds,
        median(cases.sending_ms.iter().copied()),
        options.snapshot_rate,
        median(cases.saving_ms.iter().copied()),
    );
    println!("| | alone | snapshot taken and sent | ratio | backup saved | ratio |");
    println!("|---|---|---|---|---|---|");
    let row = |heading: &str, [alone, sent, saved]: [u64; 3]| {
        let (first, second) = (ratio(alone, sent), ratio(alone, saved));
        println!("| {heading} | {alone} | {sent} | {first} | {saved} | {second} |");
    };
    let all = [&cases.alone, &cases.sent, &cases.saved];
    for (heading, place) in FIGURES {
        row(heading, all.map(|reports| middle(reports, place)));
    }
    let worst = |reports: &Vec<Value>| {
        reports.iter().filter_map(|report| number(report, "/latency_us/p99")).max().unwrap_or(0)
    };
    row("the worst p99 us", all.map(worst));
}
