//! A session (§6.3) whose commands are values. Must not know what makes a command take effect once:
//! [`crate::Session`] does.

use super::node::{bytes_of, outcome};
use super::{ProposeError, TypedMachine, TypedNode};
use crate::{Session, SessionCommand};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A [`Session`] with a machine in its own types.
pub struct TypedSession<M> {
    session: Session,
    machine: PhantomData<fn(M)>,
}

/// A [`SessionCommand`] of such a session.
pub struct TypedCommand<M> {
    command: SessionCommand,
    machine: PhantomData<fn(M)>,
}

impl<M> Clone for TypedSession<M> {
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), machine: PhantomData }
    }
}

impl<M> fmt::Debug for TypedSession<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedSession").field("session", &self.session).finish()
    }
}

impl<M> fmt::Debug for TypedCommand<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCommand").field("command", &self.command).finish()
    }
}

impl<M: TypedMachine> TypedSession<M> {
    /// The same session, after [`crate::Node::resume_session`] for instance.
    #[must_use]
    pub const fn new(session: Session) -> Self {
        Self { session, machine: PhantomData }
    }

    /// The session itself: its key, its end, signs of life.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Proposes a command that takes effect once or never, as [`Session::propose`] does.
    ///
    /// # Errors
    ///
    /// [`ProposeError`]; after [`ProposeError::Unknown`] it may still take effect, once.
    pub async fn propose(
        &self,
        command: &M::Command,
        timeout: Duration,
    ) -> Result<M::Reply, ProposeError> {
        self.command(command)?.send(timeout).await
    }

    /// Gives a command its number; nothing is sent. Who keeps it may send it again.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Command`], or [`ProposeError::NotAppended`] if too many commands are open.
    pub fn command(&self, command: &M::Command) -> Result<TypedCommand<M>, ProposeError> {
        let bytes = bytes_of::<M>(command)?;
        let command = self.session.command(bytes).map_err(ProposeError::NotAppended)?;
        Ok(TypedCommand { command, machine: PhantomData })
    }
}

impl<M: TypedMachine> TypedCommand<M> {
    /// Sends the command, again if it was sent before, as [`SessionCommand::send`] does.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], of all its sendings.
    pub async fn send(&self, timeout: Duration) -> Result<M::Reply, ProposeError> {
        outcome::<M>(self.command.send(timeout).await)
    }

    /// The same through another node.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], of all its sendings.
    pub async fn send_through(
        &self,
        node: &TypedNode<M>,
        timeout: Duration,
    ) -> Result<M::Reply, ProposeError> {
        outcome::<M>(self.command.send_through(node.node(), timeout).await)
    }
}
