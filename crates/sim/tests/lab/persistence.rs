//! Part C of the lab: what survives crashes, and agreement on networks that lose, delay and
//! reorder. Nobody takes snapshots here.

use crate::journal::Journal;
use crate::raft::{ELECTION_TIMEOUT, Lab, a_second, agreement, command, lab, long_reordering};
use crate::stage::{World, each_seed, millis};
use bytes::Bytes;
use quorate_sim::NetworkFaults;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

#[test]
fn c_persist1() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(11), 3, true);
        lab.restart_everybody();
        lab.one(&command(12), 3, true);

        let leader = lab.check_one_leader();
        lab.start([leader]);
        lab.one(&command(13), 3, true);

        let leader = lab.check_one_leader();
        lab.disconnect([leader]);
        let index = lab.one(&command(14), 2, true);
        lab.start([leader]);
        lab.wait_for_all(index);

        let leader = lab.check_one_leader();
        let follower = lab.after(leader, 1);
        lab.disconnect([follower]);
        lab.one(&command(15), 2, true);
        lab.start([follower]);
        lab.one(&command(16), 3, true);
        lab.finish();
    });
}

#[test]
fn c_persist2() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 5);
        for round in 0..5 {
            let number = 10 + 3 * round;
            lab.one(&command(number), 5, true);
            let leader = lab.check_one_leader();
            let [a, b, c, d] = [1, 2, 3, 4].map(|steps| lab.after(leader, steps));

            lab.disconnect([a, b]);
            lab.one(&command(number + 1), 3, true);
            lab.disconnect([leader, c, d]);
            lab.start([a, b]);
            lab.run_for(ELECTION_TIMEOUT);
            lab.start([c]);
            lab.one(&command(number + 2), 3, true);
            lab.reconnect([d, leader]);
        }
        lab.one(&command(1000), 5, true);
        lab.finish();
    });
}

#[test]
fn c_persist3() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.one(&command(101), 3, true);
        let leader = lab.check_one_leader();
        let [a, b] = [1, 2].map(|steps| lab.after(leader, steps));
        lab.disconnect([b]);
        lab.one(&command(102), 2, true);

        lab.crash([leader, a]);
        lab.reconnect([b]);
        lab.start([leader]);
        lab.one(&command(103), 2, true);
        lab.start([a]);
        lab.one(&command(104), 3, true);
        lab.finish();
    });
}

/// One of the nodes that are gone comes back, if it is that one which is drawn.
fn bring_back_somebody(lab: &Lab, gone: &mut Vec<u64>) {
    let node = lab.random(lab.nodes().len() as u64) + 1;
    if gone.contains(&node) {
        gone.retain(|other| *other != node);
        if lab.is_up(node) { lab.reconnect([node]) } else { lab.start([node]) }
    }
}

#[test]
fn c_figure8() {
    each_seed(1..=6, |seed| {
        let mut lab = lab(seed, 5);
        lab.agree(1);
        let mut gone = Vec::new();
        for _ in 0..1000 {
            let started = |node: &u64| lab.cluster().propose(*node, lab.any_command()).is_some();
            let leader = lab.nodes().into_iter().rfind(started);
            let pause = if lab.random(1000) < 100 { lab.random(500) } else { lab.random(13) };
            lab.run_for(millis(pause));
            if let Some(leader) = leader {
                lab.crash([leader]);
                gone.push(leader);
            }
            if gone.len() > 2 {
                bring_back_somebody(&lab, &mut gone);
            }
        }
        lab.start(gone);
        lab.agree(5);
        lab.finish();
    });
}

#[test]
fn c_unreliable_agree() {
    each_seed(1..=6, |seed| {
        let mut lab = lab(seed, 5);
        lab.set_network(NetworkFaults::unreliable());
        for round in 1..50 {
            for number in 0..4 {
                let (world, command) = (lab.world(), command(100 * round + number));
                lab.play(async move {
                    agreement(world, command, 1, true).await;
                });
            }
            lab.one(&command(round), 1, true);
        }
        lab.set_network(NetworkFaults::calm());
        lab.run_scripts();
        lab.one(&command(100_000), 5, true);
        lab.finish();
    });
}

