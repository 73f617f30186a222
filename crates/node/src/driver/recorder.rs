//! The flight recorder: the last events that the core was given, and the core as it was before them,
//! within a limit of bytes. Knows nothing of files, nor of who wants a recording.

use crate::Recording;
use quorate_core::recording::Scribe;
use quorate_core::{Event, Raft, Time};

/// Keeps the stretch of events under way and the one before, each with the core that it began with:
/// at any time the recording is between half of the limit and all of it.
#[derive(Debug)]
pub(super) struct Recorder {
    scribe: Scribe,
    /// A stretch that has grown to this is over.
    stretch_bytes_max: usize,
    before: Option<Stretch>,
    present: Option<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    /// A copy that shares its entries with the core: little is copied, and it is put into bytes only
    /// if somebody asks.
    began: Raft,
    events: Vec<u8>,
    count: u64,
}

impl Recorder {
    /// `None` if nothing is to be recorded.
    pub(super) fn new(bytes_max: usize) -> Option<Self> {
        let stretch_bytes_max = bytes_max / 2;
        (stretch_bytes_max > 0).then(|| Self {
            scribe: Scribe::default(),
            stretch_bytes_max,
            before: None,
            present: None,
        })
    }

    /// `raft` is about to be given `event`.
    pub(super) fn note(&mut self, raft: &Raft, now: Time, event: &Event) {
        if self.present.as_ref().is_some_and(|it| it.events.len() >= self.stretch_bytes_max) {
            self.before = self.present.take();
        }
        let stretch = self.present.get_or_insert_with(|| Stretch {
            began: raft.clone(),
            events: Vec::new(),
            count: 0,
        });
        self.scribe.note(now, event, &mut stretch.events);
        stretch.count += 1;
    }

    /// What happened up to here; `raft` is where it led.
    pub(super) fn flight(&self, raft: &Raft) -> Flight {
        let stretches = || self.before.iter().chain(&self.present);
        let began = stretches().next().map_or(raft, |stretch| &stretch.began);
        let events: Vec<&[u8]> = stretches().map(|stretch| stretch.events.as_slice()).collect();
        Flight {
            scribe: self.scribe.clone(),
            began: began.clone(),
            events: events.concat(),
            event_count: stretches().map(|stretch| stretch.count).sum(),
            ended: raft.clone(),
        }
    }
}

/// What was recorded, not yet in bytes: whoever wants it does that work.
#[derive(Debug)]
pub struct Flight {
    scribe: Scribe,
    began: Raft,
    events: Vec<u8>,
    event_count: u64,
    ended: Raft,
}

impl From<Flight> for Recording {
    fn from(flight: Flight) -> Self {
        let Flight { scribe, began, events, event_count, ended } = flight;
        Self {
            node: ended.id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            began: scribe.image(&began),
            events,
            event_count,
            ended: Self::hash(&scribe.image(&ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{
        Configuration, Effect, LogId, MemberRole, Members, NodeId, Options, Proposal, ProposalId,
        Restored, Role, SnapshotMeta,
    };
    use std::sync::Arc;

    /// The only member of its cluster, which needs nobody, and a disk that is quick.
    struct Alone {
        raft: Raft,
        recorder: Recorder,
        now: Time,
    }

    impl Alone {
        fn new(bytes_max: usize) -> Self {
            let id = NodeId::new(1);
            let member = quorate_core::Member {
                role: MemberRole::Voter,
                rank: 0,
                address: String::new(),
                context: bytes::Bytes::new(),
            };
            let configuration = Configuration::new(1, Members::from([(id, member)]));
            let base = SnapshotMeta {
                last_included: LogId::ORIGIN,
                configuration: Arc::new(configuration),
            };
            let restored = Restored {
                hard_state: quorate_core::HardState::default(),
                last_log: base.last_included,
                applied: base.last_included.index,
                base,
                term_runs: Vec::new(),
                configurations: Vec::new(),
                tail: Vec::new(),
                lost: None,
            };
            let raft = Raft::new(id, Options::default(), 7, restored, Time::ZERO).unwrap();
            let recorder = Recorder::new(bytes_max).unwrap();
            let mut alone = Self { raft, recorder, now: Time::ZERO };
            while alone.raft.role() != Role::Leader {
                alone.now = alone.raft.next_deadline().unwrap();
                alone.step(Event::Deadline);
            }
            alone
        }

        fn step(&mut self, event: Event) {
            let mut events = vec![event];
            while let Some(event) = events.pop() {
                let mut effects = Vec::new();
                self.recorder.note(&self.raft, self.now, &event);
                self.raft.step(self.now, event, &mut effects);
                for effect in effects {
                    match effect {
                        Effect::Persist(persist) => {
                            events.push(Event::Persisted { seq: persist.seq });
                        }
                        Effect::Apply { entries } => {
                            let index = entries.last().unwrap().log_id.index;
                            events.push(Event::Applied { index });
                        }
                        _ => {}
                    }
                }
            }
        }

        fn propose(&mut self, number: u64) {
            let command = bytes::Bytes::from(format!("secret number {number}"));
            self.step(Event::Propose(vec![Proposal::plain(ProposalId::new(number), command)]));
        }
    }

    fn played(recording: &Recording) -> u64 {
        let mut replay = recording.play().unwrap();
        let mut count = 0;
        while replay.step().unwrap().is_some() {
            count += 1;
        }
        count
    }

    #[test]
    fn a_recording_that_is_whole_or_has_lost_its_beginning_leads_to_the_same_state() {
        for bytes_max in [1 << 20, 2_000] {
            let mut alone = Alone::new(bytes_max);
            for number in 0..200 {
                alone.propose(number);
                let recording = Recording::from(alone.recorder.flight(&alone.raft));
                assert!(recording.events.len() <= bytes_max + 200, "{}", recording.events.len());
                assert_eq!(played(&recording), recording.event_count);
            }
        }
    }

    #[test]
    fn nothing_that_a_client_wrote_is_in_a_recording() {
        let mut alone = Alone::new(1 << 20);
        (0..20).for_each(|number| alone.propose(number));
        let bytes = Recording::from(alone.recorder.flight(&alone.raft)).to_bytes();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_recording_that_leads_elsewhere_says_so() {
        let mut alone = Alone::new(1 << 20);
        (0..20).for_each(|number| alone.propose(number));
        let mut recording = Recording::from(alone.recorder.flight(&alone.raft));
        recording.ended ^= 1;
        let mut replay = recording.play().unwrap();
        let error = loop {
            match replay.step() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it led elsewhere"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("another state"), "{error}");
    }

    #[test]
    fn nothing_is_recorded_without_room() {
        assert!(Recorder::new(0).is_none());
    }
}
