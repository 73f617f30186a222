//! Clients with sessions, and the judge of exactly-once: each session writes to a key of its own,
//! whose version counts what took effect. Knows the requests and what was told, nothing of nodes.

use super::codec;
use super::model::{KeyOp, Value};
use crate::application::{Complaint, OpId, Outcome, Request};
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message;
use quorate::{SessionId, SessionKey, SessionLimits, SessionRefusal, SessionRequest};
use quorate_core::{LogId, LogIndex};
use quorate_kv::api::{KeyValue, RangeResponse};
use quorate_kv::{CommandReply, Outcome as StoreOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many commands are sent once more when everything is healed.
const LAST_TRIES_MAX: usize = 30;

/// How clients use sessions, drawn per world.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// How many requests in a hundred are made in a session.
    pub percent: u64,
    /// How many sessions are in use at the same time.
    pub slot_count: usize,
    /// What the replicas keep.
    pub limits: SessionLimits,
    /// Whether the limits end sessions, and forget replies, that clients still count on.
    pub is_tight: bool,
}

impl SessionOptions {
    /// Nobody uses sessions.
    #[must_use]
    pub fn none() -> Self {
        let limits = SessionLimits::default();
        Self { percent: 0, slot_count: 0, limits, is_tight: false }
    }

    /// Drawn from a seed: in some worlds nobody uses sessions; in half of the others they end only
    /// when their clients want it.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let percent = rng.pick(&[0, 15, 40]).copied().unwrap_or(15);
        let slot_count = rng.index(5) + 1;
        let is_tight = rng.coin();
        let replies_count_max = u32::try_from(rng.between(1, 12)).unwrap_or(1);
        let limits = if is_tight {
            SessionLimits {
                sessions_count_max: u32::try_from(rng.between(1, 6)).unwrap_or(1),
                replies_count_max,
                reply_bytes_max: rng.below(2_000),
                idle_max: rng.duration(Duration::from_millis(500), Duration::from_secs(30)),
            }
        } else {
            SessionLimits {
                sessions_count_max: u32::MAX,
                replies_count_max,
                reply_bytes_max: u64::MAX,
                idle_max: Duration::from_hours(10_000),
            }
        };
        Self { percent, slot_count, limits, is_tight }
    }
}

/// The clients' sessions, and what they were told.
#[derive(Debug)]
pub(super) struct Sessions {
    options: SessionOptions,
    /// The ledgers that are in use.
    slots: Vec<Option<usize>>,
    ledgers: Vec<Ledger>,
    asked: BTreeMap<OpId, (usize, Asked)>,
    ids: BTreeSet<SessionId>,
}

/// What a request was.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Open,
    Command(u64),
    KeepAlive,
    Close,
}

/// One session, from its opening on.
#[derive(Debug, Default)]
struct Ledger {
    secret: u64,
    session: Option<SessionKey>,
    next: u64,
    /// Numbers from here on may be sent again.
    first_open: u64,
    sent: BTreeMap<u64, Sent>,
    /// Which command made which version of the key.
    versions: BTreeMap<i64, u64>,
    is_closed: bool,
    is_expired: bool,
}

/// A command of a session.
#[derive(Clone, Debug)]
struct Sent {
    value: Value,
    command: Bytes,
    /// What nobody could be told less than when it was sent first.
    floor: u64,
    in_flight: u32,
    told: Option<Told>,
}

