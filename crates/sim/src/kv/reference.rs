//! What the store must answer to every command: a plain map, run once along the log. Whichever
//! replica applies an index first is compared with it, every other one with the first. Knows nothing
//! of clients, and shares no code with the store.

use super::codec::{self, garbled};
use super::forbidden::Forbidden;
use crate::application::Complaint;
use crate::hash::hash_of;
use crate::judge::watch::History;
use bytes::Bytes;
use prost::Message;
use quorate_core::LogIndex;
use quorate_kv::api::{
    CompactionResponse, Compare, CompareResult, CompareTarget, CompareUnion, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse, Request,
    RequestOp, Response, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use quorate_kv::lease::TTL_SECONDS_MAX;
use quorate_kv::lease::api::{
    LeaseExpireRequest, LeaseExpireResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseRenewResponse, LeaseRevokeResponse,
};
use quorate_kv::watch::{Event, EventKind};
use quorate_kv::{AlarmResponse, Command, CommandKind, CommandReply, OpError, Outcome};
use rpds::RedBlackTreeMapSync;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The revision of an empty store.
const FIRST_REVISION: i64 = 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reference {
    content: Content,
    /// What each revision changed, for the judge of watches.
    pub(super) history: History,
    /// How often a snapshot replaced a replica's store.
    pub(super) restored_count: u64,
    /// How often a replica's engine was made anew.
    pub(super) renewed_count: u64,
    /// The alarms that are raised.
    pub(super) forbidden: Forbidden,
    /// Where the log holds what an alarm forbade.
    refused: BTreeSet<LogIndex>,
    compacted: Option<i64>,
    /// What each key held from a revision on, in their order.
    past: BTreeMap<Bytes, Vec<(i64, Option<Bytes>)>>,
    /// A hash of the reply to each index.
    replies: BTreeMap<LogIndex, u64>,
    /// The first thing that was wrong.
    complaint: Option<Complaint>,
}

#[derive(Clone, Debug)]
struct Content {
    /// Persistent: what was there before a command costs nothing to keep.
    rows: RedBlackTreeMapSync<Bytes, KeyValue>,
    /// The time to live of each lease, and the index that granted or renewed it last.
    leases: BTreeMap<i64, (i64, LogIndex)>,
    revision: i64,
    /// Whether the present command has changed something.
    has_changed: bool,
    /// What it has changed, one by one, without what was there before.
    events: Vec<Event>,
}

impl Default for Content {
    fn default() -> Self {
        let (rows, leases, events) = (RedBlackTreeMapSync::default(), BTreeMap::new(), Vec::new());
        Self { rows, leases, revision: FIRST_REVISION, has_changed: false, events }
    }
}

impl Reference {
    /// A replica answered the command at this index.
    pub(super) fn applied(&mut self, index: LogIndex, command: &[u8], reply: &[u8]) {
        let judged = match self.replies.get(&index) {
            Some(known) if *known == hash_of(reply) => Ok(()),
            Some(_) => Err(Complaint(format!("replicas answered differently at {index}"))),
            None => self.first(index, command, reply),
        };
        if let Err(complaint) = judged {
            self.complain(complaint);
        }
    }

    /// Keeps the first thing that was wrong.
    pub(super) fn complain(&mut self, complaint: Complaint) {
        self.complaint.get_or_insert(complaint);
    }

    /// What was wrong so far, if anything was.
    pub(super) fn complaint(&self) -> Result<(), Complaint> {
        self.complaint.clone().map_or(Ok(()), Err)
    }

    /// The newest revision that any replica has.
    pub(super) const fn revision(&self) -> i64 {
        self.content.revision
    }

    /// Whether an alarm forbade what stands there.
    pub(super) fn forbade(&self, index: LogIndex) -> bool {
        self.refused.contains(&index)
    }

    /// How many commands an alarm forbade.
    pub(super) fn forbidden_count(&self) -> u64 {
        u64::try_from(self.refused.len()).unwrap_or(u64::MAX)
    }

    /// A client was told that its command was forbidden there, or that it was not.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if it was otherwise.
    pub(super) fn told(&self, index: LogIndex, reply: &[u8]) -> Result<(), Complaint> {
        if codec::forbidden(reply).is_some() == self.forbade(index) {
            return Ok(());
        }
        Err(Complaint(format!("a client was told of {index} what the alarms there do not explain")))
    }

    /// Looks at the answer to a read of one key as of a revision that some replica had.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if the key held something else then.
    pub(super) fn showed(&self, key: &Bytes, at: i64, reply: &[u8]) -> Result<(), Complaint> {
        let response = RangeResponse::decode(reply).map_err(garbled)?;
        let got = response.kvs.first().map(|row| row.value.clone());
        let past = self.past.get(key).map(Vec::as_slice).unwrap_or_default();
        let place = past.partition_point(|(revision, _)| *revision <= at);
        let held = place.checked_sub(1).and_then(|place| past.get(place));
        let expected = held.and_then(|(_, value)| value.clone());
        if got == expected {
            return Ok(());
        }
        let text =
            format!("{key:?} held {expected:02x?} at revision {at}; a read showed {got:02x?}");
        Err(Complaint(text))
    }

    fn first(&mut self, index: LogIndex, command: &[u8], reply: &[u8]) -> Result<(), Complaint> {
        self.replies.insert(index, hash_of(reply));
        let got = CommandReply::decode(reply).map_err(garbled)?;
        let outcome = Command::decode(command)
            .map_err(|_| OpError::MalformedCommand)
            .and_then(|command| self.execute(index, command.kind.ok_or(OpError::UnknownCommand)?));
        let outcome = outcome.unwrap_or_else(|refusal| Outcome::Refused(refusal.into()));
        let revision = u64::try_from(self.content.revision).unwrap_or(0);
        let expected = CommandReply { revision, outcome: Some(outcome) };
        if got == expected {
            return Ok(());
        }
        Err(Complaint(format!("at {index} the store answered {got:?}, expected {expected:?}")))
    }

    fn execute(&mut self, index: LogIndex, kind: CommandKind) -> Result<Outcome, OpError> {
        if let Some(error) = self.forbidden.stands_against(&kind) {
            self.refused.insert(index);
            return Err(error);
        }
        Ok(match kind {
            CommandKind::Put(request) => {
                check_put(&request, &self.content)?;
                Outcome::Put(self.change(|after, _| after.put(&request))?)
            }
            CommandKind::DeleteRange(request) => {
                Outcome::DeleteRange(self.change(|after, _| Ok(after.delete(&request)))?)
            }
            CommandKind::Txn(request) => {
                Outcome::Txn(self.change(|after, before| after.transact(&request, before))?)
            }
            CommandKind::Compact(request) => self.compact(request.revision)?,
            CommandKind::LeaseGrant(request) => Outcome::LeaseGrant(self.grant(index, request)?),
            CommandKind::LeaseRevoke(request) => {
                if !self.content.leases.contains_key(&request.id) {
                    return Err(OpError::LeaseNotFound);
                }
                self.end_lease(request.id)?;
                Outcome::LeaseRevoke(LeaseRevokeResponse { header: Some(self.header()) })
            }
            CommandKind::LeaseRenew(request) => {
                let ttls = request.ids.iter().map(|id| self.renew(index, *id)).collect();
                Outcome::LeaseRenew(LeaseRenewResponse { header: Some(self.header()), ttls })
            }
            CommandKind::LeaseExpire(request) => Outcome::LeaseExpire(self.expire(&request)?),
            // No client of these worlds has anything to do with users.
            CommandKind::Auth(_) => return Err(OpError::UnknownCommand),
            CommandKind::Alarm(request) => {
                let alarms = self.forbidden.carry_out(request)?;
                Outcome::Alarm(AlarmResponse { header: Some(self.header()), alarms })
            }
        })
    }

    /// Carries out one change, at one revision, or nothing of it.
    fn change<T>(
        &mut self,
        how: impl FnOnce(&mut Content, &Content) -> Result<T, OpError>,
    ) -> Result<T, OpError> {
        let mut after = self.content.clone();
        after.has_changed = false;
        let outcome = how(&mut after, &self.content)?;
        after.revision = after.now();
        self.remember(&after);
        self.tell(std::mem::take(&mut after.events));
        self.content = after;
        Ok(outcome)
    }

    fn grant(
        &mut self,
        index: LogIndex,
        LeaseGrantRequest { ttl, id }: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, OpError> {
        if id == 0 || !(1..=TTL_SECONDS_MAX).contains(&ttl) {
            return Err(OpError::MalformedCommand);
        }
        if self.content.leases.contains_key(&id) {
            return Err(OpError::LeaseExists);
        }
        self.content.leases.insert(id, (ttl, index));
        Ok(LeaseGrantResponse { header: Some(self.header()), id, ttl, error: String::new() })
    }

    fn renew(&mut self, index: LogIndex, id: i64) -> i64 {
        let Some((ttl, renewed_at)) = self.content.leases.get_mut(&id) else { return 0 };
        *renewed_at = index;
        *ttl
    }

    /// Each lease ends at a revision of its own.
    fn expire(&mut self, request: &LeaseExpireRequest) -> Result<LeaseExpireResponse, OpError> {
        let mut expired = 0;
        for overdue in &request.leases {
            let lease = self.content.leases.get(&overdue.id);
            if lease.is_some_and(|(_, renewed_at)| renewed_at.get() == overdue.renewed_at) {
                self.end_lease(overdue.id)?;
                expired += 1;
            }
        }
        Ok(LeaseExpireResponse { header: Some(self.header()), expired })
    }

    fn end_lease(&mut self, id: i64) -> Result<(), OpError> {
        self.content.leases.remove(&id);
        self.change(|after, before| {
            let attached = before.rows.values().filter(|row| row.lease == id);
            after.remove(attached.map(|row| row.key.clone()).collect());
            Ok(())
        })
    }

    fn header(&self) -> ResponseHeader {
        header(self.content.revision)
    }

    fn compact(&mut self, target: i64) -> Result<Outcome, OpError> {
        if target < 0 || self.compacted.is_some_and(|compacted| target <= compacted) {
            return Err(OpError::Compacted);
        }
        if target > self.content.revision {
            return Err(OpError::FutureRevision);
        }
        self.compacted = Some(target);
        self.history.compact(u64::try_from(target).unwrap_or(0));
        Ok(Outcome::Compact(CompactionResponse { header: Some(header(self.content.revision)) }))
    }

    /// What watches are told of the present command: what was there before it, too.
    fn tell(&mut self, mut events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for event in &mut events {
            let kv = event.kv.as_ref();
            let is_created = kv.is_some_and(|kv| kv.create_revision == kv.mod_revision);
            let before = kv.and_then(|kv| self.content.rows.get(&kv.key));
            event.prev_kv = before.filter(|_| !is_created).cloned();
        }
        self.history.push(events);
    }

    /// Keeps what has changed from the present content to this one.
    fn remember(&mut self, after: &Content) {
        let touched = after.events.iter().filter_map(|event| event.kv.as_ref());
        for key in touched.map(|kv| &kv.key).collect::<BTreeSet<_>>() {
            let value = after.rows.get(key).map(|row| row.value.clone());
            if value.is_some() || self.content.rows.contains_key(key) {
                self.past.entry(key.clone()).or_default().push((after.revision, value));
            }
        }
    }
}

impl Content {
    /// The revision of the store, or that of the present command once it has changed something.
    const fn now(&self) -> i64 {
        if self.has_changed { self.revision + 1 } else { self.revision }
    }

    fn keys(&self, key: &Bytes, range_end: &Bytes) -> Vec<Bytes> {
        if range_end.is_empty() {
            return self.rows.get_key_value(key).map(|(key, _)| key.clone()).into_iter().collect();
        }
        let is_open = range_end.as_ref() == [0];
        let is_in = |other: &&Bytes| *other >= key && (is_open || *other < range_end);
        self.rows.keys().filter(is_in).cloned().collect()
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, OpError> {
        let old = self.rows.get(&request.key).cloned();
        if old.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(OpError::KeyNotFound);
        }
        self.has_changed = true;
        let now = self.now();
        let kept = old.as_ref().filter(|_| request.ignore_value);
        let row = KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(now, |old| old.create_revision),
            mod_revision: now,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value: kept.map_or_else(|| request.value.clone(), |old| old.value.clone()),
            lease: match &old {
                Some(old) if request.ignore_lease => old.lease,
                Some(_) | None => request.lease,
            },
        };
        self.rows.insert_mut(request.key.clone(), row.clone());
        self.events.push(Event { kind: EventKind::Put.into(), kv: Some(row), prev_kv: None });
        Ok(PutResponse { header: Some(header(now)), prev_kv: old.filter(|_| request.prev_kv) })
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let rows = self.remove(self.keys(&request.key, &request.range_end));
        let deleted = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let prev_kvs = if request.prev_kv { rows } else { Vec::new() };
        DeleteRangeResponse { header: Some(header(self.now())), deleted, prev_kvs }
    }

    /// Removes keys that are there; what they held.
    fn remove(&mut self, doomed: Vec<Bytes>) -> Vec<KeyValue> {
        let rows: Vec<KeyValue> =
            doomed.iter().filter_map(|key| self.rows.get(key)).cloned().collect();
        for key in &doomed {
            self.rows.remove_mut(key);
        }
        self.has_changed |= !rows.is_empty();
        let mod_revision = self.now();
        self.events.extend(doomed.into_iter().map(|key| {
            let kv = KeyValue { key, mod_revision, ..KeyValue::default() };
            Event { kind: EventKind::Delete.into(), kv: Some(kv), prev_kv: None }
        }));
        rows
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let keys = self.keys(&request.key, &request.range_end);
        let kvs: Vec<KeyValue> =
            keys.iter().filter_map(|key| self.rows.get(key)).cloned().collect();
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        RangeResponse { header: Some(header(self.now())), kvs, more: false, count }
    }

    /// First every condition is judged, then every operation checked, against what was there
    /// before; then they are carried out.
    fn transact(&mut self, request: &TxnRequest, before: &Self) -> Result<TxnResponse, OpError> {
        check(request, before)?;
        let mut response = self.run(request, before)?;
        response.header = Some(header(self.now()));
        Ok(response)
    }

    fn run(&mut self, request: &TxnRequest, before: &Self) -> Result<TxnResponse, OpError> {
        let (succeeded, ops) = branch(request, before);
        let mut responses = Vec::new();
        for op in ops {
            let response = match &op.request {
                Some(Request::Range(request)) => Some(Response::Range(self.range(request))),
                Some(Request::Put(request)) => Some(Response::Put(self.put(request)?)),
                Some(Request::DeleteRange(request)) => {
                    Some(Response::DeleteRange(self.delete(request)))
                }
                Some(Request::Txn(nested)) => Some(Response::Txn(self.run(nested, before)?)),
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
    }
}

fn branch<'a>(request: &'a TxnRequest, before: &Content) -> (bool, &'a [RequestOp]) {
    let succeeded = request.compare.iter().all(|compare| holds(compare, before));
    (succeeded, if succeeded { &request.success } else { &request.failure })
}

fn check(request: &TxnRequest, before: &Content) -> Result<(), OpError> {
    for op in branch(request, before).1 {
        match &op.request {
            Some(Request::Put(put)) => {
                check_put(put, before)?;
                if put.ignore_value && !before.rows.contains_key(&put.key) {
                    return Err(OpError::KeyNotFound);
                }
            }
            Some(Request::Txn(nested)) => check(nested, before)?,
            Some(Request::Range(_) | Request::DeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

fn check_put(request: &PutRequest, before: &Content) -> Result<(), OpError> {
    let is_known = request.lease == 0 || before.leases.contains_key(&request.lease);
    if is_known { Ok(()) } else { Err(OpError::LeaseNotFound) }
}

/// Conditions on one key, of the kinds that our clients use.
fn holds(compare: &Compare, before: &Content) -> bool {
    let row = before.rows.get(&compare.key);
    let number = |of: fn(&KeyValue) -> i64| row.map_or(0, of);
    let order = match &compare.target_union {
        Some(CompareUnion::Value(value)) => match row {
            Some(row) => row.value.cmp(value),
            None => return false,
        },
        Some(CompareUnion::Version(version)) => number(|row| row.version).cmp(version),
        Some(CompareUnion::CreateRevision(at)) => number(|row| row.create_revision).cmp(at),
        Some(CompareUnion::ModRevision(at)) => number(|row| row.mod_revision).cmp(at),
        Some(CompareUnion::Lease(lease)) => number(|row| row.lease).cmp(lease),
        None => Ordering::Equal,
    };
    debug_assert!(CompareTarget::try_from(compare.target).is_ok(), "our clients name a target");
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Err(_) => true,
    }
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}
