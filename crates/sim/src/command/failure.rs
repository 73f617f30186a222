//! How the simulator's command line ends, if not well. Prints nothing.

use super::replay::ReplayError;
use crate::case::Case;
use crate::progress::ProgressError;
use crate::run::Violation;
use std::io;
use std::sync::Arc;

/// A judge found something, or there is no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A judge found something in the one world that was run.
    #[error("{0}")]
    FoundOne(Box<Violation>),
    /// A judge found something in a campaign.
    #[error("a judge found something in {}", worlds(*.count))]
    Found {
        /// In how many worlds.
        count: u64,
    },
    /// A campaign was stopped before the last world; nothing was found so far.
    #[error("stopped: {left_count} worlds are left")]
    Stopped {
        /// How many.
        left_count: u64,
    },
    /// Nothing was found, but a judge gave up on some histories: they took too many steps.
    #[error("{count} histories of a key are undecided: the search for a legal order was given up")]
    Undecided {
        /// How many.
        count: u64,
    },
    /// Flags do not go together.
    #[error(transparent)]
    Flags(#[from] FlagsError),
    /// There is no breach to look for in smaller worlds.
    #[error("nothing to make small: `{0}` ends well")]
    NothingToShrink(Box<Case>),
    /// The progress file cannot be used.
    #[error(transparent)]
    Progress(#[from] Arc<ProgressError>),
    /// This program cannot be read, and a progress file has to name the build.
    #[error("reading ourselves")]
    Program(#[source] io::Error),
    /// A recording cannot be played.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Ctrl-C cannot be waited for.
    #[error("waiting for signals")]
    Signals(#[source] io::Error),
    /// Standard output takes nothing more.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Flags that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// A story, or a smaller case, of many worlds.
    #[error(
        "{flag} is for one world, found {found}: leave that out, and choose a world with --seed"
    )]
    OneWorldOnly {
        /// What is for one world.
        flag: &'static str,
        /// What makes it a campaign.
        found: String,
    },
    /// What only many worlds can have, for one.
    #[error("{flag} is for campaigns, found one world: leave it out, or add --seeds")]
    CampaignOnly {
        /// What is for many worlds.
        flag: &'static str,
    },
    /// A part of no story.
    #[error("--from, --to and --width are about a story, found none: add --trace")]
    NoStory,
    /// A part that ends before it begins.
    #[error(
        "--from is later than --to, found {from} and {to} (microseconds): nothing is left of the \
         story, choose an earlier --from"
    )]
    Backwards {
        /// In microseconds.
        from: u64,
        /// In microseconds.
        to: u64,
    },
    /// Seeds beyond the last number.
    #[error(
        "--seeds {count} from --seed {first} on go beyond the last seed, 18446744073709551615: \
         choose a smaller one"
    )]
    NotSoManySeeds {
        /// The first.
        first: u64,
        /// How many from there on.
        count: u64,
    },
    /// A table of figures of one world.
    #[error("--format markdown is for campaigns, found one world: add --seeds, or take json")]
    MarkdownOfOneWorld,
}

impl From<ProgressError> for CommandError {
    fn from(error: ProgressError) -> Self {
        Self::Progress(Arc::new(error))
    }
}

impl CommandError {
    /// What a process ends with: 1 if a judge found something, else 2.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        if self.is_finding() { 1 } else { 2 }
    }

    /// Whether a judge found something. Every other error says that there is no result.
    #[must_use]
    pub const fn is_finding(&self) -> bool {
        match self {
            Self::FoundOne(_) | Self::Found { .. } => true,
            Self::Stopped { .. }
            | Self::Undecided { .. }
            | Self::Flags(_)
            | Self::NothingToShrink(_)
            | Self::Progress(_)
            | Self::Program(_)
            | Self::Signals(_)
            | Self::Replay(_)
            | Self::Output(_) => false,
        }
    }
}

fn worlds(count: u64) -> String {
    if count == 1 { "one world".to_owned() } else { format!("{count} worlds") }
}
