//! A node in the types of its machine: values go in, values and typed errors come out. Must not know
//! what they mean.

use super::coded::{decode, encode};
use super::machine::{query_error, unseal};
use super::{CodecError, Typed, TypedMachine, TypedSession};
use crate::{
    Consistency, Doubt, Fate, LogId, Node, NodeBuilder, OpenSessionError, ReadError, Refusal,
    SessionRefusal, StartError,
};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A node whose machine is a [`TypedMachine`]. Clones are handles to the same node, as of [`Node`].
pub struct TypedNode<M> {
    node: Node,
    machine: PhantomData<fn(M)>,
}

impl<M> Clone for TypedNode<M> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), machine: PhantomData }
    }
}

impl<M> fmt::Debug for TypedNode<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedNode").field("node", &self.node).finish()
    }
}

/// Why a command has no reply. The fates of [`Fate`], and what can go wrong with values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It has no bytes, or they do not stand for it: it was not sent.
    #[error("the command was not sent: {0}")]
    Command(#[source] CodecError),
    /// It never entered the log: safe to try again.
    #[error("the command did not enter the log: {0}")]
    NotAppended(#[source] Refusal),
    /// Another entry took its place: provably without effect, safe to try again.
    #[error("another entry took the place of the command at {log_id}; it has no effect")]
    Lost {
        /// Where it had been.
        log_id: LogId,
    },
    /// It may or may not take effect, now or later.
    #[error("whether the command takes effect is not known: {0}")]
    Unknown(#[source] Doubt),
    /// Its session did not take it; never told of a command without a session.
    #[error("the session did not take the command: {0}")]
    Refused(#[source] SessionRefusal),
    /// It took effect, and its reply has no bytes, or they stand for none.
    #[error("the command took effect at {log_id}, and its reply cannot be told: {error}")]
    Reply {
        /// Where it stands in the log.
        log_id: LogId,
        /// What is wrong with the reply.
        #[source]
        error: CodecError,
    },
}

impl ProposeError {
    /// Whether the command certainly has no effect, and will have none: then it may be proposed again
    /// without fear of twice.
    #[must_use]
    pub const fn is_without_effect(&self) -> bool {
        match self {
            Self::Command(_) | Self::NotAppended(_) | Self::Lost { .. } => true,
            Self::Unknown(_) | Self::Refused(_) | Self::Reply { .. } => false,
        }
    }
}

impl NodeBuilder {
    /// As [`NodeBuilder::start`], for a machine in its own types.
    ///
    /// # Errors
    ///
    /// [`StartError`]; no thread or socket is left then.
    pub async fn start_typed<M: TypedMachine>(
        self,
        machine: M,
    ) -> Result<TypedNode<M>, StartError> {
        let node = self.start(Typed::new(machine)).await?;
        Ok(TypedNode { node, machine: PhantomData })
    }
}

impl<M: TypedMachine> TypedNode<M> {
    /// The node itself: its status, members, metrics. What is proposed through it must be bytes of
    /// this machine's codec; others stop every node that applies them.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Proposes a command, through whatever node leads, and returns its reply: at the latest after
    /// `timeout`, and a fraction of a second.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], which says whether it may be tried again.
    pub async fn propose(
        &self,
        command: &M::Command,
        timeout: Duration,
    ) -> Result<M::Reply, ProposeError> {
        let bytes = bytes_of::<M>(command)?;
        outcome::<M>(self.node.propose(bytes, timeout).await)
    }

    /// Asks the machine, as it promises by `consistency`; returns its answer.
    ///
    /// # Errors
    ///
    /// Any [`ReadError`]; [`ReadError::Query`] if the question or its answer have no bytes.
    pub async fn read(
        &self,
        query: &M::Query,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<M::Answer, ReadError> {
        let query = encode::<M, M::Query>(query).map_err(query_error)?;
        let answer = self.node.read(query, consistency, timeout).await?;
        decode::<M, M::Answer>(&answer).map_err(|error| ReadError::Query(query_error(error)))
    }

    /// Opens a session: each of its commands takes effect once, however often it is sent.
    ///
    /// # Errors
    ///
    /// [`OpenSessionError`]; any of them may be followed by another try.
    pub async fn open_session(
        &self,
        timeout: Duration,
    ) -> Result<TypedSession<M>, OpenSessionError> {
        Ok(TypedSession::new(self.node.open_session(timeout).await?))
    }

    /// Stops the node, as [`Node::stop`] does.
    pub async fn stop(self) {
        self.node.stop().await;
    }
}

/// A command's bytes, of which it is known that every node of this version can make the command
/// again: what enters the log is applied for ever.
pub(super) fn bytes_of<M: TypedMachine>(command: &M::Command) -> Result<Vec<u8>, ProposeError> {
    let bytes = encode::<M, M::Command>(command).map_err(ProposeError::Command)?;
    match decode::<M, M::Command>(&bytes) {
        Ok(_same) => Ok(bytes),
        Err(error) => Err(ProposeError::Command(error)),
    }
}

/// What a fate means to who proposed a value.
pub(super) fn outcome<M: TypedMachine>(fate: Fate) -> Result<M::Reply, ProposeError> {
    match fate {
        Fate::Applied { log_id, reply } => {
            unseal::<M>(&reply).map_err(|error| ProposeError::Reply { log_id, error })
        }
        Fate::NotAppended(refusal) => Err(ProposeError::NotAppended(refusal)),
        Fate::Lost { log_id } => Err(ProposeError::Lost { log_id }),
        Fate::Unknown(doubt) => Err(ProposeError::Unknown(doubt)),
        Fate::Refused(refusal) => Err(ProposeError::Refused(refusal)),
    }
}
