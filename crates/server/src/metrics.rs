//! What an operator measures: counters of our own, and the text form that Prometheus reads, with
//! etcd's names so that etcd's dashboards and alerts work unchanged. Must not know how the figures
//! of the node and the store come about.

use crate::errors::Code;
use crate::method::Method;
use quorate_kv::watch::WatchFigures;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters that requests feed.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    methods: ByMethod,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    proposals_started: AtomicU64,
    proposals_ended: AtomicU64,
    proposals_failed: AtomicU64,
    leases_granted: AtomicU64,
    leases_revoked: AtomicU64,
    leases_renewed: AtomicU64,
    leases_expired: AtomicU64,
    health_success: AtomicU64,
    health_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct MethodCounters {
    started: AtomicU64,
    handled: [AtomicU64; Code::COUNT],
}

/// One for each, in the order of [`Method::ALL`].
#[derive(Debug)]
struct ByMethod([MethodCounters; Method::COUNT]);

impl Default for ByMethod {
    fn default() -> Self {
        Self(std::array::from_fn(|_| MethodCounters::default()))
    }
}

/// A proposal in progress; dropping it ends it, whatever became of it.
#[derive(Debug)]
pub(crate) struct ProposalInProgress<'a>(&'a Metrics);

impl Drop for ProposalInProgress<'_> {
    fn drop(&mut self) {
        add(&self.0.proposals_ended, 1);
    }
}

impl Metrics {
    pub(crate) fn started(&self, method: Method) {
        if let Some(counters) = self.methods.0.get(method.index()) {
            add(&counters.started, 1);
        }
    }

    pub(crate) fn handled(&self, method: Method, code: Code) {
        let counters = self.methods.0.get(method.index());
        if let Some(count) =
            counters.and_then(|counters| counters.handled.get(usize::from(code.number())))
        {
            add(count, 1);
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.received_bytes, bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
    }

    pub(crate) fn proposal(&self) -> ProposalInProgress<'_> {
        add(&self.proposals_started, 1);
        ProposalInProgress(self)
    }

    pub(crate) fn proposal_failed(&self) {
        add(&self.proposals_failed, 1);
    }

    pub(crate) fn lease_granted(&self) {
        add(&self.leases_granted, 1);
    }

    pub(crate) fn lease_revoked(&self) {
        add(&self.leases_revoked, 1);
    }

    pub(crate) fn lease_renewed(&self) {
        add(&self.leases_renewed, 1);
    }

    pub(crate) fn leases_expired(&self, count: u64) {
        add(&self.leases_expired, count);
    }

    pub(crate) fn health_checked(&self, healthy: bool) {
        add(if healthy { &self.health_success } else { &self.health_failures }, 1);
    }
}

/// Relaxed: the counters order nothing.
fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The figures that node, store and process have at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) member_id: u64,
    pub(crate) has_leader: bool,
    pub(crate) is_leader: bool,
    pub(crate) is_learner: bool,
    pub(crate) leader_changes: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) revision: u64,
    pub(crate) db_size_bytes: u64,
    pub(crate) db_size_in_use_bytes: u64,
    pub(crate) quota_bytes: u64,
    pub(crate) connections: usize,
    pub(crate) wal_fsync: Option<Histogram>,
    pub(crate) watch: WatchFigures,
    pub(crate) leases: usize,
    pub(crate) process: ProcessFigures,
}

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

/// What the system says of this process; absent where it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessFigures {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl ProcessFigures {
    /// Asks the system; on systems without `/proc` there is no answer.
    pub(crate) fn now() -> Self {
        // In the file's units of pages; every system that has the file uses pages of 4 KiB or
        // says so in `smaps`, which is slow to read.
        const PAGE_BYTES: u64 = 4096;
        let statm = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = statm.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        let files = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        Self { resident_bytes: pages.map(|pages| pages * PAGE_BYTES), open_files: files }
    }
}

