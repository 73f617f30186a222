//! `cargo xtask bench-failover`: how long nobody can write after the leader's process was killed.
//! Three servers with the timeouts that they have by themselves; clients write through the other two
//! all the time, and what counts is the first answer to a write that began after the kill.

use crate::servers::{Programs, Servers, System, fetch_etcd};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long a cluster may be without a leader, or a member away, before a trial counts as failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// Whoever is refused waits this long, so that the servers have the machine.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a cluster is left alone before the leader is killed.
const REST: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often the leader is killed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    trials: u32,
    /// Whose servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "quorate")]
    system: Vec<System>,
    /// A quorate that is built already [default: a release build of this tree]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where the data goes [default: target/bench-failover]
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
///
/// If servers do not start, or nobody leads for a minute.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let quorate = match &options.program {
        Some(program) => program.clone(),
        None => crate::bench_etcd::build(root)?,
    };
    let needs_etcd = options.system.contains(&System::Etcd);
    let etcd = if needs_etcd { fetch_etcd(root)? } else { PathBuf::new() };
    let programs = Programs { etcd, quorate };
    let folder = options.folder.clone().unwrap_or_else(|| root.join("target/bench-failover"));
    for system in &options.system {
        let mut servers = Servers::start(*system, &programs, &folder)?;
        let mut gaps = Vec::new();
        for _ in 0..options.trials {
            gaps.push(trial(&mut servers)?);
        }
        let in_millis = |gap: &Duration| format!("{:.1}", gap.as_secs_f64() * 1000.0);
        println!("{}: {}", system.name(), gaps.iter().map(in_millis).collect::<Vec<_>>().join(" "));
        gaps.sort_unstable();
        let median = gaps.get(gaps.len() / 2).map(in_millis).unwrap_or_default();
        let (least, most) = (gaps.first().map(in_millis), gaps.last().map(in_millis));
        println!(
            "{}: from SIGKILL of the leader to the next acknowledged write, {} trials: median \
             {median} ms ({} to {})",
            system.name(),
            gaps.len(),
            least.unwrap_or_default(),
            most.unwrap_or_default(),
        );
    }
    Ok(())
}

/// What the clients of a trial share.
#[derive(Default)]
struct Trial {
    /// When the leader was killed.
    killed: Mutex<Option<Instant>>,
    /// When a write that began after that was acknowledged first.
    acknowledged: Mutex<Option<Instant>>,
    is_over: AtomicBool,
}

/// Kills the leader while clients write through the others; returns how long they had to wait. The
/// killed one is back afterwards.
fn trial(servers: &mut Servers) -> anyhow::Result<Duration> {
    let leader = wait_for_leader(servers)?;
    sleep(REST);
    let mut others = servers.endpoints.clone();
    others.remove(leader);
    let trial = &Trial::default();
    let outcome = thread::scope(|scope| {
        for endpoint in &others {
            scope.spawn(move || trial.write_until_acknowledged(endpoint));
        }
        sleep(REST);
        let now = Instant::now();
        let outcome = servers.kill(leader);
        *lock(&trial.killed) = Some(now);
        let deadline = now + PATIENCE;
        while lock(&trial.acknowledged).is_none() && Instant::now() < deadline && outcome.is_ok() {
            sleep(PAUSE);
        }
        trial.is_over.store(true, Ordering::Relaxed);
        outcome.map(|()| now)
    });
    let killed = outcome?;
    let acknowledged: Option<Instant> = *lock(&trial.acknowledged);
    let acknowledged = acknowledged.context("nobody acknowledged a write within a minute")?;
    servers.start_again(leader)?;
    Ok(acknowledged.saturating_duration_since(killed))
}

impl Trial {
    fn write_until_acknowledged(&self, endpoint: &str) {
        while !self.is_over.load(Ordering::Relaxed) {
            let is_after = lock(&self.killed).is_some();
            if put(endpoint).is_err() {
                sleep(PAUSE);
            } else if is_after {
                lock(&self.acknowledged).get_or_insert_with(Instant::now);
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits until all three serve, and agree on who leads.
fn wait_for_leader(servers: &mut Servers) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        servers.are_alive()?;
        if let Some(leader) = leader(&servers.endpoints)
            && servers.endpoints.iter().all(|endpoint| put(endpoint).is_ok())
        {
            return Ok(leader);
        }
        if Instant::now() > deadline {
            bail!("not everybody serves within {PATIENCE:?}");
        }
        sleep(Duration::from_millis(50));
    }
}

fn leader(endpoints: &[String]) -> Option<usize> {
    let mut leaders = Vec::new();
    let mut ids = Vec::new();
    for endpoint in endpoints {
        let status = crate::servers::http_post(endpoint, "/v3/maintenance/status", "{}").ok()?;
        let status: Value = serde_json::from_str(&status).ok()?;
        let text = |place| status.pointer(place).and_then(Value::as_str).map(str::to_owned);
        ids.push(text("/header/member_id")?);
        leaders.push(text("/leader")?);
    }
    let first = leaders.first()?;
    let agree = leaders.iter().all(|leader| leader == first);
    ids.iter().position(|id| id == first).filter(|_| agree)
}

fn put(endpoint: &str) -> anyhow::Result<()> {
    // `failover`, as JSON has bytes.
    let request = json!({ "key": "ZmFpbG92ZXI=", "value": "MQ==" });
    crate::servers::http_post(endpoint, "/v3/kv/put", &request.to_string()).map(drop)
}
