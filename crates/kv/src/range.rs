//! Answers a range request from a view, as etcd does: filters, order, limit, count. Decides what a
//! revision in a request may be; knows nothing of how keys are stored.

use crate::api::{KeyValue, RangeRequest, RangeResponse, ResponseHeader, SortOrder, SortTarget};
use crate::error::{OpError, ReadError};
use crate::keys::LivingKeys;
use crate::revision::{ChangeId, Revision};
use crate::view::{Found, KeyRange, RangeEnd, View};
use bytes::Bytes;
use std::cmp::Ordering;

/// A key that was picked, with its value only if something needed it already.
struct Picked {
    key: Bytes,
    found: Found,
    value: Option<Bytes>,
}

/// Answers `request` as of its revision. `now` is the newest revision that this reader sees: the
/// view's, or inside a transaction that has written the next one.
pub(crate) fn range(
    view: &View,
    now: Revision,
    request: &RangeRequest,
) -> Result<RangeResponse, ReadError> {
    let at = readable_revision(view, now, request.revision)?;
    let plan = Plan::new(request);
    let range = KeyRange::new(&request.key, &request.range_end);
    let (mut picked, count) = if range.end == RangeEnd::Single {
        plan.pick_one(view, &range.from, ChangeId::last_of(at))?
    } else {
        plan.pick(view, view.keys(&range, ChangeId::last_of(at))?)?
    };
    plan.order(&mut picked);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let more = limit > 0 && picked.len() > limit;
    if more {
        picked.truncate(limit);
    }
    let kvs = picked
        .into_iter()
        .map(|picked| complete(view, picked, request.keys_only))
        .collect::<Result<_, _>>()?;
    Ok(RangeResponse { header: Some(header(now)), kvs, more, count })
}

/// The revision that a request asks for; 0 or less is `now`.
pub(crate) fn readable_revision(
    view: &View,
    now: Revision,
    wanted: i64,
) -> Result<Revision, OpError> {
    let at = match u64::try_from(wanted) {
        Ok(wanted) if wanted > 0 => Revision::new(wanted),
        _ => now,
    };
    if at > now {
        return Err(OpError::FutureRevision);
    }
    if view.compacted.is_some_and(|compacted| at < compacted) {
        return Err(OpError::Compacted);
    }
    Ok(at)
}

/// Whether a request wants its keys in another order than they are kept in.
#[must_use]
pub fn is_sorted(request: &RangeRequest) -> bool {
    request.sort_order == i32::from(SortOrder::Descend)
        || request.sort_target != i32::from(SortTarget::Key)
}

/// Whether a request wants keys of certain revisions only.
#[must_use]
pub const fn is_filtered(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// A response header that says the revision; the server adds what else it knows.
pub(crate) fn header(revision: Revision) -> ResponseHeader {
    ResponseHeader { revision: revision.to_wire(), ..ResponseHeader::default() }
}

fn complete(view: &View, picked: Picked, keys_only: bool) -> Result<KeyValue, ReadError> {
    let version = *picked.found.version();
    if keys_only {
        return Ok(version.to_key_value(picked.key, Bytes::new()));
    }
    match picked.value {
        Some(value) => Ok(version.to_key_value(picked.key, value)),
        None => Ok(view.load(&picked.found)?),
    }
}

/// What a request wants done with the keys of its range.
struct Plan<'a> {
    request: &'a RangeRequest,
    order: SortOrder,
    target: SortTarget,
    /// How many keys to keep while walking.
    keep: Keep,
}

/// How many keys a walk keeps.
#[derive(Clone, Copy)]
enum Keep {
    /// None: only the count is wanted.
    None,
    /// The first ones.
    First(usize),
    /// The first ones in the order of the plan.
    Best(usize),
    /// All.
    All,
}

