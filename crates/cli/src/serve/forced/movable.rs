//! Whether what a node has in its data folder can be put aside by renaming it: not if it is a link, whose
//! end would stay where it is, nor if another disk is mounted there. Changes nothing.

use super::swap::ITEMS;
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// # Errors
///
/// If something of it cannot, with what to do.
pub(super) fn check(data: &Path) -> anyhow::Result<()> {
    let shown = data.display();
    let device = fs::metadata(data).with_context(|| format!("looking at {shown}"))?.dev();
    // Nothing tells of mounts of the same disk elsewhere.
    let mounts = mount_points(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    for item in ITEMS {
        let path = data.join(item);
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found.with_context(|| format!("looking at {}", path.display()))?,
        };
        let is_mounted = found.dev() != device
            || fs::canonicalize(&path).is_ok_and(|path| mounts.contains(&path));
        let what = match (found.is_symlink(), is_mounted) {
            (true, _) => "a link",
            (false, true) => "where another disk is mounted",
            (false, false) => continue,
        };
        bail!(
            "{} is {what}, so that it cannot be put aside with the rest of {shown}; nothing was changed. \
             Make a new folder with `quorate recover`, which only reads this one; or, for a log, remove \
             the link, or mount its disk elsewhere, and name its folder with --wal-dir",
            path.display()
        );
    }
    Ok(())
}

/// Where something is mounted, of what the system says: the fifth word of each line, in which blanks are
/// written as numbers.
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let words = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    words.map(|word| PathBuf::from(OsStr::from_bytes(&plain(word)))).collect()
}

/// With `\040` and its like as what they stand for.
fn plain(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let number = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        let escaped = after.split_at_checked(3).filter(|_| *first == b'\\');
        let escaped = escaped.and_then(|(digits, after)| Some((number(digits)?, after)));
        let (byte, after) = escaped.unwrap_or((*first, after));
        plain.push(byte);
        rest = after;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_link_in_it_is_not_forced_and_nothing_else_is_minded() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        fs::create_dir_all(data.join("wal")).unwrap();
        fs::write(data.join("state"), "x").unwrap();
        check(&data).unwrap();
        fs::create_dir(home.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", data.join("mine")).unwrap();
        check(&data).unwrap();
        for target in ["../elsewhere", "../nowhere"] {
            let link = data.join("snapshots");
            std::os::unix::fs::symlink(target, &link).unwrap();
            let refused = check(&data).unwrap_err().to_string();
            assert!(refused.contains("snapshots is a link"), "{refused}");
            assert!(refused.contains("quorate recover"), "{refused}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn mount_points_are_read_with_blanks_in_them() {
        let said = b"36 35 98:0 / /mnt/a\\040b\\134 rw,noatime - ext3 /dev/root rw\n\
                     37 35 0:5 / /proc rw - proc proc rw\n\nodd\n38 35 0:6 / \\0 rw\n";
        let wanted = ["/mnt/a b\\", "/proc", "\\0"].map(PathBuf::from);
        assert_eq!(mount_points(said), wanted);
    }

    #[test]
    fn the_system_tells_of_its_mounts() {
        let mounts = mount_points(&fs::read("/proc/self/mountinfo").unwrap());
        assert!(mounts.contains(&PathBuf::from("/proc")), "{mounts:?}");
    }
}
