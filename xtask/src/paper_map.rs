//! `cargo xtask paper-map`: from each rule of the dissertation's Figure 3.1 to the line that obeys
//! it and the test that holds it there; and from each cited section to the places that cite it.
//! Judges no code: it only finds words.

use crate::figure_3_1::{RULES, Rule};
use crate::source::{self, SourceFile};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Where the map is kept.
const DOCUMENT: &str = "docs/paper-map.md";
/// Where the rules are tested.
const TESTS: &str = "crates/core/tests/paper.rs";
/// A citation belongs to the code within this many lines before and after it.
const NEAR_LINE_COUNT: usize = 25;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if the document is not what it should be, line numbers aside
    #[arg(long)]
    check: bool,
}

/// Makes or checks the map.
///
/// # Errors
///
/// If a rule has no line or no test, or the document is out of date.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let files = source::files(root)?;
    let (map, missing) = render(&files);
    for sentence in &missing {
        println!("{sentence}");
    }
    let path = root.join(DOCUMENT);
    if options.check {
        let found = fs::read_to_string(&path).unwrap_or_default();
        if without_numbers(&found) != without_numbers(&map) {
            bail!("{DOCUMENT} is out of date: run `cargo xtask paper-map` and commit it");
        }
    } else {
        fs::write(&path, map).with_context(|| format!("writing {DOCUMENT}"))?;
    }
    if !missing.is_empty() {
        bail!("{} rule(s) of Figure 3.1 have no line or no test", missing.len());
    }
    println!("paper-map: {} rules of Figure 3.1, each with a line and a test", RULES.len());
    Ok(())
}

/// [`run`] with `--check`.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    run(root, &Options { check: true })
}

/// The document, and a sentence for each gap in it.
fn render(files: &[SourceFile]) -> (String, Vec<String>) {
    let mut missing = Vec::new();
    let mut text = String::from(
        "# Paper map\n\n\
         Made by `cargo xtask paper-map`; do not edit. Sections are those of Ongaro's dissertation, \
         \"Consensus: Bridging Theory and Practice\" (2014). The wording of the rules is ours.\n\n\
         ## The rules of Figure 3.1\n\n\
         | Rule | Says | Section | Code | Test |\n|---|---|---|---|---|\n",
    );
    for rule in &RULES {
        let code = code_of(rule, files).unwrap_or_else(|why| {
            missing.push(format!("{}: {why}", rule.id));
            "**none**".to_owned()
        });
        let tested = test_of(rule, files).unwrap_or_else(|| {
            missing.push(format!("{}: expected `{}` in {TESTS}", rule.id, rule.test));
            "**none**".to_owned()
        });
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {code} | {tested} |",
            rule.id, rule.words, rule.section
        );
    }
    text.push_str("\n## Every section that the code cites\n\n| Section | Where |\n|---|---|\n");
    for (section, places) in citations(files) {
        let places: Vec<String> = places
            .iter()
            .map(|(path, lines)| {
                let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
                format!("{path}:{}", lines.join(","))
            })
            .collect();
        let _ = writeln!(text, "| {} | {} |", section.0, places.join("<br>"));
    }
    (text, missing)
}

/// The line that obeys a rule, if the rule's section is cited near it.
fn code_of(rule: &Rule, files: &[SourceFile]) -> Result<String, String> {
    let (name, anchor) = rule.code;
    let path = format!("crates/core/src/{name}");
    let file = files.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| format!("expected the file {path}"))?;
    let lines: Vec<&str> = file.text.lines().collect();
    let index = lines.iter().position(|line| line.contains(anchor));
    let index = index.ok_or_else(|| format!("expected `{anchor}` in {path}"))?;
    let first = index.saturating_sub(NEAR_LINE_COUNT);
    let near = lines.iter().skip(first).take(2 * NEAR_LINE_COUNT);
    let cited = near.chain(lines.iter().take(3)).any(|line| cites(line, rule.section));
    if !cited {
        return Err(format!("expected {} near `{anchor}` in {path}", rule.section));
    }
    Ok(format!("[{name}:{}](../{path}#L{})", index + 1, index + 1))
}

/// Whether a line cites exactly this section.
fn cites(line: &str, section: &str) -> bool {
    sections_in(line).iter().any(|found| found == section)
}

/// The test of a rule.
fn test_of(rule: &Rule, files: &[SourceFile]) -> Option<String> {
    let file = files.iter().find(|file| file.path == TESTS)?;
    let head = format!("fn {}(", rule.test);
    let index = file.text.lines().position(|line| line.contains(&head))?;
    Some(format!("[{}](../{TESTS}#L{})", rule.test, index + 1))
}

/// Sections in their own order: 3.10 comes after 3.9.
#[derive(PartialEq, Eq)]
struct Section(String);

impl Section {
    fn key(&self) -> Vec<u32> {
        let numbers = self.0.trim_start_matches('§').split('.');
        numbers.filter_map(|number| number.parse().ok()).collect()
    }
}

impl PartialOrd for Section {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Section {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

type Places = BTreeMap<String, Vec<usize>>;

/// Which lines cite which section.
fn citations(files: &[SourceFile]) -> BTreeMap<Section, Places> {
    let mut found: BTreeMap<Section, Places> = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.starts_with("crates/")) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for section in sections_in(line) {
                let places = found.entry(Section(section)).or_default();
                places.entry(file.path.clone()).or_default().push(number);
            }
        }
    }
    found
}

/// Every `§n.n` of a line's comment.
fn sections_in(line: &str) -> Vec<String> {
    let Some((_, comment)) = line.split_once("//") else { return Vec::new() };
    let mut sections = Vec::new();
    for part in comment.split('§').skip(1) {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(part.len());
        let number = part.get(..end).unwrap_or_default().trim_end_matches('.');
        if !number.is_empty() {
            sections.push(format!("§{number}"));
        }
    }
    sections
}

/// The document with its line numbers left out: they change with every edit.
fn without_numbers(text: &str) -> String {
    let mut kept = String::new();
    let mut after_mark = false;
    for c in text.chars() {
        after_mark = matches!(c, ':' | 'L') || (after_mark && (c.is_ascii_digit() || c == ','));
        if !(after_mark && (c.is_ascii_digit() || c == ',')) {
            kept.push(c);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_in_comments_only() {
        assert_eq!(sections_in("x(); // see §3.6.2, and §10.2."), ["§3.6.2", "§10.2"]);
        assert!(sections_in("let text = \"§3.1\";").is_empty());
    }

    #[test]
    fn sections_are_ordered_as_in_a_table_of_contents() {
        let mut sections =
            ["§3.10", "§3.9", "§3.6.1", "§3.6", "§10.2"].map(|s| Section(s.to_owned()));
        sections.sort();
        assert_eq!(sections.map(|s| s.0), ["§3.6", "§3.6.1", "§3.9", "§3.10", "§10.2"]);
    }

    #[test]
    fn line_numbers_do_not_count_as_a_difference() {
        let old = "| [a.rs:12](../a.rs#L12) | b.rs:1,2<br>c.rs:7 |";
        let new = "| [a.rs:9](../a.rs#L9) | b.rs:3,4,5<br>c.rs:8 |";
        assert_eq!(without_numbers(old), without_numbers(new));
        assert_ne!(without_numbers(old), without_numbers("| [d.rs:12](../d.rs#L12) |"));
    }
}
