//! One world with everything that was changed in it, as a small value: it runs the same way every
//! time, and is written as the flags that show it again. Knows how to change a world; not why.

use crate::cluster::ClusterOptions;
use crate::kinds::{FAULT_KINDS, FaultKind, SABOTAGES};
use crate::ordinals::Ordinals;
use crate::run::World;
use std::fmt;
use std::str::FromStr;

/// A world and what was changed in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The world.
    pub world: World,
    /// What was changed.
    pub changes: Changes,
}

/// What was changed in a world that a seed made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Kinds of trouble that are switched off.
    pub without: Vec<&'static FaultKind>,
    /// Troubles that do not happen, by their ordinals.
    pub skip: Ordinals,
    /// How many clients ask, instead of the number that the seed drew.
    pub clients: Option<usize>,
    /// How many requests they make together, if not as many as they like.
    pub requests: Option<u64>,
    /// Another order of chance for the same troubles.
    pub schedule: u64,
    /// What no honest machine does, to see the judges notice.
    pub sabotage: Vec<&'static FaultKind>,
}

/// Flags that name no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// There is no such flag.
    #[error(
        "expected --seed, --nodes, --steps, --without, --skip, --clients, --requests, --schedule \
         or --sabotage, got {got:?}"
    )]
    UnknownFlag {
        /// What was found.
        got: String,
    },
    /// A flag without its value, or with one that it cannot have.
    #[error("{flag} cannot be {got:?}")]
    WrongValue {
        /// The flag.
        flag: String,
        /// What was found.
        got: String,
    },
}

impl From<World> for Case {
    fn from(world: World) -> Self {
        Self { world, changes: Changes::default() }
    }
}

impl Changes {
    /// The last number of an order of chance: 24 bits of it are used.
    pub const SCHEDULE_MAX: u64 = (1 << 24) - 1;

    /// Changes a world.
    pub fn apply(&self, options: &mut ClusterOptions) {
        for kind in &self.without {
            kind.apply(options);
        }
        for sabotage in &self.sabotage {
            sabotage.apply(options);
        }
        options.skipped_troubles.clone_from(&self.skip);
        options.client_count = self.clients.unwrap_or(options.client_count);
        options.request_count_max = self.requests.or(options.request_count_max);
        options.schedule = self.schedule;
    }
}

/// The flags that show it again, such as `--seed 7 --without pauses,loss --skip 3,9-12`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let World { seed, node_count, steps } = self.world;
        write!(f, "--seed {seed}")?;
        if node_count > 0 {
            write!(f, " --nodes {node_count}")?;
        }
        write!(f, " --steps {steps}{}", self.changes)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(f, "--sabotage", &self.sabotage, SABOTAGES)?;
        write_names(f, "--without", &self.without, FAULT_KINDS)?;
        if !self.skip.is_empty() {
            write!(f, " --skip {}", self.skip)?;
        }
        if let Some(clients) = self.clients {
            write!(f, " --clients {clients}")?;
        }
        if let Some(requests) = self.requests {
            write!(f, " --requests {requests}")?;
        }
        if self.schedule != 0 {
            write!(f, " --schedule {}", self.schedule)?;
        }
        Ok(())
    }
}

/// In the order of the list, whatever order they were chosen in.
fn write_names(
    f: &mut fmt::Formatter<'_>,
    flag: &str,
    chosen: &[&'static FaultKind],
    all: &'static [FaultKind],
) -> fmt::Result {
    if chosen.is_empty() {
        return Ok(());
    }
    write!(f, " {flag} {}", FaultKind::list(chosen, all))
}

impl FromStr for Case {
    type Err = CaseError;

    /// Reads what [`Case`] writes; what is not named is as in [`World::default`].
    fn from_str(text: &str) -> Result<Self, CaseError> {
        let mut case = Self::from(World::default());
        let mut words = text.split_whitespace();
        while let Some(flag) = words.next() {
            case.set(flag, words.next().unwrap_or_default())?;
        }
        Ok(case)
    }
}

impl Case {
    fn set(&mut self, flag: &str, value: &str) -> Result<(), CaseError> {
        let wrong = || CaseError::WrongValue { flag: flag.to_owned(), got: value.to_owned() };
        let number = || value.parse::<u64>().map_err(|_| wrong());
        let changes = &mut self.changes;
        match flag {
            "--seed" => self.world.seed = number()?,
            "--nodes" => self.world.node_count = number()?,
            "--steps" => self.world.steps = number()?,
            "--without" => {
                changes.without = FaultKind::named(value, FAULT_KINDS).map_err(|_| wrong())?;
            }
            "--sabotage" => {
                changes.sabotage = FaultKind::named(value, SABOTAGES).map_err(|_| wrong())?;
            }
            "--skip" => changes.skip = value.parse().map_err(|_| wrong())?,
            "--clients" => changes.clients = Some(value.parse().map_err(|_| wrong())?),
            "--requests" => changes.requests = Some(number()?),
            "--schedule" => {
                let fits = |number: &u64| *number <= Changes::SCHEDULE_MAX;
                changes.schedule = Some(number()?).filter(fits).ok_or_else(wrong)?;
            }
            _ => return Err(CaseError::UnknownFlag { got: flag.to_owned() }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_is_written() {
        for text in [
            "--seed 7 --steps 20000",
            "--seed 7 --nodes 5 --steps 20000",
            "--seed 7 --nodes 3 --steps 512 --sabotage early-acks --without pauses,loss --skip 3,9-12 \
             --clients 2 --requests 40 --schedule 3",
            "--seed 7 --nodes 3 --steps 512 --without all",
            "--seed 7 --nodes 3 --steps 512 --without all,-pauses,-loss",
        ] {
            assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn flags_that_name_no_case_are_refused_with_what_is_wrong() {
        for text in [
            "--sed 7",
            "--seed",
            "--seed x",
            "--without gremlins",
            "--skip 9-3",
            "--schedule 16777216",
        ] {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
