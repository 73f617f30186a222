//! Servers crash in every way while clients write: SIGKILL, power cuts on disks that lose what was not
//! synced, writes and syncs that fail, bits that flip while they stand still. No acknowledged write may
//! be lost, every history is linearizable, and nobody ever serves what is wrong. Judges the servers by
//! what clients see.
//!
//! `QUORATE_ROUNDS` sets how many rounds, `QUORATE_SEED` which is the first: round N of a run with
//! seed S is round 1 of a run with seed S + N - 1. `QUORATE_KINDS` says which harm is done, `kill,flip`;
//! any without it. `cargo xtask crash --rounds 500` runs it at length.
//! Power cuts and failing disks need `/dev/fuse` and root; without them those rounds kill instead, and
//! say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod flips;
mod forgetful;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../kill_and_pause/history.rs"]
mod history;
#[path = "../kill_and_pause/judge.rs"]
mod judge;
mod plan;
mod stage;
#[path = "../kill_and_pause/workload.rs"]
mod workload;

use flips::Count;
use harness::{Rng, seed};
use history::Record;
use plan::{Kind, Kinds, Plan};
use stage::Stage;
use std::path::Path;
use workload::Shared;

const ROUND_COUNT_DEFAULT: u64 = 4;

/// What a run amounted to; says so at its end, however it ends.
#[derive(Default)]
struct Totals {
    rounds: u64,
    kills: u64,
    cuts: u64,
    fails: u64,
    moved_states: u64,
    flips: flips::Counts,
    undecided: usize,
    unknown: usize,
    acknowledged: usize,
    lost: usize,
}

impl Totals {
    fn add(&mut self, plan: &Plan, blow: &stage::Blow, records: &[Record]) {
        match plan.kind {
            Kind::Kill => self.kills += 1,
            Kind::Cut => self.cuts += 1,
            Kind::Fail => self.fails += 1,
            Kind::Flip => {}
        }
        self.moved_states += u64::from(blow.has_moved_state);
        self.unknown += records.iter().filter(|it| it.returned.is_none()).count();
        self.acknowledged += records.iter().filter(|it| it.written_revision().is_some()).count();
    }

    /// Judges what clients saw, and counts what was lost.
    fn judge(&mut self, records: &[Record]) {
        let lost = judge::lost_writes(records);
        self.lost += lost;
        assert_eq!(lost, 0, "no acknowledged write may be lost");
        passes(judge::undecided(records).map(|count| self.undecided += count));
    }
}

impl Drop for Totals {
    fn drop(&mut self) {
        println!(
            "{} strikes by SIGKILL, {} power cuts, {} disks failed ({} states made anew as the \
             server said), {} bits flipped ({} refused, {} served right), {} outcomes unknown",
            self.kills,
            self.cuts,
            self.fails,
            self.moved_states,
            self.flips.all().refused + self.flips.all().right,
            self.flips.all().refused,
            self.flips.all().right,
            self.unknown,
        );
        print!("{}", self.flips);
        println!(
            "crash: {} rounds, {} acknowledged writes, {} lost writes, {} undecided histories",
            self.rounds, self.acknowledged, self.lost, self.undecided
        );
    }
}

fn passes(verdict: Result<(), String>) {
    if let Err(evidence) = verdict {
        panic!("{evidence}");
    }
}

fn round_count() -> u64 {
    std::env::var("QUORATE_ROUNDS")
        .map_or(ROUND_COUNT_DEFAULT, |text| text.parse().expect("QUORATE_ROUNDS is a number"))
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_wrong_is_served_however_servers_crash() {
    forgetful::clear_away_the_dead(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let hindrance = forgetful::hindrance();
    if let Some(hindrance) = &hindrance {
        println!("NO POWER CUTS AND NO FAILING DISKS on this machine ({hindrance}): kills instead");
    }
    let (first, count) = (seed(), round_count());
    let kinds = Kinds::given();
    let mut totals = Totals::default();
    for number in 0..count {
        let plan = Plan::of(first.wrapping_add(number), &kinds, hindrance.is_none());
        println!("round {} of {count}, seed {}: {plan}", number + 1, plan.seed);
        play(&plan, &mut totals).await;
        totals.rounds += 1;
    }
    totals.flips.assert_complete();
}

/// One round, on servers of its own.
async fn play(plan: &Plan, totals: &mut Totals) {
    let mut stage = Stage::new(plan);
    stage.cluster.start_all().await;
    let shared = Shared::with_values_up_to(plan.digits_max, stage.cluster.clients());
    let mut history: Vec<Record> = Vec::new();
    for strike in 0..plan.strikes {
        let (blow, mut records) =
            workload::round(&shared, plan.seed, strike, stage.strike(&shared)).await;
        records.extend(workload::read_all(&shared, &records).await);
        println!("  {blow}; {} operations", records.len());
        totals.add(plan, &blow, &records);
        totals.judge(&records);
        history.extend(records);
    }
    if plan.kind == Kind::Flip {
        let mut rng = Rng::new(plan.seed, 2);
        let counts = flips::flip(&mut stage.cluster, plan, &mut rng, &history).await;
        let Count { refused, right } = counts.all();
        println!("  {refused} refused, {right} right");
        totals.flips.add(counts);
    }
    stage.cluster.assert_equal_replicas().await;
    // Once more, all keys: what was unknown then may have come since, a loss may not.
    history.extend(workload::read_all(&shared, &history).await);
    totals.judge(&history);
    passes(judge::revisions_in_order(&history));
    stage.finish();
}
