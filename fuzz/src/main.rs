//! libFuzzer around one of `quorate_sim::fuzz::TARGETS`, which the environment variable
//! `QUORATE_FUZZ_TARGET` names. Knows nothing of what a target does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_sim::fuzz::{Target, target};
use std::sync::OnceLock;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: {
    let name = std::env::var("QUORATE_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = target(&name) else {
        eprintln!("QUORATE_FUZZ_TARGET names no target: `{name}`");
        std::process::exit(2);
    };
    TARGET.get_or_init(|| target);
}, |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});
