//! What a user writes: the state that the log keeps equal on every node. Nothing here knows Raft
//! beyond "this entry is committed".

use bytes::Bytes;
use quorate_core::{LogId, LogIndex, ProtocolVersion};
use std::io::{Read, Write};

/// A deterministic state machine: the same commands in the same order give the same state and the
/// same replies on every node. No clock, chance or local fact may enter [`StateMachine::apply`].
///
/// All calls but [`SnapshotView::write_to`] come from one thread, one at a time.
pub trait StateMachine: Send + 'static {
    /// The last entry whose effect survives a crash; [`LogIndex::ORIGIN`] if the state is volatile
    /// or new. It may trail what was applied: the log replays the difference. It never falls.
    fn applied(&self) -> LogIndex;

    /// Applies committed commands in order, and gives one reply for each.
    ///
    /// # Errors
    ///
    /// [`Fatal`] stops this node: the state can no longer be trusted to equal the others'.
    /// A command that makes no sense is no such error; it gets a reply that says so.
    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal>;

    /// Answers a read-only query from the current state.
    ///
    /// # Errors
    ///
    /// [`QueryError`] if the query cannot be understood or answered.
    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError>;

    /// A view of the state as it is now. Cheap; it is written out on another thread while `apply`
    /// goes on.
    ///
    /// # Errors
    ///
    /// [`Fatal`] as in [`StateMachine::apply`].
    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal>;

    /// The log has grown long. A machine that keeps its state on a disk of its own begins to make
    /// durable there what it has applied, without waiting for it, and says so;
    /// [`StateMachine::applied`] follows when it is done. For one that does not, which is the
    /// default, a snapshot is written, and the log released after that.
    ///
    /// # Errors
    ///
    /// [`Fatal`] as in [`StateMachine::apply`].
    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        Ok(Checkpoint::NeedsSnapshot)
    }

    /// The last call before the node stops in good order: a machine that keeps its state on a disk
    /// of its own makes durable what it has applied, so that the next start has nothing to replay.
    ///
    /// # Errors
    ///
    /// [`Fatal`] if that failed; the log still has what is missing.
    fn finish(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    /// Where the node keeps its own notes, for a machine with a storage of its own; see
    /// [`Notebook`]. Without one, which is the default, a durable machine cannot serve sessions; a
    /// volatile one needs none.
    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        None
    }

    /// The part of a reply that is the same on every node: the nodes compare a hash of it, and one whose
    /// replies are others than a majority's ends ([`crate::NodeFailure::Diverged`]). All of it, unless
    /// a machine has to tell its callers something of the node that they are at. It is asked only of
    /// replies that say something.
    fn digest_of_reply<'a>(&self, reply: &'a [u8]) -> &'a [u8] {
        reply
    }

    /// A number that changes with the bytes of replies: of a text that was mended, say. Nodes whose
    /// numbers differ compare nothing, so that a cluster can be upgraded one node at a time.
    fn replies_version(&self) -> u32 {
        0
    }

    /// Which protocol the cluster speaks as of the commands that follow: every member's program speaks it
    /// or a later one, and none will join that does not. It is told before the first command, after each
    /// [`StateMachine::restore`], and whenever it has risen, at the same place between two commands on
    /// every node; so what commands mean, and what snapshots hold, may depend on it. A program whose new
    /// version knows new commands proposes them once [`crate::NodeStatus::cluster_version`] is the one
    /// that came with them.
    fn cluster_version(&mut self, version: ProtocolVersion) {
        let _ = version;
    }

    /// Replaces the whole state by a snapshot that covers the log up to `last_included`.
    /// If it fails half-way, the old state or none may remain, but never a mixture that
    /// [`StateMachine::applied`] would vouch for.
    ///
    /// # Errors
    ///
    /// [`Fatal`] if the snapshot cannot be read or stored.
    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal>;
}

