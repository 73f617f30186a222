//! Which command stands where in the log, as the state machines see it, and whether what clients
//! heard fits to it. Knows no nodes and no faults.

use super::Sequential;
use super::vouch::Words;
use super::weak_reads::{WeakRead, WeakReads};
use crate::application::Complaint;
use bytes::Bytes;
use quorate::{
    Checkpoint, Committed, Fatal, Notebook, QueryError, Replies, SnapshotView, StateMachine,
};
use quorate_core::{LogId, LogIndex, NodeId, ProtocolVersion};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The commands of a world's log, by their index. State machines must be `Send`, so that it is
/// locked, although a world has one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<BTreeMap<LogIndex, Bytes>>>);

impl Log {
    fn commands(&self) -> MutexGuard<'_, BTreeMap<LogIndex, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last index that any state machine has applied.
    pub(super) fn end(&self) -> LogIndex {
        self.commands().last_key_value().map_or(LogIndex::ORIGIN, |(index, _)| *index)
    }
}

/// A state machine that notes what it applies, and what it vouches for. That all replicas are given
/// the same is the world's to judge.
pub(super) struct Witness {
    pub(super) node: NodeId,
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) log: Log,
    pub(super) words: Words,
    /// How far it was given the log, by entries or in a snapshot.
    pub(super) given: LogIndex,
    /// It is told of entries without commands, too.
    pub(super) has_notebook: bool,
}

impl Witness {
    /// Compares what the machine vouches for with what it was given, and with what it said before.
    fn note_word(&self) {
        let given = if self.has_notebook { LogIndex::new(u64::MAX) } else { self.given };
        self.words.says(self.node, self.machine.applied(), given);
    }
}

impl StateMachine for Witness {
    fn applied(&self) -> LogIndex {
        self.machine.applied()
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        let mut commands = self.log.commands();
        for Committed { log_id, command } in batch {
            commands.entry(log_id.index).or_insert_with(|| command.clone());
        }
        drop(commands);
        self.machine.apply(batch, replies).map_err(with_causes)?;
        self.given = batch.last().map_or(self.given, |last| last.log_id.index);
        self.note_word();
        Ok(())
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        self.machine.query(query)
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.machine.view().map_err(with_causes)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        let begun = self.machine.checkpoint().map_err(with_causes)?;
        self.note_word();
        Ok(begun)
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.machine.finish().map_err(with_causes)
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.machine.restore(last_included, source).map_err(with_causes)?;
        self.given = last_included.index;
        self.note_word();
        Ok(())
    }

    fn digest_of_reply<'a>(&self, reply: &'a [u8]) -> &'a [u8] {
        self.machine.digest_of_reply(reply)
    }

    fn replies_version(&self) -> u32 {
        self.machine.replies_version()
    }

    fn cluster_version(&mut self, version: ProtocolVersion) {
        self.machine.cluster_version(version);
    }

    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        let notebook = self.machine.notebook();
        self.has_notebook = notebook.is_some();
        notebook
    }
}

/// A failure whose causes are in its reason, since a breach tells nothing else of it.
pub(super) fn with_causes(fatal: Fatal) -> Fatal {
    let Fatal { mut reason, source } = fatal;
    let mut cause = source.as_deref().map(|source| source as &dyn std::error::Error);
    while let Some(next) = cause {
        reason = format!("{reason}: {next}");
        cause = next.source();
    }
    Fatal { reason, source }
}

/// An answer that a client heard.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) invoked: u64,
    pub(super) returned: u64,
    pub(super) asked: Bytes,
    /// `None` for a command of a session whose reply was forgotten: its place is known.
    pub(super) reply: Option<Bytes>,
    pub(super) what: What,
}

/// Everything that the clients of a world know in the end.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) heard: Vec<Heard>,
    pub(super) weak: Vec<WeakRead>,
    /// Commands of which nobody knows what became of them, each as often as it was given.
    pub(super) in_doubt: BTreeMap<Bytes, u64>,
}

impl History {
    /// Nobody knows what became of a command.
    pub(super) fn doubts(&mut self, command: &Bytes) {
        *self.in_doubt.entry(command.clone()).or_default() += 1;
    }
}

/// What it is an answer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A command, and where it is said to stand.
    Command { at: LogIndex },
    /// A query; what it saw was applied before this index had a successor.
    Query { before: LogIndex },
}

