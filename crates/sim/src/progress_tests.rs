//! What a campaign's file keeps, and which files are refused.

use super::*;
use crate::run::World;

fn identity() -> Identity {
    Identity::new("build 1", &Case::from(World::default()))
}

fn example() -> Progress {
    let mut progress = Progress::default();
    for seed in [5, 1, 2] {
        let mut summary = Summary { seed, world_count: 1, steps: 10, ..Summary::default() };
        summary.counts.crashes = seed;
        summary.messages.lost = 2;
        summary.trace_hash = u64::MAX - seed;
        progress.add(&summary);
    }
    progress.wall = Duration::from_millis(1_234);
    progress.failure_count = 1;
    progress.done.insert(9);
    progress.failures.push(Failure {
        seed: 9,
        kind: "two_leaders".to_owned(),
        text: "two".to_owned(),
        reproduce: "quorate sim --seed 9".to_owned(),
    });
    progress
}

#[test]
fn seeds_join_to_ranges_in_whatever_order_they_end() {
    let mut seeds = SeedSet::default();
    for seed in [3, 1, 7, 2, u64::MAX, 3, 0] {
        seeds.insert(seed);
    }
    let ranges: Vec<(u64, u64)> = seeds.ranges().collect();
    assert_eq!(ranges, [(0, 3), (7, 7), (u64::MAX, u64::MAX)]);
    assert!(seeds.contains(2) && !seeds.contains(4));
    assert_eq!(seeds.count_within(2, 7), 3);
}

#[test]
fn a_file_gives_back_everything_that_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("campaign.json");
    assert_eq!(Progress::load(&path, &identity(), false).unwrap(), Progress::default());
    example().store(&path, &identity()).unwrap();
    let mut loaded = Progress::load(&path, &identity(), false).unwrap();
    // The seed of a sum means nothing.
    loaded.total.seed = example().total.seed;
    assert_eq!(loaded, example());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn files_of_another_build_of_other_options_and_of_nobody_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("campaign.json");
    example().store(&path, &identity()).unwrap();
    let other = Identity { build: "build 2".to_owned(), ..identity() };
    let refused = Progress::load(&path, &other, false);
    assert!(matches!(refused, Err(ProgressError::OtherBuild { .. })));
    assert!(Progress::load(&path, &other, true).is_ok());

    let steps = World { steps: 7, ..World::default() };
    let refused = Progress::load(&path, &Identity::new("build 1", &steps.into()), true);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("--steps 7") && refused.contains("--steps 20000"), "{refused}");

    for text in ["", "{}", "{\"format\": 1}", "[1"] {
        fs::write(&path, text).unwrap();
        assert!(Progress::load(&path, &identity(), true).is_err(), "{text}");
    }
}

#[test]
fn files_whose_seeds_do_not_add_up_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("campaign.json");
    let whole = example().json(&identity());
    for done in ["[[1,2],[5,5],[9,18446744073709551615]]", "[[2,1],[5,9]]", "[[1,3],[3,3]]", "[]"] {
        let mut file = whole.clone();
        file["done"] = serde_json::from_str(done).unwrap();
        fs::write(&path, file.to_string()).unwrap();
        let refused = Progress::load(&path, &identity(), true);
        assert!(matches!(refused, Err(ProgressError::Garbled { .. })), "{done}: {refused:?}");
    }
}

#[test]
fn figures_that_cannot_be_counted_on_from_are_refused_wherever_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("campaign.json");
    let whole = example().json(&identity());
    for name in ["steps", "virtual_micros", "committed", "watched_events", "wall_millis", "seeds"] {
        let mut file = whole.clone();
        file[name] = u64::MAX.into();
        fs::write(&path, file.to_string()).unwrap();
        let refused = Progress::load(&path, &identity(), true);
        assert!(matches!(refused, Err(ProgressError::Garbled { .. })), "{name}: {refused:?}");
    }
    let mut file = whole;
    file["faults"]["crashes"] = u64::MAX.into();
    fs::write(&path, file.to_string()).unwrap();
    assert!(Progress::load(&path, &identity(), true).is_err());
}

#[test]
fn a_file_that_is_larger_than_any_progress_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("campaign.json");
    File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let refused = Progress::load(&path, &identity(), true).unwrap_err().to_string();
    assert!(refused.contains("67108865 bytes"), "{refused}");
}