#[test]
fn c_figure8_unreliable() {
    each_seed(1..=6, |seed| {
        let mut lab = lab(seed, 5);
        lab.set_network(NetworkFaults::unreliable());
        lab.agree(1);
        let mut gone = Vec::new();
        for round in 0..1000 {
            if round == 200 {
                lab.set_network(long_reordering());
            }
            let started = |node: &u64| lab.cluster().propose(*node, lab.any_command()).is_some();
            let leaders: Vec<u64> = lab.nodes().into_iter().filter(started).collect();
            let leader = leaders.into_iter().rfind(|node| lab.cluster().is_connected(*node));
            let pause = if lab.random(1000) < 100 { lab.random(500) } else { lab.random(13) };
            lab.run_for(millis(pause));
            if let (Some(leader), true) = (leader, lab.random(1000) < 500) {
                lab.disconnect([leader]);
                gone.push(leader);
            }
            if gone.len() > 2 {
                bring_back_somebody(&lab, &mut gone);
            }
        }
        lab.reconnect(lab.nodes());
        let healed_at = lab.now();
        lab.agree(5);
        let lasted_us = lab.now().as_micros() - healed_at.as_micros();
        println!("seed {seed}: all agree after {} ms", lasted_us / 1000);
        lab.finish();
    });
}

/// What a client of the churn has seen committed.
type Noted = Rc<RefCell<Vec<Bytes>>>;

/// Proposes one command after the other wherever it is taken, and notes those that it sees
/// committed where it was told that they stand.
async fn churning_client(world: Rc<World<Journal>>, me: u64, stop: Rc<Cell<bool>>, noted: Noted) {
    while !stop.get() {
        let command = command(world.random(u64::MAX));
        let nodes = world.cluster().node_ids();
        let propose = |node| world.cluster().propose(node, command.clone());
        let started = nodes.into_iter().filter_map(propose).last();
        let Some(log_id) = started else {
            world.sleep(millis(79 + me * 17)).await;
            continue;
        };
        let index = log_id.index.get();
        for pause in [10, 20, 50, 100, 200] {
            if world.cluster().applied_count(index) > 0 {
                if world.cluster().is_committed(index, &command) {
                    noted.borrow_mut().push(command.clone());
                }
                break;
            }
            world.sleep(millis(pause)).await;
        }
    }
}

fn churn(seed: u64, network: NetworkFaults) {
    let mut lab = lab(seed, 5);
    lab.set_network(network);
    let (stop, noted) = (Rc::new(Cell::new(false)), Noted::default());
    for me in 0..3 {
        lab.play(churning_client(lab.world(), me, Rc::clone(&stop), Rc::clone(&noted)));
    }
    for _ in 0..20 {
        if lab.random(1000) < 200 {
            lab.disconnect([lab.random(5) + 1]);
        }
        if lab.random(1000) < 500 {
            let node = lab.random(5) + 1;
            if !lab.is_up(node) {
                lab.start([node]);
            }
            lab.reconnect([node]);
        }
        if lab.random(1000) < 200 {
            lab.crash([lab.random(5) + 1]);
        }
        lab.run_for(ELECTION_TIMEOUT * 7 / 10);
    }
    lab.run_for(ELECTION_TIMEOUT);
    for node in lab.nodes() {
        if lab.is_up(node) { lab.reconnect([node]) } else { lab.start([node]) }
    }
    stop.set(true);
    lab.run_scripts();
    lab.run_for(a_second());
    lab.agree(5);
    println!("seed {seed}: {} commands seen", noted.borrow().len());
    assert!(noted.borrow().len() > 10, "hardly anything was committed");
    for command in noted.borrow().iter() {
        assert!(lab.place_of(command).is_some(), "{command:?} was seen committed and is gone");
    }
    lab.finish();
}

#[test]
fn c_reliable_churn() {
    each_seed(1..=4, |seed| churn(seed, NetworkFaults::calm()));
}

#[test]
fn c_unreliable_churn() {
    each_seed(1..=6, |seed| churn(seed, NetworkFaults::unreliable()));
}
