//! Peers with several addresses, and a node that listens at several.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where nobody listens.
const DEAD: &str = "127.0.0.1:1";

/// Somebody who hears out whoever calls and gives each this answer, if any, before it hangs up. It counts.
struct Stranger {
    address: String,
    calls: Arc<AtomicUsize>,
}

impl Stranger {
    async fn with(answer: Option<Reject>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let mut wire = Wire::new(listener.accept().await.unwrap().0);
                count.fetch_add(1, Ordering::Relaxed);
                wire.next().await;
                if let Some(reject) = answer.clone() {
                    wire.send_link(LinkFrame::Reject(reject)).await;
                }
            }
        });
        Self { address, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl World {
    /// The peer is at these addresses now, and at its own behind them.
    fn move_peer_behind(&mut self, others: &[&str]) {
        let own = self.peer.local_addr().unwrap().to_string();
        let address = [others, &[own.as_str()]].concat().join(",");
        let members = [(US, member(&self.address)), (PEER, member(&address))];
        self.transport.set_membership(membership(Configuration::new(6, members.into())));
    }

    /// Both of our connections to the peer.
    async fn both_called(&self) -> Vec<Wire> {
        let mut wires: Vec<(Channel, Wire)> = Vec::new();
        while wires.len() < 2 {
            let accepted = timeout(PATIENCE, self.peer.accept()).await.unwrap();
            let mut wire = Wire::new(accepted.unwrap().0);
            let LinkFrame::Hello(hello) = wire.next_link().await else { panic!("not a hello") };
            assert!(wires.iter().all(|(channel, _)| *channel != hello.channel));
            wire.send_link(LinkFrame::Welcome { storage_id: 8, spoken: SPOKEN }).await;
            wires.push((hello.channel, wire));
        }
        wires.into_iter().map(|(_, wire)| wire).collect()
    }
}

/// A world whose peer is at these addresses first. It has called nobody yet: no task of it has run.
async fn world_behind_others(others: &[&str]) -> World {
    let mut world = world().await;
    // Forgets the peer, and meets it anew.
    let alone = Configuration::new(5, [(US, member(&world.address))].into());
    world.transport.set_membership(membership(alone));
    world.move_peer_behind(others);
    world
}

#[tokio::test]
async fn a_peer_whose_first_addresses_are_dead_or_somebody_elses_is_reached_at_the_next() {
    let other = Reject::Target { expected: NodeId::new(9), got: PEER };
    let (other, silent) = (Stranger::with(Some(other)).await, Stranger::with(None).await);
    let mut world = world_behind_others(&[DEAD, &other.address, &silent.address]).await;
    let mut control = world.called(Channel::Control).await;
    assert_eq!(world.send_until_heard(&mut control, &heartbeat(1)).await, heartbeat(1));
    assert!(other.calls() > 0 && silent.calls() > 0, "each had its turn before");
}

#[tokio::test]
async fn the_address_that_led_there_is_the_first_to_be_tried_again() {
    let silent = Stranger::with(None).await;
    let world = world_behind_others(&[&silent.address]).await;
    let wires = world.both_called().await;
    assert_eq!(silent.calls(), 2, "once for each connection");
    drop(wires);
    world.both_called().await;
    assert_eq!(silent.calls(), 2, "it had no turn again");
}

#[tokio::test]
async fn a_peer_that_moves_to_several_addresses_is_called_there() {
    let mut world = world_behind_others(&[]).await;
    let wires = world.both_called().await;
    world.move_peer_behind(&[DEAD]);
    drop(wires);
    world.both_called().await;
}

#[tokio::test]
async fn while_a_peer_moves_the_addresses_that_it_had_are_not_gone_through_to_the_end() {
    let (slow, later) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), Stranger::with(None).await);
    let first = slow.local_addr().unwrap().to_string();
    let mut world = world_behind_others(&[&first, &later.address]).await;
    let mut held = Vec::new();
    while held.len() < 2 {
        let mut wire = Wire::new(timeout(PATIENCE, slow.accept()).await.unwrap().unwrap().0);
        wire.next_link().await;
        held.push(wire);
    }
    world.move_peer_behind(&[]);
    drop(held);
    world.both_called().await;
    assert_eq!(later.calls(), 0);
}

#[tokio::test]
async fn a_removal_that_is_heard_at_any_address_reaches_the_core() {
    let position = LogId::new(Term::new(2), LogIndex::new(40));
    let removed = Stranger::with(Some(Reject::Removed { from: US, version: 9, position })).await;
    let mut world = world_behind_others(&[]).await;
    let members =
        [(US, member(&world.address)), (PEER, member(&format!("{DEAD},{}", removed.address)))];
    world.transport.set_membership(membership(Configuration::new(7, members.into())));
    loop {
        if let Input::Peer { from: PEER, message, .. } = world.input().await {
            let told = NotAMember { term: Term::new(0), version: 9, position };
            assert_eq!(message, PeerMessage::Raft(Message::NotAMember(told)));
            return;
        }
    }
}

#[tokio::test]
async fn callers_are_let_in_at_every_address() {
    let world = world().await;
    for address in [&world.address, &world.plain_address] {
        let mut wire = Wire::new(TcpStream::connect(address).await.unwrap());
        wire.send_link(LinkFrame::Hello(hello(Channel::Control))).await;
        assert_eq!(wire.next_link().await, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
    }
}

#[tokio::test]
async fn one_of_several_addresses_is_enough_to_ask_and_with_none_each_is_complained_of() {
    let (world, silent) = (world().await, Stranger::with(None).await);
    let all = format!("{DEAD},{},{}", silent.address, world.address);
    let view = ask_cluster(&all, None, PATIENCE).await.unwrap();
    assert_eq!((view.cluster_id, view.node_id), (CLUSTER, US));
    assert!(silent.calls() > 0);
    let none = ask_cluster(&format!("{DEAD},{}", silent.address), None, PATIENCE).await;
    let said = none.unwrap_err().to_string();
    for words in [format!("{DEAD}: "), format!("{}: the other side hung up", silent.address)] {
        assert!(said.contains(&words), "expected `{words}` in `{said}`");
    }
}
