//! The lab's service: a list of commands. Every replica checks what it applies against what any
//! other has applied; the tests read the list. Knows nothing of what the commands mean.

use bytes::{Buf, BufMut, Bytes};
use quorate::{Committed, Fatal, QueryError, Replies, SnapshotView, StateMachine};
use quorate_core::{LogId, LogIndex};
use quorate_sim::{Application, Complaint, Findings, Home, Machine, OpId, Outcome, Request, Rng};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

type List = Vec<Bytes>;

/// The list as application of a world.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    /// What was applied first, by whichever replica.
    agreed: Arc<Mutex<List>>,
}

impl Journal {
    /// Every command that was ever applied, in order.
    pub(crate) fn commands(&self) -> Vec<Bytes> {
        self.agreed.lock().unwrap().clone()
    }

    /// The place of a command in the list, from 1 on: the lab's index, which counts no no-ops.
    pub(crate) fn place_of(&self, command: &[u8]) -> Option<usize> {
        self.commands().iter().position(|known| known == command).map(|place| place + 1)
    }
}

/// One replica; volatile, as the lab's are: a restart finds a snapshot and the log.
struct Replica {
    agreed: Arc<Mutex<List>>,
    list: List,
}

impl Replica {
    /// The next command must be what others have applied at this place.
    fn push(&mut self, command: &Bytes) -> Result<(), Fatal> {
        let mut agreed = self.agreed.lock().unwrap();
        let place = self.list.len();
        match agreed.get(place) {
            Some(known) if known != command => {
                return Err(Fatal::new(format!("{place}: {command:?} applied, not {known:?}")));
            }
            Some(_) => {}
            None => agreed.push(command.clone()),
        }
        self.list.push(command.clone());
        Ok(())
    }
}

impl StateMachine for Replica {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for committed in batch {
            self.push(&committed.command)?;
            replies.push(Bytes::new());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Frozen(self.list.clone())))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = Vec::new();
        let read = source.read_to_end(&mut bytes);
        read.map_err(|error| Fatal::caused_by("a snapshot cannot be read", error))?;
        let mut bytes = Bytes::from(bytes);
        self.list.clear();
        while bytes.has_remaining() {
            let size = usize::try_from(bytes.get_u32()).unwrap();
            let command = bytes.split_to(size);
            self.push(&command)?;
        }
        Ok(())
    }
}

struct Frozen(List);

impl SnapshotView for Frozen {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in &self.0 {
            bytes.put_u32(u32::try_from(command.len()).unwrap());
            bytes.put_slice(command);
        }
        target.write_all(&bytes)
    }
}

impl Application for Journal {
    fn machine(&mut self, _: &Home) -> Result<Machine, Fatal> {
        let replica = Replica { agreed: Arc::clone(&self.agreed), list: List::new() };
        Ok(Machine { machine: Box::new(replica), digest: None })
    }

    fn request(&mut self, _: OpId, _: u64, _: &mut Rng) -> Request {
        Request::Query(Bytes::new())
    }

    fn answered(&mut self, _: OpId, _: u64, _: Outcome) -> Result<(), Complaint> {
        Ok(())
    }

    /// A healed cluster takes commands through every node.
    fn scan(&mut self, next_op: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)> {
        let last = |text: &'static str| Request::Command(Bytes::from_static(text.as_bytes()));
        ["last", "very last", "really last"].map(|text| (next_op().0, last(text))).into()
    }

    fn verdict(&mut self) -> Result<Findings, Complaint> {
        Ok(Findings::default())
    }
}
