//! A folder that was made within a data folder takes its place, and what was there is kept beside it. Each
//! step may be the last before a crash: up to one rename the old folder is whole, and from then on every
//! start brings it to its end first. Must not know what was made.

use crate::serve::folder;
use crate::serve::recover::reports;
use anyhow::{Context, bail, ensure};
use quorate::LogNote;
use quorate::wal::{ReadOnlyDisk, RealDisk, Wal};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where the new folder is made. It means nothing until it has its next name.
const MADE: &str = "forced.made";
/// Whole: what is old is being put aside.
const READY: &str = "forced.ready";
/// Everything old is aside: what is new is being moved in.
const MOVING: &str = "forced.moving-in";
/// Where the old is put meanwhile, in the data folder and in that of a log that is elsewhere; and what the
/// name begins with that it gets at last.
const ASIDE: &str = "forced.aside";
const KEPT_PREFIX: &str = "before-force-";
/// What a node has in its data folder, of what a new cluster has anew. The rest stays: the reserve,
/// certificates of its own making.
pub(super) const ITEMS: [&str; 9] = [
    "owner",
    "state",
    "state.next",
    "state.suspect",
    "snapshots",
    "wal",
    "log-place",
    "formerly",
    "forced",
];
/// The log of the node, below its folder, and what says that it is not there.
const LOG: &str = "wal";
const NOTE: &str = "log-place";
/// What stays in the folder of a log that is elsewhere.
const OF_THE_DISK: [&str; 2] = ["reserve", "reserve.tmp"];
/// A file of a log while it is copied to another disk.
const INCOMING: &str = "forced.incoming";

/// How a name is changed; in tests it ends at some point.
type Rename<'a> = &'a mut dyn FnMut(&Path, &Path) -> io::Result<()>;

/// Takes the folder for this process, as long as what is returned lives.
///
/// # Errors
///
/// If another process is at it.
pub(super) fn hold(data: &Path) -> anyhow::Result<File> {
    let shown = data.display();
    let dir = File::open(data).with_context(|| format!("opening {shown}"))?;
    let locked = dir.try_lock();
    locked.with_context(|| format!("another start is at work in {shown}: wait for its end"))?;
    Ok(dir)
}

/// The place for the new folder, cleared of what somebody who was killed has left there.
///
/// # Errors
///
/// If the disk refuses.
pub(super) fn made(data: &Path) -> anyhow::Result<PathBuf> {
    let made = data.join(MADE);
    let clear = || -> io::Result<()> {
        if made.exists() {
            fs::remove_dir_all(&made)?;
        }
        for report in reports(&made) {
            if report.exists() {
                fs::remove_file(report)?;
            }
        }
        Ok(())
    };
    clear().with_context(|| format!("removing {}", made.display()))?;
    Ok(made)
}

/// Puts what was made in the place of what is there. Returns where that is kept.
///
/// # Errors
///
/// If the disk refuses: the next start goes on with it, or finds the old folder.
pub(super) fn swap(data: &Path) -> anyhow::Result<PathBuf> {
    let kept = swap_with(data, &mut |from, to| fs::rename(from, to))?;
    kept.context("there is nothing that could take the folder's place")
}

/// Brings to its end what was cut short; the folder may not be there. Returns where the old is kept, if
/// there was something to be done.
///
/// # Errors
///
/// If another process is at it, or the disk refuses.
pub(super) fn complete(data: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !is_cut_short(data) {
        return Ok(None);
    }
    let _hold = hold(data)?;
    complete_with(data, &mut |from, to| fs::rename(from, to))
}

/// Whether a folder is half the old one and half the new one.
fn is_cut_short(data: &Path) -> bool {
    [READY, MOVING].iter().any(|name| data.join(name).exists())
}

/// For those who only look at folders.
///
/// # Errors
///
/// If it is half the old one and half the new one.
pub(in crate::serve) fn check_whole(data: &Path) -> anyhow::Result<()> {
    ensure!(
        !is_cut_short(data),
        "a start with --force-new-cluster was cut short in {}: start it again, with the same flags or without \
         that one. It brings this to its end first",
        data.display()
    );
    Ok(())
}

fn swap_with(data: &Path, rename: Rename<'_>) -> anyhow::Result<Option<PathBuf>> {
    let mut commit = || -> io::Result<()> {
        sync(&data.join(MADE))?;
        rename(&data.join(MADE), &data.join(READY))?;
        sync(data)
    };
    commit().with_context(|| format!("changing folders in {}", data.display()))?;
    complete_with(data, rename)
}

fn complete_with(data: &Path, rename: Rename<'_>) -> anyhow::Result<Option<PathBuf>> {
    let mut steps = || -> anyhow::Result<Option<PathBuf>> {
        if data.join(READY).exists() {
            put_aside(data, rename)?;
            rename(&data.join(READY), &data.join(MOVING))?;
            sync(data)?;
        }
        let moving = data.join(MOVING);
        if !moving.exists() {
            return Ok(None);
        }
        // The note is moved in last: it says where the log belongs.
        let note = LogNote::read(&ReadOnlyDisk, &moving)?;
        let note = note.or(LogNote::read(&ReadOnlyDisk, data)?);
        let log_dir = note.map(|note| note.dir);
        move_in(data, log_dir.as_deref(), rename)?;
        let kept = give_name(data, log_dir.as_deref(), rename)?;
        fs::remove_dir(&moving)?;
        sync(data)?;
        Ok(Some(kept))
    };
    steps().with_context(|| {
        format!("changing folders in {}; the next start goes on with it", data.display())
    })
}

