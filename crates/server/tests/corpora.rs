//! The inputs that fuzzing of the server's own decoders found worth keeping, replayed without a
//! fuzzer. How they are found: `cargo xtask fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::Path;

#[test]
fn no_json_makes_the_gateway_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/gateway_request");
    let mut count = 0;
    for file in fs::read_dir(root).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // As it is, and each prefix of it: what a client that breaks off has sent.
        while !bytes.is_empty() {
            let result = std::panic::catch_unwind(|| quorate_server::fuzz::gateway_request(&bytes));
            assert!(result.is_ok(), "{} panics at {} bytes", path.display(), bytes.len());
            bytes.pop();
            count += 1;
        }
    }
    assert!(count > 0, "there is a corpus");
}

#[test]
fn the_command_for_campaigns_knows_the_target() {
    assert!(include_str!("../../../xtask/src/fuzz.rs").contains("\"gateway_request\""));
}
