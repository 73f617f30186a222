//! Files that are not what was written: a log and a snapshot, damaged anywhere and in any way. They
//! open, or are refused with a reason; what they give then is checked like everything else.

use super::input::Input;
use crate::disk::SimDisk;
use crate::rng::Rng;
use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, NodeId, Options, Payload, Persist,
    PersistSeq, Raft, SnapshotMeta, Term, Time,
};
use quorate_wal::{Disk, Identity, Parcel, Received, SnapshotStore, Wal, WalError, WalOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FOLDER: &str = "/node/wal";
const NODE: NodeId = NodeId::new(1);

/// A log is written as the input says, then damaged as it says, then opened.
pub(super) fn log_folder(data: &[u8]) {
    let mut input = Input(data);
    let disk = SimDisk::new(Rng::new(1));
    if write_log(&disk, &mut input).is_err() {
        return;
    }
    damage(&disk, Path::new(FOLDER), &mut input, place);
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let opened = Wal::open(shared, Path::new(FOLDER), options(), 7, NODE);
    let Ok((mut wal, recovered)) = opened else { return };
    let (first, last) = (wal.first_index(), wal.last_log().index);
    let _ = wal.read(first, last, usize::MAX);
    // What the log vouches for, the core takes, or refuses with a reason.
    let restored = recovered.into_restored(wal.base().last_included.index);
    if let Ok(mut raft) = Raft::new(NODE, Options::default(), 1, restored, Time::ZERO) {
        raft.step(Time::ZERO, quorate_core::Event::Deadline, &mut Vec::new());
    }
}

fn options() -> WalOptions {
    WalOptions { segment_size_bytes: 4096, first_segment_size_bytes: 2048, ..WalOptions::default() }
}

fn write_log(disk: &SimDisk, input: &mut Input<'_>) -> Result<(), WalError> {
    let identity = Identity { cluster_id: 7, node_id: NODE, storage_id: 9 };
    let initial = SnapshotMeta {
        last_included: LogId::ORIGIN,
        configuration: Arc::new(Configuration::default()),
    };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut wal, _) = Wal::create(disk, Path::new(FOLDER), options(), identity, initial)?;
    for seq in 1..=u64::from(input.below(8)) {
        let term = wal.last_log().term.max(Term::new(u64::from(input.below(6))));
        let mut persist = Persist { seq: PersistSeq::new(seq), ..Persist::default() };
        let mut last = wal.last_log().index;
        if input.below(4) == 0 {
            last = LogIndex::new(last.get().saturating_sub(u64::from(input.below(3))));
            persist.truncate_after = Some(last.max(wal.base().last_included.index));
        }
        for _ in 0..input.below(4) {
            last = last.next();
            let size = usize::from(input.byte()) * 4;
            let payload = Payload::Command(Bytes::from(vec![input.byte(); size]));
            persist.entries.push(Entry { log_id: LogId::new(term, last), payload });
        }
        if input.flag() {
            persist.hard_state = Some(HardState { current_term: term, voted_for: Some(NODE) });
        }
        wal.persist(&[persist])?;
    }
    if input.flag() { wal.mark_synced() } else { Ok(()) }
}

/// Bytes change, files end earlier or grow, vanish, or take each other's place.
fn damage(disk: &SimDisk, folder: &Path, input: &mut Input<'_>, place: fn(&mut Input<'_>) -> u64) {
    let mut names = disk.list(folder).unwrap_or_default();
    names.sort_unstable();
    while !input.is_empty() {
        let Some(name) = pick(&names, input) else { return };
        let path = folder.join(name);
        let _ = match input.below(5) {
            0 => disk.remove(&path),
            1 => {
                pick(&names, input).map_or(Ok(()), |other| disk.rename(&path, &folder.join(other)))
            }
            2 => disk.open(&path).and_then(|file| file.set_size(place(input))),
            _ => disk.open(&path).and_then(|file| {
                let offset = place(input);
                let count = usize::from(input.below(16));
                file.write_at(input.bytes(count), offset)
            }),
        };
    }
}

fn pick<'a>(names: &'a [String], input: &mut Input<'_>) -> Option<&'a String> {
    let at = usize::from(input.byte()).checked_rem(names.len())?;
    names.get(at)
}

/// An offset within a few KiB.
fn place(input: &mut Input<'_>) -> u64 {
    u64::from(u16::from_le_bytes([input.byte(), input.byte() % 24]))
}

/// The two places of a mark, and the size of what stands there.
const SLOTS: [u64; 2] = [4096, 8192];
const SLOT_BYTES: usize = 64;

