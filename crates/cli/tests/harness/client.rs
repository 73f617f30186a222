//! A client of one server, over the etcd protocol. Knows no cluster: which server to ask, and what
//! to do when it does not answer, is the caller's decision.

use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    DefragmentRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use quorate_etcd_api::mvccpb::KeyValue;
use std::future::Future;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// Longer than a server takes to give up on a request (etcd: 5 s and two election timeouts), so
/// that a test sees the server's own words.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Talks to one server; connects when first used, and again whenever the connection is lost.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// A client of the server at this URL.
    pub(crate) fn new(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .expect("a URL of ours is valid")
            .connect_timeout(Duration::from_secs(2));
        Self { channel: endpoint.connect_lazy(), timeout: REQUEST_TIMEOUT }
    }

    /// The same client, less patient.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { channel: self.channel.clone(), timeout }
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the test's client gave up")),
        }
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Any range request.
    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.within(self.kv().range(request)).await
    }

    /// The same in pieces, merged.
    pub(crate) async fn range_stream(
        &self,
        request: RangeRequest,
    ) -> Result<RangeResponse, Status> {
        let mut pieces = self.within(self.kv().range_stream(request)).await?;
        let mut whole = RangeResponse::default();
        while let Some(piece) = pieces.message().await? {
            let piece = piece.range_response.expect("a piece is a response");
            whole.kvs.extend(piece.kvs);
            (whole.header, whole.more, whole.count) = (piece.header, piece.more, piece.count);
        }
        Ok(whole)
    }

    /// A linearizable read of one key.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<KeyValue>, Status> {
        let request = RangeRequest { key: key.to_owned().into(), ..Default::default() };
        Ok(self.range(request).await?.kvs.pop())
    }

    /// Every key, from the server's own state, which may be old.
    pub(crate) async fn everything(&self) -> Result<RangeResponse, Status> {
        self.everything_at(0).await
    }

    /// Every key as of a revision, from the server's own state.
    pub(crate) async fn everything_at(&self, revision: i64) -> Result<RangeResponse, Status> {
        let request = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            serializable: true,
            revision,
            ..Default::default()
        };
        self.range(request).await
    }

    /// Stores a value.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: impl Into<Vec<u8>>,
    ) -> Result<PutResponse, Status> {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.into().into(),
            ..Default::default()
        };
        self.within(self.kv().put(request)).await
    }

    /// Has the server's state file made anew, and waits for it.
    pub(crate) async fn defragment(&self) -> Result<(), Status> {
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        self.within(maintenance.defragment(DefragmentRequest {})).await.map(drop)
    }

    /// Removes a key.
    pub(crate) async fn delete(&self, key: &str) -> Result<DeleteRangeResponse, Status> {
        let request = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.within(self.kv().delete_range(request)).await
    }

    /// A transaction.
    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.within(self.kv().txn(request)).await
    }

    /// What the server says of itself.
    pub(crate) async fn status(&self) -> Result<StatusResponse, Status> {
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        self.within(maintenance.status(StatusRequest {})).await
    }
}

/// The code and the text of an answer that must be an error.
pub(crate) fn message_of<T>(answer: Result<T, Status>) -> (tonic::Code, String) {
    let status = answer.err().expect("an error was due, but the request was answered");
    (status.code(), status.message().to_owned())
}
