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
    /// A whole record of an earlier use of the file.
    Residue,
    /// Bytes that are no whole record.
    Invalid,
    /// Bytes that the disk does not give.
    Unreadable,
    /// A whole record of an earlier era than the one before it: it was written, never
    /// acknowledged, and cut off by an earlier recovery.
    Ghost,
    /// A whole record of this log that cannot come next.
    Contradiction,
}

/// Which whole records stand beyond the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// None.
    None,
    /// Only such as may belong to the same batch, or to one that was cut off.
    Unproven,
    /// At least one that was written when the stop was durable.
    Proven,
}

/// What recovery found in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) place: Place,
    pub(crate) stop: Stop,
    /// Something says that bytes beyond the stop were durable: a later batch, the next segment's
    /// header, the hard-state file, or the mark.
    pub(crate) durable: bool,
    pub(crate) later: Later,
    /// An entry is known that the log held beyond the stop.
    pub(crate) anchor: bool,
}

/// What follows from the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// All that was written is there.
    Whole,
    /// The last batch was never acknowledged and is not whole: the log ends at the stop.
    Torn,
    /// Durable entries are lost, and it is known up to which: nothing may be cut, nothing may be
    /// answered, but whoever else has them can give them back.
    Wounded,
    /// Durable entries are lost, nobody knows how many; or what was found contradicts itself.
    /// Nothing may be cut, nothing may be answered.
    Refused,
}

impl Place {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Last => "last",
        }
    }
}

impl Stop {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Blank => "blank",
            Self::Residue => "residue",
            Self::Invalid => "invalid",
            Self::Unreadable => "unreadable",
            Self::Ghost => "ghost",
            Self::Contradiction => "contradiction",
        }
    }
}

impl Later {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unproven => "unproven",
            Self::Proven => "proven",
        }
    }
}

impl Case {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Torn => "torn",
            Self::Wounded => "wounded",
            Self::Refused => "refused",
        }
    }
}

struct Row {
    places: &'static [Place],
    stops: &'static [Stop],
    durable: &'static [bool],
    later: &'static [Later],
    anchor: &'static [bool],
    case: Case,
}

const ANY_PLACE: &[Place] = &[Place::Sealed, Place::Last];
const SEALED: &[Place] = &[Place::Sealed];
const LAST: &[Place] = &[Place::Last];
/// All stops but a contradiction.
const A_LOSS: &[Stop] =
    &[Stop::End, Stop::Blank, Stop::Residue, Stop::Invalid, Stop::Unreadable, Stop::Ghost];
/// Where nothing of the log was ever written.
const A_LIMIT: &[Stop] = &[Stop::End, Stop::Blank, Stop::Residue];
const ANY_LATER: &[Later] = &[Later::None, Later::Unproven, Later::Proven];
const NOT_PROVEN: &[Later] = &[Later::None, Later::Unproven];
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
        durable: ANY,
        later: ANY_LATER,
        anchor: ANY,
        case: Case::Refused,
    },
    // What is known to have been durable is gone.
    Row {
        places: LAST,
        stops: A_LOSS,
        durable: YES,
        later: ANY_LATER,
        anchor: YES,
        case: Case::Wounded,
    },
    Row {
        places: LAST,
        stops: A_LOSS,
        durable: YES,
        later: ANY_LATER,
        anchor: NO,
        case: Case::Refused,
    },
    // Cannot be: a record that proves something makes bytes durable.
    Row {
        places: LAST,
        stops: A_LOSS,
        durable: NO,
        later: &[Later::Proven],
        anchor: YES,
        case: Case::Wounded,
    },
    Row {
        places: LAST,
        stops: A_LOSS,
        durable: NO,
        later: &[Later::Proven],
        anchor: NO,
        case: Case::Refused,
    },
    // Nothing was written here yet, or what was is the rest of a batch that was cut off.
    Row {
        places: LAST,
        stops: &[Stop::End, Stop::Blank, Stop::Residue, Stop::Ghost],
        durable: NO,
        later: &[Later::None],
        anchor: ANY,
        case: Case::Whole,
    },
    // The rest of a batch that an earlier recovery cut off.
    Row {
        places: LAST,
        stops: &[Stop::Ghost],
        durable: NO,
        later: &[Later::Unproven],
        anchor: ANY,
        case: Case::Whole,
    },
    // The beginning of the last batch is lost, a later part of it arrived.
    Row {
        places: LAST,
        stops: A_LIMIT,
        durable: NO,
        later: &[Later::Unproven],
        anchor: ANY,
        case: Case::Torn,
    },
    // The last batch is torn.
    Row {
        places: LAST,
        stops: &[Stop::Invalid],
        durable: NO,
        later: NOT_PROVEN,
        anchor: ANY,
        case: Case::Torn,
    },
    // No crash makes a sector unreadable: something stood there, and may have been durable.
    Row {
        places: LAST,
        stops: &[Stop::Unreadable],
        durable: NO,
        later: NOT_PROVEN,
        anchor: YES,
        case: Case::Wounded,
    },
    Row {
        places: LAST,
        stops: &[Stop::Unreadable],
        durable: NO,
        later: NOT_PROVEN,
        anchor: NO,
        case: Case::Refused,
    },
    // The expected end of a sealed segment.
    Row {
        places: SEALED,
        stops: &[Stop::End],
        durable: NO,
        later: &[Later::None],
        anchor: ANY,
        case: Case::Whole,
    },
    // A sealed segment has no business to stop anywhere else.
    Row {
        places: SEALED,
        stops: &[Stop::End],
        durable: NO,
        later: &[Later::Unproven, Later::Proven],
        anchor: YES,
        case: Case::Wounded,
    },
    Row {
        places: SEALED,
        stops: &[Stop::End],
        durable: NO,
        later: &[Later::Unproven, Later::Proven],
        anchor: NO,
        case: Case::Refused,
    },
    Row {
        places: SEALED,
        stops: &[Stop::Blank, Stop::Residue, Stop::Invalid, Stop::Unreadable, Stop::Ghost],
        durable: NO,
        later: ANY_LATER,
        anchor: YES,
        case: Case::Wounded,
    },
    Row {
        places: SEALED,
        stops: &[Stop::Blank, Stop::Residue, Stop::Invalid, Stop::Unreadable, Stop::Ghost],
        durable: NO,
        later: ANY_LATER,
        anchor: NO,
        case: Case::Refused,
    },
    Row {
        places: SEALED,
        stops: A_LOSS,
        durable: YES,
        later: ANY_LATER,
        anchor: YES,
        case: Case::Wounded,
    },
    Row {
        places: SEALED,
        stops: A_LOSS,
        durable: YES,
        later: ANY_LATER,
        anchor: NO,
        case: Case::Refused,
    },
];

