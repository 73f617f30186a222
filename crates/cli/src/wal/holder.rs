//! Which process has a log's folder, found out by looking: asking for the lock, for however short a time,
//! could be in the way of a server that starts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The process that holds the lock of the log in `dir`; `None` if none does that can be seen from here.
pub(super) fn of(dir: &Path) -> Option<u32> {
    let path = dir.join("LOCK");
    let pid = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
    let inode = fs::metadata(&path).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().any(|line| is_lock(line, pid, inode)).then_some(pid)
}

/// Whether a line such as `3: FLOCK  ADVISORY  WRITE 4711 fd:00:1234 0 EOF` is about this file, held by
/// this process. The device is left out: some file systems show another one here than elsewhere.
fn is_lock(line: &str, pid: u32, inode: u64) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let is_flock = words.next() == Some("FLOCK");
    let holder = words.nth(2).and_then(|word| word.parse().ok());
    let file = words.next().and_then(|word| word.rsplit(':').next()?.parse().ok());
    is_flock && holder == Some(pid) && file == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_folder_is_held_while_a_process_locks_it_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path()), None);
        let path = dir.path().join("LOCK");
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(of(dir.path()), None);
        let file = File::open(&path).unwrap();
        file.lock().unwrap();
        assert_eq!(of(dir.path()), Some(std::process::id()));
        drop(file);
        assert_eq!(of(dir.path()), None);
    }

    #[test]
    fn only_the_files_own_line_counts() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 fd:00:1234 0 EOF";
        assert!(is_lock(line, 4711, 1234));
        assert!(!is_lock(line, 4711, 123));
        assert!(!is_lock(line, 471, 1234));
        assert!(!is_lock("3: POSIX  ADVISORY  WRITE 4711 fd:00:1234 0 EOF", 4711, 1234));
        assert!(!is_lock("", 4711, 1234));
    }
}
