//! How often things happened in a world: one list of counters, from which sums, reports, JSON and
//! progress files are made. Knows nothing of what the counters mean; whoever adds one adds a line
//! here and nothing anywhere else.

use crate::disk::DamageKind;

/// Declares a struct of counters: `faults` are troubles that the world makes, `figures` everything
/// else that is worth counting. Names appear as written in JSON and in progress files, and with
/// spaces in reports.
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $name:ident, named $prefix:literal {
            faults { $( $(#[$fault_doc:meta])* $fault:ident, )* }
            figures { $( $(#[$figure_doc:meta])* $figure:ident, )* }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$fault_doc])* pub $fault: u64, )*
            $( $(#[$figure_doc])* pub $figure: u64, )*
        }

        impl $name {
            /// The troubles that the world made, by kind: name and count.
            pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$( (concat!($prefix, stringify!($fault)), self.$fault), )*].into_iter()
            }

            /// Everything else: name and count.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$( (concat!($prefix, stringify!($figure)), self.$figure), )*].into_iter()
            }

            /// Adds another world's counts.
            pub fn add(&mut self, other: &Self) {
                $( self.$fault += other.$fault; )*
                $( self.$figure += other.$figure; )*
            }

            /// Sets a counter by its name; false if there is none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name.strip_prefix($prefix).unwrap_or_default() {
                    $( stringify!($fault) => self.$fault = value, )*
                    $( stringify!($figure) => self.$figure = value, )*
                    _ => return false,
                }
                true
            }
        }
    };
}

counters! {
    /// How often things happened.
    Counts, named "" {
        faults {
            /// Nodes that lost power.
            crashes,
            /// Of these, between two outputs of one turn.
            crashes_mid_turn,
            /// Of all, planned for something that a node seldom does.
            crashes_at_rare_work,
            /// Nodes that stopped because their disk failed.
            disk_failures,
            /// Partitions of any kind.
            partitions,
            /// Sets of links that stopped one by one and came back in another order.
            swizzles,
            /// Connections that broke, each with what was on its way.
            connection_breaks,
            /// Links that lost messages by some rule for a while.
            omissions,
            /// Clocks that jumped ahead.
            clock_jumps,
            /// Processes that were stopped for a while.
            pauses,
            /// Requests for another leader.
            transfers,
            /// Nodes that were said to be gone, whatever they were.
            rumours,
            /// Settings that were given to nodes while they ran.
            settings_changes,
            /// Machines that were given the new program.
            upgrades,
            /// Machines that were given the old program again.
            downgrades,
            /// Disks that finished nothing for a while.
            disk_hangs,
            /// Syncs that took much longer than usual.
            disk_stalls,
            /// Disks that took nothing more for a while.
            full_disks,
            /// Writes that a full disk refused.
            writes_refused,
            /// Writes that failed.
            write_failures,
            /// Reads that failed.
            read_failures,
            /// Writes that the engine of a store refused, and stopped its node.
            engine_failures,
            /// Reads that gave something else than what was there.
            wrong_reads,
            /// Reads that gave less than there was.
            short_reads,
            /// Syncs that failed.
            sync_failures,
            /// Sectors at rest in which bits flipped.
            bit_rot,
            /// Sectors at rest that became zeros.
            zeroed_sectors,
            /// Sectors at rest over which something else was written.
            misdirected_writes,
            /// Sectors at rest that fell back to what they held before.
            stale_sectors,
            /// Sectors at rest that cannot be read any more.
            unreadable_sectors,
            /// Files at rest that lost their ends.
            shortened_files,
            /// Files at rest that lost their names.
            deleted_files,
            /// Machines that were lost for ever.
            machines_lost,
            /// Machines that were added.
            machines_added,
            /// Lost machines in whose place somebody wished for a new one.
            machines_replaced,
            /// Disks in whose place an empty one was put, under the same name.
            wiped_disks,
            /// Disks that were mounted in another machine.
            wrong_disks,
            /// Messages of which a garbled copy arrived.
            garbled,
            /// Alarms that clients raised.
            alarms,
        }
        figures {
            /// Old programs that did not start, because the cluster speaks the new version.
            downgrades_refused,
            /// Messages that were not sent, because the other program does not know them.
            unsaid,
            /// How often a write found no room, and was tried again later.
            waits_for_room,
            /// How often the reserve of a disk was given up.
            reserves_released,
            /// How often a member said of its disk that it is nearly full, or is no more.
            disk_alarms,
            /// Times that a node became leader.
            elections,
            /// Nodes that started again.
            restarts,
            /// Wishes by which machines with new disks were taken back.
            disks_readmitted,
            /// Worlds in which a majority alone had to serve.
            cores_healed,
            /// Worlds in which leadership was handed over in the end.
            handovers,
            /// Worlds that ended without enough sound disks to serve.
            hopeless_ends,
            /// Leaders whose logs failed, and who called their successors.
            successors_called,
            /// Nodes that refused to go on with a disk that had gone bad.
            refused_disks,
            /// Messages that reached a node.
            delivered,
            /// Of these, copies that came long after.
            stale_deliveries,
            /// Bytes of messages sent.
            sent_bytes,
            /// Writes that became durable.
            persisted,
            /// Syncs of files and folders.
            syncs,
            /// Entries applied, on all nodes together.
            applied,
            /// Snapshots written.
            snapshots_taken,
            /// Snapshots received and restored.
            snapshots_restored,
            /// Snapshots of which a part was here already, and was not sent again.
            snapshots_resumed,
            /// Engines of stores that were made anew beside what they held.
            state_renewals,
            /// Wishes for other members.
            changes,
            /// Wishes for other members that came true.
            changes_done,
            /// Requests of clients that were carried out.
            ops_ok,
            /// Linearizable reads for which a lease would do.
            reads_by_lease,
            /// Reads of a bounded age.
            reads_bounded,
            /// Reads to which a node came late.
            reads_late,
            /// Requests that provably had no effect.
            ops_refused,
            /// Requests whose outcome the client does not know.
            ops_unknown,
            /// Commands in the log that an alarm forbade.
            ops_forbidden,
        }
    }
}

impl Counts {
    /// One more of this kind of damage.
    pub(crate) const fn count_damage(&mut self, kind: DamageKind) {
        let count = match kind {
            DamageKind::BitRot => &mut self.bit_rot,
            DamageKind::Zeroed => &mut self.zeroed_sectors,
            DamageKind::Misdirected => &mut self.misdirected_writes,
            DamageKind::Stale => &mut self.stale_sectors,
            DamageKind::Unreadable => &mut self.unreadable_sectors,
            DamageKind::Shortened => &mut self.shortened_files,
            DamageKind::Deleted => &mut self.deleted_files,
        };
        *count += 1;
    }
}

counters! {
    /// What became of the messages.
    MessageCounts, named "messages_" {
        faults {
            /// Lost on the way, by chance.
            lost,
            /// Lost to a cut link.
            cut,
            /// Delivered twice.
            duplicated,
            /// Copies of messages that were sent on their way for much later.
            stale,
            /// Lost to a rule of their link.
            omitted,
            /// Not sent: the connection was not there.
            unconnected,
            /// Lost with the connection that they travelled on.
            broken_off,
            /// Frames of which only the beginning was read, because their connection broke.
            torn,
            /// Held back by a cut.
            held_back,
            /// Waited for a slow link.
            slowed,
            /// Not sent: too much waited already for a slow link.
            queue_full,
        }
        figures {
            /// Sent.
            sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_listed_once_summed_and_settable_by_its_name() {
        let mut counts = Counts::default();
        let names: Vec<&str> =
            counts.faults().chain(counts.figures()).map(|(name, _)| name).collect();
        for (value, name) in (1..).zip(&names) {
            assert!(counts.set(name, value));
        }
        assert!(!counts.set("no such counter", 1));
        let mut sum = counts;
        sum.add(&counts);
        let values: Vec<u64> = sum.faults().chain(sum.figures()).map(|(_, value)| value).collect();
        let expected: Vec<u64> = (1..).zip(&names).map(|(value, _)| 2 * value).collect();
        assert_eq!(values, expected);
    }
}
