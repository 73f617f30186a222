//! What a watch may be told, compared with what really happened: ordered, unique, reliable, atomic,
//! resumable and bookmarkable, as etcd defines these. Believes no node; knows nothing of how
//! events travel or who watches.

use crate::application::Complaint;
use bytes::Bytes;
use quorate_kv::KeyValue;
use quorate_kv::watch::{Event, EventKind, WatchResponse};
use std::collections::BTreeMap;

/// What really happened, revision by revision.
#[derive(Clone, Debug)]
pub struct History {
    /// The changes of each revision, with what was there before.
    changes: BTreeMap<u64, Vec<Event>>,
    newest: u64,
    compacted: u64,
}

impl Default for History {
    /// A history that begins at a fresh store.
    fn default() -> Self {
        Self { changes: BTreeMap::new(), newest: 1, compacted: 0 }
    }
}

impl History {
    /// Adds the next revision.
    pub fn push(&mut self, events: Vec<Event>) {
        self.newest += 1;
        self.changes.insert(self.newest, events);
    }

    /// Notes a compaction.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
    }

    /// The last revision.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// The last compaction.
    #[must_use]
    pub const fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Whether a store may have forgotten this: a compaction keeps of each key what it is at the
    /// end of the compacted revision. Only transactions that a server refuses change a key twice.
    fn may_lack(&self, event: &Event) -> bool {
        let revision = mod_revision(event);
        let changes = self.changes.get(&revision).map(Vec::as_slice).unwrap_or_default();
        let key = |event: &Event| event.kv.as_ref().map(|kv| kv.key.clone());
        let last = changes.iter().rfind(|other| key(other) == key(event));
        revision <= self.compacted && last.is_some_and(|last| last != event)
    }

    /// Forgets what no judge will ask for again.
    pub fn forget_before(&mut self, revision: u64) {
        self.changes = self.changes.split_off(&revision);
    }
}

/// What a watch wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first key.
    pub from: Bytes,
    /// The key after the last one; without it, to the end.
    pub to: Option<Bytes>,
    /// Whether it wants puts.
    pub puts: bool,
    /// Whether it wants deletions.
    pub deletions: bool,
    /// Whether it wants to know what was there before.
    pub previous: bool,
}

impl Wanted {
    fn has(&self, event: &Event) -> bool {
        let is_key = event.kv.as_ref().is_some_and(|kv| {
            kv.key >= self.from && self.to.as_ref().is_none_or(|to| kv.key < *to)
        });
        is_key && if is_put(event) { self.puts } else { self.deletions }
    }
}

/// The judge of one watch, through all the streams that it resumes on.
#[derive(Clone, Debug)]
pub struct WatchJudge {
    wanted: Wanted,
    /// Everything below was told.
    next: u64,
    /// What came with the flag that more follows.
    pieces: Vec<Event>,
    told_count: u64,
}

impl WatchJudge {
    /// A watch that wants everything from `next` on.
    #[must_use]
    pub const fn new(wanted: Wanted, next: u64) -> Self {
        Self { wanted, next, pieces: Vec::new(), told_count: 0 }
    }

    /// What the watch wants.
    #[must_use]
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Where a client that lost its stream goes on.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// How many events it was told.
    #[must_use]
    pub const fn told_count(&self) -> u64 {
        self.told_count
    }

    /// The stream is lost, with the pieces that were not whole.
    pub fn lose_stream(&mut self) {
        self.pieces.clear();
    }

    /// The watch is told this.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if no correct store can say so.
    pub fn told(&mut self, history: &History, response: &WatchResponse) -> Result<(), Complaint> {
        let revision = response.header.map_or(0, |header| header.revision);
        let revision = u64::try_from(revision).unwrap_or(0);
        if response.canceled {
            return self.canceled(history, response);
        }
        if response.created {
            return Ok(());
        }
        if revision > history.newest {
            let newest = history.newest;
            return complain(format!("a watch is told of revision {revision}, after {newest}"));
        }
        if response.events.is_empty() && self.pieces.is_empty() {
            return self.complete(history, revision, "a bookmark");
        }
        self.pieces.extend(response.events.iter().cloned());
        if response.fragment {
            return Ok(());
        }
        let events = std::mem::take(&mut self.pieces);
        self.events(history, &events, revision)
    }

