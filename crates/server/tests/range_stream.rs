//! Ranges in pieces over gRPC: what a client merges is what Range answers, at whatever pace it takes
//! the pieces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Server, framed, messages, raw_call, raw_open};
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::{
    CompactionRequest, PutRequest, RangeRequest, RangeResponse, RangeStreamResponse,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

const PATH: &str = "/etcdserverpb.KV/RangeStream";

async fn put(kv: &mut KvClient<Channel>, key: &str, value: impl Into<Bytes>) {
    let (key, value) = (key.to_owned().into(), value.into());
    kv.put(PutRequest { key, value, ..Default::default() }).await.unwrap();
}

fn everything() -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() }
}

/// A range in pieces, merged, and how many pieces there were.
async fn merged(
    kv: &mut KvClient<Channel>,
    request: RangeRequest,
) -> Result<(RangeResponse, usize), Status> {
    let mut pieces = kv.range_stream(request).await?.into_inner();
    let (mut whole, mut count) = (RangeResponse::default(), 0);
    while let Some(piece) = pieces.message().await? {
        let piece = piece.range_response.expect("a piece is a response");
        assert_eq!(whole.header, None, "header, count and more come with the last piece");
        whole.kvs.extend(piece.kvs);
        (whole.header, whole.more, whole.count) = (piece.header, piece.more, piece.count);
        count += 1;
    }
    Ok((whole, count))
}

#[tokio::test]
async fn pieces_merged_are_the_answer_of_range() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
    for number in 0..40 {
        put(&mut kv, &format!("k{number:02}"), vec![7; 50_000]).await;
    }
    for (request, is_one_piece) in [
        (everything(), false),
        (RangeRequest { serializable: true, ..everything() }, false),
        (RangeRequest { limit: 15, ..everything() }, false),
        (RangeRequest { limit: 40, ..everything() }, false),
        (RangeRequest { revision: 20, sort_order: 1, ..everything() }, false),
        (RangeRequest { limit: 3, ..everything() }, true),
        (RangeRequest { keys_only: true, ..everything() }, true),
        (RangeRequest { count_only: true, ..everything() }, true),
        (RangeRequest { key: "k07".into(), ..Default::default() }, true),
        (RangeRequest { key: "none".into(), ..Default::default() }, true),
    ] {
        let whole = kv.range(request.clone()).await.unwrap().into_inner();
        let (told, count) = merged(&mut kv, request.clone()).await.unwrap();
        assert_eq!(told, whole, "{request:?}");
        assert_eq!(count == 1, is_one_piece, "{count} pieces for {request:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_told_in_pieces_is_refused_in_etcds_words() {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    for value in ["1", "2", "3"] {
        put(&mut kv, "a", value).await;
    }
    kv.compact(CompactionRequest { revision: 3, physical: false }).await.unwrap();
    let sorted = "RangeStream does not support custom sort orders";
    let filtered = "RangeStream does not support revision filters";
    let a = RangeRequest { key: "a".into(), ..Default::default() };
    for (request, code, text) in [
        (RangeRequest::default(), Code::InvalidArgument, "etcdserver: key is not provided"),
        (
            RangeRequest { sort_order: 7, ..a.clone() },
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        ),
        (RangeRequest { sort_order: 2, ..a.clone() }, Code::Unimplemented, sorted),
        (RangeRequest { sort_target: 3, ..a.clone() }, Code::Unimplemented, sorted),
        (RangeRequest { min_mod_revision: 1, ..a.clone() }, Code::Unimplemented, filtered),
        (RangeRequest { max_create_revision: 1, ..a.clone() }, Code::Unimplemented, filtered),
        (
            RangeRequest { revision: 2, ..a.clone() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            RangeRequest { revision: 9, ..a.clone() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ] {
        let error = merged(&mut kv, request.clone()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, text), "{request:?}");
    }
    server.stop().await;
}

/// A server with a megabyte, which is more than a client takes without saying so.
async fn with_a_megabyte() -> (Server, KvClient<Channel>) {
    let server = Server::start().await;
    let mut kv = KvClient::new(server.channel().await);
    for key in ["a", "b", "c", "d"] {
        put(&mut kv, key, vec![7; 300_000]).await;
    }
    (server, kv)
}

#[tokio::test]
async fn a_slow_client_reads_one_revision_whatever_is_written_meanwhile() {
    let (server, mut kv) = with_a_megabyte().await;
    let mut client = server.http2().await;
    let pieces = raw_open(&mut client, PATH, &[], framed(&everything())).await.begun().await;
    put(&mut kv, "d", "new").await;
    put(&mut kv, "e", "new").await;
    let answer = pieces.finish().await;
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("0", ""));
    let pieces = messages::<RangeStreamResponse>(&answer.body);
    let pieces: Vec<_> = pieces.into_iter().map(|piece| piece.range_response.unwrap()).collect();
    let last = pieces.last().unwrap();
    assert_eq!((last.count, last.header.unwrap().revision), (4, 5), "as of its beginning");
    let kvs: Vec<_> = pieces.iter().flat_map(|piece| &piece.kvs).collect();
    assert!(kvs.len() == 4 && kvs.iter().all(|kv| kv.value.len() == 300_000));
    server.stop().await;
}

#[tokio::test]
async fn a_slow_client_keeps_nothing_from_being_compacted_and_is_told_so() {
    let (server, mut kv) = with_a_megabyte().await;
    let mut client = server.http2().await;
    let pieces = raw_open(&mut client, PATH, &[], framed(&everything())).await.begun().await;
    put(&mut kv, "a", "new").await;
    kv.compact(CompactionRequest { revision: 6, physical: true }).await.unwrap();
    let answer = pieces.finish().await;
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("11", text));
    let told = messages::<RangeStreamResponse>(&answer.body);
    assert_eq!(told.len(), 1, "one piece was on its way, and no more: it is not all in memory");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_too_long_hears_that_its_own_deadline_has_passed() {
    let (server, _) = with_a_megabyte().await;
    let mut client = server.http2().await;
    let deadline = [("grpc-timeout", "500m")];
    let pieces = raw_open(&mut client, PATH, &deadline, framed(&everything())).await;
    let answer = pieces.wait_for_the_end().await;
    let text = "context deadline exceeded";
    assert_eq!((answer.code.as_str(), answer.message.as_str()), ("4", text));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let (server, _) = with_a_megabyte().await;
    let mut client = server.http2().await;
    drop(raw_open(&mut client, PATH, &[], framed(&everything())).await.begun().await);
    // Its end is counted when the server has heard of it, which is before it hears this.
    assert_eq!(raw_call(&mut client, "/x/y", &[], Bytes::new()).await.code, "12");
    let (_, metrics) = server.get("/metrics").await;
    let labels = r#"grpc_code="Canceled",grpc_method="RangeStream",grpc_service="etcdserverpb.KV""#;
    let line = format!(r#"grpc_server_handled_total{{{labels},grpc_type="server_stream"}} 1"#);
    assert!(metrics.lines().any(|found| found == line), "{line}");
    server.stop().await;
}
