use super::*;
use crate::rng::Chance;

const ONE: NodeId = NodeId::new(1);
const TWO: NodeId = NodeId::new(2);

fn stream() -> NetworkFaults {
    NetworkFaults { is_stream: true, ..NetworkFaults::calm() }
}

fn at(micros: u64) -> Time {
    Time::from_micros(micros)
}

fn parcel(size: usize) -> Parcel {
    Parcel { size, is_answer: false }
}

/// A frame around this.
fn whole(body: &[u8]) -> Piece {
    Piece { bytes: quorate::wire::frame_of(body), is_end: true }
}

/// A frame around this, in two pieces.
fn halves(body: &[u8]) -> [Piece; 2] {
    let mut bytes = whole(body).bytes;
    let head = bytes.split_to(10);
    [Piece { bytes: head, is_end: false }, Piece { bytes, is_end: true }]
}

/// A network of connections with a frame's worth on its way from one to the other.
fn sending() -> (Network, u64) {
    let mut network = Network::new(stream(), Rng::new(1));
    let connection = network.send(Time::ZERO, ONE, TWO, parcel(100)).connection;
    (network, connection)
}

#[test]
fn a_cut_link_is_cut_in_one_direction_only() {
    let mut network = Network::new(NetworkFaults::calm(), Rng::new(1));
    assert!(network.cut(ONE, TWO));
    assert_eq!(network.send(Time::ZERO, ONE, TWO, parcel(10)), Arrivals::default());
    assert!(network.send(Time::ZERO, TWO, ONE, parcel(10)).first.is_some());
    network.mend_all();
    assert!(network.send(Time::ZERO, ONE, TWO, parcel(10)).first.is_some());
}

#[test]
fn a_wall_stands_between_those_inside_and_those_outside_and_nowhere_else() {
    let mut network = Network::new(NetworkFaults::calm(), Rng::new(1));
    let [three, four] = [3, 4].map(NodeId::new);
    network.wall_in(BTreeSet::from([ONE, TWO]));
    assert!(network.is_cut(ONE, three) && network.is_cut(three, TWO));
    assert!(!network.is_cut(ONE, TWO) && !network.is_cut(three, four));
    network.mend(Time::ZERO, ONE, three);
    assert!(network.is_cut(ONE, three), "what mends links does not open the wall");
    network.mend_all();
    assert!(!network.is_cut(ONE, three));
}

#[test]
fn a_link_that_keeps_its_order_never_lets_messages_overtake() {
    let mut faults = NetworkFaults::calm();
    faults.tail = Chance::percent(30);
    faults.tail_max = Duration::from_secs(1);
    let arrivals = |faults| -> Vec<Time> {
        let mut network = Network::new(faults, Rng::new(1));
        (0..100).filter_map(|_| network.send(Time::ZERO, ONE, TWO, parcel(10)).first).collect()
    };
    assert!(arrivals(faults).is_sorted());
    faults.reorders = true;
    assert!(!arrivals(faults).is_sorted());
    faults.is_stream = true;
    assert!(arrivals(faults).is_sorted(), "a connection keeps its order in any case");
}

#[test]
fn loss_and_duplication_are_counted() {
    let mut faults = NetworkFaults::calm();
    faults.loss = Chance::percent(10);
    faults.duplication = Chance::percent(10);
    let mut network = Network::new(faults, Rng::new(1));
    for _ in 0..1000 {
        network.send(Time::ZERO, ONE, TWO, parcel(10));
    }
    let MessageCounts { sent, lost, duplicated, cut, .. } = network.counts();
    assert_eq!((sent, cut), (1000, 0));
    assert!((50..150).contains(&lost) && (50..150).contains(&duplicated));
}

