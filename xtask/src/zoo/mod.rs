//! `cargo xtask zoo`: bugs that real implementations had, put into ours one at a time, and whether
//! anything notices. The parts are next door; this one puts them in order.

mod mutant;
mod run;
mod spot;
mod table;
mod weave;
mod yard;

use anyhow::{Context, bail, ensure};
use mutant::{Group, Mutant};
use run::{Budget, Fate, Outcome, Tests};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;
use table::{Memory, Tally};
use yard::{Build, Yard};

/// How many seeds of the ordinary simulator a mutant must survive.
const SEEDS: u64 = 1_000;
/// How many of them CI waits for.
const CI_SEEDS: u64 = 60;
/// How many steps each.
const STEPS: u64 = 20_000;

/// Where it is noted what became of each mutant.
#[derive(Clone, Copy)]
struct Notes<'a>(&'a Mutex<Memory>);

impl Notes<'_> {
    fn take(self, mutant: &Mutant, outcome: &Outcome) -> anyhow::Result<()> {
        let Ok(mut memory) = self.0.lock() else { return Ok(()) };
        memory.note(mutant, outcome)
    }
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these mutants; all of them if none is named
    ids: Vec<String>,
    /// Only a part of the zoo: `ci` for the mutants that are marked so
    #[arg(long, value_parser = ["ci"])]
    subset: Option<String>,
    /// Only checks that every mutant fits the source; builds nothing
    #[arg(long)]
    check: bool,
    /// Writes docs/zoo.md from what this run and those before it found
    #[arg(long)]
    write_table: bool,
    /// How many seeds of the ordinary simulator a mutant must survive
    #[arg(long, default_value_t = SEEDS)]
    seeds: u64,
    /// How many steps each
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// Builds as tests are built, and with what they have built already: quick, for few seeds
    #[arg(long)]
    as_tests: bool,
    /// How many mutants run at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Runs the zoo. The last line that it prints is
/// `N mutants: G generic, D directed, S survivors`.
///
/// # Errors
///
/// If a mutant survives, or the one that changes nothing does not; if a mutant does not fit the
/// source.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let groups = mutant::read_all(root)?;
    if options.check {
        return check(root, &groups);
    }
    let is_part = !options.ids.is_empty() || options.subset.is_some();
    ensure!(
        !(options.write_table && is_part),
        "--write-table publishes what became of every mutant, and only some are chosen: leave the ids \
         and --subset out, or --write-table"
    );
    let chosen = choose(&groups, options)?;
    let started = Instant::now();
    let build = if options.as_tests { Build::AsTests } else { Build::Optimised };
    let yard = yard::lay_out(root, &groups, build)?;
    let runner = yard.build_runner()?;
    println!("woven and built in {} s", started.elapsed().as_secs());
    let budget = Budget { seeds: options.seeds, steps: options.steps };
    let memory = Mutex::new(Memory::read(root, budget)?);
    let notes = Notes(&memory);
    let generic = |mutant: &Mutant| run::generic(&runner, mutant, budget);
    let mut outcomes = in_parallel(notes, &chosen, options.jobs, generic)?;
    direct(notes, &yard, &chosen, &mut outcomes, options.jobs)?;
    if options.write_table {
        table::write(root, &groups, &memory.into_inner().unwrap_or_default(), budget)?;
    }
    conclude(&chosen, &outcomes)
}

/// Runs what CI runs of the zoo: mutants that the simulator notices at once, and the one that changes
/// nothing.
///
/// # Errors
///
/// As [`run()`].
pub(crate) fn run_in_ci(root: &Path) -> anyhow::Result<()> {
    let subset = Some("ci".to_owned());
    let ids = Vec::new();
    let (check, write_table, as_tests) = (false, false, true);
    let (seeds, steps, jobs) = (CI_SEEDS, STEPS, 2);
    run(root, &Options { ids, subset, check, write_table, seeds, steps, as_tests, jobs })
}

/// That every mutant fits the source: quick, and part of `cargo xtask ci --quick`.
///
/// # Errors
///
/// If one does not.
pub(crate) fn check_all(root: &Path) -> anyhow::Result<()> {
    check(root, &mutant::read_all(root)?)
}

fn check(root: &Path, groups: &[Group]) -> anyhow::Result<()> {
    let files = yard::woven(root, groups)?;
    let all = || groups.iter().flat_map(|group| &group.mutants);
    let runnable = all().filter(|mutant| mutant.is_expressible()).count();
    println!(
        "zoo: {} entries, {runnable} mutants in {} files fit the source",
        all().count(),
        files.len()
    );
    Ok(())
}

fn choose<'a>(groups: &'a [Group], options: &Options) -> anyhow::Result<Vec<&'a Mutant>> {
    let all: Vec<&Mutant> = groups.iter().flat_map(|group| &group.mutants).collect();
    for id in &options.ids {
        let known = all.iter().find(|mutant| mutant.id == *id);
        let mutant = known.with_context(|| format!("there is no mutant {id}"))?;
        if let Some(reason) = mutant.parked() {
            bail!("{id} is not run: {reason}");
        }
        if let Some(subset) = options.subset.as_ref().filter(|_| !mutant.ci) {
            bail!("{id} is not in the subset `{subset}`: leave one of both out");
        }
    }
    let is_wanted = |mutant: &&Mutant| {
        let is_named = options.ids.is_empty() || options.ids.contains(&mutant.id);
        mutant.is_expressible() && is_named && (options.subset.is_none() || mutant.ci)
    };
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Runs the tests of those that the simulator did not notice.
fn direct(
    notes: Notes,
    yard: &Yard,
    mutants: &[&Mutant],
    outcomes: &mut BTreeMap<String, Outcome>,
    jobs: usize,
) -> anyhow::Result<()> {
    let survived = |mutant: &&&Mutant| {
        let fate = outcomes.get(&mutant.id).map(|outcome| &outcome.fate);
        matches!(fate, Some(Fate::Survived { .. })) && !mutant.directed.is_empty()
    };
    let left: Vec<&Mutant> = mutants.iter().filter(survived).copied().collect();
    if left.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = left.iter().flat_map(|m| &m.directed).map(String::as_str).collect();
    let programs = yard.build_tests(&named)?;
    let tests = Tests { yard, programs: &programs };
    trust(&tests, &left)?;
    let found = in_parallel(notes, &left, jobs, |mutant| {
        let outcome = tests.directed(mutant)?;
        outcome.or_else(|| outcomes.get(&mutant.id).cloned()).context("expected an outcome")
    })?;
    outcomes.extend(found);
    Ok(())
}

