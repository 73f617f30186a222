//! Operations on a few files, in a row: one script, and as many as are drawn; and what becomes of them on
//! a disk. Must not know what goes wrong beneath, nor what a crash may leave.

use super::model::{BadRead, Model};
use crate::finding::{Finding, Promise};
use crate::machine::Machine;
use crate::rng::Rng;
use quorate_wal::Disk;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// How many histories are drawn, and from which number on.
const DRAWN: std::ops::RangeInclusive<u64> = 1..=60;
/// How many operations a drawn history has.
const DRAWN_LENGTH: usize = 30;
/// Of how many places of a drawn history one is tried in every way.
const TRIED_ONE_IN: u64 = 7;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Op {
    MakeDir,
    Create(String),
    /// So many bytes of this value, from an offset on.
    Write(String, usize, usize, u8),
    SetSize(String, usize),
    Sync(String),
    Rename(String, String),
    Remove(String),
    SyncDir,
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir => write!(out, "make the folder"),
            Self::Create(name) => write!(out, "create {name}"),
            Self::Write(name, offset, length, _) => {
                write!(out, "write {length} bytes at {offset} of {name}")
            }
            Self::SetSize(name, size) => write!(out, "give {name} {size} bytes"),
            Self::Sync(name) => write!(out, "sync {name}"),
            Self::Rename(from, to) => write!(out, "rename {from} to {to}"),
            Self::Remove(name) => write!(out, "remove {name}"),
            Self::SyncDir => write!(out, "sync the folder"),
        }
    }
}

/// Operations in a row.
pub(super) struct History {
    /// 0 for the script.
    number: u64,
    pub(super) ops: Vec<Op>,
}

impl fmt::Display for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(out, "the script"),
            number => write!(out, "history {number}"),
        }
    }
}

impl History {
    /// The script, and those that are drawn.
    pub(super) fn all() -> Vec<Self> {
        let drawn = DRAWN.map(|number| Self { number, ops: random(number) });
        std::iter::once(Self { number: 0, ops: script() }).chain(drawn).collect()
    }

    /// Whether everything is tried at this place: at each of the script, at some of a drawn one, and not
    /// the same ones of each.
    pub(super) fn is_tried(&self, at: u64) -> bool {
        self.number == 0 || (at + self.number).is_multiple_of(TRIED_ONE_IN)
    }
}

/// What the next process does, on a file of its own.
pub(super) fn afterwards() -> [Op; 5] {
    let name = || "afterwards".to_owned();
    [Op::MakeDir, Op::Create(name()), Op::Write(name(), 0, 700, 99), Op::Sync(name()), Op::SyncDir]
}

/// Everything that a log does with files: made ahead under another name, renamed, written and synced in
/// pieces that end anywhere, overwritten in place, cut, removed.
fn script() -> Vec<Op> {
    let [a, b, c, _] = NAMES.map(str::to_owned);
    vec![
        Op::MakeDir,
        Op::Create(a.clone()),
        Op::SetSize(a.clone(), 6_000),
        Op::Sync(a.clone()),
        Op::Rename(a.clone(), b.clone()),
        Op::SyncDir,
        Op::Write(b.clone(), 0, 700, 1),
        Op::Sync(b.clone()),
        Op::Write(b.clone(), 700, 900, 2),
        Op::Sync(b.clone()),
        Op::Write(b.clone(), 1_600, 2_000, 3),
        Op::Write(b.clone(), 100, 50, 4),
        Op::Sync(b.clone()),
        Op::Create(c.clone()),
        Op::Write(c.clone(), 0, 300, 5),
        Op::Sync(c.clone()),
        Op::SyncDir,
        Op::Write(c.clone(), 0, 300, 6),
        Op::Sync(c.clone()),
        Op::Create(a.clone()),
        Op::Write(a.clone(), 0, 4_000, 7),
        Op::Sync(a.clone()),
        Op::Rename(a.clone(), c.clone()),
        Op::SyncDir,
        Op::SetSize(b.clone(), 1_000),
        Op::Sync(b.clone()),
        Op::Write(b.clone(), 1_500, 10, 8),
        Op::Sync(b.clone()),
        Op::Remove(b),
        Op::SyncDir,
        Op::Write(c.clone(), 3_990, 600, 9),
        Op::Sync(c),
    ]
}

