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
