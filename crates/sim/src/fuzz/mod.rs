//! What arbitrary bytes are fed to: every decoder, and the core under forged schedules. Plain
//! functions that must not panic on any input; who finds the inputs, a fuzzer or a file, is not
//! known here.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; `fuzz/corpus/` holds the inputs that reached new
//! code, and `crates/sim/tests/corpora.rs` replays those in the ordinary tests.

mod core_step;
mod decoders;
mod files;
mod input;
mod requests;
mod sessions;
mod snapshots;
mod store;
mod watches;

/// A function that takes any bytes and panics only if something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 14] = [
    Target { name: "wire_message", run: decoders::wire_message },
    Target { name: "wire_stream", run: decoders::wire_stream },
    Target { name: "log_codec", run: decoders::log_codec },
    Target { name: "log_folder", run: files::log_folder },
    Target { name: "log_mark", run: files::log_mark },
    Target { name: "snapshot_file", run: files::snapshot_file },
    Target { name: "store", run: store::store },
    Target { name: "client_request", run: requests::client_request },
    Target { name: "core_step", run: core_step::core_step },
    Target { name: "store_snapshot", run: snapshots::store_snapshot },
    Target { name: "wire_link", run: decoders::wire_link },
    Target { name: "session_entry", run: sessions::session_entry },
    Target { name: "session_table", run: sessions::session_table },
    Target { name: "watch_request", run: watches::watch_request },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
