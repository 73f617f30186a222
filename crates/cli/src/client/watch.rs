//! `quorate watch`. Shows what happens, and goes on through lost connections and members: it resumes
//! on whichever endpoint is alive, right after what it has shown.

use super::connection::{Connection, Format, Live};
use super::wire::is_stale;
use super::{ClientVerb, KeyRange, json, show};
use anyhow::bail;
use futures_util::stream::{self, StreamExt};
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Streaming};

/// Between two attempts to go on.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  quorate watch greeting                   until Ctrl-C
  quorate watch --prefix g                 every key that starts with g
  quorate watch --prefix g --rev 5         what happened since revision 5, then what happens
  quorate watch --prefix \"\" -w json       every key, one JSON object a line";

/// Shows changes of a key, or of a range of keys, as they happen.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
pub(crate) struct Watch {
    /// Which key; the first of a range
    #[arg(value_name = "KEY")]
    key: OsString,
    /// The first key after the range
    #[arg(value_name = "RANGE_END", conflicts_with_all = ["prefix", "from_key"])]
    range_end: Option<OsString>,
    /// Watch every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Watch KEY and every key after it
    #[arg(long)]
    from_key: bool,
    /// Begin with this revision instead of with the next change
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    rev: i64,
    /// Show what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Tell from time to time how far an idle watch is
    #[arg(long)]
    progress_notify: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Why a stream of responses ended.
#[derive(Debug)]
enum End {
    /// The connection or the member is gone; another may go on.
    Lost(String),
    /// Nobody can go on.
    Failed(anyhow::Error),
}

impl ClientVerb for Watch {
    async fn execute(self) -> anyhow::Result<()> {
        let (mut next, mut standing) = (self.rev, Standing::default());
        // Who starts it without a cluster wants to know that; later the cluster may come back.
        let mut live = Some(self.connection.live().await?);
        loop {
            let end = match live.take() {
                Some(live) => self.follow(&live, &mut next, &mut standing).await,
                None => match self.connection.live().await {
                    Ok(found) => {
                        live = Some(found);
                        continue;
                    }
                    Err(error) => End::Lost(format!("{error:#}")),
                },
            };
            match end {
                End::Failed(error) => return Err(error),
                End::Lost(why) => note(&format!("{why}; going on from revision {next}")),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl Watch {
    /// Shows what one endpoint tells. `next` is the first revision that was not shown.
    async fn follow(&self, live: &Live, next: &mut i64, standing: &mut Standing) -> End {
        match self.begin(live, *next).await {
            Ok(mut responses) => loop {
                match responses.message().await {
                    Ok(Some(response)) => {
                        if standing.has_grown_old(&response) {
                            self.connection.log_in_again();
                            return End::Lost("the login has grown old".to_owned());
                        }
                        if let Err(error) = self.heed(&response, next) {
                            return End::Failed(error);
                        }
                    }
                    Ok(None) => return End::Lost(format!("{} ended the watch", live.address())),
                    Err(status) => return end_of(live, &status),
                }
            },
            Err(status) => end_of(live, &status),
        }
    }

    async fn begin(
        &self,
        live: &Live,
        next: i64,
    ) -> Result<Streaming<WatchResponse>, tonic::Status> {
        let create =
            WatchRequest { request_union: Some(RequestUnion::CreateRequest(self.request(next))) };
        // The stream stays open for as long as we listen.
        let requests = stream::iter([create]).chain(stream::pending());
        let mut request = Request::new(requests);
        // A member that is cut off would leave us waiting.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        Ok(live.watch().watch(request).await?.into_inner())
    }

    fn request(&self, start_revision: i64) -> WatchCreateRequest {
        let range = KeyRange::new(&self.key, self.range_end.as_ref(), self.prefix, self.from_key);
        WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            start_revision,
            prev_kv: self.prev_kv,
            progress_notify: self.progress_notify,
            ..WatchCreateRequest::default()
        }
    }

    /// Shows a response, and notes how far it goes.
    fn heed(&self, response: &WatchResponse, next: &mut i64) -> anyhow::Result<()> {
        if response.compact_revision != 0 {
            bail!(
                "what happened before revision {} is forgotten (compacted); `--rev {}` shows the rest",
                response.compact_revision,
                response.compact_revision
            );
        }
        if response.canceled {
            bail!("the watch was refused: {}", response.cancel_reason);
        }
        *next = following(response, *next);
        self.show(response)
    }

    fn show(&self, response: &WatchResponse) -> anyhow::Result<()> {
        match self.connection.write_out {
            Format::Json if response.created => Ok(()),
            Format::Json => json::print(&json::watch(response)),
            Format::Simple | Format::Table | Format::Fields => {
                let is_progress = response.events.is_empty() && !response.created;
                if is_progress && let Some(header) = &response.header {
                    println!("progress notify: {}", header.revision);
                }
                response.events.iter().try_for_each(show::event)
            }
        }
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
