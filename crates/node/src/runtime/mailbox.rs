//! What has happened and the event loop has not seen yet. Everybody pushes, the loop takes all of
//! it; a burst wakes the loop once. Local callers are refused at a limit, before anything is
//! queued for them; everything else is bounded by the core's own limits.

use super::queue::lock;
use crate::{Explanation, Flight, Input, Refusal};
use quorate_core::{LogIndex, Reason};
use std::sync::Mutex;
use tokio::sync::{Notify, oneshot};

/// The event loop's letter box.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    filled: Notify,
    limit: CallerLimit,
}

/// How much local callers may have queued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerLimit {
    pub(crate) count_max: usize,
    pub(crate) bytes_max: usize,
}

/// How the loop is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// At once.
    AtOnce,
    /// After it has handed over: the log takes no more, and everything else is sound.
    HandingOver,
}

/// Somebody who wants to know...
#[derive(Debug)]
pub(crate) enum Question {
    /// ... what the node waits for.
    Wait(oneshot::Sender<Explanation>),
    /// ... why an entry is not committed.
    Entry(LogIndex, oneshot::Sender<Option<Reason>>),
    /// ... what happened to it lately.
    Flight(oneshot::Sender<Option<Flight>>),
}

#[derive(Debug, Default)]
struct Letters {
    inputs: Vec<Input>,
    questions: Vec<Question>,
    caller_count: usize,
    caller_bytes: usize,
    ending: Option<Ending>,
}

impl Mailbox {
    pub(crate) fn new(limit: CallerLimit) -> Self {
        Self { letters: Mutex::default(), filled: Notify::new(), limit }
    }

    /// Something happened. Ignored by a node that is stopping.
    pub(crate) fn push(&self, input: Input) {
        let mut letters = lock(&self.letters);
        if letters.ending.is_some() {
            return;
        }
        letters.inputs.push(input);
        drop(letters);
        self.filled.notify_one();
    }

    /// A local caller wants something that counts for `size_bytes`.
    pub(crate) fn push_caller(&self, input: Input, size_bytes: usize) -> Result<(), Refusal> {
        let CallerLimit { count_max, bytes_max } = self.limit;
        let mut letters = lock(&self.letters);
        if letters.ending.is_some() {
            return Err(Refusal::Stopped);
        }
        let what = "queued requests";
        if letters.caller_count >= count_max {
            return Err(Refusal::Overloaded { what, limit: count_max, unit: "requests" });
        }
        if letters.caller_bytes.saturating_add(size_bytes) > bytes_max {
            return Err(Refusal::Overloaded { what, limit: bytes_max, unit: "bytes" });
        }
        letters.caller_count += 1;
        letters.caller_bytes += size_bytes;
        letters.inputs.push(input);
        drop(letters);
        self.filled.notify_one();
        Ok(())
    }

    /// Has the loop look around.
    pub(crate) fn nudge(&self) {
        self.filled.notify_one();
    }

    /// Somebody asks. Dropped by a node that is stopping, or asked by too many.
    pub(crate) fn ask(&self, question: Question) {
        let mut letters = lock(&self.letters);
        if letters.ending.is_some() || letters.questions.len() >= self.limit.count_max {
            return;
        }
        letters.questions.push(question);
        drop(letters);
        self.filled.notify_one();
    }

    /// The questions that nobody has answered yet.
    pub(crate) fn take_questions(&self) -> Vec<Question> {
        std::mem::take(&mut lock(&self.letters).questions)
    }

    /// Moves everything that happened into `inputs`, which must be empty. Returns how the loop is to
    /// end, if it is.
    pub(crate) fn take(&self, inputs: &mut Vec<Input>) -> Option<Ending> {
        let mut letters = lock(&self.letters);
        std::mem::swap(&mut letters.inputs, inputs);
        letters.caller_count = 0;
        letters.caller_bytes = 0;
        letters.ending
    }

    /// Waits until there is something to take.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.letters).inputs.is_empty()
    }

    /// Takes no more, and tells the loop to end. Whoever says first how, is obeyed.
    pub(crate) fn stop(&self, ending: Ending) {
        let mut letters = lock(&self.letters);
        letters.ending.get_or_insert(ending);
        // Whoever waits for an answer is told that there is none.
        letters.questions.clear();
        drop(letters);
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::PersistSeq;

    fn small() -> Mailbox {
        Mailbox::new(CallerLimit { count_max: 2, bytes_max: 10 })
    }

    #[test]
    fn callers_are_refused_at_the_count_limit_until_the_loop_has_taken() {
        let mailbox = small();
        assert_eq!(mailbox.push_caller(Input::Deadline, 0), Ok(()));
        assert_eq!(mailbox.push_caller(Input::Deadline, 0), Ok(()));
        let refused = mailbox.push_caller(Input::Deadline, 0);
        assert!(matches!(refused, Err(Refusal::Overloaded { limit: 2, .. })), "{refused:?}");
        mailbox.take(&mut Vec::new());
        assert_eq!(mailbox.push_caller(Input::Deadline, 0), Ok(()));
    }

    #[test]
    fn callers_are_refused_above_the_byte_limit() {
        let mailbox = small();
        assert_eq!(mailbox.push_caller(Input::Deadline, 10), Ok(()));
        let refused = mailbox.push_caller(Input::Deadline, 1);
        assert!(matches!(refused, Err(Refusal::Overloaded { limit: 10, .. })), "{refused:?}");
    }

    #[test]
    fn completions_pass_although_callers_are_refused() {
        let mailbox = small();
        for _ in 0..5 {
            mailbox.push(Input::Persisted { seq: PersistSeq::new(1) });
        }
        let mut inputs = Vec::new();
        mailbox.take(&mut inputs);
        assert_eq!(inputs.len(), 5);
    }

    #[test]
    fn a_stopping_node_refuses_callers_and_says_so_to_the_loop() {
        let mailbox = small();
        mailbox.stop(Ending::HandingOver);
        assert_eq!(mailbox.push_caller(Input::Deadline, 0), Err(Refusal::Stopped));
        assert_eq!(mailbox.take(&mut Vec::new()), Some(Ending::HandingOver));
    }

    #[test]
    fn the_first_who_ends_the_loop_says_how() {
        for first in [Ending::AtOnce, Ending::HandingOver] {
            let mailbox = small();
            assert_eq!(mailbox.take(&mut Vec::new()), None);
            mailbox.stop(first);
            mailbox.stop(Ending::AtOnce);
            mailbox.stop(Ending::HandingOver);
            assert_eq!(mailbox.take(&mut Vec::new()), Some(first));
        }
    }
}
