//! Where clients come in: a socket, whether what is said there is secret, and what is served there.
//! Must not know how either is done.

use quorate_tls::Tls;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where clients come in.
#[derive(Debug)]
pub struct Listener {
    /// It listens already.
    pub socket: TcpListener,
    /// Whether what is said there is secret.
    pub security: Security,
    /// What is served there.
    pub serves: Serves,
}

/// Whether what clients and server say is secret.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// It is not.
    #[default]
    Plain,
    /// It is, and who comes is judged.
    Tls(Arc<Tls>),
    /// As the client likes: for an address that is listed as `http` and as `https`. Who comes without
    /// TLS is not judged.
    Either(Arc<Tls>),
}

/// What is served at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serves {
    /// gRPC and all of HTTP.
    #[default]
    Everything,
    /// The gateway and the pages, and no gRPC.
    HttpOnly,
    /// gRPC, and no page.
    GrpcOnly,
    /// The pages that tell how this member is.
    MetricsOnly,
}

impl Security {
    pub(crate) const fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Self::Plain => None,
            Self::Tls(tls) | Self::Either(tls) => Some(tls),
        }
    }
}

impl Serves {
    /// Whether gRPC is served.
    pub(crate) const fn has_grpc(self) -> bool {
        match self {
            Self::Everything | Self::GrpcOnly => true,
            Self::HttpOnly | Self::MetricsOnly => false,
        }
    }

    /// Whether a page of that path would be served.
    pub(crate) fn has_page(self, path: &str) -> bool {
        match self {
            Self::Everything | Self::HttpOnly => true,
            Self::GrpcOnly => false,
            Self::MetricsOnly => {
                matches!(path, "/metrics" | "/health") || crate::http::probe_asked(path).is_some()
            }
        }
    }
}
