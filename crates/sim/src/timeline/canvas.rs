//! One line of text with colours, written from left to right or over what is there. Knows nothing
//! of what it shows.

use super::Look;

/// How something looks on a terminal that has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paint {
    #[default]
    Plain,
    Faint,
    Strong,
    Leader,
    Candidate,
    Message,
    Trouble,
    Breach,
}

/// A line under work.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    letters: Vec<(char, Paint)>,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "\x1b[0m",
            Self::Faint => "\x1b[0;2m",
            Self::Strong => "\x1b[0;1m",
            Self::Leader => "\x1b[0;1;32m",
            Self::Candidate => "\x1b[0;33m",
            Self::Message => "\x1b[0;36m",
            Self::Trouble => "\x1b[0;35m",
            Self::Breach => "\x1b[0;1;31m",
        }
    }
}

impl Canvas {
    /// Writes from this column on.
    pub(super) fn put(&mut self, column: usize, text: &str, paint: Paint) {
        let end = column + text.chars().count();
        if self.letters.len() < end {
            self.letters.resize(end, (' ', Paint::Plain));
        }
        for (slot, letter) in self.letters.iter_mut().skip(column).zip(text.chars()) {
            *slot = (letter, paint);
        }
    }

    /// The line, cut to the width that there is.
    pub(super) fn finish(mut self, look: Look) -> String {
        while self.letters.last().is_some_and(|(letter, _)| *letter == ' ') {
            self.letters.pop();
        }
        if let Some(width) = look.width
            && self.letters.len() > width
        {
            self.letters.truncate(width.saturating_sub(1));
            self.letters.push(('…', Paint::Faint));
        }
        let mut line = String::new();
        let mut paint = Paint::Plain;
        for (letter, wanted) in self.letters {
            if look.has_colour && wanted != paint && letter != ' ' {
                line.push_str(wanted.code());
                paint = wanted;
            }
            line.push(letter);
        }
        if paint != Paint::Plain {
            line.push_str(Paint::Plain.code());
        }
        line
    }
}
