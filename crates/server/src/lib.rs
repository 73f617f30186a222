//! The etcd-compatible server: gRPC and HTTP on one port, limits, and the life of both. It
//! translates between clients and a [`quorate::Node`] with a [`quorate_kv`] store; must not know
//! how consensus or storage work.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod admission;
mod auth;
mod authority;
mod caller;
mod connection;
mod errors;
pub mod fuzz;
mod grpc;
mod handshakes;
mod head;
mod http;
mod intake;
mod listener;
mod measured;
mod member;
mod method;
mod metrics;
mod nesting;
mod net;
mod options;
mod outlet;
mod patience;
mod security;
mod serve;
mod service;
mod unread;

pub use auth::{AuthTokens, Jwt, JwtError, JwtFiles, SignMethod, UnknownSignMethod};
pub use errors::Code;
pub use listener::{Listener, Security, Serves};
pub use measured::MeasuredEngine;
pub use member::{MemberContext, MemberContextError, cluster_id, member_id, peer_urls_of};
pub use options::{AutoCompaction, ServerOptions};
pub use security::keep_fresh;
pub use serve::{ServeError, serve};

/// The version of etcd whose API this server offers. Clients parse it as three numbers and expect
/// what that version of etcd can do; our own version is the `quorate_version` metric.
pub const ETCD_VERSION: &str = "3.6.0";

/// The version that the cluster as a whole stands for.
pub const ETCD_CLUSTER_VERSION: &str = "3.6.0";
