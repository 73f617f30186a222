//! Applies one command of the log to the store: what happens, and the reply. Everything here is
//! decided by the command and the state, the same on every replica.

use crate::alarm::AlarmResponse;
use crate::api::{CompactionRequest, CompactionResponse, PutRequest};
use crate::auth;
use crate::command::{Command, CommandKind, CommandReply, Outcome};
use crate::engine::EngineError;
use crate::error::{OpError, ReadError};
use crate::lease;
use crate::meta::Progress;
use crate::range::header;
use crate::revision::Revision;
use crate::txn;
use crate::view::View;
use crate::writer::Writer;
use prost::Message;
use quorate::Committed;

/// Applies a command. Its changes go to `view.active`; `view` and `progress` then include them.
pub(crate) fn apply(
    view: &mut View,
    progress: &mut Progress,
    committed: &Committed,
) -> Result<CommandReply, EngineError> {
    let outcome = match execute(view, progress, committed) {
        Ok(outcome) => outcome,
        Err(ReadError::Refused(refused)) => Outcome::Refused(refused.into()),
        Err(ReadError::Engine(error)) => return Err(error),
    };
    progress.applied = committed.log_id;
    progress.covered = committed.log_id.index;
    view.revision = progress.revision;
    view.compacted = progress.compacted;
    Ok(CommandReply { revision: progress.revision.get(), outcome: Some(outcome) })
}

fn execute(
    view: &mut View,
    progress: &mut Progress,
    committed: &Committed,
) -> Result<Outcome, ReadError> {
    let at = committed.log_id.index;
    // `Bytes` are decoded without a copy: keys and values stay slices of the log entry.
    let command =
        Command::decode(committed.command.clone()).map_err(|_| OpError::MalformedCommand)?;
    let kind = command.kind.ok_or(OpError::UnknownCommand)?;
    progress.alarms.check(&kind)?;
    auth::check(view, command.caller, &kind)?;
    Ok(match kind {
        CommandKind::Put(request) => write(view, progress, |writer| put(view, writer, &request))?,
        CommandKind::DeleteRange(request) => write(view, progress, |writer| {
            Ok(Outcome::DeleteRange(writer.delete_range(&request)?))
        })?,
        CommandKind::Txn(request) => {
            write(view, progress, |writer| Ok(Outcome::Txn(txn::execute(view, writer, &request)?)))?
        }
        CommandKind::Compact(request) => compact(progress, request)?,
        CommandKind::LeaseGrant(request) => Outcome::LeaseGrant(lease::grant(view, at, request)?),
        CommandKind::LeaseRevoke(request) => {
            Outcome::LeaseRevoke(lease::revoke(view, progress, request)?)
        }
        CommandKind::LeaseRenew(request) => Outcome::LeaseRenew(lease::renew(view, at, &request)),
        CommandKind::LeaseExpire(request) => {
            Outcome::LeaseExpire(lease::expire(view, progress, &request)?)
        }
        CommandKind::Auth(request) => Outcome::Auth(auth::apply(view, at, request)?),
        CommandKind::Alarm(request) => {
            let alarms = progress.alarms.apply(request)?;
            Outcome::Alarm(AlarmResponse { header: Some(header(progress.revision)), alarms })
        }
    })
}

/// Lets `run` write what it writes at one revision, all of it or nothing.
fn write(
    view: &View,
    progress: &mut Progress,
    run: impl FnOnce(&mut Writer<'_>) -> Result<Outcome, ReadError>,
) -> Result<Outcome, ReadError> {
    let mut writer = Writer::new(view);
    let outcome = run(&mut writer);
    if outcome.is_ok() {
        writer.finish(progress);
    } else {
        // A transaction may fail half-way: it deletes a key, then puts it with its old value.
        writer.undo();
    }
    outcome
}

fn put(view: &View, writer: &mut Writer<'_>, request: &PutRequest) -> Result<Outcome, ReadError> {
    txn::check_key(request)?;
    txn::check_lease(view, request.lease)?;
    Ok(Outcome::Put(writer.put(request)?))
}

/// Marks the revision; what it makes superfluous is deleted in the background.
fn compact(progress: &mut Progress, request: CompactionRequest) -> Result<Outcome, OpError> {
    let target = u64::try_from(request.revision).map_err(|_| OpError::Compacted)?;
    let target = Revision::new(target);
    if progress.compacted.is_some_and(|compacted| target <= compacted) {
        return Err(OpError::Compacted);
    }
    if target > progress.revision {
        return Err(OpError::FutureRevision);
    }
    progress.compacted = Some(target);
    Ok(Outcome::Compact(CompactionResponse { header: Some(header(progress.revision)) }))
}
