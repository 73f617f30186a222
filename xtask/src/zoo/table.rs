//! What the zoo's runs found, remembered under `target/` and written for people as `docs/zoo.md`.
//! Only what was found with the present sources, entries and budget counts. Runs nothing.

use super::mutant::{Group, Mutant};
use super::run::{Budget, Fate, Outcome};
use super::yard;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The published table.
const DOCUMENT: &str = "docs/zoo.md";
type Outcomes = BTreeMap<String, Outcome>;

/// What the runs so far found of the same sources, and with the same budget.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Memory {
    /// Beside the build; each budget has its own.
    #[serde(skip)]
    place: PathBuf,
    /// Of the sources.
    source: u64,
    /// With the hash of what each mutant changed then.
    outcomes: BTreeMap<String, (u64, Outcome)>,
}

impl Memory {
    /// What earlier runs left, if nothing has changed since.
    ///
    /// # Errors
    ///
    /// If the sources cannot be read.
    pub(crate) fn read(root: &Path, budget: Budget) -> anyhow::Result<Self> {
        let mut hasher = DefaultHasher::new();
        for (path, bytes) in yard::sources(root)? {
            (path, bytes).hash(&mut hasher);
        }
        let source = hasher.finish();
        let name = format!("outcomes-{}-{}.json", budget.seeds, budget.steps);
        let place = yard::folder(root).join(name);
        let left = fs::read(&place).ok();
        let left: Option<Self> = left.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let left = left.filter(|memory| memory.source == source);
        let outcomes = left.map(|memory| memory.outcomes).unwrap_or_default();
        Ok(Self { place, source, outcomes })
    }

    /// Adds what became of a mutant, on disk too.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn note(&mut self, mutant: &Mutant, outcome: &Outcome) -> anyhow::Result<()> {
        self.outcomes.insert(mutant.id.clone(), (change_hash(mutant), outcome.clone()));
        fs::write(&self.place, serde_json::to_vec(self)?)?;
        Ok(())
    }

    /// What is known of the mutants as they are now.
    fn known(&self, groups: &[Group]) -> Outcomes {
        let recall = |mutant: &Mutant| {
            let (change, outcome) = self.outcomes.get(&mutant.id)?;
            (*change == change_hash(mutant)).then(|| (mutant.id.clone(), outcome.clone()))
        };
        groups.iter().flat_map(|group| &group.mutants).filter_map(recall).collect()
    }
}

fn change_hash(mutant: &Mutant) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&mutant.edits, &mutant.directed).hash(&mut hasher);
    hasher.finish()
}

/// Writes the table.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write(
    root: &Path,
    groups: &[Group],
    memory: &Memory,
    budget: Budget,
) -> anyhow::Result<()> {
    let text = render(groups, &memory.known(groups), budget);
    fs::write(root.join(DOCUMENT), text).context("writing docs/zoo.md")
}

fn render(groups: &[Group], known: &Outcomes, budget: Budget) -> String {
    let mut text = format!(
        "# The bug zoo\n\nMade by `cargo xtask zoo --write-table`; do not edit. Bugs that real \
         implementations of Raft had, the classic\nmistakes, and our own (Q), each put back into our \
         code one at a time (`zoo/*.toml`; how: [decision 8](decisions/0008-mutants-are-woven-in.md)).\n\n\
         *Generic*: the ordinary simulator noticed it, without knowing which mutant ran, within {} \
         seeds (from 1 on, 1 to 7 voters and up\nto 2 learners, {} steps each before healing). *Directed*: only a \
         test that was written for it did. Seconds are those of one core of\ntwo that were shared.\n\n\
         The properties: ES election safety, LM log matching, LC leader completeness, SMS state machine \
         safety, CI committed entries\nand the commit index never go back, CQ committed means durable on a \
         quorum, LIN linearizability, DUR an acknowledged write\nsurvives, DIV replicas are equal, REC \
         recovery after a crash, LIVE a healed cluster converges and serves, CNT a limit, SEC\nsecurity.\n\n",
        budget.seeds, budget.steps
    );
    summarise(&mut text, groups, known);
    for group in groups {
        render_group(&mut text, group, known);
    }
    render_rest(&mut text, groups);
    text
}

fn runnable(groups: &[Group]) -> impl Iterator<Item = &Mutant> {
    groups.iter().flat_map(|group| &group.mutants).filter(|m| m.is_expressible() && !m.control)
}

/// What became of some mutants, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    count: usize,
    generic: usize,
    directed: usize,
}

impl Tally {
    /// Counts another one; `None` if nothing is known of it.
    pub(crate) fn add(&mut self, fate: Option<&Fate>) {
        self.count += 1;
        match fate {
            Some(Fate::Generic { .. }) => self.generic += 1,
            Some(Fate::Directed { .. }) => self.directed += 1,
            Some(Fate::Survived { .. }) | None => {}
        }
    }

    pub(crate) const fn survivors(self) -> usize {
        self.count - self.generic - self.directed
    }

    fn generic_percent(self) -> usize {
        self.generic * 100 / self.count.max(1)
    }

    /// `263 mutants: 203 generic, 60 directed, 0 survivors`.
    pub(crate) fn line(self) -> String {
        let Self { count, generic, directed } = self;
        let survivors = self.survivors();
        format!("{count} mutants: {generic} generic, {directed} directed, {survivors} survivors")
    }

