//! The table of sessions as rows: for a state machine that keeps them beside its own state, and for
//! the head of a snapshot. The layout is drawn in `docs/wal-format.md`; what comes in is not
//! trusted.

use super::entry::{decode_limits, decode_u64, encode_limits};
use super::table::{Answer, Session};
use super::{SessionId, SessionTable, SessionTime};
use crate::{Fatal, Note, ReplyNote};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{LogId, LogIndex};
use quorate_wal::codec::{
    DecodeError, decode_bytes, decode_log_id, decode_u8, decode_varint, encode_bytes,
    encode_log_id, encode_varint, expect_end,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};

const VERSION: u8 = 1;
/// The first byte of a row's key. Sessions sort before their answers.
const COMMON: u8 = b'a';
const SESSION: u8 = b'b';
const ANSWER: u8 = b'c';
/// What follows the log id of an answer.
const FORGOTTEN: u8 = 0;
const KEPT: u8 = 1;

impl SessionTable {
    /// Every row, in the order of their keys.
    pub(crate) fn rows(&self) -> Vec<Note> {
        let mut rows = vec![self.common_row()];
        rows.extend(self.sessions.keys().map(|id| self.session_row(*id)));
        for (id, session) in &self.sessions {
            for (number, Answer { log_id, reply }) in &session.answers {
                rows.push(match reply {
                    Some(reply) => Self::reply_row(*id, *number, *log_id).with(reply),
                    None => Self::forgotten_row(*id, *number, *log_id),
                });
            }
        }
        rows
    }

    /// Writes the table, as snapshots begin.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn write_to(&self, target: &mut dyn Write) -> std::io::Result<()> {
        write_section(self, target)
    }

    /// Every row, as a notebook gives them back.
    pub(crate) fn present_rows(&self) -> Vec<(Bytes, Bytes)> {
        let rows = self.rows().into_iter();
        rows.map(|Note { key, value }| (key, value.unwrap_or_default())).collect()
    }

    /// The table whose changes a notebook holds, as of the entry `through` of the log. What changes
    /// from here on is recorded again; at first that may be a reply that the last entry made one too
    /// many, which nobody has noted yet.
    pub(crate) fn from_notes(
        rows: impl IntoIterator<Item = (Bytes, Bytes)>,
        through: LogIndex,
    ) -> Result<Self, DecodeError> {
        let mut table = Self::from_rows(rows, through)?;
        table.record_changes();
        table.forget_the_oldest();
        Ok(table)
    }

    /// The table that these rows were made from, as of the entry `through` of the log.
    fn from_rows(
        rows: impl IntoIterator<Item = (Bytes, Bytes)>,
        through: LogIndex,
    ) -> Result<Self, DecodeError> {
        let mut table = Self::default();
        let mut last = Bytes::new();
        for (key, value) in rows {
            // In order, and so each once: nobody is idle twice, and no reply counts twice.
            if key <= last {
                return Err(DecodeError::OutOfRange { what: "key of a session's row" });
            }
            last = key.clone();
            table.take_row(key, value)?;
        }
        table.check(through)?;
        Ok(table)
    }

    /// A snapshot of ours is within them; one of somebody else need not be.
    fn within_limits(mut self) -> Self {
        self.forget_the_oldest();
        self
    }

    /// Whether entries up to `through` can have made this. What they cannot have made would live
    /// for ever, or be taken for what a later entry makes.
    fn check(&self, through: LogIndex) -> Result<(), DecodeError> {
        for (id, Session { used_at, used_time, answers, .. }) in &self.sessions {
            let opened_at = LogIndex::new(id.get());
            if !(opened_at..=through).contains(used_at) || *used_time > self.time {
                return Err(DecodeError::OutOfRange { what: "last use" });
            }
            let indexes = answers.values().map(|answer| answer.log_id.index);
            if indexes.into_iter().any(|index| index <= opened_at || index > *used_at) {
                return Err(DecodeError::OutOfRange { what: "answer" });
            }
        }
        let times = self.idle.values().filter_map(|id| self.sessions.get(id));
        if !times.is_sorted_by_key(|session| session.used_time) {
            return Err(DecodeError::OutOfRange { what: "time of last use" });
        }
        Ok(())
    }

    fn take_row(&mut self, mut key: Bytes, mut value: Bytes) -> Result<(), DecodeError> {
        let kind = decode_u8(&mut key, "row of a session")?;
        if kind == COMMON {
            expect_end(&key, "key of a session's row")?;
            let version = decode_u8(&mut value, "table of sessions")?;
            if version != VERSION {
                let what = "table of sessions";
                return Err(DecodeError::UnknownTag { what, found: version });
            }
            self.time = SessionTime::default().after_micros(decode_varint(&mut value, "time")?);
            self.limits = decode_limits(&mut value)?;
            return expect_end(&value, "table of sessions");
        }
        let id = SessionId::new(decode_key(&mut key)?);
        match kind {
            SESSION => self.take_session(id, value),
            ANSWER => {
                let number = decode_key(&mut key)?;
                self.take_answer(id, number, value)
            }
            found => Err(DecodeError::UnknownTag { what: "row of a session", found }),
        }?;
        expect_end(&key, "key of a session's row")
    }

    fn take_session(&mut self, id: SessionId, mut value: Bytes) -> Result<(), DecodeError> {
        let session = Session {
            secret: decode_u64(&mut value, "secret")?,
            used_at: LogIndex::new(decode_varint(&mut value, "last use")?),
            used_time: SessionTime::default()
                .after_micros(decode_varint(&mut value, "time of last use")?),
            first_open: decode_varint(&mut value, "first open number")?,
            answers: BTreeMap::new(),
        };
        expect_end(&value, "session")?;
        if self.idle.insert(session.used_at, id).is_some() {
            return Err(DecodeError::OutOfRange { what: "last use" });
        }
        self.sessions.insert(id, session);
        Ok(())
    }

    fn take_answer(
        &mut self,
        id: SessionId,
        number: u64,
        mut value: Bytes,
    ) -> Result<(), DecodeError> {
        let log_id = decode_log_id(&mut value)?;
        let reply = match decode_u8(&mut value, "reply")? {
            FORGOTTEN => None,
            KEPT => Some(value),
            found => return Err(DecodeError::UnknownTag { what: "reply", found }),
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return Err(DecodeError::OutOfRange { what: "session of an answer" });
        };
        if let Some(reply) = &reply {
            self.kept_bytes += u64::try_from(reply.len()).unwrap_or(u64::MAX);
            if self.kept.insert(log_id.index, (id, number)).is_some() {
                return Err(DecodeError::OutOfRange { what: "answer" });
            }
        }
        session.answers.insert(number, Answer { log_id, reply });
        Ok(())
    }

    pub(super) fn common_row(&self) -> Note {
        let mut value = vec![VERSION];
        encode_varint(self.time.as_micros(), &mut value);
        encode_limits(&self.limits, &mut value);
        Note::put(vec![COMMON], value)
    }

    pub(super) fn session_row(&self, id: SessionId) -> Note {
        let Some(session) = self.sessions.get(&id) else {
            return Note::remove(Self::session_key(id));
        };
        let mut value = Vec::new();
        value.put_u64_le(session.secret);
        encode_varint(session.used_at.get(), &mut value);
        encode_varint(session.used_time.as_micros(), &mut value);
        encode_varint(session.first_open, &mut value);
        Note::put(Self::session_key(id), value)
    }

    pub(super) fn session_key(id: SessionId) -> Vec<u8> {
        let mut key = vec![SESSION];
        key.put_u64(id.get());
        key
    }

    pub(super) fn answer_key(id: SessionId, number: u64) -> Vec<u8> {
        let mut key = vec![ANSWER];
        key.put_u64(id.get());
        key.put_u64(number);
        key
    }

    pub(super) fn forgotten_row(id: SessionId, number: u64, log_id: LogId) -> Note {
        let mut value = Vec::new();
        encode_log_id(log_id, &mut value);
        value.put_u8(FORGOTTEN);
        Note::put(Self::answer_key(id, number), value)
    }

    /// The row of an answer, but for the reply.
    pub(crate) fn reply_row(id: SessionId, number: u64, log_id: LogId) -> ReplyNote {
        let mut prefix = Vec::new();
        encode_log_id(log_id, &mut prefix);
        prefix.put_u8(KEPT);
        ReplyNote { key: Self::answer_key(id, number).into(), prefix }
    }
}

