//! What an operator measures: counters of our own, and the text form that Prometheus reads, with
//! etcd's names so that etcd's dashboards and alerts work unchanged. Must not know how the figures
//! of the node and the store come about.

mod calls;
mod clients;
mod page;
mod peers;
mod probes;
mod process;
mod proposals;
mod store;

use crate::errors::Code;
use crate::method::{Form, Method};
use crate::service::{Check, Probe};
use calls::CallTimes;
use clients::ClientVersions;
use page::Page;
use probes::ProbeCounters;
use quorate::DiskRoom;
use quorate_kv::OpCounts;
use quorate_kv::watch::WatchFigures;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use page::Histogram;
pub(crate) use peers::PeerFigures;
pub(crate) use process::ProcessFigures;
pub(crate) use proposals::ProposalFigures;

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
    probes: ProbeCounters,
    clients: ClientVersions,
    /// If they are measured.
    call_times: Option<Box<CallTimes>>,
}

#[derive(Debug, Default)]
struct MethodCounters {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; Code::COUNT],
}

/// A counter of each method: its name, help, and which it is.
type MethodCounter = (&'static str, &'static str, fn(&MethodCounters) -> &AtomicU64);

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
    pub(crate) fn new(measures_calls: bool) -> Self {
        Self { call_times: measures_calls.then(Box::default), ..Self::default() }
    }

    /// A client that says it speaks this version of the API asks for something.
    pub(crate) fn asked(&self, method: Method, version: Option<&str>) {
        let is_stream = matches!(method.form(), Form::ServerStream | Form::Bidi);
        self.clients.asked(version, is_stream);
    }

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

    /// How long a call took, if that is measured.
    pub(crate) fn took(&self, method: Method, time: Duration) {
        if let Some(times) = &self.call_times {
            times.took(method, time);
        }
    }

    /// A message of a call's client.
    pub(crate) fn received(&self, method: Method, bytes: usize) {
        add(&self.received_bytes, bytes as u64);
        if let Some(counters) = self.methods.0.get(method.index()) {
            add(&counters.received, 1);
        }
    }

    /// A message to a call's client.
    pub(crate) fn sent(&self, method: Method, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
        if let Some(counters) = self.methods.0.get(method.index()) {
            add(&counters.sent, 1);
        }
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

    pub(crate) fn checked(&self, probe: Probe, check: Check, is_well: bool) {
        self.probes.checked(probe, check, is_well);
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
    pub(crate) compacted_revision: u64,
    pub(crate) keys: u64,
    pub(crate) ops: OpCounts,
    pub(crate) auth_revision: u64,
    pub(crate) db_size_bytes: u64,
    pub(crate) db_size_in_use_bytes: u64,
    /// -1 if there is no limit.
    pub(crate) quota_bytes: i64,
    pub(crate) disk: DiskRoom,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) receiving_bytes: usize,
    pub(crate) unread_bytes: usize,
    pub(crate) wal_fsync: Option<Histogram>,
    pub(crate) backend_commit: Option<Histogram>,
    pub(crate) proposal_times: ProposalFigures,
    pub(crate) peers: Vec<PeerFigures>,
    pub(crate) scrub: ScrubFigures,
    pub(crate) differing_members: u64,
    pub(crate) protocol: ProtocolFigures,
    pub(crate) watch: WatchFigures,
    pub(crate) leases: usize,
    pub(crate) process: ProcessFigures,
}

/// Which protocol is spoken between members.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProtocolFigures {
    /// The newest that this one speaks.
    pub(crate) own: u16,
    pub(crate) cluster: u16,
}

/// What came of reading the log and the snapshots again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScrubFigures {
    pub(crate) read_bytes: u64,
    pub(crate) rounds: u64,
    pub(crate) damaged_files: u64,
}

impl Metrics {
    /// Everything, in Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, figures: &Figures) -> String {
        let mut out = Page::default();
        render_raft(&mut out, figures);
        self.render_proposals(&mut out, figures);
        proposals::render(&mut out, &figures.proposal_times);
        store::render(&mut out, figures);
        peers::render(&mut out, figures.member_id, &figures.peers);
        self.render_leases(&mut out, figures);
        self.render_requests(&mut out, figures);
        figures.process.render(&mut out);
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
        self.probes.render(out);
        self.clients.render(out);
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
        for (name, help, value) in [
            ("quorate_client_connections", "Open client connections.", figures.connections),
            ("quorate_client_streams", "Open gRPC and gateway streams.", figures.streams),
            (
                "quorate_receiving_bytes",
                "Bytes of requests that are only partly here.",
                figures.receiving_bytes,
            ),
            (
                "quorate_unread_bytes",
                "Bytes of large answers that their clients have not taken yet.",
                figures.unread_bytes,
            ),
        ] {
            out.gauge(name, help, value);
        }
        self.render_calls(out);
    }

    fn render_calls(&self, out: &mut Page) {
        let counters: [MethodCounter; 3] = [
            ("grpc_server_started_total", "gRPC calls that began.", |of| &of.started),
            ("grpc_server_msg_received_total", "Messages of gRPC calls that came.", |of| {
                &of.received
            }),
            ("grpc_server_msg_sent_total", "Messages of gRPC calls that went.", |of| &of.sent),
        ];
        for (name, help, counter) in counters {
            out.head(name, "counter", help);
            for (method, counters) in Method::ALL.into_iter().zip(&self.methods.0) {
                out.method_line(name, method, None, load(counter(counters)));
            }
        }
        out.head("grpc_server_handled_total", "counter", "gRPC calls that ended, by outcome.");
        for (method, counters) in Method::ALL.into_iter().zip(&self.methods.0) {
            for (code, count) in Code::ALL.into_iter().zip(&counters.handled) {
                out.method_line("grpc_server_handled_total", method, Some(code), load(count));
            }
        }
        if let Some(times) = &self.call_times {
            times.render(out);
        }
    }
}

fn render_raft(out: &mut Page, figures: &Figures) {
    out.head("etcd_server_id", "gauge", "This member's id, as a label.");
    out.line(&format!("etcd_server_id{{server_id=\"{:x}\"}}", figures.member_id), 1);
    out.head("etcd_server_version", "gauge", "The etcd version that this server stands in for.");
    out.line(&format!("etcd_server_version{{server_version=\"{}\"}}", crate::ETCD_VERSION), 1);
    let (major_minor, _) = crate::ETCD_CLUSTER_VERSION.rsplit_once('.').unwrap_or_default();
    out.head("etcd_cluster_version", "gauge", "The etcd version that the cluster stands in for.");
    out.line(&format!("etcd_cluster_version{{cluster_version=\"{major_minor}\"}}"), 1);
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
    out.gauge(
        "quorate_differing_members",
        "How many members have replied to the same entries otherwise than this one.",
        figures.differing_members,
    );
    let ProtocolFigures { own, cluster } = figures.protocol;
    out.gauge(
        "quorate_protocol_version",
        "The newest protocol that this member speaks with the others.",
        own,
    );
    out.gauge(
        "quorate_cluster_protocol_version",
        "The protocol that the cluster speaks: every member knows it. It never falls.",
        cluster,
    );
    let ScrubFigures { read_bytes, rounds, damaged_files } = figures.scrub;
    out.counter(
        "quorate_scrub_read_bytes_total",
        "Bytes of the log and of snapshots that were read again, to find damage before it matters.",
        read_bytes,
    );
    out.counter("quorate_scrub_rounds_total", "How often all of them were read again.", rounds);
    out.gauge(
        "quorate_scrub_damaged_files",
        "How many of their files were damaged when they were last read.",
        damaged_files,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

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
