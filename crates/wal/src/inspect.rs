//! Looks at a log without changing a byte of it: what each file says, each record, and what a start
//! would make of it, by the very code that a start decides with. Must not know how it is shown.

use crate::cuts::Cut;
use crate::folder::{examine, open_mark};
use crate::mark::{self, Watermark};
use crate::meta::{COPY_NAMES, Meta, MetaFiles};
use crate::record::{Record, RecordKind};
use crate::recovery::{Replay, TornTail, Witness, decode_entry};
use crate::segment::Segment;
use crate::verdict::{Case, Findings};
use crate::{Disk, Identity, Lost, Standing, Wal, WalError, mending};
use quorate_core::{HardState, LogId, Payload, SnapshotMeta};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One thing that is seen. They come in this order: both copies of the hard state, the mark, then of
/// each segment its records and the segment itself.
#[derive(Debug)]
pub enum Sight<'a> {
    /// A copy of the hard state, by its name, and what it says or why it does not.
    Meta(&'static str, Result<MetaSight, WalError>),
    /// The mark; nothing if it proves nothing.
    Mark(Option<MarkSight>),
    /// A record that continues the log. What a later record truncates is among them.
    Record(RecordSight<'a>),
    /// The end of a segment.
    Segment(SegmentSight<'a>),
}

/// What a copy of the hard state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaSight {
    /// The version of its format.
    pub format: u32,
    /// Counts the changes; the higher one of two whole copies is taken.
    pub generation: u64,
    /// Whose log it is.
    pub identity: Identity,
    /// How often the log was opened.
    pub era: u32,
    /// Term and vote.
    pub hard_state: HardState,
    /// Whether this storage may vote by itself.
    pub standing: Standing,
    /// The first and the last segment.
    pub segments: (u64, u64),
    /// Everything before this byte of the last segment is durable.
    pub synced_bytes: u64,
    /// What the log starts after.
    pub base: SnapshotMeta,
    /// The last entry that the log is known to have held, if it has lost it and not got it back.
    pub horizon: Option<LogId>,
    /// Where the log leaves out what was damaged.
    pub cuts: Vec<CutSight>,
}

/// A place where durable entries were lost, so that the log goes on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutSight {
    /// The segment in which the log was cut; the one before the first if nothing is left of it.
    pub segment: u64,
    /// At which byte of it.
    pub position: u64,
    /// The segment with which the log goes on. What stands in between, to the end of the one before it,
    /// is the spare region.
    pub resumed: u64,
    /// The byte at which the records of the segment before that one end.
    pub end_bytes: u64,
}

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkSight {
    /// How often the log had been opened.
    pub era: u32,
    /// The generation of the hard state.
    pub generation: u64,
    /// The last segment.
    pub segment: u64,
    /// Everything before this byte of it is durable.
    pub position: u64,
    /// The entry with which the log ended.
    pub last_log: LogId,
}

/// A record.
#[derive(Debug)]
pub struct RecordSight<'a> {
    /// The number of the segment that it stands in.
    pub segment: u64,
    /// Where in it, in bytes.
    pub position: u64,
    /// How many bytes it takes.
    pub size_bytes: usize,
    /// How often the log had been opened when it was written.
    pub era: u32,
    /// Everything before this byte was durable then: the start of its batch.
    pub synced_bytes: u64,
    /// The entry; for a truncation the one with which the log ends from here on.
    pub log_id: LogId,
    /// What it holds.
    pub content: RecordContent,
    /// Its bytes, without head and padding.
    pub payload: &'a [u8],
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordContent {
    /// An entry.
    Entry(Payload),
    /// The end of what came before.
    Truncation,
    /// An entry that does not decode.
    Undecodable,
}

/// A segment that was read.
#[derive(Debug)]
pub struct SegmentSight<'a> {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: &'a Path,
    /// The era in which it was made.
    pub era: u32,
    /// The log's last entry then.
    pub last_log: LogId,
    /// Where its records end, or stop.
    pub end_bytes: u64,
    /// What was found there; nothing for a sealed segment that ends where its successor says.
    pub finding: Option<Finding>,
}

