//! A small log of one file, as somebody might write it for `quorate-core`: a record a batch, with a
//! checksum; the file is written anew at each start and where the log begins anew. It can be made wrong
//! in one way or another, to see the kit find it.

use bytes::{Buf as _, BufMut as _, Bytes};
use quorate_core::{HardState, LogIndex, NodeId, Persist, Term};
use quorate_crash_kit::{Contents, LogError, LogStore, OpenLog};
use quorate_wal::{Disk, DiskFile, codec};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "journal";
const TEMPORARY_NAME: &str = "journal.tmp";
/// Length and checksum.
const HEADER_SIZE: usize = 8;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A batch is acknowledged before it was synced.
    NeverSyncs,
    /// The checksum is not looked at.
    TakesTornRecords,
    /// A write or a sync that fails is no reason not to acknowledge.
    SwallowsErrors,
    /// A sync that failed is tried again, and believed.
    SyncsAgain,
    /// A read that gives less than was asked for is taken for the end of the file.
    TakesShortReadsForTheEnd,
    /// A file that cannot be read is taken for an empty one.
    TakesErrorsForTheEnd,
    /// A file that cannot be opened is taken for none.
    TakesAnyErrorForNoLog,
    /// The new file gets its name, and the folder is not synced.
    ForgetsTheName,
    /// The new file gets its name before it was synced.
    NamesTooEarly,
    /// A folder's sync that failed is tried again, and believed.
    SyncsTheFolderAgain,
    /// A vote alone is not worth a sync.
    ForgetsVotes,
    /// What was read at a start is not made durable by it.
    BelievesTheCache,
}

pub const FLAWS: [Flaw; 12] = [
    Flaw::NeverSyncs,
    Flaw::TakesTornRecords,
    Flaw::SwallowsErrors,
    Flaw::SyncsAgain,
    Flaw::TakesShortReadsForTheEnd,
    Flaw::TakesErrorsForTheEnd,
    Flaw::TakesAnyErrorForNoLog,
    Flaw::ForgetsTheName,
    Flaw::NamesTooEarly,
    Flaw::SyncsTheFolderAgain,
    Flaw::ForgetsVotes,
    Flaw::BelievesTheCache,
];

/// The kind of log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Journal {
    pub flaw: Option<Flaw>,
}

struct OpenJournal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Box<dyn DiskFile>,
    end: u64,
    contents: Contents,
    flaw: Option<Flaw>,
    has_failed: bool,
}

impl LogStore for Journal {
    fn open(
        &self,
        disk: Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<(Box<dyn OpenLog>, Contents), LogError> {
        let (contents, end) = match disk.open(&dir.join(NAME)) {
            Ok(file) => replay(&self.read(file.as_ref())?, self.flaw)?,
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    || self.flaw == Some(Flaw::TakesAnyErrorForNoLog) =>
            {
                (Contents::of_a_new_log(), 0)
            }
            Err(error) => return Err(error.into()),
        };
        let (file, end) = if self.flaw == Some(Flaw::BelievesTheCache) && end > 0 {
            let file = disk.open(&dir.join(NAME))?;
            file.set_size(end)?;
            (file, end)
        } else {
            write_anew(disk.as_ref(), dir, &contents, self.flaw)?
        };
        let log = OpenJournal {
            disk,
            dir: dir.to_owned(),
            file,
            end,
            contents: contents.clone(),
            flaw: self.flaw,
            has_failed: false,
        };
        Ok((Box::new(log), contents))
    }
}

impl Journal {
    fn read(self, file: &dyn DiskFile) -> Result<Bytes, LogError> {
        let mut whole = vec![0; usize::try_from(file.size_bytes()?)?];
        let mut done = 0;
        while done < whole.len() {
            match file.read_at(&mut whole[done..], done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if self.flaw == Some(Flaw::TakesErrorsForTheEnd) => break,
                Err(error) => return Err(error.into()),
            }
            if self.flaw == Some(Flaw::TakesShortReadsForTheEnd) {
                break;
            }
        }
        whole.truncate(done);
        Ok(whole.into())
    }
}

impl OpenJournal {
    fn append(&mut self, record: &[u8], is_vote: bool) -> Result<(), LogError> {
        let written = self.file.write_at(record, self.end);
        if self.flaw != Some(Flaw::SwallowsErrors) {
            written?;
        }
        let skips = self.flaw == Some(Flaw::ForgetsVotes) && is_vote;
        if self.flaw != Some(Flaw::NeverSyncs) && !skips {
            let mut synced = self.file.sync();
            if synced.is_err() && self.flaw == Some(Flaw::SyncsAgain) {
                synced = self.file.sync();
            }
            if self.flaw != Some(Flaw::SwallowsErrors) {
                synced?;
            }
        }
        self.end += record.len() as u64;
        Ok(())
    }

