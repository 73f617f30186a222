//! `--force-new-cluster`: a member whose quorum is lost for good goes on alone, in its own folder and once.
//! Decides when; what becomes of the data is decided by `recover`, and how the folders change places by
//! `swap`.

mod movable;
mod swap;

pub(super) use swap::check_whole;

use super::folder::{self, Owner};
use super::recover::Alone;
use super::{Flags, Settings};
use anyhow::{Context, ensure};
use quorate::LogNote;
use quorate::wal::{ReadOnlyDisk, RealDisk, Wal};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Who the folder's member was before, by its folder and by the flags that it was started with: a line
/// each, the oldest first.
const FORMERLY_FILE: &str = "formerly";
/// So many of them are kept.
const FORMERLY_COUNT_MAX: usize = 16;
/// It says that the last start had the flag, and that this one is therefore no reason to do it again.
const MARKER_FILE: &str = "forced";
const MARKER_TEXT: &str = "The last start had --force-new-cluster. It does nothing more before a start \
                           without it.\n";

/// Before anything in the folder is looked at: brings a forced start that was cut short to its end, and
/// takes the member for who it is now if the flags are those that it had before, or if it is to be
/// forced. Returns who the flags say it is.
///
/// # Errors
///
/// If the folder is in use or the disk refuses, or if it is to be forced and there is nothing in it.
pub(super) fn recall(flags: &Flags, settings: &mut Settings) -> anyhow::Result<String> {
    let typed = folder::owner(&settings.cluster, &flags.name);
    let dir = &settings.data_dir;
    if let Some(kept) = swap::complete(dir)? {
        tracing::warn!(
            "a start with --force-new-cluster that was cut short is complete now: what {} held before is \
             in {}",
            dir.display(),
            kept.display()
        );
    }
    let is_forced = flags.force_new_cluster;
    if is_forced {
        let place = folder::log_place(dir, settings.wal_dir.as_deref())?;
        ensure!(
            folder::has_log(place.dir()),
            "--force-new-cluster: there is no log in {}, so that there is nothing to go on with; nothing was \
             changed. Is --data-dir right? To found a cluster or to join one, leave the flag out",
            place.dir().display()
        );
    }
    if (is_forced || formerly(dir).contains(&typed))
        && let Some(Owner { cluster_id, member_id }) = folder::owner_of(dir)
    {
        (settings.cluster.cluster_id, settings.cluster.own_id) = (cluster_id, member_id);
    }
    Ok(typed)
}

/// Once the folder is claimed: forces the new cluster, if that is asked for and was not by the last
/// start; `typed` is who the flags say the member is.
///
/// # Errors
///
/// If no cluster can go on from the folder, or the disk refuses. Nothing was changed then, or the next
/// start brings it to its end.
pub(super) fn begin(flags: &Flags, settings: &mut Settings, typed: &str) -> anyhow::Result<()> {
    let dir = settings.data_dir.clone();
    let marker = dir.join(MARKER_FILE);
    if !flags.force_new_cluster {
        return forget(&marker);
    }
    if marker.exists() {
        tracing::warn!(
            "--force-new-cluster was given to the last start already, and does nothing now: take it out. \
             Should the quorum be lost again, start once without it first"
        );
        return Ok(());
    }
    let _hold = swap::hold(&dir)?;
    let urls = flags.initial_advertise_peer_urls.iter();
    let own: Vec<String> = urls.map(|url| format!("{}={url}", flags.name)).collect();
    let looked = Alone::look(&dir, settings.wal_dir.as_deref(), &own.join(","));
    let looked = looked.context("--force-new-cluster; nothing was changed")?;
    let Some(alone) = looked else {
        tracing::warn!(
            "--force-new-cluster: this member is a quorum by itself, and nothing is to be forced: take \
             the flag out"
        );
        return write_durably(&marker, MARKER_TEXT);
    };
    movable::check(&dir).context("--force-new-cluster")?;
    let made = swap::made(&dir)?;
    alone.make_at(&made).context("--force-new-cluster; nothing was changed")?;
    complete_made(&dir, settings.wal_dir.as_deref(), &made, typed)?;
    let old = alone.old()?;
    let kept = swap::swap(&dir)?;
    let cluster = alone.cluster();
    (settings.cluster.cluster_id, settings.cluster.own_id) = (cluster.cluster_id, cluster.own_id);
    tell(&alone, &old, &kept);
    Ok(())
}

fn tell(alone: &Alone, old: &Owner, kept: &Path) {
    let new = alone.cluster();
    tracing::warn!(
        "--force-new-cluster: the quorum was given up. Member {:x} of cluster {:x} goes on alone as member \
         {:x} of the new cluster {:x}",
        old.member_id,
        old.cluster_id,
        new.own_id,
        new.cluster_id
    );
    for line in alone.words() {
        tracing::warn!("--force-new-cluster: {line}");
    }
    tracing::warn!(
        "--force-new-cluster: members of the old cluster are turned away, and must not be started: two of \
         them could serve old clients. What this one held before is kept in {}: remove it once nothing \
         is missed. NOW TAKE THE FLAG OUT, and add members with empty folders (`quorate member add`)",
        kept.display()
    );
}

/// What the made folder needs beside what a recovery makes.
fn complete_made(
    dir: &Path,
    wal_dir: Option<&Path>,
    made: &Path,
    typed: &str,
) -> anyhow::Result<()> {
    let mut lines = formerly(dir);
    let owner = fs::read_to_string(dir.join(folder::OWNER_FILE)).unwrap_or_default();
    for line in [owner.as_str(), typed] {
        if !line.is_empty() && !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
    }
    let lines = lines.split_off(lines.len().saturating_sub(FORMERLY_COUNT_MAX));
    write_durably(&made.join(FORMERLY_FILE), &lines.concat())?;
    write_durably(&made.join(MARKER_FILE), MARKER_TEXT)?;
    let place = folder::log_place(dir, wal_dir)?;
    if place.is_elsewhere() {
        let found = Wal::look(&ReadOnlyDisk, &made.join("wal"))?;
        let (identity, era) = found.context("there is a log in the folder that was made")?;
        let dir = std::path::absolute(place.dir())?;
        LogNote { dir, storage_id: identity.storage_id, era }.write(&RealDisk, made)?;
    }
    Ok(())
}

/// Who the folder's member was before.
fn formerly(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(FORMERLY_FILE)).unwrap_or_default();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// From now on the flag is followed again.
fn forget(marker: &Path) -> anyhow::Result<()> {
    match fs::remove_file(marker) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", marker.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_durably(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary: PathBuf = path.with_added_extension("tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests;
