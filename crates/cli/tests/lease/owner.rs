//! The owner of a lease, who renews it as fast as it gets answers, whichever member gives them, and
//! knows how old its last renewal is: so that a test can tell a lease that ended too early from one
//! that the owner could not renew in time, on a machine that was too busy. Knows no process.

use super::harness::eventually;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RequestOp, TxnRequest,
};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long one member may take to answer before the owner asks another one.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between two renewals.
const PAUSE: Duration = Duration::from_millis(100);

/// One member, asked about leases.
#[derive(Clone)]
pub(crate) struct Asked {
    channel: Channel,
}

impl Asked {
    /// Connects when first used.
    pub(crate) fn at(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().connect_timeout(TIMEOUT);
        Self { channel: endpoint.connect_lazy() }
    }

    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// A lease with an id of the server's choice.
    pub(crate) async fn grant(&self, ttl: i64) -> Result<i64, Status> {
        let request = LeaseGrantRequest { ttl, id: 0 };
        Ok(self.lease().lease_grant(request).await?.into_inner().id)
    }

    /// Puts keys at one revision; whether the lease was still there.
    async fn attach(&self, lease: i64, keys: &[&str]) -> Result<bool, Status> {
        let put = |key: &&str| {
            let put = PutRequest { key: (*key).to_owned().into(), lease, ..Default::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let txn = TxnRequest { success: keys.iter().map(put).collect(), ..Default::default() };
        match KvClient::new(self.channel.clone()).txn(txn).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// The lease's time to live; 0 if there is none.
    async fn renew(&self, id: i64) -> Result<i64, Status> {
        let requests = futures_util::stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = self.lease().lease_keep_alive(requests).await?.into_inner();
        let answer = answers.message().await?;
        answer.map(|answer| answer.ttl).ok_or_else(|| Status::unavailable("no answer"))
    }

    /// Its ids, in order.
    pub(crate) async fn ids(&self) -> Result<Vec<i64>, Status> {
        let response = self.lease().lease_leases(LeaseLeasesRequest {}).await?.into_inner();
        let mut ids: Vec<i64> = response.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// What is left of a lease, and its keys.
    pub(crate) async fn time_to_live(&self, id: i64) -> Result<LeaseTimeToLiveResponse, Status> {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        Ok(self.lease().lease_time_to_live(request).await?.into_inner())
    }

    /// A lease that has these keys, put at one revision. On a slow machine it may be gone before
    /// they are: then there is another one. Returns its id and since when it lives, at the latest.
    pub(crate) async fn lease_with(&self, ttl: i64, keys: &[&str]) -> (i64, Instant) {
        eventually("a lease with its keys", async || {
            let since = Instant::now();
            let id = self.grant(ttl).await.ok()?;
            self.attach(id, keys).await.ok()?.then_some((id, since))
        })
        .await
    }
}

/// See the module. The owner renews in a thread of its own, so that nothing in the test holds it up.
pub(crate) struct Owner {
    pub(crate) id: i64,
    ttl: Duration,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Option<Duration>>,
}

impl Owner {
    /// An owner of a lease with these keys, granted by the first of these members.
    pub(crate) async fn of(urls: &[String], ttl_seconds: u32, keys: &[&str]) -> Self {
        let first = Asked::at(&urls[0]);
        let (id, since) = first.lease_with(ttl_seconds.into(), keys).await;
        let urls = urls.to_vec();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(keep_alive(id, since, &urls, &stopped))
        });
        Self { id, ttl: Duration::from_secs(ttl_seconds.into()), stop, thread }
    }

    /// Stops renewing. Returns whether the lease lived to the end.
    ///
    /// # Panics
    ///
    /// If the lease was gone before its time.
    pub(crate) fn stop(self) -> bool {
        // An owner whose lease is gone has stopped by itself.
        let _ = self.stop.send(());
        let Some(age) = self.thread.join().unwrap() else { return true };
        assert!(age >= self.ttl, "lease {:x} was gone {age:?} after a renewal", self.id);
        eprintln!("the machine was too busy: lease {:x} was not renewed for {age:?}", self.id);
        false
    }
}

/// Renews until it is stopped; or the lease is gone: then, how old the last renewal was.
async fn keep_alive(
    id: i64,
    mut since: Instant,
    urls: &[String],
    stopped: &mpsc::Receiver<()>,
) -> Option<Duration> {
    let members: Vec<Asked> = urls.iter().map(|url| Asked::at(url)).collect();
    let mut member = members.iter().cycle();
    let mut asked = member.next()?;
    loop {
        if stopped.recv_timeout(PAUSE) != Err(mpsc::RecvTimeoutError::Timeout) {
            return None;
        }
        let sent = Instant::now();
        match tokio::time::timeout(TIMEOUT, asked.renew(id)).await {
            Ok(Ok(0)) => return Some(since.elapsed()),
            Ok(Ok(_)) => since = sent,
            Ok(Err(_)) | Err(_) => asked = member.next()?,
        }
    }
}
