//! The log against a list of entries that does everything the slow way.

use super::*;
use crate::chance::Chance;
use crate::{Member, MemberRole, NodeId};
use bytes::Bytes;

/// All entries ever, of which those after `base` are in the log and those from `held_from` on in
/// memory.
struct Model {
    base: SnapshotMeta,
    entries: Vec<Entry>,
    held_from: LogIndex,
}

fn configuration(version: u64) -> Arc<Configuration> {
    let member =
        Member { role: MemberRole::Voter, rank: 0, address: String::new(), context: Bytes::new() };
    let members = (1..=version).map(|id| (NodeId::new(id), member.clone())).collect();
    Arc::new(Configuration::new(version, members))
}

fn runs(entries: &[Entry]) -> Vec<(LogIndex, Term)> {
    let mut runs: Vec<(LogIndex, Term)> = Vec::new();
    for entry in entries {
        if runs.last().is_none_or(|(_, term)| *term != entry.log_id.term) {
            runs.push((entry.log_id.index, entry.log_id.term));
        }
    }
    runs
}

/// From every index on: each configuration once, the latest first.
fn check_configurations(log: &Log, model: &Model) {
    let base = (model.base.last_included.index, Arc::clone(&model.base.configuration));
    let all: Vec<_> = std::iter::once(base).chain(model.configurations()).collect();
    for index in (log.base_index().get()..=model.last().index.get()).map(LogIndex::new) {
        let in_force = all.iter().rposition(|(at, _)| *at <= index);
        let expected = all.iter().skip(in_force.expect("not below the base")).rev();
        let expected: Vec<_> = expected.map(|(_, configuration)| configuration).collect();
        assert_eq!(log.configurations_from(index).collect::<Vec<_>>(), expected, "{index}");
    }
}

fn size(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::size_bytes).sum()
}

impl Model {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base.last_included, |entry| entry.log_id)
    }

    fn held(&self) -> &[Entry] {
        let after = self.entries.partition_point(|entry| entry.log_id.index < self.held_from);
        &self.entries[after..]
    }

    fn configurations(&self) -> Vec<(LogIndex, Arc<Configuration>)> {
        let of = |entry: &Entry| match &entry.payload {
            Payload::Configuration(configuration) => {
                Some((entry.log_id.index, Arc::clone(configuration)))
            }
            Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
        };
        self.entries.iter().filter_map(of).collect()
    }

    fn next_entries(&self, chance: &mut Chance) -> Vec<Entry> {
        let (mut last, count) = (self.last(), 1 + chance.below(4));
        let draw = |_| {
            last = LogId::new(Term::new(last.term.get() + chance.below(5) / 4), last.index.next());
            let payload = match chance.below(4) {
                0 => Payload::Noop,
                1 => Payload::Configuration(configuration(1 + chance.below(3))),
                _ => Payload::Command(Bytes::from(vec![0; to_usize(chance.below(60))])),
            };
            Entry { log_id: last, payload }
        };
        (0..count).map(draw).collect()
    }

    fn truncate_after(&mut self, index: LogIndex) {
        self.entries.retain(|entry| entry.log_id.index <= index);
        self.held_from = self.held_from.min(self.last().index.next());
    }

    fn release_through(&mut self, index: LogIndex) {
        let Some(entry) = self.entries.iter().find(|entry| entry.log_id.index == index) else {
            return;
        };
        let latest = self.configurations().into_iter().rfind(|(at, _)| *at <= index);
        self.base.last_included = entry.log_id;
        self.base.configuration =
            latest.map_or(Arc::clone(&self.base.configuration), |(_, latest)| latest);
        self.entries.retain(|entry| entry.log_id.index > index);
        self.held_from = self.held_from.max(index.next());
    }

    fn evict(&mut self) -> bool {
        let holds_some = !self.held().is_empty();
        if holds_some {
            self.held_from = self.held_from.next();
        }
        holds_some
    }

    fn reset(&mut self, base: SnapshotMeta) {
        self.held_from = base.last_included.index.next();
        self.base = base;
        self.entries.clear();
    }
}

