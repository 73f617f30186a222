//! A session in a client's hand (§6.3): it numbers commands, remembers which of them may be sent
//! again, and sends. What a number means is decided where the log is applied.

use super::builder::entropy;
use super::{Node, lock};
use crate::{Doubt, Fate, Input, Refusal, SessionId, SessionKey, SessionRequest};
use bytes::Bytes;
use quorate_core::Time;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// A session with the cluster: each of its commands takes effect once, however often it is sent,
/// through whatever node, whoever leads. Clones are handles to the same session.
///
/// A session lives in the replicated state, not in this handle: it outlives leaders and nodes, and
/// a client that restarts can go on with it ([`Node::resume_session`]). It ends with
/// [`Session::close`], or when it is idle for longer than [`crate::SessionLimits::idle_max`], or
/// gives way to others at [`crate::SessionLimits::sessions_count_max`]; commands are answered
/// [`crate::SessionRefusal::Expired`] then, and a new one has to be opened.
///
/// ```
/// # use quorate::{Committed, Fatal, Fate, Node, QueryError, Replies, SnapshotView, StateMachine};
/// # use std::time::Duration;
/// # struct Nothing;
/// # impl StateMachine for Nothing {
/// #     fn applied(&self) -> quorate::LogIndex { quorate::LogIndex::ORIGIN }
/// #     fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
/// #         batch.iter().for_each(|entry| replies.push(entry.command.clone()));
/// #         Ok(())
/// #     }
/// #     fn query(&self, _: &[u8]) -> Result<bytes::Bytes, QueryError> { Ok("pong".into()) }
/// #     fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> { Err(Fatal::new("no")) }
/// #     fn restore(&mut self, _: quorate::LogId, _: &mut dyn std::io::Read) -> Result<(), Fatal> {
/// #         Ok(())
/// #     }
/// # }
/// # let dir = tempfile::tempdir().unwrap();
/// # let patience = Duration::from_secs(5);
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let node = Node::builder(1, dir.path()).start(Nothing).await?;
/// let session = node.open_session(patience).await?;
/// let fate = session.propose("a command", patience).await;
/// # assert!(matches!(fate, Fate::Applied { .. }));
///
/// // To ask again after an unknown outcome, keep the command:
/// let transfer = session.command("another command")?;
/// let first = transfer.send(patience).await;
/// let again = transfer.send(patience).await;
/// assert_eq!(first, again, "applied once, and answered alike");
/// session.close(patience).await;
/// # drop(transfer);
/// # node.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    node: Node,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: SessionKey,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    /// Those that may be sent again.
    open: BTreeSet<u64>,
    /// Those among them that an earlier life of the client used, and that nobody has taken up.
    in_doubt: BTreeSet<u64>,
}

