//! The wires between the nodes: which are cut, slow or broken, when (if ever) a frame that is sent
//! now arrives, and what is read at the other end. It must not look into messages.

mod link;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use link::{Omission, Piece};
pub(crate) use reader::{Misread, read_alone, read_garbled};

use crate::counts::MessageCounts;
use crate::faults::NetworkFaults;
use crate::rng::{Chance, Rng};
use bytes::Bytes;
use link::{End, Link, Torn};
use quorate_core::{NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What waits for a slow link at most: more is dropped, as the transport does it.
const QUEUE_BYTES_MAX: u64 = 4 << 10;

/// The chance that a frame on a connection arrives in two pieces.
const TWO_PIECES: Chance = Chance::percent(3);

/// How long a client waits, at most, for what never comes.
const CLIENT_GIVES_UP: Duration = Duration::from_millis(100);

/// A late answer is at least this late...
const LATE_ANSWER_MIN: Duration = Duration::from_millis(200);

/// ...and at most so much more: the maximum is drawn first, then the delay.
const LATE_ANSWER_SPREAD: Duration = Duration::from_secs(2);

/// What matters of a message here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel {
    /// How many bytes it has.
    pub(crate) size: usize,
    /// Whether it answers another one.
    pub(crate) is_answer: bool,
}

/// The network of one world.
#[derive(Debug)]
pub(crate) struct Network {
    faults: NetworkFaults,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that nothing reaches and that reach nothing, their clients included.
    unplugged: BTreeSet<NodeId>,
    /// These see each other and nobody else, and nobody else sees them.
    walled: BTreeSet<NodeId>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    rng: Rng,
    counts: MessageCounts,
    /// The sender of a frame that was read otherwise than it was sent.
    misread: Option<(NodeId, Misread)>,
}

/// When a message arrives: never, once, twice, and much later once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// The first copy, or what [`Self::head`] has left of it.
    pub(crate) first: Option<Time>,
    /// The beginning of the first copy, if that comes in two pieces.
    pub(crate) head: Option<Head>,
    /// The second copy.
    pub(crate) second: Option<Time>,
    /// A copy that only arrives if both ends still live.
    pub(crate) stale: Option<Time>,
    /// The connection that it travels on.
    pub(crate) connection: u64,
}

/// The first of two pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// When it arrives.
    pub(crate) at: Time,
    /// How long it is: at least one byte, and less than the whole.
    pub(crate) bytes: usize,
}

impl Network {
    /// A whole network.
    #[must_use]
    pub(crate) fn new(faults: NetworkFaults, rng: Rng) -> Self {
        Self {
            faults,
            cut: BTreeSet::new(),
            unplugged: BTreeSet::new(),
            walled: BTreeSet::new(),
            links: BTreeMap::new(),
            rng,
            counts: MessageCounts::default(),
            misread: None,
        }
    }

    /// What was read wrong since somebody asked, and whose it was.
    pub(crate) const fn take_misread(&mut self) -> Option<(NodeId, Misread)> {
        self.misread.take()
    }

    /// From now on messages travel like this, on new connections: they need not wait behind what
    /// is still under way on the old ones.
    pub(crate) fn set_faults(&mut self, faults: NetworkFaults) {
        self.faults = faults;
        self.tear(Link::renew);
    }

