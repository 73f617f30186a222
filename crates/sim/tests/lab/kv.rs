//! The key-value lab on the replicated store (3A): clerks, networks, partitions, crashes. Every
//! history goes through the linearizability checker; a test only says what else it demands.

use crate::clerk::{Clerk, Kv, Piece};
use crate::stage::{each_seed, millis};
use quorate_sim::{NetworkFaults, seconds};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How long the clients of a round are busy, and how many rounds there are.
const ROUND_LASTS: Duration = Duration::from_secs(5);
const ROUNDS: u64 = 3;

/// A client thinks for at most so long between two operations, for each client that there is.
const THINK_MAX_MS: u64 = 5;

/// What happens in one of the many tests that differ in nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) client_count: u64,
    pub(crate) server_count: u64,
    pub(crate) network: fn() -> NetworkFaults,
    /// At the end of each round every server loses power.
    pub(crate) crashes: bool,
    /// The servers are cut in two, differently about every second.
    pub(crate) partitions: bool,
    /// Every client uses every key, and puts too; else each has a key of its own.
    pub(crate) has_random_keys: bool,
    /// Servers take snapshots: their logs are held below twice this.
    pub(crate) log_bytes_max: Option<u64>,
}

/// Five servers on a good network, and clients with keys of their own.
pub(crate) const QUIET: Plan = Plan {
    client_count: 1,
    server_count: 5,
    network: NetworkFaults::calm,
    crashes: false,
    partitions: false,
    has_random_keys: false,
    log_bytes_max: None,
};

/// What a client has done, for the checks at the end.
#[derive(Default)]
struct Done {
    /// What its own key must hold.
    own_key: Vec<Piece>,
    op_count: u64,
}

type AllDone = Rc<RefCell<BTreeMap<u64, Done>>>;

/// One client of a round.
async fn client(mut clerk: Clerk, me: u64, plan: Plan, stop: Rc<Cell<bool>>, done: AllDone) {
    let mut number = 1000 * done.borrow().get(&me).map_or(0, |done| done.op_count);
    let mut expected = Vec::new();
    let mut op_count = 0;
    if !plan.has_random_keys {
        expected = vec![Piece { client: me, number }];
        clerk.put(&key_of(me), expected[0]).await;
    }
    while !stop.get() {
        let dice = clerk.random(1000);
        number += 1;
        let piece = Piece { client: me, number };
        if plan.has_random_keys {
            let key = key_of(clerk.random(plan.client_count));
            match dice {
                0..500 => clerk.append(&key, piece).await,
                500..600 => clerk.put(&key, piece).await,
                _ => drop(clerk.get(&key).await),
            }
        } else if dice < 500 {
            clerk.append(&key_of(me), piece).await;
            expected.push(piece);
        } else {
            assert_eq!(clerk.get(&key_of(me)).await, expected, "the key of client {me}");
        }
        op_count += 1;
        clerk.think(THINK_MAX_MS * plan.client_count).await;
    }
    let mut all_done = done.borrow_mut();
    let done = all_done.entry(me).or_default();
    done.own_key = expected;
    done.op_count += op_count;
}

fn key_of(client: u64) -> String {
    format!("key {client}")
}

/// Cuts the servers in two, at random, until it is told to stop.
async fn partitioner(clerk: Clerk, servers: Vec<u64>, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        let (one, two): (Vec<u64>, Vec<u64>) = servers.iter().partition(|_| clerk.random(2) == 0);
        clerk.partition(one, two);
        clerk.sleep(millis(1000 + clerk.random(200))).await;
    }
}

