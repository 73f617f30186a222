//! What the transport does for peers, and against those who are none: with real sockets, and a
//! peer that is played by the test.

mod addresses;
mod tls;
mod versions;

use super::*;
use crate::runtime::CallerLimit;
use crate::wire::{
    FrameBuffer, Hello, LinkFrame, Reject, Spoken, encode_peer_message, put_frame, put_link_frame,
    take_link_frame,
};
use crate::{Fate, Input, Proposed};
use bytes::{Buf, Bytes};
use quorate_core::{
    Configuration, Entry, Heartbeat, Member, MemberRole, NotAMember, Payload, ProtocolVersion,
    TimeoutNow,
};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_mins(1);
const CLUSTER: u64 = 42;
const US: NodeId = NodeId::new(1);
const PEER: NodeId = NodeId::new(2);
const NEWEST: ProtocolVersion = ProtocolVersion::NEWEST;
/// What is said to a peer who speaks what we do.
const SPOKEN: Option<Spoken> = Some(Spoken { version: NEWEST, newest: NEWEST });

/// Our transport, and the listener of a peer that the test plays.
struct World {
    transport: Transport,
    mailbox: Arc<Mailbox>,
    address: String,
    /// Where nobody speaks TLS.
    plain_address: String,
    peer: TcpListener,
    /// Taken from the mailbox and not yet looked at.
    inputs: Mutex<VecDeque<Input>>,
}

fn member(address: &str) -> Member {
    let address = address.to_owned();
    Member { role: MemberRole::Voter, rank: 0, address, context: Bytes::new() }
}

/// Nothing is known to be committed.
fn membership(configuration: Configuration) -> Membership {
    Membership { configuration: Arc::new(configuration), ..Membership::default() }
}

/// Nobody is given up for being slow: on a busy machine a test may be.
fn patient() -> TransportOptions {
    let never = Duration::from_hours(1);
    TransportOptions {
        connect_timeout: PATIENCE,
        handshake_timeout: PATIENCE,
        control_silence_max: never,
        bulk_silence_max: never,
        ..TransportOptions::default()
    }
}

async fn world_with(options: TransportOptions) -> World {
    world_behind(options, None, "").await
}

/// One whose peer is at an address that begins with `scheme`.
async fn world_behind(options: TransportOptions, security: Option<PeerTls>, scheme: &str) -> World {
    world_of_version(options, security, scheme, NEWEST).await
}

/// One whose program speaks nothing newer than this.
async fn world_of_version(
    options: TransportOptions,
    security: Option<PeerTls>,
    scheme: &str,
    newest: ProtocolVersion,
) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [address, plain_address] =
        [&listener, &plain].map(|socket| socket.local_addr().unwrap().to_string());
    let limit = CallerLimit { count_max: 10, bytes_max: 10 };
    let mailbox = Arc::new(Mailbox::new(limit));
    let address_told = address.clone();
    let identity = LocalIdentity {
        cluster_id: CLUSTER,
        node_id: US,
        storage_id: 7,
        address: address_told,
        newest,
    };
    let metrics = Arc::new(Metrics::default());
    let entrances = vec![
        Entrance { socket: listener, is_plain: false },
        Entrance { socket: plain, is_plain: true },
    ];
    let mut transport =
        Transport::new(identity, options, security, entrances, Arc::clone(&mailbox), metrics);
    let peer_address = format!("{scheme}{}", peer.local_addr().unwrap());
    let members = [(US, member(&address)), (PEER, member(&peer_address))];
    let configuration = Configuration::new(5, members.into());
    transport.set_membership(membership(configuration));
    World { transport, mailbox, address, plain_address, peer, inputs: Mutex::default() }
}

async fn world() -> World {
    world_with(patient()).await
}

/// One end of a connection, played by the test.
struct Wire<S = TcpStream> {
    stream: S,
    buffer: FrameBuffer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S) -> Self {
        Self { stream, buffer: FrameBuffer::new(100 << 20) }
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        put_frame(&mut out, write);
        self.stream.write_all(&out).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn send_link(&mut self, frame: LinkFrame) {
        self.send(|out| put_link_frame(&frame, out)).await;
    }

    async fn send_message(&mut self, message: &PeerMessage) {
        self.send(|out| encode_peer_message(message, NEWEST, out).unwrap()).await;
    }

    /// The next frame's body; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(body) = self.buffer.next_body().unwrap() {
                return Some(body);
            }
            let read =
                timeout(PATIENCE, self.stream.read_buf(self.buffer.received_mut())).await.unwrap();
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    async fn next_link(&mut self) -> LinkFrame {
        take_link_frame(self.next().await.unwrap()).unwrap()
    }

    /// The next message; pings are answered on the way.
    async fn next_message(&mut self) -> Option<PeerMessage> {
        loop {
            let body = self.next().await?;
            if let Ok(LinkFrame::Ping { token }) = take_link_frame(body.clone()) {
                self.send_link(LinkFrame::Pong { token }).await;
                continue;
            }
            return Some(crate::wire::decode_peer_message(body, NEWEST).unwrap());
        }
    }
}

