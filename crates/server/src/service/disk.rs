//! The disk of this member: when it is nearly full all members refuse what takes space, by an alarm
//! that this one raises in the log, and takes back by itself when there is room. Must not know how full
//! that is: the node says so.

use super::Service;
use quorate::DiskRoom;
use quorate_kv::{AlarmAction, AlarmKind};
use std::time::Duration;
use tokio::time::Instant;

/// How often what the node says is compared with what all members know.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Service {
    /// How much room this member's disk has.
    pub(super) fn disk_room(&self) -> DiskRoom {
        self.node.disk_room()
    }

    /// Says in the log whether this member's disk is nearly full, for as long as it is polled. The
    /// quota's alarm, and an operator's, are others, and stay.
    pub(crate) async fn watch_disk(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let own = self.node.status().id.get();
            let is_short = self.disk_room().is_short;
            if is_short == self.reader.has_full_disk(own) {
                continue;
            }
            let action = if is_short { AlarmAction::Activate } else { AlarmAction::Deactivate };
            let deadline = Instant::now() + self.options.request_timeout;
            match self.say_alarm(action, AlarmKind::DiskFull, deadline).await {
                Ok(()) if is_short => tracing::warn!(
                    free_bytes = self.disk_room().free_bytes,
                    "alarm NOSPACE is raised for the disk of this member: nothing can be stored \
                     before there is room on it; then the alarm is cleared by itself"
                ),
                Ok(()) => tracing::info!("alarm NOSPACE for the disk of this member is cleared"),
                Err(rejection) => {
                    let (_, error) = rejection.status();
                    // The next look tries again.
                    tracing::warn!(%error, ?action, "the alarm for the disk was not changed");
                }
            }
        }
    }

    /// Why this member acknowledges nothing new, if it waits for room.
    pub(super) fn waits_for_room(&self) -> Option<String> {
        let DiskRoom { is_waited_for, free_bytes, .. } = self.disk_room();
        is_waited_for.then(|| {
            format!("DISK FULL: writes of this member wait for room, {free_bytes} bytes are free")
        })
    }
}
