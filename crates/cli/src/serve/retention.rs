//! The two flags of automatic compaction, with etcd's meanings. Must not know how it is done.

use super::go;
use clap::ValueEnum;
use quorate_server::AutoCompaction;
use std::time::Duration;

/// How `--auto-compaction-retention` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompactionMode {
    Periodic,
    Revision,
}

/// A retention that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--auto-compaction-retention: expected {}, found `{found}`",
    match mode {
        CompactionMode::Periodic => "a time like 1h30m, or a number of hours",
        CompactionMode::Revision => "a number of revisions",
    }
)]
pub(crate) struct RetentionError {
    mode: CompactionMode,
    found: String,
}

/// What the two flags mean together. A bare number is of hours, or of revisions; 0 is off.
pub(crate) fn auto_compaction(
    mode: CompactionMode,
    retention: &str,
) -> Result<AutoCompaction, RetentionError> {
    let refused = || RetentionError { mode, found: retention.to_owned() };
    let number = retention.parse::<u64>().ok();
    Ok(match (mode, number) {
        (_, Some(0)) => AutoCompaction::Off,
        (CompactionMode::Revision, Some(kept_count)) => AutoCompaction::Revision { kept_count },
        (CompactionMode::Revision, None) => return Err(refused()),
        (CompactionMode::Periodic, Some(hours)) => {
            let seconds = hours.checked_mul(3600).ok_or_else(refused)?;
            AutoCompaction::Periodic { period: Duration::from_secs(seconds) }
        }
        (CompactionMode::Periodic, None) => {
            let period = go::duration(retention).ok_or_else(refused)?;
            if period.is_zero() {
                return Ok(AutoCompaction::Off);
            }
            AutoCompaction::Periodic { period }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_of_hours_or_of_revisions_and_0_is_off() {
        let hours = |count| AutoCompaction::Periodic { period: Duration::from_hours(count) };
        assert_eq!(auto_compaction(CompactionMode::Periodic, "5"), Ok(hours(5)));
        let kept = AutoCompaction::Revision { kept_count: 1000 };
        assert_eq!(auto_compaction(CompactionMode::Revision, "1000"), Ok(kept));
        for mode in [CompactionMode::Periodic, CompactionMode::Revision] {
            assert_eq!(auto_compaction(mode, "0"), Ok(AutoCompaction::Off));
        }
        assert_eq!(auto_compaction(CompactionMode::Periodic, "0s"), Ok(AutoCompaction::Off));
    }

    #[test]
    fn a_time_is_as_go_writes_it() {
        let period = |text| auto_compaction(CompactionMode::Periodic, text);
        let minutes = |count| AutoCompaction::Periodic { period: Duration::from_mins(count) };
        assert_eq!(period("1h30m"), Ok(minutes(90)));
        assert_eq!(period("600s"), Ok(minutes(10)));
        for wrong in ["", "h", "5x", "-5m", "1h30", "99999999999999999999h"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
        assert!(auto_compaction(CompactionMode::Revision, "5m").is_err());
    }
}
