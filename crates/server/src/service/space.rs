//! Space: whoever would write to a store that has reached its quota, or through a member whose disk is
//! nearly full, is refused, and the member raises an alarm, which stands in the log and holds
//! everywhere. Must not know what is written.

use super::{Service, time_left};
use crate::errors::Rejection;
use prost::Message;
use quorate_kv::{
    AlarmAction, AlarmKind, AlarmRequest, CallerMessage, Command, CommandTag, OpError,
};
use tokio::time::Instant;

/// What etcd counts for a key beside its bytes.
const KEY_OVERHEAD_BYTES: u64 = 256;

impl Service {
    /// Refuses a request that takes space if there is none. What counts is what is in use: space
    /// that was freed need not be given back to the system first.
    ///
    /// This is where a member looks at its own size, which differs from the others'. What the alarm
    /// forbids is decided where commands are applied, the same on all.
    pub(super) async fn check_space(
        &self,
        request_bytes: usize,
        deadline: Instant,
    ) -> Result<(), Rejection> {
        if self.disk_room().is_short {
            // Its alarm is on the way: see `disk.rs`.
            return Err(OpError::NoSpace.into());
        }
        let quota_bytes = self.options.quota_bytes;
        if quota_bytes == u64::MAX {
            return Ok(());
        }
        let cost_bytes = request_bytes as u64 + KEY_OVERHEAD_BYTES;
        if self.reader.size_in_use_bytes().saturating_add(cost_bytes) < quota_bytes {
            return Ok(());
        }
        self.raise_no_space(deadline).await;
        Err(OpError::NoSpace.into())
    }

    /// Raises this member's alarm, unless it is raised.
    async fn raise_no_space(&self, deadline: Instant) {
        let own = self.node.status().id.get();
        let raised = self.reader.alarms(AlarmKind::NoSpace);
        if raised.iter().any(|alarm| alarm.member_id == own) {
            return;
        }
        let said = self.say_alarm(AlarmAction::Activate, AlarmKind::NoSpace, deadline).await;
        tracing::warn!(
            quota_bytes = self.options.quota_bytes,
            size_in_use_bytes = self.reader.size_in_use_bytes(),
            "the store has reached its quota: nothing can be stored before it is compacted and \
             `alarm disarm` is said"
        );
        if let Err(rejection) = said {
            let (_, error) = rejection.status();
            // The next request tries again.
            tracing::warn!(%error, "the alarm was not raised");
        }
    }

    /// Raises or clears an alarm of this member's own.
    pub(super) async fn say_alarm(
        &self,
        action: AlarmAction,
        alarm: AlarmKind,
        deadline: Instant,
    ) -> Result<(), Rejection> {
        let member_id = self.node.status().id.get();
        let request = AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
        // Whoever fills the store need not be one who may raise alarms.
        let own_account = CallerMessage::system();
        let request = request.encode_to_vec();
        let command = Command::wrap_for(CommandTag::Alarm, &request, Some(&own_account));
        let fate = self.node.propose(command, time_left(deadline)).await;
        crate::errors::reply_of(fate).map(drop)
    }
}
