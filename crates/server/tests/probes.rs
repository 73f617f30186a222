//! What probes ask a member for: `/livez`, `/readyz`, `/health`, and gRPC's health service, in etcd's
//! form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use quorate_server::{Security, ServerOptions, Serves};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ALL_WELL: &str = "[+]data_corruption ok\n[+]serializable_read ok\n\
                        [+]linearizable_read ok\n[+]non_learner ok\nok\n";

/// The status and the body of a page.
async fn page(server: &Server, path: &str) -> (u16, String) {
    server.get(path).await
}

fn said(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

async fn raise(server: &Server, alarm: &str) {
    let body = format!(r#"{{"action":"ACTIVATE","memberID":"7","alarm":"{alarm}"}}"#);
    assert_eq!(server.post("/v3/maintenance/alarm", &body).await.0, 200);
}

#[tokio::test]
async fn a_member_that_serves_is_alive_and_ready() {
    let server = Server::start().await;
    for path in ["/livez", "/readyz", "/livez/serializable_read", "/readyz/non_learner"] {
        assert_eq!(page(&server, path).await, said(200, "ok\n"), "{path}");
    }
    assert_eq!(page(&server, "/readyz?verbose").await, said(200, ALL_WELL));
    let one = said(200, "[+]serializable_read ok\nok\n");
    assert_eq!(page(&server, "/livez?verbose").await, one);
    assert_eq!(page(&server, "/readyz/serializable_read?verbose=x").await, one);
    for path in ["/livez/non_learner", "/readyz/nonsense", "/livez/", "/readyzz"] {
        assert_eq!(page(&server, path).await, said(404, "404 page not found\n"), "{path}");
    }
    assert_eq!(server.post("/livez", "").await, said(405, "Method Not Allowed\n"));
    let (status, metrics) = server.post("/metrics", "").await;
    assert!(status == 200 && metrics.contains("etcd_server_has_leader 1"), "{status}: {metrics}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_excluded_is_not_looked_at_and_what_nobody_knows_cannot_be() {
    let server = Server::start().await;
    let query = "?verbose&exclude=linearizable_read&exclude=non_learner&exclude=nonsense";
    let rest = said(200, "[+]data_corruption ok\n[+]serializable_read ok\nok\n");
    assert_eq!(page(&server, &format!("/readyz{query}")).await, rest);
    let path = "/livez?verbose&exclude=serializable_read";
    assert_eq!(page(&server, path).await, said(200, "ok\n"));
    server.stop().await;
}

#[tokio::test]
async fn without_a_leader_a_member_is_alive_and_not_ready_and_says_what_it_waits_for() {
    let server = Server::leaderless().await;
    assert_eq!(page(&server, "/livez").await, said(200, "ok\n"));
    let (status, body) = page(&server, "/readyz").await;
    assert_eq!(status, 503);
    let begin = "[+]data_corruption ok\n[+]serializable_read ok\n\
                 [-]linearizable_read failed: FOUNDING";
    assert!(body.starts_with(begin) && body.ends_with("\n[+]non_learner ok\n\n"), "{body}");
    assert_eq!(page(&server, "/readyz?exclude=linearizable_read").await, said(200, "ok\n"));
    server.stop().await;
}

#[tokio::test]
async fn corruption_is_told_by_readyz_and_a_full_store_by_health_alone() {
    let server = Server::start().await;
    raise(&server, "NOSPACE").await;
    assert_eq!(page(&server, "/readyz").await, said(200, "ok\n"));
    let full = said(503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
    assert_eq!(page(&server, "/health").await, full);
    assert_eq!(page(&server, "/health?serializable=true").await, full);
    let well = said(200, r#"{"health":"true","reason":""}"#);
    assert_eq!(page(&server, "/health?exclude=NOSPACE").await, well);
    assert_eq!(page(&server, "/health?serializable=true&exclude=NOSPACE").await, well);
    raise(&server, "CORRUPT").await;
    let failed = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
    assert_eq!(page(&server, "/readyz/data_corruption").await, said(503, failed));
    assert_eq!(page(&server, "/livez").await, said(200, "ok\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_node_is_neither_alive_nor_ready() {
    let server = Server::start().await;
    server.node.clone().stop().await;
    let stopped = "serializable_read failed: etcdserver: server stopped\n";
    assert_eq!(page(&server, "/livez").await, said(503, &format!("[-]{stopped}\n")));
    assert_eq!(page(&server, "/readyz").await.0, 503);
    assert_eq!(page(&server, "/health?serializable=true").await.0, 503);
    server.stop().await;
}

#[tokio::test]
async fn checks_are_counted_by_what_they_found() {
    let server = Server::start().await;
    raise(&server, "CORRUPT").await;
    page(&server, "/livez").await;
    page(&server, "/readyz").await;
    page(&server, "/readyz/data_corruption").await;
    let (_, metrics) = server.get("/metrics").await;
    for line in [
        r#"etcd_server_healthcheck{name="serializable_read",type="livez"} 1"#,
        r#"etcd_server_healthcheck{name="data_corruption",type="readyz"} 0"#,
        r#"etcd_server_healthchecks_total{name="data_corruption",status="error",type="readyz"} 2"#,
        r#"etcd_server_healthchecks_total{name="linearizable_read",status="success",type="readyz"} 1"#,
        r#"etcd_server_healthchecks_total{name="serializable_read",status="success",type="livez"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in:\n{metrics}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_metrics_listener_has_the_probes_and_nothing_of_the_gateway() {
    let doors = vec![(Security::Plain, Serves::Everything), (Security::Plain, Serves::MetricsOnly)];
    let server = Server::start_at(ServerOptions::default(), doors).await;
    for (path, status) in [
        ("/livez", 200),
        ("/livez/serializable_read", 200),
        ("/readyz?verbose", 200),
        ("/health", 200),
        ("/metrics", 200),
        ("/version", 404),
        ("/livez/nonsense", 404),
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.addresses[1]).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    server.stop().await;
}