/// What recovery finds where the records of a segment stop, and what follows, in the words of the table
/// in `docs/wal-format.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `last` or `sealed`.
    pub segment: &'static str,
    /// `end`, `blank`, `residue`, `invalid`, `unreadable`, `ghost` or `contradiction`.
    pub stop: &'static str,
    /// Whether something says that bytes behind the stop were durable.
    pub durable: bool,
    /// Which whole records stand behind it: `none`, `unproven` or `proven`.
    pub later: &'static str,
    /// Whether an entry is known that the log held behind it.
    pub anchor: bool,
    /// `whole`, `torn`, `wounded` or `refused`.
    pub case: &'static str,
}

impl From<Findings> for Finding {
    fn from(findings: Findings) -> Self {
        let Findings { place, stop, durable, later, anchor } = findings;
        Self {
            segment: place.word(),
            stop: stop.word(),
            durable,
            later: later.word(),
            anchor,
            case: findings.case().word(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, stop, durable, later, anchor, case } = *self;
        let durable = if durable { "durable once" } else { "not known to have been durable" };
        let anchor = if anchor { "known" } else { "not known" };
        write!(
            f,
            "{case} ({segment} segment; it stops at: {stop}; what followed: {durable}; whole records \
             behind it: {later}; an entry behind it: {anchor})"
        )
    }
}

/// What a start would make of the log.
#[derive(Debug)]
pub enum Verdict {
    /// It takes it as it is.
    Whole {
        /// What the log starts after.
        base: LogId,
        /// The last entry, or the base.
        last_log: LogId,
        /// The copies of the hard state that it would make anew.
        bad_copies: Vec<&'static str>,
        /// It would make the mark anew, and could not tell damage of the last batch from a torn write.
        is_mark_lost: bool,
        /// In so many places durable entries were lost. It has got them back, or ones that took their
        /// place, and goes on behind them.
        cut_count: usize,
    },
    /// It takes what stands before a wound, changes nothing of what stands behind, and has the rest given
    /// back by the other members. Until then the node votes for nobody who has less than this log had.
    Wounded {
        /// What is lost, and where.
        lost: Lost,
    },
    /// It cuts off a write that a crash interrupted, of which nobody was told, and goes on.
    Torn {
        /// Where the log ends then.
        tail: TornTail,
    },
    /// It refuses, and changes nothing.
    Refused(WalError),
}

/// Looks at the log in `dir`, telling `see` of everything, and says what a start would make of it. Only
/// reads: [`crate::ReadOnlyDisk`] is enough. Takes no lock: of a log that somebody writes to meanwhile,
/// the end may look torn.
pub fn inspect(disk: &Arc<dyn Disk>, dir: &Path, see: &mut dyn FnMut(Sight<'_>)) -> Verdict {
    look(disk, dir, see).unwrap_or_else(Verdict::Refused)
}

fn look(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    see: &mut dyn FnMut(Sight<'_>),
) -> Result<Verdict, WalError> {
    if !Wal::exists(disk.as_ref(), dir).map_err(WalError::io("list", dir))? {
        return Err(WalError::Missing { path: dir.to_owned() });
    }
    let mut bad_copies = Vec::new();
    for (name, copy) in COPY_NAMES.into_iter().zip(MetaFiles::each(disk.as_ref(), dir)) {
        if copy.is_err() {
            bad_copies.push(name);
        }
        see(Sight::Meta(name, copy.map(|(meta, format)| meta_sight(meta, format))));
    }
    let meta_files = MetaFiles::open(Arc::clone(disk), dir)?;
    let meta = meta_files.meta();
    let watermark = mark::MarkFile::watermark_of(disk.as_ref(), dir)?;
    see(Sight::Mark(watermark.map(mark_sight)));
    let mark = open_mark(disk.as_ref(), dir, meta)?;
    let is_mark_lost = mark.is_none() && meta_files.version() > 1;
    let replay = examine(disk.as_ref(), dir, meta, mark.as_ref(), &mut Eyes { see })?;
    let is_alone = mending::is_alone(&replay, meta);
    let Replay { map, torn_tail, wound, .. } = replay;
    let (base, last_log) = (map.start(), map.last());
    let cut_count = meta.cuts.list().len();
    Ok(match (wound, torn_tail, mending::lost(dir, meta, last_log)) {
        (Some(wound), _, _) if is_alone => Verdict::Refused(wound.into_error()),
        (Some(wound), _, _) => Verdict::Wounded { lost: wound.lost(last_log) },
        (None, Some(tail), _) => Verdict::Torn { tail },
        (None, None, Some(lost)) if last_log < lost.horizon => Verdict::Wounded { lost },
        (None, None, _) => Verdict::Whole { base, last_log, bad_copies, is_mark_lost, cut_count },
    })
}

fn meta_sight(meta: Meta, format: u32) -> MetaSight {
    MetaSight {
        format,
        generation: meta.generation,
        identity: meta.identity,
        era: meta.era,
        hard_state: meta.hard_state,
        standing: meta.standing,
        segments: (meta.first_segment, meta.last_segment),
        synced_bytes: meta.synced_bytes,
        horizon: meta.lost(),
        cuts: meta.cuts.list().iter().copied().map(cut_sight).collect(),
        base: meta.base,
    }
}

const fn cut_sight(cut: Cut) -> CutSight {
    let Cut { segment, bytes, resumed, end_bytes } = cut;
    CutSight { segment, position: bytes, resumed, end_bytes }
}

fn mark_sight(watermark: Watermark) -> MarkSight {
    let Watermark { era, generation, segment, position, last_log } = watermark;
    MarkSight { era, generation, segment, position, last_log }
}

/// Passes on what recovery reads.
struct Eyes<'a> {
    see: &'a mut dyn FnMut(Sight<'_>),
}

impl Witness for Eyes<'_> {
    fn record(&mut self, segment: &Segment, position: u64, record: &Record) {
        let header = &record.header;
        let content = match (header.kind, decode_entry(record)) {
            (RecordKind::Truncate, _) => RecordContent::Truncation,
            (_, Some(entry)) => RecordContent::Entry(entry.payload),
            (_, None) => RecordContent::Undecodable,
        };
        (self.see)(Sight::Record(RecordSight {
            segment: segment.header.number,
            position,
            size_bytes: header.record_size(),
            era: header.era,
            synced_bytes: header.synced_bytes,
            log_id: header.log_id,
            content,
            payload: &record.payload,
        }));
    }

