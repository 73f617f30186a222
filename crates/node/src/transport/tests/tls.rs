//! The transport over TLS, against a peer that the test plays with another implementation of the same
//! over sockets: who is let in and spoken to, and who is not; handshakes that do not end; files that
//! change.

#[path = "../../../../tls/tests/common/authority.rs"]
mod authority;

use super::*;
use authority::{Authority, Pair};
use quorate_tls::{Tls, TlsFiles};
use std::io;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// What the first record of a handshake begins with.
const HANDSHAKE_BEGINS: &[u8] = &[0x16, 3, 1];

/// Two authorities, of which the second is nobody's.
struct Signers {
    _folder: tempfile::TempDir,
    ours: Authority,
    other: Authority,
}

impl Signers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(folder.path(), "ours");
        let other = Authority::new(folder.path(), "other");
        Self { _folder: folder, ours, other }
    }

    /// Whoever is at this machine's address, signed by our own.
    fn here(&self, name: &str, serial: u64) -> Pair {
        self.ours.issue(name, serial, &["127.0.0.1"])
    }

    /// Shows this, believes our own, and asks for certificates.
    fn files(&self, pair: &Pair) -> TlsFiles {
        TlsFiles {
            cert: Some(pair.cert.clone()),
            key: Some(pair.key.clone()),
            trusted_ca: Some(self.ours.ca.clone()),
            protocols: vec![PEER_PROTOCOL.to_owned()],
            ..TlsFiles::default()
        }
    }

    /// The other end of a connection.
    fn end(&self, pair: &Pair) -> Arc<Tls> {
        load(self.files(pair))
    }

    /// An end that shows nothing.
    fn nobody(&self) -> Arc<Tls> {
        load(TlsFiles { trusted_ca: Some(self.ours.ca.clone()), ..TlsFiles::default() })
    }
}

fn load(files: TlsFiles) -> Arc<Tls> {
    Tls::load(files).unwrap()
}

async fn world_of(options: TransportOptions, files: TlsFiles) -> World {
    let security = PeerTls { tls: load(files), listens: true };
    world_behind(options, Some(security), "https://").await
}

/// A world, and somebody who is welcome there.
async fn welcoming(options: TransportOptions) -> (Signers, World, Arc<Tls>) {
    let signers = Signers::new();
    let (us, friend) = (signers.here("us", 1), signers.here("friend", 2));
    let world = world_of(options, signers.files(&us)).await;
    let friend = signers.end(&friend);
    (signers, world, friend)
}

type TlsWire = Wire<TlsStream<TcpStream>>;

async fn shake_hands(stream: TcpStream, end: &Tls) -> io::Result<TlsWire> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connecting = TlsConnector::from(end.client().unwrap()).connect(name, stream);
    Ok(Wire::new(timeout(PATIENCE, connecting).await.unwrap()?.into()))
}

impl World {
    /// Somebody calls who shows what `end` has. `None` if it is not welcomed.
    async fn welcomes(&self, end: &Tls, channel: Channel) -> Option<TlsWire> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let mut wire = shake_hands(stream, end).await.ok()?;
        let mut out = BytesMut::new();
        put_frame(&mut out, |out| put_link_frame(&LinkFrame::Hello(hello(channel)), out));
        // Who is not believed may be hung up on before.
        let _cut = wire.stream.write_all(&out).await;
        let _cut = wire.stream.flush().await;
        let answer = take_link_frame(wire.next().await?).unwrap();
        assert_eq!(answer, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
        Some(wire)
    }

    /// Our node calls, and meets this end; an error if it does not want to go on.
    async fn meets(&self, end: &Tls) -> io::Result<TlsWire> {
        let (stream, _) = timeout(PATIENCE, self.peer.accept()).await.unwrap().unwrap();
        let accepting = TlsAcceptor::from(end.server().unwrap()).accept(stream);
        Ok(Wire::new(timeout(PATIENCE, accepting).await.unwrap()?.into()))
    }

    /// The same until it is our connection of this channel.
    async fn meets_on(&self, end: &Tls, channel: Channel) -> TlsWire {
        loop {
            let mut wire = self.meets(end).await.unwrap();
            let LinkFrame::Hello(hello) = wire.next_link().await else { panic!("not a hello") };
            wire.send_link(LinkFrame::Welcome { storage_id: 8, spoken: SPOKEN }).await;
            if hello.channel == channel {
                return wire;
            }
        }
    }
}

/// Everything until the other side ends the connection.
async fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _cut = timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap();
    all
}

