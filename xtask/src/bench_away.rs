//! `cargo xtask bench-away`: what three servers have in memory while a follower is away for a million
//! entries, killed or stopped, and while it catches up; beside what the same entries take while nobody is
//! away, and against the sum of the limits that servers have.

use crate::measured::{Place, leader, machine, mib, revision, said, status, wait_until, write};
use crate::servers::{Memory, Servers, System};
use anyhow::{Context, bail};
use clap::ValueEnum;
use std::path::Path;
use std::time::Duration;

/// How long the one that was away may take to catch up.
const PATIENCE: Duration = Duration::from_mins(5);
const MIB: u64 = 1 << 20;

/// What a server may hold in memory, limit by limit, with two followers: named as the options are, or
/// where they are no options, as the constants.
const BUDGET: [(&str, u64); 12] = [
    ("core: log_cache_bytes_max", 32 * MIB),
    ("core: uncommitted_bytes_max", 64 * MIB),
    ("core: applying_bytes_max", 16 * MIB),
    ("core: in_flight_bytes_max, for two followers", 2 * 16 * MIB),
    ("core: load_bytes_max, for two followers", 2 * 4 * MIB),
    ("core: snapshot_chunk_bytes_max, with what is packed of it", 16 * MIB),
    ("driver: outstanding_bytes_max", 64 * MIB),
    ("driver: flight_recorder_bytes", 8 * MIB),
    ("store: flush_size_bytes, the frozen overlay", 32 * MIB),
    ("store: overlay_size_bytes_max, the active overlay", 96 * MIB),
    ("store: what a flush sorts, as large as its overlay", 32 * MIB),
    ("engine: CACHE_SIZE_BYTES_DEFAULT", 256 * MIB),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many entries are written while one is away
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    entries: u64,
    /// How large a value is, in bytes
    #[arg(long, default_value_t = 256)]
    value_size: u64,
    /// How many keys there are
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// How it is away, one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nobody,killed,stopped")]
    how: Vec<Away>,
    #[command(flatten)]
    place: Place,
}

/// How a server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Away {
    /// No server is away: what the same entries take then
    Nobody,
    /// SIGKILL, and started again
    Killed,
    /// SIGSTOP, and SIGCONT: its connections stay open, and nobody reads them
    Stopped,
}

/// What one server had in memory.
struct Row {
    what: String,
    before: Memory,
    /// When the last entry was written.
    away: Memory,
    /// When everybody had everything.
    after: Memory,
}

/// Measures and prints.
///
/// # Errors
///
/// If the one that was away does not catch up, or a server had more in memory than its limits allow.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let (programs, scratch) = options.place.prepared(root)?;
    let mut rows = Vec::new();
    for how in &options.how {
        let mut servers = Servers::start(System::Quorate, &programs, &scratch.0)?;
        measure(&mut servers, &programs.quorate, options, *how, &mut rows)?;
    }
    println!(
        "\n{}; quorate alone, three servers, nobody or one away for {} entries with values of {} bytes; resident \
         memory in MiB, now (at most so far)\n",
        machine(root),
        options.entries,
        options.value_size,
    );
    println!("| | before | the entries written | all caught up |\n|---|---|---|---|");
    let shown = |memory: Memory| match memory {
        Memory { most_kib: 0, .. } => "-".to_owned(),
        Memory { now_kib, most_kib } => format!("{} ({})", mib(now_kib << 10), mib(most_kib << 10)),
    };
    for Row { what, before, away, after } in &rows {
        println!("| {what} | {} | {} | {} |", shown(*before), shown(*away), shown(*after));
    }
    let budget = BUDGET.iter().map(|(_, bytes)| bytes).sum::<u64>();
    println!("\n| limit | MiB |\n|---|---|");
    for (name, bytes) in BUDGET {
        println!("| {name} | {} |", bytes / MIB);
    }
    println!("| **together** | {} |", budget / MIB);
    scratch.done();
    judge(&rows, budget)
}

