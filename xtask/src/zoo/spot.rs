//! Finds the place in a source file that an edit means. White space does not count, so that a
//! formatter may move lines; whatever else differs is an error. Does not change anything.

use super::mutant::{Edit, Kind};
use anyhow::{Context, bail};
use std::ops::Range;

/// Where the tests of a file begin; nothing there is ever meant.
const TESTS: &str = "#[cfg(test)]\nmod tests {";

/// The span of `text` that `edit` changes; empty for an insertion.
///
/// # Errors
///
/// If what the edit looks for is not there exactly once.
pub(crate) fn locate(text: &str, edit: &Edit) -> anyhow::Result<Range<usize>> {
    let code = text.split(TESTS).next().unwrap_or(text);
    let region = match &edit.inside {
        Some(inside) => braces_after(code, only(code, 0..code.len(), inside)?.end)
            .with_context(|| format!("no braces after `{inside}`"))?,
        None => 0..code.len(),
    };
    if edit.kind == Kind::First {
        if edit.inside.is_none() || !edit.find.is_empty() {
            bail!("an edit of the kind `first` has an `in` and no `find`");
        }
        return Ok(region.start..region.start);
    }
    let (before, rest) = edit.find.split_once('«').unwrap_or(("", &edit.find));
    let (marked, after) = rest.split_once('»').unwrap_or((rest, ""));
    let found = only(code, region, &format!("{before}{marked}{after}"))?;
    let span = marked_part(code, found, before, after);
    Ok(if edit.kind == Kind::Before { span.start..span.start } else { span })
}

/// The one place in `region` where `needle` stands, white space aside.
fn only(code: &str, region: Range<usize>, needle: &str) -> anyhow::Result<Range<usize>> {
    let wanted: Vec<char> = needle.chars().filter(|c| !c.is_whitespace()).collect();
    let letters: Vec<(usize, char)> = code
        .get(region.clone())
        .unwrap_or_default()
        .char_indices()
        .filter(|(_, c)| !c.is_whitespace())
        .map(|(place, c)| (place + region.start, c))
        .collect();
    if wanted.is_empty() {
        bail!("there is nothing to find");
    }
    let mut found = letters
        .windows(wanted.len())
        .filter(|window| window.iter().map(|(_, c)| c).eq(&wanted))
        .filter_map(|window| {
            Some(window.first()?.0..window.last()?.0 + window.last()?.1.len_utf8())
        })
        .filter(|span| is_whole(code, span));
    match (found.next(), found.count()) {
        (Some(span), 0) => Ok(span),
        (None, _) => bail!("`{needle}` is not there"),
        (Some(_), more) => bail!("`{needle}` is there {} times", more + 1),
    }
}

/// Whether a span neither begins nor ends within a word.
fn is_whole(code: &str, span: &Range<usize>) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (head, tail) = (code.get(..span.start), code.get(span.end..));
    let inner = code.get(span.clone()).unwrap_or_default();
    let cut_head = is_word(inner.chars().next()) && is_word(head.and_then(|t| t.chars().last()));
    let cut_tail = is_word(inner.chars().last()) && is_word(tail.and_then(|t| t.chars().next()));
    !cut_head && !cut_tail
}

/// `found` without the context around it.
fn marked_part(code: &str, found: Range<usize>, before: &str, after: &str) -> Range<usize> {
    let count = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let inner = code.get(found.clone()).unwrap_or_default();
    let letters: Vec<(usize, char)> =
        inner.char_indices().filter(|(_, c)| !c.is_whitespace()).collect();
    let first = letters.get(count(before)).map_or(0, |(place, _)| *place);
    let last = letters.len().saturating_sub(count(after) + 1);
    let end = letters.get(last).map_or(inner.len(), |(place, c)| place + c.len_utf8());
    found.start + first..found.start + end
}

