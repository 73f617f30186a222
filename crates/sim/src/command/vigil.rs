//! One world under watch: who waits for it is told from time to time where it is, in case it never
//! ends. Knows nothing of what it waits for.

use crate::case::Case;
use crate::pulse::Pulse;
use crate::report::stuck_text;
use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Does this, and says on standard error where the world is whenever so much time has passed.
pub(super) fn watched<T>(
    command: &str,
    case: &Case,
    pulse: &Pulse,
    patience: Duration,
    work: impl FnOnce() -> T,
) -> T {
    std::thread::scope(|scope| {
        let (running, has_ended) = channel::<()>();
        scope.spawn(move || {
            let mut age = Duration::ZERO;
            while has_ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                age += patience;
                // Nobody is left to tell if standard error is closed.
                let _ = write!(io::stderr(), "{}", stuck_text(command, case, age, pulse));
            }
        });
        let outcome = work();
        drop(running);
        outcome
    })
}
