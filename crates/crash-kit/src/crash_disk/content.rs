//! The bytes of one file: those that are seen, those that are durable, and what lies between. Must not
//! know names, nor when the power fails.

use std::collections::BTreeSet;

/// What reaches a disk whole or not at all, in bytes.
const SECTOR_SIZE: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// The changes that a failed sync should have made durable. They are seen, and never get there.
    doomed: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

fn put(bytes: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    let end = offset.saturating_add(piece.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(piece);
    }
}

impl Change {
    fn carry_out(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, piece) => put(bytes, *offset, piece),
            Self::Size(size) => bytes.resize(*size, 0),
        }
    }

    /// Carries out what chance keeps, sector by sector.
    fn carry_out_in_part(&self, bytes: &mut Vec<u8>, keep: &mut impl FnMut() -> bool) {
        match self {
            Self::Write(offset, piece) => {
                let (mut at, mut rest) = (*offset, piece.as_slice());
                while !rest.is_empty() {
                    let length = (SECTOR_SIZE - at % SECTOR_SIZE).min(rest.len());
                    let (sector, behind) = rest.split_at(length);
                    if keep() {
                        put(bytes, at, sector);
                    }
                    (at, rest) = (at + length, behind);
                }
            }
            Self::Size(size) if keep() => bytes.resize(*size, 0),
            Self::Size(_) => {}
        }
    }
}

impl Content {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.change(Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn set_size(&mut self, size: usize) {
        self.change(Change::Size(size));
    }

    fn change(&mut self, change: Change) {
        change.carry_out(&mut self.current);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for (at, change) in std::mem::take(&mut self.pending).iter().enumerate() {
            if !self.doomed.contains(&at) {
                change.carry_out(&mut self.durable);
            }
        }
        self.doomed.clear();
    }

    /// The pages count as clean from now on.
    pub(super) fn fail_sync(&mut self) {
        self.doomed = (0..self.pending.len()).collect();
    }

    pub(super) fn lose(&mut self, keep: &mut impl FnMut() -> bool) {
        for (at, change) in std::mem::take(&mut self.pending).iter().enumerate() {
            if !self.doomed.contains(&at) {
                change.carry_out_in_part(&mut self.durable, keep);
            }
        }
        self.doomed.clear();
        self.current.clone_from(&self.durable);
    }
}
