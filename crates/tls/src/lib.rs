//! Certificate files into TLS settings: what a listener asks of those who come, what a client shows
//! and believes, and who may stay after the handshake. Must not know what is said over a
//! connection, nor hold one.
//!
//! ```no_run
//! # use quorate_tls::{Judgement, Tls, TlsFiles};
//! let files = TlsFiles {
//!     cert: Some("server.pem".into()),
//!     key: Some("server-key.pem".into()),
//!     trusted_ca: Some("ca.pem".into()),
//!     ..TlsFiles::default()
//! };
//! let tls = Tls::load(files)?;
//! let config = tls.server(); // for the next handshake, ...
//! # let (certificates, remote) = (Vec::new(), [127, 0, 0, 1].into());
//! match tls.judge(&certificates, remote)? {  // ... after which this is asked,
//!     Judgement::Known(identity) => println!("{:?}", identity.common_name),
//!     Judgement::Resolve(unresolved) => println!("{}", unresolved.names().count()),
//! }
//! let _ = tls.refresh(); // and this every second, away from what must not wait for a disk.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod any_server;
mod auto;
mod error;
mod files;
mod judge;
mod leaf;
mod names;
mod notices;
mod one_name;
mod read;
mod revoked;
mod snapshot;
mod stamp;
mod tls;

pub use auto::{SelfSigned, self_signed};
pub use error::TlsError;
pub use files::{TlsFiles, Versions};
pub use judge::{Identity, Judgement, Stranger, Unresolved};
pub use names::{TlsVersion, UnknownVersion};
pub use notices::Notices;
pub use tls::{Refreshed, Tls};
