//! The table of sessions: which commands took effect, and what was replied (§6.3). The same entries
//! in the same order make the same table on every replica; no clock and no setting of a node may
//! have a say.

use super::{
    SessionEntry, SessionId, SessionKey, SessionLimits, SessionRefusal, SessionRequest, SessionTime,
};
use crate::{Fate, Note};
use bytes::Bytes;
use quorate_core::{LogId, LogIndex};
use std::collections::BTreeMap;

/// The sessions of a cluster, as of one place in the log.
#[derive(Clone, Debug, Default)]
pub struct SessionTable {
    pub(super) time: SessionTime,
    pub(super) limits: SessionLimits,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// The sessions in the order of their last use; times rise with it.
    pub(super) idle: BTreeMap<LogIndex, SessionId>,
    /// Replies that are kept, in the order in which they were given.
    pub(super) kept: BTreeMap<LogIndex, (SessionId, u64)>,
    pub(super) kept_bytes: u64,
    /// What changed since the last [`SessionTable::take_changes`], if that is wanted.
    changes: Option<Vec<Note>>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) secret: u64,
    pub(super) used_at: LogIndex,
    pub(super) used_time: SessionTime,
    /// Numbers below are settled.
    pub(super) first_open: u64,
    /// The commands from `first_open` on that took effect.
    pub(super) answers: BTreeMap<u64, Answer>,
}

/// A command that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) log_id: LogId,
    /// `None` once it is forgotten.
    pub(super) reply: Option<Bytes>,
}

/// What to do about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Apply this command, and [`SessionTable::record`] the reply.
    Run { session: SessionId, number: u64, command: Bytes },
    /// Nothing, and say so.
    Say(Fate),
}

