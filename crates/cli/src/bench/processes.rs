//! What processes and disks did, as Linux counts it in `/proc`. Knows nothing of why.

use anyhow::Context;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The fields of `/proc/PID/stat` that follow the name: user and system time, in clock ticks.
const USER_TIME_FIELD: usize = 11;
const SYSTEM_TIME_FIELD: usize = 12;

/// The fields of `/proc/diskstats`: a device's name, and how much was written to it.
const DISK_NAME_FIELD: usize = 2;
const DISK_WRITTEN_FIELD: usize = 9;
/// The unit of the latter.
const SECTOR_BYTES: u64 = 512;

/// User and system CPU time of some processes since they started, all together.
///
/// # Errors
///
/// If there is no such process.
pub(super) fn cpu_time(pids: &[u32]) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path)
            .with_context(|| format!("no process {pid}: reading {path}"))?;
        let cpu = cpu(&stat, rustix::param::clock_ticks_per_second());
        sum += cpu.with_context(|| format!("expected CPU times in {path}"))?;
    }
    Ok(sum)
}

/// What was written to this machine's disks since it started, by anybody, in bytes. The kernel's
/// count by process is of no use: it counts whole pages of the cache, of up to a megabyte, for each
/// small write.
pub(super) fn disk_written_bytes() -> u64 {
    let is_whole_disk = |name: &str| Path::new("/sys/block").join(name).join("device").exists();
    written_bytes(&fs::read_to_string("/proc/diskstats").unwrap_or_default(), is_whole_disk)
}

fn cpu(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    // The name is in parentheses and may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let ticks = ticks(USER_TIME_FIELD)? + ticks(SYSTEM_TIME_FIELD)?;
    let millis = (ticks * 1000).checked_div(ticks_per_second)?;
    Some(Duration::from_millis(millis))
}

fn written_bytes(diskstats: &str, is_whole_disk: impl Fn(&str) -> bool) -> u64 {
    let written = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields.get(DISK_NAME_FIELD)?;
        let sectors: u64 = fields.get(DISK_WRITTEN_FIELD)?.parse().ok()?;
        is_whole_disk(name).then_some(sectors * SECTOR_BYTES)
    };
    diskstats.lines().filter_map(written).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(cpu(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(cpu("12 (a) S", 100), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_time(&[std::process::id()]).is_ok());
        assert!(cpu_time(&[u32::MAX]).is_err());
    }

    #[test]
    fn partitions_do_not_count_beside_their_disk() {
        let text = " 8 0 sda 1 0 8 0 2 0 100 0 0 0 0\n 8 1 sda1 1 0 8 0 2 0 100 0 0 0 0\n";
        assert_eq!(written_bytes(text, |name| name == "sda"), 51_200);
    }
}
