//! The words behind a program's name as Go's clients read them, made into those that clap reads: a switch may
//! say that it is on or off, what follows a flag is its value whatever it looks like, and what is said last
//! counts. Must not know what a flag does; reads a command's own description.

use crate::go;
use clap::builder::ArgAction;
use clap::{Arg, Command};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Why words cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GoWordsError {
    /// A switch is neither on nor off.
    #[error(
        "invalid argument \"{found}\" for \"--{flag}\" flag: expected true or false (1, t, T, TRUE, \
         true, True, 0, f, F, FALSE, false or False)"
    )]
    NoBoolean {
        /// Which.
        flag: String,
        /// What it is instead.
        found: String,
    },
    /// A flag without what it takes.
    #[error("flag needs an argument: --{flag}")]
    NoValue {
        /// Which.
        flag: String,
    },
}

/// Makes words for clap of those for a command or for one below it. What is no flag of that one is left as it
/// is: clap says what is wrong with it.
///
/// # Errors
///
/// [`GoWordsError`].
pub(crate) fn settle(
    mut command: &Command,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, GoWordsError> {
    let mut settled = Vec::new();
    let mut switches = BTreeMap::new();
    let mut rest = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push(word);
            rest.extend(words);
            break;
        }
        let Some((argument, flag, value)) = flag_of(command, &word) else {
            command = command.find_subcommand(&word).unwrap_or(command);
            settled.push(word);
            continue;
        };
        if is_switch(argument) {
            switches.insert(flag.to_owned(), value.map_or(Ok(true), |text| boolean(flag, text))?);
        } else if argument.is_require_equals_set() {
            let is_on = value.map_or(Ok(true), |text| boolean(flag, text))?;
            settled.push(format!("--{flag}={is_on}").into());
        } else {
            let value = value.map(OsStr::new).map(OsStr::to_owned).or_else(|| words.next());
            let value = value.ok_or_else(|| GoWordsError::NoValue { flag: flag.to_owned() })?;
            let mut whole = OsString::from(format!("--{flag}="));
            whole.push(value);
            settled.push(whole);
        }
    }
    let on = switches.into_iter().filter(|(_, is_on)| *is_on);
    settled.extend(on.map(|(flag, _)| format!("--{flag}").into()));
    settled.extend(rest);
    Ok(settled)
}

/// Which flag of the command a word is, how it is called, and its value if that is in the same word.
fn flag_of<'a>(
    command: &'a Command,
    word: &'a OsStr,
) -> Option<(&'a Arg, &'a str, Option<&'a str>)> {
    let text = word.to_str()?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let long = name.strip_prefix("--");
    let short = name.strip_prefix('-').and_then(|short| short.parse().ok());
    let is_called = |argument: &&Arg| {
        let is_long = long.is_some() && argument.get_long() == long;
        is_long || (short.is_some() && argument.get_short() == short)
    };
    let argument = command.get_arguments().find(is_called)?;
    let flag = argument.get_long()?;
    let is_plain =
        matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Set | ArgAction::Append);
    is_plain.then_some((argument, flag, value))
}

fn is_switch(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

fn boolean(flag: &str, text: &str) -> Result<bool, GoWordsError> {
    let wrong = || GoWordsError::NoBoolean { flag: flag.to_owned(), found: text.to_owned() };
    go::boolean(text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let get = Command::new("get")
            .arg(Arg::new("key"))
            .arg(Arg::new("prefix").long("prefix").action(ArgAction::SetTrue))
            .arg(Arg::new("interactive").short('i').long("interactive").action(ArgAction::SetTrue))
            .arg(Arg::new("rev").long("rev"))
            .arg(Arg::new("ask").long("ask").num_args(0..=1).require_equals(true));
        let deep = Command::new("role").subcommand(get.clone());
        Command::new("root").subcommand(get).subcommand(deep)
    }

    fn settled(line: &str) -> Result<String, String> {
        let words = settle(&command(), line.split(' ').map(OsString::from));
        let words = words.map_err(|error| error.to_string())?;
        Ok(words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_switch_says_what_it_is_and_the_last_word_counts() {
        for (line, expected) in [
            ("get p --prefix", "get p --prefix"),
            ("get --prefix=true p", "get p --prefix"),
            ("get p --prefix=T --prefix", "get p --prefix"),
            ("get p --prefix --prefix=0", "get p"),
            ("get p --prefix=0 --prefix=1", "get p --prefix"),
            ("get p -i", "get p --interactive"),
            ("get p -i=F", "get p"),
            ("role get p --prefix=FALSE", "role get p"),
            ("get p --ask=t", "get p --ask=true"),
            ("get p --ask", "get p --ask=true"),
            ("get p --ask=0 x", "get p --ask=false x"),
        ] {
            assert_eq!(settled(line), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_follows_a_flag_is_its_value_whatever_it_looks_like() {
        for (line, expected) in [
            ("get --rev -1 p", "get --rev=-1 p"),
            ("get p --rev --prefix", "get p --rev=--prefix"),
            ("get p --rev=a=b", "get p --rev=a=b"),
            ("get p --rev=", "get p --rev="),
        ] {
            assert_eq!(settled(line), Ok(expected.to_owned()), "{line}");
        }
        assert_eq!(settled("get p --rev"), Err("flag needs an argument: --rev".to_owned()));
    }

    #[test]
    fn what_is_neither_on_nor_off_is_refused() {
        for line in
            ["get p --prefix=yes", "get p --prefix=", "get p --prefix=tRUE", "get p --ask=2"]
        {
            assert!(settled(line).unwrap_err().contains("expected true or false"), "{line}");
        }
    }

    #[test]
    fn what_is_no_flag_of_the_command_is_left_as_it_is() {
        for line in ["--prefix=true get", "get p --nope=1", "get -x=1 p", "get -- --prefix=true"] {
            assert_eq!(settled(line), Ok(line.to_owned()), "{line}");
        }
        assert_eq!(settled("get --prefix=1 -- -i=1"), Ok("get --prefix -- -i=1".to_owned()));
    }
}
