//! From what the disk holds to a running server (§3.8). The one place where restored state is
//! checked; every other room trusts it.

use super::apply::Applier;
use super::common::Common;
use super::follower::Follower;
use super::lost::Lost;
use super::{Raft, RoleState};
use crate::chance::Chance;
use crate::configuration::VERSION_MAX;
use crate::log::Log;
use crate::persistence::Persistence;
use crate::{
    Configuration, Entry, LogId, LogIndex, NodeId, Options, OptionsError, Restored, Term, Time,
};

/// Why a server cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The settings cannot work together.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The log ends before it starts.
    #[error("the log ends at {last_log}, before its base {base}")]
    LastBeforeBase {
        /// The end found.
        last_log: LogId,
        /// The base found.
        base: LogId,
    },
    /// The state machine has not what the log leaves out, or more than the log has.
    #[error("the state machine has applied {applied}; expected {base} to {last}")]
    AppliedOutside {
        /// What it has applied.
        applied: LogIndex,
        /// The least expected.
        base: LogIndex,
        /// The most expected.
        last: LogIndex,
    },
    /// The runs of terms do not describe the log from `base` to `last_log`.
    #[error("the run of term {term} from index {index} does not fit the log {base} to {last_log}")]
    TermRuns {
        /// Where the misfit starts.
        index: LogIndex,
        /// The term found there.
        term: Term,
        /// The base of the log.
        base: LogId,
        /// The end of the log.
        last_log: LogId,
    },
    /// A configuration is outside of the log, or out of order.
    #[error("a configuration at {index} is out of order or outside of the log")]
    Configurations {
        /// Where.
        index: LogIndex,
    },
    /// No cluster has changed its members that often, and counting on would overflow.
    #[error("a configuration has version {version}; expected {most} at most")]
    ConfigurationVersion {
        /// The version found.
        version: u64,
        /// The most expected.
        most: u64,
    },
    /// The entries in memory are not the end of the log.
    #[error("the tail of the log has {got} where {expected} was expected")]
    Tail {
        /// What the term runs say.
        expected: LogId,
        /// What the tail says.
        got: LogId,
    },
}

impl Raft {
    /// Starts a server as a follower (§3.4) from what its disk holds. `seed` decides everything
    /// that is left to chance; equal seeds on different nodes are fine.
    ///
    /// # Errors
    ///
    /// [`StartError::Options`] if the settings are unusable; the other variants if the restored
    /// state contradicts itself, which means that the disk or the code that read it is broken.
    pub fn new(
        id: NodeId,
        options: Options,
        seed: u64,
        mut restored: Restored,
        now: Time,
    ) -> Result<Self, StartError> {
        options.validate()?;
        check(&restored)?;
        let mut chance = Chance::new(seed);
        for value in [id.get(), now.as_micros(), restored.last_log.index.get()] {
            chance.mix(value);
        }
        chance.mix(restored.hard_state.current_term.get());
        let log = Log::restored(&mut restored);
        let lost = restored.lost.filter(|horizon| *horizon > restored.last_log);
        // Figure 3.1 starts at 0; what the state machine has applied was committed. If entries are
        // lost, they may have been what the log was committed with: it is not what was applied then.
        let applied = if lost.is_some() { LogIndex::ORIGIN } else { restored.applied };
        let mut common = Common {
            id,
            now,
            effects: Vec::new(),
            next_batch: chance.next(),
            chance,
            current_term: restored.hard_state.current_term,
            voted_for: restored.hard_state.voted_for,
            persistence: Persistence::new(restored.last_log.index, restored.hard_state),
            commit_index: applied.max(log.base_index()),
            applier: Applier::new(restored.applied),
            installing: None,
            is_writing_chunk: false,
            election_timer_started: now,
            election_timeout: options.election_timeout,
            heard_from_leader_at: None,
            promise_length_max: options.election_timeout,
            promised_until: None,
            promised_length: std::time::Duration::ZERO,
            haste: None,
            poison: None,
            dismissed_by: None,
            introduced: std::collections::BTreeMap::new(),
            speaks: std::collections::BTreeMap::new(),
            lost: lost.map(Lost::new),
            applied_at_start: restored.applied,
            questions: std::collections::BTreeMap::new(),
            log,
            options,
        };
        let last_term = restored.last_log.max(lost.unwrap_or_default()).term;
        if last_term > common.current_term {
            // A crash between the parts of one write: the entries arrived, the term did not.
            // Nothing was acknowledged in that term, and no vote of it can have been given.
            common.set_term(last_term);
        }
        common.draw_election_timeout();
        Ok(Self { common, role: RoleState::Follower(Follower::new(None)) })
    }
}

