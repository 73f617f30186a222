//! One record of a segment: header, payload, checksum (layout: `docs/wal-format.md`).
//! Must not know files, nor what an order of records means.

use crate::Identity;
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{LogId, LogIndex, Term};

/// The size of a record's header, in bytes.
pub(crate) const RECORD_HEADER_SIZE: usize = 40;
/// Records start at multiples of this many bytes.
pub(crate) const RECORD_ALIGNMENT: usize = 8;
/// The largest payload of a record. A larger length in a file is damage, and not allocated.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// An entry without payload.
    Noop,
    /// An entry with a command.
    Command,
    /// An entry with a configuration.
    Configuration,
    /// An entry with a command of a session.
    Session,
    /// The log now ends with the entry that the header names; what came after it is void.
    Truncate,
}

impl RecordKind {
    const fn tag(self) -> u8 {
        match self {
            Self::Noop => 1,
            Self::Command => 2,
            Self::Configuration => 3,
            Self::Truncate => 4,
            Self::Session => 5,
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Noop),
            2 => Some(Self::Command),
            3 => Some(Self::Configuration),
            4 => Some(Self::Truncate),
            5 => Some(Self::Session),
            _ => None,
        }
    }
}

/// What every checksum of one segment starts from, so that a record of another cluster, folder,
/// segment or use of the same file is never valid in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    /// The salt of segment number `segment`, created in `era`.
    pub(crate) fn new(identity: &Identity, segment: u64, era: u32) -> Self {
        let mut seed = Vec::with_capacity(48);
        seed.put_u64_le(identity.cluster_id);
        seed.put_u64_le(identity.node_id.get());
        seed.put_u128_le(identity.storage_id);
        seed.put_u64_le(segment);
        seed.put_u32_le(era);
        Self(crc32c::crc32c(&seed))
    }

    /// The salt as a segment's header keeps it; `None` for 0, which stands for none.
    pub(crate) const fn from_raw(raw: u32) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }

    fn checksum(self, position: u64, parts: [&[u8]; 3]) -> u32 {
        let seed = crc32c::crc32c_append(self.0, &position.to_le_bytes());
        parts.iter().fold(seed, |checksum, part| crc32c::crc32c_append(checksum, part))
    }
}

/// Which records a segment's file can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salts {
    /// The segment's own.
    pub(crate) own: Salt,
    /// Of the segment that the file was before, if it was one.
    pub(crate) previous: Option<Salt>,
}

/// What all records of one batch share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// The segment's salt.
    pub(crate) salt: Salt,
    /// How often the log had been opened when the batch was written.
    pub(crate) era: u32,
    /// The position in the segment before which everything was durable when it was written.
    pub(crate) synced_bytes: u64,
}

impl Batch {
    /// Appends a record that will stand at `position` of the segment. The payload's length must
    /// have been checked against [`PAYLOAD_BYTES_MAX`].
    pub(crate) fn encode(
        &self,
        position: u64,
        kind: RecordKind,
        log_id: LogId,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut header = [0_u8; RECORD_HEADER_SIZE - 4];
        let mut rest = header.as_mut_slice();
        rest.put_u32_le(length);
        rest.put_u32_le(u32::from(kind.tag()));
        rest.put_u32_le(self.era);
        rest.put_u64_le(log_id.index.get());
        rest.put_u64_le(log_id.term.get());
        rest.put_u64_le(self.synced_bytes);
        let padding = [0_u8; RECORD_ALIGNMENT];
        let padding = padding.get(..padding_size(payload.len())).unwrap_or_default();
        out.put_u32_le(self.salt.checksum(position, [&header, payload, padding]));
        out.put_slice(&header);
        out.put_slice(payload);
        out.put_slice(padding);
    }
}

const fn padding_size(payload_size: usize) -> usize {
    payload_size.next_multiple_of(RECORD_ALIGNMENT) - payload_size
}

/// How many bytes a record with such a payload takes.
pub(crate) const fn record_size(payload_size: usize) -> usize {
    RECORD_HEADER_SIZE + payload_size.next_multiple_of(RECORD_ALIGNMENT)
}

/// A record's header, as far as it makes sense by itself. Its checksum is not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    checksum: u32,
    pub(crate) payload_size: usize,
    pub(crate) kind: RecordKind,
    pub(crate) era: u32,
    pub(crate) log_id: LogId,
    pub(crate) synced_bytes: u64,
}

