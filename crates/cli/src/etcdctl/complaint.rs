//! What is said when a verb fails, in etcdctl's words, and with which code it ends. Must not know what a verb
//! does.

use crate::client::{Ending, Refused, TextError, Unanswered};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::io;

/// etcdctl's exit codes.
pub(super) const FAILED: u8 = 1;
pub(super) const NOT_LET_IN: u8 = 2;
pub(super) const BAD_INPUT: u8 = 3;
pub(super) const NOT_SERVED: u8 = 4;
pub(super) const INTERRUPTED: u8 = 5;
pub(super) const BAD_ARGUMENTS: u8 = 128;

/// What is said, and with which code it ends.
pub(super) struct Complaint {
    /// The exit code.
    pub(super) code: u8,
    /// Behind `Error: `; nothing is said if there are none.
    pub(super) words: String,
    /// A line before that.
    pub(super) before: Option<String>,
}

impl Complaint {
    pub(super) fn new(code: u8, words: impl Into<String>) -> Self {
        Self { code, words: words.into(), before: None }
    }

    /// What is wrong with the words of a command line.
    pub(super) fn of_arguments(verb: &[&str], error: &clap::Error) -> Self {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.as_str(),
            Some(_) | None => "",
        };
        let argument = context(ContextKind::InvalidArg);
        let (flag, found) =
            (argument.split([' ', '=', '[']).next(), context(ContextKind::InvalidValue));
        let is_flag = argument.starts_with('-');
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        let kind = error.kind();
        if kind == ErrorKind::InvalidSubcommand || (kind == ErrorKind::UnknownArgument && is_flag) {
            return Self::new(FAILED, text);
        }
        if !matches!(kind, ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
            return Self::new(BAD_ARGUMENTS, text);
        }
        match (flag, verb) {
            (Some("--load"), _) => Self::new(NOT_SERVED, format!("unknown load option {found}")),
            (Some("--order"), _) => Self::new(NOT_SERVED, format!("bad sort order {found}")),
            (Some("--sort-by"), _) => Self::new(NOT_SERVED, format!("bad sort target {found}")),
            (Some("--consistency"), _) => {
                Self::new(NOT_SERVED, format!("unknown consistency flag \"{found}\""))
            }
            // Not read where the others are.
            (Some("--lease"), _) => Self::new(BAD_ARGUMENTS, text),
            (_, ["compaction", ..]) => Self::new(FAILED, text),
            _ => Self::new(if is_flag { FAILED } else { BAD_ARGUMENTS }, text),
        }
    }

    /// In etcdctl's words: what the server said, without what we would add for a person.
    pub(super) fn of(verb: &[&str], error: &anyhow::Error) -> Self {
        let complaint = Self::of_error(verb, error);
        match verb {
            // Whatever it was.
            ["snapshot", "save"] => Self { code: INTERRUPTED, ..complaint },
            _ => complaint,
        }
    }

    fn of_error(verb: &[&str], error: &anyhow::Error) -> Self {
        let is_broken_pipe = error.chain().any(|cause| {
            let cause = cause.downcast_ref::<io::Error>();
            cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
        });
        if is_broken_pipe {
            return Self::new(FAILED, "");
        }
        if let Some(ending) = error.downcast_ref() {
            return Self::of_ending(verb, ending);
        }
        if let Some(Unanswered { last, .. }) = error.downcast_ref() {
            return Self::new(FAILED, last);
        }
        if error.downcast_ref::<TextError>().is_some() {
            return Self::new(BAD_INPUT, format!("{error:#}"));
        }
        let Some(refused) = error.downcast_ref::<Refused>() else {
            let code = if verb == ["lease", "keep-alive"] { NOT_LET_IN } else { FAILED };
            return Self::new(code, format!("{error:#}"));
        };
        let said = &in_go(refused);
        if said.contains("authentication failed") {
            return Self::new(NOT_LET_IN, said);
        }
        match verb {
            ["lease", "keep-alive"] => Self::new(NOT_LET_IN, said),
            ["lease", "revoke"] => Self::new(FAILED, format!("failed to revoke lease ({said})")),
            ["lease", "grant"] => Self::new(FAILED, format!("failed to grant lease ({said})")),
            _ => Self::new(FAILED, said),
        }
    }

    fn of_ending(verb: &[&str], ending: &Ending) -> Self {
        const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
        let canceled = |why: &str| Self {
            before: Some(format!("watch was canceled ({why})")),
            ..Self::new(INTERRUPTED, "watch is canceled by the server")
        };
        match ending {
            Ending::Command { words, code } => Self::new(*code, words),
            Ending::ChangeCommand { words } => {
                Self { before: Some(words.clone()), ..Self::new(FAILED, "") }
            }
            Ending::Interrupted => Self::new(FAILED, "context canceled"),
            Ending::Expired if verb.first() == Some(&"elect") => {
                Self::new(FAILED, "elect: session expired")
            }
            Ending::Expired => Self::new(FAILED, "session expired"),
            Ending::NoKey => Self::new(BAD_ARGUMENTS, "bad number of arguments"),
            Ending::NoValue => Self::new(
                BAD_ARGUMENTS,
                "put command needs 1 argument and input from stdin or 2 arguments",
            ),
            Ending::InputEnded => Self::new(BAD_INPUT, ending.to_string()),
            Ending::CheckFailed => Self::new(FAILED, ""),
            Ending::NotEmpty { prefix } => Self::new(
                BAD_INPUT,
                format!(
                    "prefix {prefix:?} has keys. Delete with 'etcdctl del --prefix {prefix}' first"
                ),
            ),
            Ending::Compacted { .. } if verb.first() == Some(&"make-mirror") => {
                Self::new(FAILED, COMPACTED)
            }
            Ending::Compacted { .. } => canceled(COMPACTED),
            Ending::WatchRefused { reason } => canceled(reason),
        }
    }
}

