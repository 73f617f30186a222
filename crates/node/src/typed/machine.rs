//! A machine in its own types, and what makes a [`StateMachine`] of it. Knows how its values become
//! bytes; not who asks.

use super::coded::{decode, encode};
use super::{Codec, CodecError};
use crate::{
    Committed, Fatal, LogId, LogIndex, ProtocolVersion, QueryError, Replies, SnapshotView,
    StateMachine,
};
use bytes::Bytes;
use std::fmt;
use std::io::{Read, Write};
use std::marker::PhantomData;

/// A deterministic state machine that keeps its state in memory and speaks in values.
///
/// As for every [`StateMachine`]: the same commands in the same order give the same state and the
/// same replies on every node. No clock, chance or local fact may enter [`TypedMachine::apply`].
/// A machine with a storage of its own, or a state too large to be written out in one piece,
/// implements [`StateMachine`] instead.
///
/// ```
/// use quorate::{Consistency, Json, LogId, Node, TypedMachine};
/// use std::time::Duration;
///
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl TypedMachine for Counter {
///     type Command = u64; // how much to add
///     type Reply = u64; // what it comes to
///     type Query = ();
///     type Answer = u64;
///     type Snapshot = u64;
///     type Codec = Json;
///
///     fn apply(&mut self, _: LogId, command: u64) -> u64 {
///         self.0 += command;
///         self.0
///     }
///     fn query(&self, (): ()) -> u64 {
///         self.0
///     }
///     fn snapshot(&self) -> u64 {
///         self.0
///     }
///     fn restore(&mut self, snapshot: u64) {
///         self.0 = snapshot;
///     }
/// }
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let patience = Duration::from_secs(5);
/// let counter = Node::builder(1, dir).start_typed(Counter::default()).await?;
/// assert_eq!(counter.propose(&2, patience).await?, 2);
/// assert_eq!(counter.propose(&3, patience).await?, 5);
/// assert_eq!(counter.read(&(), Consistency::Linearizable, patience).await?, 5);
/// counter.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait TypedMachine: Send + 'static {
    /// What changes the state.
    type Command;
    /// What a command comes to. It is also kept for sessions, and compared with what the other nodes
    /// reply, so equal states must give replies with equal bytes: no map without an order in it.
    type Reply;
    /// A question about the state.
    type Query;
    /// What it comes to.
    type Answer;
    /// The whole state at one moment.
    type Snapshot: Send + 'static;
    /// How all these become bytes.
    type Codec: Codec<Self::Command>
        + Codec<Self::Reply>
        + Codec<Self::Query>
        + Codec<Self::Answer>
        + Codec<Self::Snapshot>;

    /// Carries a committed command out. `log_id` is where it stands in the log: it rises from one
    /// command to the next, and is the same on every node.
    fn apply(&mut self, log_id: LogId, command: Self::Command) -> Self::Reply;

    /// Answers a question from the present state.
    fn query(&self, query: Self::Query) -> Self::Answer;

    /// A copy of the state. It is made between two commands, and becomes bytes on another thread.
    fn snapshot(&self) -> Self::Snapshot;

    /// Replaces the state.
    fn restore(&mut self, snapshot: Self::Snapshot);

    /// As [`StateMachine::replies_version`].
    fn replies_version(&self) -> u32 {
        0
    }

    /// As [`StateMachine::cluster_version`].
    fn cluster_version(&mut self, version: ProtocolVersion) {
        let _ = version;
    }
}

/// A [`TypedMachine`] as a [`StateMachine`]: for [`crate::NodeBuilder::start`], or for the simulator.
///
/// A committed command that cannot be decoded stops the node with [`Fatal`], since to skip it here
/// and apply it elsewhere would make the nodes differ. Only a later version of the program can have
/// proposed it: [`crate::TypedNode`] lets nothing into the log that does not come out again.
pub struct Typed<M> {
    machine: M,
}

impl<M: TypedMachine> Typed<M> {
    /// A machine that has applied nothing yet.
    pub const fn new(machine: M) -> Self {
        Self { machine }
    }
}

impl<M> fmt::Debug for Typed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

impl<M: TypedMachine> StateMachine for Typed<M> {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { log_id, command } in batch {
            let decoded = decode::<M, M::Command>(command).map_err(|error| {
                Fatal::caused_by(
                    format!(
                        "expected a command of this version at {log_id}, found {} bytes that are \
                         none: {error}. If a later version proposed it, upgrade this node",
                        command.len()
                    ),
                    error,
                )
            })?;
            replies.push(seal::<M>(&self.machine.apply(*log_id, decoded)));
        }
        Ok(())
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        let query = decode::<M, M::Query>(query).map_err(query_error)?;
        let answer = encode::<M, M::Answer>(&self.machine.query(query)).map_err(query_error)?;
        Ok(answer.into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        let machine = PhantomData::<fn(M)>;
        Ok(Box::new(View { snapshot: self.machine.snapshot(), machine }))
    }

    fn replies_version(&self) -> u32 {
        self.machine.replies_version()
    }

    fn cluster_version(&mut self, version: ProtocolVersion) {
        self.machine.cluster_version(version);
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = Vec::new();
        source
            .read_to_end(&mut bytes)
            .map_err(|error| Fatal::caused_by("the snapshot cannot be read", error))?;
        let snapshot = decode::<M, M::Snapshot>(&bytes).map_err(|error| {
            let reason = format!("the snapshot of {last_included} makes no sense: {error}");
            Fatal::caused_by(reason, error)
        })?;
        self.machine.restore(snapshot);
        Ok(())
    }
}

pub(super) fn query_error(error: CodecError) -> QueryError {
    QueryError { reason: error.reason }
}

/// A state on its way into a file.
struct View<M: TypedMachine> {
    snapshot: M::Snapshot,
    machine: PhantomData<fn(M)>,
}

impl<M: TypedMachine> SnapshotView for View<M> {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        let bytes = encode::<M, M::Snapshot>(&self.snapshot).map_err(std::io::Error::other)?;
        target.write_all(&bytes)
    }
}

/// A reply follows.
const REPLY: u8 = 0;
/// Why there are no bytes for the reply follows.
const UNSPEAKABLE: u8 = 1;

/// A reply as it is kept and sent. One that has no bytes is the caller's affair: its command has
/// taken effect by now.
fn seal<M: TypedMachine>(reply: &M::Reply) -> Vec<u8> {
    let (mark, body) = match encode::<M, M::Reply>(reply) {
        Ok(bytes) => (REPLY, bytes),
        Err(error) => (UNSPEAKABLE, error.reason.into_bytes()),
    };
    let mut sealed = Vec::with_capacity(1 + body.len());
    sealed.push(mark);
    sealed.extend_from_slice(&body);
    sealed
}

pub(super) fn unseal<M: TypedMachine>(sealed: &[u8]) -> Result<M::Reply, CodecError> {
    match sealed.split_first() {
        Some((&REPLY, bytes)) => decode::<M, M::Reply>(bytes),
        Some((&UNSPEAKABLE, reason)) => Err(CodecError::new(String::from_utf8_lossy(reason))),
        Some((mark, _)) => {
            let expected = format!("expected a reply that begins with {REPLY} or {UNSPEAKABLE}");
            Err(CodecError::new(format!("{expected}, found {mark}")))
        }
        None => Err(CodecError::new("expected a reply, found nothing")),
    }
}