impl Metrics {
    /// Everything, in Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, figures: &Figures) -> String {
        let mut out = Page::default();
        render_raft(&mut out, figures);
        self.render_proposals(&mut out, figures);
        render_store(&mut out, figures);
        render_watches(&mut out, figures.watch);
        self.render_leases(&mut out, figures);
        self.render_requests(&mut out, figures);
        render_process(&mut out, figures.process);
        out.text
    }

    fn render_proposals(&self, out: &mut Page, figures: &Figures) {
        // etcd has these two as gauges in spite of their names.
        out.gauge(
            "etcd_server_proposals_committed_total",
            "Index of the last committed log entry.",
            figures.committed,
        );
        out.gauge(
            "etcd_server_proposals_applied_total",
            "Index of the last applied log entry.",
            figures.applied,
        );
        let pending = load(&self.proposals_started).saturating_sub(load(&self.proposals_ended));
        out.gauge("etcd_server_proposals_pending", "Proposals that wait for their fate.", pending);
        out.counter(
            "etcd_server_proposals_failed_total",
            "Proposals that were refused, lost, or without a known fate in time.",
            load(&self.proposals_failed),
        );
    }

    /// What this member did for leases; etcd's names.
    fn render_leases(&self, out: &mut Page, figures: &Figures) {
        out.gauge("quorate_leases", "Leases that live.", figures.leases);
        for (name, help, counter) in [
            ("etcd_debugging_lease_granted_total", "Leases granted.", &self.leases_granted),
            ("etcd_debugging_lease_revoked_total", "Leases revoked.", &self.leases_revoked),
            ("etcd_debugging_lease_renewed_total", "Renewals of leases.", &self.leases_renewed),
            ("etcd_debugging_server_lease_expired_total", "Leases expired.", &self.leases_expired),
        ] {
            out.counter(name, help, load(counter));
        }
    }

    fn render_requests(&self, out: &mut Page, figures: &Figures) {
        out.counter(
            "etcd_server_health_success",
            "Health checks that found the member healthy.",
            load(&self.health_success),
        );
        out.counter(
            "etcd_server_health_failures",
            "Health checks that found it unhealthy.",
            load(&self.health_failures),
        );
        out.counter(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes of gRPC messages received from clients.",
            load(&self.received_bytes),
        );
        out.counter(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes of gRPC messages sent to clients.",
            load(&self.sent_bytes),
        );
        out.gauge("quorate_client_connections", "Open client connections.", figures.connections);
        out.head("grpc_server_started_total", "counter", "gRPC calls that began.");
        for (method, counters) in Method::ALL.into_iter().zip(&self.methods.0) {
            out.method_line("grpc_server_started_total", method, None, load(&counters.started));
        }
        out.head("grpc_server_handled_total", "counter", "gRPC calls that ended, by outcome.");
        for (method, counters) in Method::ALL.into_iter().zip(&self.methods.0) {
            for (code, count) in Code::ALL.into_iter().zip(&counters.handled) {
                out.method_line("grpc_server_handled_total", method, Some(code), load(count));
            }
        }
    }
}

fn render_raft(out: &mut Page, figures: &Figures) {
    out.head("etcd_server_id", "gauge", "This member's id, as a label.");
    out.line(&format!("etcd_server_id{{server_id=\"{:x}\"}}", figures.member_id), 1);
    out.head("etcd_server_version", "gauge", "The etcd version that this server stands in for.");
    out.line(&format!("etcd_server_version{{server_version=\"{}\"}}", crate::ETCD_VERSION), 1);
    out.head("quorate_version", "gauge", "The version of Quorate, as a label.");
    out.line(&format!("quorate_version{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
    out.flag("etcd_server_has_leader", "Whether a leader is known.", figures.has_leader);
    out.flag("etcd_server_is_leader", "Whether this member leads.", figures.is_leader);
    out.flag("etcd_server_is_learner", "Whether this member is a learner.", figures.is_learner);
    out.counter(
        "etcd_server_leader_changes_seen_total",
        "How often this member saw another leader than before.",
        figures.leader_changes,
    );
    if let Some(histogram) = &figures.wal_fsync {
        out.histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "How long it takes to make a batch of log entries durable.",
            histogram,
        );
    }
}

fn render_store(out: &mut Page, figures: &Figures) {
    out.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "The size of the store's file.",
        figures.db_size_bytes,
    );
    out.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "How much of the store's file holds data.",
        figures.db_size_in_use_bytes,
    );
    out.gauge(
        "etcd_server_quota_backend_bytes",
        "The size that the store should not exceed.",
        figures.quota_bytes,
    );
    out.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.", figures.revision);
}

