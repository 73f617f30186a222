//! A watch that goes on through lost connections and members: it resumes on whichever endpoint is alive,
//! right after what it has told. Must not know what is done with what it tells.

use super::connection::{Connection, Live};
use super::ending::Ending;
use super::wire::is_stale;
use futures_util::stream::{self, StreamExt};
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Streaming};

/// Between two attempts to go on.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Following<'a> {
    connection: &'a Connection,
    /// What is watched; it begins with the first revision that was not told.
    create: WatchCreateRequest,
    standing: Standing,
    /// Asks how far the watch is.
    progress: Arc<Notify>,
    way: Option<Way>,
    /// Who starts it without a cluster wants to know that; later the cluster may come back.
    was_there: bool,
}

/// The stream of one endpoint.
struct Way {
    live: Live,
    responses: Streaming<WatchResponse>,
}

/// Why a stream of responses ended.
enum End {
    /// The connection or the member is gone; another may go on.
    Lost(String),
    /// Nobody can go on.
    Failed(anyhow::Error),
}

impl<'a> Following<'a> {
    pub(super) fn new(connection: &'a Connection, create: WatchCreateRequest) -> Self {
        Self {
            connection,
            create,
            standing: Standing::default(),
            progress: Arc::default(),
            way: None,
            was_there: false,
        }
    }

    /// Notifying this asks the endpoint how far the watch is; the answer comes in its turn.
    pub(super) fn progress(&self) -> Arc<Notify> {
        Arc::clone(&self.progress)
    }

    /// What the cluster tells next. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// If nobody answers at the beginning, or nobody can go on.
    pub(super) async fn next(&mut self) -> anyhow::Result<WatchResponse> {
        loop {
            let end = match &mut self.way {
                Some(way) => match way.responses.message().await {
                    Ok(Some(response)) => match self.heed(&response) {
                        Ok(()) => return Ok(response),
                        Err(end) => end,
                    },
                    Ok(None) => End::Lost(format!("{} ended the watch", way.live.address())),
                    Err(status) => end_of(&way.live, &status),
                },
                None => match self.begin().await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
            };
            self.way = None;
            match end {
                End::Failed(error) => return Err(error),
                End::Lost(why) => {
                    note(&format!("{why}; going on from revision {}", self.create.start_revision));
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn begin(&mut self) -> Result<(), End> {
        let live = match self.connection.live().await {
            Ok(live) => live,
            Err(error) if self.was_there => return Err(End::Lost(format!("{error:#}"))),
            Err(error) => return Err(End::Failed(error)),
        };
        self.was_there = true;
        let create = RequestUnion::CreateRequest(self.create.clone());
        let create = WatchRequest { request_union: Some(create) };
        // The stream stays open for as long as we listen.
        let asked = stream::unfold(Arc::clone(&self.progress), async |progress| {
            progress.notified().await;
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            Some((WatchRequest { request_union: Some(request) }, progress))
        });
        let mut request = Request::new(Box::pin(stream::iter([create]).chain(asked)));
        // A member that is cut off would leave us waiting.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        match live.watch().watch(request).await {
            Ok(responses) => {
                let responses = responses.into_inner();
                self.way = Some(Way { live, responses });
                Ok(())
            }
            Err(status) => Err(end_of(&live, &status)),
        }
    }

    /// Notes how far a response goes.
    fn heed(&mut self, response: &WatchResponse) -> Result<(), End> {
        if self.standing.has_grown_old(response) {
            self.connection.log_in_again();
            return Err(End::Lost("the login has grown old".to_owned()));
        }
        if response.compact_revision != 0 {
            let ending = Ending::Compacted { revision: response.compact_revision };
            return Err(End::Failed(ending.into()));
        }
        if response.canceled {
            let ending = Ending::WatchRefused { reason: response.cancel_reason.clone() };
            return Err(End::Failed(ending.into()));
        }
        self.create.start_revision = following(response, self.create.start_revision);
        Ok(())
    }
}

/// Whether a login was good, so that it is worth another one once it is not.
#[derive(Debug, Default)]
struct Standing {
    was_good: bool,
}

impl Standing {
    /// Whether a response refuses what the last one did not.
    fn has_grown_old(&mut self, response: &WatchResponse) -> bool {
        if !response.canceled {
            self.was_good = true;
            return false;
        }
        is_stale(&response.cancel_reason) && std::mem::take(&mut self.was_good)
    }
}

/// Whether another endpoint could go on.
fn end_of(live: &Live, status: &tonic::Status) -> End {
    let why = format!("{}: {}", live.address(), status.message());
    match status.code() {
        Code::Unimplemented
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated => End::Failed(anyhow::anyhow!(why)),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => End::Lost(why),
    }
}

/// The first revision after what this response tells.
fn following(response: &WatchResponse, next: i64) -> i64 {
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    let last = response.events.iter().filter_map(|event| event.kv.as_ref());
    let told = match last.map(|kv| kv.mod_revision).max() {
        Some(last) => last,
        // A watch that begins now begins after this revision; another keeps its beginning.
        None if response.created && next != 0 => return next,
        None => revision,
    };
    next.max(told.saturating_add(1))
}

/// Tells a person, on standard error: standard output holds nothing but what happened.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "quorate watch: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_etcd_api::etcdserverpb::ResponseHeader;
    use quorate_etcd_api::mvccpb::{Event, KeyValue};

    fn response(revision: i64, created: bool, events: &[i64]) -> WatchResponse {
        let header = ResponseHeader { revision, ..ResponseHeader::default() };
        let event = |mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision: *mod_revision, ..KeyValue::default() }),
            ..Event::default()
        };
        let events = events.iter().map(event).collect();
        WatchResponse { header: Some(header), created, events, ..WatchResponse::default() }
    }

    #[test]
    fn a_watch_goes_on_after_its_events_its_bookmarks_and_its_beginning() {
        assert_eq!(following(&response(7, true, &[]), 0), 8, "begins now");
        assert_eq!(following(&response(7, true, &[]), 3), 3, "begins in the past");
        assert_eq!(following(&response(7, true, &[]), 12), 12, "begins in the future");
        assert_eq!(following(&response(9, false, &[4, 5]), 4), 6, "after events");
        assert_eq!(following(&response(9, false, &[]), 4), 10, "after a bookmark");
    }

    #[test]
    fn a_login_that_was_good_is_worth_another_one() {
        let canceled = |reason: &str| WatchResponse {
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..WatchResponse::default()
        };
        let old =
            canceled("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token");
        let mut standing = Standing::default();
        assert!(!standing.has_grown_old(&old), "it was never good");
        assert!(!standing.has_grown_old(&WatchResponse::default()));
        assert!(!standing.has_grown_old(&canceled("etcdserver: permission denied")));
        assert!(standing.has_grown_old(&old));
        assert!(!standing.has_grown_old(&old), "once");
    }
}
