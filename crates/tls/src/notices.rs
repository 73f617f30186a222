//! What is said of files that were looked at again: a line when they have changed, one a minute while
//! they cannot be used. Must not know how often somebody looks.

use crate::Refreshed;
use std::error::Error;
use std::time::{Duration, Instant};

/// Files that cannot be used are complained of this often, although they are tried every time.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(1);

/// What has been said of the files of one [`Tls`](crate::Tls).
#[derive(Debug)]
pub struct Notices {
    towards: &'static str,
    complained_at: Option<Instant>,
}

impl Notices {
    /// Nothing has been said. The files are for connections with these: "clients", or "peers".
    #[must_use]
    pub const fn new(towards: &'static str) -> Self {
        Self { towards, complained_at: None }
    }

    /// Says in the log what there is to say of this look at the files.
    pub fn tell(&mut self, refreshed: &Refreshed, now: Instant) {
        let towards = self.towards;
        match refreshed {
            Refreshed::Unchanged => self.complained_at = None,
            Refreshed::Changed => {
                self.complained_at = None;
                tracing::info!(
                    towards,
                    "the TLS files have changed: the new ones are used from now on"
                );
            }
            Refreshed::Broken(error) => {
                if self.may_complain(now) {
                    tracing::warn!(
                        towards,
                        error = error as &dyn Error,
                        "the TLS files have changed and cannot be used: those of before hold"
                    );
                }
            }
        }
    }

    fn may_complain(&mut self, now: Instant) -> bool {
        let is_due = |at: Instant| now.duration_since(at) >= COMPLAINT_INTERVAL;
        let may = self.complained_at.is_none_or(is_due);
        if may {
            self.complained_at = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_stay_unusable_are_complained_of_once_a_minute_and_new_trouble_at_once() {
        let mut notices = Notices::new("peers");
        let start = Instant::now();
        let seconds = |count| start + Duration::from_secs(count);
        let complained: Vec<bool> =
            [0, 1, 59, 60, 61].map(|count| notices.may_complain(seconds(count))).into();
        assert_eq!(complained, [true, false, false, true, false]);
        notices.tell(&Refreshed::Unchanged, seconds(62));
        assert!(notices.may_complain(seconds(63)));
    }
}
