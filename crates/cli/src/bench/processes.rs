//! What processes used, as Linux counts it in `/proc`. Knows nothing of what they do.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// The fields of `/proc/PID/stat` that follow the name: user and system time, in clock ticks.
const USER_TIME_FIELD: usize = 11;
const SYSTEM_TIME_FIELD: usize = 12;

/// What some processes used since they started, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system CPU time.
    pub(super) cpu: Duration,
    /// What they caused to be written to disks, in bytes; 0 where the kernel does not say.
    pub(super) written_bytes: u64,
}

impl Usage {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub(super) fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let path = format!("/proc/{pid}/stat");
            let stat = fs::read_to_string(&path)
                .with_context(|| format!("no process {pid}: reading {path}"))?;
            let cpu = cpu(&stat, rustix::param::clock_ticks_per_second());
            sum.cpu += cpu.with_context(|| format!("expected CPU times in {path}"))?;
            let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
            sum.written_bytes += written_bytes(&io);
        }
        Ok(sum)
    }

    /// What was used since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
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

fn written_bytes(io: &str) -> u64 {
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
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
    fn this_process_has_used_some_cpu() {
        let busy: u64 = (0..20_000_000_u64).fold(0, |sum, n| sum ^ n.rotate_left(3));
        assert_ne!(busy, 1);
        assert!(Usage::of(&[std::process::id()]).is_ok());
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
