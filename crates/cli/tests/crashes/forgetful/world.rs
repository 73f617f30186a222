//! Files and folders in memory that keep what was synced and, when the power fails, any part of the
//! rest: sectors of writes, lengths, names. Knows nothing of FUSE but its error numbers, and nothing of
//! who writes.

use crate::harness::Rng;
use fuser::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

/// What reaches a disk whole or not at all.
const SECTOR: usize = 512;
/// The folder that holds all others.
pub(crate) const ROOT: u64 = 1;
/// How large the disk says it is, and is.
pub(crate) const SIZE_BYTES: u64 = 512 << 20;

/// What shall go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write arrives in half, with an error.
    Write,
    /// A sync fails, of a file or of a folder, and what it should have made durable never is.
    Sync,
}

/// What goes wrong, after so many of its kind; of any file or folder, or of those with this name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) fault: Fault,
    pub(crate) after: u64,
    pub(crate) only: Option<&'static str>,
}

/// What a disk holds.
pub(crate) struct World {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    order: Option<Order>,
    /// Whether reads give less than they are asked for.
    pub(crate) has_short_reads: bool,
}

enum Node {
    File(Content),
    Folder(Names),
}

#[derive(Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

#[derive(Default)]
struct Names {
    current: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<NameChange>,
}

/// Each happens whole or not at all, as in the journal of a file system.
enum NameChange {
    Set(OsString, u64),
    Remove(OsString),
    Rename(OsString, OsString, u64),
}

type Fallible<T> = Result<T, Errno>;

fn put(bytes: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    let end = offset + piece.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(piece);
}

/// The pieces of a write, one a sector.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
        pieces.push((offset + at, &bytes[at..at + length]));
        at += length;
    }
    pieces
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("no file of a test is that long")
}

impl NameChange {
    fn carry_out(&self, names: &mut BTreeMap<OsString, u64>) {
        match self {
            Self::Set(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

impl Names {
    fn change(&mut self, change: NameChange) {
        change.carry_out(&mut self.current);
        self.pending.push(change);
    }

    /// Not what is seen: of that a failed sync may have lost something.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.carry_out(&mut self.durable);
        }
    }
}

impl Content {
    /// As for names.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(offset, bytes) => put(&mut self.durable, offset, &bytes),
                Change::Size(size) => self.durable.resize(size, 0),
            }
        }
    }

    fn lose(&mut self, keep: &mut impl FnMut() -> bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(offset, bytes) => {
                    for (at, piece) in sectors(offset, &bytes) {
                        if keep() {
                            put(&mut self.durable, at, piece);
                        }
                    }
                }
                Change::Size(size) if keep() => self.durable.resize(size, 0),
                Change::Size(_) => {}
            }
        }
        self.current.clone_from(&self.durable);
    }
}

