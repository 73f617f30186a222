//! The rules of the house that clippy cannot see. Each rule is a function from a file to sentences;
//! none of them judges what the code does.

use crate::arrows;
use crate::source::{self, SourceFile};
use crate::versions;
use anyhow::bail;
use std::path::Path;

/// A file longer than this, its tests left out, says in its header why it is long.
const CODE_LINE_COUNT_MAX: usize = 500;
/// The words that the header of a long file contains.
const EXCUSE: &str = "long because";

/// Checks every rule and prints every breach.
///
/// # Errors
///
/// If a rule is broken.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = source::files(root)?;
    let mut breaches: Vec<String> = files.iter().flat_map(breaches_of).collect();
    breaches.extend(arrows::differences(root)?);
    breaches.extend(versions::differences(root)?);
    for breach in &breaches {
        println!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("{} rule(s) of the house are broken (docs: CONTRIBUTING.md)", breaches.len());
    }
    println!("tidy: {} files follow the rules of the house", files.len());
    Ok(())
}

fn breaches_of(file: &SourceFile) -> Vec<String> {
    let mut breaches = Vec::new();
    breaches.extend(header(file));
    breaches.extend(length(file));
    breaches.extend(leftovers(file));
    breaches
}

/// Every file opens by saying what it is for; the tests of a module are part of it.
fn header(file: &SourceFile) -> Option<String> {
    // In a test an attribute for the whole file may come first.
    let opens = !file.header().is_empty() || (file.is_test() && file.text.contains("//! "));
    let is_exempt = file.path.ends_with("/build.rs") || file.path.ends_with("/tests.rs");
    (!opens && !is_exempt).then(|| {
        format!(
            "{}:1: expected a header (`//!`, whole sentences: what the file does and what it must \
             not know), found `{}`",
            file.path,
            file.text.lines().next().unwrap_or_default()
        )
    })
}

/// A long file says why it is long.
fn length(file: &SourceFile) -> Option<String> {
    let count = file.code_line_count();
    let excused = file.is_test() || file.header().contains(EXCUSE);
    (count > CODE_LINE_COUNT_MAX && !excused).then(|| {
        format!(
            "{}: {count} lines without tests, {CODE_LINE_COUNT_MAX} expected: split it by rule, or \
             say in its header why it is \"{EXCUSE} ...\"",
            file.path
        )
    })
}

/// Nothing is left for later, and no test is left out.
fn leftovers(file: &SourceFile) -> Vec<String> {
    // Written in two halves, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("#[ig", "nore"),
        concat!("unimpl", "emented!"),
    ];
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for mark in marks.iter().filter(|mark| line.contains(**mark)) {
            breaches.push(format!(
                "{}:{number}: found `{mark}`: finish it, or file an issue and name it",
                file.path
            ));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: impl Into<String>) -> SourceFile {
        SourceFile { path: "crates/x/src/a.rs".to_owned(), text: text.into() }
    }

    #[test]
    fn a_file_without_a_header_is_reported_with_what_it_has_instead() {
        assert!(header(&file("//! Does this. Not that.\n")).is_none());
        assert!(header(&file("use a;\n")).unwrap().contains("found `use a;`"));
    }

    #[test]
    fn a_long_file_is_reported_unless_its_header_says_why() {
        let lines = "x\n".repeat(CODE_LINE_COUNT_MAX + 1);
        assert!(length(&file(lines.clone())).unwrap().contains("501 lines"));
        assert!(length(&file(format!("//! It is long because of x.\n{lines}"))).is_none());
        assert!(length(&file("x\n".repeat(CODE_LINE_COUNT_MAX))).is_none());
    }

    #[test]
    fn unfinished_work_is_reported_with_its_line() {
        let text = format!("a\n// {}: later\n", concat!("TO", "DO"));
        assert!(leftovers(&file(text))[0].starts_with("crates/x/src/a.rs:2:"));
    }
}
