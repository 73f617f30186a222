//! Alarms: what is wrong with a member, raised and cleared through the log, and what the store
//! refuses while one is raised. Must not know how somebody finds out that something is wrong.

use crate::api::{Request, RequestOp, ResponseHeader, TxnRequest};
use crate::command::CommandKind;
use crate::error::OpError;
use prost::{Enumeration, Message};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many alarms can be raised at the same time. A cluster needs two for each member; a client
/// may raise them for members that do not exist.
pub const ALARMS_COUNT_MAX: usize = 128;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum AlarmKind {
    /// Nothing; in a question, anything.
    None = 0,
    /// A member's store has reached its quota.
    NoSpace = 1,
    /// A member's store differs from the others'.
    Corrupt = 2,
    /// A member's disk is nearly full. Only the member itself says so, and takes it back; clients are
    /// told that there is no space, and know no such kind.
    DiskFull = 16,
}

/// What to do with an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum AlarmAction {
    /// List those of a kind, or all.
    Get = 0,
    /// Raise it.
    Activate = 1,
    /// Clear it.
    Deactivate = 2,
}

/// Asks for alarms, raises one, or clears one.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AlarmRequest {
    /// See [`AlarmAction`].
    #[prost(enumeration = "AlarmAction", tag = "1")]
    pub action: i32,
    /// Whose alarm.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// See [`AlarmKind`].
    #[prost(enumeration = "AlarmKind", tag = "3")]
    pub alarm: i32,
}

/// One alarm.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AlarmMember {
    /// Whose.
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    /// See [`AlarmKind`].
    #[prost(enumeration = "AlarmKind", tag = "2")]
    pub alarm: i32,
}

/// The answer to [`AlarmRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AlarmResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// What was raised, cleared, or asked for.
    #[prost(message, repeated, tag = "2")]
    pub alarms: Vec<AlarmMember>,
}

/// The alarms that are raised. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    /// Whose, and of which kind.
    raised: Arc<BTreeSet<(u64, AlarmKind)>>,
}

impl Alarms {
    /// Those of a kind, as clients know them; all for [`AlarmKind::None`].
    pub(crate) fn list(&self, kind: AlarmKind) -> Vec<AlarmMember> {
        let known = self.raised.iter().map(|(id, kind)| (*id, shown_as(*kind)));
        let wanted = |shown: &(u64, AlarmKind)| kind == AlarmKind::None || shown.1 == kind;
        let shown: BTreeSet<(u64, AlarmKind)> = known.filter(wanted).collect();
        shown.into_iter().map(|(id, kind)| member(id, kind)).collect()
    }

    /// All, as they are stored.
    pub(crate) fn to_members(&self) -> Vec<AlarmMember> {
        self.raised.iter().map(|(id, kind)| member(*id, *kind)).collect()
    }

    /// Whether this very one is raised.
    pub(crate) fn is_raised(&self, member_id: u64, kind: AlarmKind) -> bool {
        self.raised.contains(&(member_id, kind))
    }

    /// As they are stored.
    pub(crate) fn from_members(members: &[AlarmMember]) -> Self {
        let known =
            members.iter().filter_map(|one| Some((one.member_id, kind_of(one.alarm).ok()?)));
        Self { raised: Arc::new(known.collect()) }
    }

    /// Carries out a request. Whoever clears what clients know as one alarm clears every cause of it.
    ///
    /// # Errors
    ///
    /// [`OpError::UnknownAlarm`] for what this version does not know, and
    /// [`OpError::TooManyAlarms`] beyond [`ALARMS_COUNT_MAX`].
    pub(crate) fn apply(&mut self, request: AlarmRequest) -> Result<Vec<AlarmMember>, OpError> {
        let kind = kind_of(request.alarm)?;
        let action = AlarmAction::try_from(request.action).map_err(|_| OpError::UnknownAlarm)?;
        let key = (request.member_id, kind);
        let done = match action {
            AlarmAction::Get => return Ok(self.list(kind)),
            // As in etcd, raising nothing does nothing.
            AlarmAction::Activate if kind == AlarmKind::None => false,
            AlarmAction::Activate => {
                if !self.raised.contains(&key) && self.raised.len() >= ALARMS_COUNT_MAX {
                    return Err(OpError::TooManyAlarms);
                }
                Arc::make_mut(&mut self.raised).insert(key);
                true
            }
            AlarmAction::Deactivate => self.clear(request.member_id, kind),
        };
        Ok(if done { vec![member(key.0, shown_as(kind))] } else { Vec::new() })
    }

    fn clear(&mut self, member_id: u64, kind: AlarmKind) -> bool {
        let before = self.raised.len();
        let is_meant = |raised: AlarmKind| raised == kind || shown_as(raised) == kind;
        Arc::make_mut(&mut self.raised)
            .retain(|(id, raised)| *id != member_id || !is_meant(*raised));
        self.raised.len() < before
    }

    /// Refuses a command while an alarm stands against it. Nothing is refused that frees space.
    pub(crate) fn check(&self, command: &CommandKind) -> Result<(), OpError> {
        // Users and roles are as they were: whoever may clear the alarm must be able to say so.
        let is_exempt = matches!(command, CommandKind::Alarm(_) | CommandKind::Auth(_));
        if self.raised.is_empty() || is_exempt {
            return Ok(());
        }
        let is_raised = |kind| self.raised.iter().any(|(_, raised)| shown_as(*raised) == kind);
        if is_raised(AlarmKind::Corrupt) {
            return Err(OpError::Corrupt);
        }
        if is_raised(AlarmKind::NoSpace) && takes_space(command) {
            return Err(OpError::NoSpace);
        }
        Ok(())
    }
}

/// What clients know an alarm as.
const fn shown_as(kind: AlarmKind) -> AlarmKind {
    match kind {
        AlarmKind::DiskFull => AlarmKind::NoSpace,
        AlarmKind::None | AlarmKind::NoSpace | AlarmKind::Corrupt => kind,
    }
}

fn member(member_id: u64, kind: AlarmKind) -> AlarmMember {
    AlarmMember { member_id, alarm: kind.into() }
}

fn kind_of(number: i32) -> Result<AlarmKind, OpError> {
    AlarmKind::try_from(number).map_err(|_| OpError::UnknownAlarm)
}

fn takes_space(command: &CommandKind) -> bool {
    match command {
        CommandKind::Put(_) | CommandKind::LeaseGrant(_) => true,
        CommandKind::Txn(request) => may_put(request),
        CommandKind::DeleteRange(_)
        | CommandKind::Compact(_)
        | CommandKind::LeaseRevoke(_)
        | CommandKind::LeaseRenew(_)
        | CommandKind::LeaseExpire(_)
        | CommandKind::Auth(_)
        | CommandKind::Alarm(_) => false,
    }
}

/// Whether a transaction has a put, in any branch at any depth.
#[must_use]
pub fn may_put(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|RequestOp { request }| match request {
        Some(Request::Put(_)) => true,
        Some(Request::Txn(nested)) => may_put(nested),
        None | Some(Request::Range(_) | Request::DeleteRange(_)) => false,
    })
}
