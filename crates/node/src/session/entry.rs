//! A session's request as an entry of the log, and on its way to the leader; the bytes are drawn in
//! `docs/wal-format.md`. Knows how it looks, not what it does.

use super::{SessionId, SessionKey, SessionLimits, SessionRequest};
use bytes::{Buf, BufMut, Bytes};
use quorate_wal::codec::{DecodeError, decode_u8, decode_varint, encode_varint, expect_end};
use std::time::Duration;

const VERSION: u8 = 1;
const OPEN: u8 = 1;
const COMMAND: u8 = 2;
const KEEP_ALIVE: u8 = 3;
const CLOSE: u8 = 4;

/// A moment of the sessions' time: microseconds that leaders have counted. It goes on only as the
/// log says, alike on every replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionTime(u64);

impl SessionTime {
    /// So much later; the end of time at the latest.
    #[must_use]
    pub const fn after_micros(self, elapsed_us: u64) -> Self {
        Self(self.0.saturating_add(elapsed_us))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, elapsed: Duration) -> Self {
        self.after_micros(micros(elapsed))
    }

    /// The microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

/// A request, as its leader put it into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionEntry {
    /// The leader's clock.
    pub(crate) stamp: SessionTime,
    /// The leader's limits; they count if the request opens a session.
    pub(crate) limits: SessionLimits,
    pub(crate) request: SessionRequest,
}

impl SessionEntry {
    pub(crate) fn encode(&self) -> Bytes {
        const HEAD_BYTES_MAX: usize = 64;
        let mut out = Vec::with_capacity(HEAD_BYTES_MAX + self.request.size_bytes());
        out.put_u8(VERSION);
        encode_varint(self.stamp.0, &mut out);
        if matches!(self.request, SessionRequest::Open { .. }) {
            encode_limits(&self.limits, &mut out);
        }
        encode_request(&self.request, &mut out);
        out.into()
    }

    /// Reads what [`Self::encode`] wrote; the command shares the buffer of `bytes`.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        match decode_u8(&mut bytes, "session entry")? {
            VERSION => {}
            found => return Err(DecodeError::UnknownTag { what: "session entry", found }),
        }
        let stamp = SessionTime(decode_varint(&mut bytes, "stamp")?);
        // Limits stand where they count.
        let has_limits = bytes.first().is_some_and(|byte| *byte == LIMITS);
        let limits = if has_limits { decode_limits(&mut bytes)? } else { SessionLimits::default() };
        let request = decode_request(bytes)?;
        if has_limits != matches!(request, SessionRequest::Open { .. }) {
            return Err(DecodeError::UnknownTag { what: "session request", found: LIMITS });
        }
        Ok(Self { stamp, limits, request })
    }
}

/// Reads an entry of the log that a session's request stands in, and writes what was read: for
/// fuzzers, which compare.
///
/// # Errors
///
/// Any [`DecodeError`] if the bytes are no such entry.
pub fn rewrite_entry(bytes: Bytes) -> Result<Bytes, DecodeError> {
    SessionEntry::decode(bytes).map(|entry| entry.encode())
}

/// Reads an entry of the log that a session's request stands in: the leader's reading of the sessions'
/// time, and the request. For those who show logs.
///
/// # Errors
///
/// Any [`DecodeError`] if the bytes are no such entry.
pub fn read_entry(bytes: Bytes) -> Result<(SessionTime, SessionRequest), DecodeError> {
    SessionEntry::decode(bytes).map(|entry| (entry.stamp, entry.request))
}

/// In place of a request's kind: limits come first.
const LIMITS: u8 = 0;

pub(super) fn encode_limits(limits: &SessionLimits, out: &mut impl BufMut) {
    out.put_u8(LIMITS);
    encode_varint(limits.sessions_count_max.into(), out);
    encode_varint(limits.replies_count_max.into(), out);
    encode_varint(limits.reply_bytes_max, out);
    encode_varint(micros(limits.idle_max), out);
}

