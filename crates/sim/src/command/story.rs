//! Stories and small cases as they are shown. Reads them; runs nothing.

use crate::run::Violation;
use crate::timeline::LEGEND;
use std::io::{self, Write};

/// The lines of a story, after what explains them.
///
/// # Errors
///
/// If the reader went away.
pub(super) fn write(out: &mut dyn Write, lines: &[String]) -> io::Result<()> {
    writeln!(out, "{LEGEND}\n")?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out)
}

/// How much is in a failing case.
pub(super) fn size(violation: &Violation) -> String {
    let skipped = violation.case.changes.skip.len();
    let troubles = violation.trouble_count.saturating_sub(u64::try_from(skipped).unwrap_or(0));
    let off = violation.case.changes.without.len();
    format!(
        "{} steps, {} nodes, {} clients, {} requests, {troubles} troubles, {off} kinds off",
        violation.case.world.steps,
        violation.node_count,
        violation.client_count,
        violation.request_count,
    )
}
