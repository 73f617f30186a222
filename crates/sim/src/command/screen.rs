//! What a person sees while the simulator works: one line that changes on a terminal, and a line
//! now and then elsewhere. On standard error, so that standard output has results only.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a clock, for the eyes of people

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Where nothing can be overwritten, a line comes this often.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// On a terminal, it changes this often.
const CHANGE_EVERY: Duration = Duration::from_millis(200);
/// A terminal that does not say how wide it is.
const USUAL_WIDTH: usize = 120;

/// The lines of progress.
pub(super) struct Screen {
    terminal: Option<usize>,
    updated: Option<Instant>,
    has_line: bool,
}

/// What standard output is, if it is a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    pub(super) width: usize,
    pub(super) has_colour: bool,
}

/// Standard output, if it is a terminal.
pub(super) fn terminal() -> Option<Terminal> {
    io::stdout().is_terminal().then(|| Terminal {
        width: width_of(io::stdout()),
        has_colour: std::env::var_os("NO_COLOR").is_none(),
    })
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = io::stderr().is_terminal().then(|| width_of(io::stderr()));
        Self { terminal, updated: None, has_line: false }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        self.clear();
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A line that the next one replaces; not more often than anybody can read.
    pub(super) fn update(&mut self, text: impl FnOnce() -> String) {
        let every = if self.terminal.is_some() { CHANGE_EVERY } else { LINE_EVERY };
        if self.updated.is_some_and(|updated| updated.elapsed() < every) {
            return;
        }
        // The first line comes when there is something to say.
        let is_first = self.updated.replace(Instant::now()).is_none();
        match self.terminal {
            Some(width) => {
                let text: String = text().chars().take(width.saturating_sub(1)).collect();
                let _ = write!(io::stderr(), "\r{text}\x1b[K");
                self.has_line = true;
            }
            None if is_first => {}
            None => self.line(&text()),
        }
    }

    /// Takes the line away that would have been replaced.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.has_line) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn width_of(terminal: impl std::os::fd::AsFd) -> usize {
    let size = rustix::termios::tcgetwinsize(terminal).map(|size| usize::from(size.ws_col));
    size.ok().filter(|width| *width > 0).unwrap_or(USUAL_WIDTH)
}
