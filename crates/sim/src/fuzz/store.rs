//! The key-value store under any commands and any snapshot: every command gets a reply, and a
//! snapshot that is not one is refused.

use super::input::Input;
use bytes::Bytes;
use prost::Message;
use quorate::{Committed, LogId, LogIndex, Replies, StateMachine, Term};
use quorate_kv::{Command, CommandKind, Inline, KvStateMachine, MemoryEngine, Reader, Request};
use std::sync::Arc;

/// Commands are applied as they are committed: whatever a peer once let through. A request is
/// judged first by the rules for clients, which must take anything too.
pub(super) fn store(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut store) = Store::fresh() else { return };
    if input.below(4) == 0 {
        let last_included = LogId::new(Term::new(1), LogIndex::new(1));
        if store.machine.restore(last_included, &mut input.0).is_err() {
            return;
        }
        input.0 = &[];
    }
    while !input.is_empty() {
        let size = usize::from(input.byte());
        let command = Bytes::copy_from_slice(input.bytes(size));
        judge(&command);
        store.apply(command);
    }
    let mut snapshot = Vec::new();
    let written = store.machine.view().map(|view| view.write_to(&mut snapshot));
    assert!(matches!(written, Ok(Ok(()))), "the store can be written out");
    let Some(mut copy) = Store::fresh() else { return };
    let last_included = LogId::new(Term::new(1), store.index);
    let restored = copy.machine.restore(last_included, &mut snapshot.as_slice());
    assert!(restored.is_ok(), "what was written out can be read: {restored:?}");
}

/// A store in memory, and how far it is.
pub(super) struct Store {
    machine: KvStateMachine,
    pub(super) reader: Reader,
    index: LogIndex,
}

impl Store {
    pub(super) fn fresh() -> Option<Self> {
        let opened = quorate_kv::open(Arc::new(MemoryEngine::new()), Arc::new(Inline));
        let (machine, reader) = opened.ok()?;
        // A snapshot that was restored is at index 1.
        Some(Self { machine, reader, index: LogIndex::new(2) })
    }

    /// Applies a command as the next entry.
    pub(super) fn apply(&mut self, command: Bytes) {
        self.index = self.index.next();
        let batch = [Committed { log_id: LogId::new(Term::new(1), self.index), command }];
        let mut replies = Replies::default();
        let applied = self.machine.apply(&batch, &mut replies);
        assert!(applied.is_ok(), "no command stops the store: {applied:?}");
        assert_eq!(replies.count(), 1, "every command gets a reply");
    }
}

fn judge(command: &Bytes) {
    let Ok(Command { kind: Some(kind) }) = Command::decode(command.clone()) else { return };
    let request = match kind {
        CommandKind::Put(put) => Request::Put(put),
        CommandKind::DeleteRange(delete) => Request::DeleteRange(delete),
        CommandKind::Txn(txn) => Request::Txn(txn),
        CommandKind::Compact(_)
        | CommandKind::Alarm(_)
        | CommandKind::LeaseGrant(_)
        | CommandKind::LeaseRevoke(_)
        | CommandKind::LeaseRenew(_)
        | CommandKind::LeaseExpire(_) => return,
    };
    let _ = quorate_kv::validate(&request);
}
