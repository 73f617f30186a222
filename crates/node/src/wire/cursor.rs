//! Takes numbers and byte strings off the front of a received body, checking every one.
//! Knows nothing of messages; a value that the protocol could not survive never leaves here.

use bytes::{Buf, Bytes};
use quorate_core::{LogId, LogIndex, NodeId, ProtocolVersion, Term};
use quorate_wal::codec::DecodeError;

/// A body that does not say what its kind promises. The connection that brought it is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The body ends inside a field.
    #[error("the body ends inside {field}: {wanted_bytes} bytes wanted, {left_bytes} left")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// How many bytes it takes.
        wanted_bytes: usize,
        /// How many there are.
        left_bytes: usize,
    },
    /// There is more than the kind has fields for.
    #[error("{left_bytes} bytes follow the last field")]
    Trailing {
        /// How many.
        left_bytes: usize,
    },
    /// A kind of this number is not known.
    #[error("there is no kind {kind}")]
    UnknownKind {
        /// The number found.
        kind: u8,
    },
    /// A number with a fixed set of meanings has none of them.
    #[error("{field} is {got}, which means nothing")]
    Meaningless {
        /// The field.
        field: &'static str,
        /// The number found.
        got: u64,
    },
    /// A number is so large that arithmetic on it could overflow.
    #[error("{field} is {got}, above the limit of {max}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// The number found.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// A text is not UTF-8.
    #[error("{field} is not UTF-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
    /// The entries of a message do not follow each other.
    #[error("entry {got} follows entry {previous}")]
    Gap {
        /// The entry before.
        previous: LogId,
        /// The entry found.
        got: LogId,
    },
    /// An entry is from a later term than the message that carries it.
    #[error("an entry of term {got} in a message of term {term}")]
    EntryFromTheFuture {
        /// The message's term.
        term: Term,
        /// The entry's.
        got: Term,
    },
    /// The message is of a later version of the protocol than is spoken on its connection.
    #[error("a message of protocol version {since} where version {spoken} is spoken")]
    NotInVersion {
        /// The version that has brought it.
        since: ProtocolVersion,
        /// What is spoken.
        spoken: ProtocolVersion,
    },
    /// An entry or a configuration inside cannot be decoded.
    #[error("an entry or configuration cannot be decoded: {0}")]
    Entry(#[from] DecodeError),
}

/// Indexes, terms and offsets above this are refused: nothing real comes near, and whatever is
/// below can be added to without a thought of overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// The rest of a body.
pub(crate) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(crate) fn new(body: Bytes) -> Self {
        Self { rest: body }
    }

    /// What is left, in bytes.
    pub(crate) fn left_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Gives the rest to a decoder of another room, and goes on after what it took.
    pub(crate) fn rest_mut(&mut self) -> &mut Bytes {
        &mut self.rest
    }

    fn need(&self, field: &'static str, wanted_bytes: usize) -> Result<(), WireError> {
        let left_bytes = self.rest.len();
        if left_bytes < wanted_bytes {
            return Err(WireError::Truncated { field, wanted_bytes, left_bytes });
        }
        Ok(())
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.need(field, 1)?;
        Ok(self.rest.get_u8())
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.need(field, 2)?;
        Ok(self.rest.get_u16_le())
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.need(field, 4)?;
        Ok(self.rest.get_u32_le())
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.need(field, 8)?;
        Ok(self.rest.get_u64_le())
    }

    pub(crate) fn u128(&mut self, field: &'static str) -> Result<u128, WireError> {
        self.need(field, 16)?;
        Ok(self.rest.get_u128_le())
    }

    /// A number that will be calculated with.
    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, WireError> {
        let got = self.u64(field)?;
        if got > NUMBER_MAX {
            return Err(WireError::TooLarge { field, got, max: NUMBER_MAX });
        }
        Ok(got)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(WireError::Meaningless { field, got: u64::from(got) }),
        }
    }

    pub(crate) fn term(&mut self) -> Result<Term, WireError> {
        self.number("term").map(Term::new)
    }

    pub(crate) fn index(&mut self) -> Result<LogIndex, WireError> {
        self.number("log index").map(LogIndex::new)
    }

    pub(crate) fn log_id(&mut self) -> Result<LogId, WireError> {
        Ok(LogId::new(self.term()?, self.index()?))
    }

    pub(crate) fn node_id(&mut self) -> Result<NodeId, WireError> {
        self.u64("node id").map(NodeId::new)
    }

    /// A byte string after its length; shares the received buffer.
    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<Bytes, WireError> {
        let length = self.u32(field)? as usize;
        self.need(field, length)?;
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn protocol(&mut self, field: &'static str) -> Result<ProtocolVersion, WireError> {
        self.u16(field).map(ProtocolVersion::new)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, WireError> {
        let bytes = self.bytes(field)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(WireError::NotText { field }),
        }
    }

    /// Whatever a later version has added at the end means nothing here.
    pub(crate) fn ignore_rest(&mut self) {
        self.rest.clear();
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left_bytes => Err(WireError::Trailing { left_bytes }),
        }
    }
}
