//! What was measured, for people and for programs. Computes rates; measures nothing.

use super::load::Tally;
use super::{Options, Used, bytes, grouped};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// The outcome of a measurement.
pub(super) struct Report {
    operation: String,
    endpoints: Vec<String>,
    client_count: usize,
    connection_count: usize,
    value_size: usize,
    seconds: u64,
    rate: Option<u64>,
    tally: Tally,
    used: Used,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        connection_count: usize,
        tally: Tally,
        used: Used,
    ) -> Self {
        let name = options.op.to_possible_value();
        Self {
            operation: name.map(|name| name.get_name().to_owned()).unwrap_or_default(),
            endpoints: options.endpoints.iter().map(ToString::to_string).collect(),
            client_count: options.clients.get(),
            connection_count,
            value_size: options.value_size,
            seconds: options.seconds,
            rate: options.rate,
            tally,
            used,
        }
    }

    pub(super) fn error_count(&self) -> u64 {
        self.tally.errors.values().sum()
    }

    fn operation_count(&self) -> u64 {
        self.tally.latency_micros.len()
    }

    fn per_second(&self) -> u64 {
        self.operation_count() / self.seconds.max(1)
    }

    fn quantile(&self, quantile: f64) -> u64 {
        self.tally.latency_micros.value_at_quantile(quantile)
    }

    fn per_server_cpu_second(&self) -> Option<u64> {
        per_cpu_second(self.operation_count(), self.used.server_cpu?)
    }

    fn written_bytes_per_operation(&self) -> Option<u64> {
        self.used.disk_written_bytes.checked_div(self.operation_count())
    }

    /// One object; times in microseconds, CPU in milliseconds.
    pub(super) fn as_json(&self) -> Value {
        json!({
            "op": self.operation,
            "endpoints": self.endpoints,
            "clients": self.client_count,
            "connections": self.connection_count,
            "value_size_bytes": self.value_size,
            "seconds": self.seconds,
            "rate": self.rate,
            "operations": self.operation_count(),
            "per_second": self.per_second(),
            "latency_us": {
                "p50": self.quantile(0.5),
                "p90": self.quantile(0.9),
                "p99": self.quantile(0.99),
                "p99_9": self.quantile(0.999),
                "max": self.tally.latency_micros.max(),
            },
            "errors": self.tally.errors,
            "generator_cpu_ms": millis(self.used.own_cpu),
            "server_cpu_ms": self.used.server_cpu.map(millis),
            "per_server_cpu_second": self.per_server_cpu_second(),
            "disk_written_bytes_per_operation": self.written_bytes_per_operation(),
        })
    }
}

fn per_cpu_second(operations: u64, cpu: Duration) -> Option<u64> {
    operations.saturating_mul(1000).checked_div(millis(cpu))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds as milliseconds: `0.98 ms`.
fn latency(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)
}

/// CPU time as seconds of the measured time: `1.2 s`.
fn cpu(duration: Duration) -> String {
    format!("{}.{} s", millis(duration) / 1000, millis(duration) % 1000 / 100)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} with {} clients on {} connections to {}, values of {} bytes, {} s",
            self.operation,
            self.client_count,
            self.connection_count,
            self.endpoints.join(", "),
            self.value_size,
            self.seconds
        )?;
        writeln!(f, "  throughput   {} per second", grouped(self.per_second()))?;
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
        write!(f, "  latency      ")?;
        for (name, quantile) in quantiles {
            write!(f, "{name} {}   ", latency(self.quantile(quantile)))?;
        }
        writeln!(f, "max {}", latency(self.tally.latency_micros.max()))?;
        write!(f, "  this program {} of CPU", cpu(self.used.own_cpu))?;
        if let Some(per_second) = per_cpu_second(self.operation_count(), self.used.own_cpu) {
            write!(f, " ({} operations per CPU second)", grouped(per_second))?;
        }
        writeln!(f)?;
        self.show_servers(f)?;
        writeln!(f, "  errors       {}", self.error_count())?;
        for (text, count) in &self.tally.errors {
            writeln!(f, "    {count} x {text}")?;
        }
        Ok(())
    }
}

impl Report {
    fn show_servers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server_cpu) = self.used.server_cpu {
            write!(f, "  servers      {} of CPU", cpu(server_cpu))?;
            if let Some(per_second) = self.per_server_cpu_second() {
                write!(f, " ({} operations per CPU second)", grouped(per_second))?;
            }
            writeln!(f)?;
        }
        if let Some(written) = self.written_bytes_per_operation() {
            writeln!(f, "  disks here   {} written per operation, by anybody", bytes(written))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_shown_to_a_hundredth_of_a_millisecond() {
        assert_eq!(latency(987), "0.98 ms");
        assert_eq!(latency(27_050), "27.05 ms");
    }
}
