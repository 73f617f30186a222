//! What both comparisons share: rounds in turn, CPU time, medians, and a table whose last lines are
//! the ratios.

use std::time::Instant;

/// The allocator of the `quorate` binary, for every side alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How large a command is.
pub const COMMAND_BYTES: usize = 256;

/// How often each side is measured.
pub const ROUNDS: usize = 5;

/// Runs both sides in turn and returns the medians of what each reaches.
pub fn in_turn(mut ours: impl FnMut() -> f64, mut peer: impl FnMut() -> f64) -> Compared {
    let (mut of_us, mut of_peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_us.push(ours());
        of_peer.push(peer());
    }
    Compared { ours: Spread::of(of_us), peer: Spread::of(of_peer) }
}

/// What both sides reached.
pub struct Compared {
    /// Ours.
    pub ours: Spread,
    /// The other.
    pub peer: Spread,
}

impl Compared {
    /// How many times as much ours reached, by the medians.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ours.median / self.peer.median
    }
}

/// Several rounds of one side.
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |place: usize| rounds.get(place).copied().unwrap_or(f64::NAN);
        let last = rounds.len().saturating_sub(1);
        Self { median: at(rounds.len() / 2), least: at(0), most: at(last) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ({:.0} to {:.0})", self.median, self.least, self.most)
    }
}

/// Prints a table of cases, and the ratios last.
pub fn print(unit: &str, peer: &str, cases: &[(String, Compared)]) {
    println!("| {unit} | quorate | {peer} |\n|---|---|---|");
    for (name, compared) in cases {
        println!("| {name} | {} | {} |", compared.ours, compared.peer);
    }
    println!();
    for (name, compared) in cases {
        println!("{name}: {:.2} times {peer}", compared.ratio());
    }
}

/// How much CPU time this thread has used, in seconds: on a busy machine the wall says little.
/// Wall time, where the system does not tell.
#[must_use]
pub fn cpu_seconds_of_thread(since: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    nanos.map_or(since.elapsed().as_secs_f64(), |nanos| nanos as f64 / 1e9)
}
