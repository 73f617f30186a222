//! Watches that may not be, from the beginning or any longer. Must not know who may watch what.

use super::hub::Watcher;
use super::outbox::{Item, NO_WATCH};
use super::stream::WatchStream;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

impl WatchStream {
    /// Says that a watch does not begin, and why. It comes in its turn.
    pub fn refuse(&mut self, reason: String) {
        let mut state = self.inner.lock();
        let revision = self.inner.shared.view().revision;
        let Some(lane) = state.lanes.get_mut(&self.stream) else { return };
        lane.outbox.push(Item::Created { id: NO_WATCH, revision, refusal: Some(reason) });
        lane.wake();
    }

    /// Asks `permitted` for each watch with the two fields of a range, and ends it if there is a
    /// reason to: it is told that reason, and no event any more that waits for its client. Returns
    /// how many have ended. `permitted` is called under the lock of all watches: it must be quick.
    pub fn end_unless(
        &mut self,
        mut permitted: impl FnMut(&Bytes, &Bytes) -> Result<(), String>,
    ) -> usize {
        let mut state = self.inner.lock();
        let revision = self.inner.shared.view().revision;
        let Some(lane) = state.lanes.get(&self.stream) else { return 0 };
        let mut refused = |watcher: &Watcher| {
            let (key, range_end) = watcher.range.fields();
            permitted(&key, &range_end).err()
        };
        let watchers = lane.ids.iter().filter_map(|(id, key)| Some((id, state.watchers.get(key)?)));
        let ended: BTreeMap<i64, String> =
            watchers.filter_map(|(id, watcher)| Some((*id, refused(watcher)?))).collect();
        if ended.is_empty() {
            return 0;
        }
        let ids: BTreeSet<i64> = ended.keys().copied().collect();
        let Some(lane) = state.lanes.get_mut(&self.stream) else { return 0 };
        let pending_bytes = lane.outbox.size_bytes;
        lane.outbox.withdraw(&ids);
        let freed_bytes = pending_bytes.saturating_sub(lane.outbox.size_bytes);
        for (id, reason) in ended {
            lane.outbox.push(Item::Canceled { id, revision, reason });
        }
        lane.wake();
        let keys: Vec<_> = ids.iter().filter_map(|id| lane.ids.get(id).copied()).collect();
        state.pending_bytes = state.pending_bytes.saturating_sub(freed_bytes);
        for key in keys {
            state.remove(key);
        }
        self.inner.note_watched(&state);
        state.pay_progress_of(self.stream);
        ids.len()
    }
}