    /// Cuts a link in one direction; returns whether it was whole.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) -> bool {
        self.cut.insert((from, to))
    }

    /// Mends a link in one direction; returns when [`Self::release`] lets what it has held back go
    /// on, if it has.
    pub(crate) fn mend(&mut self, now: Time, from: NodeId, to: NodeId) -> Option<Time> {
        self.cut.remove(&(from, to));
        let at = one_way(&self.faults, &mut self.rng, now);
        let link = self.links.get(&(from, to))?;
        link.holds_back().then_some(at)
    }

    /// What was held back arrives, in order, and what came later behind it; returns the bodies of
    /// the frames. Nothing, if there is a cut again.
    pub(crate) fn release(&mut self, from: NodeId, to: NodeId) -> Vec<Bytes> {
        if self.is_cut(from, to) {
            return Vec::new();
        }
        let Some(link) = self.links.get_mut(&(from, to)) else { return Vec::new() };
        match link.read_held() {
            Ok(bodies) => bodies,
            Err(error) => {
                self.misread = Some((from, error));
                Vec::new()
            }
        }
    }

    /// Mends every link, and plugs every node in. What was held back is lost, and
    /// the connection with it.
    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
        self.unplugged.clear();
        self.walled.clear();
        self.tear(|link| {
            link.omission = None;
            link.forget_held()
        });
    }

    /// Cuts a node off from everything, or undoes that; returns whether it was otherwise.
    pub(crate) fn unplug(&mut self, node: NodeId, is_out: bool) -> bool {
        if is_out { self.unplugged.insert(node) } else { self.unplugged.remove(&node) }
    }

    /// Whether a node is cut off from everything.
    #[must_use]
    pub(crate) fn is_unplugged(&self, node: NodeId) -> bool {
        self.unplugged.contains(&node)
    }

    /// Cuts every link between these nodes and the others, whatever else is cut or mended.
    pub(crate) fn wall_in(&mut self, nodes: BTreeSet<NodeId>) {
        self.walled = nodes;
    }

    /// Whether nothing passes from one node to another.
    #[must_use]
    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
            || self.is_unplugged(from)
            || self.is_unplugged(to)
            || (!self.walled.is_empty() && self.walled.contains(&from) != self.walled.contains(&to))
    }

    /// What became of the messages so far.
    #[must_use]
    pub(crate) const fn counts(&self) -> MessageCounts {
        self.counts
    }

    /// From now on a link loses what this rule says, or nothing.
    pub(crate) fn omit(&mut self, from: NodeId, to: NodeId, omission: Option<Omission>) {
        self.link(from, to).omission = omission;
    }

    /// A node dies: what was on its way to it is lost with the connections, if there are such, and
    /// nobody reads any of it.
    pub(crate) fn receiver_died(&mut self, node: NodeId, now: Time) {
        if self.faults.is_stream {
            for (_, link) in self.links.iter_mut().filter(|((_, to), _)| *to == node) {
                link.break_off(now, now);
                link.forget_readers();
            }
        }
    }

    /// A node has another disk: nothing that was on its way from it or to it arrives.
    pub(crate) fn replaced(&mut self, node: NodeId) {
        let links = self.links.iter_mut();
        for (_, link) in links.filter(|((from, to), _)| *from == node || *to == node) {
            link.forget_all();
        }
    }

    /// A node starts: its new connections take the place of those on which something of its last
    /// life may still be on its way.
    pub(crate) fn sender_started(&mut self, node: NodeId, now: Time) {
        if self.faults.is_stream {
            self.tear_where(|(from, _)| *from == node, |link| link.break_off(now, now));
        }
    }

    /// The connection from one node to another is gone, and with it what was on its way: all but
    /// the beginning of the frame in the middle, and all behind that. A new one is there at `until`.
    pub(crate) fn break_connection(&mut self, from: NodeId, to: NodeId, now: Time, until: Time) {
        self.link(from, to);
        self.tear_where(|way| *way == (from, to), |link| link.break_off(now, until));
    }

    fn tear(&mut self, how: impl Fn(&mut Link) -> Option<Torn>) {
        self.tear_where(|_| true, how);
    }

    /// Breaks connections; of the first thing that was held back, receivers get the beginning.
    fn tear_where(
        &mut self,
        is_meant: impl Fn(&(NodeId, NodeId)) -> bool,
        how: impl Fn(&mut Link) -> Option<Torn>,
    ) {
        let Self { links, rng, counts, misread, .. } = self;
        for ((from, _), link) in links.iter_mut().filter(|(way, _)| is_meant(way)) {
            let Some(Torn { reader, piece }) = how(link) else { continue };
            match reader.read_torn(&piece, rng) {
                Ok(is_half) => counts.torn += u64::from(is_half),
                Err(error) => *misread = Some((*from, error)),
            }
        }
    }

    /// Sends a message now.
    pub(crate) fn send(&mut self, now: Time, from: NodeId, to: NodeId, parcel: Parcel) -> Arrivals {
        let Parcel { size, is_answer } = parcel;
        let is_cut = self.is_cut(from, to);
        let Self { faults, links, rng, counts, .. } = self;
        counts.sent += 1;
        let link = links.entry((from, to)).or_insert_with(|| Link::new(capacity(faults, rng)));
        if !is_sent(faults, link, rng, counts, now, is_cut, size) {
            return Arrivals::default();
        }
        let Some(through) = link.transmit(now, size, QUEUE_BYTES_MAX) else {
            counts.queue_full += 1;
            return Arrivals::default();
        };
        counts.slowed += u64::from(through > now);
        let through = if is_answer { held_back(faults, rng, through) } else { through };
        let head = head(faults, rng, link, through, size);
        let first = Some(arrival(faults, rng, link, through));
        let is_doubled = !faults.is_stream && rng.happens(faults.duplication);
        let second = is_doubled.then(|| arrival(faults, rng, link, through));
        let stale = rng
            .happens(faults.stale)
            .then(|| now.after(rng.duration(Duration::from_secs(1), faults.stale_after_max)));
        counts.duplicated += u64::from(is_doubled);
        counts.stale += u64::from(stale.is_some());
        Arrivals { first, head, second, stale, connection: link.connection }
    }

    /// A piece has come to the end of its way; returns the body of the frame that it ends. One that
    /// meets a cut on a connection is held back until [`Self::mend`].
    pub(crate) fn arrives(
        &mut self,
        from: NodeId,
        to: NodeId,
        connection: u64,
        piece: Piece,
    ) -> Option<Bytes> {
        let is_cut = self.is_cut(from, to);
        let is_stream = self.faults.is_stream;
        let Self { links, rng, counts, misread, .. } = self;
        let link = links.get_mut(&(from, to))?;
        if is_stream && link.connection == connection && (is_cut || link.holds_back()) {
            // Also what comes later waits, or it would overtake.
            counts.held_back += 1;
            link.hold(piece);
            return None;
        }
        let read = match link.end_of(connection, is_cut) {
            End::Whole(_) if is_cut => return None,
            End::Whole(reader) => reader.read(&piece),
            End::Torn(reader) => {
                counts.broken_off += 1;
                reader.read_torn(&piece, rng).map(|is_half| {
                    counts.torn += u64::from(is_half);
                    None
                })
            }
            End::Lost => {
                counts.broken_off += 1;
                return None;
            }
        };
        read.unwrap_or_else(|error| {
            *misread = Some((from, error));
            None
        })
    }

    /// When something that a client and a node say to each other arrives; or, if it never does,
    /// when the client gives up.
    pub(crate) fn client_way(&mut self, now: Time, node: NodeId) -> Result<Time, Time> {
        if self.is_unplugged(node) || self.rng.happens(self.faults.client_loss) {
            return Err(now.after(self.rng.duration(Duration::ZERO, CLIENT_GIVES_UP)));
        }
        Ok(one_way(&self.faults, &mut self.rng, now))
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let (faults, rng) = (&self.faults, &mut self.rng);
        self.links.entry((from, to)).or_insert_with(|| Link::new(capacity(faults, rng)))
    }
}