    fn carry_out(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        let next = self.contents.after(batch);
        if batch.iter().any(|write| write.reset.is_some()) {
            (self.file, self.end) = write_anew(self.disk.as_ref(), &self.dir, &next, self.flaw)?;
        } else {
            let is_vote = batch.iter().all(|write| write.entries.is_empty());
            self.append(&record(batch), is_vote)?;
        }
        self.contents = next;
        Ok(())
    }
}

impl OpenLog for OpenJournal {
    fn persist(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        if self.has_failed {
            return Err("an earlier write failed: what is durable is not known".into());
        }
        let done = self.carry_out(batch);
        self.has_failed = done.is_err();
        done
    }
}

/// A file with one record, which says everything.
fn write_anew(
    disk: &dyn Disk,
    dir: &Path,
    contents: &Contents,
    flaw: Option<Flaw>,
) -> Result<(Box<dyn DiskFile>, u64), LogError> {
    let (name, temporary) = (dir.join(NAME), dir.join(TEMPORARY_NAME));
    match disk.remove(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(&temporary)?;
    let whole = Persist {
        reset: Some(contents.base.clone()),
        entries: contents.entries.clone(),
        hard_state: Some(contents.hard_state),
        ..Persist::default()
    };
    let record = record(&[whole]);
    file.write_at(&record, 0)?;
    if flaw != Some(Flaw::NamesTooEarly) {
        file.sync()?;
    }
    disk.rename(&temporary, &name)?;
    match flaw {
        Some(Flaw::ForgetsTheName) => {}
        Some(Flaw::SyncsTheFolderAgain) => disk.sync_dir(dir).or_else(|_| disk.sync_dir(dir))?,
        _ => disk.sync_dir(dir)?,
    }
    Ok((file, record.len() as u64))
}

fn record(batch: &[Persist]) -> Vec<u8> {
    let mut body = Vec::new();
    codec::encode_varint(batch.len() as u64, &mut body);
    for write in batch {
        body.put_u8(u8::from(write.reset.is_some()));
        if let Some(base) = &write.reset {
            codec::encode_snapshot_meta(base, &mut body);
        }
        body.put_u8(u8::from(write.truncate_after.is_some()));
        if let Some(after) = write.truncate_after {
            codec::encode_varint(after.get(), &mut body);
        }
        codec::encode_varint(write.entries.len() as u64, &mut body);
        write.entries.iter().for_each(|entry| codec::encode_entry(entry, &mut body));
        body.put_u8(u8::from(write.hard_state.is_some()));
        if let Some(hard_state) = write.hard_state {
            codec::encode_varint(hard_state.current_term.get(), &mut body);
            let vote = hard_state.voted_for.map_or(0, |node| node.get() + 1);
            codec::encode_varint(vote, &mut body);
        }
    }
    let mut record = Vec::new();
    record.put_u32_le(u32::try_from(body.len()).unwrap());
    record.put_u32_le(crc32c::crc32c(&body));
    record.extend_from_slice(&body);
    record
}

fn decode(mut body: Bytes) -> Result<Vec<Persist>, LogError> {
    let mut batch = Vec::new();
    for _ in 0..codec::decode_varint(&mut body, "writes")? {
        let mut write = Persist::default();
        if codec::decode_u8(&mut body, "reset")? > 0 {
            write.reset = Some(codec::decode_snapshot_meta(&mut body)?);
        }
        if codec::decode_u8(&mut body, "cut")? > 0 {
            write.truncate_after = Some(LogIndex::new(codec::decode_varint(&mut body, "cut")?));
        }
        for _ in 0..codec::decode_varint(&mut body, "entries")? {
            write.entries.push(codec::decode_entry(&mut body)?);
        }
        if codec::decode_u8(&mut body, "hard state")? > 0 {
            let current_term = Term::new(codec::decode_varint(&mut body, "term")?);
            let vote = codec::decode_varint(&mut body, "vote")?.checked_sub(1);
            write.hard_state = Some(HardState { current_term, voted_for: vote.map(NodeId::new) });
        }
        batch.push(write);
    }
    Ok(batch)
}

/// Every whole record, in order, up to the first that is not; and where that would begin.
fn replay(file: &Bytes, flaw: Option<Flaw>) -> Result<(Contents, u64), LogError> {
    let mut contents = Contents::of_a_new_log();
    let mut at = 0;
    while let Some(mut rest) = file.get(at..).filter(|rest| rest.len() >= HEADER_SIZE) {
        let (length, checksum) = (usize::try_from(rest.get_u32_le())?, rest.get_u32_le());
        let body_at = at + HEADER_SIZE;
        let Some(body) = file.get(body_at..body_at + length).filter(|it| !it.is_empty()) else {
            break;
        };
        let is_whole = crc32c::crc32c(body) == checksum;
        if !is_whole && flaw != Some(Flaw::TakesTornRecords) {
            break;
        }
        match decode(file.slice(body_at..body_at + length)) {
            Ok(batch) => contents = contents.after(&batch),
            Err(_) if flaw == Some(Flaw::TakesTornRecords) => break,
            Err(error) => return Err(error),
        }
        at = body_at + length;
    }
    Ok((contents, at as u64))
}
