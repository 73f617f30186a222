//! The key-value store under any commands and any snapshot: every command gets a reply, and a
//! snapshot that is not one is refused.

use super::input::Input;
use bytes::Bytes;
use prost::Message;
use quorate::{Committed, LogId, LogIndex, Replies, StateMachine, Term};
use quorate_kv::{Command, CommandKind, Inline, KvStateMachine, MemoryEngine, Request};
use std::sync::Arc;

/// Commands are applied as they are committed: whatever a peer once let through. A request is
/// judged first by the rules for clients, which must take anything too.
pub(super) fn store(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut machine) = fresh() else { return };
    if input.below(4) == 0 {
        let last_included = LogId::new(Term::new(1), LogIndex::new(1));
        if machine.restore(last_included, &mut input.0).is_err() {
            return;
        }
        input.0 = &[];
    }
    let mut index = LogIndex::new(2);
    while !input.is_empty() {
        let size = usize::from(input.byte());
        let command = Bytes::copy_from_slice(input.bytes(size));
        judge(&command);
        index = index.next();
        let batch = [Committed { log_id: LogId::new(Term::new(1), index), command }];
        let mut replies = Replies::default();
        let applied = machine.apply(&batch, &mut replies);
        assert!(applied.is_ok(), "no command stops the store: {applied:?}");
        assert_eq!(replies.count(), 1, "every command gets a reply");
    }
    let mut snapshot = Vec::new();
    let written = machine.view().map(|view| view.write_to(&mut snapshot));
    assert!(matches!(written, Ok(Ok(()))), "the store can be written out");
    let Some(mut copy) = fresh() else { return };
    let restored = copy.restore(LogId::new(Term::new(1), index), &mut snapshot.as_slice());
    assert!(restored.is_ok(), "what was written out can be read: {restored:?}");
}

fn fresh() -> Option<KvStateMachine> {
    let opened = quorate_kv::open(Arc::new(MemoryEngine::new()), Arc::new(Inline));
    opened.ok().map(|(machine, _)| machine)
}

fn judge(command: &Bytes) {
    let Ok(Command { kind: Some(kind) }) = Command::decode(command.clone()) else { return };
    let request = match kind {
        CommandKind::Put(put) => Request::Put(put),
        CommandKind::DeleteRange(delete) => Request::DeleteRange(delete),
        CommandKind::Txn(txn) => Request::Txn(txn),
        CommandKind::Compact(_) => return,
    };
    let _ = quorate_kv::validate(&request);
}
