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
mod store;

/// A function that takes any bytes and panics only if something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target { name: "wire_message", run: decoders::wire_message },
    Target { name: "wire_stream", run: decoders::wire_stream },
    Target { name: "log_codec", run: decoders::log_codec },
    Target { name: "log_folder", run: files::log_folder },
    Target { name: "snapshot_file", run: files::snapshot_file },
    Target { name: "store", run: store::store },
    Target { name: "client_request", run: requests::client_request },
    Target { name: "core_step", run: core_step::core_step },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
