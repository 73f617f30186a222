//! Whether the documents of formats state the versions that the code has. Knows where both stand, and
//! nothing of what a version means.

use anyhow::Context;
use std::fs;
use std::path::Path;

/// A number that a document and the code both state.
struct Stated {
    document: &'static str,
    /// What stands before it there.
    after: &'static str,
    source: &'static str,
    /// What stands before it in the code.
    constant: &'static str,
}

const STATED: [Stated; 4] = [
    Stated {
        document: "docs/wire-format.md",
        after: "Protocol versions: **",
        source: "crates/core/src/version.rs",
        constant: "const OLDEST: Self = Self(",
    },
    Stated {
        document: "docs/wire-format.md",
        after: "up to **",
        source: "crates/core/src/version.rs",
        constant: "const NEWEST: Self = Self(",
    },
    Stated {
        document: "docs/wal-format.md",
        after: "configuration: version of this encoding `u8` = ",
        source: "crates/wal/src/codec.rs",
        constant: "const CONFIGURATION_WITHOUT_PROTOCOL: u8 = ",
    },
    Stated {
        document: "docs/wal-format.md",
        after: "where a protocol is recorded `u8` = ",
        source: "crates/wal/src/codec.rs",
        constant: "const CONFIGURATION_WITH_PROTOCOL: u8 = ",
    },
];

/// Every difference, as a sentence each.
///
/// # Errors
///
/// If one of the files cannot be read.
pub(crate) fn differences(root: &Path) -> anyhow::Result<Vec<String>> {
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| file.to_owned());
    let mut sentences = Vec::new();
    for stated in &STATED {
        sentences.extend(difference(stated, &read(stated.document)?, &read(stated.source)?));
    }
    Ok(sentences)
}

fn difference(stated: &Stated, document: &str, source: &str) -> Option<String> {
    let Stated { document: name, after, source: file, constant } = stated;
    let (told, actual) = (number_after(document, after), number_after(source, constant));
    let said = |number: Option<u32>| number.map_or_else(|| "nothing".into(), |n| n.to_string());
    let is_same = told.is_some() && told == actual;
    (!is_same).then(|| {
        let (told, actual) = (said(told), said(actual));
        format!(
            "{name}: expected behind `{after}` what {file} has behind `{constant}`, {actual}; \
             found {told}"
        )
    })
}

/// The number that follows the one place where `before` stands.
fn number_after(text: &str, before: &str) -> Option<u32> {
    let (_, rest) = text.split_once(before)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_states_another_version_or_none_is_reported_with_both() {
        let stated = &STATED[0];
        let code = "    pub const OLDEST: Self = Self(31);";
        assert_eq!(difference(stated, "Protocol versions: **31**.", code), None);
        let differs = difference(stated, "Protocol versions: **3**.", code).unwrap();
        assert!(differs.contains("31; found 3"), "{differs}");
        assert!(difference(stated, "", code).unwrap().contains("found nothing"));
        assert!(difference(stated, "", "").is_some(), "nobody states one any more");
    }
}
