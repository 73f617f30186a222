//! `quorate sim`: the simulator's own command, with the key-value store in its worlds. Knows nothing
//! of flags, campaigns or stories.

pub(crate) use quorate_sim::command::Options;

use quorate_sim::command::{self, CommandError};
use quorate_sim::kv_world;

/// Simulates and prints a report.
///
/// # Errors
///
/// [`CommandError`]; one of standard output by itself, as everywhere in this program.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    command::run(options, &kv_world).map_err(|error| match error {
        CommandError::Output(error) => error.into(),
        other @ (CommandError::Found { .. }
        | CommandError::FoundOne(_)
        | CommandError::Stopped { .. }
        | CommandError::Undecided { .. }
        | CommandError::Flags(_)
        | CommandError::NothingToShrink(_)
        | CommandError::Progress(_)
        | CommandError::Program(_)
        | CommandError::Replay(_)
        | CommandError::Signals(_)) => other.into(),
    })
}

/// Whether a judge found something. Every other error says that there was no result.
pub(crate) fn is_finding(error: &anyhow::Error) -> bool {
    error.downcast_ref::<CommandError>().is_some_and(CommandError::is_finding)
}
