//! What a request's headers say beside its method: who asks, how long they wait, whether they would
//! rather hear that there is no leader. As gRPC has it, and as the gateway's clients can send it. Must
//! not know what is asked.

use crate::caller::{Caller, PeerIdentity};
use crate::errors::Rejection;
use crate::grpc::headers;
use http::header::{HeaderMap, HeaderName};
use std::time::Duration;

/// What clients say that want no answer of a member which knows no leader.
const REQUIRES_LEADER: HeaderName = HeaderName::from_static("hasleader");
/// The same by the gateway, which hands on what begins so.
const GATEWAY_REQUIRES_LEADER: HeaderName = HeaderName::from_static("grpc-metadata-hasleader");

/// See the module.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) caller: Caller,
    /// How long the client is willing to wait, if it says so.
    pub(crate) patience: Option<Duration>,
    /// The client would rather hear that there is no leader than wait for one.
    pub(crate) requires_leader: bool,
}

impl Head {
    /// Of a gRPC request.
    pub(crate) fn by_grpc(headers: &HeaderMap, peer: &PeerIdentity) -> Self {
        let requires_leader = is_true(headers, &REQUIRES_LEADER);
        let patience = headers::timeout(headers);
        Self { caller: Caller::by_grpc(headers, peer), patience, requires_leader }
    }

    /// Of a gateway request.
    ///
    /// # Errors
    ///
    /// [`Rejection::TimeoutMalformed`] if it says in no proper way how long the client waits.
    pub(crate) fn by_gateway(headers: &HeaderMap, peer: &PeerIdentity) -> Result<Self, Rejection> {
        let requires_leader = is_true(headers, &GATEWAY_REQUIRES_LEADER);
        let patience = headers::gateway_timeout(headers)?;
        Ok(Self { caller: Caller::by_gateway(headers, peer), patience, requires_leader })
    }
}

fn is_true(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get(name).is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderValue;

    #[test]
    fn each_protocol_has_its_name_for_the_need_of_a_leader_and_one_for_the_time() {
        let peer = PeerIdentity::default();
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static("3S"));
        for (name, by_grpc, by_gateway) in
            [(REQUIRES_LEADER, true, false), (GATEWAY_REQUIRES_LEADER, false, true)]
        {
            for value in ["true", "false"] {
                let mut headers = headers.clone();
                headers.insert(name.clone(), HeaderValue::from_static(value));
                let is_said = value == "true";
                let grpc = Head::by_grpc(&headers, &peer);
                assert_eq!(grpc.requires_leader, by_grpc && is_said, "{name} {value}");
                let gateway = Head::by_gateway(&headers, &peer).unwrap();
                assert_eq!(gateway.requires_leader, by_gateway && is_said, "{name} {value}");
                let patience = Some(Duration::from_secs(3));
                assert_eq!((grpc.patience, gateway.patience), (patience, patience));
            }
        }
    }
}
