//! What the book says of the repository is so: its chapters and links are there, what it shows of other
//! files stands in them, and its figures are right. The doc tests compile the rest of its code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapters by file name, and their text; the index among them.
fn chapters() -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join("docs/book")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    let mut chapters: Vec<_> =
        names.map(|name| (name.clone(), read(format!("docs/book/{name}")))).collect();
    chapters.sort();
    assert!(chapters.len() > 5, "{chapters:?}");
    chapters
}

/// The blocks of code that open with `fence`.
fn blocks<'a>(text: &'a str, fence: &str) -> Vec<&'a str> {
    let opening = format!("```{fence}\n");
    let parts = text.split(&opening).skip(1);
    parts.map(|part| part.split_once("```").expect("a block ends").0).collect()
}

/// The lines that a program consists of: neither empty nor a comment, and not its tests.
fn code_lines(text: &str) -> Vec<&str> {
    let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((text, ""));
    let lines = code.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect()
}

#[test]
fn every_chapter_is_in_the_index_and_compiled() {
    let (index, compiled) = (read("docs/book/README.md"), read("crates/node/src/book.rs"));
    for (name, _) in chapters() {
        if name != "README.md" {
            assert!(index.contains(&format!("]({name})")), "{name} is not in the index");
            let include = format!("docs/book/{name}\")");
            assert!(compiled.contains(&include), "{name} is not compiled");
        }
    }
}

#[test]
fn every_file_that_the_book_links_to_is_there() {
    let mut found = BTreeSet::new();
    for (name, text) in chapters() {
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.starts_with("http") {
                let path = root().join("docs/book").join(file);
                assert!(path.exists(), "{name} links to {target}");
                found.insert(file.to_owned());
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
}

#[test]
fn what_is_not_compiled_in_the_book_stands_in_a_file_that_is() {
    let mut count = 0;
    for (name, text) in chapters() {
        for block in blocks(&text, "rust,ignore") {
            let (first, rest) = block.split_once('\n').unwrap();
            let file = first.strip_prefix("// ").unwrap_or_else(|| panic!("{name}: {first}"));
            assert!(read(file).contains(rest), "{name}: {file} does not have\n{rest}");
            count += 1;
        }
        let all = text.matches("```rust").count();
        let kinds = ["rust", "rust,no_run", "rust,ignore"];
        let known: usize = kinds.iter().map(|kind| blocks(&text, kind).len()).sum();
        assert_eq!(all, known, "{name} has blocks of another kind");
    }
    assert!(count > 0);
}

#[test]
fn the_comparison_counts_our_lines_as_they_are() {
    let store = read("crates/node/examples/kv_http.rs");
    let lines = code_lines(&store);
    let used = lines.iter().filter(|line| line.starts_with("use ")).count();
    let said = format!("| **all** | **{}** ({}) |", lines.len(), lines.len() - used);
    let comparison = read("docs/book/comparison.md");
    assert!(comparison.contains(&said), "expected `{said}` in docs/book/comparison.md");
}