/// Nobody may have had more than when it was idle and what its limits add up to.
fn judge(rows: &[Row], budget: u64) -> anyhow::Result<()> {
    for Row { what, before, away, after } in rows {
        let most = away.most_kib.max(after.most_kib) << 10;
        let allowed = (before.now_kib << 10) + budget;
        if most > allowed {
            bail!(
                "{what} had {} MiB in memory, of {} that its limits allow",
                mib(most),
                mib(allowed)
            );
        }
    }
    let most = rows.iter().map(|row| row.away.most_kib.max(row.after.most_kib)).max();
    println!("\nat most {} MiB, of {} in the budget", mib(most.unwrap_or(0) << 10), mib(budget));
    Ok(())
}

fn measure(
    servers: &mut Servers,
    quorate: &Path,
    options: &Options,
    how: Away,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let indexes = 0..servers.endpoints.len();
    let leads = leader(servers)?;
    let away = indexes.clone().find(|index| *index != leads).context("there are followers")?;
    let memory = |servers: &Servers| {
        indexes.clone().map(|index| servers.memory(index)).collect::<anyhow::Result<Vec<_>>>()
    };
    let before = memory(servers)?;
    eprintln!("{how:?}: server {} is the one, server {} leads", away + 1, leads + 1);
    let mut others = servers.endpoints.clone();
    match how {
        Away::Nobody => {}
        Away::Killed => servers.kill(away)?,
        Away::Stopped => servers.signal(away, "STOP")?,
    }
    if how != Away::Nobody {
        others.remove(away);
    }
    write(quorate, &others, options.entries, options.keys, options.value_size)?;
    let mut meanwhile = Vec::new();
    for index in indexes.clone() {
        let is_gone = index == away && how == Away::Killed;
        meanwhile.push(if is_gone { Memory::default() } else { servers.memory(index)? });
    }
    match how {
        Away::Nobody => {}
        Away::Killed => servers.start_again(away)?,
        Away::Stopped => servers.signal(away, "CONT")?,
    }
    let asked = others.first().context("there are three servers")?;
    let late = servers.endpoints.get(away).context("there are three servers")?;
    let took = wait_until("the one that was away", PATIENCE, || has_caught_up(asked, late))?;
    eprintln!("  everybody had everything {took:?} later");
    let after = memory(servers)?;
    for index in indexes {
        let role = match index {
            _ if index == leads => "leader",
            _ if index == away && how != Away::Nobody => "away",
            _ => "follower",
        };
        let what = format!("{} away: {role}", format!("{how:?}").to_lowercase());
        let of = |list: &[Memory]| list.get(index).copied().unwrap_or_default();
        rows.push(Row { what, before: of(&before), away: of(&meanwhile), after: of(&after) });
    }
    Ok(())
}

/// Whether it answers a read that needs everything, and has applied as much as the other.
fn has_caught_up(asked: &str, late: &str) -> anyhow::Result<bool> {
    let wanted = revision(asked)?;
    let applied = |endpoint: &str| said(&status(endpoint)?, "/raftAppliedIndex");
    Ok(revision(late)? >= wanted && applied(late)? >= applied(asked)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(before_mib: u64, most_mib: u64) -> Row {
        let memory = |mib: u64| Memory { now_kib: mib << 10, most_kib: mib << 10 };
        let what = "killed: leader".to_owned();
        Row { what, before: memory(before_mib), away: memory(most_mib), after: memory(before_mib) }
    }

    #[test]
    fn a_server_that_had_more_than_its_limits_allow_is_named() {
        assert!(judge(&[row(20, 119)], 100 * MIB).is_ok());
        let error = judge(&[row(20, 90), row(20, 121)], 100 * MIB).unwrap_err().to_string();
        assert!(error.contains("121.0 MiB") && error.contains("120.0"), "{error}");
    }
}
