//! A store that begins with the backup of another one, in a log of its own. Decides what it inherits:
//! everything that clients stored, and nothing that was said of the members of the old cluster. Must
//! not know where the backup comes from, nor who the new members are.

use crate::alarm::{AlarmKind, AlarmMember, Alarms};
use crate::machine::KvStateMachine;
use crate::meta::{Progress, REVISION_MAX};
use crate::revision::Revision;
use crate::snapshot::{Incoming, SnapshotError};
use quorate::core::{LogId, LogIndex, Term};
use std::io::Read;

/// Where the log of a store begins that inherits one which had applied nothing.
const FIRST: LogId = LogId::new(Term::new(1), LogIndex::new(1));

/// What an heir is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The entry up to which it stands: its own log goes on behind it.
    pub applied: LogId,
    /// The last revision.
    pub revision: Revision,
    /// What is compacted, if anything is.
    pub compacted: Option<Revision>,
    /// How many keys there are.
    pub key_count: u64,
    /// The alarms that were raised, and are not any more: they were about members of the old
    /// cluster. Whoever has still reason for one raises it anew.
    pub alarms: Vec<AlarmMember>,
}

impl KvStateMachine {
    /// Takes over a [`crate::Backup`] into an empty store, with its revisions, leases and users.
    ///
    /// With a bump the store goes on so many revisions later, and all of what was before is compacted:
    /// whoever has seen more of the old store than the backup has sees no revision twice, and who
    /// watches from an old one is told that it is compacted.
    ///
    /// The result depends on nothing but the backup and the bump, so that all members of a new
    /// cluster can make it by themselves.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the store is then empty as before.
    pub fn inherit(
        &mut self,
        source: &mut dyn Read,
        bump: u64,
    ) -> Result<Inherited, SnapshotError> {
        let mut incoming = Incoming::open(source)?;
        let alarms = incoming.progress.alarms.list(AlarmKind::None);
        incoming.becomes = becomes(&incoming.progress, bump)?;
        let Progress { applied, revision, compacted, key_count, .. } = incoming.becomes.clone();
        self.shared.replace(|engine, applied| {
            if applied > LogIndex::ORIGIN {
                return Err(SnapshotError::NotEmpty { applied });
            }
            incoming.replace(engine)
        })?;
        Ok(Inherited { applied, revision, compacted, key_count, alarms })
    }
}

fn becomes(writer: &Progress, bump: u64) -> Result<Progress, SnapshotError> {
    // Entries before it are in no log; their numbers are not used again, lest a session that is
    // called by one could be taken for another.
    let applied = if writer.applied.index == LogIndex::ORIGIN { FIRST } else { writer.applied };
    let alarms = Alarms::default();
    let kept = Progress { applied, covered: applied.index, alarms, ..writer.clone() };
    if bump == 0 {
        return Ok(kept);
    }
    let (revision, most) = (writer.revision, REVISION_MAX);
    let bumped = revision.get().checked_add(bump).filter(|bumped| *bumped <= most);
    let bumped = bumped.ok_or(SnapshotError::Bump { revision, bump, most })?;
    let bumped = Revision::new(bumped);
    Ok(Progress { revision: bumped, compacted: Some(bumped), ..kept })
}
