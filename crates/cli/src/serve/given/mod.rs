//! What was given to `quorate serve`, and what of it counts: a flag before a variable, and a config
//! file alone, as in etcd. What cannot be done is refused here or noted; what is left goes to clap,
//! which knows what each setting is. Must not know what a setting does.

mod file;
mod refusal;
mod table;
mod variables;
mod words;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;

pub(crate) use refusal::Refusal;

use crate::program::Program;
use crate::serve::near::nearest;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::error::Error;
use std::ffi::OsString;
use table::{Row, State, Takes};

/// What makes a node somebody else, or puts it elsewhere, if it is empty by mistake.
const IDENTITY: [&str; 7] = [
    "data-dir",
    "wal-dir",
    "listen-peer-urls",
    "listen-client-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "initial-cluster-token",
];

/// The settings that name the config file, or ask for the version.
const CONFIG_FILE: &str = "config-file";
const VERSION: &str = "version";

/// A setting that was given.
#[derive(Clone, Debug)]
struct Given {
    row: &'static Row,
    value: String,
    /// How whoever gave it would find it: `--name`, `ETCD_NAME`, or a line of a file.
    origin: String,
    source: Source,
}

impl Given {
    fn new(row: &'static Row, value: &str, origin: String, source: Source) -> Self {
        Self { row, value: value.to_owned(), origin, source }
    }
}

/// From where it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Variable,
    Key,
}

/// What is to be said about something that was given, once there is a log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    /// Nobody knows it.
    UnknownVariable { variable: String },
    /// etcd reserves it.
    Special { variable: String },
    /// It was heeded.
    Variable { variable: String },
    /// It is etcd's, and does nothing here.
    NoEffect { origin: String, because: &'static str },
    /// It was given more than once.
    Again { origin: String },
    /// There is nothing behind it.
    Empty { origin: String },
    /// A flag says otherwise.
    Shadowed { variable: String },
    /// The config file counts.
    File { path: String },
    /// The config file counts instead of it.
    Ignored { origin: String },
}

/// What was asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To show how it is used.
    Help,
    /// To show the version.
    Version,
    /// To start.
    Start(Settled),
}

/// The settings that count, each checked as far as it can be without knowing the others.
#[derive(Debug)]
pub(super) struct Settled {
    given: Vec<Given>,
    notes: Vec<Note>,
    has_file: bool,
}

