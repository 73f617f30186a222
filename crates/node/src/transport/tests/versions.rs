//! Which version of the protocol is spoken with whom: with a program that negotiates, with one that
//! speaks one version and turns everybody else away, and with one that is too old.

use super::*;
use crate::wire::SpokenRange;

const FIVE: ProtocolVersion = ProtocolVersion::new(5);
const SIX: ProtocolVersion = ProtocolVersion::new(6);
const SEVEN: ProtocolVersion = ProtocolVersion::new(7);

async fn world_of(newest: ProtocolVersion) -> World {
    world_of_version(patient(), None, "", newest).await
}

/// A configuration of a cluster that speaks this, which is committed or not.
fn speaking(world: &World, cluster_version: ProtocolVersion, is_committed: bool) -> Membership {
    let known = Arc::clone(&world.transport.known.configuration);
    let configuration =
        Arc::new(Configuration { cluster_version, version: 6, ..known.as_ref().clone() });
    let committed = if is_committed { Arc::clone(&configuration) } else { known };
    Membership { configuration, committed, ..Membership::default() }
}

/// What only a cluster of version 6 says.
fn of_version_6() -> PeerMessage {
    let configuration = Configuration { cluster_version: SIX, ..Configuration::default() };
    let term = Term::new(1);
    let log_id = LogId::new(term, LogIndex::new(1));
    let payload = Payload::Configuration(Arc::new(configuration));
    PeerMessage::Raft(Message::AppendEntries(AppendEntries {
        term,
        prev_log: LogId::ORIGIN,
        entries: vec![Entry { log_id, payload }],
        leader_commit: LogIndex::ORIGIN,
    }))
}

impl World {
    /// The next call of ours, whatever it is about.
    async fn next_call(&self) -> (Wire, Hello) {
        let accepted = timeout(PATIENCE, self.peer.accept()).await.unwrap();
        let mut wire = Wire::new(accepted.unwrap().0);
        let LinkFrame::Hello(hello) = wire.next_link().await else { panic!("not a hello") };
        (wire, hello)
    }

    /// Our bulk connection to a peer that speaks version 5 and nothing else.
    async fn called_by_five(&self) -> Wire {
        loop {
            let (mut wire, hello) = self.next_call().await;
            if hello.version != FIVE {
                let reject = Reject::Version { expected: FIVE, got: hello.version, range: None };
                wire.send_link(LinkFrame::Reject(reject)).await;
                continue;
            }
            wire.send_link(LinkFrame::Welcome { storage_id: 8, spoken: None }).await;
            if hello.channel == Channel::Bulk {
                return wire;
            }
        }
    }
}

#[tokio::test]
async fn a_program_that_does_not_negotiate_is_called_again_in_its_own_version_and_told_nothing_newer()
 {
    let mut world = world_of(NEWEST).await;
    let mut bulk = world.called_by_five().await;
    let owed = PeerMessage::Forward { term: Term::new(1), incarnation: 1, requests: Vec::new() };
    // Bulk keeps its order: what comes first would have come before.
    world.transport.send(PEER, of_version_6());
    world.transport.send(PEER, owed.clone());
    world.transport.drain().await;
    assert_eq!(bulk.next_message().await, Some(owed));
    assert!(world.transport.hub.metrics.peer(PEER).dropped_messages.get() > 0);
}

#[tokio::test]
async fn the_lower_of_both_newest_versions_is_spoken() {
    let mut world = world_of(NEWEST).await;
    let (mut wire, hello) = loop {
        let (mut wire, hello) = world.next_call().await;
        if hello.channel == Channel::Bulk {
            break (wire, hello);
        }
        wire.send_link(LinkFrame::Welcome { storage_id: 8, spoken: SPOKEN }).await;
    };
    assert_eq!(hello.version, NEWEST);
    wire.send_link(LinkFrame::Welcome { storage_id: 8, spoken: SPOKEN }).await;
    let owed = PeerMessage::Forward { term: Term::new(1), incarnation: 1, requests: Vec::new() };
    world.transport.send(PEER, owed.clone());
    world.transport.drain().await;
    assert_eq!(wire.next_message().await, Some(owed), "it is up");
    world.transport.send(PEER, of_version_6());
    world.transport.drain().await;
    assert_eq!(wire.next_message().await, Some(of_version_6()));

    // A caller that is newer than we are is told what we speak; one that is older hears its own.
    let hello = hello_of(SEVEN);
    let (_wire, answer) = world.call(hello).await;
    assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
    let (_wire, answer) = world.call(hello_of(FIVE)).await;
    assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: None });
}

