//! The snapshots that are being sent: packed a stretch at a time, then read piece by piece. Must not
//! know how pieces travel, nor what is in them.

use super::SharedStore;
use bytes::Bytes;
use quorate_core::{LogId, NodeId};
use quorate_wal::{Packing, Parcel, WalError};
use std::collections::BTreeSet;

/// How much of a snapshot is read at a time before its first piece leaves: the thread has other work.
const PACK_BYTES: u64 = 8 << 20;
/// How many snapshots are open: followers that are sent different ones take turns.
const OPEN_COUNT_MAX: usize = 2;

/// See the module.
pub(super) struct Parcels(Vec<Open>);

struct Open {
    last_included: LogId,
    stage: Stage,
    /// Who was sent the beginning of it.
    begun_by: BTreeSet<NodeId>,
}

enum Stage {
    Packing(Box<Packing>),
    Packed(Parcel),
}

impl Parcels {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// A piece for a peer, and whether it is the last; `None` if the snapshot is not packed yet, and
    /// this is to be asked again.
    pub(super) fn read(
        &mut self,
        store: &SharedStore,
        peer: NodeId,
        last_included: LogId,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Option<(Bytes, bool)>, WalError> {
        let is_beginning = offset == 0;
        let mut open = match self.take(last_included) {
            // Whoever wants the beginning again may have refused what followed it: the file is looked
            // at again. Sent as it is, a damaged one would be sent for ever.
            Some(open) if !(is_beginning && open.begun_by.contains(&peer)) => open,
            Some(_) | None => {
                let stage = Stage::Packing(Box::new(store.lock().pack(last_included)?));
                Open { last_included, stage, begun_by: BTreeSet::new() }
            }
        };
        if let Stage::Packing(packing) = &mut open.stage
            && let Some(parcel) = packing.step(PACK_BYTES)?
        {
            open.stage = Stage::Packed(parcel);
        }
        let piece = match &open.stage {
            Stage::Packing(_) => None,
            Stage::Packed(parcel) => {
                if is_beginning {
                    open.begun_by.insert(peer);
                }
                Some(parcel.read_piece(offset, max_bytes)?)
            }
        };
        self.0.push(open);
        if self.0.len() > OPEN_COUNT_MAX {
            self.0.remove(0);
        }
        Ok(piece)
    }

    fn take(&mut self, last_included: LogId) -> Option<Open> {
        let place = self.0.iter().position(|open| open.last_included == last_included)?;
        Some(self.0.remove(place))
    }
}