fn decode_key(key: &mut Bytes) -> Result<u64, DecodeError> {
    let (what, available) = ("key of a session's row", key.len());
    key.try_get_u64().map_err(|_| DecodeError::TooShort { what, wanted: 8, available })
}

/// Writes the table at the head of a snapshot.
pub(crate) fn write_section(table: &SessionTable, target: &mut dyn Write) -> std::io::Result<()> {
    let mut section = Vec::new();
    for (key, value) in table.present_rows() {
        encode_bytes(&key, &mut section);
        encode_bytes(&value, &mut section);
    }
    let size_bytes = u64::try_from(section.len()).unwrap_or(u64::MAX);
    target.write_all(&size_bytes.to_le_bytes())?;
    target.write_all(&section)
}

/// Reads what [`write_section`] wrote of the table as of the entry `through` of the log, and leaves
/// `source` at what follows.
pub(crate) fn read_section(
    source: &mut dyn Read,
    through: LogIndex,
) -> Result<SessionTable, Fatal> {
    const UNREADABLE: &str = "the sessions of a snapshot cannot be read";
    let mut size_bytes = [0; 8];
    source.read_exact(&mut size_bytes).map_err(|error| Fatal::caused_by(UNREADABLE, error))?;
    let size_bytes = u64::from_le_bytes(size_bytes);
    // Memory grows with what really arrives, not with what the stream claims.
    let mut section = Vec::new();
    let read = source.take(size_bytes).read_to_end(&mut section);
    let got = read.map_err(|error| Fatal::caused_by(UNREADABLE, error))?;
    if u64::try_from(got).unwrap_or(u64::MAX) != size_bytes {
        return Err(Fatal::new(format!("{UNREADABLE}: {got} of {size_bytes} bytes are there")));
    }
    section_rows(section.into())
        .and_then(|rows| SessionTable::from_rows(rows, through))
        .map(SessionTable::within_limits)
        .map_err(|error| Fatal::caused_by(UNREADABLE, error))
}

fn section_rows(mut section: Bytes) -> Result<Vec<(Bytes, Bytes)>, DecodeError> {
    let mut rows = Vec::new();
    while !section.is_empty() {
        let key = decode_bytes(&mut section, "key of a session's row")?;
        rows.push((key, decode_bytes(&mut section, "row of a session")?));
    }
    Ok(rows)
}
