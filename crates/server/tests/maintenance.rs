//! What an operator asks of one member: alarms, digests, leadership, backups. Compared with what
//! etcd 3.5.1 said, where both can say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::Server;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    CompactionRequest, HashKvRequest, HashRequest, PutRequest, SnapshotRequest,
};
use quorate_kv::{Inline, MemoryEngine};
use quorate_server::ServerOptions;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tonic::Code;
use tonic::transport::Channel;

const RECORDED: &str = include_str!("etcd-3.5.1-maintenance.txt");

async fn put(kv: &mut KvClient<Channel>, key: &str, value: impl Into<Bytes>) {
    let (key, value) = (key.to_owned().into(), value.into());
    kv.put(PutRequest { key, value, ..Default::default() }).await.unwrap();
}

#[tokio::test]
async fn maintenance_answers_as_etcd_3_5_1_did() {
    let server = Server::start().await;
    server.answers_as_recorded(RECORDED).await;
    server.stop().await;
}

#[tokio::test]
async fn an_alarm_of_a_kind_that_nobody_knows_is_refused_and_takes_nothing_down() {
    let server = Server::start().await;
    for body in
        [r#"{"action":1,"memberID":"3","alarm":7}"#, r#"{"action":7,"memberID":"3","alarm":1}"#]
    {
        let (status, answer) = server.post("/v3/maintenance/alarm", body).await;
        assert_eq!(status, 400, "{answer}");
    }
    let (status, _) = server.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await;
    assert_eq!(status, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_status_names_the_alarms() {
    let server = Server::start().await;
    let raise = r#"{"action":"ACTIVATE","memberID":"7","alarm":"NOSPACE"}"#;
    server.post("/v3/maintenance/alarm", raise).await;
    let (_, answer) = server.post("/v3/maintenance/status", "").await;
    assert!(answer.contains(r#""errors":["memberID:7 alarm:NOSPACE "]"#), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_digest_changes_with_what_can_be_read_and_with_nothing_else() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    put(&mut kv, "a", "1").await;
    let mut digest = async |revision| {
        maintenance.hash_kv(HashKvRequest { revision }).await.map(tonic::Response::into_inner)
    };
    let first = digest(0).await.unwrap();
    assert_eq!((first.compact_revision, first.hash_revision), (-1, 2));
    put(&mut kv, "a", "2").await;
    put(&mut kv, "a", "3").await;
    assert_ne!(digest(0).await.unwrap().hash, first.hash);
    let past = digest(2).await.unwrap();
    assert_eq!((past.hash, past.header.unwrap().revision), (first.hash, 4));
    assert_eq!(digest(9).await.unwrap_err().code(), Code::OutOfRange);
    kv.compact(CompactionRequest { revision: 3, physical: false }).await.unwrap();
    assert_eq!(digest(3).await.unwrap().compact_revision, 3);
    let message = digest(2).await.unwrap_err().message().to_owned();
    assert_eq!(message, "etcdserver: mvcc: required revision has been compacted");

    let all = maintenance.hash(HashRequest {}).await.unwrap().into_inner();
    let now = maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!(all.hash, now.hash);
    server.stop().await;
}

#[tokio::test]
async fn a_backup_is_the_state_of_one_moment_in_small_pieces_with_its_digest() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    for number in 0..40 {
        put(&mut kv, &format!("k{number}"), vec![7; 10_000]).await;
    }
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let mut pieces = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let first = pieces.message().await.unwrap().unwrap();
    // Writes go on; the backup does not have them.
    put(&mut kv, "later", "x").await;
    let size = first.remaining_bytes + first.blob.len() as u64;
    assert!(size > 400_000 && size.is_multiple_of(512), "{size}");
    let (mut bytes, mut digest) = (first.blob.to_vec(), Bytes::new());
    while let Some(piece) = pieces.message().await.unwrap() {
        assert!(piece.blob.len() <= 32 << 10);
        if bytes.len() as u64 == size {
            assert_eq!(piece.remaining_bytes, 0);
            digest = piece.blob;
        } else {
            bytes.extend_from_slice(&piece.blob);
            assert_eq!(piece.remaining_bytes, size - bytes.len() as u64);
        }
    }
    assert_eq!(Sha256::digest(&bytes).as_slice(), &digest[..]);

    let (mut machine, reader) =
        quorate_kv::open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
    let last_included = server.node.status().last_log;
    quorate::StateMachine::restore(&mut machine, last_included, &mut bytes.as_slice()).unwrap();
    assert_eq!((reader.revision().get(), reader.key_count()), (41, 40));
    server.stop().await;
}

#[tokio::test]
async fn the_gateways_backup_is_a_line_for_each_piece() {
    let server = Server::start().await;
    let (status, answer) = server.post("/v3/maintenance/snapshot", "{}").await;
    assert_eq!(status, 200);
    assert_eq!(answer.matches(r#"{"result":{"#).count(), 2, "content and digest: {answer}");
    server.stop().await;
}

#[tokio::test]
async fn no_more_backups_than_the_limit_are_on_their_way() {
    let options = ServerOptions { backups_count_max: 0, ..Default::default() };
    let server = Server::start_with(options).await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let error = maintenance.snapshot(SnapshotRequest {}).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert_eq!(error.message(), "etcdserver: too many requests");
    server.stop().await;
}
