//! One direction between two nodes: its order, its capacity, its connections, and what it loses by
//! rule. Knows nothing of chance's intensities or of the other links.

use super::reader::{Misread, Reader};
use crate::rng::Rng;
use bytes::Bytes;
use quorate_core::Time;
use std::fmt;
use std::time::Duration;

/// Some bytes on their way on a connection: a frame, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What.
    pub(crate) bytes: Bytes,
    /// Whether a frame ends with them.
    pub(crate) is_end: bool,
}

/// A link in one direction.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The latest arrival, for links that keep their order.
    pub(super) latest: Time,
    /// Which connection it is.
    pub(super) connection: u64,
    /// What the receiver has read of it.
    reader: Reader,
    /// Earlier connections of which something may still arrive.
    earlier: Vec<Earlier>,
    /// No connection before this.
    pub(super) down_until: Time,
    /// What it loses.
    pub(super) omission: Option<Omission>,
    bytes_per_second: Option<u64>,
    /// When everything that was sent so far has left.
    busy_until: Time,
    sent_count: u64,
    /// What waits at a cut, in order.
    held: Vec<Piece>,
}

/// A connection in whose place another one is.
#[derive(Debug)]
struct Earlier {
    connection: u64,
    reader: Reader,
    /// It broke while something was on its way: of that the receiver gets the beginning.
    is_broken: bool,
}

/// A connection that broke at once, in the middle of what was held back on it.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) reader: Reader,
    pub(super) piece: Piece,
}

/// What becomes of a piece at the end of its way.
pub(super) enum End<'a> {
    /// It is read.
    Whole(&'a mut Reader),
    /// Its connection broke in the middle of it: its beginning is read, and nothing after that.
    Torn(Reader),
    /// Its connection broke before it.
    Lost,
}

/// A rule by which a link loses messages, unlike chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omission {
    /// One of so many.
    EveryNth(u64),
    /// Whatever is larger than so many bytes, as a path with too small a packet size does it.
    LargerThan(usize),
    /// Runs of about this many, with as long runs between them.
    Bursts(u64),
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryNth(n) => write!(f, "one message in {n}"),
            Self::LargerThan(limit) => write!(f, "every message of more than {limit} bytes"),
            Self::Bursts(length) => write!(f, "messages in runs of {length}"),
        }
    }
}

impl Link {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, ..Self::default() }
    }

    /// A new connection without the old one's burdens. What is under way on that still arrives,
    /// unless something before it was held back.
    pub(super) fn renew(&mut self) -> Option<Torn> {
        let torn = self.forget_held();
        let mut earlier = std::mem::take(&mut self.earlier);
        let (connection, reader) = (self.connection, std::mem::take(&mut self.reader));
        if torn.is_none() {
            earlier.push(Earlier { connection, reader, is_broken: false });
        }
        *self = Self { connection: connection + 1, earlier, ..Self::default() };
        torn
    }

    /// Sends so many bytes, behind everything that was sent before; returns when the last of them
    /// has left, or `None` if more than `queue_bytes_max` would wait.
    pub(super) fn transmit(
        &mut self,
        now: Time,
        size: usize,
        queue_bytes_max: u64,
    ) -> Option<Time> {
        let Some(bytes_per_second) = self.bytes_per_second else { return Some(now) };
        let takes = |bytes: u64| {
            Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_second.max(1))
        };
        let start = self.busy_until.max(now);
        if start.since(now) > takes(queue_bytes_max) {
            return None;
        }
        self.busy_until = start.after(takes(u64::try_from(size).unwrap_or(u64::MAX)));
        Some(self.busy_until)
    }

    /// Whether the rule takes this message.
    pub(super) fn omits(&mut self, size: usize, rng: &mut Rng) -> bool {
        if self.omission.is_none() {
            return false;
        }
        self.sent_count += 1;
        match self.omission {
            None => false,
            Some(Omission::EveryNth(n)) => self.sent_count.is_multiple_of(n.max(1)),
            Some(Omission::LargerThan(limit)) => size > limit,
            Some(Omission::Bursts(length)) => {
                let is_bad = (self.sent_count / length.max(1)).is_multiple_of(2);
                is_bad && rng.below(10) > 0
            }
        }
    }

    /// All connections are gone; returns what the receiver gets of what was held back. What is on
    /// its way otherwise meets its [`End`] when it would have arrived.
    pub(super) fn break_off(&mut self, now: Time, until: Time) -> Option<Torn> {
        let torn = self.forget_held();
        let is_sending = torn.is_none() && self.latest > now;
        self.earlier.iter_mut().for_each(|earlier| earlier.is_broken = true);
        let (connection, reader) = (self.connection, std::mem::take(&mut self.reader));
        if is_sending {
            self.earlier.push(Earlier { connection, reader, is_broken: true });
        }
        self.connection += 1;
        self.down_until = self.down_until.max(until);
        (self.latest, self.busy_until) = (Time::ZERO, Time::ZERO);
        torn
    }

    /// The receiver died, and all that it has read of anything died with it.
    pub(super) fn forget_readers(&mut self) {
        self.reader = Reader::default();
        self.earlier.clear();
    }

    /// Nothing that was ever sent arrives any more, not even in part.
    pub(super) fn forget_all(&mut self) {
        self.held.clear();
        self.forget_readers();
        self.connection += 1;
        (self.latest, self.busy_until) = (Time::ZERO, Time::ZERO);
    }

    /// What was held back is lost, and with it the connection.
    pub(super) fn forget_held(&mut self) -> Option<Torn> {
        let piece = std::mem::take(&mut self.held).into_iter().next()?;
        let reader = std::mem::take(&mut self.reader);
        self.connection += 1;
        Some(Torn { reader, piece })
    }

    /// What becomes of a piece that has come to the end of its way. An earlier connection has
    /// nobody who holds back what meets a cut: it breaks.
    pub(super) fn end_of(&mut self, connection: u64, is_cut: bool) -> End<'_> {
        if self.connection == connection {
            return End::Whole(&mut self.reader);
        }
        let mut all = self.earlier.iter();
        let Some(place) = all.position(|earlier| earlier.connection == connection) else {
            return End::Lost;
        };
        if is_cut || self.earlier.get(place).is_none_or(|earlier| earlier.is_broken) {
            return End::Torn(self.earlier.swap_remove(place).reader);
        }
        self.earlier.get_mut(place).map_or(End::Lost, |earlier| End::Whole(&mut earlier.reader))
    }

    pub(super) fn hold(&mut self, piece: Piece) {
        self.held.push(piece);
    }

    pub(super) const fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    /// Reads what was held back, in order.
    pub(super) fn read_held(&mut self) -> Result<Vec<Bytes>, Misread> {
        let held = std::mem::take(&mut self.held);
        held.iter().filter_map(|piece| self.reader.read(piece).transpose()).collect()
    }
}
