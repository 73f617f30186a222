//! libFuzzer around one of `quorate_sim::fuzz::TARGETS`, or of the server's, which the environment
//! variable `QUORATE_FUZZ_TARGET` names. Knows nothing of what a target does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn target(name: &str) -> Option<fn(&[u8])> {
    let of_the_server = quorate_server::fuzz::target(name).map(|target| target.run);
    of_the_server.or_else(|| quorate_sim::fuzz::target(name).map(|target| target.run))
}

fuzz_target!(init: {
    let name = std::env::var("QUORATE_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = target(&name) else {
        eprintln!("QUORATE_FUZZ_TARGET names no target: `{name}`");
        std::process::exit(2);
    };
    TARGET.get_or_init(|| target);
}, |data: &[u8]| {
    if let Some(run) = TARGET.get() {
        run(data);
    }
});