/// Everything that can be asked of the log, for every index and term around it.
fn compare(log: &Log, model: &Model) {
    assert_eq!(log.base(), &model.base);
    assert_eq!(log.base_index(), model.base.last_included.index);
    assert_eq!(log.last(), model.last());
    assert_eq!(log.term_runs().collect::<Vec<_>>(), runs(&model.entries));
    check_configurations(log, model);
    let latest = model.configurations().pop();
    let (at, configuration) =
        latest.unwrap_or((log.base_index(), Arc::clone(&model.base.configuration)));
    assert_eq!((log.configuration_index(), log.configuration()), (at, &configuration));
    assert_eq!(log.tail_bytes(), size(model.held()));
    let oldest = model.held().first().map(|entry| entry.log_id.index);
    assert_eq!(log.tail_first(), oldest.unwrap_or(model.last().index.next()));
    let bytes = size(model.held());
    assert_eq!(log.first_over(bytes), None);
    assert_eq!(bytes.checked_sub(1).and_then(|less| log.first_over(less)), oldest);
    let known: Vec<LogId> = std::iter::once(model.base.last_included)
        .chain(model.entries.iter().map(|entry| entry.log_id))
        .collect();
    for index in (0..=model.last().index.get() + 2).map(LogIndex::new) {
        let here = known.iter().find(|log_id| log_id.index == index);
        assert_eq!(log.term_at(index), here.map(|log_id| log_id.term), "{index}");
        for term in (0..=model.last().term.get() + 1).map(Term::new) {
            assert_eq!(
                log.contains(LogId::new(term, index)),
                here.is_some_and(|id| id.term == term)
            );
            let fits = |log_id: &&LogId| log_id.index <= index && log_id.term <= term;
            let expected = known.iter().rfind(fits).copied();
            assert_eq!(log.last_not_after(index, term), expected, "{index} {term}");
        }
    }
}

/// Any part of the log, within any number of bytes.
fn compare_parts(log: &Log, model: &Model, chance: &mut Chance) {
    for _ in 0..20 {
        let around = model.last().index.get() + 3;
        let (first, last) =
            (LogIndex::new(chance.below(around)), LogIndex::new(chance.below(around)));
        let max_bytes = to_usize(chance.below(400));
        let (entries, bytes) = log.collect(first, last, max_bytes);
        assert_eq!(bytes, size(&entries));
        let is_held = first >= log.tail_first();
        let is_wanted = |entry: &&Entry| (first..=last).contains(&entry.log_id.index) && is_held;
        let wanted: Vec<Entry> = model.entries.iter().filter(is_wanted).cloned().collect();
        assert_eq!(entries, wanted[..entries.len()], "{first} to {last}");
        assert!(bytes <= max_bytes || entries.len() == 1, "{bytes} of {max_bytes}");
        if let Some(next) = wanted.get(entries.len()) {
            assert!(!entries.is_empty(), "at least one");
            assert!(bytes + next.size_bytes() > max_bytes, "one more would have fitted");
        }
    }
}

#[test]
fn a_log_says_what_a_list_of_entries_says_whatever_is_done_to_both() {
    for seed in 0..40 {
        let mut chance = Chance::new(seed);
        let base = SnapshotMeta { last_included: LogId::ORIGIN, configuration: configuration(1) };
        let mut model = Model { base, entries: Vec::new(), held_from: LogIndex::new(1) };
        let mut restored = Restored {
            hard_state: crate::HardState::default(),
            base: model.base.clone(),
            term_runs: Vec::new(),
            configurations: Vec::new(),
            last_log: LogId::ORIGIN,
            tail: Vec::new(),
            applied: LogIndex::ORIGIN,
            lost: None,
        };
        let mut log = Log::restored(&mut restored);
        for _ in 0..60 {
            change(&mut log, &mut model, &mut chance);
            compare(&log, &model);
            compare_parts(&log, &model, &mut chance);
        }
    }
}

fn change(log: &mut Log, model: &mut Model, chance: &mut Chance) {
    let (base, last) = (log.base_index().get(), log.last().index.get());
    let somewhere = LogIndex::new(base + chance.below(last - base + 1));
    match chance.below(10) {
        0 => {
            log.truncate_after(somewhere);
            model.truncate_after(somewhere);
        }
        1 => {
            log.release_through(somewhere);
            model.release_through(somewhere);
        }
        2 | 3 if model.evict() => log.evict_first(),
        4 if chance.below(4) == 0 => {
            let last_included = LogId::new(log.last().term, log.last().index.plus(chance.below(3)));
            let base = SnapshotMeta { last_included, configuration: configuration(2) };
            log.reset(base.clone());
            model.reset(base);
        }
        _ => {
            let entries = model.next_entries(chance);
            log.append(&entries);
            model.entries.extend(entries);
        }
    }
}

#[test]
fn an_entry_counts_its_payload_and_a_fixed_part_and_each_member_of_a_configuration() {
    let entry = |payload| Entry { log_id: LogId::new(Term::new(1), LogIndex::new(1)), payload };
    assert_eq!(entry(Payload::Noop).size_bytes(), 48);
    assert_eq!(entry(Payload::Command(Bytes::from_static(b"abc"))).size_bytes(), 51);
    assert_eq!(entry(Payload::Configuration(configuration(3))).size_bytes(), 48 + 3 * 64);
}
