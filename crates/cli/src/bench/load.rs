//! The clients: each starts its next operation when the last is answered, or when a timetable says
//! so. Counts what ends within the measured time; knows nothing of what an operation is.

use super::Options;
use super::wire::Wire;
use super::workload::{Random, Workload};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A client that met an error waits this long, so that a dead server is not flooded.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Latencies above this count as this.
const LATENCY_MICROS_MAX: u64 = 120_000_000;
/// Latencies are exact to this many decimal digits.
const LATENCY_DIGITS: u8 = 3;

/// The measured time.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) stop: Instant,
}

/// What was counted in the measured time.
pub(super) struct Tally {
    /// From start to answer, in microseconds; of operations that succeeded.
    pub(super) latency_micros: Histogram<u64>,
    /// How often which error was met.
    pub(super) errors: BTreeMap<String, u64>,
}

/// Clients at work.
pub(super) struct Load {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    window: Window,
    timeout: Duration,
    workload: Arc<Workload>,
    operation_count: AtomicU64,
    // One thread runs everything, so the lock is never contended.
    tally: Mutex<Tally>,
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    ///
    /// None, as long as the bounds of the histogram are ones that its library takes.
    pub(super) fn start(
        options: &Options,
        connections: &[Wire],
        workload: &Arc<Workload>,
        window: Window,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            window,
            timeout: options.timeout,
            workload: workload.clone(),
            operation_count: AtomicU64::new(0),
            tally: Mutex::new(Tally::new()?),
        });
        let client_count = u64::try_from(options.clients.get()).unwrap_or(u64::MAX);
        let mut clients = JoinSet::new();
        for number in 0..client_count {
            let timetable = options.rate.map(|rate| Timetable::new(number, client_count, rate));
            let client = Client {
                shared: shared.clone(),
                connections: connections.to_vec(),
                turn: usize::try_from(number).unwrap_or(0),
                random: Random::new(number.wrapping_mul(0x5851_f42d_4c95_7f2d)),
                timetable,
            };
            clients.spawn(client.run());
        }
        Ok(Self { clients, shared })
    }

    /// How many operations have succeeded up to now.
    pub(super) fn operation_count(&self) -> u64 {
        self.shared.operation_count.load(Ordering::Relaxed)
    }

    /// Waits for the operations under way; they do not count.
    pub(super) async fn finish(mut self) -> anyhow::Result<Tally> {
        while let Some(client) = self.clients.join_next().await {
            client?;
        }
        let mut tally = self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut tally, Tally::new()?))
    }
}

impl Tally {
    fn new() -> Result<Self, hdrhistogram::CreationError> {
        let latency_micros = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, LATENCY_DIGITS);
        Ok(Self { latency_micros: latency_micros?, errors: BTreeMap::new() })
    }
}

/// When operations of one client start, in the open loop.
struct Timetable {
    offset: Duration,
    interval: Duration,
}

impl Timetable {
    /// Client `number` of `count` gets every `count`th of `rate` operations a second.
    fn new(number: u64, count: u64, rate: u64) -> Self {
        let nanos = |operations: u64| {
            let nanos = u128::from(operations) * 1_000_000_000 / u128::from(rate.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        Self { offset: nanos(number), interval: nanos(count) }
    }
}

struct Client {
    shared: Arc<Shared>,
    connections: Vec<Wire>,
    turn: usize,
    random: Random,
    timetable: Option<Timetable>,
}

impl Client {
    async fn run(mut self) {
        let offset = self.timetable.as_ref().map_or(Duration::ZERO, |table| table.offset);
        let interval = self.timetable.as_ref().map(|table| table.interval);
        let mut due = Instant::now() + offset;
        while Instant::now() < self.shared.window.stop {
            if let Some(interval) = interval {
                tokio::time::sleep_until(due).await;
                // In the open loop an operation that starts late has waited already.
                self.operate(due).await;
                due += interval;
            } else {
                self.operate(Instant::now()).await;
            }
        }
    }

    async fn operate(&mut self, started: Instant) {
        let count = self.connections.len();
        self.turn = (self.turn + 1) % count.max(1);
        let Some(connection) = self.connections.get_mut(self.turn) else { return };
        let shared = &self.shared;
        let call = shared.workload.run(connection, &mut self.random);
        let error = match tokio::time::timeout(shared.timeout, call).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {:?}", shared.timeout)),
        };
        let failed = error.is_some();
        shared.record(started, error);
        if failed {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}

impl Shared {
    fn record(&self, started: Instant, error: Option<String>) {
        let now = Instant::now();
        if error.is_none() {
            self.operation_count.fetch_add(1, Ordering::Relaxed);
        }
        if now < self.window.start || now >= self.window.stop {
            return;
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = error {
            *tally.errors.entry(text).or_insert(0) += 1;
        } else {
            let micros = u64::try_from((now - started).as_micros()).unwrap_or(u64::MAX);
            tally.latency_micros.saturating_record(micros.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_of_an_open_loop_share_its_rate_evenly() {
        let second = Timetable::new(1, 4, 1000);
        assert_eq!(second.offset, Duration::from_millis(1));
        assert_eq!(second.interval, Duration::from_millis(4));
    }
}
