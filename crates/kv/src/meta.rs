//! What the engine holds about the store itself: format, how far it goes, how far compaction got.
//! The layout is drawn in `docs/decisions/0002-storage-engine.md`.

use crate::alarm::{AlarmMember, Alarms};
use crate::engine::{Direction, Durability, Engine, EngineError, EngineView, Space, Write};
use crate::revision::{ChangeId, Revision};
use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};

/// A program that knew no leases would pass over them, one that knew no checksums would take them
/// for the rows, and one that knew no users would let everybody do everything: hence the number.
const FORMAT: u64 = 4;
/// The first format, without leases; the second had them, and no checksums.
const FORMAT_WITHOUT_LEASES: u64 = 1;
/// The third, with checksums and without users. It becomes the fourth with its next batch.
const FORMAT_WITHOUT_USERS: u64 = 3;
/// The one row that every program can read. It has a checksum of its own, which older ones skip.
pub(crate) const FORMAT_KEY: &[u8] = b"format";
const PROGRESS_KEY: &[u8] = b"progress";
const SCRUB_KEY: &[u8] = b"scrub";
const STORED_KEY: &[u8] = b"stored_bytes";
/// Revisions and counts above this are not believed: no store comes near, and whatever is below can
/// be counted on from without a thought of overflow.
pub(crate) const REVISION_MAX: u64 = 1 << 62;

/// How far a state goes. Written in the same batch as the changes that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last command that is contained.
    pub(crate) applied: LogId,
    /// The log up to here is contained. Above `applied` only after a snapshot: no-ops followed.
    pub(crate) covered: LogIndex,
    pub(crate) revision: Revision,
    pub(crate) compacted: Option<Revision>,
    /// How many keys exist.
    pub(crate) key_count: u64,
    pub(crate) alarms: Alarms,
}

impl Default for Progress {
    /// A fresh store.
    fn default() -> Self {
        Self {
            applied: LogId::ORIGIN,
            covered: LogIndex::ORIGIN,
            revision: Revision::FIRST,
            compacted: None,
            key_count: 0,
            alarms: Alarms::default(),
        }
    }
}

/// How far the physical part of compaction got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrub {
    /// The next change to look at. What earlier changes made superfluous is gone.
    pub(crate) next: ChangeId,
    /// Everything that this compaction made superfluous is gone.
    pub(crate) done: Option<Revision>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) progress: Progress,
    pub(crate) scrub: Scrub,
    /// The bytes of all rows and index entries.
    pub(crate) stored_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ProgressMessage {
    #[prost(uint64, tag = "1")]
    applied_term: u64,
    #[prost(uint64, tag = "2")]
    applied_index: u64,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(uint64, optional, tag = "4")]
    compacted: Option<u64>,
    #[prost(uint64, tag = "5")]
    key_count: u64,
    #[prost(uint64, tag = "6")]
    covered: u64,
    #[prost(message, repeated, tag = "15")]
    alarms: Vec<AlarmMember>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ScrubMessage {
    #[prost(uint64, tag = "1")]
    next_main: u64,
    #[prost(uint32, tag = "2")]
    next_sub: u32,
    #[prost(uint64, optional, tag = "3")]
    done: Option<u64>,
}

/// The format. A program of before format 3 reads the first field, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct FormatMessage {
    #[prost(uint64, tag = "1")]
    value: u64,
    #[prost(fixed32, optional, tag = "15")]
    checksum: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}

impl Progress {
    pub(crate) fn write(&self) -> Write {
        put(PROGRESS_KEY, &self.to_message())
    }

    fn read(view: &dyn EngineView) -> Result<Option<Self>, EngineError> {
        let Some(message) = get::<ProgressMessage>(view, PROGRESS_KEY)? else { return Ok(None) };
        if !message.is_possible() {
            return Err(corrupt(PROGRESS_KEY));
        }
        Ok(Some(Self::from_message(&message)))
    }

    /// As it stands at the head of a snapshot. A store that was restored itself says the same.
    pub(crate) fn encode(&self) -> Vec<u8> {
        Self { covered: self.applied.index, ..self.clone() }.to_message().encode_to_vec()
    }

    /// The inverse of [`Progress::encode`]; `None` if the bytes are something else, or say what no
    /// store says of itself.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let message = ProgressMessage::decode(bytes).ok()?;
        message.is_possible().then(|| Self::from_message(&message))
    }

    fn to_message(&self) -> ProgressMessage {
        ProgressMessage {
            applied_term: self.applied.term.get(),
            applied_index: self.applied.index.get(),
            covered: self.covered.get(),
            revision: self.revision.get(),
            compacted: self.compacted.map(Revision::get),
            key_count: self.key_count,
            alarms: self.alarms.to_members(),
        }
    }

    fn from_message(message: &ProgressMessage) -> Self {
        let (term, index) = (Term::new(message.applied_term), LogIndex::new(message.applied_index));
        Self {
            applied: LogId::new(term, index),
            covered: LogIndex::new(message.covered),
            revision: Revision::new(message.revision),
            compacted: message.compacted.map(Revision::new),
            key_count: message.key_count,
            alarms: Alarms::from_members(&message.alarms),
        }
    }
}