/// A log's mark says anything, under checksums that are right or not. A log that is whole is opened
/// with all that it holds, or refused for what the mark claims beyond that; what stands there without
/// a checksum that fits makes no difference at all.
pub(super) fn log_mark(data: &[u8]) {
    let mut input = Input(data);
    let disk = SimDisk::new(Rng::new(1));
    if write_log(&disk, &mut input).is_err() {
        return;
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let Ok((wal, _)) = Wal::open(Arc::clone(&shared), Path::new(FOLDER), options(), 7, NODE) else {
        return;
    };
    let last = wal.last_log();
    drop(wal);
    let Ok(file) = disk.open(&Path::new(FOLDER).join("mark")) else { return };
    let ([first, second], mut is_believed) = (SLOTS, false);
    while !input.is_empty() {
        let fits = input.flag();
        is_believed |= fits;
        let slot = slot(&mut input, fits);
        let at = if input.flag() { first } else { second };
        if file.write_at(&slot, at).is_err() {
            return;
        }
    }
    match Wal::open(shared, Path::new(FOLDER), options(), 7, NODE) {
        Ok((mut wal, recovered)) => {
            assert_eq!((wal.last_log(), recovered.last_log), (last, last), "nothing is lost");
            let written = wal.persist(&[]).and_then(|()| wal.mark_synced());
            assert!(written.is_ok(), "it can be written over");
        }
        Err(WalError::Damaged { .. }) => assert!(is_believed, "only what is whole is believed"),
        Err(error) => assert!(is_believed, "{error}"),
    }
}

/// What stands in one place of a mark: numbers with a checksum that fits this folder, or bytes.
fn slot(input: &mut Input<'_>, fits: bool) -> Vec<u8> {
    if !fits {
        let mut slot = input.bytes(SLOT_BYTES).to_vec();
        slot.resize(SLOT_BYTES, 0);
        return slot;
    }
    let mut body = Vec::with_capacity(SLOT_BYTES);
    body.extend_from_slice(&u32::try_from(input.number()).unwrap_or(u32::MAX).to_le_bytes());
    for _ in 0..6 {
        body.extend_from_slice(&input.number().to_le_bytes());
    }
    body.resize(SLOT_BYTES - 4, 0);
    let mut identity = Vec::new();
    identity.extend_from_slice(&7_u64.to_le_bytes());
    identity.extend_from_slice(&NODE.get().to_le_bytes());
    identity.extend_from_slice(&9_u128.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&identity), &body);
    let mut slot = checksum.to_le_bytes().to_vec();
    slot.extend_from_slice(&body);
    slot
}

/// A snapshot arrives in pieces from somebody who may send anything; then it is damaged and read.
pub(super) fn snapshot_file(data: &[u8]) {
    let mut input = Input(data);
    let disk = SimDisk::new(Rng::new(1));
    let folder = PathBuf::from("/node/snapshots");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let Ok(mut store) = SnapshotStore::open(shared, &folder) else { return };
    let last_included = LogId::new(Term::new(input.number()), LogIndex::new(input.number()));
    let meta = SnapshotMeta { last_included, configuration: Arc::new(Configuration::default()) };
    let mut piece_bytes = 1 << 16;
    let is_ours = input.flag();
    if is_ours {
        let written = store.create(meta.clone()).and_then(|mut writer| {
            let _ = writer.write_all(&body(&mut input));
            writer.finish()
        });
        assert!(written.is_ok(), "a snapshot can be written");
        piece_bytes = usize::from(input.byte()) + (256_usize << input.below(9));
        damage(&disk, &folder, &mut input, far_place);
    } else if input.flag() {
        return receive_disturbed(&mut store, &disk, &folder, &meta, &mut input);
    } else {
        receive(&mut store, &meta, &mut input);
    }
    let _ = store.list();
    let Ok(reader) = store.reader(last_included) else { return };
    let _ = reader.read_chunk(0, 1 << 16);
    let is_sound = reader.verify().is_ok();
    let read = reader.body().read_to_end(&mut Vec::new());
    assert!(read.is_ok() || !is_sound, "what was verified can be read");
    let packed = store.pack(last_included).and_then(|mut packing| packing.step(u64::MAX));
    assert_eq!(matches!(packed, Ok(Some(_))), is_sound, "what is sound is sent, and nothing else");
    if let Ok(Some(parcel)) = packed {
        pass_on(&parcel, &meta, piece_bytes);
    }
}

/// A snapshot's content: a piece that is repeated, so that short inputs reach later blocks of the
/// file, and the places where one ends.
fn body(input: &mut Input<'_>) -> Vec<u8> {
    let size = usize::from(input.byte());
    let piece = input.bytes(size);
    let count = match usize::from(input.byte()) {
        0 => 1,
        quarter => 4 * quarter,
    };
    let mut body = piece.repeat(count);
    body.truncate(body.len().saturating_sub(usize::from(input.below(4))));
    let more = usize::from(input.below(4));
    body.extend_from_slice(input.bytes(more));
    body
}

/// An offset in one of the first blocks of a snapshot, rather near where it begins.
fn far_place(input: &mut Input<'_>) -> u64 {
    let block = u64::from(input.below(5));
    (block << 16) + place(input)
}

