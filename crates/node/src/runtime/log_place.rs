//! Where the log of a data folder is, and that it is the folder's own. A folder whose log is elsewhere
//! notes where, which one, and how often it had been opened; a start that finds no log there, another
//! one or an older copy is refused before anything is changed. Must not know what is in a log.

use super::open::{LOG_FOLDER, SNAPSHOTS_FOLDER};
use quorate_wal::{Disk, Identity, Wal, WalError};
use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The note in the data folder, and the name under which it is made.
const NOTE_NAME: &str = "log-place";
const TEMPORARY_NAME: &str = "log-place.tmp";
/// What the note begins with; the checksum of the rest follows.
const HEAD: &str = "quorate log place 1, checksum ";
/// No note is longer: a path is shorter.
const NOTE_BYTES_MAX: usize = 64 << 10;
/// The file that is locked in a data folder without a log.
const LOCK_NAME: &str = "LOCK";

/// What a data folder notes of a log that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNote {
    /// Where it was at the last start.
    pub dir: PathBuf,
    /// Which one it is.
    pub storage_id: u128,
    /// How often it had been opened then.
    pub era: u32,
}

/// Where the log of a data folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    dir: PathBuf,
    is_elsewhere: bool,
    note: Option<LogNote>,
}

/// Why a log is not taken for that of a data folder. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LogPlaceError {
    /// The disk refuses, or a log does not say whose it is.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The note cannot be read.
    #[error(
        "{} does not say where the log is: expected a note with its checksum, found something else; nothing \
         was changed. Remove that one file and start with --wal-dir and the folder where the log is: the log \
         knows its owner too", path.display()
    )]
    Note {
        /// The file.
        path: PathBuf,
    },
    /// The log is in the data folder.
    #[error(
        "the log of {} is in {own}, and --wal-dir says {}; nothing was changed. Start without --wal-dir, or move \
         the log there first:\n  mkdir -p {to} && mv {own}/* {to}/ && rmdir {own}",
        data.display(), given.display(), own = quoted(&data.join(LOG_FOLDER)), to = quoted(given)
    )]
    InDataFolder {
        /// The data folder.
        data: PathBuf,
        /// Where the log was said to be.
        given: PathBuf,
    },
    /// There is no log where there should be one.
    #[error(
        "the log of {} was in {}, and there is none in {}. A node that started without it would have \
         forgotten what it has promised; nothing was changed. Start it with\n  --wal-dir {}\nor, if the log \
         was moved, with the folder where it is now. If it is lost for good, this member is lost",
        data.display(), noted.display(), place.display(), quoted(noted)
    )]
    Gone {
        /// The data folder.
        data: PathBuf,
        /// Where it was.
        noted: PathBuf,
        /// Where it was looked for.
        place: PathBuf,
    },
    /// There is another log.
    #[error(
        "{} does not hold the log of {}: expected the log {expected:032x}, which was in {}; found {}; nothing was \
         changed. Start it with --wal-dir and the folder where its log is",
        place.display(), data.display(), noted.display(), described(found)
    )]
    Other {
        /// The data folder.
        data: PathBuf,
        /// Where its log was.
        noted: PathBuf,
        /// Where it was looked for.
        place: PathBuf,
        /// Which one was expected.
        expected: u128,
        /// Which one is there.
        found: Box<Identity>,
    },
    /// There is a copy from before the last start.
    #[error(
        "{} holds an older copy of the log of {}: expected one that was opened {expected} times, found one that was \
         opened {found} times. What was written since would be forgotten; nothing was changed. The log was in {} \
         last: start it with that folder as --wal-dir",
        place.display(), data.display(), noted.display()
    )]
    Older {
        /// The data folder.
        data: PathBuf,
        /// Where its log was.
        noted: PathBuf,
        /// Where the copy is.
        place: PathBuf,
        /// How often the log was opened.
        expected: u32,
        /// How often the copy was.
        found: u32,
    },
    /// There are two of it.
    #[error(
        "the log of {} is in {}, where it was last, and in {}: one is a copy, and what it lacks would be \
         forgotten; nothing was changed. Start with --wal-dir {}. If the other one is the newer, move \
         this one away first", data.display(), noted.display(), place.display(), quoted(noted)
    )]
    Twice {
        /// The data folder.
        data: PathBuf,
        /// Where its log was.
        noted: PathBuf,
        /// Where it was said to be.
        place: PathBuf,
    },
    /// The log's files would be among others.
    #[error(
        "--wal-dir {}: the log needs a folder of its own, and this is the data folder, or that of its \
         snapshots; choose another one", given.display()
    )]
    NotItsOwn {
        /// Where the log was said to be.
        given: PathBuf,
    },
}