fn hello(channel: Channel) -> Hello {
    Hello {
        version: NEWEST,
        cluster_id: CLUSTER,
        from: PEER,
        to: US,
        storage_id: 8,
        channel,
        configuration_version: 5,
        address: "127.0.0.1:1".to_owned(),
    }
}

impl World {
    async fn call(&self, hello: Hello) -> (Wire, LinkFrame) {
        let mut wire = Wire::new(TcpStream::connect(&self.address).await.unwrap());
        wire.send_link(LinkFrame::Hello(hello)).await;
        let answer = wire.next_link().await;
        (wire, answer)
    }

    /// A connection from the peer to us.
    async fn call_in(&self, channel: Channel) -> Wire {
        let (wire, answer) = self.call(hello(channel)).await;
        assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
        wire
    }

    /// Our connection to the peer, of this channel.
    async fn called(&self, channel: Channel) -> Wire {
        loop {
            let accepted = timeout(PATIENCE, self.peer.accept()).await.unwrap();
            let mut wire = Wire::new(accepted.unwrap().0);
            let LinkFrame::Hello(hello) = wire.next_link().await else { panic!("not a hello") };
            assert_eq!((hello.from, hello.to, hello.cluster_id), (US, PEER, CLUSTER));
            wire.send_link(LinkFrame::Welcome { storage_id: 8, spoken: SPOKEN }).await;
            if hello.channel == channel {
                return wire;
            }
        }
    }

    /// The next thing that the event loop would see.
    async fn input(&self) -> Input {
        let mut taken = Vec::new();
        loop {
            if let Some(input) = self.inputs.lock().unwrap().pop_front() {
                return input;
            }
            timeout(PATIENCE, self.mailbox.filled()).await.unwrap();
            self.mailbox.take(&mut taken);
            self.inputs.lock().unwrap().extend(taken.drain(..));
        }
    }