/// Runs the model along the log and compares what clients heard.
pub(super) fn judge(
    model: &mut dyn Sequential,
    log: &Log,
    history: History,
) -> Result<(), Complaint> {
    let History { mut heard, weak, in_doubt } = history;
    heard.sort_by_key(|heard| heard.invoked);
    let (reads, commands, weak) = (open_reads(&heard), BTreeMap::new(), WeakReads::new(&weak));
    let mut walk = Walk { model, reads, weak, commands, in_doubt, latest_asked: 0 };
    for heard in &heard {
        if let What::Command { at } = heard.what
            && walk.commands.insert(at, heard).is_some()
        {
            return Err(Complaint(format!("two clients were told that theirs stands at {at}")));
        }
    }
    let log = log.commands();
    let mut following = log.keys().copied();
    walk.settle(LogIndex::ORIGIN, following.next());
    for (index, command) in log.iter() {
        walk.overtaken(*index)?;
        walk.step(*index, command)?;
        walk.settle(*index, following.next());
    }
    walk.end(log.last_key_value().map(|(index, _)| *index))
}

/// A read that has no place in the order yet.
struct OpenRead<'a> {
    heard: &'a Heard,
    /// Everything up to here was answered before it was asked.
    floor: LogIndex,
    before: LogIndex,
}

struct Walk<'a> {
    model: &'a mut dyn Sequential,
    /// In the order of asking.
    reads: Vec<OpenRead<'a>>,
    weak: WeakReads<'a>,
    commands: BTreeMap<LogIndex, &'a Heard>,
    in_doubt: BTreeMap<Bytes, u64>,
    /// When the command was asked that was asked last, of those that have taken effect.
    latest_asked: u64,
}

fn open_reads(heard: &[Heard]) -> Vec<OpenRead<'_>> {
    let mut answered: Vec<(u64, LogIndex)> = heard
        .iter()
        .filter_map(|heard| match heard.what {
            What::Command { at } => Some((heard.returned, at)),
            What::Query { .. } => None,
        })
        .collect();
    answered.sort_unstable();
    let mut answered = answered.into_iter().peekable();
    let mut floor = LogIndex::ORIGIN;
    let mut reads = Vec::new();
    for heard in heard {
        while let Some((_, at)) = answered.next_if(|(returned, _)| *returned < heard.invoked) {
            floor = floor.max(at);
        }
        if let What::Query { before } = heard.what {
            reads.push(OpenRead { heard, floor, before });
        }
    }
    reads
}