/// Finds where the log of the data folder is, or is to be made: in `given`, or else below the data folder
/// itself. Changes nothing.
///
/// # Errors
///
/// [`LogPlaceError`], if the folder's log is not there, or that cannot be known.
pub fn find(disk: &dyn Disk, data: &Path, given: Option<&Path>) -> Result<LogPlace, LogPlaceError> {
    let own = data.join(LOG_FOLDER);
    let given = given.filter(|dir| !is_same(dir, &own));
    if let Some(given) = given
        && (is_same(given, data) || is_same(given, &data.join(SNAPSHOTS_FOLDER)))
    {
        return Err(LogPlaceError::NotItsOwn { given: given.to_owned() });
    }
    let note = LogNote::read(disk, data)?;
    let dir = given.unwrap_or(&own);
    match (&note, given) {
        (None, Some(given)) if has_files_of_a_log(disk, &own)? => {
            let (data, given) = (data.to_owned(), given.to_owned());
            return Err(LogPlaceError::InDataFolder { data, given });
        }
        (None, _) => {}
        (Some(note), _) => check_noted(disk, data, note, dir)?,
    }
    Ok(LogPlace { dir: dir.to_owned(), is_elsewhere: given.is_some(), note })
}

/// Whether what is in `dir` is the log that the folder speaks of, and not an older copy of it.
fn check_noted(
    disk: &dyn Disk,
    data: &Path,
    note: &LogNote,
    dir: &Path,
) -> Result<(), LogPlaceError> {
    let [data, noted, place] = [data, &note.dir, dir].map(Path::to_owned);
    let Some((found, era)) = Wal::look(disk, dir)? else {
        return Err(LogPlaceError::Gone { data, noted, place });
    };
    if found.storage_id != note.storage_id {
        let (expected, found) = (note.storage_id, Box::new(found));
        return Err(LogPlaceError::Other { data, noted, place, expected, found });
    }
    if era < note.era {
        let (expected, found) = (note.era, era);
        return Err(LogPlaceError::Older { data, noted, place, expected, found });
    }
    // What cannot be looked at there, is not there any more.
    let is_there = |(identity, _): (Identity, u32)| identity.storage_id == note.storage_id;
    let is_in_both =
        !is_same(dir, &noted) && Wal::look(disk, &noted).ok().flatten().is_some_and(is_there);
    if is_in_both { Err(LogPlaceError::Twice { data, noted, place }) } else { Ok(()) }
}

/// Whether there is anything of a log, even if it is not whole: a move may have been cut short.
fn has_files_of_a_log(disk: &dyn Disk, dir: &Path) -> Result<bool, LogPlaceError> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| name != LOCK_NAME)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("list", dir, error)),
    }
}