#[tokio::test]
async fn two_who_believe_each_other_talk_both_ways() {
    let (_signers, mut world, friend) = welcoming(patient()).await;
    let mut inbound = world.welcomes(&friend, Channel::Control).await.unwrap();
    inbound.send_message(&heartbeat(1)).await;
    let input = world.input().await;
    assert!(matches!(&input, Input::Peer { from: PEER, message, .. } if *message == heartbeat(1)));
    inbound.send_link(LinkFrame::Ping { token: 99 }).await;
    assert_eq!(inbound.next_link().await, LinkFrame::Pong { token: 99 });
    let mut outbound = world.meets_on(&friend, Channel::Control).await;
    assert_eq!(world.send_until_heard(&mut outbound, &heartbeat(2)).await, heartbeat(2));
}

#[tokio::test]
async fn at_a_plain_address_beside_one_with_tls_callers_speak_without_it() {
    let (_signers, world, friend) = welcoming(patient()).await;
    assert!(world.welcomes(&friend, Channel::Control).await.is_some());
    let mut wire = Wire::new(TcpStream::connect(&world.plain_address).await.unwrap());
    wire.send_link(LinkFrame::Hello(hello(Channel::Bulk))).await;
    assert_eq!(wire.next_link().await, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
    let stream = TcpStream::connect(&world.plain_address).await.unwrap();
    assert!(shake_hands(stream, &friend).await.is_err(), "and nobody is there who speaks it");
}

#[tokio::test]
async fn what_is_larger_than_every_buffer_arrives_whole_in_both_directions() {
    let (_signers, mut world, friend) = welcoming(patient()).await;
    let mut inbound = world.welcomes(&friend, Channel::Bulk).await.unwrap();
    let large = append(10 << 20);
    let (input, ()) = tokio::join!(world.input(), inbound.send_message(&large));
    assert!(matches!(input, Input::Peer { message, .. } if message == large));

    let mut outbound = world.meets_on(&friend, Channel::Bulk).await;
    world.send_until_heard(&mut outbound, &forward(10)).await;
    world.transport.send(PEER, large.clone());
    world.transport.send(PEER, forward(7));
    let heard = async {
        let mut heard = Vec::new();
        while heard.last() != Some(&forward(7)) {
            heard.push(outbound.next_message().await.unwrap());
        }
        heard
    };
    let ((), heard) =
        timeout(PATIENCE, async { tokio::join!(world.transport.drain(), heard) }).await.unwrap();
    // What was sent to see whether the connection is up may still come first.
    assert!(heard.len() >= 2 && heard[heard.len() - 2] == large, "after {}", heard.len());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_fills_the_queue_and_what_is_owed_is_reported() {
    let options = TransportOptions { queue_bytes_max: 1 << 20, ..patient() };
    let (_signers, mut world, friend) = welcoming(options).await;
    let mut bulk = world.meets_on(&friend, Channel::Bulk).await;
    world.send_until_heard(&mut bulk, &append(10)).await;
    let dropped = |world: &World| world.transport.hub.metrics.peer(PEER).dropped_messages.get();
    let before = dropped(&world);
    while dropped(&world) == before {
        world.transport.send(PEER, append(1 << 20));
        world.transport.flush();
    }
    world.transport.send(PEER, forward(10));
    let input = world.input().await;
    assert!(matches!(input, Input::Disconnected { peer: PEER }), "{input:?}");
}

#[tokio::test]
async fn a_connection_whose_bytes_come_one_by_one_is_understood() {
    let (_signers, world, friend) = welcoming(patient()).await;
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, address) = (relay.local_addr().unwrap(), world.address.clone());
    tokio::spawn(async move {
        let (caller, _) = relay.accept().await.unwrap();
        let ours = TcpStream::connect(address).await.unwrap();
        ours.set_nodelay(true).unwrap();
        let ((mut from_caller, mut to_caller), (mut from_us, mut to_us)) =
            (caller.into_split(), ours.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_us, &mut to_caller).await });
        let mut byte = [0];
        while from_caller.read_exact(&mut byte).await.is_ok() {
            to_us.write_all(&byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut wire = shake_hands(TcpStream::connect(near).await.unwrap(), &friend).await.unwrap();
    wire.send_link(LinkFrame::Hello(hello(Channel::Bulk))).await;
    assert_eq!(wire.next_link().await, LinkFrame::Welcome { storage_id: 7, spoken: SPOKEN });
    for message in [append(1), append(3000), forward(1)] {
        wire.send_message(&message).await;
        let input = world.input().await;
        assert!(matches!(&input, Input::Peer { message: heard, .. } if *heard == message));
    }
}

#[tokio::test]
async fn who_is_not_believed_or_may_not_come_is_not_listened_to() {
    let signers = Signers::new();
    let us = signers.here("us", 1);
    let (friend, former) = (signers.here("friend", 2), signers.here("former", 3));
    let stranger = signers.other.issue("stranger", 2, &["127.0.0.1"]);
    let lapsed = signers.ours.issue_lapsed("lapsed", 4, &["127.0.0.1"]);
    let elsewhere = signers.ours.issue("elsewhere", 5, &["10.1.2.3"]);
    let unknown = signers.ours.issue("unknown", 6, &["quorate.invalid"]);
    let files = TlsFiles { crl: Some(signers.ours.revoke(&[3])), ..signers.files(&us) };
    let world = world_of(patient(), files.clone()).await;
    for pair in [stranger, lapsed, former, elsewhere.clone(), unknown] {
        let end = signers.end(&pair);
        assert!(world.welcomes(&end, Channel::Control).await.is_none(), "{pair:?}");
    }
    assert!(world.welcomes(&signers.nobody(), Channel::Control).await.is_none());
    let near = signers.ours.issue("near", 7, &["localhost"]);
    for pair in [friend.clone(), near] {
        let end = signers.end(&pair);
        assert!(world.welcomes(&end, Channel::Control).await.is_some(), "{pair:?}");
    }

    let names = TlsFiles { allowed_cns: vec!["friend".to_owned()], ..files.clone() };
    let world = world_of(patient(), names).await;
    assert!(world.welcomes(&signers.end(&friend), Channel::Control).await.is_some());
    assert!(world.welcomes(&signers.end(&us), Channel::Control).await.is_none());

    let from_anywhere = TlsFiles { skip_san_check: true, ..files };
    let world = world_of(patient(), from_anywhere).await;
    assert!(world.welcomes(&signers.end(&elsewhere), Channel::Control).await.is_some());
}

#[tokio::test]
async fn who_answers_with_a_certificate_of_another_is_not_spoken_to() {
    let signers = Signers::new();
    let us = signers.here("us", 1);
    let files = TlsFiles { crl: Some(signers.ours.revoke(&[3])), ..signers.files(&us) };
    let stranger = signers.other.issue("stranger", 2, &["127.0.0.1"]);
    let lapsed = signers.ours.issue_lapsed("lapsed", 4, &["127.0.0.1"]);
    let elsewhere = signers.ours.issue("127.0.0.1", 5, &["elsewhere.example"]);
    for pair in [stranger, lapsed, elsewhere] {
        let world = world_of(patient(), files.clone()).await;
        assert!(world.meets(&signers.end(&pair)).await.is_err(), "{pair:?}");
    }
    // Believed by the handshake, and refused for what the lists say.
    let former = signers.here("former", 3);
    let world = world_of(patient(), files.clone()).await;
    let mut wire = world.meets(&signers.end(&former)).await.unwrap();
    assert_eq!(wire.next().await, None);
    let names = TlsFiles { allowed_cns: vec!["somebody".to_owned()], ..files };
    let world = world_of(patient(), names).await;
    let mut wire = world.meets(&signers.end(&us)).await.unwrap();
    assert_eq!(wire.next().await, None);
}

#[tokio::test]
async fn plain_and_secure_do_not_mix_and_who_asks_is_told_what_to_change() {
    let (_signers, secure, friend) = welcoming(patient()).await;
    let mut wire = Wire::new(TcpStream::connect(&secure.address).await.unwrap());
    wire.send_link(LinkFrame::Hello(hello(Channel::Control))).await;
    assert_eq!(wire.next().await, None);
    let plain = world().await;
    let stream = TcpStream::connect(&plain.address).await.unwrap();
    assert!(shake_hands(stream, &friend).await.is_err());

    let ask = async |world: &World, scheme: &str, tls: Option<&Arc<Tls>>| {
        let asked = ask_cluster(&format!("{scheme}{}", world.address), tls, PATIENCE).await;
        asked.map(|_| ()).map_err(|error| error.reason)
    };
    assert_eq!(ask(&secure, "https://", Some(&friend)).await, Ok(()));
    assert_eq!(ask(&plain, "", Some(&friend)).await, Ok(()));
    for (world, scheme, tls, advice) in [
        (&secure, "", None, "if it speaks TLS, its address must begin with https://"),
        (&plain, "https://", Some(&friend), "if it speaks without TLS, its URL must say http"),
        (&secure, "https://", None, "this node has no TLS settings"),
    ] {
        let reason = ask(world, scheme, tls).await.unwrap_err();
        assert!(reason.contains(advice), "expected `{advice}` in `{reason}`");
    }
}

#[tokio::test]
async fn each_side_says_what_is_wrong_with_the_other() {
    let (signers, world, friend) = welcoming(patient()).await;
    let reason = async |address: &str, tls: &Arc<Tls>| {
        ask_cluster(address, Some(tls), PATIENCE).await.unwrap_err().reason
    };
    let address = format!("https://{}", world.address);
    let name = address.replace("127.0.0.1", "localhost");
    let said = reason(&name, &friend).await;
    assert!(said.contains("and not for `localhost`, the host of its peer URL"), "{said}");
    let strict =
        load(TlsFiles { trusted_ca: Some(signers.other.ca.clone()), ..TlsFiles::default() });
    let said = reason(&address, &strict).await;
    assert!(said.contains("add its CA to the trusted ones"), "{said}");
    let stranger = signers.end(&signers.other.issue("stranger", 2, &["127.0.0.1"]));
    let said = reason(&address, &stranger).await;
    assert!(said.contains("its log may say why") || said.contains("its log says why"), "{said}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let options = TransportOptions { handshake_timeout: Duration::from_millis(20), ..patient() };
    let (_signers, world, _) = welcoming(options).await;
    for begun in [&b""[..], HANDSHAKE_BEGINS] {
        let mut stream = TcpStream::connect(&world.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        assert_eq!(rest_of(stream).await, b"");
    }
}

#[tokio::test]
async fn a_peer_that_never_ends_its_handshake_is_called_again() {
    let options = TransportOptions { handshake_timeout: Duration::from_millis(20), ..patient() };
    let (_signers, world, _) = welcoming(options).await;
    let mut calls = Vec::new();
    // More often than there are connections.
    for _ in 0..5 {
        calls.push(timeout(PATIENCE, world.peer.accept()).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn handshakes_that_never_end_give_way_to_those_that_do() {
    let options = TransportOptions {
        handshake_timeout: Duration::from_hours(1),
        handshakes_count_max: 2,
        ..patient()
    };
    let (_signers, world, friend) = welcoming(options).await;
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(&world.address).await.unwrap();
        stream.write_all(HANDSHAKE_BEGINS).await.unwrap();
        unfinished.push(stream);
    }
    assert!(world.welcomes(&friend, Channel::Control).await.is_some());
    // With the last one there were two too many.
    for oldest in unfinished.drain(..2) {
        assert_eq!(rest_of(oldest).await, b"");
    }
}

#[tokio::test]
async fn a_handshake_that_is_cut_short_anywhere_harms_nobody() {
    let (_signers, world, friend) = welcoming(patient()).await;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = rustls::ClientConnection::new(friend.client().unwrap(), name).unwrap();
    let mut opening = Vec::new();
    client.write_tls(&mut opening).unwrap();
    for cut_at in [0, 1, 3, 5, 6, opening.len() / 2, opening.len() - 1, opening.len()] {
        let mut stream = TcpStream::connect(&world.address).await.unwrap();
        stream.write_all(&opening[..cut_at]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answered = rest_of(stream).await;
        assert!(answered.is_empty() || cut_at == opening.len(), "{cut_at}: {answered:?}");
    }
    // Noise after a good beginning.
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(&[&opening[..], &[0x17, 3, 3, 0, 1, 9].repeat(50)].concat()).await.unwrap();
    rest_of(stream).await;
    assert!(world.welcomes(&friend, Channel::Control).await.is_some());
}

#[tokio::test]
async fn what_the_files_say_now_holds_for_the_next_connection_and_leaves_the_others_alone() {
    let signers = Signers::new();
    let (us, friend) = (signers.here("us", 1), signers.here("friend", 2));
    let options = TransportOptions { tls_refresh_interval: Duration::from_millis(10), ..patient() };
    let files = TlsFiles { crl: Some(signers.ours.revoke(&[])), ..signers.files(&us) };
    let world = world_of(options, files).await;
    let end = signers.end(&friend);
    let mut before = world.welcomes(&end, Channel::Control).await.unwrap();
    let shown = |wire: &TlsWire| wire.stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let first = shown(&before);

    signers.here("us", 8);
    // How many attempts that takes is the machine's business.
    loop {
        let wire = world.welcomes(&end, Channel::Bulk).await.unwrap();
        if shown(&wire) != first {
            break;
        }
    }
    signers.ours.revoke(&[friend.serial]);
    while world.welcomes(&end, Channel::Bulk).await.is_some() {}
    before.send_message(&heartbeat(1)).await;
    loop {
        // Connections that were tried are gone again.
        if let Input::Peer { message, .. } = world.input().await {
            assert_eq!(message, heartbeat(1));
            break;
        }
    }
    assert!(world.welcomes(&signers.end(&us), Channel::Bulk).await.is_some());
}
