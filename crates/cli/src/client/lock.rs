//! `quorate lock`. Waits for a lock and holds it until a signal comes, or for as long as a command runs. The
//! key is that of etcd's clients, so that they wait for each other.

use super::connection::{Connection, Kind};
use super::ending::Ending;
use super::session::{Session, Signals};
use super::{ClientVerb, bytes, get};
use crate::go::parse_integer;
use anyhow::{Context, bail};
use bytes::Bytes;
use quorate_etcd_api::etcdserverpb::{RangeRequest, RangeResponse};
use quorate_etcd_api::v3lockpb::{LockRequest, LockResponse};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use tonic::Request;

const EXAMPLES: &str = "\
Examples:
  quorate lock nightly                          holds it until Ctrl-C; prints its key
  quorate lock nightly -- backup.sh --full      holds it while a command runs, and ends as it ends
  quorate lock nightly --ttl 60 -- backup.sh    a member that is away for a minute costs nothing
The command finds its key in ETCD_LOCK_KEY and the revision at which it was taken in ETCD_LOCK_REV: a store
that refuses what comes with a smaller one than it has seen is safe from a holder that has lost the lock
without noticing. Its standard input is empty. Should the lock be lost while it runs, it is not stopped; the
exit code is 1 then, if it has not failed itself.";

/// Waits for a lock, and holds it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Lock {
    /// Its name: all who say the same wait for each other
    #[arg(value_name = "NAME")]
    name: OsString,
    /// What to run while it is held; behind `--`, if it has options
    #[arg(value_name = "COMMAND")]
    command: Vec<OsString>,
    /// How long it outlives this process, or its connection, in seconds
    #[arg(
        long, default_value_t = 10, value_parser = parse_integer, allow_negative_numbers = true,
        value_name = "SECONDS"
    )]
    ttl: i64,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Lock {
    async fn execute(self) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        // etcd's clients take this for their own choice.
        let ttl = if self.ttl <= 0 { 60 } else { self.ttl };
        let mut session = Session::begin(&self.connection, ttl).await?;
        let outcome = self.hold(&mut session, &mut signals).await;
        let ended = session.end().await;
        outcome.and(ended)
    }
}

impl Lock {
    async fn hold(&self, session: &mut Session<'_>, signals: &mut Signals) -> anyhow::Result<()> {
        let (name, lease) = (bytes(&self.name), session.id());
        let held = tokio::select! {
            held = session.wait(async |live| {
                // However long it takes.
                live.lock().lock(Request::new(LockRequest { name: name.clone(), lease })).await
            }) => held?,
            () = signals.next() => return Err(Ending::Interrupted.into()),
        };
        if let Some((program, arguments)) = self.command.split_first() {
            return run(session, &held, program, arguments).await;
        }
        let found = found(&self.connection, session, held.key).await?;
        if found.kvs.is_empty() {
            bail!("lock lost on init");
        }
        get::show(&found, &self.connection)?;
        tokio::select! {
            end = session.keep() => Err(end.into()),
            () = signals.next() => Ok(()),
        }
    }
}

/// What is under a key that is ours.
pub(super) async fn found(
    connection: &Connection,
    session: &Session<'_>,
    key: Bytes,
) -> anyhow::Result<RangeResponse> {
    let live = session.live();
    let mut kv = live.kv();
    let call = kv.range(connection.request(RangeRequest { key, ..RangeRequest::default() }));
    connection.answer(live, Kind::Read, call).await
}

/// Runs a command to its end, and keeps the lease meanwhile.
async fn run(
    session: &mut Session<'_>,
    held: &LockResponse,
    program: &OsStr,
    arguments: &[OsString],
) -> anyhow::Result<()> {
    let revision = held.header.as_ref().map_or(0, |header| header.revision);
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .env("ETCD_LOCK_KEY", OsStr::from_bytes(&held.key))
        .env("ETCD_LOCK_REV", revision.to_string())
        .stdin(Stdio::null())
        .spawn();
    let mut child = child.with_context(|| format!("running {}", program.display()))?;
    let mut lost = None;
    let status = tokio::select! {
        status = child.wait() => status,
        end = session.keep() => {
            eprintln!("{end}");
            lost = Some(end);
            child.wait().await
        }
    };
    Ending::of_command(status.context("waiting for the command")?)?;
    lost.map_or(Ok(()), |end| Err(end.into()))
}