    /// Sends until the connection is up and something arrives.
    async fn send_until_heard<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        message: &PeerMessage,
    ) -> PeerMessage {
        loop {
            self.transport.send(PEER, message.clone());
            self.transport.flush();
            tokio::select! {
                heard = wire.next_message() => return heard.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    }
}

fn heartbeat(round: u64) -> PeerMessage {
    let term = Term::new(3);
    let leader_commit = LogIndex::new(1);
    PeerMessage::Raft(Message::Heartbeat(Heartbeat { term, leader_commit, round: Some(round) }))
}

fn append(bytes: usize) -> PeerMessage {
    let entry = Entry {
        log_id: LogId::new(Term::new(1), LogIndex::new(1)),
        payload: Payload::Command(vec![1; bytes].into()),
    };
    PeerMessage::Raft(Message::AppendEntries(AppendEntries {
        term: Term::new(1),
        prev_log: LogId::ORIGIN,
        entries: vec![entry],
        leader_commit: LogIndex::ORIGIN,
    }))
}

fn forward(bytes: usize) -> PeerMessage {
    let request = Forwarded { request: 1, proposed: Proposed::Command(vec![1; bytes].into()) };
    PeerMessage::Forward { term: Term::new(1), incarnation: 1, requests: vec![request] }
}

#[test]
fn a_batch_is_cut_so_that_no_piece_exceeds_a_frame_and_nothing_is_lost() {
    let sizes = vec![400_000, 400_000, 400_000, 3_000_000, 10, 10];
    let cut = pieces(sizes.clone(), |size| *size);
    assert_eq!(cut.concat(), sizes);
    assert_eq!(cut, [vec![400_000, 400_000], vec![400_000], vec![3_000_000], vec![10, 10]]);
}

#[tokio::test]
async fn messages_from_a_peer_reach_the_driver() {
    let world = world().await;
    let mut wire = world.call_in(Channel::Control).await;
    wire.send_message(&heartbeat(1)).await;
    let input = world.input().await;
    assert!(
        matches!(&input, Input::Peer { from: PEER, message, .. } if *message == heartbeat(1)),
        "{input:?}"
    );
}

#[tokio::test]
async fn small_messages_go_by_the_control_connection_and_bulk_by_the_other() {
    let mut world = world().await;
    let mut bulk = world.called(Channel::Bulk).await;
    assert_eq!(world.send_until_heard(&mut bulk, &append(10)).await, append(10));
    let mut world = self::world().await;
    let mut control = world.called(Channel::Control).await;
    assert_eq!(world.send_until_heard(&mut control, &heartbeat(1)).await, heartbeat(1));
}

#[tokio::test]
async fn the_call_to_succeed_is_sent_behind_the_entries_and_the_last_words_are_waited_for() {
    let mut world = world().await;
    let mut bulk = world.called(Channel::Bulk).await;
    world.send_until_heard(&mut bulk, &forward(10)).await;
    // More than is written at once.
    let entries = append(10 << 20);
    let call = PeerMessage::Raft(Message::TimeoutNow(TimeoutNow { term: Term::new(1) }));
    world.transport.send(PEER, entries.clone());
    world.transport.send(PEER, call.clone());
    let heard = async {
        let mut heard = Vec::new();
        while heard.last() != Some(&call) {
            heard.push(bulk.next_message().await.unwrap());
        }
        heard
    };
    let ((), heard) =
        timeout(PATIENCE, async { tokio::join!(world.transport.drain(), heard) }).await.unwrap();
    // What was sent to see whether the connection is up may still come first.
    assert!(heard.len() >= 2 && heard[heard.len() - 2] == entries, "after {}", heard.len());
}

#[tokio::test]
async fn who_does_not_belong_is_told_why() {
    let world = world().await;
    let good = hello(Channel::Control);
    let version = ProtocolVersion::new(ProtocolVersion::OLDEST.get() - 1);
    let stranger = NodeId::new(9);
    let cases = [
        (
            Hello { version, ..good.clone() },
            Reject::Version { expected: ProtocolVersion::OLDEST, got: version, range: None },
        ),
        (Hello { cluster_id: 1, ..good.clone() }, Reject::Cluster { expected: CLUSTER, got: 1 }),
        (Hello { to: stranger, ..good.clone() }, Reject::Target { expected: US, got: stranger }),
        (Hello { from: US, ..good.clone() }, Reject::SameNode { node: US }),
        (
            Hello { from: stranger, ..good.clone() },
            Reject::Sender { from: stranger, configuration_version: 5 },
        ),
    ];
    for (hello, reject) in cases {
        let (mut wire, answer) = world.call(hello).await;
        assert_eq!(answer, LinkFrame::Reject(reject));
        assert_eq!(wire.next().await, None, "and hung up on");
    }
}

#[tokio::test]
async fn a_member_of_a_newer_configuration_is_let_in_and_answered_where_it_listens() {
    let mut world = world().await;
    let newcomer = NodeId::new(9);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hello = Hello {
        from: newcomer,
        configuration_version: 6,
        address: listener.local_addr().unwrap().to_string(),
        ..hello(Channel::Control)
    };
    let (_wire, answer) = world.call(hello).await;
    assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
    let accepted = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let LinkFrame::Hello(back) = Wire::new(accepted.0).next_link().await else { panic!() };
    assert_eq!(back.to, newcomer);

    // Once our configuration is as new and still does not have it, it is forgotten.
    let configuration = Configuration::new(6, [(US, member(""))].into());
    world.transport.set_membership(membership(configuration));
    assert!(world.transport.hub.peer(newcomer).is_none());
}

#[tokio::test]
async fn a_caller_that_is_removed_by_a_committed_configuration_is_told_where_it_stands() {
    let mut world = world().await;
    let (from, version) = (NodeId::new(9), 5);
    let position = LogId::new(Term::new(2), LogIndex::new(40));
    let committed = Arc::new(Configuration::new(version, [(US, member(""))].into()));
    let mut known = membership(Configuration::clone(&committed));
    (known.committed, known.position) = (committed, position);
    world.transport.set_membership(known);
    let asked =
        |configuration_version| Hello { from, configuration_version, ..hello(Channel::Control) };
    for older in [4, 5] {
        let (_, answer) = world.call(asked(older)).await;
        assert_eq!(answer, LinkFrame::Reject(Reject::Removed { from, version, position }));
    }
    let (_, answer) = world.call(asked(6)).await;
    assert_eq!(
        answer,
        LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN },
        "it may have been added since"
    );
}

