//! Records what happens to a server, and plays it.

use quorate_core::recording::{Scribe, image_of_replay, read_event, read_image};
use quorate_core::{Event, Raft, Time};

/// What happened to a server since a moment of its life.
pub(crate) struct Recording {
    scribe: Scribe,
    image: Vec<u8>,
    events: Vec<u8>,
}

impl Recording {
    pub(crate) fn of(raft: &Raft) -> Self {
        let scribe = Scribe::default();
        Self { image: scribe.image(raft), scribe, events: Vec::new() }
    }

    pub(crate) fn note(&mut self, now: Time, event: &Event) {
        self.scribe.note(now, event, &mut self.events);
    }

    /// Plays it, and compares where that leads with where the server went.
    pub(crate) fn assert_leads_to(&self, raft: &Raft) {
        let mut again = read_image(&self.image).unwrap();
        assert!(image_of_replay(&again) == self.image, "what is read is what was written");
        let (mut events, mut effects) = (self.events.as_slice(), Vec::new());
        while !events.is_empty() {
            let (now, event) = read_event(&mut events).unwrap();
            again.step(now, event, &mut effects);
            effects.clear();
        }
        assert_eq!(again.status(), raft.status());
        assert!(image_of_replay(&again) == self.scribe.image(raft), "n{} is another", raft.id());
    }
}