/// As etcd's client prints it: words that it does not know, with their code.
fn in_go(refused: &Refused) -> String {
    let Refused { said, code, .. } = refused;
    if said.starts_with("etcdserver: ") {
        return said.clone();
    }
    format!("rpc error: code = {code:?} desc = {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_fails_ends_with_5_whatever_the_cause_and_other_verbs_do_not() {
        let code = |verb: &[&str], error: &anyhow::Error| Complaint::of(verb, error).code;
        for error in [
            anyhow::anyhow!("no room"),
            anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Ending::Interrupted.into(),
        ] {
            assert_eq!(code(&["snapshot", "save"], &error), INTERRUPTED, "{error}");
            assert_eq!(code(&["snapshot", "status"], &error), FAILED, "{error}");
        }
    }

    #[test]
    fn each_ending_has_etcdctls_code_and_words() {
        let said = |verb: &str, ending: Ending| {
            let complaint = Complaint::of(&[verb], &ending.into());
            (complaint.code, complaint.words, complaint.before)
        };
        let plain = |code, words: &str| (code, words.to_owned(), None);
        let command = Ending::Command { words: "exit status 7".to_owned(), code: 7 };
        assert_eq!(said("lock", command), plain(7, "exit status 7"));
        assert_eq!(said("lock", Ending::Interrupted), plain(1, "context canceled"));
        assert_eq!(said("lock", Ending::Expired), plain(1, "session expired"));
        assert_eq!(said("elect", Ending::Expired), plain(1, "elect: session expired"));
        assert_eq!(
            said("watch", Ending::InputEnded),
            plain(3, "error reading watch request line: EOF")
        );
        assert_eq!(said("check", Ending::CheckFailed), plain(1, ""));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(
            said("watch", Ending::Compacted { revision: 7 }),
            (
                5,
                "watch is canceled by the server".to_owned(),
                Some(format!("watch was canceled ({compacted})"))
            )
        );
        assert_eq!(said("make-mirror", Ending::Compacted { revision: 7 }), plain(1, compacted));
        let occupied = Ending::NotEmpty { prefix: "/p/".to_owned() };
        assert_eq!(
            said("check", occupied),
            plain(3, "prefix \"/p/\" has keys. Delete with 'etcdctl del --prefix /p/' first")
        );
    }
}