impl ProgressMessage {
    /// Whether a store can be there, and can be counted on from there.
    fn is_possible(&self) -> bool {
        let revisions = Revision::FIRST.get()..=REVISION_MAX;
        revisions.contains(&self.revision)
            && self.compacted.is_none_or(|compacted| compacted <= self.revision)
            && self.key_count <= REVISION_MAX
    }
}

impl Scrub {
    pub(crate) fn write(&self) -> Write {
        let message = ScrubMessage {
            next_main: self.next.main.get(),
            next_sub: self.next.sub,
            done: self.done.map(Revision::get),
        };
        put(SCRUB_KEY, &message)
    }

    fn read(view: &dyn EngineView) -> Result<Option<Self>, EngineError> {
        let Some(message) = get::<ScrubMessage>(view, SCRUB_KEY)? else { return Ok(None) };
        Ok(Some(Self {
            next: ChangeId::new(Revision::new(message.next_main), message.next_sub),
            done: message.done.map(Revision::new),
        }))
    }
}

impl Meta {
    /// What the engine holds; a fresh store's if it is empty.
    pub(crate) fn read(view: &dyn EngineView) -> Result<Self, EngineError> {
        if read_format(view)?.is_none() {
            return Ok(Self::default());
        }
        Ok(Self {
            // Every store that was ever written to says how far it goes.
            progress: Progress::read(view)?.ok_or_else(|| missing(PROGRESS_KEY))?,
            scrub: Scrub::read(view)?.unwrap_or_default(),
            stored_bytes: get::<Number>(view, STORED_KEY)?.map_or(0, |number| number.value),
        })
    }
}

/// Gives a store of an older format to `sealed`, which is `engine` with checksums: from then on
/// whatever is small has them. Rows and index entries get them as they are written.
pub(crate) fn upgrade(engine: &dyn Engine, sealed: &dyn Engine) -> Result<(), EngineError> {
    let view = engine.view()?;
    match read_format(view.as_ref())? {
        None | Some(FORMAT_WITHOUT_USERS..) => return Ok(()),
        Some(_) => {}
    }
    let mut batch = Vec::new();
    for space in [Space::Meta, Space::Leases] {
        let mut cursor = view.scan(space, &[], None, Direction::Forward)?;
        while cursor.advance()? {
            let (key, value) = (cursor.key().to_vec(), cursor.value().to_vec());
            batch.push(Write::Put { space, key, value });
        }
    }
    batch.push(write_format());
    sealed.write_batch(batch, Durability::Now)
}

/// The format, if it is one that we know; `None` for a fresh store.
fn read_format(view: &dyn EngineView) -> Result<Option<u64>, EngineError> {
    let Some(stored) = view.get(Space::Meta, FORMAT_KEY)? else {
        let is_empty = !view.scan(Space::Meta, &[], None, Direction::Forward)?.advance()?;
        return if is_empty { Ok(None) } else { Err(missing(FORMAT_KEY)) };
    };
    let FormatMessage { value, checksum } = decode(FORMAT_KEY, stored.clone())?;
    let is_whole = match value {
        FORMAT_WITHOUT_USERS..=FORMAT => checksum == Some(format_checksum(value)),
        // What old programs wrote, to the byte: nothing that damage makes of ours.
        FORMAT_WITHOUT_LEASES..FORMAT_WITHOUT_USERS => *stored == Number { value }.encode_to_vec(),
        _ => checksum.is_none_or(|checksum| checksum == format_checksum(value)),
    };
    if !is_whole {
        return Err(corrupt(FORMAT_KEY));
    }
    if !(FORMAT_WITHOUT_LEASES..=FORMAT).contains(&value) {
        return Err(EngineError::Format { newest: FORMAT, got: value });
    }
    Ok(Some(value))
}

fn format_checksum(value: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(FORMAT_KEY), &value.to_le_bytes())
}

pub(crate) fn write_format() -> Write {
    let checksum = Some(format_checksum(FORMAT));
    put(FORMAT_KEY, &FormatMessage { value: FORMAT, checksum })
}

pub(crate) fn write_stored_bytes(value: u64) -> Write {
    put(STORED_KEY, &Number { value })
}

fn put(key: &[u8], message: &impl Message) -> Write {
    Write::Put { space: Space::Meta, key: key.to_vec(), value: message.encode_to_vec() }
}

fn get<M: Message + Default>(
    view: &dyn EngineView,
    key: &'static [u8],
) -> Result<Option<M>, EngineError> {
    let Some(value) = view.get(Space::Meta, key)? else { return Ok(None) };
    decode(key, value).map(Some)
}

fn decode<M: Message + Default>(key: &[u8], value: Bytes) -> Result<M, EngineError> {
    M::decode(value).map_err(|_| corrupt(key))
}

fn corrupt(key: &[u8]) -> EngineError {
    let (space, key) = (Space::Meta, key.to_vec());
    EngineError::Corrupt { space, key, what: "not the expected message" }
}

fn missing(key: &[u8]) -> EngineError {
    let (space, key) = (Space::Meta, key.to_vec());
    EngineError::Corrupt { space, key, what: "missing, though there are others" }
}