fn hello_of(version: ProtocolVersion) -> Hello {
    Hello { version, ..hello(Channel::Control) }
}

#[tokio::test]
async fn a_program_that_is_to_speak_version_5_behaves_as_one_that_knows_no_other() {
    let world = world_of(FIVE).await;
    let (_, answer) = world.call(hello_of(SIX)).await;
    let reject = Reject::Version { expected: FIVE, got: SIX, range: None };
    assert_eq!(answer, LinkFrame::Reject(reject));
    let (_, answer) = world.call(hello_of(FIVE)).await;
    assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: None });
    let (_, hello) = world.next_call().await;
    assert_eq!(hello.version, FIVE);
}

#[tokio::test]
async fn whoever_calls_says_what_it_speaks_and_what_it_says_is_read_as_that() {
    let world = world_of(NEWEST).await;
    let (mut wire, _) = world.call(hello_of(FIVE)).await;
    wire.send_message(&heartbeat(1)).await;
    let input = world.input().await;
    assert!(matches!(input, Input::Peer { from: PEER, version: FIVE, .. }), "{input:?}");
    // It cannot know this.
    wire.send_message(&of_version_6()).await;
    assert_eq!(wire.next().await, None, "hung up on");
}

#[tokio::test]
async fn who_is_older_than_what_the_cluster_speaks_is_refused_once_that_is_committed() {
    let mut world = world_of(NEWEST).await;
    let uncommitted = speaking(&world, SIX, false);
    world.transport.set_membership(uncommitted);
    let (_wire, answer) = world.call(hello_of(FIVE)).await;
    let welcome = LinkFrame::Welcome { storage_id: 7, spoken: None };
    assert_eq!(answer, welcome, "it may have to take that back");

    let committed = speaking(&world, SIX, true);
    world.transport.set_membership(committed);
    let (mut wire, answer) = world.call(hello_of(FIVE)).await;
    let told = Reject::Version { expected: SIX, got: FIVE, range: None };
    assert_eq!(answer, LinkFrame::Reject(told), "in words that it knows");
    assert_eq!(wire.next().await, None);
}

#[tokio::test]
async fn who_negotiates_is_told_that_the_cluster_does_not_go_back() {
    let mut world = world_of(NEWEST).await;
    let committed = speaking(&world, SEVEN, true);
    world.transport.set_membership(committed);
    let (_, answer) = world.call(hello_of(SIX)).await;
    let range = Some(SpokenRange { newest: NEWEST, is_cluster: true });
    let reject = Reject::Version { expected: SEVEN, got: SIX, range };
    assert_eq!(answer, LinkFrame::Reject(reject));
}

#[tokio::test]
async fn connections_of_an_older_version_end_when_the_cluster_speaks_a_newer_one() {
    let mut world = world_of(NEWEST).await;
    let mut outbound = world.called_by_five().await;
    let (mut inbound, _) = world.call(hello_of(FIVE)).await;
    let committed = speaking(&world, SIX, true);
    world.transport.set_membership(committed);
    while let Some(body) = outbound.next().await {
        let is_ping = matches!(take_link_frame(body), Ok(LinkFrame::Ping { .. }));
        assert!(is_ping, "nothing else was said");
    }
    assert_eq!(inbound.next().await, None);
    // In its own version it is not called any more.
    let (mut wire, hello) = world.next_call().await;
    assert_eq!(hello.version, NEWEST);
    let reject = Reject::Version { expected: FIVE, got: hello.version, range: None };
    wire.send_link(LinkFrame::Reject(reject)).await;
    let (_, hello) = world.next_call().await;
    assert_eq!(hello.version, NEWEST);
}

/// It was replaced while it was called in its old version.
#[tokio::test]
async fn who_calls_with_a_newer_version_than_it_is_spoken_to_with_is_called_anew() {
    let world = world_of(NEWEST).await;
    let mut outbound = world.called_by_five().await;
    let (_inbound, answer) = world.call(hello_of(SIX)).await;
    assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
    while outbound.next().await.is_some() {}
    let (_, hello) = world.next_call().await;
    assert_eq!(hello.version, NEWEST);
}

#[tokio::test]
async fn a_question_is_asked_again_in_the_only_version_that_the_other_side_knows() {
    let world = world_of(FIVE).await;
    let view = ask_cluster(&world.address, None, PATIENCE).await.unwrap();
    assert_eq!(view.cluster_id, CLUSTER);
}
