//! What is said of a renewal: what a part of it came to, and who is asked for room and told how it went.
//! Must not know how an engine is made anew.

/// What a part of a renewal came to. See [`super::Engine::renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is nothing to be gained, or nothing more to be done for now.
    Idle,
    /// Something was done, and more is to be done.
    UnderWay,
    /// It is done: what is free was given back. Views of before go on, and keep what they see.
    Done,
    /// It was not begun, or was given up; the engine is what it was.
    Refused(Refusal),
}

/// Why an engine is not made anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// For some time both files are there, and there is no room for that.
    #[error(
        "the state needs {needed_bytes} bytes beside its file to be made anew, and may take {free_bytes}: \
         make room on its disk"
    )]
    NoRoom {
        /// What it takes at most.
        needed_bytes: u64,
        /// What it may take.
        free_bytes: u64,
    },
    /// Everything was replaced meanwhile, or the store is closing.
    #[error("the state was replaced as a whole meanwhile, or is closing")]
    Interrupted,
    /// The next file cannot be written.
    #[error("the file that was to take the state's place cannot be written: {reason}")]
    Failed {
        /// What the disk, or the engine, says.
        reason: String,
    },
}

/// Decides over what an engine may take while it is made anew, and hears of it. Asked on the thread
/// that writes to the engine.
pub trait Steward: Send + Sync + 'static {
    /// How many bytes may be taken on the disk; `None` if nobody knows.
    fn room_bytes(&self) -> Option<u64>;

    /// So many bytes were copied: blocks for as long as the rate wants that. The engine is written to by
    /// nobody meanwhile, so that it should not be long.
    fn pace(&self, copied_bytes: u64);

    /// A renewal has begun of a file of `file_bytes`.
    fn has_begun(&self, file_bytes: u64, in_use_bytes: u64);

    /// It is over, and the file shorter.
    fn has_ended(&self, before_bytes: u64, after_bytes: u64);

    /// There is none.
    fn has_given_up(&self, why: &Refusal);
}

/// Lets everything happen, and listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSteward;

impl Steward for NoSteward {
    fn room_bytes(&self) -> Option<u64> {
        None
    }

    fn pace(&self, _: u64) {}

    fn has_begun(&self, _: u64, _: u64) {}

    fn has_ended(&self, _: u64, _: u64) {}

    fn has_given_up(&self, _: &Refusal) {}
}
