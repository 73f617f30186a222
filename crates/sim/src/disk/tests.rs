use super::*;
use quorate_wal::Disk;

fn disk() -> SimDisk {
    let disk = SimDisk::new(Rng::new(5));
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path)).ok()?;
    let mut buffer = vec![0; usize::try_from(file.size_bytes().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), buffer.len());
    Some(buffer)
}

#[test]
fn a_write_is_visible_at_once_and_gone_after_a_crash_without_sync() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    file.write_at(b"hello", 0).unwrap();
    assert_eq!(content(&disk, "/data/a").unwrap(), b"hello");
    assert_eq!(content(&disk.crash(CrashStyle::LoseAll), "/data/a"), None);
}

#[test]
fn a_synced_file_without_a_synced_name_is_lost() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    file.write_at(b"hello", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&disk.crash(CrashStyle::LoseAll), "/data/a"), None);
}

#[test]
fn what_was_synced_survives_every_style_of_crash() {
    for style in [CrashStyle::LoseAll, CrashStyle::KeepAll, CrashStyle::Tear] {
        let disk = disk();
        let file = disk.create(Path::new("/data/a")).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        file.write_at(b"HELLO", 512).unwrap();
        let after = disk.crash(style);
        assert_eq!(&content(&after, "/data/a").unwrap()[..5], b"hello");
        assert!(file.sync().is_err(), "a handle from before the crash is dead");
    }
}

#[test]
fn a_sync_counts_only_when_its_task_has_had_its_time() {
    let write = |finish: bool| {
        let disk = disk();
        let file = disk.create(Path::new("/data/a")).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        let ((), task, work) = disk.run(|| {
            file.write_at(b"hello", 0).unwrap();
            file.sync().unwrap();
        });
        assert_eq!((work.sync_count, work.written_bytes), (1, 5));
        if finish {
            disk.finish(task);
        }
        content(&disk.crash(CrashStyle::LoseAll), "/data/a").unwrap()
    };
    assert_eq!(write(true), b"hello");
    // Unfinished, the crash may come before, between or after its operations.
    assert!([&b"hello"[..], b""].contains(&&write(false)[..]));
}

#[test]
fn a_torn_write_breaks_at_sectors() {
    let mut kinds = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new(Rng::new(seed));
        let file = disk.create(Path::new("/a")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.set_size(1024).unwrap();
        file.sync().unwrap();
        file.write_at(&[1; 1024], 0).unwrap();
        let bytes = content(&disk.crash(CrashStyle::Tear), "/a").unwrap();
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole or absent");
        }
        kinds.insert((bytes[0], bytes[512]));
    }
    assert_eq!(kinds.len(), 4, "each subset of two sectors was seen: {kinds:?}");
}

