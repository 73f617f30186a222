//! Draws what is no request: bytes that are no message, methods that are not there, JSON that is none,
//! pages. Must not know what the answers ought to be.

use crate::chance::Chance;
use crate::driver::{Ask, Driver};
use crate::method::{self, Method};
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::health::HealthCheckRequest;

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    match driver.chance.below(15) {
        13 | 14 => stream(driver).await,
        12 => health(driver).await,
        0..=3 => {
            let message = garbage(&mut driver.chance);
            let path = some_method(&mut driver.chance).grpc;
            driver.raw(path, message).await
        }
        4 => {
            let paths =
                ["/etcdserverpb.KV/Get", "/x.KV/Put", "/etcdserverpb.KV/put", "/KV", "/", "/a/b/c"];
            let path = driver.chance.of(&paths);
            driver.raw(path, Bytes::new()).await
        }
        5..=7 => {
            let path = some_method(&mut driver.chance).gateway;
            let body = no_json(&mut driver.chance);
            driver.page("POST", path, body).await
        }
        8 => {
            let path = some_method(&mut driver.chance).gateway;
            let verb = driver.chance.of(&["GET", "PUT", "DELETE"]);
            driver.page(verb, path, "").await
        }
        9 => {
            let paths = [
                "/v3/nonsense",
                "/v3/kv/put/",
                "/v3",
                "/v3/kv",
                "/v2/keys",
                "/nonsense",
                "/",
                "/v3beta/auth/nonsense",
                "/v3/kv/lease/grant",
            ];
            let path = driver.chance.of(&paths);
            let verb = driver.chance.of(&["GET", "POST"]);
            driver.page(verb, path, "{}").await
        }
        10 => {
            let path = driver.chance.of(&["/version", "/health", "/health?serializable=true"]);
            driver.page("GET", path, "").await
        }
        _ => odd_json(driver).await,
    }
}

/// The health service of all gRPC servers: of the server as a whole, and of nothing.
async fn health(driver: &mut Driver) -> anyhow::Result<()> {
    let service = driver.chance.of(&["", "nothing"]).to_owned();
    let message = HealthCheckRequest { service }.encode_to_vec();
    let path = driver.chance.of(&[method::HEALTH_CHECK, method::HEALTH_WATCH]);
    driver.raw(path, message.into()).await
}

/// A method that is over with one answer, and that nobody is hurt by.
fn some_method(chance: &mut Chance) -> &'static Method {
    let methods = [
        &method::RANGE,
        &method::PUT,
        &method::TXN,
        &method::DELETE_RANGE,
        &method::LEASE_REVOKE,
        &method::LEASE_TIME_TO_LIVE,
        &method::MEMBER_REMOVE,
        &method::ALARM,
        &method::UNLOCK,
        &method::USER_GET,
        &method::ROLE_GET,
        &method::HASH_KV,
    ];
    let place = usize::try_from(chance.below(12)).unwrap_or(0);
    methods.get(place).copied().unwrap_or(&method::RANGE)
}

/// Bytes that are no message of any kind: cut off, or with a wire type that there is not.
fn garbage(chance: &mut Chance) -> Bytes {
    let whole = pb::PutRequest { key: "abc".into(), value: "xyz".into(), ..Default::default() };
    let bytes = whole.encode_to_vec();
    match chance.below(4) {
        0 => bytes.get(..4).unwrap_or_default().to_vec().into(),
        1 => Bytes::from_static(b"\x0f"),
        2 => Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        _ => Bytes::from_static(b"\x0a\xff\xff\xff\xff\x7f"),
    }
}

/// A stream that does not begin.
async fn stream(driver: &mut Driver) -> anyhow::Result<()> {
    let methods = [&method::WATCH, &method::LEASE_KEEP_ALIVE, &method::OBSERVE, &method::SNAPSHOT];
    let place = usize::try_from(driver.chance.below(4))?;
    let method = methods.get(place).copied().unwrap_or(&method::WATCH);
    let mut bodies = vec!["{", "[]", "7", "\"a\"", "nonsense", "{\"key\":", "{\"ID\":1"];
    if *method == method::WATCH {
        bodies.extend([
            r#"{"create_request":{"key":"YQ==","filters":["BOGUS"]}}"#,
            r#"{"create_request":{"key":"!!"}}"#,
            r#"{"create_request":7}"#,
        ]);
    }
    let body = driver.chance.of(&bodies);
    driver.page("POST", method.gateway, body).await
}

fn no_json(chance: &mut Chance) -> &'static str {
    chance.of(&[
        "{",
        "[]",
        "7",
        "\"a\"",
        "nonsense",
        "{\"key\":\"!!\"}",
        "{\"key\":",
        "{} x",
        "null",
    ])
}

/// JSON that says what other JSON says, in another way.
async fn odd_json(driver: &mut Driver) -> anyhow::Result<()> {
    let bodies = [
        (&method::RANGE, r#"{"key":"YQ==","limit":2}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":"2"}"#),
        (&method::RANGE, r#"{"key":"YQ","rangeEnd":"eg=="}"#),
        (&method::RANGE, r#"{"key":"YQ==","sort_order":2}"#),
        (&method::RANGE, r#"{"key":"YQ==","sortOrder":"DESCEND","sort_target":"MOD"}"#),
        (&method::RANGE, r#"{"key":"YQ==","range_end":"eg==","limit":null}"#),
        (&method::RANGE, r#"{"key":"YQ==","serializable":"true"}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":1.0}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":1.5}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":true}"#),
        (&method::RANGE, r#"{"key":["YQ=="]}"#),
        (&method::RANGE, r#"{"key":"YQ==\n"}"#),
        (&method::RANGE, r#"{"key":"Y\r\nQ=\n=","range_end":"\neg==\r\n"}"#),
        (&method::RANGE, r#"{"key":"Y Q=="}"#),
        (&method::RANGE, r#"{"key":"YR=="}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":" 2 "}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":"+2"}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":"02"}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":"-0"}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":9223372036854775808}"#),
        (&method::RANGE, r#"{"key":"YQ==","limit":1e3}"#),
        (&method::RANGE, r#"{"key":"_w=="}"#),
        (&method::TXN, r#"{"compare":[{}]}"#),
        (&method::TXN, r#"{"success":[{"request_range":{"key":"YQ=="}}],"unknown":1}"#),
        (&method::TXN, r#"{"success":{}}"#),
        (&method::LEASE_TIME_TO_LIVE, r#"{"ID":1}"#),
        (&method::LEASE_TIME_TO_LIVE, r#"{"id":"1"}"#),
        (&method::MEMBER_LIST, r#"{"linearizable":true}"#),
    ];
    let place = usize::try_from(driver.chance.below(bodies.len() as u64))?;
    if let Some((method, body)) = bodies.get(place) {
        driver.page("POST", method.gateway, body).await?;
    }
    // A message that is empty.
    let mut ask = Ask::new(&method::STATUS, &pb::StatusRequest {});
    (ask.user, ask.token) = driver.known.root();
    ask.by_gateway = true;
    driver.carry_out(ask).await.map(drop)
}
