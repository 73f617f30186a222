//! Whether a peer's process has ended, as far as a caller can tell: the connection to it broke, and
//! the next one is refused, for nobody listens at any of its addresses. A peer that is only slow,
//! stopped or cut off refuses nothing. Knows no sockets, and what follows from it is for others to
//! decide.

use super::link::LinkError;
use std::time::Duration;

/// A broken connection is answered for by so many refusals: what was still unread of a leader may
/// have been heard after the first. Somebody who is alive and cannot be called is not called gone
/// for ever.
const REFUSALS_TOLD_MAX: u32 = 6;

/// What is known since a connection broke.
#[derive(Debug, Default)]
pub(super) struct Absence {
    /// So many more refusals say that the peer is gone.
    refusals_left: u32,
    /// It was not called again since then.
    is_fresh: bool,
}

impl Absence {
    /// A connection broke that had lasted this long. One that ends as soon as it begins says nothing
    /// of that kind, and is not dialled again at once: that would never end.
    pub(super) fn after(lasted: Duration, pause_min: Duration) -> Self {
        if lasted < pause_min {
            return Self::default();
        }
        Self { refusals_left: REFUSALS_TOLD_MAX, is_fresh: true }
    }

    /// Whether to dial without a pause, once.
    pub(super) fn is_urgent(&mut self) -> bool {
        std::mem::take(&mut self.is_fresh)
    }

    /// A dial failed; whether that says that the process is gone.
    pub(super) fn is_shown_by(&mut self, error: &LinkError) -> bool {
        if !error.is_refused() || self.refusals_left == 0 {
            return false;
        }
        self.refusals_left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const PAUSE: Duration = Duration::from_millis(20);

    fn refused() -> LinkError {
        io::Error::from(io::ErrorKind::ConnectionRefused).into()
    }

    #[test]
    fn who_refuses_after_its_connection_broke_is_gone_but_not_for_ever() {
        let mut absence = Absence::after(PAUSE, PAUSE);
        for _ in 0..REFUSALS_TOLD_MAX {
            assert!(absence.is_shown_by(&refused()));
        }
        assert!(!absence.is_shown_by(&refused()));
    }

    #[test]
    fn who_was_never_there_is_not_gone() {
        assert!(!Absence::default().is_shown_by(&refused()));
        assert!(!Absence::after(PAUSE / 2, PAUSE).is_shown_by(&refused()), "nor who just came");
    }

    #[test]
    fn who_is_slow_or_hangs_up_is_not_gone() {
        let mut absence = Absence::after(PAUSE, PAUSE);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset).into();
        let unreachable = io::Error::from(io::ErrorKind::HostUnreachable).into();
        let others = [LinkError::Closed, LinkError::ConnectTimeout(PAUSE), reset, unreachable];
        for error in others {
            assert!(!absence.is_shown_by(&error), "{error}");
        }
        assert!(absence.is_shown_by(&refused()), "nothing of that was the answer");
    }

    #[test]
    fn who_has_several_addresses_is_gone_if_all_refuse() {
        let mut absence = Absence::after(PAUSE, PAUSE);
        let at = |host: &str, error| (host.to_owned(), error);
        let silent = LinkError::ConnectTimeout(PAUSE);
        let mixed = LinkError::of_all(vec![at("h:1", refused()), at("h:2", silent)]);
        assert!(!absence.is_shown_by(&mixed), "{mixed}");
        let all = LinkError::of_all(vec![at("h:1", refused()), at("h:2", refused())]);
        assert!(absence.is_shown_by(&all), "{all}");
    }

    #[test]
    fn the_first_dial_after_a_connection_that_held_is_at_once_and_no_other() {
        let mut absence = Absence::after(PAUSE, PAUSE);
        assert!(absence.is_urgent() && !absence.is_urgent());
        assert!(!Absence::after(Duration::ZERO, PAUSE).is_urgent());
        assert!(!Absence::default().is_urgent());
    }
}
