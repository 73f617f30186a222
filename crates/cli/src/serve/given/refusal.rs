//! Why a node is not started with what was given, in words for whoever gave it. Must not know what is
//! looked at when.

use super::table::Takes;
use crate::program::Program;
use std::io;

/// What etcd looks at when it has read all flags: a wrong one ends as a wrong variable does.
const LATE: [&str; 3] = ["auto-compaction-mode", "logger", "name"];
/// What etcd does not survive if it is wrong, wherever it stands: it ends as with a wrong flag.
const PANICS: [&str; 1] = ["log-level"];

/// Settings that are not followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A word of the command line.
    #[error("expected a flag, such as --name, found `{found}`")]
    NotAFlag {
        /// The word.
        found: String,
    },
    /// Nobody knows it.
    #[error("there is no flag --{found}{}", proposal(nearest.map(|name| format!("--{name}"))))]
    UnknownFlag {
        /// What was given.
        found: String,
        /// What was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// Its value is missing.
    #[error("--{flag}: expected {} after it, found nothing", takes.expected())]
    NoValue {
        /// The flag.
        flag: String,
        /// What should have followed.
        takes: Takes,
    },
    /// It has bytes that are no text.
    #[error("{origin}: expected a text in UTF-8, found other bytes")]
    NotText {
        /// Where it was given.
        origin: String,
    },
    /// The value is none.
    #[error("{origin}: expected {expected}, found `{found}`")]
    Value {
        /// Of which flag.
        flag: &'static str,
        /// Where it was given.
        origin: String,
        /// What is possible.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The value is none, which is said already.
    #[error("{origin}: {sentence}")]
    Sentence {
        /// Of which flag.
        flag: &'static str,
        /// Where it was given.
        origin: String,
        /// What was expected, and what was found.
        sentence: String,
    },
    /// It cannot be done, and must not be ignored.
    #[error("{origin} cannot be followed, and to ignore it would be dangerous: {because}")]
    Dangerous {
        /// Which flag.
        flag: &'static str,
        /// Where it was given.
        origin: String,
        /// What is not there.
        because: &'static str,
    },
    /// The same setting as a flag and as a variable, as etcd puts it.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either \
         unset environment variable or disable flag): {variable}, {flag}"
    )]
    Conflict {
        /// The one.
        variable: String,
        /// The other.
        flag: String,
    },
    /// There is no such file, or it may not be read.
    #[error("cannot read the config file {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It is no YAML.
    #[error("the config file {path} is no YAML: {reason}")]
    NoYaml {
        /// The file.
        path: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// It is YAML, and no settings.
    #[error("{path}, line {line}: expected {expected}, found something else")]
    Form {
        /// The file.
        path: String,
        /// Where.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// Nobody knows the key.
    #[error("{origin}: there is no such setting{}", proposal(nearest.map(str::to_owned)))]
    UnknownKey {
        /// Where it is.
        origin: String,
        /// What was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// A key is there more than once.
    #[error("{origin}: expected each key once, found it in line {first} already")]
    Twice {
        /// Where the second one is.
        origin: String,
        /// The line of the first.
        first: usize,
    },
}

impl Refusal {
    /// How the program ends. etcd tells what is wrong with a flag, 2, from everything else, 1.
    pub(crate) fn exit_code(&self, program: Program) -> u8 {
        let is_flags = match self {
            Self::UnknownFlag { .. } | Self::NoValue { .. } | Self::NotText { .. } => true,
            Self::Dangerous { flag, .. } => !LATE.contains(flag),
            Self::Value { flag, origin, .. } | Self::Sentence { flag, origin, .. } => {
                PANICS.contains(flag) || (origin.starts_with("--") && !LATE.contains(flag))
            }
            Self::NotAFlag { .. }
            | Self::Conflict { .. }
            | Self::Unreadable { .. }
            | Self::NoYaml { .. }
            | Self::Form { .. }
            | Self::UnknownKey { .. }
            | Self::Twice { .. } => false,
        };
        if program == Program::Etcd && !is_flags { 1 } else { 2 }
    }
}

fn proposal(nearest: Option<String>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}
