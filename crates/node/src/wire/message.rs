//! The messages of the drivers, to bytes and back. Every rule about their *form* that the core
//! relies on is checked here, once; whether they make sense now is the core's to judge. It is long because each kind of message stands
//! in it, to bytes and back.

use super::cursor::{Cursor, NUMBER_MAX, WireError};
use super::digest::{put_digest, take_digest};
use super::fate::{put_fate, take_fate};
use super::lost::{put_lost, put_lost_response, take_lost, take_lost_response};
use super::members::{put_command, put_outcome, take_command, take_outcome};
use super::{put_bytes, put_log_id};
use crate::session::{decode_request, encode_request};
use crate::{Beginning, Forwarded, Introduction, PeerMessage, Proposed, Seen};
use bytes::{BufMut, Bytes, BytesMut};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, ConflictHint, Drift, Entry, Heartbeat,
    HeartbeatResponse, InstallSnapshot, InstallSnapshotResponse, LogId, LogIndex, Message,
    NotAMember, ReadId, ReadIndex, ReadIndexResponse, RequestVote, RequestVoteResponse,
    SnapshotMeta, Term, TimeoutNow, VotePhase,
};
use quorate_wal::codec::{decode_entry, decode_snapshot_meta, encode_entry, encode_snapshot_meta};
use std::time::Duration;

const REQUEST_VOTE: u8 = 0x01;
const REQUEST_VOTE_RESPONSE: u8 = 0x02;
const APPEND_ENTRIES: u8 = 0x03;
const APPEND_ENTRIES_RESPONSE: u8 = 0x04;
const HEARTBEAT: u8 = 0x05;
const HEARTBEAT_RESPONSE: u8 = 0x06;
const INSTALL_SNAPSHOT: u8 = 0x07;
const INSTALL_SNAPSHOT_RESPONSE: u8 = 0x08;
const TIMEOUT_NOW: u8 = 0x09;
const READ_INDEX: u8 = 0x0a;
const READ_INDEX_RESPONSE: u8 = 0x0b;
const NOT_A_MEMBER: u8 = 0x0c;
const FORWARD: u8 = 0x20;
const FORWARD_REPLIES: u8 = 0x21;
const CHANGE_MEMBERSHIP: u8 = 0x22;
const MEMBERSHIP_REPLY: u8 = 0x23;
const INTRODUCE: u8 = 0x24;
const DIGEST: u8 = 0x25;
const STATE_WANTED: u8 = 0x26;
const LOST_ENTRIES: u8 = 0x27;
const LOST_ENTRIES_RESPONSE: u8 = 0x28;
/// Beside whether there is a past: what the log began with follows.
const HAS_BEGINNING: u8 = 2;

/// Kinds of forwarded commands.
const PLAIN: u8 = 0;
const OF_SESSION: u8 = 1;
/// What stands before the command of a session's request, about.
const SESSION_HEAD_BYTES: usize = 48;

/// The least that an entry, a forwarded command or a reply takes: bounds what a count can make us
/// set aside.
pub(super) const ITEM_BYTES_MIN: usize = 3;

/// Appends a message: its kind, then its fields. Whether the other side knows it was asked before.
pub(crate) fn put_peer_message(message: &PeerMessage, out: &mut BytesMut) {
    match message {
        PeerMessage::Raft(message) => put_message(message, out),
        PeerMessage::Forward { term, incarnation, requests } => {
            out.put_u8(FORWARD);
            out.put_u64_le(term.get());
            out.put_u64_le(*incarnation);
            put_count(requests.len(), out);
            for Forwarded { request, proposed } in requests {
                out.put_u64_le(*request);
                put_proposed(proposed, out);
            }
        }
        PeerMessage::ForwardReplies { incarnation, replies } => {
            out.put_u8(FORWARD_REPLIES);
            out.put_u64_le(*incarnation);
            put_count(replies.len(), out);
            for (request, fate) in replies {
                out.put_u64_le(*request);
                put_fate(fate, out);
            }
        }
        PeerMessage::ChangeMembership { term, incarnation, request, command } => {
            put_head(CHANGE_MEMBERSHIP, *term, out);
            out.put_u64_le(*incarnation);
            out.put_u64_le(*request);
            put_command(command, out);
        }
        PeerMessage::MembershipReply { incarnation, request, outcome } => {
            out.put_u8(MEMBERSHIP_REPLY);
            out.put_u64_le(*incarnation);
            out.put_u64_le(*request);
            put_outcome(outcome, out);
        }
        PeerMessage::Introduce(introduction) => put_introduction(introduction, out),
        PeerMessage::Digest(message) => {
            out.put_u8(DIGEST);
            put_digest(message, out);
        }
        PeerMessage::StateWanted { at_least } => {
            out.put_u8(STATE_WANTED);
            out.put_u64_le(at_least.get());
        }
    }
}