/// Where it took effect, and the reply, if that was not forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    log_id: LogId,
    reply: Option<Bytes>,
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
        Self {
            options,
            slots: vec![None; options.slot_count],
            ledgers: Vec::new(),
            asked: BTreeMap::new(),
            ids: BTreeSet::new(),
        }
    }

    pub(super) const fn limits(&self) -> SessionLimits {
        self.options.limits
    }

    /// Perhaps a request in a session; else the client does something else.
    pub(super) fn request(&mut self, op: OpId, floor: u64, rng: &mut Rng) -> Option<Request> {
        if self.options.percent == 0 || rng.below(100) >= self.options.percent {
            return None;
        }
        let slot = rng.index(self.slots.len());
        let Some(ledger) = self.slots.get(slot).copied().flatten() else {
            return Some(self.open(op, slot, rng));
        };
        let session = self.ledgers.get(ledger)?.session?;
        match rng.below(100) {
            0..3 => Some(self.ask(op, ledger, Asked::KeepAlive, keep_alive(session))),
            3..5 => {
                self.slots.get_mut(slot)?.take();
                self.ledgers.get_mut(ledger)?.is_closed = true;
                Some(self.ask(op, ledger, Asked::Close, close(session)))
            }
            _ => self.command(op, ledger, floor, rng),
        }
    }

    fn open(&mut self, op: OpId, slot: usize, rng: &mut Rng) -> Request {
        let (secret, place) = (rng.word(), self.ledgers.len());
        self.ledgers.push(Ledger { secret, next: 1, first_open: 1, ..Ledger::default() });
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some(place);
        }
        self.ask(op, place, Asked::Open, SessionRequest::Open { secret })
    }

    fn ask(&mut self, op: OpId, ledger: usize, asked: Asked, request: SessionRequest) -> Request {
        self.asked.insert(op, (ledger, asked));
        Request::InSession(request)
    }

    /// A new command, or one of the old ones again: most often one of unknown outcome, sometimes
    /// one that was answered, or whose answer is still under way.
    fn command(&mut self, op: OpId, place: usize, floor: u64, rng: &mut Rng) -> Option<Request> {
        let window = u64::from(self.options.limits.replies_count_max);
        let ledger = self.ledgers.get_mut(place)?;
        ledger.settle_some(rng);
        let open: Vec<u64> = ledger.sent.range(ledger.first_open..).map(|(at, _)| *at).collect();
        let in_doubt = open.iter().copied().filter(|number| ledger.is_in_doubt(*number));
        let in_doubt: Vec<u64> = in_doubt.collect();
        let again = match rng.below(10) {
            0..6 => rng.pick(&in_doubt).copied(),
            6..8 => rng.pick(&open).copied(),
            _ => None,
        };
        let number = again.unwrap_or(ledger.next);
        if again.is_none() {
            ledger.next += 1;
            ledger.first_open = ledger.first_open.max(ledger.next.saturating_sub(window));
            ledger.new_command(number, op, &key_of(place), floor);
        }
        Some(self.send(op, place, number))
    }

    fn send(&mut self, op: OpId, place: usize, number: u64) -> Request {
        let request = self.ledgers.get_mut(place).and_then(|ledger| {
            let (session, first_open) = (ledger.session?, ledger.first_open.min(number));
            let sent = ledger.sent.get_mut(&number)?;
            sent.in_flight += 1;
            let command = sent.command.clone();
            Some(SessionRequest::Command { session, number, first_open, command })
        });
        // There is one: who sends has looked.
        let request = request.unwrap_or(SessionRequest::Open { secret: 0 });
        self.ask(op, place, Asked::Command(number), request)
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, op: OpId, outcome: &Outcome) -> Result<Heard, Complaint> {
        let Some((place, asked)) = self.asked.remove(&op) else { return Ok(Heard::NotOurs) };
        if let Outcome::Refused { refusal: SessionRefusal::Expired } = outcome {
            self.expired(place)?;
        }
        let Some(ledger) = self.ledgers.get_mut(place) else { return Ok(Heard::Nothing) };
        match asked {
            Asked::Open => self.opened(place, outcome).map(|()| Heard::Nothing),
            Asked::Command(number) => {
                let is_tight = self.options.is_tight;
                let first = ledger.command_answered(place, number, outcome, is_tight)?;
                Ok(first.map_or(Heard::Nothing, Heard::First))
            }
            Asked::KeepAlive | Asked::Close => Ok(Heard::Nothing),
        }
    }

    fn opened(&mut self, place: usize, outcome: &Outcome) -> Result<(), Complaint> {
        let Outcome::Applied { log_id, .. } = outcome else {
            // Nobody will use it, if it is there at all.
            self.free(place);
            return Ok(());
        };
        let id = SessionId::new(log_id.index.get());
        if !self.ids.insert(id) {
            return Err(Complaint(format!("session {id} was opened twice")));
        }
        if let Some(ledger) = self.ledgers.get_mut(place) {
            ledger.session = Some(SessionKey { id, secret: ledger.secret });
        }
        Ok(())
    }

    fn expired(&mut self, place: usize) -> Result<(), Complaint> {
        self.free(place);
        let Some(ledger) = self.ledgers.get_mut(place) else { return Ok(()) };
        ledger.is_expired = true;
        if self.options.is_tight || ledger.is_closed {
            return Ok(());
        }
        Err(Complaint(format!("{:?} has expired, and nothing can have ended it", ledger.session)))
    }

    fn free(&mut self, place: usize) {
        for slot in self.slots.iter_mut().filter(|slot| **slot == Some(place)) {
            *slot = None;
        }
    }

    /// Everything is healed: what may still be asked is asked once more, and must be answered like
    /// before.
    pub(super) fn last_tries(
        &mut self,
        next_op: &mut dyn FnMut() -> (OpId, u64),
    ) -> Vec<(OpId, Request)> {
        let live = self.slots.clone();
        let mut again = Vec::new();
        for place in live.into_iter().flatten() {
            let Some(ledger) = self.ledgers.get(place).filter(|it| it.session.is_some()) else {
                continue;
            };
            let open = ledger.sent.range(ledger.first_open..);
            again.extend(open.map(|(number, _)| (place, *number)));
        }
        again.truncate(LAST_TRIES_MAX);
        let send = again.into_iter().map(|(place, number)| {
            let (op, _) = next_op();
            (op, self.send(op, place, number))
        });
        send.collect()
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
        for (place, ledger) in self.ledgers.iter().enumerate() {
            let key = key_of(place);
            let version = rows.get(&key).map_or(0, |row| row.version);
            ledger.holds(&key, version, &forbade)?;
        }
        Ok(())
    }

    /// A request in a few words; `None` if it is none of ours.
    pub(super) fn words(&self, op: OpId) -> Option<String> {
        let (place, asked) = self.asked.get(&op)?;
        Some(match asked {
            Asked::Open => format!("opens session {place}"),
            Asked::Command(number) => format!("command {number} of session {place}"),
            Asked::KeepAlive => format!("keeps session {place} alive"),
            Asked::Close => format!("closes session {place}"),
        })
    }

    /// How many commands were acknowledged.
    pub(super) fn acknowledged_count(&self) -> u64 {
        let told = |ledger: &Ledger| ledger.sent.values().filter(|it| it.told.is_some()).count();
        u64::try_from(self.ledgers.iter().map(told).sum::<usize>()).unwrap_or(u64::MAX)
    }
}

