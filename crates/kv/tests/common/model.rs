//! The naive store: a copy of the whole content for each revision. Slow, and hard to get wrong.

use bytes::Bytes;
use quorate_kv::*;
use std::collections::BTreeMap;

type State = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub(crate) struct Model {
    /// The content at revision 0, 1, 2, ...
    states: Vec<State>,
    compacted: Option<i64>,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![State::new(), State::new()], compacted: None }
    }
}

/// A command at work: what it sees, and whether it wrote.
struct Scratch<'a> {
    model: &'a Model,
    state: State,
    wrote: bool,
}

fn contains(from: &Bytes, end: &Bytes, key: &Bytes) -> bool {
    match end.as_ref() {
        [] => key == from,
        [0] => key >= from,
        _ => key >= from && key < end,
    }
}

fn head(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..Default::default() }
}

impl Model {
    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub(crate) fn compacted(&self) -> Option<i64> {
        self.compacted
    }

    pub(crate) fn key_count(&self) -> usize {
        self.states.last().unwrap().len()
    }

    fn scratch(&self) -> Scratch<'_> {
        Scratch { model: self, state: self.states.last().unwrap().clone(), wrote: false }
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, OpError> {
        self.scratch().range(request)
    }

    pub(crate) fn apply(&mut self, kind: &CommandKind) -> CommandReply {
        let outcome = self.execute(kind).unwrap_or_else(|error| Outcome::Refused(error.into()));
        CommandReply { revision: self.revision() as u64, outcome: Some(outcome) }
    }

    fn execute(&mut self, kind: &CommandKind) -> Result<Outcome, OpError> {
        if let CommandKind::Compact(request) = kind {
            return self.compact(request.revision);
        }
        let mut scratch = self.scratch();
        let outcome = match kind {
            CommandKind::Put(request) => {
                if request.lease != 0 {
                    return Err(OpError::LeaseNotFound);
                }
                Outcome::Put(scratch.put(request)?)
            }
            CommandKind::DeleteRange(request) => Outcome::DeleteRange(scratch.delete(request)),
            CommandKind::Txn(request) => {
                let choices = self.choose(request);
                for of_puts in [true, false] {
                    self.check(request, &mut choices.iter(), of_puts)?;
                }
                let mut response = scratch.txn(request, &mut choices.iter())?;
                response.header = Some(head(scratch.now()));
                Outcome::Txn(response)
            }
            CommandKind::Compact(_) | CommandKind::Alarm(_) | CommandKind::Auth(_) => {
                unreachable!()
            }
            CommandKind::LeaseGrant(_)
            | CommandKind::LeaseRevoke(_)
            | CommandKind::LeaseRenew(_)
            | CommandKind::LeaseExpire(_) => {
                unreachable!("leases have a test of their own: here is none")
            }
        };
        if scratch.wrote {
            let state = scratch.state;
            self.states.push(state);
        }
        Ok(outcome)
    }

    fn compact(&mut self, revision: i64) -> Result<Outcome, OpError> {
        if revision <= self.compacted.unwrap_or(-1) {
            return Err(OpError::Compacted);
        }
        if revision > self.revision() {
            return Err(OpError::FutureRevision);
        }
        self.compacted = Some(revision);
        Ok(Outcome::Compact(CompactionResponse { header: Some(head(self.revision())) }))
    }

    /// The branches taken, in the order in which a walk meets the transactions.
    fn choose(&self, request: &TxnRequest) -> Vec<bool> {
        let taken = request.compare.iter().all(|compare| self.holds(compare));
        let mut choices = vec![taken];
        for op in if taken { &request.success } else { &request.failure } {
            if let Some(Request::Txn(nested)) = &op.request {
                choices.extend(self.choose(nested));
            }
        }
        choices
    }

    fn holds(&self, compare: &Compare) -> bool {
        let state = self.states.last().unwrap();
        let kvs: Vec<_> = state
            .values()
            .filter(|kv| contains(&compare.key, &compare.range_end, &kv.key))
            .collect();
        if kvs.is_empty() {
            return compare.target != CompareTarget::Value as i32
                && satisfies(compare, &KeyValue::default());
        }
        kvs.into_iter().all(|kv| satisfies(compare, kv))
    }