/// What is between the first braces after `from`.
fn braces_after(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0_usize;
    let mut start = None;
    for (place, c) in Code::new(code, from) {
        match c {
            '{' => {
                depth += 1;
                start = start.or(Some(place + 1));
            }
            '}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return start.map(|start| start..place);
        }
    }
    None
}

/// The letters of a source text that are code: no comments, strings or characters.
struct Code<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Code<'a> {
    fn new(text: &'a str, place: usize) -> Self {
        Self { text, place }
    }

    /// How long the comment, string or character at the head of `rest` is; 0 if there is none.
    fn quiet_length(rest: &str) -> usize {
        let through = |end: &str, from: usize| {
            rest.get(from..)
                .and_then(|tail| tail.find(end))
                .map_or(rest.len(), |at| at + from + end.len())
        };
        if rest.starts_with("//") {
            return through("\n", 0);
        }
        if rest.starts_with("/*") {
            return through("*/", 0);
        }
        if rest.starts_with('"') {
            return string_length(rest);
        }
        let mut letters = rest.chars();
        match (letters.next(), letters.next(), letters.next()) {
            (Some('\''), Some('\\'), _) => through("'", 3),
            (Some('\''), Some(c), Some('\'')) => c.len_utf8() + 2,
            _ => 0,
        }
    }
}

fn string_length(rest: &str) -> usize {
    let mut is_escaped = false;
    for (place, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    rest.len()
}

impl Iterator for Code<'_> {
    type Item = (usize, char);

    fn next(&mut self) -> Option<(usize, char)> {
        loop {
            let rest = self.text.get(self.place..)?;
            let quiet = Self::quiet_length(rest);
            if quiet == 0 {
                let letter = rest.chars().next()?;
                self.place += letter.len_utf8();
                return Some((self.place - letter.len_utf8(), letter));
            }
            self.place += quiet;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(inside: Option<&str>, find: &str) -> Edit {
        Edit {
            file: String::new(),
            inside: inside.map(str::to_owned),
            find: find.to_owned(),
            replace: String::new(),
            kind: Kind::Expression,
        }
    }

    fn found<'a>(text: &'a str, edit: &Edit) -> anyhow::Result<&'a str> {
        Ok(&text[locate(text, edit)?])
    }

    #[test]
    fn white_space_does_not_count() {
        let text = "let a = one\n    .two(  three );";
        assert_eq!(found(text, &edit(None, "one.two(three)")).unwrap(), "one\n    .two(  three )");
    }

    #[test]
    fn what_is_there_twice_or_not_at_all_is_an_error() {
        assert!(found("a(); a();", &edit(None, "a()")).is_err());
        assert!(found("a();", &edit(None, "b()")).is_err());
    }

    #[test]
    fn words_are_not_cut() {
        assert_eq!(found("index_max; max", &edit(None, "max")).unwrap(), "max");
    }

    #[test]
    fn only_the_marked_part_changes() {
        let text = "let first = a + b; let second = a + b;";
        let range = locate(text, &edit(None, "second = «a + b»;")).unwrap();
        assert_eq!((range.start, &text[range]), (32, "a + b"));
    }

    #[test]
    fn the_search_stays_within_the_braces_of_an_item() {
        let text = "fn one() { x } fn two() { if y { '}' } \"}\" /* } */ x }";
        let range = locate(text, &edit(Some("fn two"), "x")).unwrap();
        assert_eq!(range.start, text.len() - 3);
        let first = Edit { kind: Kind::First, ..edit(Some("fn two"), "") };
        assert_eq!(locate(text, &first).unwrap(), 25..25);
    }

    #[test]
    fn lifetimes_are_not_characters_and_tests_are_not_code() {
        let text = "fn a<'x>(b: &'x str) { c }\n#[cfg(test)]\nmod tests { c }";
        assert_eq!(found(text, &edit(Some("fn a"), "c")).unwrap(), "c");
        assert_eq!(found(text, &edit(None, "c")).unwrap(), "c");
    }
}
