//! What alarms forbid, for the reference: which are raised, and which commands must be refused
//! meanwhile. Knows nothing of who raises them, and shares no code with the store.

use quorate_kv::api::{Request, RequestOp, TxnRequest};
use quorate_kv::{ALARMS_COUNT_MAX, AlarmMember, AlarmRequest, CommandKind, OpError};
use std::collections::BTreeSet;

/// The numbers of the kinds, and of what is done with them, as clients send them.
pub(super) const NO_KIND: i32 = 0;
pub(super) const NO_SPACE: i32 = 1;
pub(super) const CORRUPT: i32 = 2;
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
    /// Whose alarms are raised, and of which kind.
    pub(super) const fn raised(&self) -> &BTreeSet<(u64, i32)> {
        &self.raised
    }

    /// Why a command is refused; `None` if no alarm stands against it.
    pub(super) fn stands_against(&self, command: &CommandKind) -> Option<OpError> {
        let is_raised = |wanted| self.raised.iter().any(|(_, kind)| *kind == wanted);
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

    /// Raises, clears or lists; which ones that were.
    pub(super) fn carry_out(&mut self, request: AlarmRequest) -> Result<Vec<AlarmMember>, OpError> {
        let AlarmRequest { action, member_id, alarm } = request;
        if ![NO_KIND, NO_SPACE, CORRUPT].contains(&alarm) || ![LIST, RAISE, CLEAR].contains(&action)
        {
            return Err(OpError::UnknownAlarm);
        }
        let told = match action {
            LIST => {
                let asked = |one: &&(u64, i32)| alarm == NO_KIND || one.1 == alarm;
                self.raised.iter().filter(asked).copied().collect()
            }
            RAISE if alarm != NO_KIND => {
                if !self.raised.contains(&(member_id, alarm)) {
                    if self.raised.len() >= ALARMS_COUNT_MAX {
                        return Err(OpError::TooManyAlarms);
                    }
                    self.raised.insert((member_id, alarm));
                    self.raised_count += 1;
                }
                vec![(member_id, alarm)]
            }
            _ => self.raised.take(&(member_id, alarm)).into_iter().collect(),
        };
        Ok(told.into_iter().map(|(member_id, alarm)| AlarmMember { member_id, alarm }).collect())
    }
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
