//! Finds the Rust files that are ours and tells code from tests. Knows nothing of any rule about
//! them.

use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file of ours.
pub(crate) struct SourceFile {
    /// Its path from the repository's root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl SourceFile {
    /// The file's own documentation: the `//!` lines that it opens with, without their marks.
    pub(crate) fn header(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        let words: Vec<&str> = lines.map(|line| line.trim_start_matches("//!").trim()).collect();
        words.join(" ").trim().to_owned()
    }

    /// How many lines come before the tests at the end of the file; all of them if there are none.
    pub(crate) fn code_line_count(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            matches!(pair, [attribute, module]
                if attribute.trim() == "#[cfg(test)]" && module.trim_start().starts_with("mod "))
        });
        tests.unwrap_or(lines.len())
    }

    /// Whether it is compiled for tests or measurements only.
    pub(crate) fn is_test(&self) -> bool {
        ["/tests/", "/benches/", "/examples/"].iter().any(|part| self.path.contains(part))
            || self.path.ends_with("/tests.rs")
    }
}

/// Every Rust file below `crates/` and `xtask/`, sorted by path. Generated files live under
/// `target/` and are not ours.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for top in ["crates", "xtask"] {
        collect(root, &root.join(top), &mut found)?;
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            let is_ours = path.file_name().is_some_and(|name| name != "target");
            if is_ours {
                collect(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(read(root, &path)?);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &PathBuf) -> anyhow::Result<SourceFile> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    Ok(SourceFile { path, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile { path: "crates/x/src/lib.rs".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_header_is_the_opening_documentation_without_its_marks() {
        assert_eq!(file("//! One.\n//! Two.\n\n//! Not this.\n").header(), "One. Two.");
        assert_eq!(file("use std::fs;\n").header(), "");
    }

    #[test]
    fn lines_of_tests_do_not_count_as_code() {
        assert_eq!(file("a\nb\n#[cfg(test)]\nmod tests {\n}\n").code_line_count(), 2);
        assert_eq!(file("a\n#[cfg(test)]\nuse x;\nb\n").code_line_count(), 4);
    }
}
