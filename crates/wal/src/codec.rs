//! The bytes of entries, configurations and snapshot metas, for the log's records and for the
//! wire. Numbers are LEB128 varints; must not know files, frames or connections.

use bytes::{Buf, BufMut, Bytes};
use quorate_core::{
    Change, Configuration, Entry, LogId, LogIndex, Member, MemberRole, Members, NodeId, Payload,
    ProtocolVersion, SnapshotMeta, Term,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of the configuration encoding, its first byte; written as long as no version of the
/// protocol is recorded, so that programs that record none can read it.
const CONFIGURATION_WITHOUT_PROTOCOL: u8 = 3;
/// The same, and at the end which protocol the cluster speaks.
const CONFIGURATION_WITH_PROTOCOL: u8 = 4;
/// The one before it, which says nothing of disks; it is still read.
const CONFIGURATION_WITHOUT_STORAGES: u8 = 2;

const TAG_NOOP: u8 = 1;
const TAG_COMMAND: u8 = 2;
const TAG_CONFIGURATION: u8 = 3;
const TAG_SESSION: u8 = 4;

/// Bytes that do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends within the value.
    #[error("{what} needs {wanted} more bytes, {available} are left")]
    TooShort {
        /// Which value.
        what: &'static str,
        /// How many bytes it needs.
        wanted: u64,
        /// How many there are.
        available: usize,
    },
    /// A tag or version that this program does not know.
    #[error("{what} has the unknown tag {found}")]
    UnknownTag {
        /// Which value.
        what: &'static str,
        /// Its tag.
        found: u8,
    },
    /// A number that exceeds its type.
    #[error("{what} exceeds its range")]
    OutOfRange {
        /// Which value.
        what: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// Which value.
        what: &'static str,
    },
    /// A cluster that speaks a later protocol than this program does.
    #[error(
        "the cluster speaks protocol version {found}, this program up to {newest}: start the program \
         that the other members run"
    )]
    NewerProtocol {
        /// What the cluster speaks.
        found: ProtocolVersion,
        /// The newest that this program speaks.
        newest: ProtocolVersion,
    },
    /// Members that are not in ascending order.
    #[error("member {found} is listed after member {after}")]
    MemberOrder {
        /// The member before.
        after: NodeId,
        /// The member out of order.
        found: NodeId,
    },
    /// Bytes after the value where there should be none.
    #[error("{count} bytes follow after {what}")]
    Trailing {
        /// Which value.
        what: &'static str,
        /// How many bytes.
        count: usize,
    },
}

/// Appends a number: 7 bits a byte, the lowest first.
pub fn encode_varint(mut value: u64, out: &mut impl BufMut) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

/// Takes a number off the front of `input`.
///
/// # Errors
///
/// [`DecodeError::TooShort`] or [`DecodeError::OutOfRange`] (more than 64 bits, or not the
/// shortest form), naming `what`.
pub fn decode_varint(input: &mut Bytes, what: &'static str) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = decode_u8(input, what)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(DecodeError::OutOfRange { what });
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            // One value has one encoding: a zero last byte would be a second one.
            let is_shortest = shift == 0 || bits != 0;
            return if is_shortest { Ok(value) } else { Err(DecodeError::OutOfRange { what }) };
        }
    }
    Err(DecodeError::OutOfRange { what })
}

/// Takes one byte off the front of `input`.
///
/// # Errors
///
/// [`DecodeError::TooShort`], naming `what`.
pub fn decode_u8(input: &mut Bytes, what: &'static str) -> Result<u8, DecodeError> {
    input.try_get_u8().map_err(|_| DecodeError::TooShort { what, wanted: 1, available: 0 })
}

/// Appends a length and the bytes.
pub fn encode_bytes(value: &[u8], out: &mut impl BufMut) {
    encode_varint(value.len() as u64, out);
    out.put_slice(value);
}

/// Takes a length and as many bytes off the front of `input`, without copying them.
///
/// # Errors
///
/// [`DecodeError::TooShort`] or [`DecodeError::OutOfRange`], naming `what`.
pub fn decode_bytes(input: &mut Bytes, what: &'static str) -> Result<Bytes, DecodeError> {
    let wanted = decode_varint(input, what)?;
    let available = input.len();
    match usize::try_from(wanted) {
        Ok(length) if length <= available => Ok(input.split_to(length)),
        Ok(_) | Err(_) => Err(DecodeError::TooShort { what, wanted, available }),
    }
}

/// Appends a log id: term, then index.
pub fn encode_log_id(value: LogId, out: &mut impl BufMut) {
    encode_varint(value.term.get(), out);
    encode_varint(value.index.get(), out);
}

