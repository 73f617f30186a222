//! The key-value store under any commands and any snapshot: every command gets a reply, and a
//! snapshot that is not one is refused.

use super::input::Input;
use bytes::Bytes;
use prost::Message;
use quorate::{Committed, LogId, LogIndex, Replies, StateMachine, Term};
use quorate_kv::lease::api::{LeaseGrantRequest, LeaseRevokeRequest};
use quorate_kv::{
    AlarmKind, AlarmMember, AuthState, Command, CommandKind, CommandReply, CommandTag,
    CompactionRequest, DeleteRangeRequest, Inline, KvStateMachine, Lease, MemoryEngine, OpError,
    Outcome, PutRequest, Reader, Request, StoreHash,
};
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
        store.work();
    }
    while !input.is_empty() {
        let size = usize::from(input.byte());
        let command = Bytes::copy_from_slice(input.bytes(size));
        judge(&command);
        let _ = store.apply(command);
    }
    store.check_copy();
}

type Visible = (StoreHash, Vec<(i64, Lease)>, Vec<AlarmMember>, Arc<AuthState>);

/// A store in memory, and how far it is.
pub(super) struct Store {
    pub(super) machine: KvStateMachine,
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

    /// The next entry is the one after `last`, of a snapshot that was restored.
    pub(super) fn go_on_from(&mut self, last: LogIndex) {
        self.index = last;
    }

    /// What is written out is a snapshot, of the same store.
    pub(super) fn check_copy(&self) {
        let mut snapshot = Vec::new();
        let written = self.machine.view().map(|view| view.write_to(&mut snapshot));
        assert!(matches!(written, Ok(Ok(()))), "the store can be written out");
        let Some(mut copy) = Self::fresh() else { return };
        let last_included = LogId::new(Term::new(1), self.index);
        let restored = copy.machine.restore(last_included, &mut snapshot.as_slice());
        assert!(restored.is_ok(), "what was written out can be read: {restored:?}");
        assert_eq!(copy.visible(), self.visible(), "the same store");
    }

    /// Carries out what clients ask for every day, on whatever the state is.
    pub(super) fn work(&mut self) {
        let key = Bytes::from_static(b"k");
        let put = PutRequest { key: key.clone(), lease: 7, ..PutRequest::default() };
        let revision = self.reader.revision().to_wire();
        let everything = Bytes::from_static(&[0]);
        let requests = [
            (CommandTag::LeaseGrant, LeaseGrantRequest { ttl: 5, id: 7 }.encode_to_vec()),
            (CommandTag::Put, put.encode_to_vec()),
            (CommandTag::LeaseRevoke, LeaseRevokeRequest { id: 7 }.encode_to_vec()),
            (
                CommandTag::Compact,
                CompactionRequest { revision, ..CompactionRequest::default() }.encode_to_vec(),
            ),
            (
                CommandTag::DeleteRange,
                DeleteRangeRequest { key, range_end: everything, ..DeleteRangeRequest::default() }
                    .encode_to_vec(),
            ),
        ];
        for (tag, request) in requests {
            let _ = self.apply(Command::wrap(tag, &request));
        }
    }

    /// What a client can see of the state.
    fn visible(&self) -> Visible {
        let hash = self.reader.hash(None);
        let hash = hash.unwrap_or_else(|error| panic!("the store can be read: {error}"));
        let alarms = self.reader.alarms(AlarmKind::None);
        (hash, self.reader.leases(), alarms, self.reader.auth())
    }

    /// [`Self::apply`], and what is refused changes nothing.
    pub(super) fn carry_out(&mut self, command: Bytes) -> Result<Outcome, OpError> {
        let before = self.visible();
        let outcome = self.apply(command);
        assert!(outcome.is_ok() || self.visible() == before, "what is refused changes nothing");
        outcome
    }

    /// Applies a command as the next entry.
    pub(super) fn apply(&mut self, command: Bytes) -> Result<Outcome, OpError> {
        self.index = self.index.next();
        let batch = [Committed { log_id: LogId::new(Term::new(1), self.index), command }];
        let mut replies = Replies::default();
        let applied = self.machine.apply(&batch, &mut replies);
        assert!(applied.is_ok(), "no command stops the store: {applied:?}");
        assert_eq!(replies.count(), 1, "every command gets a reply");
        let reply = CommandReply::decode(replies.as_slice().concat().as_slice());
        reply.unwrap_or_else(|error| panic!("a reply can be read: {error}")).into_result()
    }
}

fn judge(command: &Bytes) {
    let Ok(Command { kind: Some(kind), .. }) = Command::decode(command.clone()) else { return };
    let request = match kind {
        CommandKind::Put(put) => Request::Put(put),
        CommandKind::DeleteRange(delete) => Request::DeleteRange(delete),
        CommandKind::Txn(txn) => Request::Txn(txn),
        CommandKind::Compact(_)
        | CommandKind::Alarm(_)
        | CommandKind::Auth(_)
        | CommandKind::LeaseGrant(_)
        | CommandKind::LeaseRevoke(_)
        | CommandKind::LeaseRenew(_)
        | CommandKind::LeaseExpire(_) => return,
    };
    let _ = quorate_kv::validate(&request);
}