fn put_aside(data: &Path, rename: Rename<'_>) -> anyhow::Result<()> {
    let aside = data.join(ASIDE);
    fs::create_dir_all(&aside)?;
    for item in ITEMS {
        put_one_aside(&data.join(item), &aside.join(item), rename)?;
    }
    for report in reports(&data.join(MADE)) {
        if let Some(extension) = report.extension() {
            put_one_aside(&report, &aside.join("recovery").with_extension(extension), rename)?;
        }
    }
    if let Some(note) = LogNote::read(&ReadOnlyDisk, &data.join(READY))? {
        let log_aside = note.dir.join(ASIDE);
        ensure!(log_aside.exists() || folder::has_log(&note.dir), not_mounted(&note.dir));
        fs::create_dir_all(&log_aside)?;
        for name in files(&note.dir)? {
            if !OF_THE_DISK.contains(&name.as_str()) {
                put_one_aside(&note.dir.join(&name), &log_aside.join(&name), rename)?;
            }
        }
        sync(&log_aside)?;
        sync(&note.dir)?;
    }
    sync(&aside)?;
    sync(data)?;
    Ok(())
}

fn not_mounted(log_dir: &Path) -> String {
    format!("there is nothing of the log in {}: is its disk mounted?", log_dir.display())
}

fn put_one_aside(from: &Path, to: &Path, rename: Rename<'_>) -> anyhow::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    if to.exists() {
        bail!(
            "{} was put aside as {} already, and is there again: somebody else is at work here. Move one \
             of them away",
            from.display(),
            to.display()
        );
    }
    Ok(rename(from, to)?)
}

fn move_in(data: &Path, log_dir: Option<&Path>, rename: Rename<'_>) -> anyhow::Result<()> {
    let moving = data.join(MOVING);
    if let Some(log_dir) = log_dir {
        copy_log(&moving.join(LOG), log_dir)?;
    }
    let mut names = names(&moving)?;
    names.sort_by_key(|name| (name == NOTE, name == LOG));
    for name in names {
        rename(&moving.join(&name), &data.join(&name))?;
    }
    sync(data)?;
    Ok(())
}

/// A log that was just made is small, and its folder may be on another disk.
fn copy_log(from: &Path, log_dir: &Path) -> anyhow::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    ensure!(log_dir.join(ASIDE).exists(), not_mounted(log_dir));
    let incoming = log_dir.join(INCOMING);
    for name in files(from)? {
        fs::copy(from.join(&name), &incoming)?;
        File::open(&incoming)?.sync_all()?;
        fs::rename(&incoming, log_dir.join(&name))?;
    }
    sync(log_dir)?;
    Ok(fs::remove_dir_all(from)?)
}

/// Gives what was put aside the name that it keeps, and says in it where its log is.
fn give_name(data: &Path, log_dir: Option<&Path>, rename: Rename<'_>) -> anyhow::Result<PathBuf> {
    let aside = data.join(ASIDE);
    let free = |name: &str| {
        !data.join(name).exists() && log_dir.is_none_or(|dir| !dir.join(name).exists())
    };
    let cluster = folder::owner_of(&aside).map_or(0, |owner| owner.cluster_id);
    let mut numbered = (1_u64..).map(|number| match number {
        1 => format!("{KEPT_PREFIX}{cluster:x}"),
        _ => format!("{KEPT_PREFIX}{cluster:x}-{number}"),
    });
    let mut name = numbered.find(|name| free(name)).context("a name is free")?;
    if let Some(log_dir) = log_dir {
        let log_aside = log_dir.join(ASIDE);
        let note =
            match (LogNote::read(&ReadOnlyDisk, &aside)?, Wal::look(&ReadOnlyDisk, &log_aside)) {
                (Some(note), _) => Some(note),
                (None, Ok(Some((identity, era)))) => {
                    let dir = log_dir.to_owned();
                    Some(LogNote { dir, storage_id: identity.storage_id, era })
                }
                (None, _) => None,
            };
        if let Some(note) = note {
            let noted = note.dir.file_name().and_then(|noted| noted.to_str()).unwrap_or_default();
            if noted.starts_with(KEPT_PREFIX) && note.dir.parent() == Some(log_dir) {
                // It was given before a crash.
                noted.clone_into(&mut name);
            } else {
                let dir = log_dir.join(&name);
                LogNote { dir, ..note }.write(&RealDisk, &aside)?;
            }
        }
        if log_aside.exists() {
            rename(&log_aside, &log_dir.join(&name))?;
            sync(log_dir)?;
        }
    }
    let kept = data.join(name);
    if aside.exists() {
        rename(&aside, &kept)?;
        sync(data)?;
    }
    Ok(kept)
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        // A name that is not UTF-8 is none of ours.
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// The plain files of a folder: what is a folder in that of a log is not the log's.
fn files(dir: &Path) -> io::Result<Vec<String>> {
    Ok(names(dir)?.into_iter().filter(|name| dir.join(name).is_file()).collect())
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