    fn segment(&mut self, segment: &Segment, findings: Option<Findings>) {
        (self.see)(Sight::Segment(SegmentSight {
            number: segment.header.number,
            path: &segment.path,
            era: segment.header.era,
            last_log: segment.header.last_log,
            end_bytes: segment.end_bytes,
            finding: findings.map(Finding::from),
        }));
    }
}

impl Verdict {
    /// `whole`, `torn`, `wounded` or `refused`, as in the table.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Whole { .. } => Case::Whole.word(),
            Self::Torn { .. } => Case::Torn.word(),
            Self::Wounded { .. } | Self::Refused(WalError::Damaged { anchor: Some(_), .. }) => {
                Case::Wounded.word()
            }
            Self::Refused(_) => Case::Refused.word(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { base, last_log, bad_copies, is_mark_lost, cut_count } => {
                write!(
                    f,
                    "whole. A start takes this log as it is: it starts after {base} and ends "
                )?;
                write!(f, "with {last_log}")?;
                for name in bad_copies {
                    write!(f, ". {name} is not whole, and is made anew from the other copy")?;
                }
                if *is_mark_lost {
                    f.write_str(
                        ". The mark is gone, foreign or not whole, and is made anew: were the last \
                         batch damaged, that would look like a torn write",
                    )?;
                }
                if *cut_count > 0 {
                    write!(
                        f,
                        ". It was wounded, and is mended: it leaves out {cut_count} damaged stretches, \
                         which are removed when the log is released behind them"
                    )?;
                }
                Ok(())
            }
            Self::Torn { tail } => write!(
                f,
                "torn. A crash interrupted the last write, of which nobody was told. A start cuts it \
                 off at byte {} of {}, so that the log ends with {}, and goes on: start the member",
                tail.offset_bytes,
                tail.path.display(),
                tail.after
            ),
            Self::Wounded { lost } => write!(
                f,
                "wounded. {lost}. A start goes on with what stands before the damage, leaves the rest as \
                 it is, and has what is lost given back by the other members: start this member, and no \
                 other one of these may lose its disk meanwhile"
            ),
            Self::Refused(error) => {
                write!(f, "{}. A start refuses and changes nothing: {error}", self.word())
            }
        }
    }
}