/// What a new link carries in a second, if that is little.
fn capacity(faults: &NetworkFaults, rng: &mut Rng) -> Option<u64> {
    rng.happens(faults.slow).then_some(faults.slow_bytes_per_second)
}

/// Whether a message gets away at all. On a connection it does as long as that holds, and what
/// meets a cut waits there; alone it may be lost.
fn is_sent(
    faults: &NetworkFaults,
    link: &mut Link,
    rng: &mut Rng,
    counts: &mut MessageCounts,
    now: Time,
    is_cut: bool,
    size: usize,
) -> bool {
    let lost = if link.down_until > now {
        Some(&mut counts.unconnected)
    } else if faults.is_stream {
        None
    } else if is_cut {
        Some(&mut counts.cut)
    } else if rng.happens(faults.loss) {
        Some(&mut counts.lost)
    } else if link.omits(size, rng) {
        Some(&mut counts.omitted)
    } else {
        None
    };
    match lost {
        Some(count) => {
            *count += 1;
            false
        }
        None => true,
    }
}

/// An answer may be held back, for up to 2.2 s, mostly much less.
fn held_back(faults: &NetworkFaults, rng: &mut Rng, now: Time) -> Time {
    if !rng.happens(faults.late_answers) {
        return now;
    }
    let at_most = rng.duration(Duration::ZERO, LATE_ANSWER_SPREAD);
    now.after(LATE_ANSWER_MIN).after(rng.duration(Duration::ZERO, at_most))
}

fn one_way(faults: &NetworkFaults, rng: &mut Rng, now: Time) -> Time {
    let NetworkFaults { delay_min, delay_mean, jitter_max, .. } = *faults;
    let at = now.after(delay_min).after(rng.wait(delay_mean));
    if jitter_max.is_zero() {
        return at;
    }
    at.after(rng.duration(Duration::ZERO, jitter_max))
}

/// What arrives first of a frame that comes in two pieces.
fn head(
    faults: &NetworkFaults,
    rng: &mut Rng,
    link: &mut Link,
    sent: Time,
    size: usize,
) -> Option<Head> {
    if !faults.is_stream || size < 2 || !rng.happens(TWO_PIECES) {
        return None;
    }
    Some(Head { at: arrival(faults, rng, link, sent), bytes: 1 + rng.index(size - 1) })
}

fn arrival(faults: &NetworkFaults, rng: &mut Rng, link: &mut Link, sent: Time) -> Time {
    let mut at = one_way(faults, rng, sent);
    if rng.happens(faults.tail) {
        at = at.after(rng.duration(Duration::ZERO, faults.tail_max));
    }
    if faults.reorders && !faults.is_stream {
        return at;
    }
    link.latest = at.max(link.latest);
    link.latest
}