/// The part of a durable state machine's storage that belongs to the node: some rows, which mean
/// nothing to the machine. The node keeps there which commands of sessions took effect (§6.3), and
/// that must be known exactly as far as the machine has applied the log, or a crash would have a
/// command applied twice, or never.
///
/// So the machine stores notes in the same transaction as the state that they belong to: in
/// [`StateMachine::apply`], after each reply or after the batch, those of [`Replies::take_notes`].
///
/// ```
/// # use quorate::{Committed, Note, Replies};
/// # struct Transaction { rows: std::collections::BTreeMap<bytes::Bytes, bytes::Bytes> }
/// # fn execute(_: &mut Transaction, _: &[u8]) -> bytes::Bytes { bytes::Bytes::new() }
/// fn apply(transaction: &mut Transaction, batch: &[Committed], replies: &mut Replies) {
///     for committed in batch {
///         let reply = execute(transaction, &committed.command);
///         replies.push(reply);
///         for Note { key, value } in replies.take_notes() {
///             match value {
///                 Some(value) => transaction.rows.insert(key, value),
///                 None => transaction.rows.remove(&key),
///             };
///         }
///     }
/// }
/// ```
pub trait Notebook {
    /// All rows, as they were when the log was applied up to [`StateMachine::applied`]. Asked once,
    /// at the start.
    ///
    /// # Errors
    ///
    /// [`Fatal`] if they cannot be read.
    fn rows(&self) -> Result<Vec<(Bytes, Bytes)>, Fatal>;

    /// Changes rows for entries that brought no command, the last of them `through`:
    /// [`StateMachine::applied`] may include them when this is durable.
    ///
    /// # Errors
    ///
    /// [`Fatal`] as in [`StateMachine::apply`].
    fn keep(&mut self, through: LogIndex, notes: Vec<Note>) -> Result<(), Fatal>;

    /// The [`StateMachine::restore`] that follows replaces all rows by these, in the same
    /// transaction as the state.
    fn replace_with_restore(&mut self, rows: Vec<(Bytes, Bytes)>);
}

/// A change to a [`Notebook`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which row.
    pub key: Bytes,
    /// What it shall say; `None` removes it.
    pub value: Option<Bytes>,
}

impl Note {
    pub(crate) fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    pub(crate) fn remove(key: Vec<u8>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// A row that will hold a reply.
#[derive(Debug)]
pub(crate) struct ReplyNote {
    pub(crate) key: Bytes,
    /// What stands before the reply.
    pub(crate) prefix: Vec<u8>,
}

impl ReplyNote {
    pub(crate) fn with(self, reply: &[u8]) -> Note {
        let Self { key, prefix: mut value } = self;
        value.extend_from_slice(reply);
        Note { key, value: Some(value.into()) }
    }
}

/// What a state machine does so that the log can be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// It is making its state durable by itself.
    Begun,
    /// Its state is volatile: a snapshot must be written.
    NeedsSnapshot,
}

/// A frozen state, ready to be written out.
pub trait SnapshotView: Send {
    /// Writes the state in the form that [`StateMachine::restore`] reads.
    ///
    /// # Errors
    ///
    /// What the writer says.
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()>;
}

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where it stands in the log; rises from one command to the next, not always by one.
    pub log_id: LogId,
    /// The command, as it was proposed.
    pub command: Bytes,
}

/// Collects the replies to a batch: one for each command, in order.
#[derive(Debug, Default)]
pub struct Replies {
    given: Vec<Bytes>,
    notes: Vec<Note>,
    /// Where the next reply is to be noted.
    next_note: Option<ReplyNote>,
}

impl Replies {
    /// For a batch before which these notes are due, and whose first reply is to be noted.
    pub(crate) const fn noting(notes: Vec<Note>, next_note: Option<ReplyNote>) -> Self {
        Self { given: Vec::new(), notes, next_note }
    }

    /// The reply to the next command.
    pub fn push(&mut self, reply: impl Into<Bytes>) {
        let reply = reply.into();
        if let Some(note) = self.next_note.take() {
            self.notes.push(note.with(&reply));
        }
        self.given.push(reply);
    }

    /// What a machine with a [`Notebook`] must keep together with the effects of the commands
    /// that were replied to so far; nothing to do with sessions, nothing is there. In order: a
    /// later note on a row replaces an earlier one.
    #[must_use]
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.given.len()
    }

    /// Those given so far, in order: for a machine that wraps another one.
    #[must_use]
    pub fn as_slice(&self) -> &[Bytes] {
        &self.given
    }

    /// The replies, in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<Bytes> {
        self.given
    }
}

/// The state machine cannot go on. The node stops and says so; the others are not affected.
#[derive(Debug, thiserror::Error)]
#[error("the state machine failed: {reason}")]
pub struct Fatal {
    /// What an operator should know.
    pub reason: String,
    /// What caused it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fatal {
    /// A failure without a further cause.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// A failure with its cause.
    pub fn caused_by(
        reason: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { reason: reason.into(), source: Some(source.into()) }
    }
}

/// A query that was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query was not answered: {reason}")]
pub struct QueryError {
    /// What the caller should change.
    pub reason: String,
}
