//! What alarms forbid, for the reference: which are raised, and which commands must be refused
//! meanwhile. Knows nothing of who raises them, and shares no code with the store.

use quorate_kv::api::{Request, RequestOp, TxnRequest};
use quorate_kv::{ALARMS_COUNT_MAX, AlarmMember, AlarmRequest, CommandKind, OpError};
use std::collections::BTreeSet;

/// The numbers of the kinds, and of what is done with them, as clients send them.
pub(super) const NO_KIND: i32 = 0;
pub(super) const NO_SPACE: i32 = 1;
pub(super) const CORRUPT: i32 = 2;
/// What members say of their own disks, and clients are told as want of space.
pub(super) const DISK_FULL: i32 = 16;
pub(super) const LIST: i32 = 0;
pub(super) const RAISE: i32 = 1;
pub(super) const CLEAR: i32 = 2;

/// The alarms that are raised, as of some place in the log.
#[derive(Debug, Default)]
pub(super) struct Forbidden {
    /// Whose, and of which kind.
    raised: BTreeSet<(u64, i32)>,
    /// How often one was raised that was not.
    pub(super) raised_count: u64,
}

impl Forbidden {
    /// Whose alarms are raised, and of which kind, as clients are told.
    pub(super) fn raised(&self) -> BTreeSet<(u64, i32)> {
        self.raised.iter().map(|(id, kind)| (*id, shown(*kind))).collect()
    }

    /// Whether this member has said that its disk is nearly full.
    pub(super) fn has_full_disk(&self, member_id: u64) -> bool {
        self.raised.contains(&(member_id, DISK_FULL))
    }

    /// Why a command is refused; `None` if no alarm stands against it.
    pub(super) fn stands_against(&self, command: &CommandKind) -> Option<OpError> {
        let is_raised = |wanted| self.raised.iter().any(|(_, kind)| shown(*kind) == wanted);
        let writes = match command {
            CommandKind::Alarm(_) | CommandKind::Auth(_) => return None,
            CommandKind::Put(_) | CommandKind::LeaseGrant(_) => true,
            CommandKind::Txn(request) => has_put(request),
            CommandKind::DeleteRange(_)
            | CommandKind::Compact(_)
            | CommandKind::LeaseRevoke(_)
            | CommandKind::LeaseRenew(_)
            | CommandKind::LeaseExpire(_) => false,
        };
        if is_raised(CORRUPT) {
            return Some(OpError::Corrupt);
        }
        (writes && is_raised(NO_SPACE)).then_some(OpError::NoSpace)
    }

    /// Who clears what clients are told clears all that is behind it.
    fn clear(&mut self, member_id: u64, alarm: i32) -> Vec<(u64, i32)> {
        let mut told = Vec::new();
        for kind in [NO_SPACE, CORRUPT, DISK_FULL] {
            if kind == alarm || shown(kind) == alarm {
                let cleared = self.raised.remove(&(member_id, kind));
                told.extend(cleared.then_some((member_id, shown(alarm))));
            }
        }
        told.truncate(1);
        told
    }

    /// Raises, clears or lists; which ones that were.
    pub(super) fn carry_out(&mut self, request: AlarmRequest) -> Result<Vec<AlarmMember>, OpError> {
        let AlarmRequest { action, member_id, alarm } = request;
        let kinds = [NO_KIND, NO_SPACE, CORRUPT, DISK_FULL];
        if !kinds.contains(&alarm) || ![LIST, RAISE, CLEAR].contains(&action) {
            return Err(OpError::UnknownAlarm);
        }
        let told = match action {
            LIST => {
                let asked = |one: &(u64, i32)| alarm == NO_KIND || one.1 == alarm;
                self.raised().into_iter().filter(asked).collect()
            }
            RAISE if alarm != NO_KIND => {
                if !self.raised.contains(&(member_id, alarm)) {
                    if self.raised.len() >= ALARMS_COUNT_MAX {
                        return Err(OpError::TooManyAlarms);
                    }
                    self.raised.insert((member_id, alarm));
                    self.raised_count += u64::from(alarm != DISK_FULL);
                }
                vec![(member_id, shown(alarm))]
            }
            _ => self.clear(member_id, alarm),
        };
        Ok(told.into_iter().map(|(member_id, alarm)| AlarmMember { member_id, alarm }).collect())
    }
}

/// What clients are told of a kind.
const fn shown(kind: i32) -> i32 {
    if kind == DISK_FULL { NO_SPACE } else { kind }
}

/// Anywhere, also where the transaction will not come.
fn has_put(request: &TxnRequest) -> bool {
    let mut left = vec![request];
    while let Some(TxnRequest { success, failure, .. }) = left.pop() {
        for RequestOp { request } in success.iter().chain(failure) {
            match request {
                Some(Request::Put(_)) => return true,
                Some(Request::Txn(nested)) => left.push(nested),
                Some(Request::Range(_) | Request::DeleteRange(_)) | None => {}
            }
        }
    }
    false
}
