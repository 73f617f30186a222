//! What each operation of a disk does while nothing goes wrong, a sentence each. Must not know what is
//! durable.

use super::model::read_whole;
use crate::finding::{Finding, Promise};
use crate::machine::Machine;
use quorate_wal::{Disk, DiskFile};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

struct Contract<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
}

type Checked = Result<(), Finding>;

fn expect(is_so: bool, sentence: &str) -> Checked {
    if is_so { Ok(()) } else { Err(Finding::new(Promise::Contract, sentence)) }
}

fn well<T>(done: io::Result<T>, sentence: &str) -> Result<T, Finding> {
    done.map_err(|error| Finding::new(Promise::Contract, format!("{sentence}: {error}")))
}

fn is_error<T>(done: &io::Result<T>, kind: ErrorKind) -> bool {
    done.as_ref().is_err_and(|error| error.kind() == kind)
}

fn holds(file: &dyn DiskFile, bytes: &[u8], sentence: &str) -> Checked {
    let size = well(file.size_bytes(), "a file has a length")?;
    let found = well(read_whole(file), "a file can be read")?;
    expect(found == bytes && size == bytes.len() as u64, sentence)
}

/// Checks every sentence.
pub(super) fn check(machine: &mut impl Machine) -> Checked {
    let disk = machine.disk();
    let contract = Contract { disk: disk.as_ref(), dir: machine.dir() };
    well(disk.create_dir_all(machine.dir()), "a folder can be made")?;
    well(disk.create_dir_all(machine.dir()), "a folder that is there can be made again")?;
    contract.files_are_made_once()?;
    contract.bytes_are_where_they_were_written()?;
    contract.lengths_are_as_they_were_set()?;
    contract.names_are_given_and_taken()?;
    contract.room_and_reserves_change_nothing()?;
    contract.a_lock_is_one_process_only()
}

impl Contract<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<Box<dyn DiskFile>, Finding> {
        let file = well(self.disk.create(&self.path(name)), "a file can be created")?;
        well(file.write_at(bytes, 0), "a new file can be written")?;
        Ok(file)
    }

    fn files_are_made_once(&self) -> Checked {
        let file = self.file("once", b"first")?;
        let again = self.disk.create(&self.path("once"));
        expect(
            is_error(&again, ErrorKind::AlreadyExists),
            "a name that is taken is AlreadyExists",
        )?;
        holds(file.as_ref(), b"first", "a file that could not be created again is as it was")?;
        let missing = self.disk.open(&self.path("nobody"));
        expect(is_error(&missing, ErrorKind::NotFound), "to open what is not there is NotFound")?;
        let other = well(self.disk.open(&self.path("once")), "a file can be opened twice")?;
        well(other.write_at(b"F", 0), "a file that is open twice can be written")?;
        holds(file.as_ref(), b"First", "who has a file open sees what others write")
    }

    fn bytes_are_where_they_were_written(&self) -> Checked {
        let file = self.file("bytes", b"0123456789")?;
        let mut piece = [0; 4];
        let count = well(file.read_at(&mut piece, 3), "the middle can be read")?;
        expect(
            (1..=4).contains(&count) && b"3456".starts_with(piece.get(..count).unwrap_or_default()),
            "a read gives what is at its offset, and no less than a byte of it",
        )?;
        for offset in [10, 11, 1 << 40] {
            let count =
                well(file.read_at(&mut piece, offset), "a read behind the end is no error")?;
            expect(count == 0, "a read at the end or behind it gives nothing")?;
        }
        well(file.write_at(b"x", 15), "a write behind the end grows a file")?;
        holds(file.as_ref(), b"0123456789\0\0\0\0\0x", "between are zeros")?;
        well(file.write_at(b"AB", 9), "a write may overlap what is there")?;
        holds(file.as_ref(), b"012345678AB\0\0\0\0x", "a write leaves what is beside it alone")
    }

    fn lengths_are_as_they_were_set(&self) -> Checked {
        let file = self.file("lengths", &[7; 3_000])?;
        well(file.set_size(1_000), "a file can be cut")?;
        holds(file.as_ref(), &[7; 1_000], "a cut leaves what is before it")?;
        well(file.set_size(1_200), "a file can be grown")?;
        let zeros = [[7; 1_000].as_slice(), &[0; 200]].concat();
        holds(file.as_ref(), &zeros, "a file grows with zeros, whatever was there before")
    }

    fn names_are_given_and_taken(&self) -> Checked {
        let moved = self.file("moved", b"moved")?;
        drop(self.file("target", b"overwritten")?);
        let (from, to) = (self.path("moved"), self.path("target"));
        well(self.disk.rename(&from, &to), "a rename replaces what has the name")?;
        let gone = self.disk.open(&from);
        expect(is_error(&gone, ErrorKind::NotFound), "the old name is not there any more")?;
        let found = well(self.disk.open(&to), "the new name is there")?;
        holds(found.as_ref(), b"moved", "the new name is that of the file that was renamed")?;
        well(moved.write_at(b"M", 0), "who has a file open goes on with it under its new name")?;
        holds(found.as_ref(), b"Moved", "a renamed file is one file")?;
        let listed = well(self.disk.list(self.dir), "a folder can be listed")?;
        expect(listed.is_sorted(), "names are listed in order")?;
        let has = |name: &str| listed.iter().any(|it| it == name);
        expect(has("target") && has("once") && !has("moved"), "the names of the files are listed")?;
        well(self.disk.remove(&to), "a file can be removed")?;
        expect(is_error(&self.disk.open(&to), ErrorKind::NotFound), "what was removed is gone")?;
        expect(self.disk.remove(&to).is_err(), "what is not there cannot be removed")?;
        well(moved.sync(), "a file that is open and removed can be synced")?;
        well(self.disk.sync_dir(self.dir), "a folder can be synced")
    }

    fn room_and_reserves_change_nothing(&self) -> Checked {
        let file = self.file("room", b"bytes")?;
        well(file.reserve(5, 10_000), "room can be reserved, or it is said that it cannot")?;
        holds(file.as_ref(), b"bytes", "reserved room changes neither length nor bytes")?;
        let space =
            well(self.disk.space(self.dir), "a disk says how much room there is, or no end")?;
        expect(space.free_bytes <= space.size_bytes, "no more is free than there is")
    }

    fn a_lock_is_one_process_only(&self) -> Checked {
        let path = self.path("LOCK");
        let lock = well(self.disk.lock(&path), "a lock that nobody has can be taken")?;
        let second = self.disk.lock(&path);
        expect(is_error(&second, ErrorKind::WouldBlock), "a lock that is taken is WouldBlock")?;
        drop(lock);
        well(self.disk.lock(&path).map(drop), "a lock that was given back can be taken")
    }
}
