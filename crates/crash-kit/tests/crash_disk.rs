//! The disk in memory keeps what was synced and loses the rest as it says, and breaks where it was
//! ordered to. Asks through the trait only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_crash_kit::{CrashDisk, Survives};
use quorate_wal::{Disk as _, DiskFile};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

const SECTOR: usize = 512;

fn path(name: &str) -> std::path::PathBuf {
    Path::new("/d").join(name)
}

/// A disk with a durable file `f` that holds these bytes.
fn with_file(bytes: &[u8]) -> (CrashDisk, Box<dyn DiskFile>) {
    let disk = CrashDisk::new();
    let file = disk.create(&path("f")).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

/// What a file of this name holds, if there is one.
fn bytes_of(disk: &CrashDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&path(name)).ok()?;
    let mut bytes = vec![0; 8 * SECTOR];
    let count = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(count);
    Some(bytes)
}

fn after_any_part(disk: &CrashDisk) -> impl Iterator<Item = CrashDisk> {
    (0..200).map(|seed| disk.after_power_cut(Survives::AnyPart(seed)))
}

#[test]
fn of_a_write_each_sector_stays_or_goes_by_itself() {
    let (disk, file) = with_file(&[1; 2 * SECTOR]);
    file.write_at(&[2; 2 * SECTOR], 0).unwrap();
    let left: BTreeSet<Vec<u8>> =
        after_any_part(&disk).map(|disk| bytes_of(&disk, "f").unwrap()).collect();
    let torn = |one: u8, other: u8| [[one; SECTOR], [other; SECTOR]].concat();
    assert_eq!(left, BTreeSet::from([torn(1, 1), torn(1, 2), torn(2, 1), torn(2, 2)]));
}

#[test]
fn the_write_during_which_the_power_fails_arrives_in_part_and_nothing_does_after_it() {
    let (disk, file) = with_file(&[1; 2 * SECTOR]);
    disk.cut_power_at(disk.change_count());
    assert!(!disk.is_off());
    file.write_at(&[2; 2 * SECTOR], 0).unwrap_err();
    assert!(disk.is_off());
    file.write_at(&[3; 2 * SECTOR], 0).unwrap_err();
    file.sync().unwrap_err();
    disk.create(&path("g")).err().unwrap();
    let left: BTreeSet<u8> =
        after_any_part(&disk).map(|disk| bytes_of(&disk, "f").unwrap()[SECTOR]).collect();
    assert_eq!(left, BTreeSet::from([1, 2]));
    assert_eq!(disk.after_power_cut(Survives::Everything).names(), [path("f")]);
}

#[test]
fn names_and_lengths_that_were_not_synced_stay_or_go() {
    let (disk, file) = with_file(b"old");
    file.set_size(1).unwrap();
    let new = disk.create(&path("g")).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync().unwrap();
    let seen: BTreeSet<_> = after_any_part(&disk)
        .map(|disk| (bytes_of(&disk, "f").unwrap().len(), bytes_of(&disk, "g").is_some()))
        .collect();
    assert_eq!(seen, BTreeSet::from([(1, false), (1, true), (3, false), (3, true)]));
    disk.rename(&path("g"), &path("f")).unwrap();
    let seen: BTreeSet<_> = after_any_part(&disk).map(|disk| bytes_of(&disk, "f")).collect();
    assert!(seen.contains(&Some(b"new".to_vec())) && seen.contains(&Some(b"old".to_vec())));
    disk.sync_dir(Path::new("/d")).unwrap();
    let nothing = disk.after_power_cut(Survives::Nothing);
    assert_eq!(bytes_of(&nothing, "f").unwrap(), b"new");
    assert_eq!(nothing.names(), [path("f")]);
}

#[test]
fn a_kill_takes_nothing_and_makes_nothing_durable() {
    let (disk, file) = with_file(b"old");
    file.write_at(b"new", 0).unwrap();
    let lock = disk.lock(&path("LOCK")).unwrap();
    assert_eq!(disk.lock(&path("LOCK")).err().unwrap().kind(), ErrorKind::WouldBlock);
    let killed = disk.after_kill();
    assert_eq!(bytes_of(&killed, "f").unwrap(), b"new");
    killed.lock(&path("LOCK")).expect("the process that had it is gone");
    assert_eq!(bytes_of(&killed.after_power_cut(Survives::Nothing), "f").unwrap(), b"old");
    drop(lock);
}

#[test]
fn a_failed_write_arrives_in_half() {
    let (disk, file) = with_file(b"old!");
    disk.fail_at(disk.change_count() + 1);
    file.write_at(b"one", 4).unwrap();
    assert!(!disk.has_failed());
    file.write_at(b"NEWS", 0).unwrap_err();
    assert!(disk.has_failed());
    assert_eq!(bytes_of(&disk, "f").unwrap(), b"NEd!one");
    file.write_at(b"NEWS", 0).expect("only one fails");
}

#[test]
fn what_a_failed_sync_should_have_kept_is_gone_although_the_next_one_succeeds() {
    let (disk, file) = with_file(b"old and more");
    file.write_at(b"new", 0).unwrap();
    disk.fail_at(disk.change_count());
    file.sync().unwrap_err();
    file.write_at(b"MORE", 8).unwrap();
    file.sync().unwrap();
    assert_eq!(bytes_of(&disk, "f").unwrap(), b"new and MORE");
    for left in after_any_part(&disk) {
        assert_eq!(bytes_of(&left, "f").unwrap(), b"old and MORE");
    }
    file.write_at(b"new", 0).unwrap();
    file.sync().unwrap();
    let left = disk.after_power_cut(Survives::Nothing);
    assert_eq!(bytes_of(&left, "f").unwrap(), b"new and MORE", "it was written anew");
}

#[test]
fn the_names_that_a_failed_sync_should_have_kept_are_gone_although_the_next_one_succeeds() {
    let (disk, _) = with_file(b"old");
    disk.create(&path("g")).unwrap();
    disk.remove(&path("f")).unwrap();
    disk.fail_at(disk.change_count());
    disk.sync_dir(Path::new("/d")).unwrap_err();
    disk.create(&path("h")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.names(), [path("g"), path("h")]);
    for left in after_any_part(&disk) {
        assert_eq!(left.names(), [path("f"), path("h")]);
    }
    disk.rename(&path("g"), &path("f")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    let left = disk.after_power_cut(Survives::Nothing);
    assert_eq!(left.names(), [path("f"), path("h")]);
    assert_eq!(bytes_of(&left, "f").unwrap(), b"", "it was named anew");
}

#[test]
fn every_look_at_something_can_fail_and_reads_can_be_short() {
    let (disk, file) = with_file(b"bytes");
    let mut piece = [0; 5];
    for look in 0..4 {
        disk.fail_read_at(disk.read_count() + look);
        let failed = [
            disk.open(&path("f")).is_err(),
            disk.list(Path::new("/d")).is_err(),
            file.size_bytes().is_err(),
            file.read_at(&mut piece, 0).is_err(),
        ];
        let which = failed.iter().position(|it| *it);
        assert_eq!(which.map(|at| at as u64), Some(look));
        assert_eq!(failed.iter().filter(|it| **it).count(), 1);
    }
    disk.shorten_reads(2);
    assert_eq!(file.read_at(&mut piece, 1).unwrap(), 2);
    assert_eq!(piece[..2], *b"yt");
}
