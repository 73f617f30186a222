//! Ports of this machine that stay ours for the length of a test, even while the server that
//! listens there is dead, and those of machines that are ours alone. Knows nothing of servers.
//! Other crates' tests use this file too.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports below the range from which the system takes the local ports of outgoing connections: in
/// that range a killed server's port could be gone when it comes back, taken by somebody's
/// connection, or even by a client that connects to itself.
const FIRST: u32 = 12_000;
const COUNT: u32 = 18_000;

/// A port on 127.0.0.1. A lock on a file named after it keeps other tests, of this process or
/// another, away from it until it is dropped. On a machine of a test's own no lock is needed.
pub(crate) struct Port {
    host: String,
    number: u16,
    _lock: Option<File>,
}

impl Port {
    /// Reserves a port on which nobody listens.
    pub(crate) fn reserve() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(97);
        (0..COUNT)
            .map(|_| start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST)
            .find_map(|number| Self::try_reserve(u16::try_from(number).unwrap()))
            .expect("some port is free")
    }

    /// A port of a machine where nobody else is.
    pub(crate) fn on(host: &str, number: u16) -> Self {
        Self { host: host.to_owned(), number, _lock: None }
    }

    /// Reserves ports at these distances from the first one.
    pub(crate) fn reserve_block(offsets: &[u16]) -> Vec<Self> {
        loop {
            let base = Self::reserve().number;
            let block = offsets.iter().map(|offset| Self::try_reserve(base + offset));
            if let Some(block) = block.collect() {
                return block;
            }
        }
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
        fs::create_dir_all(&folder).expect("the target folder can be written");
        let lock = File::create(folder.join(number.to_string())).expect("a lock file");
        lock.try_lock().ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self { host: "127.0.0.1".to_owned(), number, _lock: Some(lock) })
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// `<host>:<number>`.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.number)
    }

    /// `http://<host>:<number>`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}
