//! `quorate make-mirror`. Copies the keys of a prefix to another cluster and follows their changes there, one
//! transaction for each revision. Must not know how either cluster is reached.

mod destination;
mod reach;

use super::connection::{Connection, Kind};
use super::follow::Following;
use super::{ClientVerb, KeyRange, bytes};
use crate::go::parse_integer;
use bytes::Bytes;
use destination::DestinationFlags;
use quorate_etcd_api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    WatchCreateRequest, request_op::Request,
};
use quorate_etcd_api::mvccpb::Event;
use quorate_etcd_api::mvccpb::event::EventType;
use reach::Reach;
pub(crate) use reach::is_passing;
use std::ffi::OsString;
use std::time::Duration;

/// How many keys are asked for at a time.
const PAGE_COUNT: i64 = 1000;

/// A transaction is full when its keys and values take up as much: clusters refuse larger ones.
const TXN_BYTES_MAX: usize = 512 << 10;

/// Between two lines that say how much was copied.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  quorate make-mirror other:2379                              everything, until Ctrl-C
  quorate make-mirror other:2379 --prefix app/                what begins with app/
  quorate make-mirror other:2379 --prefix app/ --dest-prefix old/app/
  quorate make-mirror other:2379 --prefix app/ --no-dest-prefix      app/x becomes x
  quorate make-mirror other:2379 --rev 7000                   only what changes from revision 7000 on
It prints how many changes were copied every 30 seconds. Leases are not copied; what is deleted while it is not
running is not noticed, unless it begins again with --rev and a revision from before.";

/// Copies keys to another cluster, and follows their changes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MakeMirror {
    #[command(flatten)]
    destination: DestinationFlags,
    /// Which keys: those that begin with this
    #[arg(long, default_value = "", value_name = "PREFIX")]
    prefix: OsString,
    /// What they begin with at the destination, instead of PREFIX [default: PREFIX]
    #[arg(long, value_name = "PREFIX", conflicts_with = "no_dest_prefix")]
    dest_prefix: Option<OsString>,
    /// They begin with nothing there, instead of PREFIX
    #[arg(long)]
    no_dest_prefix: bool,
    /// Copy what changes from this revision on, and not what is there; 0 to copy both
    #[arg(
        long, default_value_t = 0, value_parser = parse_integer, allow_negative_numbers = true,
        value_name = "REVISION"
    )]
    rev: i64,
    /// The most changes in one transaction at the destination
    #[arg(
        long, default_value_t = 128, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    max_txn_ops: u64,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for MakeMirror {
    async fn execute(self) -> anyhow::Result<()> {
        let mut mirror = Mirror {
            source: Reach::new(self.connection.clone()),
            destination: Reach::new(self.destination.connection(&self.connection)?),
            names: self.names(),
            ops_max: usize::try_from(self.max_txn_ops).unwrap_or(usize::MAX),
            range: KeyRange::new(&self.prefix, None, true, false),
            copied_count: 0,
            ops: Vec::new(),
            ops_bytes: 0,
        };
        mirror.run(self.rev, &self.connection).await
    }
}

impl MakeMirror {
    fn names(&self) -> Names {
        let from = bytes(&self.prefix);
        let to = match &self.dest_prefix {
            _ if self.no_dest_prefix => Bytes::new(),
            // As in etcdctl, nothing is the same as nothing said.
            Some(prefix) if !prefix.is_empty() => bytes(prefix),
            Some(_) | None => from.clone(),
        };
        Names { from, to }
    }
}

/// What keys are called here and there.
struct Names {
    from: Bytes,
    to: Bytes,
}

impl Names {
    fn there(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(&*self.from).unwrap_or(key);
        [&*self.to, rest].concat().into()
    }
}

/// A mirror that is being made.
struct Mirror {
    source: Reach,
    destination: Reach,
    names: Names,
    ops_max: usize,
    range: KeyRange,
    copied_count: u64,
    /// What waits to be sent to the destination.
    ops: Vec<RequestOp>,
    ops_bytes: usize,
}