fn render_watches(out: &mut Page, watch: WatchFigures) {
    out.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Open streams of watches.",
        watch.stream_count,
    );
    out.gauge("etcd_debugging_mvcc_watcher_total", "Watches.", watch.watch_count);
    out.gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watches that are behind and read history.",
        watch.behind_count,
    );
    out.counter(
        "etcd_debugging_mvcc_events_total",
        "Events handed to streams of watches.",
        watch.event_count,
    );
    out.gauge(
        "quorate_watch_pending_bytes",
        "Bytes of events that wait for slow clients.",
        watch.pending_bytes,
    );
}

fn render_process(out: &mut Page, process: ProcessFigures) {
    if let Some(bytes) = process.resident_bytes {
        out.gauge("process_resident_memory_bytes", "Memory in RAM.", bytes);
    }
    if let Some(count) = process.open_files {
        out.gauge("process_open_fds", "Open file descriptors.", count);
    }
}

/// Text under construction. Writing to a `String` cannot fail, so results are dropped.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, value);
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, u8::from(value));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, value);
    }

    fn method_line(&mut self, name: &str, method: Method, code: Option<Code>, value: u64) {
        let _ = write!(self.text, "{name}{{");
        if let Some(code) = code {
            let _ = write!(self.text, "grpc_code=\"{}\",", code.name());
        }
        let (service, form, method) = (method.service(), method.form().name(), method.name());
        let _ = writeln!(
            self.text,
            "grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{form}\"}} {value}"
        );
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut total = 0;
        for (bound, count) in &histogram.buckets {
            total += count;
            self.line(&format!("{name}_bucket{{le=\"{bound}\"}}"), total);
        }
        total += histogram.beyond;
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), total);
        self.line(&format!("{name}_sum"), histogram.sum_seconds);
        self.line(&format!("{name}_count"), total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_etcds_dashboards_need_are_there_with_etcds_types() {
        let text = Metrics::default()
            .render(&Figures { wal_fsync: Some(Histogram::default()), ..Figures::default() });
        for line in [
            "# TYPE etcd_server_has_leader gauge",
            "# TYPE etcd_server_is_leader gauge",
            "# TYPE etcd_server_leader_changes_seen_total counter",
            "# TYPE etcd_server_proposals_committed_total gauge",
            "# TYPE etcd_server_proposals_applied_total gauge",
            "# TYPE etcd_server_proposals_pending gauge",
            "# TYPE etcd_server_proposals_failed_total counter",
            "# TYPE etcd_server_quota_backend_bytes gauge",
            "# TYPE etcd_mvcc_db_total_size_in_bytes gauge",
            "# TYPE etcd_mvcc_db_total_size_in_use_in_bytes gauge",
            "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
            "# TYPE etcd_network_client_grpc_sent_bytes_total counter",
            "# TYPE etcd_network_client_grpc_received_bytes_total counter",
            "# TYPE grpc_server_started_total counter",
            "# TYPE grpc_server_handled_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn a_handled_call_is_counted_under_its_method_and_code() {
        let metrics = Metrics::default();
        metrics.started(Method::Put);
        metrics.handled(Method::Put, Code::InvalidArgument);
        let text = metrics.render(&Figures::default());
        let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        assert!(text.contains(&format!("grpc_server_started_total{{{labels}}} 1\n")));
        assert!(text.contains(&format!(
            "grpc_server_handled_total{{grpc_code=\"InvalidArgument\",{labels}}} 1\n"
        )));
        assert!(
            text.contains(&format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 0\n"))
        );
    }

    #[test]
    fn a_histogram_adds_up_over_its_buckets() {
        let mut page = Page::default();
        let histogram =
            Histogram { buckets: vec![(0.001, 2), (0.002, 1)], beyond: 1, sum_seconds: 0.5 };
        page.histogram("h", "help", &histogram);
        let expected = "# HELP h help\n# TYPE h histogram\nh_bucket{le=\"0.001\"} 2\n\
             h_bucket{le=\"0.002\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 0.5\nh_count 4\n";
        assert_eq!(page.text, expected);
    }

    #[test]
    fn a_proposal_is_pending_until_it_is_dropped() {
        let metrics = Metrics::default();
        let proposal = metrics.proposal();
        let pending = "\netcd_server_proposals_pending 1\n";
        assert!(metrics.render(&Figures::default()).contains(pending));
        drop(proposal);
        assert!(!metrics.render(&Figures::default()).contains(pending));
    }
}