#[test]
fn a_rename_needs_its_folder_synced() {
    let disk = disk();
    let file = disk.create(Path::new("/data/new")).unwrap();
    file.write_at(b"2", 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.rename(Path::new("/data/new"), Path::new("/data/old")).unwrap();
    assert_eq!(disk.list(Path::new("/data")).unwrap(), ["old"]);
    let after = disk.crash(CrashStyle::LoseAll);
    assert_eq!(after.list(Path::new("/data")).unwrap(), ["new"]);
}

#[test]
fn a_failed_sync_loses_bytes_that_a_later_sync_does_not_bring_back() {
    let lost = (0..20).filter(|seed| {
        let disk = SimDisk::new(Rng::new(*seed));
        let file = disk.create(Path::new("/a")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.set_faults(DiskFaults { sync_fails: Chance::ALWAYS, ..DiskFaults::default() });
        file.write_at(b"hello", 0).unwrap();
        assert!(file.sync().is_err());
        disk.set_faults(DiskFaults::default());
        file.sync().unwrap();
        assert_eq!(content(&disk, "/a").unwrap(), b"hello", "it stays visible");
        content(&disk.crash(CrashStyle::LoseAll), "/a").unwrap().is_empty()
    });
    assert!(lost.count() > 0);
}

#[test]
fn a_folder_is_locked_for_one_until_dropped_or_crashed() {
    let disk = disk();
    let lock = disk.lock(Path::new("/data/lock")).unwrap();
    assert!(disk.lock(Path::new("/data/lock")).is_err());
    drop(lock);
    let _lock = disk.lock(Path::new("/data/lock")).unwrap();
    assert!(disk.crash(CrashStyle::KeepAll).lock(Path::new("/data/lock")).is_ok());
}

#[test]
fn bytes_of_removed_files_are_freed() {
    let disk = disk();
    for round in 0..10 {
        let path = PathBuf::from(format!("/data/{round}"));
        let ((), task, _) = disk.run(|| {
            let file = disk.create(&path).unwrap();
            file.write_at(&[1; 4096], 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("/data")).unwrap();
            disk.remove(&path).unwrap();
            disk.sync_dir(Path::new("/data")).unwrap();
        });
        disk.finish(task);
    }
    assert_eq!(disk.used_bytes(), 0);
    assert!(disk.state().visible.contents.is_empty());
}

#[test]
fn what_a_killed_process_had_not_synced_is_visible_and_still_not_durable() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    file.write_at(b"hello", 0).unwrap();
    let after = disk.crash(CrashStyle::KeepAll);
    assert_eq!(content(&after, "/data/a").unwrap(), b"hello");
    assert_eq!(content(&after.crash(CrashStyle::LoseAll), "/data/a"), None);
}

#[test]
fn a_failed_sync_leaves_alone_what_an_earlier_one_made_durable() {
    for seed in 0..20 {
        let disk = SimDisk::new(Rng::new(seed));
        let file = disk.create(Path::new("/a")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let ((), task, _) = disk.run(|| {
            file.write_at(b"old", 0).unwrap();
            file.sync().unwrap();
            disk.set_faults(DiskFaults { sync_fails: Chance::ALWAYS, ..DiskFaults::default() });
            file.write_at(b"new", 512).unwrap();
            assert!(file.sync().is_err());
        });
        disk.finish(task);
        assert!(content(&disk.crash(CrashStyle::LoseAll), "/a").unwrap().starts_with(b"old"));
    }
}

/// A log with three batches, and the two files with its bounds. Each was synced by a task of its
/// own, in this order, and the last batch by the last one.
fn with_log() -> SimDisk {
    let disk = disk();
    disk.keep_past();
    for name in ["/data/meta-a", "/data/meta-b", "/data/log-1"] {
        disk.create(Path::new(name)).unwrap();
    }
    disk.sync_dir(Path::new("/data")).unwrap();
    write(&disk, "/data/meta-a", 0, 1);
    write(&disk, "/data/meta-b", 0, 1);
    for batch in 0..3 {
        write(&disk, "/data/log-1", 512 * batch, u8::try_from(batch).unwrap() + 1);
    }
    disk
}

fn write(disk: &SimDisk, path: &str, offset: u64, byte: u8) {
    let ((), task, _) = disk.run(|| {
        let file = disk.open(Path::new(path)).unwrap();
        file.write_at(&[byte; 512], offset).unwrap();
        file.sync().unwrap();
    });
    disk.finish(task);
}

/// Which sectors of the log go bad in this way, over many draws.
fn damaged_sectors(kind: DamageKind, prepare: impl Fn(&SimDisk)) -> BTreeSet<usize> {
    let mut rng = Rng::new(3);
    let in_log = |damage: &Damage| damage.path.ends_with("log-1");
    (0..200)
        .filter_map(|_| {
            let disk = with_log();
            prepare(&disk);
            disk.damage_with(kind, &mut rng)
        })
        .filter(in_log)
        .map(|damage| damage.offset / 512)
        .collect()
}

#[test]
fn damage_spares_the_last_batch_of_a_log_until_both_copies_of_its_bounds_are_newer() {
    let unvouched = damaged_sectors(DamageKind::BitRot, |_| {});
    assert_eq!(unvouched, BTreeSet::from([0, 1]));
    let half = damaged_sectors(DamageKind::Zeroed, |disk| write(disk, "/data/meta-a", 0, 2));
    assert_eq!(half, BTreeSet::from([0, 1]));
    let vouched = damaged_sectors(DamageKind::BitRot, |disk| {
        write(disk, "/data/meta-a", 0, 2);
        write(disk, "/data/meta-b", 0, 2);
    });
    assert_eq!(vouched, BTreeSet::from([0, 1, 2]));
}

/// The log's mark says how far the log is durable; it is not synced.
fn note(disk: &SimDisk, is_finished: bool) {
    let ((), task, _) = disk.run(|| {
        let path = Path::new("/data/mark");
        let file = disk.open(path).or_else(|_| disk.create(path)).unwrap();
        file.write_at(&[7; 512], 0).unwrap();
    });
    if is_finished {
        disk.finish(task);
    }
}

#[test]
fn a_mark_written_behind_the_last_batch_vouches_for_it() {
    let marked = damaged_sectors(DamageKind::BitRot, |disk| note(disk, true));
    assert_eq!(marked, BTreeSet::from([0, 1, 2]));
    let unfinished = damaged_sectors(DamageKind::BitRot, |disk| note(disk, false));
    assert_eq!(unfinished, BTreeSet::from([0, 1]), "the batch may not be durable either");
    let older = damaged_sectors(DamageKind::BitRot, |disk| {
        note(disk, true);
        write(disk, "/data/log-1", 1024, 5);
    });
    assert_eq!(older, BTreeSet::from([0, 1]));
}

/// Which sectors of the log go bad after such a crash.
fn damaged_after(style: CrashStyle, is_synced: bool) -> BTreeSet<usize> {
    let mut rng = Rng::new(8);
    let damage = (0..200).filter_map(|_| {
        let disk = with_log();
        note(&disk, true);
        disk.sync_dir(Path::new("/data")).unwrap();
        if is_synced {
            disk.open(Path::new("/data/mark")).unwrap().sync().unwrap();
        }
        disk.crash(style).damage_file(DamageKind::Zeroed, "log-", &mut rng)
    });
    damage.map(|damage| damage.offset / 512).collect()
}

#[test]
fn a_mark_survives_the_death_of_a_process_and_a_power_cut_only_if_it_was_synced() {
    let (all, older) = (BTreeSet::from([0, 1, 2]), BTreeSet::from([0, 1]));
    assert_eq!(damaged_after(CrashStyle::KeepAll, false), all);
    assert_eq!(damaged_after(CrashStyle::LoseAll, false), older);
    assert_eq!(damaged_after(CrashStyle::LoseAll, true), all);
}

#[test]
fn a_mark_that_vouched_when_a_batch_went_bad_stays() {
    let mut rng = Rng::new(8);
    let disk = with_log();
    note(&disk, true);
    disk.sync_dir(Path::new("/data")).unwrap();
    let disk = disk.crash(CrashStyle::KeepAll);
    assert!(disk.damage_file(DamageKind::Zeroed, "log-", &mut rng).is_some());
    let disk = disk.crash(CrashStyle::LoseAll);
    assert_eq!(content(&disk, "/data/mark").unwrap(), [7; 512]);
}

#[test]
fn a_mark_is_spared_while_nothing_else_vouches_and_vouches_no_more_once_it_went_bad() {
    let mut rng = Rng::new(8);
    let disk = with_log();
    note(&disk, true);
    disk.open(Path::new("/data/mark")).unwrap().sync().unwrap();
    for kind in [DamageKind::BitRot, DamageKind::Zeroed, DamageKind::Deleted] {
        assert_eq!(disk.damage_file(kind, "mark", &mut rng), None);
    }
    write(&disk, "/data/meta-a", 0, 2);
    write(&disk, "/data/meta-b", 0, 2);
    assert!(disk.damage_file(DamageKind::BitRot, "mark", &mut rng).is_some());
    write(&disk, "/data/log-1", 1024, 5);
    note(&disk, true);
    let sectors: BTreeSet<usize> = (0..200)
        .filter_map(|_| disk.damage_file(DamageKind::BitRot, "log-", &mut rng))
        .map(|damage| damage.offset / 512)
        .collect();
    assert_eq!(sectors, BTreeSet::from([0, 1]));
}

#[test]
fn what_is_never_synced_does_not_pile_up() {
    let disk = with_log();
    for _ in 0..300 {
        note(&disk, true);
        assert!(disk.state().journal.step_count() < 70);
    }
}

#[test]
fn a_short_read_gives_a_beginning_and_who_asks_on_gets_everything() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    let bytes: Vec<u8> = (0..200).collect();
    file.write_at(&bytes, 0).unwrap();
    disk.set_faults(DiskFaults { short_reads: Chance::percent(50), ..DiskFaults::default() });
    let mut read = Vec::new();
    while read.len() < 200 {
        let mut buffer = [0; 50];
        let count = file.read_at(&mut buffer, u64::try_from(read.len()).unwrap()).unwrap();
        assert!(count > 0, "only at the end is there nothing");
        read.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(read, bytes);
    assert!(disk.take_failures().short_reads > 0);
    assert!(!disk.take_failure(), "that is no failure");
}

#[test]
fn damage_spares_what_is_being_written() {
    let sectors = damaged_sectors(DamageKind::Zeroed, |disk| {
        let ((), _, _) = disk.run(|| {
            let file = disk.open(Path::new("/data/log-1")).unwrap();
            file.write_at(&[9; 512], 0).unwrap();
        });
    });
    assert_eq!(sectors, BTreeSet::from([1]));
}

#[test]
fn damage_is_visible_at_once_and_survives_a_crash() {
    for kind in [DamageKind::BitRot, DamageKind::Zeroed, DamageKind::Misdirected] {
        let disk = with_log();
        let before = content(&disk, "/data/log-1");
        let mut rng = Rng::new(1);
        while content(&disk, "/data/log-1") == before {
            assert!((0..100).any(|_| disk.damage_with(kind, &mut rng).is_some()), "{kind:?}");
        }
        let damaged = content(&disk, "/data/log-1");
        assert_eq!(content(&disk.crash(CrashStyle::LoseAll), "/data/log-1"), damaged);
    }
}

#[test]
fn a_stale_sector_holds_what_it_held_before_and_never_in_the_copies_of_the_bounds() {
    let disk = with_log();
    write(&disk, "/data/log-1", 0, 7);
    write(&disk, "/data/log-1", 512, 8);
    write(&disk, "/data/meta-a", 0, 2);
    write(&disk, "/data/meta-b", 0, 2);
    let mut rng = Rng::new(1);
    let stale: Vec<Damage> =
        (0..200).filter_map(|_| disk.damage_with(DamageKind::Stale, &mut rng)).collect();
    assert!(stale.iter().all(|damage| damage.path.ends_with("log-1")), "{stale:?}");
    let bytes = content(&disk, "/data/log-1").unwrap();
    assert_eq!((bytes[0], bytes[512], bytes[1024]), (1, 2, 3));
}

#[test]
fn an_unreadable_sector_fails_reads_of_it_until_it_is_written() {
    let disk = with_log();
    let mut rng = Rng::new(1);
    let damage = loop {
        let damage = disk.damage_with(DamageKind::Unreadable, &mut rng);
        if let Some(damage) = damage.filter(|damage| damage.path.ends_with("log-1")) {
            break damage;
        }
    };
    let file = disk.open(Path::new("/data/log-1")).unwrap();
    let at = u64::try_from(damage.offset).unwrap();
    let mut buffer = [0; 10];
    assert!(file.read_at(&mut buffer, at + 100).is_err());
    assert!(file.read_at(&mut buffer, at + 512).is_ok());
    assert!(!disk.take_failure(), "damage is not a failure that may pass");
    file.write_at(&[5; 512], at).unwrap();
    assert_eq!(file.read_at(&mut buffer, at + 100).unwrap(), 10);
}

#[test]
fn a_full_disk_refuses_what_grows_and_takes_it_when_there_is_room_again() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    file.write_at(&[1; 1_000], 0).unwrap();
    disk.set_capacity(Some(1_500));
    file.write_at(&[2; 1_000], 0).unwrap();
    let refused = file.write_at(&[3; 1_000], 1_000).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert!(file.set_size(1_501).is_err());
    assert!(disk.used_bytes() <= 1_500, "a part may have been written, within the room");
    assert!(disk.take_failure());
    assert_eq!(disk.take_failures().refused, 2, "the write and the size");
    disk.set_capacity(None);
    file.write_at(&[3; 1_000], 1_000).unwrap();
}

#[test]
fn reads_and_writes_fail_as_often_as_they_are_told_to() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    file.write_at(&[1; 100], 0).unwrap();
    let half = Chance::percent(50);
    disk.set_faults(DiskFaults { read_fails: half, write_fails: half, ..DiskFaults::default() });
    let reads = (0..100).filter(|_| file.read_at(&mut [0; 10], 0).is_err()).count();
    let writes = (0..100).filter(|_| file.write_at(&[2; 10], 0).is_err()).count();
    assert!((30..70).contains(&reads) && (30..70).contains(&writes), "{reads}, {writes}");
    let DiskFailures { reads: counted, .. } = disk.take_failures();
    assert_eq!(counted, u64::try_from(reads).unwrap());
}

