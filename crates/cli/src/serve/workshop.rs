//! A folder that is made under another name beside the one that it is to have, and gets that name once
//! it is whole and durable. Must not know what is made in it.

use anyhow::{Context, bail, ensure};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the other name ends with.
const EXTENSION: &str = "restoring";
/// A file in the folder that says that it is unfinished; whoever works on it holds a lock on it.
const MARKER: &str = "unfinished-restore";

/// See the module.
pub(super) struct Workshop {
    dir: PathBuf,
    target: PathBuf,
    _lock: File,
}

impl Workshop {
    /// Begins a folder that is to become `target`. What a killed predecessor has left is cleared away.
    ///
    /// # Errors
    ///
    /// If somebody else is at it, the place is taken, or the disk refuses.
    pub(super) fn open(target: &Path) -> anyhow::Result<Self> {
        let dir = target.with_added_extension(EXTENSION);
        ensure!(dir != target, "{} has no name that a folder could have", target.display());
        let parent = parent_of(target);
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        check_same_disk(target, parent)?;
        clear(&dir)?;
        let shown = dir.display();
        fs::create_dir(&dir).with_context(|| format!("creating {shown}"))?;
        let lock =
            File::create_new(dir.join(MARKER)).with_context(|| format!("creating {shown}"))?;
        lock.try_lock().with_context(|| format!("locking {shown}"))?;
        Ok(Self { dir, target: target.to_owned(), _lock: lock })
    }

    /// Where the work is done.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Gives the folder its name, in one step.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let (dir, target) = (&self.dir, &self.target);
        let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all());
        let publish = || {
            sync(dir)?;
            fs::rename(dir, target)?;
            sync(parent_of(target))?;
            // It says nothing any more, and harms nobody should it stay.
            fs::remove_file(target.join(MARKER))?;
            sync(target)
        };
        publish().with_context(|| format!("giving {} its name {}", dir.display(), target.display()))
    }

    /// Takes everything back.
    pub(super) fn abandon(self) {
        // What stays is cleared away by whoever comes next.
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

/// A name changes in one step within a disk only, and never that of a disk's own root.
fn check_same_disk(target: &Path, parent: &Path) -> anyhow::Result<()> {
    let Ok(found) = fs::symlink_metadata(target) else { return Ok(()) };
    let own = fs::metadata(parent).with_context(|| format!("looking at {}", parent.display()))?;
    ensure!(
        found.is_dir() && found.dev() == own.dev(),
        "{} is no plain folder but a link, or the root of a disk: choose a --data-dir below it",
        target.display()
    );
    Ok(())
}

fn clear(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    // Killed before it could mark what it had begun.
    if !dir.exists() || fs::remove_dir(dir).is_ok() {
        return Ok(());
    }
    let Ok(marker) = File::open(dir.join(MARKER)) else {
        bail!("{shown} is in the way, and is no unfinished restore: move it away");
    };
    ensure!(marker.try_lock().is_ok(), "another restore is at work in {shown}: wait for its end");
    fs::remove_dir_all(dir)
        .with_context(|| format!("removing what a killed restore left in {shown}"))
}

fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().unwrap_or(path);
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_whole_in_the_place_of_none_or_of_an_empty_one() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("a/data.d");
        for is_there in [false, true] {
            if is_there {
                fs::remove_dir_all(&target).unwrap();
                fs::create_dir(&target).unwrap();
            }
            let workshop = Workshop::open(&target).unwrap();
            fs::write(workshop.path().join("file"), "content").unwrap();
            assert!(!target.join("file").exists());
            workshop.finish().unwrap();
            assert_eq!(names(&target), ["file"]);
            assert_eq!(names(target.parent().unwrap()), ["data.d"]);
        }
    }

    #[test]
    fn what_a_killed_restore_left_is_in_nobodys_way() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("data");
        let killed = Workshop::open(&target).unwrap();
        fs::write(killed.path().join("half"), "").unwrap();
        drop(killed);
        let next = Workshop::open(&target).unwrap();
        assert_eq!(names(next.path()), [MARKER]);
        next.abandon();
        assert_eq!(names(home.path()), [""; 0]);
        fs::create_dir(target.with_added_extension(EXTENSION)).unwrap();
        Workshop::open(&target).unwrap();
    }

    #[test]
    fn a_restore_under_way_and_a_folder_of_somebody_else_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("data");
        let first = Workshop::open(&target).unwrap();
        let refused = Workshop::open(&target).err().unwrap().to_string();
        assert!(refused.contains("another restore is at work"), "{refused}");
        first.abandon();
        let foreign = home.path().join("data.restoring");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("diary"), "").unwrap();
        let refused = Workshop::open(&target).err().unwrap().to_string();
        assert!(refused.contains("no unfinished restore"), "{refused}");
        assert_eq!(names(&foreign), ["diary"]);
    }
}
