//! Somebody on whose behalf locks and elections are read and watched, which may take long: their name
//! is asked once, their rights whenever something is read. Must not know what a recipe does.

use super::requests::Line;
use crate::errors::Rejection;
use crate::service::watch::{Sights, WatchSession};
use crate::service::{Service, kv, time_left};
use bytes::Bytes;
use quorate::{Consistency, Node};
use quorate_kv::watch::{WatchCreateRequest, WatchFilter, WatchResponse};
use quorate_kv::{Access, ReadError, Reader};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// See the module.
pub(crate) struct Party {
    node: Node,
    reader: Reader,
    scans: Arc<Semaphore>,
    sights: Sights,
    user: Option<Arc<str>>,
    /// Whether they would rather hear that there is no leader than wait for one.
    requires_leader: bool,
    /// How long one read may take.
    patience: Duration,
}

impl Service {
    pub(super) fn party(&self, access: &Access, requires_leader: bool) -> Party {
        let user = match access {
            Access::User { name, .. } => Some(name.as_ref().into()),
            Access::Nobody | Access::System => None,
        };
        Party {
            node: self.node.clone(),
            reader: self.reader.clone(),
            scans: Arc::clone(&self.scans),
            sights: self.sights(),
            user,
            requires_leader,
            patience: self.options.request_timeout,
        }
    }
}

impl Party {
    /// Who they are, with the rights that they have now.
    pub(super) fn access(&self) -> Access {
        access_of(self.user.as_ref(), &self.reader)
    }

    /// What `read` finds in a store that is as new as any acknowledged write.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader, &Access) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Rejection> {
        let deadline = Instant::now() + self.patience;
        self.node.read_barrier(Consistency::Linearizable, time_left(deadline)).await?;
        let (reader, user) = (self.reader.clone(), self.user.clone());
        let read = move || Ok(read(&reader, &access_of(user.as_ref(), &reader))?);
        kv::apart(&self.scans, deadline, read).await
    }

    /// A session that hears of what `watched` says, after that revision.
    pub(super) fn watch(&self, watched: Vec<Watched>, after: i64) -> WatchSession {
        let mut session = self.sights.session_of(self.user.clone(), self.requires_leader);
        for Watched { key, range_end, unwanted } in watched {
            session.create(&WatchCreateRequest {
                key,
                range_end,
                start_revision: after + 1,
                filters: unwanted.into_iter().map(i32::from).collect(),
                ..WatchCreateRequest::default()
            });
        }
        session
    }

    /// What happened, or that one has to look again; an error if there is nothing more to hear.
    pub(super) fn judge(&self, response: WatchResponse, line: &Line) -> Result<News, Rejection> {
        if response.compact_revision != 0 {
            return Ok(News::Missed);
        }
        if !response.canceled {
            return Ok(News::Heard(response));
        }
        // Because of their rights, or there are too many watches.
        self.reader.may_read(&self.access(), &line.from, &line.end)?;
        Err(Rejection::TooManyRequests)
    }
}

/// What a session hears of.
pub(super) struct Watched {
    pub(super) key: Bytes,
    pub(super) range_end: Bytes,
    pub(super) unwanted: Option<WatchFilter>,
}

/// What a session heard.
pub(super) enum News {
    /// Perhaps nothing: a watch began.
    Heard(WatchResponse),
    /// More than the store remembers.
    Missed,
}

fn access_of(user: Option<&Arc<str>>, reader: &Reader) -> Access {
    match user {
        Some(name) => {
            Access::User { name: name.as_ref().into(), revision: reader.auth().revision() }
        }
        None => Access::Nobody,
    }
}
