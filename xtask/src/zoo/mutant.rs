//! What a mutant is: an entry of a file under `zoo/`. Reads them and checks what can be checked
//! without the source that they change.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the entries are.
pub(crate) const FOLDER: &str = "zoo";
/// The longest id: the switch keeps it in a number.
const ID_LENGTH_MAX: usize = 8;

/// One file: a group of mutants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// The group's name, for people.
    #[serde(rename = "group")]
    pub(crate) name: String,
    /// Decides the order of the groups.
    pub(crate) order: u32,
    #[serde(default, rename = "mutant")]
    pub(crate) mutants: Vec<Mutant>,
}

/// One thing that can be wrong.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// As in the list of real bugs, with a letter for a variant; `Q` for bugs of our own.
    pub(crate) id: String,
    /// What is wrong, as a clause.
    pub(crate) what: String,
    /// The property that it breaks, as a code.
    pub(crate) breaks: String,
    /// Where it was seen.
    #[serde(default)]
    pub(crate) seen: String,
    /// How the source is changed.
    #[serde(default)]
    pub(crate) edits: Vec<Edit>,
    /// Tests that fail if it lives: `crate::target::test`.
    #[serde(default)]
    pub(crate) directed: Vec<String>,
    /// Why the design has no place for it.
    pub(crate) inexpressible: Option<String>,
    /// Why it changes nothing that anybody can see.
    pub(crate) equivalent: Option<String>,
    /// The part of the product that does not exist yet.
    pub(crate) waits_for: Option<String>,
    /// It changes nothing, and must survive: proof that survivors are reported.
    #[serde(default)]
    pub(crate) control: bool,
    /// It is part of the subset that CI runs.
    #[serde(default)]
    pub(crate) ci: bool,
}

/// One change of one file.
#[derive(Clone, Deserialize, Hash)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The file, from `crates/` on.
    pub(crate) file: String,
    /// Looks only into the first braces after this text, which must occur once.
    #[serde(rename = "in")]
    pub(crate) inside: Option<String>,
    /// What is there; the part between « and », if marked, is what changes.
    #[serde(default)]
    pub(crate) find: String,
    /// What stands there while the mutant lives.
    pub(crate) replace: String,
    #[serde(default)]
    pub(crate) kind: Kind,
}

/// How a change is woven in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Hash, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One expression for another.
    #[default]
    Expression,
    /// Whole statements for others.
    Statements,
    /// Statements at the beginning of the braces of `in`.
    First,
    /// In every woven build: instead of what is found, and of no effect by itself.
    Always,
    /// Statements before what is found, which stays.
    Before,
}

/// The list of real bugs: its groups, and the last number of each. What we found ourselves counts on
/// behind these, or is called Q.
const LISTED: [(char, u32); 9] = [
    ('A', 28),
    ('B', 11),
    ('C', 32),
    ('D', 14),
    ('E', 18),
    ('F', 16),
    ('G', 17),
    ('H', 18),
    ('I', 13),
];

impl Mutant {
    /// Whether it puts back a bug of the list, or a variant of one: `A12b` is one of A12.
    pub(crate) fn is_listed(&self) -> bool {
        let mut letters = self.id.chars();
        let group = letters.next();
        let number: String = letters.take_while(char::is_ascii_digit).collect();
        let number: u32 = number.parse().unwrap_or(u32::MAX);
        LISTED.iter().any(|(letter, last)| group == Some(*letter) && (1..=*last).contains(&number))
    }

    /// Whether it can be run today.
    pub(crate) fn is_expressible(&self) -> bool {
        self.parked().is_none()
    }

    /// Why it cannot, if so.
    pub(crate) fn parked(&self) -> Option<String> {
        let inexpressible = self.inexpressible.as_ref().map(|why| format!("inexpressible: {why}"));
        let equivalent = self.equivalent.as_ref().map(|why| format!("equivalent: {why}"));
        let waits_for = self.waits_for.as_ref().map(|part| format!("it waits for {part}"));
        inexpressible.or(equivalent).or(waits_for)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.id.is_empty() && self.id.len() <= ID_LENGTH_MAX, "the id has 1 to 8 letters");
        let reasons = [&self.inexpressible, &self.equivalent, &self.waits_for];
        let reason_count = reasons.into_iter().filter(|reason| reason.is_some()).count();
        ensure!(reason_count <= 1, "it has more than one reason not to run");
        if self.is_expressible() && self.edits.is_empty() {
            bail!("expected edits, or a reason why there are none");
        }
        for test in &self.directed {
            ensure!(test.splitn(3, "::").count() == 3, "expected crate::target::test, got {test}");
        }
        Ok(())
    }
}

/// Reads every group, in order.
///
/// # Errors
///
/// If a file cannot be read, or an entry is not sound.
pub(crate) fn read_all(root: &Path) -> anyhow::Result<Vec<Group>> {
    let folder = root.join(FOLDER);
    let mut groups = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path)?;
            groups.push(parse(&text).with_context(|| format!("in {}", path.display()))?);
        }
    }
    groups.sort_by_key(|group| group.order);
    let mut ids = BTreeSet::new();
    for mutant in groups.iter().flat_map(|group| &group.mutants) {
        ensure!(ids.insert(&mutant.id), "the id {} is given twice", mutant.id);
    }
    Ok(groups)
}

fn parse(text: &str) -> anyhow::Result<Group> {
    let group: Group = toml::from_str(text)?;
    for mutant in &group.mutants {
        mutant.check().with_context(|| format!("mutant {}", mutant.id))?;
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "group = \"G\"\norder = 1\n[[mutant]]\nid = \"A1\"\nwhat = \"w\"\n\
                        breaks = \"ES\"\n";

    #[test]
    fn an_entry_without_edits_needs_a_reason() {
        assert!(parse(HEAD).is_err());
        assert!(parse(&format!("{HEAD}equivalent = \"nothing depends on it\"\n")).is_ok());
        assert!(parse(&format!("{HEAD}equivalent = \"a\"\nwaits_for = \"b\"\n")).is_err());
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused() {
        assert!(parse(&format!("{HEAD}waits_for = \"b\"\nkilled = true\n")).is_err());
    }

    #[test]
    fn a_test_is_named_by_crate_target_and_name() {
        let edit = "edits = [ { file = \"f\", find = \"a\", replace = \"b\" } ]\n";
        assert!(parse(&format!("{HEAD}{edit}directed = [\"core::paper::x\"]\n")).is_ok());
        assert!(parse(&format!("{HEAD}{edit}directed = [\"x\"]\n")).is_err());
    }
}
