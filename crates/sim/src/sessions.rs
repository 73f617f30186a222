//! Clients that use sessions (§6.3): what they send, when they send it again, and whether what they
//! are told of a command stays what they were told. Knows requests and answers, nothing of nodes nor
//! of what a command does.

use crate::application::{Complaint, OpId, Outcome, Request};
use crate::rng::Rng;
use bytes::Bytes;
use quorate::{SessionId, SessionKey, SessionLimits, SessionRefusal, SessionRequest};
use quorate_core::LogId;
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

/// The clients' sessions, and what they were told. `C` is what somebody wants to know of a command
/// besides.
#[derive(Debug)]
pub(crate) struct Sessions<C> {
    options: SessionOptions,
    /// The ledgers that are in use.
    slots: Vec<Option<usize>>,
    ledgers: Vec<Ledger<C>>,
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
#[derive(Debug)]
pub(crate) struct Ledger<C> {
    secret: u64,
    session: Option<SessionKey>,
    next: u64,
    /// Numbers from here on may be sent again.
    first_open: u64,
    sent: BTreeMap<u64, Sent<C>>,
    is_closed: bool,
    is_expired: bool,
}

/// A command of a session.
#[derive(Clone, Debug)]
pub(crate) struct Sent<C> {
    pub(crate) command: Bytes,
    pub(crate) content: C,
    pub(crate) told: Option<Told>,
    in_flight: u32,
}

/// Where it took effect, and the reply, if that was not forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) log_id: LogId,
    pub(crate) reply: Option<Bytes>,
}

/// What a client does next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Something without a session.
    Elsewhere,
    /// It asks this.
    Ask(Request),
    /// It has a new command for this session: [`Sessions::command`].
    New(usize),
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard {
    /// It was none of a session.
    NotOurs,
    /// Nothing that was not known.
    Nothing,
    /// Of a command: where it took effect, or its reply.
    News {
        /// Whose.
        place: usize,
        /// Which.
        number: u64,
    },
}

