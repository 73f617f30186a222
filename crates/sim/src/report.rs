//! Worlds and campaigns in words, and as a table for documents. Decides nothing.

use crate::campaign::{CampaignEnd, Standing};
use crate::case::Case;
use crate::json::object;
use crate::judge::Breach;
use crate::progress::{Failure, Progress};
use crate::pulse::Pulse;
use crate::run::{Summary, Violation};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// A world that ended well, or the sum of many, in lines.
#[must_use]
pub fn summary_text(summary: &Summary) -> String {
    let mut text = String::new();
    let mut line = |name: &str, words: String| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {name:<11} {words}");
    };
    line("faults", list(summary.faults()));
    line("figures", list(summary.figures()));
    let (checked, undecided) = (summary.findings.checked_count, summary.findings.undecided_count);
    line(
        "judged",
        format!(
            "{} entries committed, {} operations in checked histories, {undecided} undecided",
            grouped(summary.committed),
            grouped(checked)
        ),
    );
    line(
        "time",
        format!(
            "{} simulated in {} steps",
            long_time(summary.virtual_micros),
            grouped(summary.steps)
        ),
    );
    line("trace hash", format!("{:016x}", summary.trace_hash));
    text
}

/// A world that ended badly: the end of its story, what was broken, and what to paste.
#[must_use]
pub fn violation_text(violation: &Violation) -> String {
    let mut text = String::new();
    if !violation.story.is_empty() {
        text.push_str("the end of the story:\n");
    }
    for line in &violation.story {
        let _ = writeln!(text, "  {line}");
    }
    let micros = violation.at.as_micros();
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    let _ = writeln!(text, "VIOLATION after {seconds}.{rest:06} s, step {}:", violation.step);
    let _ = writeln!(text, "  {}", violation.breach);
    let line = violation.reproduce();
    let _ = writeln!(text, "reproduce: {line}");
    // A world that hangs never comes to the point at which its story is told.
    let hangs = matches!(violation.breach, Breach::Hangs { .. });
    if violation.command.is_some() && !hangs {
        let _ = writeln!(text, "read it:   {line} --trace");
        let _ = writeln!(text, "shrink it: {line} --shrink");
    }
    text
}

/// A world that has run for so long already, where it is, and a line to paste; `command` is that of
/// its [`Worlds`](crate::Worlds).
#[must_use]
pub fn stuck_text(command: &str, case: &Case, age: Duration, pulse: &Pulse) -> String {
    let (step, micros) = (pulse.step(), pulse.at().as_micros());
    let (age, seed) = (age.as_secs(), case.world.seed);
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    format!(
        "seed {seed} has run for {age} s, is in its step {step} at {seconds}.{rest:06} s, and may \
         never end: {command} {case}\n"
    )
}

/// How far a campaign is, in one line.
#[must_use]
pub fn progress_line(standing: &Standing<'_>) -> String {
    let Standing { progress, done_count, seed_count, session_count, session } = *standing;
    let total = &progress.total;
    let left = u128::from(seed_count.saturating_sub(done_count));
    let to_go = session.as_millis() * left / u128::from(session_count.max(1));
    let to_go = Duration::from_millis(u64::try_from(to_go).unwrap_or(u64::MAX));
    let bad = match progress.failure_count {
        0 => "all well".to_owned(),
        count => format!("{count} FAILED"),
    };
    let mut faults: Vec<(&str, u64)> = total.faults().filter(|(_, count)| *count > 0).collect();
    faults.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let faults: Vec<String> =
        faults.iter().map(|(name, count)| format!("{} {name}", short(*count))).collect();
    format!(
        "{} of {} seeds, {} a second, {} simulated, {} to go, {bad}; {}",
        grouped(done_count),
        grouped(seed_count),
        tenths(ratio_tenths(u128::from(session_count) * 1_000, session.as_millis())),
        long_time(total.virtual_micros),
        clock(to_go),
        faults.join(", ")
    )
}

/// A campaign's figures, in lines.
#[must_use]
pub fn campaign_text(end: &CampaignEnd) -> String {
    let mut text = String::new();
    for (name, value) in rows(end) {
        let _ = writeln!(text, "  {name:<38} {value:>18}");
    }
    for Failure { seed, kind, reproduce, .. } in &end.progress.failures {
        let _ = writeln!(text, "FAILED seed {seed}: {kind}\n  {reproduce}");
    }
    let kept = end.progress.failures.len();
    let more = end.progress.failure_count.saturating_sub(u64::try_from(kept).unwrap_or(0));
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    text
}

/// A campaign's figures as a Markdown table.
#[must_use]
pub fn campaign_markdown(end: &CampaignEnd) -> String {
    let mut text = String::from("| Figure | Value |\n|---|---:|\n");
    for (name, value) in rows(end) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    for Failure { seed, kind, reproduce, .. } in &end.progress.failures {
        let _ = writeln!(text, "\nSeed {seed}: {kind}: `{reproduce}`");
    }
    text
}