impl RecordHeader {
    /// Reads a header; `None` if no record can begin like this. `bytes` holds at least a header.
    pub(crate) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let checksum = bytes.try_get_u32_le().ok()?;
        let payload_size = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
        let kind = bytes.try_get_u32_le().ok()?;
        let kind = RecordKind::from_tag(u8::try_from(kind).ok()?)?;
        let era = bytes.try_get_u32_le().ok()?;
        let index = LogIndex::new(bytes.try_get_u64_le().ok()?);
        let term = Term::new(bytes.try_get_u64_le().ok()?);
        let synced_bytes = bytes.try_get_u64_le().ok()?;
        let log_id = LogId::new(term, index);
        let header = Self { checksum, payload_size, kind, era, log_id, synced_bytes };
        (payload_size <= PAYLOAD_BYTES_MAX && era > 0).then_some(header)
    }

    /// The size of the whole record, in bytes.
    pub(crate) const fn record_size(&self) -> usize {
        record_size(self.payload_size)
    }

    /// Whether `record`, which holds the whole record, is what was written at `position` of the
    /// segment that the salt stands for.
    pub(crate) fn is_valid(&self, salt: Salt, position: u64, record: &[u8]) -> bool {
        let body = record.get(4..).unwrap_or_default();
        self.synced_bytes <= position && salt.checksum(position, [body, &[], &[]]) == self.checksum
    }
}

/// A record whose checksum fits.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) header: RecordHeader,
    pub(crate) payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::NodeId;

    fn salt(segment: u64, era: u32) -> Salt {
        Salt::new(&Identity { cluster_id: 1, node_id: NodeId::new(2), storage_id: 3 }, segment, era)
    }

    fn encoded(position: u64) -> Vec<u8> {
        let batch = Batch { salt: salt(7, 1), era: 1, synced_bytes: 8 };
        let mut out = Vec::new();
        let log_id = LogId::new(Term::new(4), LogIndex::new(5));
        batch.encode(position, RecordKind::Command, log_id, b"hello", &mut out);
        out
    }

    #[test]
    fn a_record_is_valid_only_at_its_own_position_of_its_own_segment_and_use() {
        let bytes = encoded(16);
        let header = RecordHeader::parse(&bytes).unwrap();
        assert_eq!(header.record_size(), bytes.len());
        assert!(header.is_valid(salt(7, 1), 16, &bytes));
        assert!(!header.is_valid(salt(7, 1), 24, &bytes), "elsewhere in the segment");
        assert!(!header.is_valid(salt(8, 1), 16, &bytes), "in another segment");
        assert!(!header.is_valid(salt(7, 2), 16, &bytes), "in a later use of the number");
    }

    #[test]
    fn each_kind_of_record_has_a_tag_of_its_own_which_does_not_change() {
        let kinds = [
            (RecordKind::Noop, 1),
            (RecordKind::Command, 2),
            (RecordKind::Configuration, 3),
            (RecordKind::Truncate, 4),
            (RecordKind::Session, 5),
        ];
        for (kind, tag) in kinds {
            assert_eq!((kind.tag(), RecordKind::from_tag(tag)), (tag, Some(kind)));
        }
        assert_eq!([0, 6, 255].map(RecordKind::from_tag), [None; 3]);
    }

    #[test]
    fn a_header_is_believed_up_to_the_largest_payload_and_from_the_first_era_on() {
        let with = |length: usize, era: u32| {
            let mut bytes = encoded(16);
            bytes[4..8].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
            bytes[12..16].copy_from_slice(&era.to_le_bytes());
            RecordHeader::parse(&bytes).is_some()
        };
        assert!(with(PAYLOAD_BYTES_MAX, 1));
        assert!(!with(PAYLOAD_BYTES_MAX + 1, 1));
        assert!(!with(5, 0));
    }

    #[test]
    fn records_take_whole_units_of_alignment_and_no_more() {
        for (payload_size, size) in [(0, 40), (1, 48), (7, 48), (8, 48), (9, 56)] {
            let mut out = Vec::new();
            let batch = Batch { salt: salt(7, 1), era: 1, synced_bytes: 8 };
            let log_id = LogId::new(Term::new(4), LogIndex::new(5));
            batch.encode(16, RecordKind::Command, log_id, &vec![1; payload_size], &mut out);
            assert_eq!((out.len(), record_size(payload_size)), (size, size));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let bytes = encoded(16);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let noticed = RecordHeader::parse(&flipped).is_none_or(|header| {
                header.record_size() != flipped.len() || !header.is_valid(salt(7, 1), 16, &flipped)
            });
            assert!(noticed, "bit {bit}");
        }
    }
}
