//! The quota and compaction: a store that is full says so and serves on, and history goes when it
//! should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use quorate::NodeOptions;
use quorate::wal::{Disk, DiskFile, DiskSpace, RealDisk};
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, request_op::Request,
};
use quorate_server::{AutoCompaction, ServerOptions};
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};

fn put(key: &str, size_bytes: usize) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: vec![7; size_bytes].into(),
        ..Default::default()
    }
}

async fn alarm(
    maintenance: &mut MaintenanceClient<Channel>,
    action: AlarmAction,
) -> Vec<(u64, AlarmType)> {
    let request = AlarmRequest {
        action: action.into(),
        member_id: common::MEMBER_ID,
        alarm: AlarmType::Nospace.into(),
    };
    let response = maintenance.alarm(request).await.unwrap().into_inner();
    response.alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm())).collect()
}

fn assert_full<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
}

#[tokio::test]
async fn a_full_store_takes_no_puts_until_space_is_freed_and_the_alarm_cleared() {
    let options = ServerOptions { quota_bytes: 20_000, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut kv = KvClient::new(server.channel().await);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    // The same key again and again: it is the history that fills the store.
    let mut refused = None;
    for _ in 0..10 {
        if let Err(status) = kv.put(put("k", 5_000)).await {
            refused = Some(status);
            break;
        }
    }
    assert_full::<()>(Err(refused.expect("a quota of four such values")));
    let own = (common::MEMBER_ID, AlarmType::Nospace);
    assert_eq!(alarm(&mut maintenance, AlarmAction::Get).await, [own]);

    assert_full(kv.put(put("small", 1)).await);
    let op = RequestOp { request: Some(Request::RequestPut(put("k", 1))) };
    let inner = TxnRequest { failure: vec![op], ..Default::default() };
    let op = RequestOp { request: Some(Request::RequestTxn(inner)) };
    assert_full(kv.txn(TxnRequest { success: vec![op], ..Default::default() }).await);

    let range = RangeRequest { key: "k".into(), ..Default::default() };
    let found = kv.range(range).await.unwrap().into_inner();
    let delete = DeleteRangeRequest { key: "k".into(), ..Default::default() };
    kv.delete_range(delete).await.unwrap();
    let revision = found.header.unwrap().revision + 1;
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    assert_full(kv.put(put("small", 1)).await);

    assert_eq!(alarm(&mut maintenance, AlarmAction::Deactivate).await, [own]);
    kv.put(put("small", 1)).await.unwrap();
    assert_eq!(alarm(&mut maintenance, AlarmAction::Get).await, []);
    server.stop().await;
}

#[tokio::test]
async fn an_alarm_that_is_cleared_too_early_comes_back() {
    let options = ServerOptions { quota_bytes: 1_000, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut kv = KvClient::new(server.channel().await);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    for _ in 0..2 {
        assert_full(kv.put(put("k", 5_000)).await);
        assert_eq!(alarm(&mut maintenance, AlarmAction::Get).await.len(), 1);
        alarm(&mut maintenance, AlarmAction::Deactivate).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_physical_compaction_is_answered_when_its_space_is_free() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    for _ in 0..50 {
        kv.put(put("k", 10_000)).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 51, physical: true }).await.unwrap();
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let status = maintenance.status(quorate_etcd_api::etcdserverpb::StatusRequest {}).await;
    let in_use = status.unwrap().into_inner().db_size_in_use;
    assert!(in_use < 50_000, "one value of fifty is left: {in_use}");
    server.stop().await;
}

#[tokio::test]
async fn the_leader_compacts_by_itself_what_is_older_than_the_period() {
    let period = Duration::from_millis(50);
    let auto_compaction = AutoCompaction::Periodic { period };
    let server = Server::start_with(ServerOptions { auto_compaction, ..Default::default() }).await;
    let mut kv = KvClient::new(server.channel().await);
    for _ in 0..10 {
        kv.put(put("k", 10)).await.unwrap();
    }
    let old = RangeRequest { key: "k".into(), revision: 2, ..Default::default() };
    // Nobody writes any more; the revision becomes old all the same.
    let status = loop {
        match kv.range(old.clone()).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) => break status,
        }
    };
    assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
    let now = RangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!(kv.range(now).await.unwrap().into_inner().kvs.len(), 1);
    server.stop().await;
}

/// The system's disk, which says that so much is free.
#[derive(Clone)]
struct SmallDisk(Arc<AtomicU64>);