    fn check<'a>(
        &self,
        request: &TxnRequest,
        choices: &mut impl Iterator<Item = &'a bool>,
        of_puts: bool,
    ) -> Result<(), OpError> {
        let taken = *choices.next().unwrap();
        for op in if taken { &request.success } else { &request.failure } {
            match &op.request {
                Some(Request::Range(range)) if !of_puts && range.revision != 0 => {
                    if range.revision > self.revision() {
                        return Err(OpError::FutureRevision);
                    }
                    if range.revision < self.compacted.unwrap_or(-1) {
                        return Err(OpError::Compacted);
                    }
                }
                Some(Request::Put(put)) if of_puts => {
                    let exists = self.states.last().unwrap().contains_key(&put.key);
                    if (put.ignore_value || put.ignore_lease) && !exists {
                        return Err(OpError::KeyNotFound);
                    }
                    if put.lease != 0 {
                        return Err(OpError::LeaseNotFound);
                    }
                }
                Some(Request::Txn(nested)) => self.check(nested, choices, of_puts)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.clone();
    let number = |value: i64, wanted: Option<i64>| value.cmp(&wanted.unwrap_or(0));
    let order = match compare.target {
        0 => number(
            kv.version,
            match union {
                Some(CompareUnion::Version(n)) => Some(n),
                _ => None,
            },
        ),
        1 => number(
            kv.create_revision,
            match union {
                Some(CompareUnion::CreateRevision(n)) => Some(n),
                _ => None,
            },
        ),
        2 => number(
            kv.mod_revision,
            match union {
                Some(CompareUnion::ModRevision(n)) => Some(n),
                _ => None,
            },
        ),
        4 => number(
            kv.lease,
            match union {
                Some(CompareUnion::Lease(n)) => Some(n),
                _ => None,
            },
        ),
        3 => kv.value.cmp(&match union {
            Some(CompareUnion::Value(v)) => v,
            _ => Bytes::new(),
        }),
        _ => std::cmp::Ordering::Equal,
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}

impl Scratch<'_> {
    fn now(&self) -> i64 {
        self.model.revision() + i64::from(self.wrote)
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, OpError> {
        let at = if request.revision <= 0 { self.now() } else { request.revision };
        if at > self.now() {
            return Err(OpError::FutureRevision);
        }
        if self.model.compacted.is_some_and(|compacted| at < compacted) {
            return Err(OpError::Compacted);
        }
        let state = if at == self.now() { &self.state } else { &self.model.states[at as usize] };
        let mut kvs: Vec<KeyValue> = state
            .values()
            .filter(|kv| contains(&request.key, &request.range_end, &kv.key))
            .cloned()
            .collect();
        let count = kvs.len() as i64;
        if request.count_only {
            kvs.clear();
        }
        let limit = request.limit.max(0) as usize;
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if limit > 0 && request.sort_order == 0 && filters == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        });
        let compare = |a: &KeyValue, b: &KeyValue| match request.sort_target {
            0 => a.key.cmp(&b.key),
            1 => a.version.cmp(&b.version),
            2 => a.create_revision.cmp(&b.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            _ => a.value.cmp(&b.value),
        };
        if request.sort_order == 2 {
            kvs.sort_by(|a, b| compare(b, a));
        } else if request.sort_order == 1 || request.sort_target != 0 {
            kvs.sort_by(compare);
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        Ok(RangeResponse { header: Some(head(self.now())), kvs, more, count })
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, OpError> {
        let old = self.state.get(&request.key).cloned();
        if old.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(OpError::KeyNotFound);
        }
        self.wrote = true;
        let now = self.now();
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(now, |old| old.create_revision),
            mod_revision: now,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value: if request.ignore_value {
                old.clone().unwrap().value
            } else {
                request.value.clone()
            },
            lease: 0,
        };
        self.state.insert(request.key.clone(), kv);
        Ok(PutResponse { header: Some(head(now)), prev_kv: old.filter(|_| request.prev_kv) })
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed: Vec<KeyValue> = self
            .state
            .values()
            .filter(|kv| contains(&request.key, &request.range_end, &kv.key))
            .cloned()
            .collect();
        for kv in &doomed {
            self.state.remove(&kv.key);
            self.wrote = true;
        }
        DeleteRangeResponse {
            header: Some(head(self.now())),
            deleted: doomed.len() as i64,
            prev_kvs: if request.prev_kv { doomed } else { Vec::new() },
        }
    }

    fn txn<'a>(
        &mut self,
        request: &TxnRequest,
        choices: &mut impl Iterator<Item = &'a bool>,
    ) -> Result<TxnResponse, OpError> {
        let succeeded = *choices.next().unwrap();
        let mut responses = Vec::new();
        for op in if succeeded { &request.success } else { &request.failure } {
            let response = match &op.request {
                None => None,
                Some(Request::Range(request)) => Some(Response::Range(self.range(request)?)),
                Some(Request::Put(request)) => Some(Response::Put(self.put(request)?)),
                Some(Request::DeleteRange(request)) => {
                    Some(Response::DeleteRange(self.delete(request)))
                }
                Some(Request::Txn(request)) => Some(Response::Txn(self.txn(request, choices)?)),
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
    }
}
