//! The inputs that fuzzing found worth keeping, replayed without a fuzzer. How they are found:
//! `cargo xtask fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_sim::Rng;
use quorate_sim::fuzz::TARGETS;
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
fn no_input_of_the_corpora_makes_anything_panic() {
    for target in TARGETS {
        let inputs = corpus(target.name);
        assert!(!inputs.is_empty(), "{} has a corpus", target.name);
        for path in inputs {
            let bytes = fs::read(&path).unwrap();
            let result = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(result.is_ok(), "{} panics on {}", target.name, path.display());
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

/// Without any guidance, but at every run: what a seed makes of the corpora.
#[test]
fn inputs_that_are_cut_spliced_and_bent_make_nothing_panic() {
    let mut rng = Rng::new(1);
    for target in TARGETS {
        let inputs: Vec<Vec<u8>> =
            corpus(target.name).iter().map(|path| fs::read(path).unwrap()).collect();
        for _ in 0..300 {
            let mut bytes = rng.pick(&inputs).unwrap().clone();
            let other = rng.pick(&inputs).unwrap();
            bytes.truncate(rng.index(bytes.len() + 1));
            bytes.extend(&other[rng.index(other.len() + 1)..]);
            for _ in 0..rng.below(4) {
                if !bytes.is_empty() {
                    let at = rng.index(bytes.len());
                    bytes[at] = rng.word().to_le_bytes()[0];
                }
            }
            let result = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(result.is_ok(), "{} panics on {bytes:?}", target.name);
        }
    }
}