/// Reads what [`put_peer_message`] wrote; commands and chunks share `body`'s buffer.
///
/// # Errors
///
/// [`WireError`] if the body is not exactly one well-formed message: then its sender is broken, or
/// is no node at all.
pub(super) fn take_peer_message(body: Bytes) -> Result<PeerMessage, WireError> {
    let mut cursor = Cursor::new(body);
    let message = match cursor.u8("kind")? {
        FORWARD => take_forward(&mut cursor)?,
        FORWARD_REPLIES => take_forward_replies(&mut cursor)?,
        CHANGE_MEMBERSHIP => PeerMessage::ChangeMembership {
            term: cursor.term()?,
            incarnation: cursor.u64("incarnation")?,
            request: cursor.u64("request")?,
            command: take_command(&mut cursor)?,
        },
        MEMBERSHIP_REPLY => PeerMessage::MembershipReply {
            incarnation: cursor.u64("incarnation")?,
            request: cursor.u64("request")?,
            outcome: take_outcome(&mut cursor)?,
        },
        INTRODUCE => PeerMessage::Introduce(take_introduction(&mut cursor)?),
        DIGEST => PeerMessage::Digest(take_digest(&mut cursor)?),
        STATE_WANTED => PeerMessage::StateWanted { at_least: cursor.index()? },
        kind => PeerMessage::Raft(take_message(kind, &mut cursor)?),
    };
    cursor.finish()?;
    Ok(message)
}

// ---- Raft, to bytes --------------------------------------------------------------------------

fn put_message(message: &Message, out: &mut BytesMut) {
    match message {
        Message::RequestVote(message) => put_request_vote(message, out),
        Message::RequestVoteResponse(message) => {
            put_head(REQUEST_VOTE_RESPONSE, message.term, out);
            put_phase(message.phase, out);
            out.put_u8(message.granted.into());
        }
        Message::AppendEntries(message) => put_append_entries(message, out),
        Message::AppendEntriesResponse(message) => put_append_entries_response(message, out),
        Message::Heartbeat(message) => {
            put_head(HEARTBEAT, message.term, out);
            out.put_u64_le(message.leader_commit.get());
            put_option(message.round, out);
        }
        Message::HeartbeatResponse(message) => {
            put_head(HEARTBEAT_RESPONSE, message.term, out);
            out.put_u64_le(message.round);
            if !message.promise.is_zero() {
                let micros = u64::try_from(message.promise.as_micros()).unwrap_or(NUMBER_MAX);
                out.put_u64_le(micros.min(NUMBER_MAX));
            }
        }
        Message::InstallSnapshot(message) => put_install_snapshot(message, out),
        Message::InstallSnapshotResponse(message) => {
            put_head(INSTALL_SNAPSHOT_RESPONSE, message.term, out);
            put_log_id(message.last_included, out);
            out.put_u64_le(message.next_offset);
            out.put_u8(message.installed.into());
        }
        Message::TimeoutNow(message) => put_head(TIMEOUT_NOW, message.term, out),
        Message::ReadIndex(message) => {
            put_head(READ_INDEX, message.term, out);
            out.put_u64_le(message.id.get());
            if let Some(max_drift) = message.max_drift {
                out.put_u32_le(max_drift.get());
            }
        }
        Message::ReadIndexResponse(message) => {
            put_head(READ_INDEX_RESPONSE, message.term, out);
            out.put_u64_le(message.id.get());
            put_option(message.index.map(LogIndex::get), out);
        }
        Message::NotAMember(message) => {
            put_head(NOT_A_MEMBER, message.term, out);
            out.put_u64_le(message.version);
            put_log_id(message.position, out);
        }
        Message::LostEntries(message) => {
            put_head(LOST_ENTRIES, message.term, out);
            put_lost(message, out);
        }
        Message::LostEntriesResponse(message) => {
            put_head(LOST_ENTRIES_RESPONSE, message.term, out);
            put_lost_response(message, out);
        }
    }
}

