//! The command line as Go reads one: `-name n1`, `--name=n1`, `--auto-tls`. Knows the flags from the
//! table; must not know what becomes of their values.

use super::table::{self, Takes};
use super::{Given, Refusal, Source};
use crate::serve::near::nearest;
use std::ffi::{OsStr, OsString};

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// How to use it.
    Help,
    /// To start, with these settings.
    Start(Vec<Given>),
}

/// Reads the words behind the program's name.
///
/// # Errors
///
/// If a word is no flag, or no known one, or a value is missing.
pub(super) fn read(words: &[OsString]) -> Result<Asked, Refusal> {
    let mut given = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let word = text(word)?;
        let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let Some(bare) = bare.filter(|bare| !bare.is_empty() && !bare.starts_with(['-', '=']))
        else {
            return Err(Refusal::NotAFlag { found: word.to_owned() });
        };
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let Some(row) = table::by_flag(name) else {
            if ["h", "help"].contains(&name) {
                return Ok(Asked::Help);
            }
            return Err(unknown(name));
        };
        let value = match value {
            Some(value) => value,
            None if row.takes == Takes::Bool => {
                // Go does not take such a word; as somebody means it so, we do.
                let is_value = |word: &&OsString| *word == "true" || *word == "false";
                words.next_if(is_value).map_or(Ok("true"), |word| text(word))?
            }
            None => {
                let missing = || Refusal::NoValue { flag: name.to_owned(), takes: row.takes };
                text(words.next().ok_or_else(missing)?)?
            }
        };
        given.push(Given::new(row, value, format!("--{name}"), Source::Flag));
    }
    Ok(Asked::Start(given))
}

fn text(word: &OsStr) -> Result<&str, Refusal> {
    word.to_str().ok_or_else(|| Refusal::NotText { origin: format!("the word {}", word.display()) })
}

fn unknown(name: &str) -> Refusal {
    let known = table::ENTRIES.iter().flat_map(|entry| entry.row.flags());
    Refusal::UnknownFlag { found: name.to_owned(), nearest: nearest(name, known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Result<Vec<(String, String)>, Refusal> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match read(&words)? {
            Asked::Help => Ok(vec![("help".to_owned(), String::new())]),
            Asked::Start(given) => {
                Ok(given.into_iter().map(|given| (given.origin, given.value)).collect())
            }
        }
    }

    #[test]
    fn a_flag_has_one_dash_or_two_and_its_value_follows_it_or_a_sign() {
        let expected = [("--name", "n1"), ("--data-dir", "d"), ("--quota-backend-bytes", "-1")];
        let expected = expected.map(|(flag, value)| (flag.to_owned(), value.to_owned()));
        for line in [
            "--name n1 --data-dir d --quota-backend-bytes -1",
            "-name n1 -data-dir d -quota-backend-bytes -1",
            "-name=n1 --data-dir=d --quota-backend-bytes=-1",
        ] {
            assert_eq!(given(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_flag_that_is_true_or_false_needs_no_value() {
        for (line, value) in [
            ("--auto-tls", "true"),
            ("--auto-tls=0", "0"),
            ("-auto-tls false", "false"),
            ("--auto-tls --pre-vote", "true"),
        ] {
            assert_eq!(given(line).unwrap()[0].1, value, "{line}");
        }
    }

    #[test]
    fn a_value_may_have_signs_of_its_own() {
        let given = given("--initial-cluster a=http://h:1,b=http://h:2").unwrap();
        assert_eq!(given[0].1, "a=http://h:1,b=http://h:2");
    }

    #[test]
    fn an_unknown_flag_is_refused_with_the_nearest_known_one() {
        let refusal = given("--election-timout 5").unwrap_err().to_string();
        assert!(refusal.contains("--election-timout"), "{refusal}");
        assert!(refusal.contains("did you mean --election-timeout?"), "{refusal}");
        let refusal = given("--colour=red").unwrap_err().to_string();
        assert!(refusal.contains("--colour") && !refusal.contains("did you mean"), "{refusal}");
    }

    #[test]
    fn a_word_that_is_no_flag_and_a_flag_without_its_value_are_refused() {
        for line in ["n1", "-", "--", "---name", "--=x", "--name n1 gateway"] {
            assert!(matches!(given(line), Err(Refusal::NotAFlag { .. })), "{line}");
        }
        let refusal = given("--election-timeout").unwrap_err().to_string();
        assert!(refusal.contains("--election-timeout: expected a whole number"), "{refusal}");
    }

    #[test]
    fn help_is_asked_for_by_either_name() {
        for line in ["-h", "--help", "--name n1 -help"] {
            assert_eq!(given(line).unwrap()[0].0, "help", "{line}");
        }
    }
}