/// The test that most of the lab's are.
pub(crate) fn generic(seed: u64, plan: Plan) {
    let mut kv = Kv::new(seed, plan.server_count, plan.log_bytes_max);
    kv.stage.cluster().set_network((plan.network)());
    let done = AllDone::default();
    for _ in 0..ROUNDS {
        let stop = Rc::new(Cell::new(false));
        for me in 0..plan.client_count {
            let clerk = Clerk::new(&kv, kv.servers());
            kv.stage.play(client(clerk, me, plan, Rc::clone(&stop), Rc::clone(&done)));
        }
        let cutting = Rc::new(Cell::new(!plan.partitions));
        let clerk = Clerk::new(&kv, kv.servers());
        kv.stage.play(partitioner(clerk, kv.servers(), Rc::clone(&cutting)));
        kv.stage.run_for(ROUND_LASTS);
        stop.set(true);
        cutting.set(true);
        if plan.partitions {
            kv.stage.run_for(millis(1200));
            kv.stage.cluster().mend_network();
            kv.stage.run_for(seconds(1));
        }
        if plan.crashes {
            kv.crash_everybody();
            kv.stage.run_for(seconds(1));
            kv.restart_everybody();
        }
        kv.stage.run_scripts();
        check_round(&mut kv, plan, &done);
    }
    let op_count: u64 = done.borrow().values().map(|done| done.op_count).sum();
    assert!(done.borrow().len() as u64 == plan.client_count, "a client has done nothing");
    let findings = kv.finish();
    println!("seed {seed}: {op_count} operations, {} requests checked", findings.checked_count);
}

/// Each client's own key holds what it appended, once and in order; no piece is anywhere twice; the
/// logs are short.
fn check_round(kv: &mut Kv, plan: Plan, done: &AllDone) {
    let clerk = Clerk::new(kv, kv.servers());
    for me in 0..plan.client_count {
        let found = kv.get(&clerk, &key_of(me));
        if !plan.has_random_keys {
            assert_eq!(found, done.borrow()[&me].own_key, "the key of client {me}");
        }
        let mut sorted = found.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), found.len(), "a piece was appended twice: {found:?}");
    }
    if let Some(log_bytes_max) = plan.log_bytes_max {
        kv.stage.run_for(millis(100));
        let (largest, snapshot) = (kv.largest_log(), kv.largest_snapshot());
        assert!(largest <= 2 * log_bytes_max.max(snapshot), "a log of {largest} bytes");
    }
}

#[test]
fn kv_basic() {
    each_seed(1..=2, |seed| generic(seed, QUIET));
}

/// A thousand appends, one after the other, each within 33.3 ms: three to a heartbeat interval.
#[test]
fn kv_speed() {
    each_seed(1..=3, |seed| {
        let mut kv = Kv::new(seed, 3, None);
        let mut clerk = Clerk::new(&kv, kv.servers());
        let first = Piece { client: 0, number: 0 };
        kv.put(&clerk, "x", first);
        let began_at = kv.stage.now();
        let found = kv.stage.run(async move {
            for number in 1..=1000 {
                clerk.append("x", Piece { client: 0, number }).await;
            }
            clerk.get("x").await
        });
        let lasted_us = kv.stage.now().as_micros() - began_at.as_micros();
        println!("seed {seed}: {} us for each operation", lasted_us / 1000);
        assert_eq!(found.len(), 1001);
        assert!(lasted_us <= 33_300 * 1000, "{lasted_us} us for a thousand operations");
        kv.finish();
    });
}

#[test]
fn kv_concurrent() {
    each_seed(1..=2, |seed| generic(seed, Plan { client_count: 5, ..QUIET }));
}

#[test]
fn kv_unreliable() {
    let plan = Plan { client_count: 5, network: NetworkFaults::unreliable, ..QUIET };
    each_seed(1..=6, |seed| generic(seed, plan));
}

#[test]
fn kv_unreliable_one_key() {
    each_seed(1..=4, |seed| {
        let mut kv = Kv::new(seed, 3, None);
        kv.stage.cluster().set_network(NetworkFaults::unreliable());
        for client in 0..5 {
            let mut clerk = Clerk::new(&kv, kv.servers());
            kv.stage.play(async move {
                for number in 0..10 {
                    clerk.append("k", Piece { client, number }).await;
                }
            });
        }
        kv.stage.run_scripts();
        let clerk = Clerk::new(&kv, kv.servers());
        let found = kv.get(&clerk, "k");
        assert_eq!(found.len(), 50, "{found:?}");
        for client in 0..5 {
            let of_client = found.iter().filter(|piece| piece.client == client);
            let numbers: Vec<u64> = of_client.map(|piece| piece.number).collect();
            assert_eq!(numbers, (0..10).collect::<Vec<_>>(), "each once, and in order");
        }
        kv.finish();
    });
}