fn put_head(kind: u8, term: Term, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u64_le(term.get());
}

pub(super) fn put_count(count: usize, out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
}

pub(super) fn put_option(value: Option<u64>, out: &mut BytesMut) {
    out.put_u8(value.is_some().into());
    out.put_u64_le(value.unwrap_or_default());
}

fn put_phase(phase: VotePhase, out: &mut BytesMut) {
    out.put_u8(match phase {
        VotePhase::PreVote => 0,
        VotePhase::Vote => 1,
        VotePhase::Transfer => 2,
    });
}

fn put_request_vote(message: &RequestVote, out: &mut BytesMut) {
    put_head(REQUEST_VOTE, message.term, out);
    put_log_id(message.last_log, out);
    put_phase(message.phase, out);
}

fn put_append_entries(message: &AppendEntries, out: &mut BytesMut) {
    put_head(APPEND_ENTRIES, message.term, out);
    put_log_id(message.prev_log, out);
    out.put_u64_le(message.leader_commit.get());
    put_count(message.entries.len(), out);
    out.reserve(message.entries.iter().map(Entry::size_bytes).sum());
    for entry in &message.entries {
        encode_entry(entry, out);
    }
}

fn put_append_entries_response(message: &AppendEntriesResponse, out: &mut BytesMut) {
    put_head(APPEND_ENTRIES_RESPONSE, message.term, out);
    match message.outcome {
        AppendOutcome::Accepted { matched } => {
            out.put_u8(0);
            out.put_u64_le(matched.get());
        }
        AppendOutcome::Rejected { prev_index, hint } => {
            out.put_u8(1);
            out.put_u64_le(prev_index.get());
            put_log_id(hint.candidate, out);
        }
        AppendOutcome::StaleTerm => out.put_u8(2),
    }
}

fn put_install_snapshot(message: &InstallSnapshot, out: &mut BytesMut) {
    put_head(INSTALL_SNAPSHOT, message.term, out);
    encode_snapshot_meta(&message.meta, out);
    out.put_u64_le(message.offset);
    put_bytes(&message.chunk, out);
    out.put_u8(message.done.into());
}

// ---- Raft, from bytes ------------------------------------------------------------------------

fn take_message(kind: u8, cursor: &mut Cursor) -> Result<Message, WireError> {
    let term = cursor.term();
    Ok(match kind {
        REQUEST_VOTE => Message::RequestVote(RequestVote {
            term: term?,
            last_log: cursor.log_id()?,
            phase: take_phase(cursor)?,
        }),
        REQUEST_VOTE_RESPONSE => Message::RequestVoteResponse(RequestVoteResponse {
            term: term?,
            phase: take_phase(cursor)?,
            granted: cursor.flag("granted")?,
        }),
        APPEND_ENTRIES => Message::AppendEntries(take_append_entries(term?, cursor)?),
        APPEND_ENTRIES_RESPONSE => Message::AppendEntriesResponse(AppendEntriesResponse {
            term: term?,
            outcome: take_append_outcome(cursor)?,
        }),
        HEARTBEAT => Message::Heartbeat(Heartbeat {
            term: term?,
            leader_commit: cursor.index()?,
            round: take_option("round", cursor)?,
        }),
        HEARTBEAT_RESPONSE => Message::HeartbeatResponse(HeartbeatResponse {
            term: term?,
            round: cursor.number("round")?,
            promise: take_promise(cursor)?,
        }),
        INSTALL_SNAPSHOT => Message::InstallSnapshot(take_install_snapshot(term?, cursor)?),
        INSTALL_SNAPSHOT_RESPONSE => Message::InstallSnapshotResponse(InstallSnapshotResponse {
            term: term?,
            last_included: cursor.log_id()?,
            next_offset: cursor.number("offset")?,
            installed: cursor.flag("installed")?,
        }),
        TIMEOUT_NOW => Message::TimeoutNow(TimeoutNow { term: term? }),
        READ_INDEX => Message::ReadIndex(ReadIndex {
            term: term?,
            id: ReadId::new(cursor.u64("read id")?),
            max_drift: take_max_drift(cursor)?,
        }),
        READ_INDEX_RESPONSE => Message::ReadIndexResponse(ReadIndexResponse {
            term: term?,
            id: ReadId::new(cursor.u64("read id")?),
            index: take_option("log index", cursor)?.map(LogIndex::new),
        }),
        NOT_A_MEMBER => Message::NotAMember(NotAMember {
            term: term?,
            version: cursor.number("configuration version")?,
            position: cursor.log_id()?,
        }),
        LOST_ENTRIES => Message::LostEntries(take_lost(term?, cursor)?),
        LOST_ENTRIES_RESPONSE => Message::LostEntriesResponse(take_lost_response(term?, cursor)?),
        kind => return Err(WireError::UnknownKind { kind }),
    })
}