/// A campaign's figures for other tools.
#[must_use]
pub fn campaign_json(end: &CampaignEnd) -> Value {
    let CampaignEnd { progress, left_count, not_written: _ } = end;
    let Progress { total, failures, failure_count, wall, cpu, .. } = progress;
    let failures: Vec<Value> = failures
        .iter()
        .map(|Failure { seed, kind, text, reproduce }| {
            json!({ "seed": seed, "kind": kind, "text": text, "reproduce": reproduce })
        })
        .collect();
    json!({
        "type": "campaign",
        "seeds": total.world_count + failure_count,
        "seeds_left": left_count,
        "failure_count": failure_count,
        "failures": failures,
        "steps": total.steps,
        "virtual_micros": total.virtual_micros,
        "wall_millis": millis(*wall),
        "cpu_millis": millis(*cpu),
        "trace_hash": format!("{:016x}", total.trace_hash),
        "committed": total.committed,
        "checked_operations": total.findings.checked_count,
        "undecided_histories": total.findings.undecided_count,
        "watched_events": total.findings.watched_count,
        "faults": object(total.faults()),
        "figures": object(total.figures()),
    })
}

fn rows(end: &CampaignEnd) -> Vec<(String, String)> {
    let Progress { total, failure_count, wall, cpu, .. } = &end.progress;
    let virtual_ms = u128::from(total.virtual_micros / 1_000);
    let seeds = total.world_count + failure_count;
    let rate = ratio_tenths(u128::from(seeds) * 60_000, wall.as_millis());
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![
        row("seeds", grouped(seeds)),
        row("violations", grouped(*failure_count)),
        row("simulated time", long_time(total.virtual_micros)),
        row("steps", grouped(total.steps)),
        row("entries committed", grouped(total.committed)),
        row("operations in checked histories", grouped(total.findings.checked_count)),
        row("histories undecided", grouped(total.findings.undecided_count)),
        row("events told to watches", grouped(total.findings.watched_count)),
    ];
    rows.extend(total.faults().map(|(name, count)| (spaced("fault", name), grouped(count))));
    rows.extend(total.figures().map(|(name, count)| (spaced("figure", name), grouped(count))));
    rows.extend([
        row("wall time", clock(*wall)),
        row("CPU time", clock(*cpu)),
        row("seeds a minute of wall time", tenths(rate)),
        row("simulated seconds per CPU second", tenths(ratio_tenths(virtual_ms, cpu.as_millis()))),
        row("sum of trace hashes", format!("{:016x}", total.trace_hash)),
    ]);
    if end.left_count > 0 {
        rows.push(row("seeds left", grouped(end.left_count)));
    }
    rows
}

fn spaced(what: &str, name: &str) -> String {
    format!("{what}: {}", name.replace('_', " "))
}

fn list(counters: impl Iterator<Item = (&'static str, u64)>) -> String {
    let items: Vec<String> = counters
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{} {}", name.replace('_', " "), grouped(count)))
        .collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// A ratio times ten.
fn ratio_tenths(count: u128, per: u128) -> u128 {
    count * 10 / per.max(1)
}

fn tenths(value: u128) -> String {
    format!("{}.{}", grouped(u64::try_from(value / 10).unwrap_or(u64::MAX)), value % 10)
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in few letters.
fn short(number: u64) -> String {
    match number {
        0..=9_999 => number.to_string(),
        10_000..=9_999_999 => format!("{}k", grouped(number / 1_000)),
        _ => format!("{}M", grouped(number / 1_000_000)),
    }
}

/// A time in the unit that fits.
fn long_time(micros: u64) -> String {
    let seconds = u128::from(micros / 1_000_000);
    match seconds {
        0..600 => format!("{seconds}.{:03} s", micros % 1_000_000 / 1_000),
        600..360_000 => format!("{} h", tenths(seconds * 10 / 3_600)),
        _ => {
            let hundredths = seconds * 100 / 31_536_000;
            let hours = tenths(seconds * 10 / 3_600);
            format!("{hours} h ({}.{:02} years)", hundredths / 100, hundredths % 100)
        }
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{seconds:02}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_times_have_a_unit_that_fits() {
        assert_eq!(["7", "1,234", "12,345,678"], [7, 1_234, 12_345_678].map(grouped));
        assert_eq!(long_time(59_500_000), "59.500 s");
        assert_eq!(long_time(7_200_000_000), "2.0 h");
        assert_eq!(long_time(8_760 * 3_600 * 1_000_000), "8,760.0 h (1.00 years)");
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    }

    #[test]
    fn a_new_counter_appears_in_every_report_by_itself() {
        let mut progress = Progress::default();
        progress.total.counts.crashes = 1_234;
        let end = CampaignEnd { progress, left_count: 3, not_written: None };
        assert!(campaign_text(&end).contains("fault: crashes"));
        assert!(campaign_markdown(&end).contains("| fault: crashes | 1,234 |"));
        assert_eq!(campaign_json(&end)["faults"]["crashes"], 1_234);
        assert!(summary_text(&end.progress.total).contains("crashes 1,234"));
    }
}