#[test]
fn what_is_reserved_is_there_whatever_else_fills_the_disk() {
    let disk = disk();
    let file = disk.create(Path::new("/data/a")).unwrap();
    let other = disk.create(Path::new("/data/b")).unwrap();
    disk.set_capacity(Some(1_000));
    assert!(file.reserve(0, 600).unwrap());
    assert_eq!((file.size_bytes().unwrap(), disk.used_bytes()), (0, 600));
    let free_bytes = disk.space(Path::new("/data")).unwrap().free_bytes;
    other.write_at(&vec![1; usize::try_from(free_bytes).unwrap()], 0).unwrap();
    assert!(other.reserve(400, 1).is_err() && file.reserve(600, 1).is_err());
    file.write_at(&[2; 600], 0).unwrap();
    assert!(file.write_at(&[2; 1], 600).is_err());
    let ((), task, _) = disk.run(|| disk.remove(Path::new("/data/a")).unwrap());
    disk.finish(task);
    assert!(other.write_at(&[1; 600], 400).is_ok(), "a file that is gone holds nothing");
}

#[test]
fn what_a_file_loses_by_damage_is_not_given_to_another() {
    let (disk, path) = (with_log(), "/data/meta-a");
    let before = content(&disk, path).unwrap();
    let file = disk.open(Path::new(path)).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    disk.damage_file(DamageKind::Shortened, "meta-a", &mut Rng::new(1)).unwrap();
    assert!(file.size_bytes().unwrap() < 512);
    assert_eq!(disk.space(Path::new("/data")).unwrap().free_bytes, 0);
    file.write_at(&before, 0).unwrap();
}
