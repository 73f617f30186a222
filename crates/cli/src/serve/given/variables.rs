//! The variables of the environment that etcd reads: `ETCD_` and a flag's name. Must not know what
//! becomes of their values.

use super::table;
use super::{Given, Note, Refusal, Source};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// How their names begin.
const PREFIX: &str = "ETCD_";
/// etcd takes no notice of this one, and says so.
const SPECIAL: &str = "ETCD_VERSION";

/// The variables that stand for settings, and what is to be said about the others. An empty one is as
/// none.
///
/// # Errors
///
/// If one of them is no text.
pub(super) fn read(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Vec<Given>, Vec<Note>), Refusal> {
    let (mut given, mut notes) = (Vec::new(), Vec::new());
    // In the order of their names, so that two starts say the same.
    let environment: BTreeMap<OsString, OsString> = environment.into_iter().collect();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if value.is_empty() {
            continue;
        }
        match table::by_variable(name) {
            _ if name == SPECIAL => notes.push(Note::Special { variable: name.to_owned() }),
            None => notes.push(Note::UnknownVariable { variable: name.to_owned() }),
            Some(row) => {
                let refused = || Refusal::NotText { origin: name.to_owned() };
                let value = value.to_str().ok_or_else(refused)?;
                given.push(Given::new(row, value, name.to_owned(), Source::Variable));
            }
        }
    }
    Ok((given, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pairs: &[(&str, &str)]) -> (Vec<String>, Vec<Note>) {
        let pairs = pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let (given, notes) = read(pairs).unwrap();
        let shown = |given: Given| format!("{}={}", given.row.flag, given.value);
        (given.into_iter().map(shown).collect(), notes)
    }

    #[test]
    fn a_variable_is_a_flag_in_capitals_and_an_empty_one_is_none() {
        let (given, notes) = read_all(&[
            ("ETCD_NAME", "n1"),
            ("ETCD_ELECTION_TIMEOUT", "500"),
            ("ETCD_EXPERIMENTAL_MAX_LEARNERS", "2"),
            ("ETCD_DATA_DIR", ""),
            ("ETCDCTL_ENDPOINTS", "h:1"),
            ("HOME", "/root"),
        ]);
        assert_eq!(given, ["election-timeout=500", "max-learners=2", "name=n1"]);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn a_variable_that_stands_for_nothing_is_noted_without_its_value() {
        let (given, notes) = read_all(&[("ETCD_SERVICE_HOST", "secret"), ("ETCD_VERSION", "v3")]);
        assert!(given.is_empty());
        assert!(!format!("{notes:?}").contains("secret"));
        assert!(matches!(&notes[..], [Note::UnknownVariable { .. }, Note::Special { .. }]));
    }

    #[test]
    fn what_is_ours_alone_has_no_variable() {
        let (given, notes) = read_all(&[("ETCD_EXIT_WITH_PARENT", "true")]);
        assert!(given.is_empty());
        assert_eq!(notes.len(), 1);
    }
}
