//! How a call gets its place in a line and waits for its turn: until nobody older is there. Must not
//! know what is gained by it.

use super::claims::{Claim, Enter, Errand, Leave};
use super::party::{News, Party, Watched};
use super::requests::{Entry, Line, Place, leave};
use crate::admission::Admitted;
use crate::errors::{RecipeRejection, Rejection};
use crate::service::Service;
use crate::service::gate::sender;
use crate::service::lease::RETRY_PAUSE;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use quorate_kv::api::{TxnRequest, TxnResponse};
use quorate_kv::lease::api::LeaseGrantRequest;
use quorate_kv::watch::WatchFilter;
use quorate_kv::{Access, CallerMessage, Command, CommandTag, Outcome};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many errands may be run at once.
const ERRANDS_COUNT_MAX: usize = 256;

/// The time to live in seconds of a lease that a call makes for itself: etcd's.
const SESSION_TTL_SECONDS: i64 = 60;

/// What a caller brings who wants to be in a line.
pub(super) struct Wish {
    pub(super) line: Line,
    /// 0 asks for one.
    pub(super) lease: i64,
    pub(super) value: Bytes,
}

/// A place in a line.
pub(super) struct Turn {
    pub(super) claim: Claim,
    pub(super) entry: Entry,
    pub(super) lease: i64,
}

impl Service {
    /// Puts a caller into a line, or finds their place in it. The request counts as one in progress
    /// until then, and no longer.
    pub(super) async fn take_place(
        &self,
        wish: &Wish,
        access: &Access,
        place: Admitted<'_>,
    ) -> Result<Turn, Rejection> {
        let deadline = Instant::now() + self.options.request_timeout;
        let lease = self.session_lease(wish.lease, deadline, access).await?;
        let key = wish.line.key(lease);
        let begun = tokio::time::timeout_at(deadline, self.claims.begin(key.clone())).await;
        let claim = begun.map_err(|_| Rejection::TimedOut)??;
        let request = wish.line.enter(&key, wish.value.clone(), lease);
        let command = self.command_of(&request, access)?;
        self.check_space(command.len(), deadline).await?;
        let (answer, entered) = oneshot::channel();
        self.claims.send(Errand::Enter(Enter { claim, command, deadline, answer }));
        // The task is gone if nobody answers.
        let (claim, entry) = entered.await.unwrap_or(Err(Rejection::Stopped))?;
        drop(place);
        Ok(Turn { claim, entry, lease })
    }

    /// The lease that a caller names, or else one that nobody renews.
    pub(super) async fn session_lease(
        &self,
        lease: i64,
        deadline: Instant,
        access: &Access,
    ) -> Result<i64, Rejection> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, id: 0 };
        Ok(self.granted(request, deadline, access).await?.id)
    }

    /// A transaction on somebody's behalf, as it goes into the log.
    fn command_of(&self, request: &TxnRequest, access: &Access) -> Result<Bytes, Rejection> {
        let request = request.encode_to_vec();
        if request.len() > self.options.request_bytes_max {
            return Err(Rejection::RequestTooLarge);
        }
        Ok(Command::wrap_for(CommandTag::Txn, &request, sender(access).as_ref()))
    }

    /// Carries out a transaction on somebody's behalf.
    pub(super) async fn transact(
        &self,
        request: &TxnRequest,
        deadline: Instant,
        access: &Access,
    ) -> Result<TxnResponse, Rejection> {
        let command = self.command_of(request, access)?;
        if quorate_kv::may_put(request) {
            self.check_space(command.len(), deadline).await?;
        }
        self.transaction(command, deadline).await
    }

    async fn transaction(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<TxnResponse, Rejection> {
        let outcome = self.outcome_of(command, deadline).await?;
        let Outcome::Txn(mut answer) = outcome else { return Err(Rejection::Internal) };
        self.origin().complete(&mut answer.header);
        Ok(answer)
    }

    /// Runs the errands of those who wait, for as long as it is polled.
    pub(crate) async fn run_errands(&self) {
        let claims = &self.claims;
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = claims.arrived(), if under_way.len() < ERRANDS_COUNT_MAX => {}
                Some(()) = under_way.next() => {}
            }
            while under_way.len() < ERRANDS_COUNT_MAX
                && let Some(errand) = claims.take()
            {
                under_way.push(self.run(errand));
            }
        }
    }

    async fn run(&self, errand: Errand) {
        match errand {
            Errand::Enter(enter) => self.run_enter(enter).await,
            Errand::Leave(leave) => self.run_leave(leave).await,
        }
    }

    async fn run_enter(&self, enter: Enter) {
        let Enter { mut claim, command, deadline, answer } = enter;
        if answer.is_closed() {
            return;
        }
        let answered = self.transaction(command, deadline).await;
        let entry = answered.and_then(|answer| Entry::of(answer).ok_or(Rejection::Internal));
        let entered = entry.map(|entry| {
            claim.entered(entry.revision);
            if entry.found.is_some() && entry.is_first {
                // It was theirs before they asked.
                claim.won();
            }
            (claim, entry)
        });
        // The claim of who left meanwhile ends with this.
        let _ = answer.send(entered);
    }

    /// A member takes out of the line what it has put there for a caller, on its own account: who may
    /// not delete it any more must not stand in others' way for ever.
    async fn run_leave(&self, errand: Leave) {
        let request = leave(&errand.key, errand.revision).encode_to_vec();
        let own_account = CallerMessage::system();
        let command = Command::wrap_for(CommandTag::Txn, &request, Some(&own_account));
        loop {
            let deadline = Instant::now() + self.options.request_timeout;
            match self.transaction(command.clone(), deadline).await {
                Ok(_) | Err(Rejection::Stopped | Rejection::Op(_) | Rejection::Internal) => return,
                // Without a leader it takes as long as it takes; trying twice does no harm.
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }
}

/// Waits until it is the turn of the one who has `claim`; the header of what showed it.
///
/// Each waits for the one in front of them alone, so that few are woken when somebody leaves; and for
/// their own key, without which there is nothing to wait for.
pub(super) async fn wait(
    party: &Party,
    line: &Line,
    claim: &Claim,
    revision: i64,
    if_lost: fn() -> RecipeRejection,
) -> Result<quorate_kv::ResponseHeader, Rejection> {
    loop {
        let request = line.look(claim.key(), revision);
        let answer =
            party.look(move |reader, access| reader.txn_read_only_for(access, &request)).await?;
        let place = answer.and_then(|answer| Place::of(answer, revision));
        let place = place.ok_or(Rejection::Internal)?;
        if !place.is_kept {
            claim.lost();
            return Err(if_lost().into());
        }
        let Some(before) = place.before else { return Ok(place.header) };
        until_deleted(party, line, [claim.key().clone(), before], place.header.revision).await?;
    }
}

/// Returns when one of the keys may have been deleted after that revision.
async fn until_deleted(
    party: &Party,
    line: &Line,
    keys: [Bytes; 2],
    after: i64,
) -> Result<(), Rejection> {
    let unwanted = Some(WatchFilter::NoPut);
    let watched = keys.map(|key| Watched { key, range_end: Bytes::new(), unwanted });
    let mut session = party.watch(watched.into(), after);
    loop {
        match party.judge(session.next(true).await?, line)? {
            News::Heard(response) if response.events.is_empty() => {}
            News::Heard(_) | News::Missed => return Ok(()),
        }
    }
}
