//! The text form that Prometheus reads: heads, lines, histograms. Must not know what the figures mean.

use crate::errors::Code;
use crate::method::Method;
use std::fmt::{Display, Write as _};
use std::time::Duration;

/// Durations by bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// For each bucket, in rising order: its upper bound in seconds, and how many fell into it
    /// alone.
    pub(crate) buckets: Vec<(f64, u64)>,
    /// How many there were beyond the last bucket.
    pub(crate) beyond: u64,
    /// Their sum in seconds.
    pub(crate) sum_seconds: f64,
}

impl From<&quorate::Histogram> for Histogram {
    fn from(histogram: &quorate::Histogram) -> Self {
        let mut buckets: Vec<_> = histogram
            .buckets()
            .map(|(bound_micros, count)| (Duration::from_micros(bound_micros).as_secs_f64(), count))
            .collect();
        // The node's last bucket has no bound, in spite of the figure that comes with it.
        let beyond = buckets.pop().map_or(0, |(_, count)| count);
        let sum_seconds = Duration::from_micros(histogram.sum_micros()).as_secs_f64();
        Self { buckets, beyond, sum_seconds }
    }
}

/// Text under construction. Writing to a `String` cannot fail, so results are dropped.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name} {value}");
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, value);
    }

    pub(super) fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, u8::from(value));
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, value);
    }

    /// What tells a method from others.
    pub(super) fn labels_of(method: Method) -> String {
        let (service, form, method) = (method.service(), method.form().name(), method.name());
        format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{form}\"")
    }

    pub(super) fn method_line(
        &mut self,
        name: &str,
        method: Method,
        code: Option<Code>,
        value: u64,
    ) {
        let _ = write!(self.text, "{name}{{");
        if let Some(code) = code {
            let _ = write!(self.text, "grpc_code=\"{}\",", code.name());
        }
        let _ = writeln!(self.text, "{}}} {value}", Self::labels_of(method));
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        self.buckets(name, "", histogram);
    }

    /// A histogram that is one of several, which `labels` tell apart.
    pub(super) fn buckets(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let (labels_and, whole) = if labels.is_empty() {
            (String::new(), String::new())
        } else {
            (format!("{labels},"), format!("{{{labels}}}"))
        };
        let mut total = 0;
        for (bound, count) in &histogram.buckets {
            total += count;
            self.line(&format!("{name}_bucket{{{labels_and}le=\"{bound}\"}}"), total);
        }
        total += histogram.beyond;
        self.line(&format!("{name}_bucket{{{labels_and}le=\"+Inf\"}}"), total);
        self.line(&format!("{name}_sum{whole}"), histogram.sum_seconds);
        self.line(&format!("{name}_count{whole}"), total);
    }
}
