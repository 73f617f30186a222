//! Wishes for other members and their answers, as they travel between nodes. Knows their form, not
//! their meaning.

use super::cursor::{Cursor, WireError};
use super::message::{put_option, take_option};
use super::put_log_id;
use bytes::{BufMut, BytesMut};
use quorate_core::{LogId, MembershipCommand, MembershipRefusal, NodeId};
use quorate_wal::codec::{decode_members, encode_members};

const SET: u8 = 0;
const CANCEL: u8 = 1;

const APPENDED: u8 = 0;
const NOT_LEADER: u8 = 1;
const LEADER_TOO_NEW: u8 = 2;
const TRANSFERRING: u8 = 3;
const UNDER_WAY: u8 = 4;
const VERSION_MISMATCH: u8 = 5;
const NO_VOTERS: u8 = 6;
const NOT_A_ROLE: u8 = 7;
const TOMBSTONED: u8 = 8;
const STRANGERS: u8 = 9;
const WOULD_LOSE_QUORUM: u8 = 10;
const TOO_MANY_MEMBERS: u8 = 11;
const MEMBER_TOO_LARGE: u8 = 12;
const NOTHING_TO_CANCEL: u8 = 13;
const CANNOT_CANCEL_YET: u8 = 14;
const POISONED: u8 = 15;

pub(super) fn put_command(command: &MembershipCommand, out: &mut BytesMut) {
    match command {
        MembershipCommand::Set { target, expected_version, force } => {
            out.put_u8(SET);
            encode_members(target, out);
            put_option(*expected_version, out);
            out.put_u8((*force).into());
        }
        MembershipCommand::Cancel => out.put_u8(CANCEL),
    }
}

pub(super) fn take_command(cursor: &mut Cursor) -> Result<MembershipCommand, WireError> {
    match cursor.u8("membership command")? {
        SET => Ok(MembershipCommand::Set {
            target: decode_members(cursor.rest_mut())?,
            expected_version: take_option("expected version", cursor)?,
            force: cursor.flag("force")?,
        }),
        CANCEL => Ok(MembershipCommand::Cancel),
        got => Err(WireError::Meaningless { field: "membership command", got: u64::from(got) }),
    }
}

pub(super) fn put_outcome(outcome: &Result<LogId, MembershipRefusal>, out: &mut BytesMut) {
    match outcome {
        Ok(log_id) => {
            out.put_u8(APPENDED);
            put_log_id(*log_id, out);
        }
        Err(refusal) => put_refusal(refusal, out),
    }
}

/// A refusal is its number and up to two numbers and a list, whatever they mean.
fn put_refusal(refusal: &MembershipRefusal, out: &mut BytesMut) {
    use MembershipRefusal as R;
    let (kind, first, second, ids): (u8, u64, u64, &[NodeId]) = match refusal {
        R::NotLeader { leader } => {
            (NOT_LEADER, u64::from(leader.is_some()), leader.unwrap_or_default().get(), &[])
        }
        R::LeaderTooNew { term_start } => (LEADER_TOO_NEW, term_start.get(), 0, &[]),
        R::Transferring { to } => (TRANSFERRING, to.get(), 0, &[]),
        R::UnderWay { version } => (UNDER_WAY, *version, 0, &[]),
        R::VersionMismatch { expected, actual } => (VERSION_MISMATCH, *expected, *actual, &[]),
        R::NoVoters => (NO_VOTERS, 0, 0, &[]),
        R::NotARole { member } => (NOT_A_ROLE, member.get(), 0, &[]),
        R::Tombstoned { member } => (TOMBSTONED, member.get(), 0, &[]),
        R::Strangers { strangers, known_count } => (STRANGERS, wide(*known_count), 0, strangers),
        R::WouldLoseQuorum { silent, needed_count } => {
            (WOULD_LOSE_QUORUM, wide(*needed_count), 0, silent)
        }
        R::TooManyMembers { count, limit_count } => {
            (TOO_MANY_MEMBERS, wide(*count), wide(*limit_count), &[])
        }
        R::MemberTooLarge { member, bytes, limit_bytes: _ } => {
            (MEMBER_TOO_LARGE, member.get(), wide(*bytes), &[])
        }
        R::NothingToCancel => (NOTHING_TO_CANCEL, 0, 0, &[]),
        R::CannotCancelYet { index } => (CANNOT_CANCEL_YET, index.get(), 0, &[]),
        R::Poisoned => (POISONED, 0, 0, &[]),
    };
    out.put_u8(kind);
    out.put_u64_le(first);
    out.put_u64_le(second);
    out.put_u32_le(u32::try_from(ids.len()).unwrap_or(u32::MAX));
    for id in ids {
        out.put_u64_le(id.get());
    }
}

pub(super) fn take_outcome(
    cursor: &mut Cursor,
) -> Result<Result<LogId, MembershipRefusal>, WireError> {
    use MembershipRefusal as R;
    let kind = cursor.u8("membership outcome")?;
    if kind == APPENDED {
        return Ok(Ok(cursor.log_id()?));
    }
    let (first, second) = (cursor.u64("first")?, cursor.u64("second")?);
    let ids = take_ids(cursor)?;
    let member = NodeId::new(first);
    let refusal = match kind {
        NOT_LEADER => R::NotLeader { leader: (first > 0).then_some(NodeId::new(second)) },
        LEADER_TOO_NEW => R::LeaderTooNew { term_start: first.into() },
        TRANSFERRING => R::Transferring { to: member },
        UNDER_WAY => R::UnderWay { version: first },
        VERSION_MISMATCH => R::VersionMismatch { expected: first, actual: second },
        NO_VOTERS => R::NoVoters,
        NOT_A_ROLE => R::NotARole { member },
        TOMBSTONED => R::Tombstoned { member },
        STRANGERS => R::Strangers { strangers: ids, known_count: narrow(first) },
        WOULD_LOSE_QUORUM => R::WouldLoseQuorum { silent: ids, needed_count: narrow(first) },
        TOO_MANY_MEMBERS => R::TooManyMembers { count: narrow(first), limit_count: narrow(second) },
        MEMBER_TOO_LARGE => {
            let limit_bytes = quorate_core::MEMBER_BYTES_MAX;
            R::MemberTooLarge { member, bytes: narrow(second), limit_bytes }
        }
        NOTHING_TO_CANCEL => R::NothingToCancel,
        CANNOT_CANCEL_YET => R::CannotCancelYet { index: first.into() },
        POISONED => R::Poisoned,
        got => {
            let field = "membership outcome";
            return Err(WireError::Meaningless { field, got: u64::from(got) });
        }
    };
    Ok(Err(refusal))
}

/// The count is not trusted: each round takes bytes off the body or fails.
fn take_ids(cursor: &mut Cursor) -> Result<Vec<NodeId>, WireError> {
    let count = cursor.u32("count")?;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(cursor.node_id()?);
    }
    Ok(ids)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn narrow(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