impl Ledger {
    fn new_command(&mut self, number: u64, op: OpId, key: &Bytes, floor: u64) {
        let put = codec::request(key, KeyOp::Put { value: op.0 }, true);
        let command = match put {
            Request::Command(command) => command,
            Request::Query(_) | Request::InSession(_) | Request::Weak { .. } => Bytes::new(),
        };
        let sent = Sent { value: op.0, command, floor, in_flight: 0, told: None };
        self.sent.insert(number, sent);
    }

    fn is_in_doubt(&self, number: u64) -> bool {
        self.sent.get(&number).is_some_and(|sent| sent.told.is_none() && sent.in_flight == 0)
    }

    /// Now and then the client is through with its oldest commands, even if it does not know what
    /// became of them.
    fn settle_some(&mut self, rng: &mut Rng) {
        match rng.below(12) {
            0 => self.first_open = self.next.saturating_sub(rng.below(3)).max(self.first_open),
            1..6 => {
                let is_told =
                    |number: u64| self.sent.get(&number).is_some_and(|sent| sent.told.is_some());
                while is_told(self.first_open) {
                    self.first_open += 1;
                }
            }
            _ => {}
        }
    }

    fn command_answered(
        &mut self,
        place: usize,
        number: u64,
        outcome: &Outcome,
        is_tight: bool,
    ) -> Result<Option<FirstAnswer>, Complaint> {
        let (first_open, is_expired) = (self.first_open, self.is_expired);
        let session = self.session;
        let complain = |what: String| {
            Err(Complaint(format!("command {number} of session {session:?}: {what}")))
        };
        let Some(sent) = self.sent.get_mut(&number) else { return Ok(None) };
        sent.in_flight = sent.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Applied { log_id, reply } => {
                let told = Told { log_id: *log_id, reply: Some(reply.clone()) };
                self.told(place, number, told)
            }
            Outcome::Refused { refusal } => match refusal {
                SessionRefusal::Expired => Ok(None),
                SessionRefusal::Forgotten { log_id } if is_tight => {
                    self.told(place, number, Told { log_id: *log_id, reply: None })
                }
                SessionRefusal::Settled { .. } if number < first_open || is_expired => Ok(None),
                SessionRefusal::Forgotten { .. }
                | SessionRefusal::Settled { .. }
                | SessionRefusal::TooFarAhead { .. } => complain(refusal.to_string()),
            },
            Outcome::NoEffect | Outcome::Unknown => Ok(None),
            Outcome::Read { .. } | Outcome::Weak { .. } => complain(format!("{outcome:?}")),
        }
    }

    /// A command took effect there. Whoever was told before was told the same.
    fn told(
        &mut self,
        place: usize,
        number: u64,
        told: Told,
    ) -> Result<Option<FirstAnswer>, Complaint> {
        let Some(sent) = self.sent.get_mut(&number) else { return Ok(None) };
        if let Some(before) = &sent.told {
            let is_alike = before.log_id == told.log_id
                && (before.reply.is_none() || told.reply.is_none() || before.reply == told.reply);
            if !is_alike {
                let text = format!(
                    "command {number} of {:?} was answered {before:?}, and then {told:?}",
                    self.session
                );
                return Err(Complaint(text));
            }
            if before.reply.is_some() || told.reply.is_none() {
                return Ok(None);
            }
        }
        sent.told = Some(told.clone());
        let (op, floor) = (KeyOp::Put { value: sent.value }, sent.floor);
        // What an alarm forbids is answered, and made no version.
        let reply = told.reply.filter(|reply| codec::forbidden(reply).is_none());
        let Some(reply) = reply else { return Ok(None) };
        let version = version_before(&reply)? + 1;
        if let Some(other) = self.versions.insert(version, number) {
            let text = format!(
                "commands {other} and {number} of {:?} both made version {version}",
                self.session
            );
            return Err(Complaint(text));
        }
        let told = codec::command_reply(op, true, &reply)?;
        Ok(Some(FirstAnswer { key: key_of(place), op, floor, told }))
    }

    fn holds(
        &self,
        key: &Bytes,
        version: i64,
        forbade: impl Fn(LogIndex) -> bool,
    ) -> Result<(), Complaint> {
        let told: Vec<&Told> = self.sent.values().filter_map(|sent| sent.told.as_ref()).collect();
        let open_count = self.sent.len() - told.len();
        let told_count = told.iter().filter(|told| !forbade(told.log_id.index)).count();
        let least = self.versions.last_key_value().map_or(0, |(version, _)| *version);
        let applied = usize::try_from(version).unwrap_or(0);
        if applied >= told_count && version >= least && applied <= told_count + open_count {
            return Ok(());
        }
        Err(Complaint(format!(
            "{key:?} was written {version} times: {told_count} commands were acknowledged, the last \
             as number {least}, and {open_count} are in doubt"
        )))
    }
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

const fn keep_alive(session: SessionKey) -> SessionRequest {
    SessionRequest::KeepAlive { session }
}

const fn close(session: SessionKey) -> SessionRequest {
    SessionRequest::Close { session }
}
