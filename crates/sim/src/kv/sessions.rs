//! Sessions of the store's clients, and the judge of exactly-once: each session writes to a key of
//! its own, whose version counts what took effect. Knows what was told, nothing of nodes.

use super::codec;
use super::model::{KeyOp, Value};
use crate::application::{Complaint, OpId, Outcome, Request};
use crate::rng::Rng;
use crate::sessions::{self, Ledger, SessionOptions, Told, Turn};
use bytes::Bytes;
use prost::Message;
use quorate::SessionLimits;
use quorate_core::LogIndex;
use quorate_kv::api::{KeyValue, RangeResponse};
use quorate_kv::{CommandReply, Outcome as StoreOutcome};
use std::collections::BTreeMap;

/// The clients' sessions, and which versions of their keys they made.
#[derive(Debug)]
pub(super) struct Sessions {
    clients: sessions::Sessions<Put>,
    /// By session: which command made which version.
    versions: BTreeMap<usize, BTreeMap<i64, u64>>,
}

/// What a command of a session puts.
#[derive(Clone, Copy, Debug)]
struct Put {
    value: Value,
    /// What nobody could be told less than when it was sent first.
    floor: u64,
}

/// A command's first answer, for the judge of revisions.
#[derive(Clone, Debug)]
pub(super) struct FirstAnswer {
    pub(super) key: Bytes,
    pub(super) op: KeyOp,
    pub(super) floor: u64,
    pub(super) told: codec::Told,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// It was none of a session.
    NotOurs,
    /// Nothing that others should know.
    Nothing,
    /// A command took effect.
    First(FirstAnswer),
}

impl Sessions {
    pub(super) fn new(options: SessionOptions) -> Self {
        Self { clients: sessions::Sessions::new(options), versions: BTreeMap::new() }
    }

    pub(super) const fn limits(&self) -> SessionLimits {
        self.clients.limits()
    }

    /// Perhaps a request in a session; else the client does something else.
    pub(super) fn request(&mut self, op: OpId, floor: u64, rng: &mut Rng) -> Option<Request> {
        match self.clients.turn(op, rng) {
            Turn::Elsewhere => None,
            Turn::Ask(request) => Some(request),
            Turn::New(place) => {
                let put = Put { value: op.0, floor };
                Some(self.clients.command(op, place, put.command(place), put))
            }
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, op: OpId, outcome: &Outcome) -> Result<Heard, Complaint> {
        match self.clients.answered(op, outcome)? {
            sessions::Heard::NotOurs => Ok(Heard::NotOurs),
            sessions::Heard::Nothing => Ok(Heard::Nothing),
            sessions::Heard::News { place, number } => {
                Ok(self.told(place, number)?.map_or(Heard::Nothing, Heard::First))
            }
        }
    }

    /// Of a command is known what was not.
    fn told(&mut self, place: usize, number: u64) -> Result<Option<FirstAnswer>, Complaint> {
        let Some(sent) = self.clients.sent_mut(place, number) else { return Ok(None) };
        let Put { value, floor } = sent.content;
        let op = KeyOp::Put { value };
        // What an alarm forbids is answered, and made no version.
        let reply = sent.told.as_ref().and_then(|told| told.reply.as_ref());
        let Some(reply) = reply.filter(|reply| codec::forbidden(reply).is_none()) else {
            return Ok(None);
        };
        let version = version_before(reply)? + 1;
        if let Some(other) = self.versions.entry(place).or_default().insert(version, number) {
            let text = format!(
                "commands {other} and {number} of session {place} both made version {version}"
            );
            return Err(Complaint(text));
        }
        let told = codec::command_reply(op, true, reply)?;
        Ok(Some(FirstAnswer { key: key_of(place), op, floor, told }))
    }

    /// See [`sessions::Sessions::last_tries`].
    pub(super) fn last_tries(
        &mut self,
        next_op: &mut dyn FnMut() -> (OpId, u64),
    ) -> Vec<(OpId, Request)> {
        self.clients.last_tries(next_op)
    }

    /// The final state: every acknowledged command took effect, and no command did twice; but for
    /// those that were forbidden where they stand.
    pub(super) fn scanned(
        &self,
        reply: &[u8],
        forbade: impl Fn(LogIndex) -> bool,
    ) -> Result<(), Complaint> {
        let response = RangeResponse::decode(reply)
            .map_err(|error| Complaint(format!("a reply that cannot be decoded: {error}")))?;
        let rows: BTreeMap<&Bytes, &KeyValue> =
            response.kvs.iter().map(|row| (&row.key, row)).collect();
        for (place, ledger) in self.clients.ledgers().iter().enumerate() {
            let key = key_of(place);
            let version = rows.get(&key).map_or(0, |row| row.version);
            let newest = self.versions.get(&place).and_then(BTreeMap::last_key_value);
            holds(ledger, &key, version, newest.map_or(0, |(version, _)| *version), &forbade)?;
        }
        Ok(())
    }

    /// A request in a few words; `None` if it is none of ours.
    pub(super) fn words(&self, op: OpId) -> Option<String> {
        self.clients.words(op)
    }

    /// How many commands were acknowledged.
    pub(super) fn acknowledged_count(&self) -> u64 {
        self.clients.acknowledged_count()
    }
}

impl Put {
    fn command(self, place: usize) -> Bytes {
        match codec::request(&key_of(place), KeyOp::Put { value: self.value }, true) {
            Request::Command(command) => command,
            Request::Query(_) | Request::InSession(_) | Request::Weak { .. } => Bytes::new(),
        }
    }
}

/// Whether a key's version is what came of its session's commands; `least` is the last that one is
/// known to have made.
fn holds(
    ledger: &Ledger<Put>,
    key: &Bytes,
    version: i64,
    least: i64,
    forbade: impl Fn(LogIndex) -> bool,
) -> Result<(), Complaint> {
    let told: Vec<&Told> = ledger.sent().filter_map(|sent| sent.told.as_ref()).collect();
    let open_count = ledger.sent().count() - told.len();
    let told_count = told.iter().filter(|told| !forbade(told.log_id.index)).count();
    let applied = usize::try_from(version).unwrap_or(0);
    if applied >= told_count && version >= least && applied <= told_count + open_count {
        return Ok(());
    }
    Err(Complaint(format!(
        "{key:?} was written {version} times: {told_count} commands were acknowledged, the last \
         as number {least}, and {open_count} are in doubt"
    )))
}

/// What the key's version was before the put that this replies to.
fn version_before(reply: &[u8]) -> Result<i64, Complaint> {
    let garbled = |what: &dyn std::fmt::Display| {
        Complaint(format!("the reply to a session's put is no such reply: {what}"))
    };
    let reply = CommandReply::decode(reply).map_err(|error| garbled(&error))?;
    match reply.into_result().map_err(|error| garbled(&error))? {
        StoreOutcome::Put(put) => Ok(put.prev_kv.map_or(0, |before| before.version)),
        other @ (StoreOutcome::DeleteRange(_)
        | StoreOutcome::Txn(_)
        | StoreOutcome::Compact(_)
        | StoreOutcome::LeaseGrant(_)
        | StoreOutcome::LeaseRevoke(_)
        | StoreOutcome::LeaseRenew(_)
        | StoreOutcome::LeaseExpire(_)
        | StoreOutcome::Auth(_)
        | StoreOutcome::Alarm(_)
        | StoreOutcome::Refused(_)) => Err(garbled(&format!("{other:?}"))),
    }
}

fn key_of(ledger: usize) -> Bytes {
    Bytes::from(format!("session{ledger}"))
}
