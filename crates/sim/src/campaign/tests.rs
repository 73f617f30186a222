use super::*;
use crate::kv_world;
use std::sync::mpsc::sync_channel;

#[test]
fn a_world_that_does_not_end_is_named_once_and_may_still_end() {
    let mut campaign = Campaign::new(World { seed: 7, node_count: 1, steps: 100 }, 1);
    campaign.patience = Duration::ZERO;
    let (let_go, held) = sync_channel::<()>(1);
    let held = Mutex::new(held);
    let worlds = |world: &World| {
        lock(&held).recv().expect("somebody names it");
        kv_world(world)
    };
    let mut named = Vec::new();
    let watch = Watch {
        progress: &mut |_| {},
        violation: &mut |violation| panic!("{violation:?}"),
        stuck: &mut |case, _, _| {
            named.push(case.world.seed);
            let_go.send(()).expect("the world waits");
        },
        abandoned: &mut |end| panic!("{end:?}"),
        stop: &AtomicBool::new(false),
    };
    let end = campaign.run(&worlds, watch).expect("no file is written");
    assert_eq!((named, end.left_count), (vec![7], 0));
}

#[test]
fn a_world_that_hangs_is_a_failure_and_the_other_worlds_are_run_by_another_thread() {
    let mut campaign = Campaign::new(World { seed: 1, node_count: 1, steps: 100 }, 3);
    (campaign.jobs, campaign.keeps_going) = (1, true);
    campaign.hangs_after = Duration::from_secs(2);
    let (let_go, held) = sync_channel::<()>(1);
    let held = Mutex::new(held);
    let worlds = |world: &World| {
        if world.seed == 2 {
            lock(&held).recv().expect("somebody gives it up");
        }
        kv_world(world)
    };
    let (mut found, mut told) = (Vec::new(), None);
    let watch = Watch {
        progress: &mut |_| {},
        violation: &mut |violation| {
            found.push((violation.case.world.seed, violation.breach.kind()));
        },
        stuck: &mut |_, _, _| {},
        abandoned: &mut |end| {
            told = Some((end.progress.failure_count, end.progress.total.world_count));
            // A program would end its process here.
            let_go.send(()).expect("the world waits");
        },
        stop: &AtomicBool::new(false),
    };
    let end = campaign.run(&worlds, watch).expect("no file is written");
    assert_eq!(found, [(2, "hangs".to_owned())]);
    assert_eq!(told, Some((1, 2)));
    // That it came to an end after all, counts for nothing.
    assert_eq!((end.progress.failure_count, end.progress.total.world_count), (1, 2));
    assert_eq!(end.left_count, 0);
}

#[test]
fn a_world_that_hangs_is_left_behind_when_the_campaign_is_stopped() {
    let mut campaign = Campaign::new(World { seed: 1, node_count: 1, steps: 100 }, 3);
    campaign.jobs = 1;
    campaign.patience = Duration::ZERO;
    let (let_go, held) = sync_channel::<()>(1);
    let held = Mutex::new(held);
    let worlds = |world: &World| {
        lock(&held).recv().expect("somebody leaves it behind");
        kv_world(world)
    };
    let stop = AtomicBool::new(false);
    let watch = Watch {
        progress: &mut |_| {},
        violation: &mut |violation| panic!("{violation:?}"),
        stuck: &mut |_, _, _| stop.store(true, Ordering::Relaxed),
        abandoned: &mut |_| let_go.send(()).expect("the world waits"),
        stop: &stop,
    };
    let end = campaign.run(&worlds, watch).expect("no file is written");
    assert_eq!((end.progress.failure_count, end.left_count), (0, 3));
}
