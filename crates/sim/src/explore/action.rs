//! What can happen next, in one word each, so that a run can be remembered in little memory.
//! Knows nothing of what an action does.

/// One thing that happens to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// The server's place, from 0.
    pub(super) node: u8,
    pub(super) event: LocalEvent,
    /// The message stays in the bag, to be taken again.
    pub(super) keeps: bool,
}

/// What a server experiences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocalEvent {
    pub(super) kind: Kind,
    /// Which message, value, read, successor or way to crash.
    pub(super) detail: u32,
    /// The writes that this causes are durable at once.
    pub(super) fast_disk: bool,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes a message.
    Take,
    /// Takes a message, having heard of no leader for an election timeout.
    TakeLate,
    /// Its deadline has come.
    Deadline,
    /// Its deadline has come, an election timeout late.
    DeadlineLate,
    /// Its oldest write is durable.
    Written,
    /// Crashes and starts.
    Crash,
    /// Is given a value.
    Propose,
    /// Is asked for a read.
    Read,
    /// Is asked to hand over.
    Transfer,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Take,
        Self::TakeLate,
        Self::Deadline,
        Self::DeadlineLate,
        Self::Written,
        Self::Crash,
        Self::Propose,
        Self::Read,
        Self::Transfer,
    ];

    fn code(self) -> u32 {
        let place = Self::ALL.iter().position(|kind| *kind == self);
        super::pool::number(place.unwrap_or_default())
    }
}

/// Details are below this.
const DETAIL_BITS: u32 = 23;

impl LocalEvent {
    /// An event whose writes take their time.
    pub(super) const fn new(kind: Kind, detail: u32) -> Self {
        Self { kind, detail, fast_disk: false }
    }

    /// As a word.
    pub(super) fn code(self) -> u32 {
        assert!(self.detail < 1 << DETAIL_BITS, "details are counted, and fit");
        self.detail | self.kind.code() << DETAIL_BITS | u32::from(self.fast_disk) << 27
    }
}

impl Action {
    /// As a word.
    pub(super) fn code(self) -> u32 {
        self.event.code() | u32::from(self.keeps) << 28 | u32::from(self.node) << 29
    }

    /// From a word.
    pub(super) fn decode(code: u32) -> Option<Self> {
        let kind = Kind::ALL.get(super::pool::place(code >> DETAIL_BITS & 15)).copied()?;
        let detail = code & ((1 << DETAIL_BITS) - 1);
        let event = LocalEvent { kind, detail, fast_disk: code >> 27 & 1 == 1 };
        let node = u8::try_from(code >> 29).unwrap_or_default();
        Some(Self { node, event, keeps: code >> 28 & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_survives_being_a_word() {
        for kind in Kind::ALL {
            for (fast_disk, keeps) in [(false, true), (true, false)] {
                let event = LocalEvent { kind, detail: 8_388_607, fast_disk };
                let action = Action { node: 4, event, keeps };
                assert_eq!(Action::decode(action.code()), Some(action));
            }
        }
    }
}