/// A numbered command of a session. While it is held its number is open, and sending it again is
/// answered like the first time; when it is dropped the replicas may forget its reply.
#[derive(Debug)]
pub struct SessionCommand {
    session: Session,
    number: u64,
    command: Bytes,
    /// Why an earlier sending may still take effect.
    doubt: Mutex<Option<Doubt>>,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSessionError {
    /// It was not opened; try again.
    #[error("the session was not opened: {0}")]
    NotOpened(#[source] Refusal),
    /// It may have been opened, or may be still, and will expire. Try again, for another.
    #[error("whether the session was opened is not known: {0}")]
    Unknown(#[source] Doubt),
    /// The state machine is durable by itself and keeps no notes for the node; see
    /// [`crate::StateMachine::notebook`].
    #[error("the state machine keeps no notes, and so cannot serve sessions")]
    Unsupported,
}

impl Node {
    /// Opens a session, at the latest within `timeout` and a fraction of a second.
    ///
    /// # Errors
    ///
    /// [`OpenSessionError`]; any of them may be followed by another try but `Unsupported`.
    pub async fn open_session(&self, timeout: Duration) -> Result<Session, OpenSessionError> {
        if !self.inner.shared.keeps_sessions {
            return Err(OpenSessionError::Unsupported);
        }
        let secret = entropy();
        let mut doubt = None;
        let fate = self.send_until(|| SessionRequest::Open { secret }, timeout, &mut doubt).await;
        match fate {
            Fate::Applied { log_id, .. } => {
                let id = SessionId::new(log_id.index.get());
                Ok(self.resume_session(SessionKey { id, secret }, 1, []))
            }
            Fate::NotAppended(refusal) => Err(OpenSessionError::NotOpened(refusal)),
            Fate::Unknown(doubt) => Err(OpenSessionError::Unknown(doubt)),
            // A lost one was without effect until the time was up; nothing refuses to open.
            Fate::Lost { .. } | Fate::Refused(_) => {
                Err(OpenSessionError::NotOpened(Refusal::NoLeader))
            }
        }
    }

    /// Goes on with a session that an earlier life of the client opened, without asking anybody:
    /// its first command tells if it has expired. `next` is above every number that was ever used;
    /// `in_doubt` are those whose outcome the client does not know: [`Session::again`] sends them
    /// again. A client that wants this stores [`Session::key`] once, and number and command before
    /// it sends.
    pub fn resume_session(
        &self,
        key: SessionKey,
        next: u64,
        in_doubt: impl IntoIterator<Item = u64>,
    ) -> Session {
        let in_doubt: BTreeSet<u64> = in_doubt.into_iter().collect();
        let next = in_doubt.last().map_or(next, |last| next.max(last.saturating_add(1))).max(1);
        let numbers = Mutex::new(Numbers { next, open: in_doubt.clone(), in_doubt });
        Session { node: self.clone(), inner: Arc::new(Inner { key, numbers }) }
    }

    /// Sends a request until its fate is known or the time is up. `doubt` is why an earlier sending
    /// may still take effect, before and after.
    async fn send_until(
        &self,
        request: impl Fn() -> SessionRequest,
        timeout: Duration,
        doubt: &mut Option<Doubt>,
    ) -> Fate {
        let clock = self.inner.shared.clock;
        let deadline = clock.now().after(timeout);
        let mut is_retry = false;
        loop {
            let fate = self.send_once(request(), deadline, is_retry).await;
            let may_go_on = match &fate {
                Fate::Applied { .. } | Fate::Refused(_) => return fate,
                Fate::Lost { .. } => true,
                Fate::NotAppended(refusal) => match refusal {
                    Refusal::NoLeader | Refusal::Transferring { .. } => true,
                    Refusal::Overloaded { .. } | Refusal::Stopped => false,
                },
                Fate::Unknown(reason) => {
                    *doubt = Some(*reason);
                    match reason {
                        Doubt::ConnectionLost { .. } | Doubt::Superseded => true,
                        Doubt::Deadline | Doubt::Stopped => false,
                    }
                }
            };
            if !may_go_on || clock.now() >= deadline {
                return doubt.map_or(fate, Fate::Unknown);
            }
            is_retry = true;
        }
    }

    async fn send_once(&self, request: SessionRequest, deadline: Time, is_retry: bool) -> Fate {
        let (size_bytes, limit) = (request.size_bytes(), self.inner.command_bytes_max);
        if size_bytes > limit {
            let what = "a single command";
            return Fate::NotAppended(Refusal::Overloaded { what, limit, unit: "bytes" });
        }
        let (sender, fate) = oneshot::channel();
        let request = Box::new(request);
        let input = |ticket| Input::ProposeInSession { ticket, request, deadline, is_retry };
        match self.request(self.proposal(sender), (size_bytes, deadline), input) {
            Ok(()) => fate.await.unwrap_or(Fate::Unknown(Doubt::Stopped)),
            Err(refusal) => Fate::NotAppended(refusal),
        }
    }
}

impl Session {
    /// What names the session, for [`Node::resume_session`].
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.inner.key
    }

    /// The same session through another node.
    #[must_use]
    pub fn through(&self, node: &Node) -> Self {
        Self { node: node.clone(), inner: Arc::clone(&self.inner) }
    }

    /// Proposes a command that takes effect once or never, and returns what became of it: it is
    /// sent again as long as that is not known and there is time. After [`Fate::Unknown`] it may
    /// still take effect, once; who must know keeps the command ([`Session::command`]) and sends it
    /// again.
    ///
    /// Several may be under way at the same time; the order in which they take effect is open
    /// then.
    pub async fn propose(&self, command: impl Into<Bytes>, timeout: Duration) -> Fate {
        match self.command(command) {
            Ok(command) => command.send(timeout).await,
            Err(refusal) => Fate::NotAppended(refusal),
        }
    }

    /// Gives a command its number; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`Refusal::Overloaded`] if too many commands lie between the first one that is still held
    /// and this one; see [`crate::SessionLimits::replies_count_max`].
    pub fn command(&self, command: impl Into<Bytes>) -> Result<SessionCommand, Refusal> {
        let limit = self.node.inner.open_commands_count_max;
        let mut numbers = lock(&self.inner.numbers);
        let number = numbers.next;
        let first_open = numbers.open.first().copied().unwrap_or(number);
        if number - first_open >= u64::try_from(limit).unwrap_or(u64::MAX) {
            let (what, unit) = ("open commands of a session", "commands");
            return Err(Refusal::Overloaded { what, limit, unit });
        }
        numbers.next = number.saturating_add(1);
        numbers.open.insert(number);
        drop(numbers);
        Ok(self.numbered(number, command.into(), None))
    }

    /// Takes up a command of an earlier life of the client, which must be the same as then; `None`
    /// if its number is not among those in doubt.
    #[must_use]
    pub fn again(&self, number: u64, command: impl Into<Bytes>) -> Option<SessionCommand> {
        let was_in_doubt = lock(&self.inner.numbers).in_doubt.remove(&number);
        was_in_doubt.then(|| self.numbered(number, command.into(), Some(Doubt::Stopped)))
    }

    fn numbered(&self, number: u64, command: Bytes, doubt: Option<Doubt>) -> SessionCommand {
        SessionCommand { session: self.clone(), number, command, doubt: Mutex::new(doubt) }
    }

    /// A sign of life, for a session that would be idle for too long.
    pub async fn keep_alive(&self, timeout: Duration) -> Fate {
        let session = self.inner.key;
        self.node.send_until(|| SessionRequest::KeepAlive { session }, timeout, &mut None).await
    }

    /// Ends the session: the replicas forget it, and none of its commands takes effect any more.
    pub async fn close(&self, timeout: Duration) -> Fate {
        let session = self.inner.key;
        self.node.send_until(|| SessionRequest::Close { session }, timeout, &mut None).await
    }
}

impl SessionCommand {
    /// The command's number in its session.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Sends the command, again if it was sent before, and returns what became of it, of all its
    /// sendings: `Applied` with the reply to the first that took effect; `NotAppended` or `Lost`
    /// only if none can have had an effect so far.
    pub async fn send(&self, timeout: Duration) -> Fate {
        self.send_through(&self.session.node, timeout).await
    }

    /// As [`SessionCommand::send`], through another node.
    pub async fn send_through(&self, node: &Node, timeout: Duration) -> Fate {
        let mut doubt = *lock(&self.doubt);
        let fate = node.send_until(|| self.request(), timeout, &mut doubt).await;
        *lock(&self.doubt) = doubt;
        fate
    }

    fn request(&self) -> SessionRequest {
        let numbers = lock(&self.session.inner.numbers);
        let first_open = numbers.open.first().copied().unwrap_or(self.number);
        SessionRequest::Command {
            session: self.session.inner.key,
            number: self.number,
            first_open: first_open.min(self.number),
            command: self.command.clone(),
        }
    }
}

impl Drop for SessionCommand {
    fn drop(&mut self) {
        lock(&self.session.inner.numbers).open.remove(&self.number);
    }
}