    /// In how many of a hundred the ordinary simulator noticed it: of all, and of those that put bugs
    /// of the list back.
    pub(crate) fn shares(self, listed: Self) -> String {
        let Self { count, generic, directed } = listed;
        format!(
            "Generic are {} % of all; of the {count} that put back bugs of the list (groups A to I as \
             far as it goes, without Q and what we added behind) {generic} are, {} %, and {directed} \
             are directed",
            self.generic_percent(),
            listed.generic_percent()
        )
    }
}

fn summarise(text: &mut String, groups: &[Group], known: &Outcomes) {
    let (mut all, mut listed) = (Tally::default(), Tally::default());
    for mutant in runnable(groups) {
        let fate = known.get(&mutant.id).map(|outcome| &outcome.fate);
        all.add(fate);
        if mutant.is_listed() {
            listed.add(fate);
        }
    }
    let _ = writeln!(text, "**{}.** {}.\n", all.line(), all.shares(listed));
}

fn render_group(text: &mut String, group: &Group, known: &Outcomes) {
    let mutants: Vec<&Mutant> = group.mutants.iter().filter(|m| m.is_expressible()).collect();
    if mutants.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "## {}\n\n| | What is wrong | Breaks | Killed by | Seeds | Seconds |\n|---|---|---|---|---|---|",
        group.name
    );
    for mutant in mutants {
        let outcome = known.get(&mutant.id);
        let seconds = outcome.map_or_else(String::new, |o| format!("{:.1}", o.seconds));
        let (killer, seeds) = match outcome.map(|o| &o.fate) {
            Some(Fate::Generic { seed, kind, .. }) => (kind.clone(), seed.to_string()),
            Some(Fate::Directed { test }) => (format!("*directed:* `{test}`"), String::new()),
            Some(Fate::Survived { .. }) if mutant.control => {
                ("nobody, as it must be".to_owned(), String::new())
            }
            Some(Fate::Survived { .. }) => ("**nobody**".to_owned(), String::new()),
            None => ("not run yet".to_owned(), String::new()),
        };
        let what = with_source(mutant);
        let _ = writeln!(
            text,
            "| {} | {what} | {} | {killer} | {seeds} | {seconds} |",
            mutant.id, mutant.breaks
        );
    }
    text.push('\n');
}

fn with_source(mutant: &Mutant) -> String {
    let what = mutant.what.replace('|', "\\|");
    if mutant.seen.is_empty() { what } else { format!("{what} ({})", mutant.seen) }
}

/// What is not run, and why.
fn render_rest(text: &mut String, groups: &[Group]) {
    type Reason = fn(&Mutant) -> Option<&String>;
    let parts: [(&str, Reason); 3] = [
        ("Equivalent: the change shows nowhere", |m| m.equivalent.as_ref()),
        ("Not expressible in this design", |m| m.inexpressible.as_ref()),
        ("Waiting for a part of the product", |m| m.waits_for.as_ref()),
    ];
    for (title, reason) in parts {
        let mutants = groups.iter().flat_map(|group| &group.mutants);
        let listed: Vec<_> = mutants.filter_map(|m| reason(m).map(|why| (m, why))).collect();
        if listed.is_empty() {
            continue;
        }
        let _ =
            writeln!(text, "## {title}\n\n| | What is wrong | Breaks | Why |\n|---|---|---|---|");
        for (mutant, why) in listed {
            let (id, what, breaks) = (&mutant.id, with_source(mutant), &mutant.breaks);
            let _ = writeln!(text, "| {id} | {what} | {breaks} | {why} |");
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_of_the_list_are_counted_by_themselves() {
        let (mut all, mut listed) = (Tally::default(), Tally::default());
        let generic = Fate::Generic { seed: 1, kind: String::new(), words: String::new() };
        for fate in [Some(&generic), None] {
            all.add(fate);
        }
        listed.add(Some(&generic));
        assert_eq!(all.line(), "2 mutants: 1 generic, 0 directed, 1 survivors");
        let shares = all.shares(listed);
        assert!(shares.starts_with("Generic are 50 % of all; of the 1 that"), "{shares}");
        assert!(shares.contains("1 are, 100 %, and 0 are directed"), "{shares}");
    }

    #[test]
    fn what_was_found_of_another_change_is_not_known_of_this_one() {
        let parse = |replace: &str| -> Group {
            let text = format!(
                "group = \"G\"\norder = 1\n[[mutant]]\nid = \"A1\"\nwhat = \"w\"\n\
                 breaks = \"ES\"\nedits = [ {{ file = \"f\", find = \"a\", replace = \"{replace}\" }} ]"
            );
            toml::from_str(&text).expect("an entry")
        };
        let (old, new) = (parse("b"), parse("c"));
        let outcome = Outcome { fate: Fate::Survived { reached: 1 }, seconds: 1.0 };
        let outcomes =
            old.mutants.iter().map(|m| (m.id.clone(), (change_hash(m), outcome.clone())));
        let memory = Memory { outcomes: outcomes.collect(), ..Memory::default() };
        assert_eq!(memory.known(&[old]).len(), 1);
        assert_eq!(memory.known(&[new]).len(), 0);
    }
}