impl LogPlace {
    /// The folder with the log's files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether that is not the one below the data folder.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Takes the data folder for this process, which the lock of a log elsewhere does not do.
    pub(super) fn hold(
        &self,
        disk: &dyn Disk,
        data: &Path,
    ) -> Result<Option<Box<dyn Any + Send + Sync>>, LogPlaceError> {
        if !self.is_elsewhere {
            return Ok(None);
        }
        disk.create_dir_all(data).map_err(|error| failed("create", data, error))?;
        let path = data.join(LOCK_NAME);
        match disk.lock(&path) {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(WalError::Locked { path: data.to_owned(), pid: None }.into())
            }
            Err(error) => Err(failed("lock", &path, error)),
        }
    }

    /// Notes durably where the log is, now that it was opened; takes the note back if it is in the
    /// folder again.
    pub(super) fn confirm(
        &self,
        disk: &dyn Disk,
        data: &Path,
        storage_id: u128,
        era: u32,
    ) -> Result<(), LogPlaceError> {
        if self.is_elsewhere {
            let dir = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
            return LogNote { dir, storage_id, era }.write(disk, data);
        }
        if self.note.is_none() {
            return Ok(());
        }
        let path = data.join(NOTE_NAME);
        disk.remove(&path).map_err(|error| failed("remove", &path, error))?;
        disk.sync_dir(data).map_err(|error| failed("sync", data, error))
    }
}

impl LogNote {
    /// What the data folder notes; `None` if its log is below it.
    ///
    /// # Errors
    ///
    /// [`LogPlaceError::Note`], [`LogPlaceError::Log`].
    pub fn read(disk: &dyn Disk, data: &Path) -> Result<Option<Self>, LogPlaceError> {
        let path = data.join(NOTE_NAME);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path, error)),
        };
        let mut bytes = vec![0; NOTE_BYTES_MAX];
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) => return Err(failed("read", &path, error)),
            }
        }
        bytes.truncate(length);
        Self::decode(&bytes).map(Some).ok_or(LogPlaceError::Note { path })
    }

    /// Makes the note, in the place of one that is there: whole or not at all.
    ///
    /// # Errors
    ///
    /// [`LogPlaceError::Log`].
    pub fn write(&self, disk: &dyn Disk, data: &Path) -> Result<(), LogPlaceError> {
        let (path, temporary) = (data.join(NOTE_NAME), data.join(TEMPORARY_NAME));
        // Left by somebody who was killed.
        match disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &temporary, error));
            }
            Ok(()) | Err(_) => {}
        }
        let write = || {
            let file = disk.create(&temporary)?;
            file.write_at(&self.encode(), 0)?;
            file.sync()?;
            disk.rename(&temporary, &path)?;
            disk.sync_dir(data)
        };
        write().map_err(|error| failed("write", &path, error))
    }

    fn encode(&self) -> Vec<u8> {
        let line = format!("log {:032x}, opened {} times, in\n", self.storage_id, self.era);
        let mut rest = line.into_bytes();
        rest.extend(self.dir.as_os_str().as_bytes());
        rest.push(b'\n');
        let mut note = format!("{HEAD}{:08x}\n", crc32c::crc32c(&rest)).into_bytes();
        note.extend(rest);
        note
    }

    fn decode(note: &[u8]) -> Option<Self> {
        let rest = note.strip_prefix(HEAD.as_bytes())?;
        let (checksum, rest) = rest.split_at_checked(8)?;
        let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
        let rest = rest.strip_prefix(b"\n")?;
        if crc32c::crc32c(rest) != checksum {
            return None;
        }
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, path) = rest.split_at_checked(end)?;
        let line = std::str::from_utf8(line).ok()?.strip_prefix("log ")?;
        let (storage_id, era) = line.strip_suffix(" times, in")?.split_once(", opened ")?;
        let path = path.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
        Some(Self {
            dir: OsStr::from_bytes(path).into(),
            storage_id: u128::from_str_radix(storage_id, 16).ok()?,
            era: era.parse().ok()?,
        })
    }
}

/// Whether both are one folder, however they are written.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    one == other || (real(one).is_some() && real(one) == real(other))
}

fn failed(op: &'static str, path: &Path, source: io::Error) -> LogPlaceError {
    WalError::Io { op, path: path.to_owned(), source }.into()
}

fn described(found: &Identity) -> String {
    let Identity { cluster_id, node_id, storage_id } = found;
    format!("the log {storage_id:032x} of member {:x} of cluster {cluster_id:x}", node_id.get())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:=,@%+".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
#[path = "log_place_tests.rs"]
mod tests;