#[test]
fn kv_one_partition() {
    each_seed(1..=10, |seed| {
        let mut kv = Kv::new(seed, 5, None);
        let piece = |number| Piece { client: 0, number };
        let everybody = Clerk::new(&kv, kv.servers());
        kv.put(&everybody, "1", piece(13));

        // The leader is in the minority; the majority goes on.
        let leader = kv.leader();
        let few = [leader, leader % 5 + 1];
        let many: Vec<u64> = kv.servers().into_iter().filter(|id| !few.contains(id)).collect();
        kv.stage.cluster().partition(many.clone(), few);
        let of_many = Clerk::new(&kv, many);
        kv.put(&of_many, "1", piece(14));
        assert_eq!(kv.get(&of_many, "1"), [piece(14)]);

        // The minority does not: neither a put nor a get within a second.
        let (put_done, got) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
        let (mut putter, is_put) = (Clerk::new(&kv, few), Rc::clone(&put_done));
        kv.stage.play(async move {
            putter.put("1", piece(15)).await;
            is_put.set(true);
        });
        let (mut getter, result) = (Clerk::new(&kv, few), Rc::clone(&got));
        kv.stage.play(async move {
            let found = getter.get("1").await;
            result.replace(Some(found));
        });
        kv.stage.run_for(seconds(1));
        assert!(!put_done.get() && got.borrow().is_none(), "a minority answered");
        assert_eq!(kv.get(&of_many, "1"), [piece(14)]);
        kv.put(&of_many, "1", piece(16));
        assert_eq!(kv.get(&of_many, "1"), [piece(16)]);

        // After healing both end within three seconds.
        kv.stage.cluster().mend_network();
        let healed_at = kv.stage.now();
        kv.stage.run_scripts();
        let lasted_us = kv.stage.now().as_micros() - healed_at.as_micros();
        println!("seed {seed}: the minority's requests end {} ms after", lasted_us / 1000);
        assert!(lasted_us <= 3_000_000, "{lasted_us} us after healing");
        assert!(got.borrow().is_some());
        assert_eq!(kv.get(&everybody, "1"), [piece(15)]);
        kv.finish();
    });
}

#[test]
fn kv_many_partitions_one_client() {
    let plan = Plan { partitions: true, ..QUIET };
    each_seed(1..=3, |seed| generic(seed, plan));
}

#[test]
fn kv_many_partitions_many_clients() {
    let plan = Plan { client_count: 5, partitions: true, ..QUIET };
    each_seed(1..=3, |seed| generic(seed, plan));
}

#[test]
fn kv_persist_one_client() {
    let plan = Plan { crashes: true, ..QUIET };
    each_seed(1..=3, |seed| generic(seed, plan));
}

#[test]
fn kv_persist_concurrent() {
    let plan = Plan { client_count: 5, crashes: true, ..QUIET };
    each_seed(1..=2, |seed| generic(seed, plan));
}

#[test]
fn kv_persist_concurrent_unreliable() {
    let plan = Plan { client_count: 5, crashes: true, network: NetworkFaults::unreliable, ..QUIET };
    each_seed(1..=6, |seed| generic(seed, plan));
}

#[test]
fn kv_persist_partition() {
    let plan = Plan { client_count: 5, crashes: true, partitions: true, ..QUIET };
    each_seed(1..=3, |seed| generic(seed, plan));
}

/// Everything that goes wrong, at once.
const STORM: Plan = Plan {
    client_count: 5,
    crashes: true,
    partitions: true,
    network: NetworkFaults::unreliable,
    ..QUIET
};

#[test]
fn kv_persist_partition_unreliable() {
    each_seed(1..=8, |seed| generic(seed, STORM));
}

#[test]
fn kv_persist_partition_unreliable_linearizable() {
    let plan = Plan { client_count: 15, server_count: 7, has_random_keys: true, ..STORM };
    each_seed(1..=8, |seed| generic(seed, plan));
}