impl Mirror {
    async fn run(&mut self, rev: i64, source: &Connection) -> anyhow::Result<()> {
        let start_revision = if rev > 0 { rev } else { self.copy().await?.saturating_add(1) };
        let create = WatchCreateRequest {
            key: self.range.key.clone(),
            range_end: self.range.range_end.clone(),
            start_revision,
            ..WatchCreateRequest::default()
        };
        let mut following = Following::new(source, create);
        let mut ticks = tokio::time::interval(COUNT_INTERVAL);
        ticks.tick().await;
        loop {
            tokio::select! {
                response = following.next() => self.follow(&response?.events).await?,
                _ = ticks.tick() => println!("{}", self.copied_count),
            }
        }
    }

    /// Copies what is there; returns as of which revision.
    async fn copy(&mut self) -> anyhow::Result<i64> {
        let (mut revision, mut next) = (0, self.range.key.clone());
        loop {
            let page = self.page(&next, revision).await?;
            if revision == 0 {
                revision = page.header.as_ref().map_or(0, |header| header.revision);
            }
            let Some(last) = page.kvs.last() else { break };
            // The least key behind it.
            next = [&last.key[..], b"\0"].concat().into();
            for pair in page.kvs {
                self.put(&pair.key, pair.value).await?;
            }
            if !page.more {
                break;
            }
        }
        self.send().await?;
        eprintln!(
            "{} keys of revision {revision} are copied; following their changes",
            self.copied_count
        );
        Ok(revision)
    }

    /// Some keys from `next` on, as of `revision`.
    async fn page(&mut self, next: &Bytes, revision: i64) -> anyhow::Result<RangeResponse> {
        let request = RangeRequest {
            key: next.clone(),
            range_end: self.range.range_end.clone(),
            limit: PAGE_COUNT,
            revision,
            ..RangeRequest::default()
        };
        let asked = self.source.ask(async |live, source| {
            let mut kv = live.kv();
            source.answer(live, Kind::Read, kv.range(source.request(request.clone()))).await
        });
        asked.await
    }

    /// Copies changes: those of one revision together, as far as a transaction takes them.
    async fn follow(&mut self, events: &[Event]) -> anyhow::Result<()> {
        let mut revision = 0;
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if kv.mod_revision != revision {
                self.send().await?;
                revision = kv.mod_revision;
            }
            match event.r#type() {
                EventType::Put => self.put(&kv.key, kv.value.clone()).await?,
                EventType::Delete => {
                    let key = self.names.there(&kv.key);
                    let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
                    let size = request.key.len();
                    self.add(Request::RequestDeleteRange(request), size).await?;
                }
            }
        }
        self.send().await
    }

    async fn put(&mut self, key: &[u8], value: Bytes) -> anyhow::Result<()> {
        let request = PutRequest { key: self.names.there(key), value, ..PutRequest::default() };
        let size = request.key.len() + request.value.len();
        self.add(Request::RequestPut(request), size).await
    }

    async fn add(&mut self, request: Request, size: usize) -> anyhow::Result<()> {
        let is_full = self.ops.len() >= self.ops_max || self.ops_bytes + size > TXN_BYTES_MAX;
        if is_full {
            self.send().await?;
        }
        self.ops.push(RequestOp { request: Some(request) });
        self.ops_bytes += size;
        Ok(())
    }

    /// Sends what waits. It may be sent again: to put or delete the same twice changes nothing.
    async fn send(&mut self) -> anyhow::Result<()> {
        let success = std::mem::take(&mut self.ops);
        self.ops_bytes = 0;
        if success.is_empty() {
            return Ok(());
        }
        let count = success.len();
        let request = TxnRequest { success, ..TxnRequest::default() };
        let asked = self.destination.ask(async |live, there| {
            let mut kv = live.kv();
            there.answer(live, Kind::Write, kv.txn(there.request(request.clone()))).await
        });
        asked.await?;
        self.copied_count += u64::try_from(count).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: &str, to: &str) -> Names {
        Names { from: Bytes::from(from.to_owned()), to: Bytes::from(to.to_owned()) }
    }

    #[test]
    fn keys_get_another_beginning_once() {
        assert_eq!(names("", "").there(b"a"), "a");
        assert_eq!(names("a/", "a/").there(b"a/b"), "a/b");
        assert_eq!(names("a/", "b/c/").there(b"a/a/x"), "b/c/a/x");
        assert_eq!(names("a/", "").there(b"a/"), "");
        assert_eq!(names("", "old/").there(b"x"), "old/x");
    }
}
