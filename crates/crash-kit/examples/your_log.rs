//! How to try a log of your own: here a small one of one file, right, or wrong in a way that is asked
//! for.
//!
//! `cargo run -p quorate-crash-kit --example your_log`, or with `-- TakesTornRecords` behind it, or
//! another of the flaws that `tests/common/journal.rs` lists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/common/journal.rs"]
#[allow(unreachable_pub)]
mod journal;

use journal::{FLAWS, Journal};
use quorate_crash_kit::{check_log, crash_machine};
use std::process::ExitCode;

fn main() -> ExitCode {
    let wished = std::env::args().nth(1);
    let flaw = FLAWS.iter().copied().find(|flaw| wished.as_ref() == Some(&format!("{flaw:?}")));
    if let (Some(wished), None) = (&wished, flaw) {
        eprintln!("expected one of {FLAWS:?}, found {wished}");
        return ExitCode::FAILURE;
    }
    match check_log(crash_machine, &Journal { flaw }) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            println!("{finding}");
            ExitCode::FAILURE
        }
    }
}