impl SessionTable {
    /// Notes changes from now on; see [`Self::take_changes`].
    pub(crate) fn record_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// The rows that changed since the last call, in the order of the changes.
    pub(crate) fn take_changes(&mut self) -> Vec<Note> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) const fn has_changes(&self) -> bool {
        matches!(&self.changes, Some(changes) if !changes.is_empty())
    }

    pub(crate) const fn is_recording(&self) -> bool {
        self.changes.is_some()
    }

    /// A copy as of now.
    pub(crate) fn without_changes(&self) -> Self {
        let changes = None;
        Self {
            time: self.time,
            limits: self.limits,
            sessions: self.sessions.clone(),
            idle: self.idle.clone(),
            kept: self.kept.clone(),
            kept_bytes: self.kept_bytes,
            changes,
        }
    }

    /// The greatest time that an entry has brought.
    #[must_use]
    pub const fn time(&self) -> SessionTime {
        self.time
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// How many replies are kept, and their bytes.
    #[must_use]
    pub fn kept(&self) -> (usize, u64) {
        (self.kept.len(), self.kept_bytes)
    }

    /// Decides on the entry at `log_id`, which follows all that were decided on before.
    pub(crate) fn decide(&mut self, log_id: LogId, entry: SessionEntry) -> Verdict {
        let SessionEntry { stamp, limits, request } = entry;
        self.time = self.time.max(stamp);
        self.expire();
        let verdict = match request {
            SessionRequest::Open { secret } => self.open(log_id, secret, limits),
            SessionRequest::Command { session, number, first_open, command } => {
                self.command(log_id, session, (number, first_open), command)
            }
            SessionRequest::KeepAlive { session } => match self.touch(log_id.index, session) {
                Some(_) => {
                    self.changed(|table| table.session_row(session.id));
                    done(log_id)
                }
                None => refused(SessionRefusal::Expired),
            },
            SessionRequest::Close { session } => match self.touch(log_id.index, session) {
                Some(_) => {
                    self.remove(session.id);
                    done(log_id)
                }
                None => refused(SessionRefusal::Expired),
            },
        };
        self.changed(Self::common_row);
        verdict
    }

    /// The command at `log_id` was applied.
    pub(crate) fn record(&mut self, log_id: LogId, id: SessionId, number: u64, reply: Bytes) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.kept_bytes += size(&reply);
        self.kept.insert(log_id.index, (id, number));
        session.answers.insert(number, Answer { log_id, reply: Some(reply) });
        // The reply's own row travels with the reply; that others are forgotten is told here.
        self.forget_the_oldest();
    }

    fn open(&mut self, log_id: LogId, secret: u64, limits: SessionLimits) -> Verdict {
        self.limits = limits;
        self.forget_the_oldest();
        let count_max = usize::try_from(limits.sessions_count_max.max(1)).unwrap_or(usize::MAX);
        while self.sessions.len() >= count_max {
            let Some((_, id)) = self.idle.first_key_value() else { break };
            self.remove(*id);
        }
        let id = SessionId::new(log_id.index.get());
        let (used_at, used_time) = (log_id.index, self.time);
        let answers = BTreeMap::new();
        let session = Session { secret, used_at, used_time, first_open: 1, answers };
        self.sessions.insert(id, session);
        self.idle.insert(used_at, id);
        self.changed(|table| table.session_row(id));
        done(log_id)
    }

    fn command(
        &mut self,
        log_id: LogId,
        key: SessionKey,
        (number, first_open): (u64, u64),
        command: Bytes,
    ) -> Verdict {
        let replies_count_max = self.limits.replies_count_max.max(1);
        let Some(session) = self.touch(log_id.index, key) else {
            return refused(SessionRefusal::Expired);
        };
        session.first_open = session.first_open.max(first_open);
        let first_open = session.first_open;
        let verdict = if number < first_open {
            refused(SessionRefusal::Settled { first_open })
        } else if let Some(answer) = session.answers.get(&number) {
            answer.clone().told()
        } else if number - first_open >= u64::from(replies_count_max) {
            refused(SessionRefusal::TooFarAhead { limit_count: replies_count_max })
        } else {
            Verdict::Run { session: key.id, number, command }
        };
        self.settle(key.id);
        self.changed(|table| table.session_row(key.id));
        verdict
    }

    /// The session, if the client may use it; it is now the one that was used last.
    fn touch(&mut self, index: LogIndex, key: SessionKey) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&key.id).filter(|it| it.secret == key.secret)?;
        self.idle.remove(&session.used_at);
        self.idle.insert(index, key.id);
        session.used_at = index;
        session.used_time = self.time;
        Some(session)
    }

    /// Drops the answers that the client will not ask for again.
    fn settle(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let open = session.answers.split_off(&session.first_open);
        let settled = std::mem::replace(&mut session.answers, open);
        for (number, answer) in settled {
            self.dropped(id, number, &answer);
        }
    }

    fn expire(&mut self) {
        while let Some((_, id)) = self.idle.first_key_value() {
            let id = *id;
            let used = self.sessions.get(&id).map(|session| session.used_time).unwrap_or_default();
            if used.after(self.limits.idle_max) >= self.time {
                return;
            }
            self.remove(id);
        }
    }

    fn remove(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.idle.remove(&session.used_at);
        for (number, answer) in &session.answers {
            self.dropped(id, *number, answer);
        }
        self.changed(|_| Note::remove(Self::session_key(id)));
    }

    fn dropped(&mut self, id: SessionId, number: u64, answer: &Answer) {
        if let Some(reply) = &answer.reply {
            self.kept.remove(&answer.log_id.index);
            self.kept_bytes -= size(reply);
        }
        self.changed(|_| Note::remove(Self::answer_key(id, number)));
    }

    /// Forgets replies until the rest is within the limit: the oldest first, whosever they are.
    pub(super) fn forget_the_oldest(&mut self) {
        while self.kept_bytes > self.limits.reply_bytes_max {
            let Some((_, (id, number))) = self.kept.pop_first() else { return };
            let session = self.sessions.get_mut(&id);
            let Some(answer) = session.and_then(|it| it.answers.get_mut(&number)) else { continue };
            self.kept_bytes -= answer.reply.take().as_ref().map_or(0, size);
            let log_id = answer.log_id;
            self.changed(|_| Self::forgotten_row(id, number, log_id));
        }
    }

    fn changed(&mut self, row: impl FnOnce(&Self) -> Note) {
        if self.is_recording() {
            let row = row(self);
            self.changes.get_or_insert_default().push(row);
        }
    }
}

impl Answer {
    fn told(self) -> Verdict {
        let Self { log_id, reply } = self;
        match reply {
            Some(reply) => Verdict::Say(Fate::Applied { log_id, reply }),
            None => refused(SessionRefusal::Forgotten { log_id }),
        }
    }
}

const fn done(log_id: LogId) -> Verdict {
    Verdict::Say(Fate::Applied { log_id, reply: Bytes::new() })
}

const fn refused(refusal: SessionRefusal) -> Verdict {
    Verdict::Say(Fate::Refused(refusal))
}

fn size(reply: &Bytes) -> u64 {
    u64::try_from(reply.len()).unwrap_or(u64::MAX)
}
