//! The decision of recovery: where the records of a segment stop, what was found there, and what
//! follows from it. A table, so that it can be read and checked whole; must not know any bytes.

/// Which segment was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One that another follows: it was durable up to its end before that one was begun.
    Sealed,
    /// The last one, the only one in which a write can have been under way.
    Last,
}

/// What stands where the readable records stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The end of the file, or of a sealed segment's records.
    End,
    /// Zeros: nothing was ever written here.
    Blank,
    /// Bytes that are no whole record.
    Invalid,
    /// A whole record of an earlier era than the one before it: it was written, never
    /// acknowledged, and cut off by an earlier recovery.
    Ghost,
    /// A whole record of this log that cannot come next.
    Contradiction,
}

/// What recovery found in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) place: Place,
    pub(crate) stop: Stop,
    /// Something proves that bytes beyond the stop were durable: a later batch, the next
    /// segment's header, or the hard-state file.
    pub(crate) synced_beyond: bool,
    /// Whole records stand beyond the stop that may belong to the same batch.
    pub(crate) survivors: bool,
}

/// What follows from the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that was written is there.
    Whole,
    /// The last batch was never acknowledged and is not whole: the log ends at the stop.
    TornTail,
    /// Durable bytes are lost: nothing may be cut, nothing may be answered.
    Damaged,
}

struct Row {
    places: &'static [Place],
    stops: &'static [Stop],
    synced_beyond: &'static [bool],
    survivors: &'static [bool],
    verdict: Verdict,
}

const ANY_PLACE: &[Place] = &[Place::Sealed, Place::Last];
const SEALED: &[Place] = &[Place::Sealed];
const LAST: &[Place] = &[Place::Last];
const ANY: &[bool] = &[false, true];
const YES: &[bool] = &[true];
const NO: &[bool] = &[false];

/// Every combination of findings matches exactly one row.
const TABLE: &[Row] = &[
    // A record with a fitting checksum that cannot come next was written by a bug, or next to
    // files from another time. Reading on would be guessing.
    Row {
        places: ANY_PLACE,
        stops: &[Stop::Contradiction],
        synced_beyond: ANY,
        survivors: ANY,
        verdict: Verdict::Damaged,
    },
    // What is proven to have been durable is gone.
    Row {
        places: ANY_PLACE,
        stops: &[Stop::End, Stop::Blank, Stop::Invalid, Stop::Ghost],
        synced_beyond: YES,
        survivors: ANY,
        verdict: Verdict::Damaged,
    },
    // The expected end.
    Row {
        places: ANY_PLACE,
        stops: &[Stop::End],
        synced_beyond: NO,
        survivors: NO,
        verdict: Verdict::Whole,
    },
    // A sealed segment has no business to stop anywhere else.
    Row {
        places: SEALED,
        stops: &[Stop::Blank, Stop::Invalid, Stop::Ghost],
        synced_beyond: NO,
        survivors: ANY,
        verdict: Verdict::Damaged,
    },
    Row {
        places: SEALED,
        stops: &[Stop::End],
        synced_beyond: NO,
        survivors: YES,
        verdict: Verdict::Damaged,
    },
    // Nothing was written here yet.
    Row {
        places: LAST,
        stops: &[Stop::Blank],
        synced_beyond: NO,
        survivors: NO,
        verdict: Verdict::Whole,
    },
    // The rest of a batch that an earlier recovery cut off.
    Row {
        places: LAST,
        stops: &[Stop::Ghost],
        synced_beyond: NO,
        survivors: ANY,
        verdict: Verdict::Whole,
    },
    // The beginning of the last batch is lost, a later part of it arrived.
    Row {
        places: LAST,
        stops: &[Stop::End, Stop::Blank],
        synced_beyond: NO,
        survivors: YES,
        verdict: Verdict::TornTail,
    },
    // The last batch is torn.
    Row {
        places: LAST,
        stops: &[Stop::Invalid],
        synced_beyond: NO,
        survivors: ANY,
        verdict: Verdict::TornTail,
    },
];

impl Findings {
    /// What follows. Findings that the table forgot would be damage: never cut on a guess.
    pub(crate) fn verdict(self) -> Verdict {
        TABLE.iter().find(|row| row.matches(self)).map_or(Verdict::Damaged, |row| row.verdict)
    }
}

impl Row {
    fn matches(&self, findings: Findings) -> bool {
        self.places.contains(&findings.place)
            && self.stops.contains(&findings.stop)
            && self.synced_beyond.contains(&findings.synced_beyond)
            && self.survivors.contains(&findings.survivors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_findings() -> Vec<Findings> {
        let stops = [Stop::End, Stop::Blank, Stop::Invalid, Stop::Ghost, Stop::Contradiction];
        let mut all = Vec::new();
        for &place in ANY_PLACE {
            for stop in stops {
                for &synced_beyond in ANY {
                    for &survivors in ANY {
                        all.push(Findings { place, stop, synced_beyond, survivors });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_combination_of_findings_matches_exactly_one_row() {
        for findings in all_findings() {
            let count = TABLE.iter().filter(|row| row.matches(findings)).count();
            assert_eq!(count, 1, "{findings:?}");
        }
    }

    #[test]
    fn nothing_is_cut_where_bytes_beyond_were_durable_or_in_a_sealed_segment() {
        for findings in all_findings() {
            if findings.synced_beyond || findings.place == Place::Sealed {
                assert_ne!(findings.verdict(), Verdict::TornTail, "{findings:?}");
            }
            if findings.synced_beyond {
                assert_eq!(findings.verdict(), Verdict::Damaged, "{findings:?}");
            }
        }
    }
}