pub(super) fn decode_limits(bytes: &mut Bytes) -> Result<SessionLimits, DecodeError> {
    let _tag = decode_u8(bytes, "limits")?;
    let count = |bytes: &mut Bytes, what| {
        let value = decode_varint(bytes, what)?;
        u32::try_from(value).map_err(|_| DecodeError::OutOfRange { what })
    };
    Ok(SessionLimits {
        sessions_count_max: count(bytes, "limit of sessions")?,
        replies_count_max: count(bytes, "limit of replies")?,
        reply_bytes_max: decode_varint(bytes, "limit of reply bytes")?,
        idle_max: Duration::from_micros(decode_varint(bytes, "limit of idle time")?),
    })
}

/// Appends a request.
pub(crate) fn encode_request(request: &SessionRequest, out: &mut impl BufMut) {
    match request {
        SessionRequest::Open { secret } => {
            out.put_u8(OPEN);
            out.put_u64_le(*secret);
        }
        SessionRequest::Command { session, number, first_open, command } => {
            out.put_u8(COMMAND);
            encode_key(session, out);
            encode_varint(*number, out);
            encode_varint(*first_open, out);
            out.put_slice(command);
        }
        SessionRequest::KeepAlive { session } => {
            out.put_u8(KEEP_ALIVE);
            encode_key(session, out);
        }
        SessionRequest::Close { session } => {
            out.put_u8(CLOSE);
            encode_key(session, out);
        }
    }
}

/// Reads what [`encode_request`] wrote; the command shares the buffer of `bytes`.
///
/// # Errors
///
/// Any [`DecodeError`] if the bytes are no request.
pub(crate) fn decode_request(mut bytes: Bytes) -> Result<SessionRequest, DecodeError> {
    let request = match decode_u8(&mut bytes, "session request")? {
        OPEN => SessionRequest::Open { secret: decode_u64(&mut bytes, "secret")? },
        COMMAND => {
            let session = decode_key(&mut bytes)?;
            let number = decode_varint(&mut bytes, "number")?;
            let first_open = decode_varint(&mut bytes, "first open number")?;
            if first_open > number {
                return Err(DecodeError::OutOfRange { what: "first open number" });
            }
            return Ok(SessionRequest::Command { session, number, first_open, command: bytes });
        }
        KEEP_ALIVE => SessionRequest::KeepAlive { session: decode_key(&mut bytes)? },
        CLOSE => SessionRequest::Close { session: decode_key(&mut bytes)? },
        found => return Err(DecodeError::UnknownTag { what: "session request", found }),
    };
    expect_end(&bytes, "session request")?;
    Ok(request)
}

fn encode_key(key: &SessionKey, out: &mut impl BufMut) {
    encode_varint(key.id.get(), out);
    out.put_u64_le(key.secret);
}

fn decode_key(bytes: &mut Bytes) -> Result<SessionKey, DecodeError> {
    let id = SessionId::new(decode_varint(bytes, "session")?);
    Ok(SessionKey { id, secret: decode_u64(bytes, "secret")? })
}

pub(super) fn decode_u64(bytes: &mut Bytes, what: &'static str) -> Result<u64, DecodeError> {
    let available = bytes.len();
    bytes.try_get_u64_le().map_err(|_| DecodeError::TooShort { what, wanted: 8, available })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = SessionRequest> {
        let key = || {
            (any::<u64>(), any::<u64>())
                .prop_map(|(id, secret)| SessionKey { id: SessionId::new(id), secret })
        };
        let command =
            (key(), any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..99));
        prop_oneof![
            any::<u64>().prop_map(|secret| SessionRequest::Open { secret }),
            command.prop_map(|(session, one, two, command)| SessionRequest::Command {
                session,
                number: one.max(two),
                first_open: one.min(two),
                command: command.into(),
            }),
            key().prop_map(|session| SessionRequest::KeepAlive { session }),
            key().prop_map(|session| SessionRequest::Close { session }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(request in requests(), stamp: u64, count: u32) {
            let limits = match request {
                SessionRequest::Open { .. } => {
                    SessionLimits { sessions_count_max: count, ..SessionLimits::default() }
                }
                _ => SessionLimits::default(),
            };
            let entry = SessionEntry { stamp: SessionTime(stamp), limits, request };
            prop_assert_eq!(SessionEntry::decode(entry.encode()), Ok(entry));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(entry) = SessionEntry::decode(bytes.into()) {
                prop_assert_eq!(SessionEntry::decode(entry.encode()), Ok(entry));
            }
        }
    }
}