/// What was verified can be sent on in pieces, and is verified where it arrives.
fn pass_on(parcel: &Parcel, meta: &SnapshotMeta, piece_bytes: usize) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(Rng::new(2)));
    let Ok(mut store) = SnapshotStore::open(disk, Path::new("/other/snapshots")) else { return };
    let mut offset = 0;
    loop {
        let piece = parcel.read_piece(offset, piece_bytes);
        let Ok((chunk, is_last)) = piece else { panic!("it can be read: {piece:?}") };
        let received = store.receive(meta, offset, &chunk, is_last);
        let Ok(received) = received else { panic!("it can be received: {received:?}") };
        assert!(is_last || received.next_offset > offset, "every piece brings it forward");
        if is_last {
            break;
        }
        offset = received.next_offset;
    }
    let arrived = store.reader(meta.last_included).and_then(|reader| reader.verify());
    assert!(arrived.is_ok(), "it arrived: {arrived:?}");
}

fn receive(store: &mut SnapshotStore, meta: &SnapshotMeta, input: &mut Input<'_>) {
    let mut wanted = 0;
    while !input.is_empty() {
        let offset = if input.below(4) == 0 { input.number() } else { wanted };
        let (done, size) = (input.below(4) == 0, usize::from(input.byte()));
        let chunk = Bytes::copy_from_slice(input.bytes(size));
        match store.receive(meta, offset, &chunk, done) {
            Ok(Received { next_offset, .. }) => wanted = next_offset,
            Err(_) => return,
        }
    }
}

/// A sound snapshot arrives, while pieces change on the way, are lost or come twice, the receiver starts
/// again and its files are damaged. When all that is over it is there, and it is that one.
fn receive_disturbed(
    store: &mut SnapshotStore,
    disk: &SimDisk,
    folder: &Path,
    meta: &SnapshotMeta,
    input: &mut Input<'_>,
) {
    let source: Arc<dyn Disk> = Arc::new(SimDisk::new(Rng::new(2)));
    let Ok(mut from) = SnapshotStore::open(source, Path::new("/other/snapshots")) else { return };
    from.set_chunk_bytes(64 + u32::from(input.byte()));
    let body = body(input);
    let written = from.create(meta.clone()).and_then(|mut writer| {
        let _ = writer.write_all(&body);
        writer.finish()
    });
    let packed = written.and_then(|_| from.pack(meta.last_included)?.step(u64::MAX));
    let Ok(Some(parcel)) = packed else { panic!("it can be sent") };
    let piece_bytes = 16 + usize::from(input.byte()) * 16;
    let (mut wanted, mut left) = (0, 100_000);
    loop {
        let Ok((mut piece, done)) = parcel.read_piece(wanted, piece_bytes) else { return };
        let mut offset = wanted;
        match if input.is_empty() { 0 } else { input.below(8) } {
            1 => {
                let mut bytes = piece.to_vec();
                let at = usize::from(input.byte()).checked_rem(bytes.len()).unwrap_or(0);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << input.below(8);
                }
                piece = bytes.into();
            }
            2 => {
                let Ok(again) = SnapshotStore::open(Arc::new(disk.clone()), folder) else { return };
                *store = again;
            }
            3 => offset = input.number(),
            4 => damage_one(disk, folder, input),
            _ => {}
        }
        match store.receive(meta, offset, &piece, done) {
            Ok(Received { complete: true, .. }) => break,
            Ok(Received { next_offset, .. }) => wanted = next_offset,
            Err(_) => return,
        }
        left -= 1;
        assert!(left > 0, "it arrives in the end");
    }
    let mut found = Vec::new();
    let read = store.reader(meta.last_included).map(|it| it.body().read_to_end(&mut found));
    assert!(matches!(read, Ok(Ok(_))) && found == body, "what arrived is what was sent");
}

/// A few bytes of a file change.
fn damage_one(disk: &SimDisk, folder: &Path, input: &mut Input<'_>) {
    let names = disk.list(folder).unwrap_or_default();
    if let Some(Ok(file)) = pick(&names, input).map(|name| disk.open(&folder.join(name))) {
        let offset = place(input) % file.size_bytes().unwrap_or(1).max(1);
        let _ = file.write_at(&[input.byte()], offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a snapshot in one block, as docs/wal-format.md has it.
    const BLOCK_BYTES: usize = 64 << 10;

    #[test]
    fn the_corpus_has_snapshots_that_end_at_a_block_before_it_and_behind_it() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/snapshot_file");
        let sizes: Vec<usize> = std::fs::read_dir(corpus)
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .filter_map(|bytes| {
                let mut input = Input(&bytes);
                let (_, _) = (input.number(), input.number());
                input.flag().then(|| body(&mut input).len())
            })
            .collect();
        for size in [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 2] {
            assert!(sizes.contains(&size), "none has {size} bytes");
        }
        assert!(sizes.iter().any(|size| *size > 3 * BLOCK_BYTES), "none has four blocks");
    }
}
