//! The key-value lab with short logs (3B): what is kept is bounded, and snapshots bring back what
//! the log does not reach. The rest is as in the rooms beside this one.

use crate::clerk::{Clerk, Kv, Piece};
use crate::kv::{Plan, QUIET, generic};
use crate::stage::{each_seed, millis};
use prost::Message;
use quorate_kv::api::{CompactionRequest, RangeRequest, RangeResponse};
use quorate_kv::{Command, CommandKind};
use quorate_sim::{NetworkFaults, Outcome, Request, seconds};

/// A server takes a snapshot when its log holds more than this.
const LOG_BYTES: u64 = 1_000;

/// Short logs.
const SHORT: Plan = Plan { log_bytes_max: Some(LOG_BYTES), ..QUIET };

fn check_logs(kv: &Kv) {
    let (largest, snapshot) = (kv.largest_log(), kv.largest_snapshot());
    println!("  the largest log: {largest} bytes, the largest snapshot {snapshot} bytes");
    assert!(largest <= 2 * LOG_BYTES.max(snapshot), "a log of {largest} bytes");
}

/// Servers take snapshots although one of them is away, and it gets one when it is back.
#[test]
fn kv_snapshot_rpc() {
    each_seed(1..=5, |seed| {
        let mut kv = Kv::new(seed, 3, Some(LOG_BYTES));
        let piece = |number| Piece { client: 0, number };
        let everybody = Clerk::new(&kv, kv.servers());
        kv.put(&everybody, "a", piece(1));
        assert_eq!(kv.get(&everybody, "a"), [piece(1)]);

        kv.stage.cluster().partition([1, 2], [3]);
        let without_three = Clerk::new(&kv, [1, 2]);
        for number in 0..50 {
            kv.put(&without_three, &number.to_string(), piece(100 + number));
        }
        kv.stage.run_for(seconds(1));
        kv.put(&without_three, "b", piece(2));
        check_logs(&kv);

        // Two is away now: One needs Three, which needs a snapshot.
        kv.stage.cluster().mend_network();
        kv.stage.cluster().partition([1, 3], [2]);
        let without_two = Clerk::new(&kv, [1, 3]);
        kv.put(&without_two, "c", piece(3));
        kv.put(&without_two, "d", piece(4));
        for (key, number) in [("a", 1), ("b", 2), ("1", 101), ("49", 149)] {
            assert_eq!(kv.get(&without_two, key), [piece(number)]);
        }
        assert!(kv.stage.cluster().rpcs(3).snapshots > 0, "it was sent no snapshot");

        kv.stage.cluster().mend_network();
        kv.put(&everybody, "e", piece(5));
        for (key, number) in [("c", 3), ("e", 5), ("1", 101)] {
            assert_eq!(kv.get(&everybody, key), [piece(number)]);
        }
        kv.finish();
    });
}

/// Forgets all history up to now, as an operator of an etcd does.
fn compact_history(kv: &mut Kv) {
    let world = kv.stage.world();
    let outcome = kv.stage.run(async move {
        let query = RangeRequest { key: "x".into(), ..Default::default() }.encode_to_vec();
        let answer = world.ask(1, |_, _, _| Request::Query(query.into())).await;
        let Outcome::Read { reply } = answer else { panic!("{answer:?}") };
        let revision = RangeResponse::decode(reply).unwrap().header.unwrap().revision;
        let kind = CommandKind::Compact(CompactionRequest { revision, physical: false });
        let command = Command::new(kind).encode_to_vec();
        world.ask(1, |_, _, _| Request::Command(command.into())).await
    });
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

/// The lab's store forgets what is overwritten; this one keeps every revision until it is told to
/// forget them. Then the snapshot, a file with header and checksums, holds next to nothing.
#[test]
fn kv_snapshot_size() {
    each_seed(1..=3, |seed| {
        let mut kv = Kv::new(seed, 3, Some(LOG_BYTES));
        let clerk = Clerk::new(&kv, kv.servers());
        for round in 0..200 {
            for number in [2 * round, 2 * round + 1] {
                let piece = Piece { client: 0, number };
                kv.put(&clerk, "x", piece);
                assert_eq!(kv.get(&clerk, "x"), [piece]);
            }
        }
        check_logs(&kv);
        compact_history(&mut kv);
        // Writes that fail make the log as long as the last snapshot, and no history.
        for _ in 0..400 {
            kv.swap_in_vain(&clerk, "x");
        }
        kv.stage.run_for(millis(100));
        check_logs(&kv);
        for server in kv.servers() {
            let size = kv.stage.cluster().snapshot_bytes(server).expect("a snapshot");
            println!("seed {seed}: server {server}: a snapshot of {size} bytes");
            assert!(size <= 500, "a snapshot of {size} bytes");
        }
        kv.finish();
    });
}

#[test]
fn kv_snapshot_recover() {
    let plan = Plan { crashes: true, ..SHORT };
    each_seed(1..=3, |seed| generic(seed, plan));
}

#[test]
fn kv_snapshot_recover_many_clients() {
    let plan = Plan { client_count: 20, crashes: true, ..SHORT };
    each_seed(1..=2, |seed| generic(seed, plan));
}

#[test]
fn kv_snapshot_unreliable() {
    let plan = Plan { client_count: 5, network: NetworkFaults::unreliable, ..SHORT };
    each_seed(1..=6, |seed| generic(seed, plan));
}

#[test]
fn kv_snapshot_unreliable_recover() {
    let plan = Plan { client_count: 5, network: NetworkFaults::unreliable, crashes: true, ..SHORT };
    each_seed(1..=6, |seed| generic(seed, plan));
}

/// Everything that goes wrong, at once.
const STORM: Plan = Plan {
    client_count: 5,
    network: NetworkFaults::unreliable,
    crashes: true,
    partitions: true,
    ..SHORT
};

#[test]
fn kv_snapshot_unreliable_recover_concurrent_partition() {
    each_seed(1..=8, |seed| generic(seed, STORM));
}

#[test]
fn kv_snapshot_unreliable_recover_concurrent_partition_linearizable() {
    let plan = Plan { client_count: 15, server_count: 7, has_random_keys: true, ..STORM };
    each_seed(1..=8, |seed| generic(seed, plan));
}
