//! The inputs that fuzzing of the server's own decoders found worth keeping, replayed without a
//! fuzzer. How they are found: `cargo xtask fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_server::fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus(name: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|file| file.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn no_bytes_of_a_client_make_the_server_panic() {
    for target in TARGETS {
        let inputs = corpus(target.name);
        assert!(!inputs.is_empty(), "{} has a corpus", target.name);
        for path in inputs {
            let mut bytes = fs::read(&path).unwrap();
            // As it is, and each prefix of it: what a client that breaks off has sent.
            while !bytes.is_empty() {
                let result = std::panic::catch_unwind(|| (target.run)(&bytes));
                let (name, path) = (target.name, path.display());
                assert!(result.is_ok(), "{name}: {path} panics at {} bytes", bytes.len());
                bytes.pop();
            }
        }
    }
}

#[test]
fn the_command_for_campaigns_knows_every_target() {
    let command = include_str!("../../../xtask/src/fuzz.rs");
    for target in TARGETS {
        assert!(command.contains(&format!("\"{}\"", target.name)), "{}", target.name);
    }
}