    fn canceled(&mut self, history: &History, response: &WatchResponse) -> Result<(), Complaint> {
        let compacted = u64::try_from(response.compact_revision).unwrap_or(0);
        if compacted <= self.next || compacted > history.compacted {
            return complain(format!(
                "a watch at {} is canceled as compacted to {compacted}; compacted is {}",
                self.next, history.compacted
            ));
        }
        self.pieces.clear();
        self.next = compacted;
        Ok(())
    }

    /// Whole revisions: exactly what happened since, nothing twice, nothing left out.
    fn events(
        &mut self,
        history: &History,
        events: &[Event],
        revision: u64,
    ) -> Result<(), Complaint> {
        let last = events.iter().map(mod_revision).max().unwrap_or(0);
        if last > history.newest {
            return complain(format!("a watch is told of revision {last}, which nobody wrote"));
        }
        let mut told = events.iter().peekable();
        for due in self.due(history, last) {
            if told.next_if(|got| self.is_same(history, due, got)).is_none()
                && !history.may_lack(due)
            {
                return complain(self.differs(Some(due), told.peek().copied()));
            }
        }
        if told.peek().is_some() {
            return complain(self.differs(None, told.peek().copied()));
        }
        self.told_count += events.len() as u64;
        self.next = self.next.max(last + 1);
        self.complete(history, revision, "the header of a response")
    }

    /// What the watch wants from its place up to a revision.
    fn due<'a>(
        &'a self,
        history: &'a History,
        through: u64,
    ) -> impl Iterator<Item = &'a Event> + 'a {
        let through = through.max(self.next.saturating_sub(1));
        let revisions = history.changes.range(self.next..through.saturating_add(1));
        revisions.flat_map(|(_, events)| events).filter(|event| self.wanted.has(event))
    }

    fn is_same(&self, history: &History, due: &Event, got: &Event) -> bool {
        if (due.kind, &due.kv) != (got.kind, &got.kv) {
            return false;
        }
        let may_be_gone = mod_revision(due).saturating_sub(1) < history.compacted;
        match &got.prev_kv {
            Some(_) => self.wanted.previous && got.prev_kv == due.prev_kv,
            None => !self.wanted.previous || due.prev_kv.is_none() || may_be_gone,
        }
    }

    /// A claim that the watch has everything up to `revision`.
    fn complete(&mut self, history: &History, revision: u64, what: &str) -> Result<(), Complaint> {
        if revision + 1 < self.next {
            let next = self.next;
            return complain(format!("{what} says {revision} to a watch that is at {next}"));
        }
        if let Some(due) = self.due(history, revision).find(|due| !history.may_lack(due)) {
            let due = describe(Some(due));
            return complain(format!("{what} says {revision} before {due} was told"));
        }
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    fn differs(&self, due: Option<&Event>, got: Option<&Event>) -> String {
        let (place, due, got) = (self.next, describe(due), describe(got));
        format!("a watch at {place} should be told {due} and is told {got}")
    }

    /// Nothing more will be told: there must be nothing left.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if an event was never told.
    pub fn finish(&self, history: &History) -> Result<(), Complaint> {
        match self.due(history, history.newest).find(|due| !history.may_lack(due)) {
            None => Ok(()),
            lost @ Some(_) => {
                let (place, lost) = (self.next, describe(lost));
                complain(format!("a watch at {place} was never told {lost}"))
            }
        }
    }
}

fn complain(text: String) -> Result<(), Complaint> {
    Err(Complaint(text))
}

fn is_put(event: &Event) -> bool {
    event.kind == i32::from(EventKind::Put)
}

fn mod_revision(event: &Event) -> u64 {
    let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    u64::try_from(revision).unwrap_or(0)
}

fn describe(event: Option<&Event>) -> String {
    let Some(event) = event else { return "nothing".to_owned() };
    let what = if is_put(event) { "put" } else { "deletion" };
    let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
    let was = event.prev_kv.as_ref().map_or(String::new(), |kv: &KeyValue| {
        format!(" (before it: {} bytes of {})", kv.value.len(), kv.mod_revision)
    });
    format!("the {what} of {key:?} at {}{was}", mod_revision(event))
}