#[test]
fn a_connection_loses_and_doubles_nothing() {
    let mut faults = stream();
    (faults.loss, faults.duplication) = (Chance::percent(50), Chance::percent(50));
    let mut network = Network::new(faults, Rng::new(1));
    for _ in 0..100 {
        let Arrivals { first, second, .. } = network.send(Time::ZERO, ONE, TWO, parcel(10));
        assert!(first.is_some() && second.is_none());
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_frame_loses_it_and_everything_behind_it() {
    let mut faults = stream();
    (faults.slow, faults.slow_bytes_per_second) = (Chance::ALWAYS, 10_000);
    let mut network = Network::new(faults, Rng::new(1));
    let sent: Vec<Arrivals> =
        (0..3).map(|_| network.send(Time::ZERO, ONE, TWO, parcel(1_000))).collect();
    let body = [7; 992];
    let arrives = |network: &mut Network, frame_at: usize| {
        network.arrives(ONE, TWO, sent[frame_at].connection, whole(&body)).is_some()
    };
    assert!(arrives(&mut network, 0), "what arrived before the break has arrived");
    let middle = at(150_000);
    assert!(sent[0].first.unwrap() < middle && sent[1].first.unwrap() > middle);
    network.break_connection(ONE, TWO, middle, at(200_000));
    let during = network.send(at(160_000), ONE, TWO, parcel(10));
    assert_eq!(during.first, None, "there is no connection");
    let after = network.send(at(200_000), ONE, TWO, parcel(10));
    assert!(network.arrives(ONE, TWO, after.connection, whole(b"new")).is_some());
    assert!(!arrives(&mut network, 1), "torn in the middle");
    assert!(!arrives(&mut network, 2), "behind it");
    assert!(network.arrives(ONE, TWO, after.connection, whole(b"new")).is_some());
    let MessageCounts { torn, broken_off, unconnected, .. } = network.counts();
    assert_eq!((torn, broken_off, unconnected), (1, 2, 1));
    assert_eq!(network.take_misread(), None);
}

#[test]
fn a_frame_in_two_pieces_comes_out_with_the_second() {
    let (mut network, connection) = sending();
    let [head, rest] = halves(b"in two pieces");
    assert_eq!(network.arrives(ONE, TWO, connection, head), None);
    assert_eq!(network.arrives(ONE, TWO, connection, rest).unwrap(), b"in two pieces"[..]);
    assert_eq!(network.take_misread(), None);
}

#[test]
fn half_a_frame_of_a_broken_connection_is_no_part_of_the_next() {
    let (mut network, connection) = sending();
    let [head, rest] = halves(b"in two pieces");
    assert_eq!(network.arrives(ONE, TWO, connection, head), None);
    network.break_connection(ONE, TWO, Time::ZERO, Time::ZERO);
    let next = network.send(Time::ZERO, ONE, TWO, parcel(1)).connection;
    assert_eq!(network.arrives(ONE, TWO, next, whole(b"new")).unwrap(), b"new"[..]);
    assert_eq!(network.arrives(ONE, TWO, connection, rest), None);
    assert_eq!(network.arrives(ONE, TWO, next, whole(b"newer")).unwrap(), b"newer"[..]);
    assert_eq!(network.counts().torn, 1, "the reader was left with half a frame");
    assert_eq!(network.take_misread(), None);
}

#[test]
fn a_receiver_that_dies_reads_nothing_of_what_was_on_its_way() {
    let (mut network, connection) = sending();
    network.receiver_died(TWO, Time::ZERO);
    assert_eq!(network.arrives(ONE, TWO, connection, whole(b"late")), None);
    assert_eq!((network.counts().torn, network.counts().broken_off), (0, 1));
}

#[test]
fn what_is_under_way_arrives_on_the_connection_that_it_was_sent_on_also_when_there_is_a_newer() {
    let (mut network, connection) = sending();
    let [head, rest] = halves(b"in two pieces");
    assert_eq!(network.arrives(ONE, TWO, connection, head), None);
    network.set_faults(stream());
    let next = network.send(Time::ZERO, ONE, TWO, parcel(1)).connection;
    assert_eq!(network.arrives(ONE, TWO, next, whole(b"new")).unwrap(), b"new"[..]);
    assert_eq!(network.arrives(ONE, TWO, connection, rest).unwrap(), b"in two pieces"[..]);
    assert_eq!(network.take_misread(), None);
}

#[test]
fn a_judge_notices_whoever_reads_what_was_not_sent() {
    let (mut network, connection) = sending();
    // As if the reader had kept half a frame of another connection.
    let [head, _] = halves(b"in two pieces");
    network.arrives(ONE, TWO, connection, head);
    network.arrives(ONE, TWO, connection, whole(b"new"));
    assert!(matches!(network.take_misread(), Some((ONE, _))));
    // As if it had made a frame of half a one.
    let early = Piece { is_end: false, ..whole(b"early") };
    network.send(Time::ZERO, TWO, ONE, parcel(1));
    network.arrives(TWO, ONE, 0, early);
    assert!(matches!(network.take_misread(), Some((TWO, Misread::TooEarly { .. }))));
}

#[test]
fn a_cut_holds_back_what_travels_on_a_connection_until_it_is_mended_in_order() {
    let (mut network, connection) = sending();
    network.cut(ONE, TWO);
    let [head, rest] = halves(b"in two pieces");
    for piece in [whole(b"first"), head] {
        assert_eq!(network.arrives(ONE, TWO, connection, piece), None);
    }
    assert_eq!(network.release(ONE, TWO), [""; 0], "there is still a cut");
    assert!(network.mend(Time::ZERO, ONE, TWO).is_some());
    assert_eq!(network.arrives(ONE, TWO, connection, rest), None, "it waits behind the others");
    assert_eq!(network.release(ONE, TWO), ["first", "in two pieces"]);
    assert_eq!(network.arrives(ONE, TWO, connection, whole(b"then")).unwrap(), b"then"[..]);
    assert_eq!(network.take_misread(), None);
}

#[test]
fn what_a_cut_holds_back_is_lost_if_the_connection_breaks_meanwhile() {
    let (mut network, connection) = sending();
    network.cut(ONE, TWO);
    assert_eq!(network.arrives(ONE, TWO, connection, whole(b"held back")), None);
    network.break_connection(ONE, TWO, Time::ZERO, Time::ZERO);
    assert_eq!(network.mend(Time::ZERO, ONE, TWO), None);
    assert_eq!(network.release(ONE, TWO), [""; 0]);
}

#[test]
fn a_slow_link_delays_by_what_it_has_to_carry_and_drops_what_is_too_much() {
    let mut faults = NetworkFaults::calm();
    (faults.slow, faults.slow_bytes_per_second) = (Chance::ALWAYS, 1_000);
    let mut network = Network::new(faults, Rng::new(1));
    let arrival = |network: &mut Network| network.send(Time::ZERO, ONE, TWO, parcel(1_000)).first;
    assert!(arrival(&mut network).unwrap() >= at(1_000_000), "1 kB at 1 kB a second");
    assert!(arrival(&mut network).unwrap() >= at(2_000_000), "behind the first");
    let rest: Vec<Option<Time>> = (0..10).map(|_| arrival(&mut network)).collect();
    assert!(rest[9].is_none(), "the queue is full: {rest:?}");
    assert!(
        network.send(Time::ZERO, TWO, ONE, parcel(1_000)).first.is_some(),
        "the way back is free"
    );
}

#[test]
fn an_omission_takes_what_its_rule_says() {
    let mut network = Network::new(NetworkFaults::calm(), Rng::new(1));
    let passed = |network: &mut Network, omission, size| {
        network.omit(ONE, TWO, omission);
        (0..100)
            .filter(|_| network.send(Time::ZERO, ONE, TWO, parcel(size)).first.is_some())
            .count()
    };
    assert_eq!(passed(&mut network, Some(Omission::EveryNth(4)), 10), 75);
    assert_eq!(passed(&mut network, Some(Omission::LargerThan(1_400)), 1_400), 100);
    assert_eq!(passed(&mut network, Some(Omission::LargerThan(1_400)), 1_401), 0);
    assert!((40..70).contains(&passed(&mut network, Some(Omission::Bursts(10)), 10)));
    assert_eq!(passed(&mut network, None, 10), 100);
}

#[test]
fn stale_copies_arrive_long_after_the_first() {
    let mut faults = NetworkFaults::calm();
    (faults.stale, faults.stale_after_max) = (Chance::ALWAYS, Duration::from_mins(10));
    let mut network = Network::new(faults, Rng::new(1));
    let gaps = (0..100).filter_map(|_| {
        let Arrivals { first, stale, .. } = network.send(Time::ZERO, ONE, TWO, parcel(10));
        Some(stale?.since(first?))
    });
    let longest = gaps.max().unwrap();
    assert!(longest > Duration::from_secs(500), "{longest:?}");
}

#[test]
fn an_unplugged_node_reaches_nobody_and_not_even_its_clients() {
    let mut network = Network::new(NetworkFaults::calm(), Rng::new(1));
    assert!(network.unplug(ONE, true));
    assert!(network.is_cut(ONE, TWO) && network.is_cut(TWO, ONE));
    assert!(network.client_way(Time::ZERO, ONE).is_err());
    assert!(network.client_way(Time::ZERO, TWO).is_ok());
    assert!(network.unplug(ONE, false));
    assert!(!network.is_cut(ONE, TWO));
}

#[test]
fn only_answers_are_held_back() {
    let faults = NetworkFaults { late_answers: Chance::ALWAYS, ..NetworkFaults::calm() };
    let mut network = Network::new(faults, Rng::new(1));
    let question = network.send(Time::ZERO, ONE, TWO, parcel(10)).first.unwrap();
    let answer = Parcel { size: 10, is_answer: true };
    let answer = network.send(Time::ZERO, TWO, ONE, answer).first.unwrap();
    assert!(question < Time::ZERO.after(LATE_ANSWER_MIN));
    assert!(answer >= Time::ZERO.after(LATE_ANSWER_MIN));
}
