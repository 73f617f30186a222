//! A state machine of your own under every fault and judge of the simulator: a queue of numbers,
//! as somebody would write it for crate `quorate`, and what it takes to examine it.
//!
//!     cargo run --release -p quorate-sim --example your_state_machine
//!     cargo run --release -p quorate-sim --example your_state_machine -- --seed 7 --trace
//!
//! Break it to see a judge notice: let `restore` forget an element, or `pop` answer by chance.

use bytes::Bytes;
use quorate::{Committed, Fatal, LogId, LogIndex, QueryError, Replies, SnapshotView, StateMachine};
use quorate_sim::{Home, Request, Rng, Subject, examine};
use std::collections::VecDeque;
use std::io::{Read, Write};

/// A queue: `push N` puts N at its end, `pop` takes what is first; a query tells how long it is.
#[derive(Clone, Default)]
struct Queue(VecDeque<u64>);

impl StateMachine for Queue {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            let text = String::from_utf8_lossy(command);
            match text.strip_prefix("push ").and_then(|number| number.parse().ok()) {
                Some(number) => {
                    self.0.push_back(number);
                    replies.push("pushed");
                }
                None => replies.push(format!("{:?}", self.0.pop_front())),
            }
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.0.len().to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(self.clone()))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = Vec::new();
        let read = source.read_to_end(&mut bytes);
        read.map_err(|error| Fatal::caused_by("the snapshot cannot be read", error))?;
        let (words, _) = bytes.as_chunks::<8>();
        self.0 = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Ok(())
    }
}

impl SnapshotView for Queue {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        self.0.iter().try_for_each(|number| target.write_all(&number.to_le_bytes()))
    }
}

/// What the simulator has to know: how a queue is made, and what clients do with it.
struct QueueTest;

impl Subject for QueueTest {
    fn machine(&self, _: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        Ok(Box::new(Queue::default()))
    }

    fn request(&self, number: u64, rng: &mut Rng) -> Request {
        match rng.below(4) {
            0 => Request::Query("length".into()),
            1 => Request::Command("pop".into()),
            _ => Request::Command(format!("push {number}").into()),
        }
    }
}

fn main() -> std::process::ExitCode {
    examine("cargo run --release -p quorate-sim --example your_state_machine --", || QueueTest)
}