fn check(restored: &Restored) -> Result<(), StartError> {
    let (base, last_log) = (restored.base.last_included, restored.last_log);
    let is_empty = base.index == last_log.index;
    if last_log.index < base.index || (is_empty && last_log != base) {
        return Err(StartError::LastBeforeBase { last_log, base });
    }
    let has_no_state = restored.applied == LogIndex::ORIGIN;
    let is_behind = restored.applied < base.index && !has_no_state;
    let last = restored.lost.map_or(last_log.index, |lost| lost.index.max(last_log.index));
    if is_behind || restored.applied > last {
        let (applied, base) = (restored.applied, base.index);
        return Err(StartError::AppliedOutside { applied, base, last });
    }
    check_term_runs(restored)?;
    check_configurations(restored)?;
    check_tail(restored)
}

/// The first run starts right after the base, indexes and terms grow, the last one is the log's.
fn check_term_runs(restored: &Restored) -> Result<(), StartError> {
    let (base, last_log) = (restored.base.last_included, restored.last_log);
    let misfit = |index, term| Err(StartError::TermRuns { index, term, base, last_log });
    let mut previous: Option<(LogIndex, Term)> = None;
    for (index, term) in &restored.term_runs {
        let fits = match previous {
            None => *index == base.index.next() && *term >= base.term,
            Some((before, below)) => *index > before && *term > below,
        };
        if !fits || *index > last_log.index {
            return misfit(*index, *term);
        }
        previous = Some((*index, *term));
    }
    let last_term = previous.map_or(base.term, |(_, term)| term);
    let is_missing = previous.is_none() && last_log.index > base.index;
    if is_missing || last_term != last_log.term {
        return misfit(last_log.index, last_log.term);
    }
    Ok(())
}

fn check_configurations(restored: &Restored) -> Result<(), StartError> {
    // A leader counts on from what a message may bring.
    let most = 2 * VERSION_MAX;
    let is_possible = |configuration: &Configuration| {
        let version = configuration.version;
        let refused = StartError::ConfigurationVersion { version, most };
        if version > most { Err(refused) } else { Ok(()) }
    };
    is_possible(&restored.base.configuration)?;
    let mut previous = restored.base.last_included.index;
    for (index, configuration) in &restored.configurations {
        if *index <= previous || *index > restored.last_log.index {
            return Err(StartError::Configurations { index: *index });
        }
        is_possible(configuration)?;
        previous = *index;
    }
    Ok(())
}

/// Walks the tail from its end: every entry is the one that the term runs promise.
fn check_tail(restored: &Restored) -> Result<(), StartError> {
    let mut runs = restored.term_runs.iter().rev();
    let mut run = runs.next();
    let mut expected_index = restored.last_log.index;
    for Entry { log_id, .. } in restored.tail.iter().rev() {
        while run.is_some_and(|(first, _)| *first > expected_index) {
            run = runs.next();
        }
        let term = run.map_or(restored.base.last_included.term, |(_, term)| *term);
        let expected = LogId::new(term, expected_index);
        let is_beyond_base = expected_index <= restored.base.last_included.index;
        if is_beyond_base || *log_id != expected {
            return Err(StartError::Tail { expected, got: *log_id });
        }
        expected_index = expected_index.previous().unwrap_or_default();
    }
    Ok(())
}
