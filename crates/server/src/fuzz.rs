//! What arbitrary bytes of clients are fed to, as plain functions that must not panic on any input:
//! gRPC's frames and headers, the gateway's JSON, and requests about members. Who finds the inputs
//! is not known here; `quorate_sim::fuzz` has the targets below the server.

mod gateway;
mod grpc;
mod members;

/// A function that takes any bytes and panics only if something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 4] = [
    Target { name: "gateway_request", run: gateway::gateway_request },
    Target { name: "gateway_stream", run: gateway::gateway_stream },
    Target { name: "grpc_request", run: grpc::grpc_request },
    Target { name: "member_request", run: members::member_request },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