pub(super) fn take_option(
    field: &'static str,
    cursor: &mut Cursor,
) -> Result<Option<u64>, WireError> {
    let is_some = cursor.flag(field)?;
    let value = cursor.number(field)?;
    Ok(is_some.then_some(value))
}

/// Absent where nothing is promised.
fn take_promise(cursor: &mut Cursor) -> Result<Duration, WireError> {
    if cursor.left_bytes() == 0 {
        return Ok(Duration::ZERO);
    }
    match cursor.number("promise")? {
        0 => Err(WireError::Meaningless { field: "promise", got: 0 }),
        micros => Ok(Duration::from_micros(micros)),
    }
}

/// Absent where no lease will do.
fn take_max_drift(cursor: &mut Cursor) -> Result<Option<Drift>, WireError> {
    if cursor.left_bytes() == 0 {
        return Ok(None);
    }
    cursor.u32("drift").map(|parts| Some(Drift::parts_per_million(parts)))
}

fn take_phase(cursor: &mut Cursor) -> Result<VotePhase, WireError> {
    match cursor.u8("vote phase")? {
        0 => Ok(VotePhase::PreVote),
        1 => Ok(VotePhase::Vote),
        2 => Ok(VotePhase::Transfer),
        got => Err(WireError::Meaningless { field: "vote phase", got: u64::from(got) }),
    }
}

fn take_append_entries(term: Term, cursor: &mut Cursor) -> Result<AppendEntries, WireError> {
    let prev_log = cursor.log_id()?;
    let leader_commit = cursor.index()?;
    let entries = take_entries(term, prev_log, cursor)?;
    Ok(AppendEntries { term, prev_log, entries, leader_commit })
}

/// Entries that follow `prev_log` without a gap, terms never falling and never above the leader's:
/// no leader has sent anything else, ever.
fn take_entries(term: Term, prev_log: LogId, cursor: &mut Cursor) -> Result<Vec<Entry>, WireError> {
    let count = take_count(cursor)?;
    let mut entries = Vec::with_capacity(count.min(cursor.left_bytes() / ITEM_BYTES_MIN));
    let mut previous = prev_log;
    for _ in 0..count {
        let entry = decode_entry(cursor.rest_mut())?;
        let got = entry.log_id;
        if got.index != previous.index.next() || got.term < previous.term {
            return Err(WireError::Gap { previous, got });
        }
        if got.term > term {
            return Err(WireError::EntryFromTheFuture { term, got: got.term });
        }
        previous = got;
        entries.push(entry);
    }
    Ok(entries)
}

fn take_append_outcome(cursor: &mut Cursor) -> Result<AppendOutcome, WireError> {
    match cursor.u8("outcome")? {
        0 => Ok(AppendOutcome::Accepted { matched: cursor.index()? }),
        1 => Ok(AppendOutcome::Rejected {
            prev_index: cursor.index()?,
            hint: ConflictHint { candidate: cursor.log_id()? },
        }),
        2 => Ok(AppendOutcome::StaleTerm),
        got => Err(WireError::Meaningless { field: "outcome", got: u64::from(got) }),
    }
}

fn take_install_snapshot(term: Term, cursor: &mut Cursor) -> Result<InstallSnapshot, WireError> {
    let meta = decode_snapshot_meta(cursor.rest_mut())?;
    check_meta(&meta)?;
    Ok(InstallSnapshot {
        term,
        meta,
        offset: cursor.number("offset")?,
        chunk: cursor.bytes("chunk")?,
        done: cursor.flag("done")?,
    })
}

