//! Ways in which a verb ends that a script must be able to tell apart: none is about reaching a cluster.
//! Must not know which verb it was.

use std::process::ExitStatus;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    /// The command that was to be run has failed.
    #[error("{words}")]
    Command {
        /// How.
        words: String,
        /// With which exit code.
        code: u8,
    },
    /// The command that was to be run for a change has failed.
    #[error("{words}")]
    ChangeCommand {
        /// Which, and how.
        words: String,
    },
    /// A signal came before it was this client's turn.
    #[error("interrupted before it was our turn")]
    Interrupted,
    /// The lease was not renewed in time, or somebody revoked it.
    #[error("the lease has ended: whatever was held with it may be somebody else's now")]
    Expired,
    /// It was not said what to watch.
    #[error("expected a key, found none: `watch KEY`, or `watch --prefix PREFIX`")]
    NoKey,
    /// It was not said what to put.
    #[error(
        "expected a value, found none: `quorate put KEY VALUE`, or pipe the value into \
         `quorate put KEY`"
    )]
    NoValue,
    /// There is nothing more to read.
    #[error("error reading watch request line: EOF")]
    InputEnded,
    /// What was measured is not good enough; it was told.
    #[error("the cluster does not pass the check")]
    CheckFailed,
    /// A check would mix up somebody's keys with its own.
    #[error(
        "there are keys that begin with {prefix:?}, which the check would delete: delete them first \
         (`quorate del --prefix {prefix}`), or name another --prefix"
    )]
    NotEmpty {
        /// What they begin with.
        prefix: String,
    },
    /// What a watch is to begin with is forgotten.
    #[error(
        "what happened before revision {revision} is forgotten (compacted); `--rev {revision}` shows \
         the rest"
    )]
    Compacted {
        /// The first one that is known.
        revision: i64,
    },
    /// The cluster does not let a watch go on.
    #[error("the watch was refused: {reason}")]
    WatchRefused {
        /// Its words.
        reason: String,
    },
}

impl Ending {
    /// How a command that was run has ended, if not well: with its own exit code, and 255 if a signal
    /// ended it.
    pub(super) fn of_command(status: ExitStatus) -> Result<(), Self> {
        if status.success() {
            return Ok(());
        }
        match status.code() {
            Some(code) => Err(Self::Command {
                words: format!("exit status {code}"),
                code: u8::try_from(code).unwrap_or(u8::MAX),
            }),
            None => Err(Self::Command { words: status.to_string(), code: u8::MAX }),
        }
    }

    /// The exit code of `quorate`; none if all is well.
    pub(crate) const fn code(&self) -> Option<u8> {
        match self {
            // Whoever ends their input wants no more.
            Self::InputEnded => None,
            Self::Command { code, .. } => Some(*code),
            Self::NoKey => Some(2),
            Self::ChangeCommand { .. }
            | Self::NoValue
            | Self::Interrupted
            | Self::Expired
            | Self::CheckFailed
            | Self::NotEmpty { .. }
            | Self::Compacted { .. }
            | Self::WatchRefused { .. } => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_command_that_fails_gives_its_code_and_one_that_is_killed_gives_255() {
        let ending = |raw| Ending::of_command(ExitStatus::from_raw(raw)).map_err(|end| end.code());
        assert!(ending(0).is_ok());
        assert_eq!(ending(7 << 8), Err(Some(7)));
        assert_eq!(ending(9), Err(Some(255)));
    }
}