#[tokio::test]
async fn a_node_that_is_turned_away_as_removed_tells_its_core() {
    let world = world().await;
    let position = LogId::new(Term::new(2), LogIndex::new(40));
    let (stream, _) = timeout(PATIENCE, world.peer.accept()).await.unwrap().unwrap();
    let mut wire = Wire::new(stream);
    let LinkFrame::Hello(hello) = wire.next_link().await else { panic!() };
    let reject = Reject::Removed { from: hello.from, version: 9, position };
    wire.send(|out| put_link_frame(&LinkFrame::Reject(reject), out)).await;
    let input = world.input().await;
    let told = NotAMember { term: Term::new(0), version: 9, position };
    let expected = PeerMessage::Raft(Message::NotAMember(told));
    assert!(matches!(&input, Input::Peer { from: PEER, message, .. } if *message == expected));
}

#[tokio::test]
async fn a_malformed_message_ends_its_connection_and_no_other() {
    let world = world().await;
    let mut control = world.call_in(Channel::Control).await;
    let mut bulk = world.call_in(Channel::Bulk).await;
    bulk.send(|out| out.extend_from_slice(&[0x03, 1, 2, 3])).await;
    assert_eq!(bulk.next().await, None);
    let input = world.input().await;
    assert!(matches!(input, Input::Disconnected { peer: PEER }), "{input:?}");
    control.send_message(&heartbeat(1)).await;
    assert!(matches!(world.input().await, Input::Peer { .. }));
    // Nothing is held against the peer.
    let mut bulk = world.call_in(Channel::Bulk).await;
    bulk.send_message(&append(10)).await;
    assert!(matches!(world.input().await, Input::Peer { .. }));
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_refused_by_its_header() {
    let options = TransportOptions { frame_bytes_max: 1000, ..patient() };
    let world = world_with(options).await;
    let mut wire = world.call_in(Channel::Control).await;
    wire.stream.write_all(&[0xff; 8]).await.unwrap();
    assert_eq!(wire.next().await, None);
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_an_older_one() {
    let world = world().await;
    let mut older = world.call_in(Channel::Control).await;
    let mut newer = world.call_in(Channel::Control).await;
    assert_eq!(older.next().await, None);
    newer.send_message(&heartbeat(1)).await;
    assert!(matches!(world.input().await, Input::Peer { .. }));
}

#[tokio::test]
async fn pings_are_answered_on_the_connection_that_they_come_by() {
    let world = world().await;
    let mut wire = world.call_in(Channel::Bulk).await;
    wire.send_link(LinkFrame::Ping { token: 99 }).await;
    assert_eq!(wire.next_link().await, LinkFrame::Pong { token: 99 });
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_called_anew() {
    let options = TransportOptions {
        ping_interval: Duration::from_millis(5),
        control_silence_max: Duration::from_millis(20),
        ..patient()
    };
    let world = world_with(options).await;
    let mut silent = world.called(Channel::Control).await;
    while silent.next().await.is_some() {}
    world.called(Channel::Control).await;
}

#[tokio::test]
async fn while_the_node_is_behind_bulk_waits_and_control_does_not() {
    let options = TransportOptions { intake_bytes_max: 100, ..patient() };
    let world = world_with(options).await;
    let mut bulk = world.call_in(Channel::Bulk).await;
    let mut control = world.call_in(Channel::Control).await;
    world.transport.set_intake(101);
    // The connection may have been waiting for one frame already when the gate fell.
    bulk.send_message(&append(10)).await;
    bulk.send_message(&append(11)).await;
    control.send_message(&heartbeat(1)).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&heartbeat(1)) {
        let Input::Peer { message, .. } = world.input().await else { panic!() };
        heard.push(message);
    }
    assert!(!heard.contains(&append(11)), "bulk beyond the limit was read");
    world.transport.set_intake(100);
    while heard.last() != Some(&append(11)) {
        let Input::Peer { message, .. } = world.input().await else { panic!() };
        heard.push(message);
    }
}

#[tokio::test]
async fn what_a_broken_connection_owed_is_reported_and_what_raft_repeats_is_not() {
    let mut world = world().await;
    let mut bulk = world.called(Channel::Bulk).await;
    assert_eq!(world.send_until_heard(&mut bulk, &forward(10)).await, forward(10));
    drop(bulk);
    let input = world.input().await;
    assert!(matches!(input, Input::Disconnected { peer: PEER }), "{input:?}");
}

/// One in which every connection has held for long enough to be worth a word.
async fn world_of_lasting_connections() -> World {
    let reconnect_delay_min = Duration::from_nanos(1);
    world_with(TransportOptions { reconnect_delay_min, ..TransportOptions::default() }).await
}

#[tokio::test]
async fn a_peer_where_nobody_listens_any_more_is_called_gone() {
    let mut world = world_of_lasting_connections().await;
    let mut control = world.called(Channel::Control).await;
    world.send_until_heard(&mut control, &heartbeat(1)).await;
    world.peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(control);
    let input = world.input().await;
    assert!(matches!(input, Input::PeerGone { peer: PEER }), "{input:?}");
}

#[tokio::test]
async fn a_peer_that_hangs_up_and_listens_is_called_again_and_not_called_gone() {
    let mut world = world_of_lasting_connections().await;
    for _ in 0..3 {
        let mut control = world.called(Channel::Control).await;
        world.send_until_heard(&mut control, &heartbeat(1)).await;
    }
    let mut back = world.call_in(Channel::Control).await;
    back.send_message(&heartbeat(1)).await;
    let input = world.input().await;
    assert!(matches!(input, Input::Peer { .. }), "{input:?}");
}

#[tokio::test]
async fn a_forwarded_command_for_somebody_unknown_is_reported_at_once() {
    let mut world = world().await;
    world.transport.send(NodeId::new(77), forward(10));
    let input = world.input().await;
    assert!(matches!(input, Input::Disconnected { peer } if peer == NodeId::new(77)), "{input:?}");
}

#[tokio::test]
async fn a_queue_at_its_limit_drops_what_raft_repeats_and_hangs_up_over_what_it_does_not() {
    let options = TransportOptions { queue_bytes_max: 1 << 20, ..patient() };
    let mut world = world_with(options).await;
    let mut bulk = world.called(Channel::Bulk).await;
    // Wait until the connection is up.
    world.send_until_heard(&mut bulk, &append(10)).await;
    // The peer does not read: the kernel's buffers fill, and then our queue.
    let dropped = |world: &World| world.transport.hub.metrics.peer(PEER).dropped_messages.get();
    let before = dropped(&world);
    while dropped(&world) == before {
        world.transport.send(PEER, append(1 << 20));
        world.transport.flush();
    }
    // A forwarded command must not vanish like that.
    world.transport.send(PEER, forward(10));
    let input = world.input().await;
    assert!(matches!(input, Input::Disconnected { peer: PEER }), "{input:?}");
}

#[tokio::test]
async fn a_large_batch_of_replies_arrives_in_pieces_and_whole() {
    let mut world = world().await;
    let mut bulk = world.called(Channel::Bulk).await;
    world.send_until_heard(&mut bulk, &append(10)).await;
    let reply = Bytes::from(vec![5; 700_000]);
    let fate = Fate::Applied { log_id: LogId::ORIGIN, reply };
    let replies: Vec<_> = (0..5).map(|request| (request, fate.clone())).collect();
    world.transport.send(PEER, PeerMessage::ForwardReplies { incarnation: 1, replies });
    world.transport.flush();
    let mut requests = Vec::new();
    while requests.len() < 5 {
        match bulk.next_message().await.unwrap() {
            PeerMessage::ForwardReplies { incarnation: 1, replies } => {
                requests.extend(replies.into_iter().map(|(request, _)| request));
            }
            // Of those sent until one was heard.
            other => assert_eq!(other, append(10)),
        }
    }
    assert_eq!(requests, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn equal_entries_for_several_peers_are_encoded_once_and_unequal_ones_are_not_mixed_up() {
    let mut encoded = EncodedAppend::default();
    let mut frames = Vec::new();
    for message in [append(10), append(10)] {
        let PeerMessage::Raft(Message::AppendEntries(append)) = message else { panic!() };
        let mut later = append.clone();
        later.leader_commit = LogIndex::new(1);
        for (append, message) in [(append.clone(), append), (later.clone(), later)] {
            encoded.encode(append);
            let mut frame = encoded.frame.clone();
            frame.advance(8);
            let decoded = crate::wire::decode_peer_message(frame.freeze(), NEWEST).unwrap();
            assert_eq!(decoded, PeerMessage::Raft(Message::AppendEntries(message)));
            frames.push(encoded.frame.clone());
        }
    }
    assert_eq!(frames[0], frames[2]);
}