impl World {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Folder(Names::default()))]);
        Self { nodes, next: ROOT + 1, order: None, has_short_reads: false }
    }

    fn content(&mut self, node: u64) -> Fallible<&mut Content> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Folder(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn names(&mut self, node: u64) -> Fallible<&mut Names> {
        match self.nodes.get_mut(&node) {
            Some(Node::Folder(names)) => Ok(names),
            Some(Node::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn is_called(&self, node: u64, name: &str) -> bool {
        self.nodes.values().any(|it| match it {
            Node::Folder(names) => names.current.get(OsStr::new(name)) == Some(&node),
            Node::File(_) => false,
        })
    }

    /// Lets the fault happen if it is due.
    fn is_due(&mut self, fault: Fault, node: u64) -> bool {
        let Some(order) = self.order else { return false };
        let is_meant = order.only.is_none_or(|name| self.is_called(node, name));
        if order.fault != fault || !is_meant {
            return false;
        }
        self.order = order.after.checked_sub(1).map(|after| Order { after, ..order });
        self.order.is_none()
    }

    /// Orders a fault.
    pub(crate) fn arm(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// Whether a fault is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.order.is_some()
    }

    /// How much all files take.
    pub(crate) fn used_bytes(&self) -> u64 {
        let sizes = self.nodes.values().map(|node| match node {
            Node::File(content) => content.current.len() as u64,
            Node::Folder(_) => 0,
        });
        sizes.sum()
    }

    fn check_room(&self, held: usize, end: u64) -> Fallible<()> {
        let grows = end.saturating_sub(held as u64);
        if grows > 0 && self.used_bytes() + grows > SIZE_BYTES {
            Err(Errno::ENOSPC)
        } else {
            Ok(())
        }
    }

    /// What has this name in a folder.
    pub(crate) fn find(&mut self, folder: u64, name: &OsStr) -> Fallible<u64> {
        self.names(folder)?.current.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The names in a folder, and what has them.
    pub(crate) fn list(&mut self, folder: u64) -> Fallible<Vec<(OsString, u64)>> {
        let names = &self.names(folder)?.current;
        Ok(names.iter().map(|(name, node)| (name.clone(), *node)).collect())
    }

    /// The length of a file; `None` for a folder.
    pub(crate) fn size(&self, node: u64) -> Fallible<Option<u64>> {
        match self.nodes.get(&node) {
            Some(Node::File(content)) => Ok(Some(content.current.len() as u64)),
            Some(Node::Folder(_)) => Ok(None),
            None => Err(Errno::ENOENT),
        }
    }

    /// A new file, or a new folder.
    pub(crate) fn create(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Fallible<u64> {
        if self.names(folder)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let node = self.next;
        self.next += 1;
        let new =
            if is_folder { Node::Folder(Names::default()) } else { Node::File(Content::default()) };
        self.nodes.insert(node, new);
        self.names(folder)?.change(NameChange::Set(name.to_owned(), node));
        Ok(node)
    }

    /// Takes a name away. Who has the file open goes on with it.
    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr) -> Fallible<()> {
        let node = self.find(folder, name)?;
        if self.names(node).is_ok_and(|names| !names.current.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.names(folder)?.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    /// Gives a file or a folder another name.
    pub(crate) fn rename(
        &mut self,
        (folder, name): (u64, &OsStr),
        (to_folder, to_name): (u64, &OsStr),
        replaces: bool,
    ) -> Fallible<()> {
        let node = self.find(folder, name)?;
        match self.find(to_folder, to_name) {
            Ok(_) if !replaces => return Err(Errno::EEXIST),
            Ok(old) if self.names(old).is_ok_and(|names| !names.current.is_empty()) => {
                return Err(Errno::ENOTEMPTY);
            }
            Ok(_) | Err(_) => {}
        }
        if folder == to_folder {
            let change = NameChange::Rename(name.to_owned(), to_name.to_owned(), node);
            self.names(folder)?.change(change);
        } else {
            self.names(to_folder)?.change(NameChange::Set(to_name.to_owned(), node));
            self.names(folder)?.change(NameChange::Remove(name.to_owned()));
        }
        Ok(())
    }

    /// What is there from `offset` on, no more than `size`.
    pub(crate) fn read(&mut self, node: u64, offset: u64, size: usize) -> Fallible<Vec<u8>> {
        let is_short = self.has_short_reads;
        let current = &self.content(node)?.current;
        let start = index(offset).min(current.len());
        let count = size.min(current.len() - start);
        let count = if is_short { count.div_ceil(2) } else { count };
        Ok(current[start..start + count].to_vec())
    }

    /// Writes, as far as the next fault.
    pub(crate) fn write(&mut self, node: u64, offset: u64, bytes: &[u8]) -> Fallible<()> {
        let held = self.content(node)?.current.len();
        self.check_room(held, offset + bytes.len() as u64)?;
        let fails = self.is_due(Fault::Write, node);
        let arrived = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        let content = self.content(node)?;
        put(&mut content.current, index(offset), arrived);
        content.pending.push(Change::Write(index(offset), arrived.to_vec()));
        if fails { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Cuts a file, or grows it with zeros.
    pub(crate) fn set_size(&mut self, node: u64, size: u64) -> Fallible<()> {
        let held = self.content(node)?.current.len();
        self.check_room(held, size)?;
        let content = self.content(node)?;
        content.current.resize(index(size), 0);
        content.pending.push(Change::Size(index(size)));
        Ok(())
    }

    /// Makes a file's bytes durable, or a folder's names.
    pub(crate) fn sync(&mut self, node: u64) -> Fallible<()> {
        let fails = self.is_due(Fault::Sync, node);
        match self.nodes.get_mut(&node).ok_or(Errno::ENOENT)? {
            // The pages count as clean from now on, and what they hold never gets to the disk.
            Node::File(content) if fails => content.pending.clear(),
            Node::File(content) => content.sync(),
            Node::Folder(names) if fails => names.pending.clear(),
            Node::Folder(names) => names.sync(),
        }
        if fails { Err(Errno::EIO) } else { Ok(()) }
    }

    /// The power fails: of what was not synced chance keeps nothing, all, half, or most.
    pub(crate) fn lose(&mut self, rng: &mut Rng) {
        let style = rng.below(4);
        let mut keep = || match style {
            0 => false,
            1 => true,
            2 => rng.coin(),
            _ => rng.below(5) > 0,
        };
        for node in self.nodes.values_mut() {
            match node {
                Node::File(content) => content.lose(&mut keep),
                Node::Folder(names) => {
                    for change in std::mem::take(&mut names.pending) {
                        if keep() {
                            change.carry_out(&mut names.durable);
                        }
                    }
                    names.current.clone_from(&names.durable);
                }
            }
        }
        self.order = None;
        self.forget_the_nameless();
    }

    fn forget_the_nameless(&mut self) {
        let mut reached = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(node) = next.pop() {
            if reached.insert(node)
                && let Some(Node::Folder(names)) = self.nodes.get(&node)
            {
                next.extend(names.current.values());
            }
        }
        self.nodes.retain(|node, _| reached.contains(node));
    }

    /// Copies everything to a real folder, for a person to look at.
    pub(crate) fn dump(&self, node: u64, to: &Path) -> std::io::Result<()> {
        match self.nodes.get(&node) {
            Some(Node::File(content)) => fs::write(to, &content.current),
            Some(Node::Folder(names)) => {
                fs::create_dir_all(to)?;
                names.current.iter().try_for_each(|(name, node)| self.dump(*node, &to.join(name)))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world with a durable file `f` that holds these bytes.
    fn with_file(bytes: &[u8]) -> (World, u64) {
        let mut world = World::new();
        let file = world.create(ROOT, OsStr::new("f"), false).unwrap();
        world.write(file, 0, bytes).unwrap();
        world.sync(file).unwrap();
        world.sync(ROOT).unwrap();
        (world, file)
    }

    fn next(fault: Fault) -> Order {
        Order { fault, after: 0, only: None }
    }

    fn names_of(world: &mut World) -> Vec<OsString> {
        world.list(ROOT).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_was_synced_stays_and_of_the_rest_each_sector_stays_or_goes() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let (mut world, file) = with_file(&[1; 2 * SECTOR]);
            world.write(file, 0, &[2; 2 * SECTOR]).unwrap();
            world.lose(&mut Rng::new(seed, 0));
            let bytes = world.read(file, 0, 4 * SECTOR).unwrap();
            assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|it| *it == sector[0])));
            seen.insert((bytes[0], bytes[SECTOR]));
        }
        assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
    }

    #[test]
    fn a_name_that_was_not_synced_may_go_and_a_file_without_one_is_forgotten() {
        let mut counts = BTreeSet::new();
        for seed in 0..100 {
            let (mut world, _) = with_file(b"old");
            let new = world.create(ROOT, OsStr::new("g"), false).unwrap();
            world.write(new, 0, b"new").unwrap();
            world.sync(new).unwrap();
            world.rename((ROOT, OsStr::new("g")), (ROOT, OsStr::new("f")), true).unwrap();
            world.lose(&mut Rng::new(seed, 0));
            let file = world.find(ROOT, OsStr::new("f")).unwrap();
            let bytes = world.read(file, 0, 9).unwrap();
            assert!([b"old", b"new"].contains(&bytes[..].try_into().unwrap()));
            counts.insert((bytes, names_of(&mut world).len()));
        }
        assert!(counts.contains(&(b"old".to_vec(), 1)) && counts.contains(&(b"new".to_vec(), 1)));
        assert!(counts.contains(&(b"old".to_vec(), 2)), "made, and not yet renamed");
    }

    #[test]
    fn what_a_failed_sync_should_have_kept_is_gone_although_the_next_one_succeeds() {
        let (mut world, file) = with_file(b"old");
        world.write(file, 0, b"new").unwrap();
        world.arm(next(Fault::Sync));
        assert_eq!(i32::from(world.sync(file).unwrap_err()), i32::from(Errno::EIO));
        assert!(!world.is_armed());
        world.write(file, 3, b"er").unwrap();
        world.sync(file).unwrap();
        assert_eq!(world.read(file, 0, 9).unwrap(), b"newer", "the pages are still there");
        world.lose(&mut Rng::new(1, 0));
        assert_eq!(world.read(file, 0, 9).unwrap(), b"older");
    }

    #[test]
    fn the_names_that_a_failed_sync_should_have_kept_are_gone_although_the_next_one_succeeds() {
        let (mut world, _) = with_file(b"old");
        world.create(ROOT, OsStr::new("lost"), false).unwrap();
        world.arm(next(Fault::Sync));
        world.sync(ROOT).unwrap_err();
        world.create(ROOT, OsStr::new("kept"), false).unwrap();
        world.sync(ROOT).unwrap();
        assert_eq!(names_of(&mut world).len(), 3, "they are still seen");
        world.lose(&mut Rng::new(1, 0));
        assert_eq!(names_of(&mut world), ["f", "kept"]);
    }

    #[test]
    fn a_failed_write_arrives_in_half_and_it_is_the_one_that_was_meant() {
        let (mut world, file) = with_file(b"old!");
        let other = world.create(ROOT, OsStr::new("other"), false).unwrap();
        world.arm(Order { after: 1, only: Some("f"), ..next(Fault::Write) });
        world.sync(file).unwrap();
        world.write(file, 4, b"one").unwrap();
        world.write(other, 0, b"whole").unwrap();
        world.write(file, 0, b"NEWS").unwrap_err();
        assert_eq!(world.read(file, 0, 9).unwrap(), b"NEd!one");
    }
}
