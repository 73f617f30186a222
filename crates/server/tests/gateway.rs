//! The HTTP side of the server, against what etcd 3.5.1 said to the same requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use quorate_server::{Security, ServerOptions, Serves};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RECORDED: &str = include_str!("etcd-3.5.1-gateway.txt");

#[tokio::test]
async fn the_gateway_answers_as_etcd_3_5_1_did() {
    let server = Server::start().await;
    server.answers_as_recorded(RECORDED).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_json_message_is_a_bad_request() {
    let server = Server::start().await;
    for body in ["{", "[]", "nonsense", r#"{"key":"!!"}"#, r#"{"key":"YQ==","sort_order":"UP"}"#] {
        let (status, answer) = server.post("/v3/kv/range", body).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer.contains(r#""code":3"#), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn methods_are_posted_to() {
    let server = Server::start().await;
    for path in ["/v3/election/leader", "/v3beta/lock/lock", "/v3/election/observe"] {
        assert_eq!(server.get(path).await.0, 405, "{path}");
        let (head, _) = server.ask("GET", path, "", "").await;
        assert!(head.contains("\r\nallow: POST\r\n"), "{head}");
    }
    let (head, _) = server.ask("POST", "/health", "", "").await;
    assert!(head.contains("\r\nallow: GET\r\n"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_method_is_not_found() {
    let server = Server::start().await;
    for path in ["/v3/kv/rangestream", "/v3/kv/lease/grant", "/v3/", "/v3beta/nonsense"] {
        let (status, answer) = server.post(path, "{}").await;
        assert_eq!((status, answer.as_str()), (404, "Not Found\n"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_large_request_is_refused_at_etcds_limits_with_etcds_words() {
    let server = Server::start().await;
    // In base64, four letters are three bytes.
    let put = |bytes: usize| format!(r#"{{"key":"aw==","value":"{}"}}"#, "AAAA".repeat(bytes / 3));
    let (status, _) = server.post("/v3/kv/put", &put(1_572_000)).await;
    assert_eq!(status, 200);
    let (status, answer) = server.post("/v3/kv/put", &put(1_572_864)).await;
    assert_eq!(status, 400);
    assert!(answer.contains("etcdserver: request is too large"), "{answer}");
    let (status, answer) = server.post("/v3/kv/put", &put(3_000_000)).await;
    assert_eq!(status, 429);
    let text = "grpc: received message larger than max (3000008 vs. 2097152)";
    assert_eq!(answer, format!(r#"{{"error":"{text}","code":8,"message":"{text}"}}"#));
    server.stop().await;
}

#[tokio::test]
async fn a_need_for_a_leader_and_a_time_limit_can_be_said_in_headers() {
    // Who gave up waits for a place in a line, which nobody can give.
    let options = ServerOptions { drain_timeout: Duration::ZERO, ..Default::default() };
    let server = Server::leaderless_with(options).await;
    let range = r#"{"key":"YQ=="}"#;
    let no_leader = r#""message":"etcdserver: no leader"}"#;
    for path in ["/v3/kv/range", "/v3/lock/lock"] {
        let (head, body) =
            server.ask("POST", path, "grpc-metadata-hasleader: true\r\n", range).await;
        assert!(
            head.starts_with("HTTP/1.1 503") && body.contains(no_leader),
            "{path} {head}{body}"
        );
    }
    // Without the limit it would wait for the node's own, or for ever.
    let late =
        r#"{"error":"context deadline exceeded","code":4,"message":"context deadline exceeded"}"#;
    for path in ["/v3/kv/range", "/v3/lock/lock"] {
        let (head, body) = server.ask("POST", path, "grpc-timeout: 10m\r\n", range).await;
        assert!(head.starts_with("HTTP/1.1 504 ") && body == late, "{path} {head}{body}");
    }
    server.stop().await;
}

/// Go's client repeats a read for ever that is unavailable, and etcdctl sets no limit to some.
#[tokio::test]
async fn without_a_leader_all_are_told_when_their_time_is_up_and_proposals_in_a_way_that_ends() {
    let options =
        ServerOptions { request_timeout: Duration::from_millis(50), ..Default::default() };
    let server = Server::leaderless_with(options).await;
    let (proposal, read) = (
        r#"{"error":"context deadline exceeded","code":2,"message":"context deadline exceeded"}"#,
        r#"{"error":"etcdserver: request timed out","code":14,"message":"etcdserver: request timed out"}"#,
    );
    let key = r#"{"key":"YQ=="}"#;
    for (path, body, status, expected) in [
        ("/v3/kv/put", key, 500, proposal),
        ("/v3/kv/deleterange", key, 500, proposal),
        ("/v3/lock/lock", r#"{"name":"YQ==","lease":"1"}"#, 500, proposal),
        ("/v3/lease/grant", r#"{"TTL":"60"}"#, 500, proposal),
        ("/v3/lease/leases", "{}", 500, proposal),
        ("/v3/lease/timetolive", r#"{"ID":"1"}"#, 500, proposal),
        ("/v3/maintenance/alarm", "{}", 500, proposal),
        ("/v3/auth/status", "{}", 500, proposal),
        ("/v3/auth/user/list", "{}", 500, proposal),
        ("/v3/auth/user/get", r#"{"name":"u"}"#, 500, proposal),
        ("/v3/auth/role/list", "{}", 500, proposal),
        ("/v3/kv/range", key, 503, read),
        ("/v3/auth/authenticate", r#"{"name":"u"}"#, 503, read),
        ("/v3/cluster/member/list", r#"{"linearizable":true}"#, 503, read),
    ] {
        let (found, answer) = server.post(path, body).await;
        assert_eq!((found, answer.as_str()), (status, expected), "{path}");
    }
    // A renewal is the leader's.
    let (status, answer) = server.post("/v3/lease/keepalive", r#"{"ID":"1"}"#).await;
    let no_leader = r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}"#;
    assert_eq!((status, answer.as_str()), (503, no_leader));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_answer_is_refused_in_a_streams_form() {
    let server = Server::leaderless().await;
    let need = "grpc-metadata-hasleader: true\r\n";
    let no_leader = r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}"#;
    for (path, body, improper) in [
        ("/v3/watch", r#"{"create_request":{"key":"YQ=="}}"#, 500),
        ("/v3/lease/keepalive", r#"{"ID":"1"}"#, 500),
        ("/v3/election/observe", r#"{"name":"YQ=="}"#, 400),
        ("/v3/maintenance/snapshot", "{}", 400),
    ] {
        let (head, answer) = server.ask("POST", path, need, body).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{path} {head}");
        assert_eq!(answer, no_leader, "{path}");
        // What is no request at all is refused before, as a call would be.
        let (head, answer) = server.ask("POST", path, need, "{bad").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {improper} ")), "{path} {head}");
        assert!(answer.starts_with(r#"{"error":""#), "{path} {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_time_limit_that_is_over_or_none_is_answered_as_etcds_gateway_does() {
    let server = Server::start().await;
    let put = r#"{"key":"YQ==","value":"MQ=="}"#;
    let put_within = async |limit: &str| {
        let limit = format!("grpc-timeout: {limit}\r\n");
        let (head, body) = server.ask("POST", "/v3/kv/put", &limit, put).await;
        (head.split(' ').nth(1).unwrap().to_owned(), body)
    };
    for over in ["1n", "-5S"] {
        let (status, body) = put_within(over).await;
        assert_eq!(status, "504", "{over}: {body}");
        assert!(body.contains(r#""code":4,"message":"context deadline exceeded"}"#), "{body}");
    }
    let (_, range) = server.post("/v3/kv/range", r#"{"key":"YQ=="}"#).await;
    assert!(!range.contains("kvs"), "what is late already is not begun: {range}");
    for proper in ["1000S", "+1000S", "123456789S", "9223372036854775807H", "0S", ""] {
        assert_eq!(put_within(proper).await.0, "200", "{proper}");
    }
    let text = "invalid grpc-timeout: bogus";
    let refusal = format!(r#"{{"error":"{text}","code":3,"message":"{text}"}}"#);
    for path in ["/v3/kv/put", "/v3/watch", "/v3/lease/keepalive", "/v3/maintenance/snapshot"] {
        // As in etcd, it is told of before the body.
        let (head, body) = server.ask("POST", path, "grpc-timeout: bogus\r\n", "{").await;
        assert!(head.starts_with("HTTP/1.1 400 ") && body == refusal, "{path} {head}{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_is_refused_with_etcds_codes_and_no_backup_is_sent() {
    let server = Server::start().await;
    let filter = r#"{"create_request":{"key":"YQ==","filters":["BOGUS"]}}"#;
    for (path, body, status, code) in [
        ("/v3/watch", "{", 500, 2),
        ("/v3/watch", "hello", 500, 2),
        ("/v3/watch", filter, 500, 2),
        ("/v3/lease/keepalive", "{", 500, 2),
        ("/v3/lease/keepalive", r#"{"ID":"x"}"#, 500, 2),
        ("/v3/election/observe", "{", 400, 3),
        ("/v3/maintenance/snapshot", "{", 400, 3),
        ("/v3/maintenance/snapshot", "garbage", 400, 3),
    ] {
        let (found, answer) = server.post(path, body).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect(&answer);
        assert_eq!(answer["code"], code, "{path} {body}: {answer}");
    }
    for body in ["", "{}", "null", r#"{"unknown":1}"#] {
        let (status, answer) = server.post("/v3/maintenance/snapshot", body).await;
        assert!(status == 200 && answer.contains(r#""result":{"#), "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn base64_with_line_ends_and_numbers_with_spaces_are_taken_as_by_etcd() {
    let server = Server::start().await;
    let put = r#"{"key":"Y\r\nQ=\n=\n","value":"MQ==\n"}"#;
    let (status, answer) = server.post("/v3/kv/put", put).await;
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = server.post("/v3/kv/range", r#"{"key":"YQ==","limit":" 1 "}"#).await;
    assert!(answer.contains(r#""kvs":[{"key":"YQ==""#), "{answer}");
    assert!(answer.contains(r#""value":"MQ==""#), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_in_a_message_is_said_with_the_field_that_it_is_in() {
    let server = Server::start().await;
    let range = r#"{"success":[{"request_range":{"key":"YQ==","limit":"+1"}}]}"#;
    let (status, answer) = server.post("/v3/kv/txn", range).await;
    assert_eq!(status, 400);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let text = r#"field success[0].request_range.limit: invalid value: string "+1", expected an integer from -9223372036854775808 to 9223372036854775807, as a number or a string"#;
    assert_eq!(answer["message"], text);
    let (status, answer) = server.post("/v3/watch", r#"{"create_request":{"key":7}}"#).await;
    assert_eq!(status, 500);
    assert!(answer.contains("field create_request.key: invalid type: integer"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn the_version_is_three_plain_numbers() {
    let server = Server::start().await;
    let (status, answer) = server.get("/version").await;
    assert_eq!(status, 200);
    let version: serde_json::Value = serde_json::from_str(&answer).unwrap();
    for name in ["etcdserver", "etcdcluster", "storage"] {
        let numbers: Vec<u32> =
            version[name].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_status_names_the_leader_and_the_indexes() {
    let server = Server::start().await;
    server.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await;
    // The client may have its answer before the node's status tells of it.
    let mut changes = server.node.status_changes();
    changes.wait_for(|status| status.applied.get() >= 2).await.unwrap();
    let (_, answer) = server.post("/v3/maintenance/status", "").await;
    let status: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status["leader"], common::MEMBER_ID.to_string());
    assert_eq!(status["header"]["revision"], "2");
    assert_eq!(status["raftTerm"], status["header"]["raft_term"]);
    let index = |name: &str| status[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(index("raftIndex") >= 2, "{answer}");
    assert!(index("raftAppliedIndex") <= index("raftIndex"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn the_metrics_follow_what_happens() {
    let server = Server::start().await;
    server.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await;
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is missing")).rsplit(' ').next().unwrap()
    };
    assert_eq!(value("etcd_server_has_leader"), "1");
    assert_eq!(value("etcd_server_is_leader"), "1");
    assert_eq!(value("etcd_server_proposals_pending"), "0");
    assert_eq!(value("etcd_server_proposals_failed_total"), "0");
    assert_eq!(value("etcd_debugging_mvcc_current_revision"), "2");
    assert_ne!(value("etcd_disk_wal_fsync_duration_seconds_count"), "0");
    assert_eq!(value("quorate_client_connections"), "1");
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_node_is_unhealthy() {
    let server = Server::start().await;
    server.node.clone().stop().await;
    let (head, body) = server.ask("GET", "/health", "", "").await;
    // Byte for byte as etcd says it, which says it as every error: with the end of a line.
    assert_eq!(body, "{\"health\":\"false\",\"reason\":\"SERVER STOPPED\"}\n");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{head}");
    let (status, answer) = server.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await;
    assert_eq!(status, 503);
    assert!(answer.contains("etcdserver: server stopped"), "{answer}");
    server.stop().await;
}

/// The answer to a request with these headers, head and all.
async fn answer_to(address: std::net::SocketAddr, request: &str, headers: &str) -> String {
    kept_open(address, request, &format!("connection: close\r\n{headers}")).await
}

/// The same, where the client does not say that it is the last request.
async fn kept_open(address: std::net::SocketAddr, request: &str, headers: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_host_that_is_not_listed_is_misdirected_but_where_it_is_measured() {
    let host_whitelist = vec!["member.example".to_owned(), "127.0.0.1".to_owned()];
    let options = ServerOptions { host_whitelist, ..Default::default() };
    let doors = vec![(Security::Plain, Serves::Everything), (Security::Plain, Serves::MetricsOnly)];
    let server = Server::start_at(options, doors).await;
    let [all, metrics] = server.addresses[..] else { panic!("two listeners") };
    for (address, host, status) in [
        (all, "member.example:2379", "200"),
        (all, "127.0.0.1", "200"),
        (all, "evil.example", "421"),
        (metrics, "evil.example", "200"),
    ] {
        let answer = answer_to(address, "GET /health", &format!("host: {host}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    let answer = answer_to(all, "POST /v3/kv/put", "host: evil.example\r\n").await;
    assert!(answer.contains("421 ") && answer.contains("CVE-2018-5702"), "{answer}");
    assert!(answer.contains(r#"--host-whitelist "evil.example""#), "{answer}");
    // HTTP/2 names its host elsewhere, and gRPC is no matter for browsers.
    let mut client = server.http2().await;
    let request = http::Request::get("http://evil.example/health").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 421);
    let range =
        quorate_etcd_api::etcdserverpb::RangeRequest { key: "a".into(), ..Default::default() };
    let path = "/etcdserverpb.KV/Range";
    let answer = common::raw_call(&mut client, path, &[], common::framed(&range)).await;
    assert_eq!(answer.code, "0");
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_is_refused_and_the_connection_ends() {
    let host_whitelist = vec!["good".to_owned()];
    let options = ServerOptions { host_whitelist, ..Default::default() };
    let doors = vec![(Security::Plain, Serves::Everything), (Security::Plain, Serves::MetricsOnly)];
    let server = Server::start_at(options, doors).await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let twice = format!("{upgrade}host: good\r\nhost: evil\r\n");
    for address in &server.addresses {
        for (request, headers, words) in [
            ("GET /health", "", "missing required Host header"),
            ("GET http://good/health", "", "missing required Host header"),
            ("GET /health", "host: good\r\nhost: evil\r\n", "too many Host headers"),
            ("GET /health", "host: good\r\nhost: good\r\n", "too many Host headers"),
            ("GET /health", "host: good evil\r\n", "malformed Host header"),
            ("GET /v3/watch", twice.as_str(), "too many Host headers"),
        ] {
            // The answer is read to the end of the connection, which the server has to bring about.
            let answer = kept_open(*address, request, headers).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{headers}: {answer}");
            assert!(answer.contains(words), "{headers}: {answer}");
        }
        let answer = answer_to(*address, "GET /health", "host: good\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_answers_and_by_default_all_may() {
    let cors_origins = vec!["https://pages.example".to_owned()];
    let listed = ServerOptions { cors_origins, ..Default::default() };
    for (options, origin, told) in [
        (ServerOptions::default(), "https://other.example", Some("*")),
        (listed.clone(), "https://pages.example", Some("https://pages.example")),
        (listed, "https://other.example", None),
    ] {
        let server = Server::start_with(options).await;
        for request in ["GET /version", "OPTIONS /v3/kv/range"] {
            let headers = format!("host: test\r\norigin: {origin}\r\n");
            let answer = answer_to(server.address, request, &headers).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let found = answer.lines().find_map(|line| {
                line.strip_prefix("access-control-allow-origin: ").map(str::to_owned)
            });
            assert_eq!(found.as_deref(), told, "{request}: {answer}");
        }
        server.stop().await;
    }
}
