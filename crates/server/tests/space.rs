//! The quota and compaction: a store that is full says so and serves on, and history goes when it
//! should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, request_op::Request,
};
use quorate_server::{AutoCompaction, ServerOptions};
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