/// A history of this seed.
fn random(seed: u64) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut ops = vec![Op::MakeDir];
    let mut there: Vec<&str> = Vec::new();
    while ops.len() < DRAWN_LENGTH {
        let fill = u8::try_from(ops.len()).unwrap_or(u8::MAX);
        let size = |rng: &mut Rng, bound| usize::try_from(rng.below(bound)).unwrap_or(0);
        let one = rng.pick(&there).copied();
        let other = rng.pick(&NAMES).copied().unwrap_or("a");
        let op = match (rng.below(16), one) {
            (0..=6, Some(name)) => {
                let (offset, length) = (size(&mut rng, 3_000), 1 + size(&mut rng, 1_500));
                Op::Write(name.to_owned(), offset, length, fill)
            }
            (7..=9, Some(name)) => Op::Sync(name.to_owned()),
            (10, Some(name)) => Op::SetSize(name.to_owned(), size(&mut rng, 5_000)),
            (11, Some(name)) => {
                there.retain(|it| *it != name);
                Op::Remove(name.to_owned())
            }
            (12, Some(name)) if name != other => {
                there.retain(|it| *it != name && *it != other);
                there.push(other);
                Op::Rename(name.to_owned(), other.to_owned())
            }
            (13 | 14, _) => Op::SyncDir,
            _ if !there.contains(&other) => {
                there.push(other);
                Op::Create(other.to_owned())
            }
            _ => continue,
        };
        ops.push(op);
    }
    ops
}

/// A history on its way.
pub(super) struct Run {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) model: Model,
    /// Whether everything succeeded, and nothing was broken at the end.
    pub(super) is_whole: bool,
    dir: PathBuf,
}

impl Run {
    pub(super) fn new(machine: &mut impl Machine) -> Self {
        let disk = machine.disk();
        let dir = machine.dir().to_owned();
        Self { disk, model: Model::default(), is_whole: true, dir }
    }

    /// Carries operations out until one fails. It may only if something is broken beneath.
    pub(super) fn go_on(
        &mut self,
        ops: &[Op],
        is_broken: impl Fn() -> bool,
    ) -> Result<(), Finding> {
        for op in ops {
            self.begin(op);
            match self.carry_out(op) {
                Ok(()) => self.finish(op),
                Err(_) if is_broken() => break,
                Err(error) => {
                    let found = format!("{op}: {error}");
                    return Err(Finding::new(Promise::NoErrorWithoutCause, found));
                }
            }
            self.check_names_of(op, &is_broken)?;
        }
        self.is_whole = !is_broken();
        Ok(())
    }

    /// What may have happened from now on.
    fn begin(&mut self, op: &Op) {
        let model = &mut self.model;
        match op {
            Op::Create(name) => model.create(name),
            Op::Write(name, offset, length, fill) => {
                model.write(name, *offset, &vec![*fill; *length]);
            }
            Op::SetSize(name, size) => model.set_size(name, *size),
            Op::Rename(from, to) => model.rename(from, to),
            Op::Remove(name) => model.remove(name),
            Op::MakeDir | Op::Sync(_) | Op::SyncDir => {}
        }
    }

    fn carry_out(&self, op: &Op) -> io::Result<()> {
        let path = |name: &str| self.dir.join(name);
        match op {
            Op::MakeDir => self.disk.create_dir_all(&self.dir),
            Op::Create(name) => self.disk.create(&path(name)).map(drop),
            Op::Write(name, offset, length, fill) => {
                self.disk.open(&path(name))?.write_at(&vec![*fill; *length], *offset as u64)
            }
            Op::SetSize(name, size) => self.disk.open(&path(name))?.set_size(*size as u64),
            Op::Sync(name) => self.disk.open(&path(name))?.sync(),
            Op::Rename(from, to) => self.disk.rename(&path(from), &path(to)),
            Op::Remove(name) => self.disk.remove(&path(name)),
            Op::SyncDir => self.disk.sync_dir(&self.dir),
        }
    }

    /// What has happened for good.
    fn finish(&mut self, op: &Op) {
        match op {
            Op::Sync(name) => self.model.synced(name),
            Op::SyncDir => self.model.dir_synced(),
            Op::MakeDir
            | Op::Create(_)
            | Op::Write(..)
            | Op::SetSize(..)
            | Op::Rename(..)
            | Op::Remove(_) => {}
        }
    }

    /// What was acknowledged is seen at once.
    fn check_names_of(&self, op: &Op, is_broken: impl Fn() -> bool) -> Result<(), Finding> {
        let (Op::Create(name)
        | Op::Write(name, ..)
        | Op::SetSize(name, _)
        | Op::Sync(name)
        | Op::Rename(_, name)) = op
        else {
            return Ok(());
        };
        let (promise, found) = match self.model.check_read(self.disk.as_ref(), &self.dir, name) {
            Ok(()) => return Ok(()),
            Err(BadRead::Failed(_)) if is_broken() => return Ok(()),
            Err(BadRead::Failed(error)) => {
                let found = format!("after `{op}`, reading {name}: {error}");
                return Err(Finding::new(Promise::NoErrorWithoutCause, found));
            }
            Err(BadRead::Differs(found)) => (Promise::ReadsAreRight, found),
        };
        Err(Finding::new(promise, format!("after `{op}`: {found}")))
    }

    /// Looks at what a crash has left.
    pub(super) fn judge(&self, machine: &mut impl Machine) -> Result<(), Finding> {
        let disk = machine.disk();
        self.model.judge(disk.as_ref(), machine.dir())
    }
}
