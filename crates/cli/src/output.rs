//! How things look on a terminal: tables, and errors as sentences. Knows nothing of what is shown.

use std::io::{self, Write};

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row; it has as many cells as there are headings.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The table as lines; the last column is not padded.
    pub(crate) fn render(&self) -> String {
        let column_count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..column_count).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Writes bytes as they are, and a line end.
///
/// # Errors
///
/// If standard output is closed.
pub(crate) fn line(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.write_all(b"\n")
}

/// Writes a text as it is.
///
/// # Errors
///
/// If standard output is closed.
pub(crate) fn text(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// Tells a person what went wrong, with its causes. A reader that went away (`quorate get | head`)
/// is not worth a word.
pub(crate) fn complain(error: &anyhow::Error) {
    let reader_left = error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    });
    if !reader_left {
        // Nobody is left to tell if standard error is closed too.
        let _ = writeln!(io::stderr(), "Error: {error:#}");
    }
}

/// A size for people: `20 kB`, `1.5 MB`.
pub(crate) fn size(bytes: i64) -> String {
    let Ok(bytes) = u64::try_from(bytes) else { return bytes.to_string() };
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, unit_bytes) in units {
        if bytes >= unit_bytes {
            let tenths = bytes * 10 / unit_bytes;
            return if tenths < 100 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", tenths / 10)
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "ROLE"]);
        table.row(["n1".to_owned(), "leader".to_owned()]);
        assert_eq!(table.render(), "NAME  ROLE\nn1    leader\n");
    }

    #[test]
    fn sizes_are_rounded_down_to_two_digits() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_560_000), "1.5 MB");
        assert_eq!(size(20_480), "20 kB");
    }
}