fn check_meta(meta: &SnapshotMeta) -> Result<(), WireError> {
    let LogId { term, index } = meta.last_included;
    for (field, got) in [("term", term.get()), ("log index", index.get())] {
        if got > NUMBER_MAX {
            return Err(WireError::TooLarge { field, got, max: NUMBER_MAX });
        }
    }
    Ok(())
}

// ---- Introductions ---------------------------------------------------------------------------

fn put_introduction(introduction: &Introduction, out: &mut BytesMut) {
    let Introduction { storage_id, era, is_proven, has_history, beginning, answers } =
        *introduction;
    out.put_u8(INTRODUCE);
    out.put_u128_le(storage_id);
    out.put_u32_le(era);
    out.put_u8(is_proven.into());
    let begun = if beginning.is_some() { HAS_BEGINNING } else { 0 };
    out.put_u8(u8::from(has_history) | begun);
    if let Some(Beginning { last_included, checksum }) = beginning {
        put_log_id(last_included, out);
        out.put_u32_le(checksum);
    }
    out.put_u8(answers.is_some().into());
    if let Some(Seen { storage_id, era }) = answers {
        out.put_u128_le(storage_id);
        out.put_u32_le(era);
    }
}

fn take_introduction(cursor: &mut Cursor) -> Result<Introduction, WireError> {
    let (storage_id, era) = (cursor.u128("storage id")?, cursor.u32("era")?);
    let is_proven = cursor.flag("is proven")?;
    let past = cursor.u8("has history")?;
    let (has_history, begun) = (past & 1 == 1, past & HAS_BEGINNING != 0);
    if past > (HAS_BEGINNING | 1) {
        return Err(WireError::Meaningless { field: "has history", got: u64::from(past) });
    }
    let beginning = if begun {
        Some(Beginning { last_included: cursor.log_id()?, checksum: cursor.u32("checksum")? })
    } else {
        None
    };
    let answers = if cursor.flag("answers")? {
        Some(Seen { storage_id: cursor.u128("storage id")?, era: cursor.u32("era")? })
    } else {
        None
    };
    Ok(Introduction { storage_id, era, is_proven, has_history, beginning, answers })
}

// ---- Forwarding ------------------------------------------------------------------------------

pub(super) fn take_count(cursor: &mut Cursor) -> Result<usize, WireError> {
    cursor.u32("count").map(|count| count as usize)
}

fn take_forward(cursor: &mut Cursor) -> Result<PeerMessage, WireError> {
    let term = cursor.term()?;
    let incarnation = cursor.u64("incarnation")?;
    let count = take_count(cursor)?;
    let mut requests = Vec::with_capacity(count.min(cursor.left_bytes() / ITEM_BYTES_MIN));
    for _ in 0..count {
        let request = cursor.u64("request")?;
        requests.push(Forwarded { request, proposed: take_proposed(cursor)? });
    }
    Ok(PeerMessage::Forward { term, incarnation, requests })
}

fn put_proposed(proposed: &Proposed, out: &mut BytesMut) {
    match proposed {
        Proposed::Command(command) => {
            out.put_u8(PLAIN);
            put_bytes(command, out);
        }
        Proposed::Session(request) => {
            out.put_u8(OF_SESSION);
            let mut encoded = BytesMut::with_capacity(SESSION_HEAD_BYTES + request.size_bytes());
            encode_request(request, &mut encoded);
            put_bytes(&encoded, out);
        }
    }
}

fn take_proposed(cursor: &mut Cursor) -> Result<Proposed, WireError> {
    match cursor.u8("kind of command")? {
        PLAIN => Ok(Proposed::Command(cursor.bytes("command")?)),
        OF_SESSION => Ok(Proposed::Session(Box::new(decode_request(cursor.bytes("request")?)?))),
        got => Err(WireError::Meaningless { field: "kind of command", got: u64::from(got) }),
    }
}

fn take_forward_replies(cursor: &mut Cursor) -> Result<PeerMessage, WireError> {
    let incarnation = cursor.u64("incarnation")?;
    let count = take_count(cursor)?;
    let mut replies = Vec::with_capacity(count.min(cursor.left_bytes() / ITEM_BYTES_MIN));
    for _ in 0..count {
        let request = cursor.u64("request")?;
        replies.push((request, take_fate(cursor)?));
    }
    Ok(PeerMessage::ForwardReplies { incarnation, replies })
}