/// Takes a log id off the front of `input`.
///
/// # Errors
///
/// [`DecodeError::TooShort`] or [`DecodeError::OutOfRange`].
pub fn decode_log_id(input: &mut Bytes) -> Result<LogId, DecodeError> {
    let term = Term::new(decode_varint(input, "term")?);
    let index = LogIndex::new(decode_varint(input, "index")?);
    Ok(LogId::new(term, index))
}

/// Appends an entry: tag, log id, payload.
pub fn encode_entry(entry: &Entry, out: &mut impl BufMut) {
    match &entry.payload {
        Payload::Noop => {
            out.put_u8(TAG_NOOP);
            encode_log_id(entry.log_id, out);
        }
        Payload::Command(command) => {
            out.put_u8(TAG_COMMAND);
            encode_log_id(entry.log_id, out);
            encode_bytes(command, out);
        }
        Payload::Session(command) => {
            out.put_u8(TAG_SESSION);
            encode_log_id(entry.log_id, out);
            encode_bytes(command, out);
        }
        Payload::Configuration(configuration) => {
            out.put_u8(TAG_CONFIGURATION);
            encode_log_id(entry.log_id, out);
            encode_configuration(configuration, out);
        }
    }
}

/// Takes an entry off the front of `input`; a command shares the input's buffer.
///
/// # Errors
///
/// Any [`DecodeError`] but `Trailing`.
pub fn decode_entry(input: &mut Bytes) -> Result<Entry, DecodeError> {
    let tag = decode_u8(input, "entry")?;
    let log_id = decode_log_id(input)?;
    let payload = match tag {
        TAG_NOOP => Payload::Noop,
        TAG_COMMAND => Payload::Command(decode_bytes(input, "command")?),
        TAG_SESSION => Payload::Session(decode_bytes(input, "command")?),
        TAG_CONFIGURATION => Payload::Configuration(Arc::new(decode_configuration(input)?)),
        found => return Err(DecodeError::UnknownTag { what: "entry", found }),
    };
    Ok(Entry { log_id, payload })
}

/// Appends a configuration.
pub fn encode_configuration(configuration: &Configuration, out: &mut impl BufMut) {
    let is_recorded = configuration.cluster_version != ProtocolVersion::UNRECORDED;
    out.put_u8(if is_recorded {
        CONFIGURATION_WITH_PROTOCOL
    } else {
        CONFIGURATION_WITHOUT_PROTOCOL
    });
    encode_varint(configuration.version, out);
    encode_members(&configuration.members, out);
    out.put_u8(configuration.change.is_some().into());
    if let Some(change) = &configuration.change {
        encode_members(&change.target, out);
        encode_members(&change.origin, out);
    }
    encode_varint(configuration.removed.len() as u64, out);
    for id in &configuration.removed {
        encode_varint(id.get(), out);
    }
    encode_varint(configuration.storages.len() as u64, out);
    for (id, storage_id) in &configuration.storages {
        encode_varint(id.get(), out);
        out.put_u128_le(*storage_id);
    }
    if is_recorded {
        encode_varint(configuration.cluster_version.get().into(), out);
    }
}

/// Takes a configuration off the front of `input`; contexts share the input's buffer.
///
/// # Errors
///
/// Any [`DecodeError`] but `Trailing`.
pub fn decode_configuration(input: &mut Bytes) -> Result<Configuration, DecodeError> {
    let tag = decode_u8(input, "configuration")?;
    let is_known = matches!(
        tag,
        CONFIGURATION_WITHOUT_STORAGES
            | CONFIGURATION_WITHOUT_PROTOCOL
            | CONFIGURATION_WITH_PROTOCOL
    );
    if !is_known {
        return Err(DecodeError::UnknownTag { what: "configuration", found: tag });
    }
    let version = decode_varint(input, "configuration version")?;
    let members = decode_members(input)?;
    let change = match decode_u8(input, "change")? {
        0 => None,
        1 => {
            let (target, origin) = (decode_members(input)?, decode_members(input)?);
            Some(Box::new(Change { target, origin }))
        }
        found => return Err(DecodeError::UnknownTag { what: "change", found }),
    };
    let removed_count = decode_varint(input, "removed count")?;
    let mut removed = Vec::new();
    // The count is not trusted: each round takes bytes off the input or fails.
    for _ in 0..removed_count {
        removed.push(NodeId::new(decode_varint(input, "removed node id")?));
    }
    let storages = match tag {
        CONFIGURATION_WITHOUT_STORAGES => BTreeMap::new(),
        _ => decode_storages(input)?,
    };
    let cluster_version = match tag {
        CONFIGURATION_WITH_PROTOCOL => decode_protocol(input)?,
        _ => ProtocolVersion::UNRECORDED,
    };
    Ok(Configuration { version, members, change, removed, storages, cluster_version })
}