impl<C> Sessions<C> {
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self {
            options,
            slots: vec![None; options.slot_count],
            ledgers: Vec::new(),
            asked: BTreeMap::new(),
            ids: BTreeSet::new(),
        }
    }

    pub(crate) const fn limits(&self) -> SessionLimits {
        self.options.limits
    }

    pub(crate) fn ledgers(&self) -> &[Ledger<C>] {
        &self.ledgers
    }

    pub(crate) fn sent_mut(&mut self, place: usize, number: u64) -> Option<&mut Sent<C>> {
        self.ledgers.get_mut(place)?.sent.get_mut(&number)
    }

    /// What a client does that is free.
    pub(crate) fn turn(&mut self, op: OpId, rng: &mut Rng) -> Turn {
        if self.options.percent == 0 || rng.below(100) >= self.options.percent {
            return Turn::Elsewhere;
        }
        let slot = rng.index(self.slots.len());
        let Some(place) = self.slots.get(slot).copied().flatten() else {
            return Turn::Ask(self.open(op, slot, rng));
        };
        let Some(session) = self.ledgers.get(place).and_then(|ledger| ledger.session) else {
            return Turn::Elsewhere;
        };
        match rng.below(100) {
            0..3 => {
                let request = SessionRequest::KeepAlive { session };
                Turn::Ask(self.ask(op, place, Asked::KeepAlive, request))
            }
            3..5 => {
                self.free(place);
                if let Some(ledger) = self.ledgers.get_mut(place) {
                    ledger.is_closed = true;
                }
                let request = SessionRequest::Close { session };
                Turn::Ask(self.ask(op, place, Asked::Close, request))
            }
            _ => match self.again(place, rng) {
                Some(number) => Turn::Ask(self.send(op, place, number)),
                None => Turn::New(place),
            },
        }
    }

    /// A new command of this session.
    pub(crate) fn command(
        &mut self,
        op: OpId,
        place: usize,
        command: Bytes,
        content: C,
    ) -> Request {
        let window = u64::from(self.options.limits.replies_count_max);
        let number = self.ledgers.get_mut(place).map_or(0, |ledger| {
            let number = ledger.next;
            ledger.next += 1;
            ledger.first_open = ledger.first_open.max(ledger.next.saturating_sub(window));
            ledger.sent.insert(number, Sent { command, content, told: None, in_flight: 0 });
            number
        });
        self.send(op, place, number)
    }

    fn open(&mut self, op: OpId, slot: usize, rng: &mut Rng) -> Request {
        let (secret, place) = (rng.word(), self.ledgers.len());
        self.ledgers.push(Ledger::new(secret));
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some(place);
        }
        self.ask(op, place, Asked::Open, SessionRequest::Open { secret })
    }

    fn ask(&mut self, op: OpId, place: usize, asked: Asked, request: SessionRequest) -> Request {
        self.asked.insert(op, (place, asked));
        Request::InSession(request)
    }

    /// One of the old commands: most often one of unknown outcome, sometimes one that was answered,
    /// or whose answer is still under way.
    fn again(&mut self, place: usize, rng: &mut Rng) -> Option<u64> {
        let ledger = self.ledgers.get_mut(place)?;
        ledger.settle_some(rng);
        let open: Vec<u64> = ledger.sent.range(ledger.first_open..).map(|(at, _)| *at).collect();
        let in_doubt = open.iter().copied().filter(|number| ledger.is_in_doubt(*number));
        let in_doubt: Vec<u64> = in_doubt.collect();
        match rng.below(10) {
            0..6 => rng.pick(&in_doubt).copied(),
            6..8 => rng.pick(&open).copied(),
            _ => None,
        }
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
    pub(crate) fn answered(&mut self, op: OpId, outcome: &Outcome) -> Result<Heard, Complaint> {
        let Some((place, asked)) = self.asked.remove(&op) else { return Ok(Heard::NotOurs) };
        if let Outcome::Refused { refusal: SessionRefusal::Expired } = outcome {
            self.expired(place)?;
        }
        let Some(ledger) = self.ledgers.get_mut(place) else { return Ok(Heard::Nothing) };
        match asked {
            Asked::Open => self.opened(place, outcome).map(|()| Heard::Nothing),
            Asked::Command(number) => {
                let is_news = ledger.command_answered(number, outcome, self.options.is_tight)?;
                Ok(if is_news { Heard::News { place, number } } else { Heard::Nothing })
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
    pub(crate) fn last_tries(
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

    /// A request in a few words; `None` if it is none of ours.
    pub(crate) fn words(&self, op: OpId) -> Option<String> {
        let (place, asked) = self.asked.get(&op)?;
        Some(match asked {
            Asked::Open => format!("opens session {place}"),
            Asked::Command(number) => format!("command {number} of session {place}"),
            Asked::KeepAlive => format!("keeps session {place} alive"),
            Asked::Close => format!("closes session {place}"),
        })
    }

    /// How many commands were acknowledged.
    pub(crate) fn acknowledged_count(&self) -> u64 {
        let told = |ledger: &Ledger<C>| ledger.sent.values().filter(|it| it.told.is_some()).count();
        u64::try_from(self.ledgers.iter().map(told).sum::<usize>()).unwrap_or(u64::MAX)
    }
}

impl<C> Ledger<C> {
    const fn new(secret: u64) -> Self {
        Self {
            secret,
            session: None,
            next: 1,
            first_open: 1,
            sent: BTreeMap::new(),
            is_closed: false,
            is_expired: false,
        }
    }

    pub(crate) fn sent(&self) -> impl Iterator<Item = &Sent<C>> {
        self.sent.values()
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

    /// Says whether anything is known now that was not.
    fn command_answered(
        &mut self,
        number: u64,
        outcome: &Outcome,
        is_tight: bool,
    ) -> Result<bool, Complaint> {
        let (first_open, is_expired) = (self.first_open, self.is_expired);
        let session = self.session;
        let complain = |what: String| {
            Err(Complaint(format!("command {number} of session {session:?}: {what}")))
        };
        let Some(sent) = self.sent.get_mut(&number) else { return Ok(false) };
        sent.in_flight = sent.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Applied { log_id, reply } => {
                self.told(number, Told { log_id: *log_id, reply: Some(reply.clone()) })
            }
            Outcome::Refused { refusal } => match refusal {
                SessionRefusal::Expired => Ok(false),
                SessionRefusal::Forgotten { log_id } if is_tight => {
                    self.told(number, Told { log_id: *log_id, reply: None })
                }
                SessionRefusal::Settled { .. } if number < first_open || is_expired => Ok(false),
                SessionRefusal::Forgotten { .. }
                | SessionRefusal::Settled { .. }
                | SessionRefusal::TooFarAhead { .. } => complain(refusal.to_string()),
            },
            Outcome::NoEffect | Outcome::Unknown => Ok(false),
            Outcome::Read { .. } | Outcome::Weak { .. } => complain(format!("{outcome:?}")),
        }
    }

    /// A command took effect there. Whoever was told before was told the same.
    fn told(&mut self, number: u64, told: Told) -> Result<bool, Complaint> {
        let Some(sent) = self.sent.get_mut(&number) else { return Ok(false) };
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
                return Ok(false);
            }
        }
        sent.told = Some(told);
        Ok(true)
    }
}