/// Finds out what is asked for.
///
/// # Errors
///
/// If something is unknown, cannot be, or must not be ignored.
pub(super) fn settle(
    program: Program,
    words: &[OsString],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Asked, Refusal> {
    let flags = match words::read(words)? {
        words::Asked::Help => return Ok(Asked::Help),
        words::Asked::Start(flags) => flags,
    };
    if flags.iter().any(|given| {
        given.row.flag == VERSION && given.row.normal(&given.value) == Ok("true".to_owned())
    }) {
        return Ok(Asked::Version);
    }
    let (variables, unknown) = variables::read(environment)?;
    let all = flags.iter().chain(&variables);
    let path = all.filter(|given| given.row.flag == CONFIG_FILE && !given.value.is_empty());
    // A flag before a variable, and of flags the last.
    let path =
        path.max_by_key(|given| given.source == Source::Flag).map(|given| given.value.clone());
    let settled = match path {
        Some(path) => alone(&path, flags, variables)?,
        None => together(program, flags, variables, unknown)?,
    };
    settled.checked().map(Asked::Start)
}

/// The config file counts, and nothing else of etcd's.
fn alone(path: &str, flags: Vec<Given>, variables: Vec<Given>) -> Result<Settled, Refusal> {
    let mut given = file::read(path)?;
    let mut notes = vec![Note::File { path: path.to_owned() }];
    let others = flags.into_iter().chain(variables);
    for other in others.filter(|other| other.row.flag != CONFIG_FILE) {
        if other.row.is_etcds() {
            notes.push(Note::Ignored { origin: other.origin });
        } else {
            given.push(other);
        }
    }
    Ok(Settled { given, notes, has_file: true })
}

/// Flags and variables count.
fn together(
    program: Program,
    flags: Vec<Given>,
    variables: Vec<Given>,
    mut notes: Vec<Note>,
) -> Result<Settled, Refusal> {
    let mut given = Vec::new();
    for variable in variables {
        let flag = flags.iter().find(|flag| std::ptr::eq(flag.row, variable.row));
        match flag {
            // etcd does not start then. Under our own name the nearer one simply wins.
            Some(flag) if program == Program::Etcd => {
                return Err(Refusal::Conflict {
                    variable: variable.origin,
                    flag: flag.origin.clone(),
                });
            }
            Some(_) => notes.push(Note::Shadowed { variable: variable.origin }),
            None => {
                notes.push(Note::Variable { variable: variable.origin.clone() });
                given.push(variable);
            }
        }
    }
    given.extend(flags);
    Ok(Settled { given, notes, has_file: false })
}

impl Settled {
    /// Checks each value, and sorts out what is not served.
    fn checked(self) -> Result<Self, Refusal> {
        let mut kept: Vec<Given> = Vec::new();
        let mut notes = self.notes;
        for given in self.given {
            let is_telling = IDENTITY.contains(&given.row.flag) && given.source == Source::Flag;
            if given.value.is_empty() && is_telling {
                notes.push(Note::Empty { origin: given.origin.clone() });
            }
            // Of a word that must be one of several, etcd looks at an empty flag only.
            let is_word = matches!(given.row.takes, Takes::OneOf(..));
            let may_be_none =
                given.row.takes.may_be_empty() || (is_word && given.source != Source::Flag);
            if given.value.is_empty() && may_be_none {
                continue;
            }
            let value = given.row.normal(&given.value).map_err(|expected| Refusal::Value {
                flag: given.row.flag,
                origin: given.origin.clone(),
                expected: expected.to_owned(),
                found: given.value.clone(),
            })?;
            let given = Given { value, ..given };
            let is_as_is = |as_is: &[&str]| as_is.contains(&given.value.as_str());
            match given.row.state {
                State::Served | State::Ours => {
                    let count = kept.len();
                    kept.retain(|other| !std::ptr::eq(other.row, given.row));
                    if kept.len() < count {
                        notes.push(Note::Again { origin: given.origin.clone() });
                    }
                    kept.push(given);
                }
                State::NoEffect { as_is, because } if !is_as_is(as_is) => {
                    notes.push(Note::NoEffect { origin: given.origin, because });
                }
                State::Refused { as_is, because } if !is_as_is(as_is) => {
                    return Err(Refusal::Dangerous {
                        flag: given.row.flag,
                        origin: given.origin,
                        because,
                    });
                }
                State::NoEffect { .. } | State::Refused { .. } => {}
            }
        }
        Ok(Self { given: kept, notes, has_file: self.has_file })
    }

    /// Whether there is a config file.
    pub(super) const fn has_file(&self) -> bool {
        self.has_file
    }

    /// Lets clap read the settings; `command` is that of the verb.
    ///
    /// # Errors
    ///
    /// [`Refusal::Value`], or what else clap has to say.
    pub(super) fn matches(&self, command: Command) -> anyhow::Result<ArgMatches> {
        let name = OsString::from(command.get_name());
        let settings =
            self.given.iter().filter(|given| ![CONFIG_FILE, VERSION].contains(&given.row.flag));
        let words = settings.map(|given| format!("--{}={}", given.row.flag, given.value).into());
        let words: Vec<OsString> = std::iter::once(name).chain(words).collect();
        command.try_get_matches_from(words).map_err(|error| match self.wrong_value(&error) {
            Some(refusal) => refusal.into(),
            None => error.into(),
        })
    }

    /// What clap says about a value, in terms of where it was given.
    fn wrong_value(&self, error: &clap::Error) -> Option<Refusal> {
        if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
            return None;
        }
        let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
            return None;
        };
        let flag = argument.trim_start_matches("--").split([' ', '=', '[']).next()?;
        let given = self.given.iter().find(|given| given.row.flag == flag)?;
        let found = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(found)) => found.clone(),
            _ => given.value.clone(),
        };
        let (flag, origin) = (given.row.flag, given.origin.clone());
        let reason = error.source().map(ToString::to_string).unwrap_or_default();
        if let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) {
            return Some(Refusal::Value { flag, origin, expected: known.join(", or "), found });
        }
        if reason.starts_with("expected ") {
            return Some(Refusal::Sentence { flag, origin, sentence: reason });
        }
        let expected = format!("{} ({reason})", given.row.takes.expected());
        Some(Refusal::Value { flag, origin, expected, found })
    }

    /// Adds to an error where the settings come from that it speaks of as flags.
    pub(super) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let said = format!("{error:#}");
        let is_end = |rest: &str| {
            !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-')
        };
        let is_named = |given: &&Given| {
            let flag = format!("--{}", given.row.flag);
            given.source != Source::Flag && said.split(&flag).skip(1).any(is_end)
        };
        let named = self.given.iter().filter(is_named);
        let named =
            named.map(|given| format!("--{} is what {} says", given.row.flag, given.origin));
        let named: Vec<String> = named.collect();
        if named.is_empty() { error } else { error.context(named.join("; ")) }
    }

    /// Writes down what there is to be said.
    pub(super) fn tell(&self) {
        for note in &self.notes {
            note.tell();
        }
    }
}

impl Note {
    fn tell(&self) {
        match self {
            Self::UnknownVariable { variable } => {
                let known = table::ENTRIES.iter().flat_map(|entry| &entry.variables);
                let nearest = nearest(variable, known.map(String::as_str));
                tracing::warn!(
                    "environment-variable" = variable,
                    nearest,
                    "unrecognized environment variable"
                );
            }
            Self::Special { variable } => {
                tracing::warn!(key = variable, "cannot set special environment variable");
            }
            Self::Variable { variable } => {
                tracing::info!(
                    "variable-name" = variable,
                    "recognized and used environment variable"
                );
            }
            Self::NoEffect { origin, because } => {
                tracing::warn!(setting = origin, because, "this setting has no effect");
            }
            Self::Again { origin } => {
                tracing::warn!(setting = origin, "given more than once: the last one counts");
            }
            Self::Empty { origin } => {
                tracing::warn!(
                    setting = origin,
                    "given and empty, as if by a variable of a shell that is not set"
                );
            }
            Self::Shadowed { variable } => {
                tracing::warn!(
                    "environment-variable" = variable,
                    "environment variable is shadowed by the corresponding command-line flag"
                );
            }
            Self::File { path } => tracing::info!(
                path,
                "loaded server configuration, other configuration command line flags and \
                 environment variables will be ignored if provided"
            ),
            Self::Ignored { origin } => {
                tracing::warn!(setting = origin, "ignored, because there is a config file");
            }
        }
    }
}

/// Whether an argument was given, and is no default.
pub(super) fn is_set(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
}

/// Adds to the help of each flag which variable stands for it.
pub(crate) fn with_variables(command: Command) -> Command {
    command.mut_args(|argument| {
        let entry = argument
            .get_long()
            .and_then(|flag| table::ENTRIES.iter().find(|entry| entry.row.flag == flag));
        let Some(variable) = entry.and_then(|entry| entry.variables.first()) else {
            return argument;
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        argument.help(format!("{help} [env: {variable}]"))
    })
}
