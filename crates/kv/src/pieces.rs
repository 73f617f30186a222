//! A range that is read piece by piece: all as of one revision, and each from a view of its own, so
//! that however slow a reader is, nothing is kept from being freed. Must not know who waits for the
//! pieces.

use crate::api::{KeyValue, RangeRequest, RangeResponse};
use crate::auth::{Access, AuthState, Examiner};
use crate::engine::EngineError;
use crate::error::ReadError;
use crate::range;
use crate::revision::{ChangeId, Revision};
use crate::store::Shared;
use crate::view::{Found, KeyRange, RangeEnd, View};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// What a field of a message takes beside its content, at most: a tag and a length.
const FIELD_HEAD_BYTES: usize = 6;

/// See the module. The pieces merged are what [`crate::Reader::range_for`] would have answered when
/// the first was asked for.
pub struct RangePieces {
    shared: Arc<Shared>,
    request: RangeRequest,
    access: Access,
    /// The users and roles that the last look at them saw.
    auth: Arc<AuthState>,
    /// The newest revision when it began.
    now: Revision,
    /// The revision that is read.
    at: Revision,
    /// Where to go on; `None` after the last piece.
    from: Option<Bytes>,
    end: RangeEnd,
    /// How many keys may still be told; `None` for all.
    room_count: Option<usize>,
    /// How many keys were seen.
    count: i64,
    more: bool,
}

impl RangePieces {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        access: &Access,
        request: RangeRequest,
    ) -> Result<Self, ReadError> {
        let view = shared.view();
        Examiner::new(&view, access).range(&request)?;
        let at = range::readable_revision(&view, view.revision, request.revision)?;
        let keys = KeyRange::new(&request.key, &request.range_end);
        Ok(Self {
            shared: Arc::clone(shared),
            access: access.clone(),
            auth: Arc::clone(&view.auth),
            now: view.revision,
            at,
            from: Some(keys.from.clone()),
            end: keys.to().map_or(RangeEnd::Unbounded, RangeEnd::Before),
            room_count: usize::try_from(request.limit).ok().filter(|limit| *limit > 0),
            request,
            count: 0,
            more: false,
        })
    }

    /// The next piece, which ends with the key that makes it `size_bytes` or more; `None` after the
    /// last one, which alone says the count, whether there is more, and the revision.
    ///
    /// # Errors
    ///
    /// As [`crate::Reader::range_for`]: what is read may have been compacted since, and the right to
    /// read it taken away.
    pub fn next(&mut self, size_bytes: usize) -> Result<Option<RangeResponse>, ReadError> {
        let Some(from) = self.from.take() else { return Ok(None) };
        let view = self.shared.view();
        range::readable_revision(&view, view.revision, self.at.to_wire())?;
        self.look_at_rights(&view)?;
        let piece = self.walk(&view, from, size_bytes);
        piece.map(Some).map_err(|error| self.shared.failed_by(error).into())
    }

    /// Who asks is known since the beginning; what they may do is as it is now.
    fn look_at_rights(&mut self, view: &View) -> Result<(), ReadError> {
        if Arc::ptr_eq(&view.auth, &self.auth) {
            return Ok(());
        }
        if let Access::User { revision, .. } = &mut self.access {
            *revision = view.auth.revision();
        }
        Examiner::new(view, &self.access).range(&self.request)?;
        self.auth = Arc::clone(&view.auth);
        Ok(())
    }

    fn walk(
        &mut self,
        view: &View,
        from: Bytes,
        size_bytes: usize,
    ) -> Result<RangeResponse, EngineError> {
        let range = KeyRange { from, end: self.end.clone() };
        let mut keys = view.keys(&range, ChangeId::last_of(self.at))?;
        let (mut kvs, mut room_bytes) = (Vec::new(), size_bytes);
        while let Some(found) = keys.next()? {
            self.count += 1;
            if !self.wants_one_more() {
                continue;
            }
            let kv = self.load(view, keys.key_of(&found), &found)?;
            room_bytes = room_bytes.saturating_sub(kv.encoded_len() + FIELD_HEAD_BYTES);
            if room_bytes == 0 {
                self.from = Some(successor(&kv.key));
                kvs.push(kv);
                return Ok(RangeResponse { kvs, ..RangeResponse::default() });
            }
            kvs.push(kv);
        }
        let header = Some(range::header(self.now));
        Ok(RangeResponse { header, kvs, more: self.more, count: self.count })
    }

    /// Whether the next key is to be told; it counts in any case.
    fn wants_one_more(&mut self) -> bool {
        if self.request.count_only {
            return false;
        }
        let Some(room_count) = &mut self.room_count else { return true };
        match room_count.checked_sub(1) {
            Some(rest) => *room_count = rest,
            None => self.more = true,
        }
        !self.more
    }

    fn load(&self, view: &View, key: Bytes, found: &Found) -> Result<KeyValue, EngineError> {
        if self.request.keys_only {
            return Ok(found.version().to_key_value(key, Bytes::new()));
        }
        view.load(found)
    }
}

/// The first key after this one.
fn successor(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
