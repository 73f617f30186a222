//! A recorded story as a timeline for a terminal: one column a node, messages as arrows between
//! them, everything else in words beside them. Reads a record; knows nothing of worlds.

mod canvas;
mod rows;

use crate::record::Record;
use canvas::{Canvas, Paint};
use rows::{Cell, Line, Row};
use std::collections::BTreeMap;

/// The column of times is this wide.
const TIME_WIDTH: usize = 12;
/// Words have at least this much room, or columns become narrower.
const WORDS_WIDTH_MIN: usize = 40;

/// What the timeline is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Longer lines are cut, if a width is known.
    pub width: Option<usize>,
    /// Whether colours are understood.
    pub has_colour: bool,
}

/// What the columns say, for people who see one for the first time.
pub const LEGEND: &str = "\
each column: role and term, end of the log @ its term, commit index (F follower, P pre-candidate, \
C candidate, L leader)
│ runs as before   ┆ is stopped   (blank) is down   ●──▶ a message arrives   #3 can be left out by \
--skip 3";

/// The lines of the timeline, with a head line that names the columns.
#[must_use]
pub fn timeline(record: &Record, look: Look) -> Vec<String> {
    let rows = rows::of(record);
    let nodes: Vec<u64> = rows::nodes(record).into_iter().collect();
    let is_short = must_be_short(&rows, nodes.len(), look);
    let longest = rows.iter().flat_map(|row| row.cells.values()).map(|cell| cell.len(is_short));
    let lane_width = longest.max().unwrap_or(0).max(6) + 2;
    let mut drawing = Drawing { look, nodes, lane_width, is_short, lines: BTreeMap::new() };
    drawing.begin(record);
    let mut lines = vec![drawing.head()];
    lines.extend(rows.iter().map(|row| drawing.row(row)));
    if record.is_cut_short {
        lines.push("(more happened than is kept: choose a part by --from and --to)".to_owned());
    }
    lines
}

/// Whether the columns leave too little room for words unless they say less.
fn must_be_short(rows: &[Row], node_count: usize, look: Look) -> bool {
    let longest = rows.iter().flat_map(|row| row.cells.values()).map(|cell| cell.len(false));
    let lanes = node_count * (longest.max().unwrap_or(0) + 2);
    look.width.is_some_and(|width| TIME_WIDTH + lanes + WORDS_WIDTH_MIN > width)
}

/// What has been drawn so far.
struct Drawing {
    look: Look,
    nodes: Vec<u64>,
    lane_width: usize,
    is_short: bool,
    /// The line that goes down in each column.
    lines: BTreeMap<u64, Line>,
}

impl Drawing {
    fn begin(&mut self, record: &Record) {
        let before = |(id, state): (&quorate_core::NodeId, &_)| (id.get(), Line::of(state));
        self.lines = record.before.iter().map(before).collect();
    }

    fn head(&self) -> String {
        let mut canvas = Canvas::default();
        canvas.put(0, "    time (s)", Paint::Faint);
        for (place, id) in self.nodes.iter().enumerate() {
            canvas.put(self.column(place), &format!("n{id}"), Paint::Strong);
        }
        canvas.finish(self.look)
    }

    fn row(&mut self, row: &Row) -> String {
        let mut canvas = Canvas::default();
        if let Some(at) = row.at {
            let micros = at.as_micros();
            let time = format!("{:>5}.{:06}", micros / 1_000_000, micros % 1_000_000);
            canvas.put(0, &time, Paint::Faint);
        }
        for (place, id) in self.nodes.iter().enumerate() {
            if let Some(cell) = row.cells.get(id) {
                canvas.put(self.column(place), &cell.text(self.is_short), cell.paint());
                self.lines.insert(*id, cell.line());
            } else {
                let line = self.lines.get(id).copied().unwrap_or(Line::Down);
                canvas.put(self.column(place), line.text(), Paint::Faint);
            }
        }
        if let Some((from, to)) = row.arrow {
            self.arrow(&mut canvas, from, to);
        }
        canvas.put(self.column(self.nodes.len()), &row.words, row.paint);
        canvas.finish(self.look)
    }

    fn arrow(&self, canvas: &mut Canvas, from: u64, to: u64) {
        let place = |id: u64| self.nodes.iter().position(|node| *node == id);
        let (Some(from), Some(to)) = (place(from), place(to)) else { return };
        let (low, high) = (self.column(from.min(to)), self.column(from.max(to)));
        for column in low + 1..high {
            let is_lane = (column - TIME_WIDTH - 2).is_multiple_of(self.lane_width);
            canvas.put(column, if is_lane { "┼" } else { "─" }, Paint::Message);
        }
        canvas.put(self.column(from), "●", Paint::Message);
        canvas.put(self.column(to), if from < to { "▶" } else { "◀" }, Paint::Message);
    }

    /// Where the column of a node begins; after the last one, where words do.
    const fn column(&self, place: usize) -> usize {
        TIME_WIDTH + 2 + place * self.lane_width
    }
}

impl Cell {
    fn len(&self, is_short: bool) -> usize {
        self.text(is_short).chars().count()
    }
}

#[cfg(test)]
mod tests;