/// A test that fails without any mutant proves nothing when one lives.
fn trust(tests: &Tests, mutants: &[&Mutant]) -> anyhow::Result<()> {
    let mut names: Vec<&String> = mutants.iter().flat_map(|mutant| &mutant.directed).collect();
    names.sort();
    names.dedup();
    for test in names {
        ensure!(tests.passes(test, "")?, "{test} fails although no mutant lives");
    }
    Ok(())
}

/// Runs some mutants at a time, and says what became of each.
fn in_parallel(
    notes: Notes,
    mutants: &[&Mutant],
    jobs: usize,
    run: impl Fn(&Mutant) -> anyhow::Result<Outcome> + Sync,
) -> anyhow::Result<BTreeMap<String, Outcome>> {
    let waiting = Mutex::new(mutants.iter());
    let outcomes = Mutex::new(BTreeMap::new());
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    let work = || -> anyhow::Result<()> {
        while let Some(mutant) = next() {
            let outcome = run(mutant).with_context(|| format!("mutant {}", mutant.id))?;
            println!("{}", sentence(mutant, &outcome));
            if let Ok(mut outcomes) = outcomes.lock() {
                // Whoever is interrupted keeps what was found so far.
                notes.take(mutant, &outcome)?;
                outcomes.insert(mutant.id.clone(), outcome);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(worked) => worked,
            Err(_) => bail!("a thread of the zoo panicked"),
        })
    })?;
    Ok(outcomes.into_inner().unwrap_or_default())
}

fn sentence(mutant: &Mutant, outcome: &Outcome) -> String {
    let Mutant { id, what, .. } = mutant;
    let seconds = outcome.seconds;
    match &outcome.fate {
        Fate::Generic { seed, kind, words } => {
            let words: String = words.chars().take(140).collect();
            format!("{id:6} seed {seed:3}, {seconds:.1} s: {kind}: {words}")
        }
        Fate::Directed { test } => format!("{id:6} {seconds:.1} s: {test}"),
        Fate::Survived { reached } => {
            format!("{id:6} SURVIVED {seconds:.1} s, reached {reached} times: {what}")
        }
    }
}

fn conclude(mutants: &[&Mutant], outcomes: &BTreeMap<String, Outcome>) -> anyhow::Result<()> {
    let (mut all, mut listed, mut survivors) = (Tally::default(), Tally::default(), Vec::new());
    for mutant in mutants {
        let fate = outcomes.get(&mutant.id).map(|outcome| &outcome.fate);
        let survived = matches!(fate, None | Some(Fate::Survived { .. }));
        if mutant.control {
            ensure!(survived, "{} changes nothing and was killed: {fate:?}", mutant.id);
            println!("{} changes nothing, and survived as it must", mutant.id);
            continue;
        }
        all.add(fate);
        if mutant.is_listed() {
            listed.add(fate);
        }
        if survived {
            survivors.push(mutant.id.as_str());
        }
    }
    if !survivors.is_empty() {
        println!("survivors: {}", survivors.join(", "));
    }
    println!("{}", all.shares(listed));
    println!("{}", all.line());
    ensure!(survivors.is_empty(), "{} mutant(s) survived", survivors.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ids: &[&str], subset: Option<&str>, write_table: bool) -> Options {
        Options {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            subset: subset.map(str::to_owned),
            check: false,
            write_table,
            seeds: 1,
            steps: 1,
            as_tests: true,
            jobs: 1,
        }
    }

    fn refused(options: &Options) -> String {
        run(&crate::root(), options)
            .expect_err("it is refused before anything is built")
            .to_string()
    }

    #[test]
    fn a_part_of_the_zoo_does_not_replace_the_published_table() {
        for part in [options(&["G1a"], None, true), options(&[], Some("ci"), true)] {
            let text = refused(&part);
            assert!(text.contains("--write-table"), "{text}");
        }
    }

    #[test]
    fn a_mutant_outside_the_subset_is_refused_at_once() {
        let groups = mutant::read_all(&crate::root()).expect("the zoo is read");
        let mut all = groups.iter().flat_map(|group| &group.mutants);
        let outside = all.find(|mutant| mutant.is_expressible() && !mutant.ci);
        let id = outside.expect("most are outside").id.as_str();
        let text = refused(&options(&[id], Some("ci"), false));
        assert!(text.contains(id) && text.contains("subset"), "{text}");
    }

    #[test]
    fn a_bug_of_the_list_is_told_from_one_of_our_own() {
        let groups = mutant::read_all(&crate::root()).expect("the zoo is read");
        let is_listed = |id: &str| {
            let mut all = groups.iter().flat_map(|group| &group.mutants);
            all.find(|mutant| mutant.id == id).expect("there is one").is_listed()
        };
        assert!(["A1", "A12b", "I13", "H18"].into_iter().all(is_listed));
        assert!(!["A0", "Q3", "I15a", "H28f", "C33"].into_iter().any(is_listed));
    }
}
