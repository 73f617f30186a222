//! Asks another cluster who registers there under a token, registers this node, and waits for the others,
//! as etcd's discovery does. What does not work is tried again, more and more rarely. Must not know what
//! becomes of the members.

use super::registry::{Keys, REGISTRATIONS_COUNT_MAX, Registry, read_size};
use crate::client::{Connection, Kind, Unreachable, is_passing, prefix_end};
use anyhow::bail;
use futures_util::stream::{self, StreamExt};
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    PutRequest, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
};
use std::time::Duration;
use tonic::Request;
use tonic::metadata::MetadataValue;

/// After so many failures the pauses grow no more.
const GROWTHS_COUNT_MAX: u32 = 8;

/// Who registers.
pub(super) struct Applicant<'a> {
    pub(super) id: u64,
    pub(super) name: &'a str,
    /// `name=url`, of several URLs each.
    pub(super) members: String,
}

/// The cluster that knows who registers.
pub(super) struct Service {
    connection: Connection,
    keys: Keys,
    /// In a row.
    failures_count: u32,
}

impl Service {
    pub(super) fn new(connection: Connection, token: &str) -> Self {
        Self { connection, keys: Keys::of(token), failures_count: 0 }
    }

    /// Registers a member and waits until everybody has come; returns who they are, as
    /// `--initial-cluster` names members.
    ///
    /// # Errors
    ///
    /// If there is no place for it, or what is asked is refused. Who does not answer is asked again.
    pub(super) async fn join(&mut self, applicant: &Applicant<'_>) -> anyhow::Result<String> {
        let key = self.keys.member(applicant.id);
        let (registry, _) = self.registry().await?;
        registry.check_place(&key, applicant.name)?;
        self.register(&key, &applicant.members).await?;
        loop {
            let (registry, revision) = self.registry().await?;
            // Others may have been faster since.
            registry.check_place(&key, applicant.name)?;
            let (found, size) = registry.counts();
            if registry.is_complete() {
                tracing::info!(size, "everybody has registered with the discovery service");
                return Ok(registry.initial_cluster()?);
            }
            tracing::info!(
                found,
                size,
                "waiting for others to register with the discovery service"
            );
            self.wait_for_more(revision).await?;
        }
    }

    /// Who has come, and as of which revision.
    async fn registry(&mut self) -> anyhow::Result<(Registry, i64)> {
        let size_key = self.keys.size();
        let request = RangeRequest { key: size_key.clone().into(), ..RangeRequest::default() };
        let size =
            self.ask("reading the size", async |it| range(it, request.clone()).await).await?;
        let size = read_size(size_key, size.kvs.first())?;
        let prefix = self.keys.members();
        let request = RangeRequest {
            range_end: prefix_end(prefix.as_bytes()),
            key: prefix.into(),
            limit: REGISTRATIONS_COUNT_MAX,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        };
        let found = self.ask("reading who is there", async |it| range(it, request.clone()).await);
        let found = found.await?;
        let revision = found.header.as_ref().map_or(0, |header| header.revision);
        Ok((Registry::read(size, &found.kvs), revision))
    }

    async fn register(&mut self, key: &str, members: &str) -> anyhow::Result<()> {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: members.to_owned().into(),
            ..PutRequest::default()
        };
        self.ask("registering", async |connection| {
            let live = connection.live().await?;
            let mut kv = live.kv();
            let call = kv.put(connection.request(request.clone()));
            connection.answer(&live, Kind::Write, call).await
        })
        .await?;
        tracing::info!(key, members, "registered with the discovery service");
        Ok(())
    }

    /// Waits until something is registered after `revision`.
    async fn wait_for_more(&mut self, revision: i64) -> anyhow::Result<()> {
        let prefix = self.keys.members();
        let create = WatchCreateRequest {
            range_end: prefix_end(prefix.as_bytes()),
            key: prefix.into(),
            start_revision: revision.saturating_add(1),
            ..WatchCreateRequest::default()
        };
        self.ask("waiting for others", async |it| event(it, create.clone()).await).await
    }

    /// Asks until there is an answer.
    async fn ask<T>(
        &mut self,
        step: &str,
        ask: impl AsyncFn(&Connection) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        loop {
            match ask(&self.connection).await {
                Ok(answer) => {
                    self.failures_count = 0;
                    return Ok(answer);
                }
                Err(error) if !is_passing(&error) => return Err(error),
                Err(error) => {
                    self.failures_count = self.failures_count.saturating_add(1);
                    let pause = pause_after(self.failures_count);
                    let why = match error.downcast_ref::<Unreachable>() {
                        Some(Unreachable { failures }) => failures.join("; "),
                        None => format!("{error:#}"),
                    };
                    tracing::warn!(
                        step,
                        why,
                        "the discovery service does not answer; trying again in {pause:?}"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// How long to wait after so many failures in a row: as in etcd, twice as long each time, up to four
/// minutes and some seconds.
fn pause_after(failures_count: u32) -> Duration {
    Duration::from_secs(1 << failures_count.min(GROWTHS_COUNT_MAX))
}

async fn range(connection: &Connection, request: RangeRequest) -> anyhow::Result<RangeResponse> {
    let live = connection.live().await?;
    let mut kv = live.kv();
    let call = kv.range(connection.request(request));
    connection.answer(&live, Kind::Read, call).await
}

/// Waits for an event, or for the need to look anew.
async fn event(connection: &Connection, create: WatchCreateRequest) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The stream stays open for as long as we listen.
    let mut request = Request::new(stream::iter([create]).chain(stream::pending()));
    // A member that is cut off would leave us waiting.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut watch = live.watch();
    let mut responses = connection.answer(&live, Kind::Read, watch.watch(request)).await?;
    while let Some(response) = responses.message().await? {
        if response.canceled {
            // Perhaps the login has grown old.
            connection.log_in_again();
            if response.compact_revision != 0 {
                return Ok(());
            }
            bail!("{}: the watch was refused: {}", live.address(), response.cancel_reason);
        }
        if !response.events.is_empty() {
            return Ok(());
        }
    }
    bail!("{} ended the watch", live.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let seconds = [1, 2, 3, 8, 9, u32::MAX].map(|count| pause_after(count).as_secs());
        assert_eq!(seconds, [2, 4, 8, 256, 256, 256]);
    }
}
