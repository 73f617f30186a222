//! How often things happened in a world: one list of counters, from which sums, reports, JSON and
//! progress files are made. Knows nothing of what the counters mean; whoever adds one adds a line
//! here and nothing anywhere else.

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
            /// Nodes that stopped because their disk failed.
            disk_failures,
            /// Partitions of any kind.
            partitions,
            /// Processes that were stopped for a while.
            pauses,
            /// Requests for another leader.
            transfers,
        }
        figures {
            /// Times that a node became leader.
            elections,
            /// Nodes that started again.
            restarts,
            /// Messages that reached a node.
            delivered,
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
            /// Requests of clients that were carried out.
            ops_ok,
            /// Requests that provably had no effect.
            ops_refused,
            /// Requests whose outcome the client does not know.
            ops_unknown,
        }
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
