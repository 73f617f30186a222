//! The operating system's disk keeps what `Disk` promises, as far as one can see without a power
//! failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_wal::{Disk, ReadOnlyDisk, RealDisk};
use std::io::ErrorKind;
use std::path::Path;

#[test]
fn files_are_created_once_opened_only_if_they_exist_renamed_removed_and_listed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["b", "a", "c"] {
        RealDisk.create(&path(name)).unwrap().write_at(name.as_bytes(), 2).unwrap();
    }
    assert_eq!(RealDisk.list(dir.path()).unwrap(), ["a", "b", "c"]);
    let taken = RealDisk.create(&path("a")).err().unwrap();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let missing = RealDisk.open(&path("d")).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    RealDisk.rename(&path("a"), &path("c")).unwrap();
    RealDisk.remove(&path("b")).unwrap();
    assert_eq!(RealDisk.list(dir.path()).unwrap(), ["c"]);
    assert_eq!(std::fs::read(path("c")).unwrap(), b"\0\0a");
    assert_eq!(RealDisk.remove(&path("b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(RealDisk.list(&path("b")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn folders_are_made_with_those_above_them_and_one_that_is_missing_cannot_be_synced() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("a/b/c");
    let error = RealDisk.sync_dir(&inner).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    RealDisk.create_dir_all(&inner).unwrap();
    RealDisk.create_dir_all(&inner).unwrap();
    assert!(inner.is_dir());
    RealDisk.sync_dir(&inner).unwrap();
}

#[test]
fn a_file_is_read_as_far_as_it_reaches_cut_and_grown_with_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealDisk.create(&dir.path().join("file")).unwrap();
    file.write_at(b"0123456789", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(file.size_bytes().unwrap(), 10);
    let mut buffer = [9; 6];
    assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 3);
    assert_eq!(&buffer, b"789\x09\x09\x09");
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    file.set_size(4).unwrap();
    file.set_size(6).unwrap();
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 6);
    assert_eq!(&buffer, b"0123\0\0");
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_or_a_sync_that_fails_is_an_error_at_once() {
    // The first page of a process's memory is never there to be read.
    let memory = RealDisk.open(Path::new("/proc/self/mem")).unwrap();
    assert!(memory.read_at(&mut [0; 8], 0).is_err());
    assert!(memory.sync().is_err(), "what cannot be synced must not count as durable");
}

#[test]
fn a_lock_is_exclusive_names_its_holder_and_ends_with_its_guard() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    std::fs::write(&path, "a longer text of an earlier holder").unwrap();
    let guard = RealDisk.lock(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    let refused = RealDisk.lock(&path).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(guard);
    drop(RealDisk.lock(&path).unwrap());
}

#[test]
fn who_only_looks_reads_and_lists_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("file"), dir.path().join("other"));
    std::fs::write(&file, "content").unwrap();
    let disk = ReadOnlyDisk;
    assert_eq!(disk.list(dir.path()).unwrap(), ["file"]);
    let mut buffer = [0; 7];
    assert_eq!(disk.open(&file).unwrap().read_at(&mut buffer, 0).unwrap(), 7);
    assert_eq!(&buffer, b"content");
    let refused = [
        disk.create(&other).err(),
        disk.create_dir_all(&other).err(),
        disk.rename(&file, &other).err(),
        disk.remove(&file).err(),
        disk.sync_dir(dir.path()).err(),
        disk.lock(&file).err(),
    ];
    for error in refused {
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::PermissionDenied));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content");
    assert!(!other.exists());
}