impl Walk<'_> {
    /// The next command of the log takes effect.
    fn step(&mut self, index: LogIndex, command: &Bytes) -> Result<(), Complaint> {
        let reply = self.model.apply(command);
        let Some(heard) = self.commands.remove(&index) else {
            return self.is_owed(index, command);
        };
        if heard.asked != *command {
            return Err(Complaint(format!(
                "{:?} is said to stand at {index}; there stands {command:?}",
                heard.asked
            )));
        }
        if let Some(heard) = heard.reply.as_ref().filter(|heard| **heard != reply) {
            return Err(Complaint(format!(
                "{command:?} at {index} was answered by {heard:?}; right is {reply:?}"
            )));
        }
        // It was over before another was asked that stands before it.
        if heard.returned < self.latest_asked {
            return Err(Complaint(format!(
                "{command:?} is said to stand at {index}, behind a command that was asked only \
                 after that answer"
            )));
        }
        self.latest_asked = self.latest_asked.max(heard.invoked);
        // What was answered before this command was asked lies before it.
        let late = self.reads.iter().find(|read| read.heard.returned < heard.invoked);
        late.map_or(Ok(()), |read| Err(self.wrong(read)))
    }

    /// A command that nobody was told of is one of those in doubt; once for each time that it was
    /// given, whatever was sent again.
    fn is_owed(&mut self, index: LogIndex, command: &Bytes) -> Result<(), Complaint> {
        if let Some(count) = self.in_doubt.get_mut(command).filter(|count| **count > 0) {
            *count -= 1;
            return Ok(());
        }
        Err(Complaint(format!(
            "{command:?} stands at {index} once more than it can: what became of each of them is \
             known, and none stands there"
        )))
    }

    /// Reads whose answer is right at this place have found theirs. Taking the first that fits is
    /// enough: it leaves the most room to those that were asked later.
    fn settle(&mut self, index: LogIndex, next: Option<LogIndex>) {
        self.weak.settle(self.model, index, next);
        let mut earliest_return = u64::MAX;
        let model = &*self.model;
        self.reads.retain(|read| {
            let follows_open_read = earliest_return < read.heard.invoked;
            let is_right = !follows_open_read
                && read.floor <= index
                && read.heard.reply.as_ref() == Some(&model.query(&read.heard.asked));
            if !is_right {
                earliest_return = earliest_return.min(read.heard.returned);
            }
            !is_right
        });
    }

    /// The order goes on to this command; a read that cannot have seen it has to have its place.
    fn overtaken(&self, index: LogIndex) -> Result<(), Complaint> {
        self.weak.overtaken(index)?;
        let late = self.reads.iter().find(|read| read.before < index);
        late.map_or(Ok(()), |read| Err(self.wrong(read)))
    }

    fn end(&self, last: Option<LogIndex>) -> Result<(), Complaint> {
        if let Some((index, heard)) = self.commands.first_key_value() {
            return Err(Complaint(format!(
                "{:?} is said to stand at {index}; the log ends at {last:?}",
                heard.asked
            )));
        }
        self.weak.end()?;
        self.reads.first().map_or(Ok(()), |read| Err(self.wrong(read)))
    }

    fn wrong(&self, read: &OpenRead<'_>) -> Complaint {
        let OpenRead { heard, floor, before } = read;
        Complaint(format!(
            "{:?} was answered by {:?}, which is right nowhere from {floor} to {before}; in the \
             end it is {:?}",
            heard.asked,
            heard.reply,
            self.model.query(&heard.asked)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts commands; every query asks how many.
    #[derive(Default)]
    struct Count(u64);

    impl Sequential for Count {
        fn apply(&mut self, _: &Bytes) -> Bytes {
            self.0 += 1;
            self.0.to_string().into()
        }

        fn query(&self, _: &Bytes) -> Bytes {
            self.0.to_string().into()
        }
    }

    fn command(invoked: u64, returned: u64, at: u64, reply: &str) -> Heard {
        let what = What::Command { at: LogIndex::new(at) };
        let (asked, reply) = (Bytes::from_static(b"add"), Bytes::copy_from_slice(reply.as_bytes()));
        Heard { invoked, returned, asked, reply: Some(reply), what }
    }

    fn read(invoked: u64, returned: u64, before: u64, reply: &str) -> Heard {
        let what = What::Query { before: LogIndex::new(before) };
        let (asked, reply) = (Bytes::from_static(b"get"), Bytes::copy_from_slice(reply.as_bytes()));
        Heard { invoked, returned, asked, reply: Some(reply), what }
    }

    /// Three commands in the log at 2, 3 and 5; of those that nobody is told of, nobody knows what
    /// became of them.
    fn is_right(heard: &[Heard]) -> bool {
        is_right_with(heard, 3)
    }

    fn is_right_with(heard: &[Heard], given_count: u64) -> bool {
        let (log, add) = (Log::default(), Bytes::from_static(b"add"));
        for index in [2, 3, 5] {
            log.commands().insert(LogIndex::new(index), add.clone());
        }
        let is_told = |heard: &&Heard| matches!(heard.what, What::Command { .. });
        let told_count = heard.iter().filter(is_told).count() as u64;
        let in_doubt = BTreeMap::from([(add, given_count.saturating_sub(told_count))]);
        let history = History { heard: heard.to_vec(), weak: Vec::new(), in_doubt };
        judge(&mut Count::default(), &log, history).is_ok()
    }

    #[test]
    fn replies_and_reads_that_fit_to_the_log_are_right() {
        assert!(is_right(&[]));
        assert!(is_right(&[command(1, 4, 2, "1"), read(5, 6, 2, "1"), command(7, 9, 5, "3")]));
        // A read may see what is under way, or not yet.
        assert!(is_right(&[command(1, 9, 2, "1"), read(2, 3, 2, "0")]));
        assert!(is_right(&[command(1, 9, 2, "1"), read(2, 3, 2, "1")]));
    }

    #[test]
    fn a_command_that_stands_there_once_too_often_is_noticed() {
        let told = [command(1, 2, 2, "1"), command(3, 4, 3, "2")];
        assert!(is_right_with(&told, 3));
        assert!(is_right_with(&told, 4), "one that never took effect");
        assert!(!is_right_with(&told, 2));
        assert!(!is_right_with(&[], 2));
    }

    #[test]
    fn a_reply_that_was_forgotten_leaves_the_place_to_judge() {
        let forgotten = |at| Heard { reply: None, ..command(1, 2, at, "") };
        assert!(is_right(&[forgotten(3)]));
        assert!(!is_right(&[forgotten(4)]));
    }

    #[test]
    fn what_does_not_fit_is_noticed() {
        // A reply, a place, a read of the past, a read of the future.
        assert!(!is_right(&[command(1, 2, 2, "7")]));
        assert!(!is_right(&[command(1, 2, 4, "2")]));
        assert!(!is_right(&[command(1, 2, 3, "2"), read(3, 4, 5, "1")]));
        assert!(!is_right(&[read(1, 2, 3, "3")]));
        // Two reads in a row that go back in time.
        assert!(!is_right(&[read(1, 2, 5, "2"), read(3, 4, 5, "1")]));
        // Two commands, the one that was asked after the other's answer before it.
        assert!(!is_right(&[command(1, 2, 3, "2"), command(5, 6, 2, "1")]));
        // A command that was asked after a read that has seen it.
        assert!(!is_right(&[read(1, 2, 5, "1"), command(3, 4, 2, "1")]));
    }
}