impl<'a> Plan<'a> {
    fn new(request: &'a RangeRequest) -> Self {
        let asked_order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        // Keys come in ascending order; any other target sorts ascending unless told otherwise.
        let order = match (target, asked_order) {
            (SortTarget::Key, SortOrder::Ascend) => SortOrder::None,
            (SortTarget::Key, order) => order,
            (_, SortOrder::None) => SortOrder::Ascend,
            (_, order) => order,
        };
        let filtered = is_filtered(request);
        // One more than the limit tells whether there is more.
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let keep = match limit.map(|limit| limit.saturating_add(1)) {
            _ if request.count_only => Keep::None,
            None => Keep::All,
            // etcd applies the limit before it sorts if the request names no order, even when the
            // target then makes it sort. Clients can see that, so we do the same.
            Some(keep) if asked_order == SortOrder::None && !filtered => Keep::First(keep),
            Some(keep) if order == SortOrder::None => Keep::First(keep),
            Some(keep) => Keep::Best(keep),
        };
        Self { request, order, target, keep }
    }

    /// [`Plan::pick`] for a range of one key, which needs no walk.
    fn pick_one(
        &self,
        view: &View,
        key: &Bytes,
        at: ChangeId,
    ) -> Result<(Vec<Picked>, i64), ReadError> {
        let Some(found) = view.living(key, at)? else { return Ok((Vec::new(), 0)) };
        let mut picked = Vec::new();
        if self.wants(&found, 0) {
            picked.push(Picked { key: key.clone(), found, value: None });
        }
        Ok((picked, 1))
    }

    /// Walks over all keys: returns those to keep, and how many there are.
    fn pick(&self, view: &View, mut keys: LivingKeys) -> Result<(Vec<Picked>, i64), ReadError> {
        let mut picked = Vec::new();
        let mut count: i64 = 0;
        while let Some(found) = keys.next()? {
            count += 1;
            if !self.wants(&found, picked.len()) {
                continue;
            }
            let key = keys.key_of(&found);
            let value = self.sorts_by_value().then(|| view.load(&found)).transpose()?;
            picked.push(Picked { key, found, value: value.map(|kv| kv.value) });
            self.drop_surplus(&mut picked);
        }
        Ok((picked, count))
    }

    fn wants(&self, found: &Found, picked_count: usize) -> bool {
        let room = match self.keep {
            Keep::None => false,
            Keep::First(keep) => picked_count < keep,
            Keep::Best(_) | Keep::All => true,
        };
        room && self.passes(found)
    }

    fn passes(&self, found: &Found) -> bool {
        let version = found.version();
        let (mod_revision, create_revision) =
            (version.id.main.to_wire(), version.create_revision.to_wire());
        let request = self.request;
        let above = |bound: i64, value: i64| bound == 0 || value >= bound;
        let below = |bound: i64, value: i64| bound == 0 || value <= bound;
        above(request.min_mod_revision, mod_revision)
            && below(request.max_mod_revision, mod_revision)
            && above(request.min_create_revision, create_revision)
            && below(request.max_create_revision, create_revision)
    }

    fn sorts_by_value(&self) -> bool {
        self.target == SortTarget::Value && self.order != SortOrder::None
    }

    /// Keeps memory bounded: with a limit, no more than twice as many keys are held.
    fn drop_surplus(&self, picked: &mut Vec<Picked>) {
        if let Keep::Best(keep) = self.keep
            && picked.len() >= keep.saturating_mul(2)
        {
            self.order(picked);
            picked.truncate(keep);
        }
    }

    /// Sorts; equal ones stay in the order of their keys.
    fn order(&self, picked: &mut [Picked]) {
        match self.order {
            SortOrder::None => {}
            SortOrder::Ascend => picked.sort_by(|a, b| self.compare(a, b)),
            SortOrder::Descend => picked.sort_by(|a, b| self.compare(b, a)),
        }
    }

    fn compare(&self, a: &Picked, b: &Picked) -> Ordering {
        let (left, right) = (a.found.version(), b.found.version());
        match self.target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => left.put_count.cmp(&right.put_count),
            SortTarget::Create => left.create_revision.cmp(&right.create_revision),
            SortTarget::Mod => left.id.main.cmp(&right.id.main),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    }
}
