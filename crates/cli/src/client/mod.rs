//! The verbs that talk to a cluster: they make a request, send it to an endpoint that is alive, and
//! show the answer. They speak etcd's protocol, so they work against etcd too.

mod alarm;
mod ask;
mod auth;
mod check;
mod compaction;
mod connection;
mod del;
mod dial;
mod discover;
mod each;
mod elect;
mod ending;
mod endpoint;
mod explain;
pub(crate) mod fields;
mod follow;
mod get;
mod go_words;
pub(crate) mod grid;
pub(crate) mod json;
mod lease;
mod lock;
mod login;
mod member;
mod mirror;
mod move_leader;
mod put;
mod role;
mod session;
mod show;
pub(crate) mod snapshot;
mod status;
mod txn;
mod txn_text;
mod user;
mod variables;
mod watch;
mod wire;

pub(crate) use alarm::Alarm;
pub(crate) use auth::Auth;
pub(crate) use check::Check;
pub(crate) use compaction::Compaction;
pub(crate) use connection::{
    Address, Connection, DEFAULT_ENDPOINTS, Format, Kind, Refused, Unreachable, parse_duration,
};
pub(crate) use del::Del;
pub(crate) use dial::{KeepAlive, SecurityFlags};
pub(crate) use discover::DiscoverFlags;
pub(crate) use each::{Defrag, HashKv};
pub(crate) use elect::Elect;
pub(crate) use ending::Ending;
pub(crate) use endpoint::{Endpoint, Unanswered};
pub(crate) use get::Get;
pub(crate) use go_words::{GoWordsError, settle};
pub(crate) use lease::Lease;
pub(crate) use lock::Lock;
pub(crate) use login::{LoginFlags, Secret};
pub(crate) use member::Member;
pub(crate) use mirror::{MakeMirror, is_passing};
pub(crate) use move_leader::MoveLeader;
pub(crate) use put::Put;
pub(crate) use role::Role;
pub(crate) use snapshot::Snapshot;
pub(crate) use status::{Status, member_status};
pub(crate) use txn::Txn;
pub(crate) use txn_text::TextError;
pub(crate) use user::User;
pub(crate) use variables::{name_variable, with_variables};
pub(crate) use watch::Watch;

use anyhow::Context;
use bytes::Bytes;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// A command that asks a cluster for something.
pub(crate) trait ClientVerb {
    /// Asks, and shows the answer.
    ///
    /// # Errors
    ///
    /// If the command makes no sense, nobody answers, or the cluster refuses.
    async fn execute(self) -> anyhow::Result<()>;
}

/// Runs a verb on a runtime of its own.
///
/// # Errors
///
/// As [`ClientVerb::execute`]; also if a variable of etcdctl's must not be ignored.
pub(crate) fn run(verb: impl ClientVerb) -> anyhow::Result<()> {
    variables::check()?;
    runtime()?.block_on(verb.execute())
}

/// A runtime on this thread: a client has nothing to do in parallel.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// Keys and values are bytes, whatever the terminal's encoding.
fn bytes(argument: &OsString) -> Bytes {
    Bytes::from(argument.clone().into_vec())
}

/// Which keys a verb means, as etcd's protocol says it.
#[derive(Debug, PartialEq, Eq)]
struct KeyRange {
    key: Bytes,
    range_end: Bytes,
}

/// Every key from here on, in etcd's protocol.
const OPEN_END: &[u8] = b"\0";

impl KeyRange {
    /// One key; `key..range_end`; all keys that start with `key`; or all keys from `key` on.
    fn new(key: &OsString, range_end: Option<&OsString>, prefix: bool, from_key: bool) -> Self {
        let key = bytes(key);
        // The protocol refuses an empty key; all keys begin at the least one.
        let first = if key.is_empty() { Bytes::from_static(OPEN_END) } else { key.clone() };
        if from_key || (prefix && key.is_empty()) {
            return Self { key: first, range_end: Bytes::from_static(OPEN_END) };
        }
        if prefix {
            return Self { range_end: prefix_end(&key), key };
        }
        Self { key, range_end: range_end.map(bytes).unwrap_or_default() }
    }
}

/// The first key after all those that start with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(OPEN_END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_after_it() {
        assert_eq!(prefix_end(b"ab"), "ac");
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff\xff"), OPEN_END);
    }

    #[test]
    fn an_empty_prefix_means_every_key() {
        let range = KeyRange::new(&OsString::new(), None, true, false);
        assert_eq!((range.key.as_ref(), range.range_end.as_ref()), (OPEN_END, OPEN_END));
    }

    #[test]
    fn from_key_runs_to_the_last_key() {
        let range = KeyRange::new(&OsString::from("k"), None, false, true);
        assert_eq!((range.key.as_ref(), range.range_end.as_ref()), (&b"k"[..], OPEN_END));
    }
}
