//! What a node's folder remembers of promises to leaders (§6.4.1): that there were some, and how long
//! each may have been, not which. A node that has promised something and forgotten it when it stopped
//! keeps it anew. The length is in the name of an empty file, so that nothing in it can be damaged.

use quorate_core::Options;
use quorate_wal::{Disk, WalError, is_full};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The names begin so; what follows are microseconds.
const PREFIX: &str = "promised-";

/// Returns the longest that this node may ever have promised, `None` if it has promised nothing, and
/// notes for good how long it may promise from now on.
///
/// # Errors
///
/// [`WalError`] if the folder cannot be read, or nothing noted: then nothing may be promised.
pub(super) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
) -> Result<Option<Duration>, WalError> {
    let names = disk.list(dir).map_err(failed("look for promises in", dir))?;
    let lengths = names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok());
    let earlier = lengths.max().map(Duration::from_micros);
    if options.lease_reads {
        let micros = options.election_timeout.as_nanos().div_ceil(1_000);
        if earlier.is_none_or(|earlier| earlier.as_micros() < micros) {
            let path = dir.join(format!("{PREFIX}{micros}"));
            disk.create(&path).map_err(failed("note promises in", &path))?;
        }
        // Also what an earlier life has noted, and may have died before it was durable.
        disk.sync_dir(dir).map_err(failed("note promises in", dir))?;
    }
    Ok(earlier)
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
    let path = path.to_owned();
    move |source| {
        if is_full(&source) {
            return WalError::DiskFull { op, path };
        }
        WalError::Io { op, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wal::RealDisk;

    #[test]
    fn the_longest_promise_is_found_again_among_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let open = |lease_reads, millis: u64| {
            let election_timeout = Duration::from_nanos(millis * 1_000_000 - 1);
            let options = Options { lease_reads, election_timeout, ..Options::default() };
            prepare(&RealDisk, dir.path(), &options).unwrap().map(|it| it.as_millis())
        };
        assert_eq!(open(false, 5_000), None, "what may not be promised is not noted");
        std::fs::write(dir.path().join("promised-nothing"), "").unwrap();
        assert_eq!(open(true, 700), None);
        assert_eq!(open(true, 3_000), Some(700));
        assert_eq!(open(true, 20), Some(3_000));
        assert_eq!(open(false, 20), Some(3_000), "it may have promised before that was forbidden");
    }
}
