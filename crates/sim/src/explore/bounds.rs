//! How much may happen in an exploration. Knows nothing of how it is explored.

/// What may happen, and how often in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Voters, 2 to [`Bounds::NODES_MAX`].
    pub nodes: u8,
    /// Values that are proposed.
    pub values: u8,
    /// Deadlines that are reached: election timeouts and heartbeats.
    pub timeouts: u8,
    /// Crashes, each followed by a start.
    pub crashes: u8,
    /// Messages that are taken without leaving the bag.
    pub duplications: u8,
    /// Writes that take their time; all others are durable at once. `None`: every write takes as
    /// long as it likes.
    pub slow_writes: Option<u8>,
    /// Linearizable reads, asked of whoever believes to lead.
    pub reads: u8,
    /// Requests to a leader to hand over, to anybody.
    pub transfers: u8,
    /// Actions in one run.
    pub depth: u32,
    /// States after which the search stops, in the middle of a level; [`Bounds::STATES_MAX`] at
    /// most.
    pub states_max: u64,
    /// Computes every step anew instead of looking it up, and compares: slow, for tests.
    pub audit: bool,
    /// What is deliberately broken.
    pub sabotage: Sabotage,
}

/// What an exploration can be asked to break, to see whether it notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// Disks report writes before they are durable.
    EarlyCompletion,
    /// A crash loses term and vote.
    ForgetfulVote,
    /// A crash loses the last entry of the log, although it was durable.
    ShortenedLog,
    /// The network tells a candidate of votes that were refused as if they were given.
    ForgedVotes,
}

impl Bounds {
    /// Voters at most.
    pub const NODES_MAX: u8 = 5;
    /// States at most: they are numbered with 32 bits.
    pub const STATES_MAX: u64 = (1 << 32) - 2;
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nodes: 3,
            values: 2,
            timeouts: 3,
            crashes: 1,
            duplications: 1,
            slow_writes: None,
            reads: 0,
            transfers: 0,
            depth: 100,
            states_max: 1_000_000,
            audit: false,
            sabotage: Sabotage::None,
        }
    }
}
