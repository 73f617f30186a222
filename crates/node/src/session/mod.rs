//! Sessions: commands that take effect once, however often they are sent (§6.3). The words that
//! clients, leaders and tables share; what a client holds in its hand is in `node/session.rs`.

mod clock;
mod entry;
mod rows;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use clock::SessionClock;
pub(crate) use entry::SessionEntry;
pub use entry::{SessionTime, read_entry, rewrite_entry};
pub(crate) use entry::{decode_request, encode_request};
pub(crate) use rows::{read_section, write_section};
pub use table::SessionTable;
pub(crate) use table::Verdict;

use bytes::Bytes;
use quorate_core::LogId;
use std::fmt;
use std::time::Duration;

/// The name of a session: the index of the entry that opened it, so that no name is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// Wraps a plain number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The plain number, for storing and display.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client must show to use a session: its name, and a number that its opener drew. Who has
/// both can go on with the session, for instance after a restart of the client; the secret keeps
/// mistakes out, not attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Which session.
    pub id: SessionId,
    /// What its opener drew.
    pub secret: u64,
}

/// What a client asks of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// A new session. If this is sent twice there may be two; the one that nobody uses expires.
    Open {
        /// Drawn by the client.
        secret: u64,
    },
    /// A command, to be applied once.
    Command {
        /// The session.
        session: SessionKey,
        /// The command's number: another command, another number; the same number, the same
        /// command. Numbers start at 1.
        number: u64,
        /// No command with a number below this one will be sent again; at most `number`.
        first_open: u64,
        /// The command.
        command: Bytes,
    },
    /// A sign of life.
    KeepAlive {
        /// The session.
        session: SessionKey,
    },
    /// The client is done.
    Close {
        /// The session.
        session: SessionKey,
    },
}

impl SessionRequest {
    /// The command's size in bytes, if it has one.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Command { command, .. } => command.len(),
            Self::Open { .. } | Self::KeepAlive { .. } | Self::Close { .. } => 0,
        }
    }
}

/// What the table of sessions may hold. Every replica must decide alike, so what counts is not a
/// node's own setting: the entry that opens a session carries the limits of the leader that
/// appended it, and they hold for the whole table from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions; the one that was idle for longest gives way to a new one.
    pub sessions_count_max: u32,
    /// Commands of one session between the first that its client may send again and the last. So
    /// many replies are kept for it at most.
    pub replies_count_max: u32,
    /// Bytes of kept replies in all sessions; the oldest are forgotten. That they were given is
    /// not: [`SessionRefusal::Forgotten`].
    pub reply_bytes_max: u64,
    /// A session that is idle for longer expires. The time is the leaders': it does not go on
    /// while there is none.
    pub idle_max: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_count_max: 4_096,
            replies_count_max: 256,
            reply_bytes_max: 16 << 20,
            idle_max: Duration::from_hours(1),
        }
    }
}

/// Why a session did not take a command. This sending of it had no effect; an earlier one with the
/// same number may have had, as the variants say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// The session is not known: it was idle for too long, gave way to others, was closed, or never
    /// opened. Whether earlier sendings had an effect cannot be told any more; later ones will not.
    #[error("the session has expired")]
    Expired,
    /// The command was applied before, once; its reply is not kept any more.
    #[error("the command was applied at {log_id}, and its reply is forgotten")]
    Forgotten {
        /// Where it stands in the log.
        log_id: LogId,
    },
    /// The client had said that it would not send this number again. It will have no effect in the
    /// future; whether it had one, the client was told or did not want to know.
    #[error("the command's number is below the first open one, {first_open}")]
    Settled {
        /// The first number that may be sent.
        first_open: u64,
    },
    /// Too many commands lie between the first open one and this one. It was not applied: settle
    /// older ones first.
    #[error("the limit of {limit_count} open commands of a session is reached")]
    TooFarAhead {
        /// The limit.
        limit_count: u32,
    },
}
