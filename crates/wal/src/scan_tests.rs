//! How a file is read around what cannot be read, and which entries behind a stop are known. Must not
//! know what recovery makes of it.

use super::*;
use crate::Identity;
use crate::record::Salt;
use quorate_core::NodeId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const SECTOR: usize = 512;
const SIZE: usize = 4 * SECTOR;

/// A file of four sectors, one of which cannot be read, and which ends sooner than it says.
struct Faulty {
    bad: Range<usize>,
    end: usize,
    /// Reads of more than a sector that fail, whatever they are of.
    moody_count: AtomicUsize,
    reads: Mutex<Vec<Range<usize>>>,
    content: fn(usize) -> u8,
}

impl Faulty {
    fn new(bad: Range<usize>, end: usize) -> Self {
        let (moody_count, reads) = (AtomicUsize::new(0), Mutex::default());
        Self { bad, end, moody_count, reads, content }
    }

    /// How many reads there were since the last question, and how many of them met the bad sector.
    fn reads(&self) -> (usize, usize) {
        let reads = std::mem::take(&mut *self.reads.lock().unwrap());
        (reads.len(), reads.iter().filter(|read| self.is_bad(read)).count())
    }

    fn is_bad(&self, read: &Range<usize>) -> bool {
        read.start < self.bad.end && self.bad.start < read.end
    }
}

fn content(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

impl DiskFile for Faulty {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(SIZE as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap();
        let read = start..start + buffer.len();
        self.reads.lock().unwrap().push(read.clone());
        let is_moody = buffer.len() > SECTOR && self.moody_count.load(Relaxed) > 0;
        if is_moody {
            self.moody_count.fetch_sub(1, Relaxed);
        }
        if is_moody || self.is_bad(&read) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = self.end.saturating_sub(start).min(buffer.len());
        for (place, byte) in buffer[..count].iter_mut().enumerate() {
            *byte = (self.content)(start + place);
        }
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("nobody writes here")
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        unreachable!("nobody writes here")
    }

    fn sync(&self) -> io::Result<()> {
        unreachable!("nobody writes here")
    }
}

fn scanner(file: &Faulty) -> Scanner<'_> {
    let identity = Identity { cluster_id: 1, node_id: NodeId::new(1), storage_id: 1 };
    let salts = Salts { own: Salt::new(&identity, 1, 1), previous: None };
    Scanner::new(file, Path::new("file"), salts, u64::MAX, SIZE).unwrap()
}

/// Whether these bytes can be had; they must be the right ones.
fn has(scanner: &mut Scanner<'_>, range: Range<usize>) -> bool {
    let Ok(bytes) = scanner.bytes_at(range.start as u64, range.len()) else { return false };
    let expected: Vec<u8> = range.map(content).collect();
    assert_eq!(bytes.unwrap(), expected);
    true
}

#[test]
fn around_a_sector_that_cannot_be_read_everything_can_and_nothing_in_it() {
    let bad = 2 * SECTOR..3 * SECTOR;
    for start in (0..SIZE).step_by(61) {
        for length in [1, 61, SECTOR, SECTOR + 1, 2 * SECTOR] {
            let range = start..(start + length).min(SIZE);
            let file = Faulty::new(bad.clone(), SIZE);
            let is_clear = !file.is_bad(&range);
            let fresh = has(&mut scanner(&file), range.clone());
            assert_eq!(fresh, is_clear, "{range:?}");
            let mut knowing = scanner(&file);
            assert!(!has(&mut knowing, bad.clone()));
            assert_eq!(has(&mut knowing, range.clone()), is_clear, "{range:?}");
        }
    }
}

#[test]
fn a_sector_that_is_known_to_be_bad_is_not_asked_for_again() {
    let file = Faulty::new(2 * SECTOR..3 * SECTOR, SIZE);
    let mut scanner = scanner(&file);
    assert!(has(&mut scanner, 0..100));
    // All of it, then sector by sector up to the bad one.
    assert_eq!(file.reads(), (4, 2));
    assert!(has(&mut scanner, 3 * SECTOR..SIZE), "right behind it");
    assert_eq!(file.reads(), (1, 0));
    assert!(!has(&mut scanner, 1000..1100));
    assert_eq!(file.reads(), (0, 0));
    assert!(has(&mut scanner, 600..610), "before it");
    assert!(has(&mut scanner, 600..2 * SECTOR), "right up to it");
    assert_eq!(file.reads(), (1, 0));
}

#[test]
fn a_read_that_fails_for_a_moment_is_made_up_for_sector_by_sector() {
    let file = Faulty::new(0..0, SIZE);
    file.moody_count.store(1, Relaxed);
    assert!(has(&mut scanner(&file), 100..SIZE));
    assert_eq!(file.reads(), (5, 0), "at once, then the rest of the first sector and three more");
}

#[test]
fn a_file_that_ends_sooner_than_it_says_is_unreadable_from_there_on() {
    for moody_count in [0, 1] {
        let file = Faulty::new(0..0, 3 * SECTOR + 10);
        file.moody_count.store(moody_count, Relaxed);
        let mut scanner = scanner(&file);
        assert!(has(&mut scanner, 0..3 * SECTOR + 10));
        let beyond = scanner.bytes_at(0, 3 * SECTOR + 11);
        assert!(matches!(beyond, Err(Unread(io::ErrorKind::UnexpectedEof))));
    }
}

#[test]
fn a_rest_is_blank_if_no_window_of_it_holds_anything() {
    let is_blank_from = |content, position| {
        let file = Faulty { content, ..Faulty::new(0..0, SIZE) };
        let mut scanner = Scanner { step_bytes: SECTOR, ..scanner(&file) };
        let is_blank = scanner.is_blank_from(position).unwrap();
        (is_blank, file.reads().0)
    };
    assert_eq!(is_blank_from(|_| 0, 2), (true, 4), "in as few reads as there are windows");
    assert_eq!(is_blank_from(|_| 0, SIZE as u64), (true, 0));
    let last = |at| u8::from(at == SIZE - 1);
    assert_eq!(is_blank_from(last, 2), (false, 4));
    assert!(!is_blank_from(last, SIZE as u64 - 1).0);
    let first = |at| u8::from(at == 0);
    assert!(is_blank_from(first, 2).0);
    assert!(!is_blank_from(first, 0).0);
}

/// A record that was written when everything before `synced_bytes` was durable.
fn record(index: u64, synced_bytes: u64) -> Record {
    let mut bytes = Vec::new();
    for word in [0_u32, 8, 1, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [index, 1, synced_bytes] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(RECORD_HEADER_SIZE, 0);
    let header = RecordHeader::parse(&bytes).unwrap();
    Record { header, payload: Bytes::from_static(&[7; 8]) }
}

#[test]
fn what_came_after_the_stop_was_durable_proves_it() {
    let note = |synced_bytes| {
        let mut beyond = Beyond { synced_bytes: 1000, later: Later::None, first_proof: None };
        beyond.note(1000, &record(5, synced_bytes));
        (beyond.later, beyond.first_proof.is_some(), beyond.synced_bytes)
    };
    assert_eq!(note(1001), (Later::Proven, true, 1001));
    assert_eq!(note(1000), (Later::Unproven, false, 1000), "it may be of the torn batch");
}