/// What the cluster speaks: later than what is not recorded, and nothing that this program does not.
fn decode_protocol(input: &mut Bytes) -> Result<ProtocolVersion, DecodeError> {
    const WHAT: &str = "protocol version";
    let number = decode_varint(input, WHAT)?;
    let number = u16::try_from(number).map_err(|_| DecodeError::OutOfRange { what: WHAT })?;
    let version = ProtocolVersion::new(number);
    if version <= ProtocolVersion::UNRECORDED {
        return Err(DecodeError::OutOfRange { what: WHAT });
    }
    if version > ProtocolVersion::NEWEST {
        let newest = ProtocolVersion::NEWEST;
        return Err(DecodeError::NewerProtocol { found: version, newest });
    }
    Ok(version)
}

/// Who has which disk, in ascending order of the ids.
fn decode_storages(input: &mut Bytes) -> Result<BTreeMap<NodeId, u128>, DecodeError> {
    let count = decode_varint(input, "storage count")?;
    let mut storages = BTreeMap::new();
    // The count is not trusted: each round takes bytes off the input or fails.
    for _ in 0..count {
        let id = NodeId::new(decode_varint(input, "node id of a storage")?);
        let available = input.len();
        let storage_id = input.try_get_u128_le().map_err(|_| DecodeError::TooShort {
            what: "storage id",
            wanted: 16,
            available,
        })?;
        if let Some((&after, _)) = storages.last_key_value()
            && after >= id
        {
            return Err(DecodeError::MemberOrder { after, found: id });
        }
        storages.insert(id, storage_id);
    }
    Ok(storages)
}

/// Appends members, in ascending order of their ids.
pub fn encode_members(members: &Members, out: &mut impl BufMut) {
    encode_varint(members.len() as u64, out);
    for (id, member) in members {
        encode_varint(id.get(), out);
        out.put_u8(role_tag(member.role));
        encode_varint(u64::from(member.rank), out);
        encode_bytes(member.address.as_bytes(), out);
        encode_bytes(&member.context, out);
    }
}

/// Takes members off the front of `input`; contexts share the input's buffer.
///
/// # Errors
///
/// Any [`DecodeError`] but `Trailing`.
pub fn decode_members(input: &mut Bytes) -> Result<Members, DecodeError> {
    let member_count = decode_varint(input, "member count")?;
    let mut members = BTreeMap::new();
    // The count is not trusted: each round takes bytes off the input or fails.
    for _ in 0..member_count {
        let (id, member) = decode_member(input)?;
        if let Some((&after, _)) = members.last_key_value()
            && after >= id
        {
            return Err(DecodeError::MemberOrder { after, found: id });
        }
        members.insert(id, member);
    }
    Ok(members)
}

fn decode_member(input: &mut Bytes) -> Result<(NodeId, Member), DecodeError> {
    let id = NodeId::new(decode_varint(input, "node id")?);
    let role = role_from_tag(decode_u8(input, "member role")?)?;
    let rank = u32::try_from(decode_varint(input, "rank")?)
        .map_err(|_| DecodeError::OutOfRange { what: "rank" })?;
    let address = String::from_utf8(decode_bytes(input, "address")?.to_vec())
        .map_err(|_| DecodeError::NotUtf8 { what: "address" })?;
    let context = decode_bytes(input, "context")?;
    Ok((id, Member { role, rank, address, context }))
}

fn role_tag(role: MemberRole) -> u8 {
    match role {
        MemberRole::Voter => 1,
        MemberRole::Incoming => 2,
        MemberRole::Outgoing => 3,
        MemberRole::Learner => 4,
    }
}

fn role_from_tag(tag: u8) -> Result<MemberRole, DecodeError> {
    match tag {
        1 => Ok(MemberRole::Voter),
        2 => Ok(MemberRole::Incoming),
        3 => Ok(MemberRole::Outgoing),
        4 => Ok(MemberRole::Learner),
        found => Err(DecodeError::UnknownTag { what: "member role", found }),
    }
}

/// Appends a snapshot's meta: log id, then configuration.
pub fn encode_snapshot_meta(meta: &SnapshotMeta, out: &mut impl BufMut) {
    encode_log_id(meta.last_included, out);
    encode_configuration(&meta.configuration, out);
}

/// Takes a snapshot's meta off the front of `input`.
///
/// # Errors
///
/// Any [`DecodeError`] but `Trailing`.
pub fn decode_snapshot_meta(input: &mut Bytes) -> Result<SnapshotMeta, DecodeError> {
    let last_included = decode_log_id(input)?;
    let configuration = Arc::new(decode_configuration(input)?);
    Ok(SnapshotMeta { last_included, configuration })
}

/// Checks that nothing is left of `input`, naming `what` was decoded.
///
/// # Errors
///
/// [`DecodeError::Trailing`].
pub fn expect_end(input: &Bytes, what: &'static str) -> Result<(), DecodeError> {
    match input.len() {
        0 => Ok(()),
        count => Err(DecodeError::Trailing { what, count }),
    }
}