impl Findings {
    /// What follows. Findings that the table forgot would be refused: never cut on a guess.
    pub(crate) fn case(self) -> Case {
        TABLE.iter().find(|row| row.matches(self)).map_or(Case::Refused, |row| row.case)
    }
}

impl Row {
    fn matches(&self, findings: Findings) -> bool {
        self.places.contains(&findings.place)
            && self.stops.contains(&findings.stop)
            && self.durable.contains(&findings.durable)
            && self.later.contains(&findings.later)
            && self.anchor.contains(&findings.anchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_word() {
        assert_eq!([Place::Sealed, Place::Last].map(Place::word), ["sealed", "last"]);
    }

    fn all_findings() -> Vec<Findings> {
        let mut all = Vec::new();
        for &place in ANY_PLACE {
            for &stop in A_LOSS.iter().chain(&[Stop::Contradiction]) {
                for &durable in ANY {
                    for &later in ANY_LATER {
                        for &anchor in ANY {
                            all.push(Findings { place, stop, durable, later, anchor });
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_combination_of_findings_matches_exactly_one_row() {
        assert_eq!(all_findings().len(), 168);
        for findings in all_findings() {
            let count = TABLE.iter().filter(|row| row.matches(findings)).count();
            assert_eq!(count, 1, "{findings:?}");
        }
    }

    #[test]
    fn every_row_decides_something_that_no_other_does() {
        for (place, row) in TABLE.iter().enumerate() {
            let count =
                all_findings().into_iter().filter(|findings| row.matches(*findings)).count();
            assert!(count > 0, "row {place}");
        }
    }

    #[test]
    fn nothing_is_cut_where_bytes_beyond_were_durable_or_in_a_sealed_segment_or_unreadable() {
        for findings in all_findings() {
            let Findings { place, stop, durable, later, .. } = findings;
            if durable || place == Place::Sealed || stop == Stop::Unreadable {
                assert_ne!(findings.case(), Case::Torn, "{findings:?}");
            }
            if durable || later == Later::Proven {
                assert!(matches!(findings.case(), Case::Wounded | Case::Refused), "{findings:?}");
            }
        }
    }

    #[test]
    fn a_wound_has_an_anchor_and_a_contradiction_is_none() {
        for findings in all_findings() {
            if findings.case() == Case::Wounded {
                assert!(findings.anchor && findings.stop != Stop::Contradiction, "{findings:?}");
            }
            if findings.stop == Stop::Contradiction {
                assert_eq!(findings.case(), Case::Refused, "{findings:?}");
            }
        }
    }

    #[test]
    fn what_a_power_cut_leaves_in_the_last_segment_is_never_a_loss() {
        for stop in [Stop::End, Stop::Blank, Stop::Residue, Stop::Invalid, Stop::Ghost] {
            for later in [Later::None, Later::Unproven] {
                for anchor in [false, true] {
                    let findings =
                        Findings { place: Place::Last, stop, durable: false, later, anchor };
                    assert!(matches!(findings.case(), Case::Whole | Case::Torn), "{findings:?}");
                }
            }
        }
    }
}
