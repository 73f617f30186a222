//! How often each check of each probe was carried out, and what it found; with etcd's names. Must not
//! know what a check looks at.

use super::{Page, add, load};
use crate::service::{Check, Probe};
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(super) struct ProbeCounters(Vec<CheckCounter>);

#[derive(Debug)]
struct CheckCounter {
    probe: Probe,
    check: Check,
    successes: AtomicU64,
    errors: AtomicU64,
    /// What was found last: 1 for nothing wrong. Means something once anything was found.
    last: AtomicU64,
}

impl Default for ProbeCounters {
    fn default() -> Self {
        let counters = |probe: Probe| {
            probe.checks().iter().map(move |check| CheckCounter {
                probe,
                check: *check,
                successes: AtomicU64::default(),
                errors: AtomicU64::default(),
                last: AtomicU64::default(),
            })
        };
        Self(Probe::ALL.into_iter().flat_map(counters).collect())
    }
}

impl ProbeCounters {
    pub(super) fn checked(&self, probe: Probe, check: Check, is_well: bool) {
        let counter = self.0.iter().find(|one| (one.probe, one.check) == (probe, check));
        if let Some(counter) = counter {
            add(if is_well { &counter.successes } else { &counter.errors }, 1);
            counter.last.store(u64::from(is_well), Ordering::Relaxed);
        }
    }

    pub(super) fn render(&self, out: &mut Page) {
        let name = "etcd_server_healthcheck";
        out.head(name, "gauge", "Whether a check of a probe found nothing wrong when it ran last.");
        for counter in self.0.iter().filter(|counter| counter.has_run()) {
            out.line(&format!("{name}{{{}}}", counter.labels("")), load(&counter.last));
        }
        let name = "etcd_server_healthchecks_total";
        out.head(name, "counter", "Checks of probes that were carried out, by what they found.");
        for counter in &self.0 {
            for (status, count) in [("error", &counter.errors), ("success", &counter.successes)] {
                let labels = counter.labels(&format!(",status=\"{status}\""));
                out.line(&format!("{name}{{{labels}}}"), load(count));
            }
        }
    }
}

impl CheckCounter {
    fn has_run(&self) -> bool {
        load(&self.successes) + load(&self.errors) > 0
    }

    fn labels(&self, more: &str) -> String {
        format!("name=\"{}\"{more},type=\"{}\"", self.check.name(), self.probe.name())
    }
}
