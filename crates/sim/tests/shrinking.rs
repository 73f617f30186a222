//! Failing worlds become small cases that fail in the same way, and are told by one line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_sim::{
    Case, Changes, Detail, Event, FaultKind, Recording, SABOTAGES, Told, World, kv_world, shrink,
};
use std::ops::ControlFlow;

/// The first case of this sabotage that fails before half of its steps.
fn failing(sabotage: &str) -> Case {
    let sabotage = FaultKind::named(sabotage, SABOTAGES).unwrap();
    let changes = Changes { sabotage, ..Changes::default() };
    let case = |seed| Case {
        world: World { seed, node_count: 5, steps: 8_000 },
        changes: changes.clone(),
    };
    let fails_early = |case: &Case| case.run(&kv_world).is_err_and(|found| found.step < 4_000);
    (1..=20).map(case).find(fails_early).expect("no judge noticed")
}

fn becomes_small(sabotage: &str) {
    let case = failing(sabotage);
    let first = case.run(&kv_world).unwrap_err();
    let (kind, troubles) = (first.breach.kind(), first.trouble_count);
    let mut progress_count = 0;
    let (small, attempts) = shrink(*first, &kv_world, 300, &mut |_| {
        progress_count += 1;
        ControlFlow::Continue(())
    });
    println!("{case} became, after {attempts} attempts, {}", small.case);
    assert_eq!((small.breach.kind(), progress_count), (kind, attempts));
    assert!(small.case.world.steps <= case.world.steps / 2, "{}", small.case);
    let left = small.trouble_count - u64::try_from(small.case.changes.skip.len()).unwrap();
    assert!(left <= (troubles / 2).max(3), "{left} of {troubles} troubles: {}", small.case);

    let pasted: Case = small.case.to_string().parse().unwrap();
    let (again, record) = pasted.record(&kv_world, Recording::of(Detail::Story));
    let again = again.unwrap_err();
    assert_eq!((again.step, again.at), (small.step, small.at));
    assert!(!record.events.is_empty());
}

#[test]
fn a_runtime_that_acknowledges_too_early_is_shown_by_a_small_case() {
    becomes_small("early-acks");
}

#[test]
fn a_disk_that_ignores_syncs_is_shown_by_a_small_case() {
    becomes_small("lying-disks");
}

#[test]
fn a_trouble_can_be_left_out_and_those_after_it_come_as_before() {
    let troubles = |seed: u64, skip: &str| -> Vec<(u64, u64)> {
        let changes = Changes { skip: skip.parse().unwrap(), ..Changes::default() };
        let case = Case { world: World { seed, node_count: 5, steps: 6_000 }, changes };
        let (_, record) = case.record(&kv_world, Recording::of(Detail::Story));
        let ordinal = |event: Event| {
            let Told::Headline { trouble, .. } = event.what else { return None };
            trouble.map(|ordinal| (ordinal, event.at.as_micros()))
        };
        record.events.into_iter().filter_map(ordinal).collect()
    };
    let many = (1..=20).map(|seed| (seed, troubles(seed, ""))).find(|(_, all)| all.len() > 10);
    let (seed, all) = many.expect("no world with many troubles");
    let (first, _) = all[0];
    let without = troubles(seed, &first.to_string());
    assert!(without.iter().all(|(ordinal, _)| *ordinal != first));
    let last_ordinal = without.last().unwrap().0;
    for (ordinal, at) in without {
        let same = all.iter().find(|(other, _)| *other == ordinal);
        assert!(same.is_none_or(|(_, before)| *before == at), "{ordinal} of {last_ordinal}");
    }
}

#[test]
fn who_stops_it_gets_the_smallest_case_so_far() {
    let first = *failing("early-acks").run(&kv_world).unwrap_err();
    let steps = first.case.world.steps;
    let mut best = None;
    let (small, attempts) = shrink(first, &kv_world, 300, &mut |progress| {
        let is_smaller = progress.best.case.world.steps < steps && progress.attempt_count > 5;
        best = is_smaller.then(|| progress.best.case.clone());
        if is_smaller { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(attempts < 300, "{attempts}");
    // The attempt that was begun may have succeeded.
    assert!(small.case.world.steps <= best.expect("it was stopped").world.steps);
}
