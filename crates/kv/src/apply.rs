//! Applies one command of the log to the store: what happens, and the reply. Everything here is
//! decided by the command and the state, the same on every replica.

use crate::api::{CompactionRequest, CompactionResponse, PutRequest};
use crate::command::{Command, CommandKind, CommandReply, Outcome};
use crate::engine::EngineError;
use crate::error::{OpError, ReadError};
use crate::meta::Progress;
use crate::range::header;
use crate::revision::Revision;
use crate::txn;
use crate::view::View;
use crate::writer::Writer;
use bytes::Bytes;
use prost::Message;

/// Applies `command`. Its changes go to `view.active`; `view` and `progress` then include them.
pub(crate) fn apply(
    view: &mut View,
    progress: &mut Progress,
    command: &Bytes,
) -> Result<CommandReply, EngineError> {
    let outcome = match execute(view, progress, command) {
        Ok(outcome) => outcome,
        Err(ReadError::Refused(refused)) => Outcome::Refused(refused.into()),
        Err(ReadError::Engine(error)) => return Err(error),
    };
    view.revision = progress.revision;
    view.compacted = progress.compacted;
    Ok(CommandReply { revision: progress.revision.get(), outcome: Some(outcome) })
}

fn execute(view: &View, progress: &mut Progress, command: &Bytes) -> Result<Outcome, ReadError> {
    // `Bytes` are decoded without a copy: keys and values stay slices of the log entry.
    let command = Command::decode(command.clone()).map_err(|_| OpError::MalformedCommand)?;
    let mut writer = Writer::new(view);
    let outcome = match run(view, &mut writer, progress, command) {
        Ok(outcome) => outcome,
        Err(refused) => {
            // A transaction may fail half-way: it deletes a key, then puts it with its old value.
            writer.undo();
            return Err(refused);
        }
    };
    progress.revision = writer.now();
    progress.key_count = writer.key_count(progress.key_count);
    Ok(outcome)
}

fn run(
    view: &View,
    writer: &mut Writer<'_>,
    progress: &mut Progress,
    command: Command,
) -> Result<Outcome, ReadError> {
    Ok(match command.kind.ok_or(OpError::UnknownCommand)? {
        CommandKind::Put(request) => put(writer, &request)?,
        CommandKind::DeleteRange(request) => Outcome::DeleteRange(writer.delete_range(&request)?),
        CommandKind::Txn(request) => Outcome::Txn(txn::execute(view, writer, &request)?),
        CommandKind::Compact(request) => compact(progress, request)?,
    })
}

fn put(writer: &mut Writer<'_>, request: &PutRequest) -> Result<Outcome, ReadError> {
    txn::check_key(request)?;
    txn::check_lease(request.lease)?;
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