impl Disk for SmallDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn space(&self, _: &Path) -> io::Result<DiskSpace> {
        Ok(DiskSpace { free_bytes: self.0.load(Ordering::SeqCst), size_bytes: 40 << 20 })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl SmallDisk {
    fn leave(&self, free_bytes: u64) {
        self.0.store(free_bytes, Ordering::SeqCst);
    }
}

/// A member with a disk of 40 MiB, of which it holds one in reserve.
async fn with_small_disk() -> (SmallDisk, Server) {
    let disk = SmallDisk(Arc::new(AtomicU64::new(20 << 20)));
    let below: Arc<dyn Disk> = Arc::new(disk.clone());
    let node_options = NodeOptions { disk_reserve_bytes: 1 << 20, ..NodeOptions::default() };
    let server = Server::start_node(|node| node.disk(below).node_options(node_options)).await;
    (disk, server)
}

/// Asks for the alarms until they are these.
async fn until_alarms(maintenance: &mut MaintenanceClient<Channel>, expected: &[(u64, AlarmType)]) {
    while alarm(maintenance, AlarmAction::Get).await != expected {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_member_with_a_nearly_full_disk_takes_no_puts_until_it_has_room_and_then_by_itself() {
    let (disk, server) = with_small_disk().await;
    let mut kv = KvClient::new(server.channel().await);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    kv.put(put("k", 10)).await.unwrap();
    assert_eq!(alarm(&mut maintenance, AlarmAction::Get).await, []);

    let own = (common::MEMBER_ID, AlarmType::Nospace);
    disk.leave(1 << 20);
    until_alarms(&mut maintenance, &[own]).await;
    assert_full(kv.put(put("k", 1)).await);
    let (status, page) = server.get("/health").await;
    assert!(status == 503 && page.contains("ALARM NOSPACE"), "{page}");
    let (_, page) = server.get("/metrics").await;
    assert!(page.contains("\nquorate_disk_short 1\n"), "{page}");
    let range = RangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!(kv.range(range).await.unwrap().into_inner().kvs.len(), 1);
    let delete = DeleteRangeRequest { key: "k".into(), ..Default::default() };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner();
    let revision = deleted.header.unwrap().revision;
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();

    // An operator who clears it too early is told again.
    alarm(&mut maintenance, AlarmAction::Deactivate).await;
    assert_full(kv.put(put("k", 1)).await);
    until_alarms(&mut maintenance, &[own]).await;

    disk.leave(20 << 20);
    until_alarms(&mut maintenance, &[]).await;
    kv.put(put("k", 2)).await.unwrap();
    assert_eq!(server.get("/health").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_disk_that_has_room_again_lowers_no_alarm_of_an_operator() {
    let (disk, server) = with_small_disk().await;
    let mut kv = KvClient::new(server.channel().await);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let own = (common::MEMBER_ID, AlarmType::Nospace);
    assert_eq!(alarm(&mut maintenance, AlarmAction::Activate).await, [own]);
    disk.leave(1 << 20);
    until_metric(&server, "quorate_disk_short 1").await;
    // A member that has raised its own is one that lowers it.
    disk.leave(20 << 20);
    until_metric(&server, "quorate_disk_short 0").await;
    assert_eq!(alarm(&mut maintenance, AlarmAction::Get).await, [own]);
    assert_full(kv.put(put("k", 1)).await);
    assert_eq!(alarm(&mut maintenance, AlarmAction::Deactivate).await, [own]);
    kv.put(put("k", 1)).await.unwrap();
    server.stop().await;
}

async fn until_metric(server: &Server, line: &str) {
    while !server.get("/metrics").await.1.lines().any(|found| found == line) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nobody_but_a_member_speaks_of_its_disk() {
    let server = Server::start().await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    for action in [AlarmAction::Get, AlarmAction::Activate, AlarmAction::Deactivate] {
        let request =
            AlarmRequest { action: action.into(), member_id: common::MEMBER_ID, alarm: 16 };
        let refused = maintenance.alarm(request).await.unwrap_err();
        let unknown = AlarmRequest { alarm: 7, ..request };
        let expected = maintenance.alarm(unknown).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (expected.code(), expected.message()));
    }
    server.stop().await;
}

#[tokio::test]
async fn no_quota_is_told_as_etcd_tells_it() {
    let options = ServerOptions { quota_bytes: u64::MAX, ..Default::default() };
    let server = Server::start_with(options).await;
    let (_, page) = server.get("/metrics").await;
    assert!(page.contains("\netcd_server_quota_backend_bytes -1\n"), "{page}");
    let (_, status) = server.post("/v3/maintenance/status", "").await;
    assert!(status.contains(r#""dbSizeQuota":"-1""#), "{status}");
    assert!(status.contains(r#""downgradeInfo":{}"#), "{status}");
    server.stop().await;
}
