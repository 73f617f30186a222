//! The kit finds what it is for: each wrong disk and each wrong log is noticed, and those that are right
//! pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::disks::{WRONGS, Wrong, WrongDisk};
use common::journal::{FLAWS, Flaw, Journal};
use quorate_crash_kit::{
    Finding, InPlace, Layered, Promise, QuorateWal, Report, check_disk, check_log, crash_machine,
};
use quorate_wal::RealDisk;
use std::cell::Cell;
use std::sync::Arc;

/// Which promise a disk breaks by being wrong in this way.
fn promise_of(wrong: Wrong) -> &'static [Promise] {
    match wrong {
        Wrong::IgnoresSyncs | Wrong::SyncsAgain => &[Promise::SyncedBytesStay],
        Wrong::IgnoresFolderSyncs | Wrong::ForgetsRenames | Wrong::SyncsFoldersAgain => {
            &[Promise::SyncedNamesStay]
        }
        Wrong::SwallowsErrors => &[
            Promise::ReadsAreRight,
            Promise::SyncedBytesStay,
            Promise::SyncedNamesStay,
            Promise::NothingElseAppears,
        ],
        Wrong::TakesErrorsForTheEnd | Wrong::FillsUpFailedReads => &[Promise::FailedReadsAreErrors],
        Wrong::TakesShortReadsForTheEnd | Wrong::FillsUpShortReads => {
            &[Promise::ShortReadsAreReadOn]
        }
        Wrong::StumblesOverItsOwn => &[Promise::NoErrorWithoutCause],
        Wrong::TearsNeighbours => &[Promise::SyncedBytesStay, Promise::NothingElseAppears],
        Wrong::HidesWrites
        | Wrong::CreatesOver
        | Wrong::ListsInDisorder
        | Wrong::LocksForAll
        | Wrong::RemembersWhatWasCut => &[Promise::Contract],
    }
}

#[test]
fn every_wrong_disk_is_found_out_for_what_is_wrong_with_it() {
    for wrong in WRONGS {
        let machine = || Layered::new(move |beneath| WrongDisk::above(beneath, wrong));
        let found = check_disk(machine).expect_err(&format!("{wrong:?} was not noticed"));
        println!("{wrong:?}: {found}");
        assert!(promise_of(wrong).contains(&found.promise), "{wrong:?}: {found}");
        assert!(!found.trouble.is_empty() && !found.found.is_empty(), "{wrong:?}: {found:?}");
    }
}

#[test]
fn a_log_that_is_right_does_not_keep_its_word_on_a_disk_that_does_not() {
    let lies = [Wrong::IgnoresSyncs, Wrong::IgnoresFolderSyncs, Wrong::SwallowsErrors];
    for wrong in lies {
        let machine = || Layered::new(move |beneath| WrongDisk::above(beneath, wrong));
        check_log(machine, &QuorateWal).expect_err(&format!("{wrong:?} was not noticed"));
    }
}

/// Which promise a log breaks with this flaw.
fn promises_of(flaw: Flaw) -> &'static [Promise] {
    match flaw {
        Flaw::TakesShortReadsForTheEnd => &[Promise::ShortReadsAreReadOn],
        Flaw::TakesErrorsForTheEnd | Flaw::TakesAnyErrorForNoLog => {
            &[Promise::FailedReadsAreErrors]
        }
        Flaw::BelievesTheCache => &[Promise::ShownStays],
        Flaw::NeverSyncs
        | Flaw::TakesTornRecords
        | Flaw::SwallowsErrors
        | Flaw::SyncsAgain
        | Flaw::ForgetsTheName
        | Flaw::NamesTooEarly
        | Flaw::SyncsTheFolderAgain
        | Flaw::ForgetsVotes => {
            &[Promise::AcknowledgedStays, Promise::ShownStays, Promise::LogOpens]
        }
    }
}

#[test]
fn every_flaw_of_a_log_is_found() {
    for flaw in FLAWS {
        let found = check_log(crash_machine, &Journal { flaw: Some(flaw) });
        let found = found.expect_err(&format!("{flaw:?} was not noticed"));
        println!("{flaw:?}: {found}");
        assert!(promises_of(flaw).contains(&found.promise), "{flaw:?}: {found}");
        let is_torn = found.found.contains("was never to be written there");
        assert_eq!(is_torn, flaw == Flaw::TakesTornRecords, "{flaw:?}: {found}");
    }
}

#[test]
fn the_same_check_finds_the_same_again() {
    let find = || -> Finding {
        check_log(crash_machine, &Journal { flaw: Some(Flaw::TakesTornRecords) }).unwrap_err()
    };
    assert_eq!(find().to_string(), find().to_string());
}

fn assert_thorough(report: Report) {
    println!("{report}");
    assert!(report.crash_count > 100 && report.fault_count > 100, "{report}");
    assert!(report.short_read_count > 2, "{report}");
}

#[test]
fn a_log_and_a_disk_that_are_right_pass() {
    assert_thorough(check_log(crash_machine, &Journal::default()).unwrap());
    assert_thorough(check_disk(crash_machine).unwrap());
}

#[test]
fn the_log_of_quorate_passes() {
    assert_thorough(check_log(crash_machine, &QuorateWal).unwrap());
}

#[test]
fn the_disk_of_the_operating_system_keeps_the_contract_and_carries_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let count = Cell::new(0);
    let machine = || {
        count.set(count.get() + 1);
        InPlace::new(Arc::new(RealDisk), folder.path().join(count.get().to_string()))
    };
    let report = check_disk(machine).unwrap();
    assert!(report.crash_count > 30, "{report}");
    let report = check_log(machine, &QuorateWal).unwrap();
    assert!(report.crash_count > 10, "{report}");
}
