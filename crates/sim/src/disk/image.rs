//! What is on a disk: names, folders and bytes; and the changes that can be made to them. It must
//! not know which changes are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The smallest unit that a disk writes whole.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub(super) u64);

/// Everything on a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<PathBuf, Inode>,
    pub(super) folders: BTreeSet<PathBuf>,
    pub(super) contents: BTreeMap<Inode, Vec<u8>>,
}

/// A change of an [`Image`].
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Bytes of a file.
    Write { inode: Inode, offset: usize, bytes: Vec<u8> },
    /// The length of a file.
    Size { inode: Inode, size: usize },
    /// A new file.
    Create { path: PathBuf, inode: Inode },
    /// Another name for a file.
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    /// No name any more.
    Remove { path: PathBuf },
    /// A new folder.
    Folder { path: PathBuf },
}

impl Change {
    /// The file whose `sync` makes this durable, if it is about a file's bytes.
    pub(super) fn inode(&self) -> Option<Inode> {
        match self {
            Self::Write { inode, .. } | Self::Size { inode, .. } => Some(*inode),
            Self::Create { .. }
            | Self::Rename { .. }
            | Self::Remove { .. }
            | Self::Folder { .. } => None,
        }
    }

    /// Whether syncing this folder makes the change durable. A rename between two folders counts
    /// with the folder that it goes to.
    pub(super) fn is_name_in(&self, folder: &Path) -> bool {
        match self {
            Self::Write { .. } | Self::Size { .. } => false,
            Self::Create { path, .. } | Self::Remove { path } | Self::Folder { path } => {
                path.parent() == Some(folder)
            }
            Self::Rename { to, .. } => to.parent() == Some(folder),
        }
    }
}

impl Image {
    /// Carries a change out.
    pub(super) fn make(&mut self, change: &Change) {
        match change {
            Change::Write { inode, offset, bytes } => self.write(*inode, *offset, bytes),
            Change::Size { inode, size } => {
                self.contents.entry(*inode).or_default().resize(*size, 0);
            }
            Change::Create { path, inode } => {
                self.names.insert(path.clone(), *inode);
                self.contents.entry(*inode).or_default();
            }
            Change::Rename { from, to, inode } => {
                if self.names.get(from) == Some(inode) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *inode);
                self.contents.entry(*inode).or_default();
            }
            Change::Remove { path } => {
                self.names.remove(path);
            }
            Change::Folder { path } => {
                self.folders.insert(path.clone());
            }
        }
    }

    /// Writes bytes into a file, growing it with zeros if needed.
    pub(super) fn write(&mut self, inode: Inode, offset: usize, bytes: &[u8]) {
        let content = self.contents.entry(inode).or_default();
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        if let Some(target) = content.get_mut(offset..end) {
            target.copy_from_slice(bytes);
        }
    }

    /// Drops names in folders that are not there, and bytes that no name leads to.
    pub(super) fn drop_unreachable(&mut self) {
        let folders = std::mem::take(&mut self.folders);
        let has_parents = |path: &Path| {
            path.ancestors().skip(1).all(|above| is_top(above) || folders.contains(above))
        };
        self.names.retain(|path, _| has_parents(path));
        let kept: BTreeSet<Inode> = self.names.values().copied().collect();
        self.contents.retain(|inode, _| kept.contains(inode));
        self.folders = folders.iter().filter(|path| has_parents(path)).cloned().collect();
    }
}

/// Whether a path is the root or the empty path, which are always there.
pub(super) fn is_top(path: &Path) -> bool {
    path.parent().is_none()
}
