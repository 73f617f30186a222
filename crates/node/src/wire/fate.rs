//! Fates on their way back to the node that forwarded a command. Knows their form, not their
//! meaning.

use super::cursor::{Cursor, WireError};
use super::put_bytes;
use crate::{Doubt, Fate, Refusal, SessionRefusal};
use bytes::{BufMut, BytesMut};

const APPLIED: u8 = 0;
const NO_LEADER: u8 = 1;
const TRANSFERRING: u8 = 2;
const OVERLOADED: u8 = 3;
const REFUSED_STOPPED: u8 = 4;
const LOST: u8 = 5;
const DEADLINE: u8 = 6;
const CONNECTION_LOST: u8 = 7;
const SUPERSEDED: u8 = 8;
const STOPPED: u8 = 9;
const SESSION_EXPIRED: u8 = 10;
const REPLY_FORGOTTEN: u8 = 11;
const NUMBER_SETTLED: u8 = 12;
const TOO_FAR_AHEAD: u8 = 13;

/// The limits that may be named on the wire, with their units: their places here are their
/// numbers, so lines are only ever added.
const LIMITS: [(&str, &str); 3] = [
    ("requests at the leader", "units"),
    ("uncommitted proposals", "bytes"),
    ("proposals on the way to the leader", "bytes"),
];

pub(super) fn put_fate(fate: &Fate, out: &mut BytesMut) {
    match fate {
        Fate::Applied { log_id, reply } => {
            out.put_u8(APPLIED);
            super::put_log_id(*log_id, out);
            put_bytes(reply, out);
        }
        Fate::NotAppended(refusal) => put_refusal(refusal, out),
        Fate::Lost { log_id } => {
            out.put_u8(LOST);
            super::put_log_id(*log_id, out);
        }
        Fate::Unknown(doubt) => put_doubt(*doubt, out),
        Fate::Refused(refusal) => put_session_refusal(*refusal, out),
    }
}

fn put_refusal(refusal: &Refusal, out: &mut BytesMut) {
    match refusal {
        Refusal::NoLeader => out.put_u8(NO_LEADER),
        Refusal::Transferring { to } => {
            out.put_u8(TRANSFERRING);
            out.put_u64_le(to.get());
        }
        Refusal::Overloaded { what, limit, unit } => {
            let place = LIMITS.iter().position(|named| *named == (*what, *unit));
            out.put_u8(OVERLOADED);
            out.put_u8(place.and_then(|place| u8::try_from(place).ok()).unwrap_or(0));
            out.put_u64_le(u64::try_from(*limit).unwrap_or(u64::MAX));
        }
        Refusal::Stopped => out.put_u8(REFUSED_STOPPED),
    }
}

fn put_session_refusal(refusal: SessionRefusal, out: &mut BytesMut) {
    match refusal {
        SessionRefusal::Expired => out.put_u8(SESSION_EXPIRED),
        SessionRefusal::Forgotten { log_id } => {
            out.put_u8(REPLY_FORGOTTEN);
            super::put_log_id(log_id, out);
        }
        SessionRefusal::Settled { first_open } => {
            out.put_u8(NUMBER_SETTLED);
            out.put_u64_le(first_open);
        }
        SessionRefusal::TooFarAhead { limit_count } => {
            out.put_u8(TOO_FAR_AHEAD);
            out.put_u32_le(limit_count);
        }
    }
}

fn put_doubt(doubt: Doubt, out: &mut BytesMut) {
    match doubt {
        Doubt::Deadline => out.put_u8(DEADLINE),
        Doubt::ConnectionLost { leader } => {
            out.put_u8(CONNECTION_LOST);
            out.put_u64_le(leader.get());
        }
        Doubt::Superseded => out.put_u8(SUPERSEDED),
        Doubt::Stopped => out.put_u8(STOPPED),
    }
}

pub(super) fn take_fate(cursor: &mut Cursor) -> Result<Fate, WireError> {
    Ok(match cursor.u8("fate")? {
        APPLIED => Fate::Applied { log_id: cursor.log_id()?, reply: cursor.bytes("reply")? },
        NO_LEADER => Fate::NotAppended(Refusal::NoLeader),
        TRANSFERRING => Fate::NotAppended(Refusal::Transferring { to: cursor.node_id()? }),
        OVERLOADED => Fate::NotAppended(take_overloaded(cursor)?),
        REFUSED_STOPPED => Fate::NotAppended(Refusal::Stopped),
        LOST => Fate::Lost { log_id: cursor.log_id()? },
        DEADLINE => Fate::Unknown(Doubt::Deadline),
        CONNECTION_LOST => Fate::Unknown(Doubt::ConnectionLost { leader: cursor.node_id()? }),
        SUPERSEDED => Fate::Unknown(Doubt::Superseded),
        STOPPED => Fate::Unknown(Doubt::Stopped),
        SESSION_EXPIRED => Fate::Refused(SessionRefusal::Expired),
        REPLY_FORGOTTEN => Fate::Refused(SessionRefusal::Forgotten { log_id: cursor.log_id()? }),
        NUMBER_SETTLED => {
            Fate::Refused(SessionRefusal::Settled { first_open: cursor.u64("first open number")? })
        }
        TOO_FAR_AHEAD => {
            Fate::Refused(SessionRefusal::TooFarAhead { limit_count: cursor.u32("limit")? })
        }
        got => return Err(WireError::Meaningless { field: "fate", got: u64::from(got) }),
    })
}

fn take_overloaded(cursor: &mut Cursor) -> Result<Refusal, WireError> {
    let place = usize::from(cursor.u8("limit's name")?);
    let limit = usize::try_from(cursor.u64("limit")?).unwrap_or(usize::MAX);
    // A newer leader may know limits that we do not: the first name stands for any.
    let (what, unit) = LIMITS.get(place).or(LIMITS.first()).copied().unwrap_or(("", ""));
    Ok(Refusal::Overloaded { what, limit, unit })
}
