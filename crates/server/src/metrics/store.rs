//! What is kept, and where: keys, users, the disk and the watches, with etcd's names where it has them.
//! Must not know how the figures come about.

use super::{Figures, Page};
use quorate::DiskRoom;
use quorate_kv::OpCounts;
use quorate_kv::watch::WatchFigures;

pub(super) fn render(out: &mut Page, figures: &Figures) {
    out.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "What the quota looks at: how much of the store's file holds data.",
        figures.db_size_in_use_bytes,
    );
    out.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "How much of the store's file holds data.",
        figures.db_size_in_use_bytes,
    );
    out.gauge(
        "quorate_db_file_bytes",
        "The size of the store's file, which does not shrink: what is free in it is used again.",
        figures.db_size_bytes,
    );
    out.gauge(
        "etcd_server_quota_backend_bytes",
        "The size that the store should not exceed.",
        figures.quota_bytes,
    );
    out.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.", figures.revision);
    out.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The oldest revision that can be read; 0 before the first compaction.",
        figures.compacted_revision,
    );
    out.gauge("etcd_debugging_mvcc_keys_total", "Keys that exist.", figures.keys);
    out.gauge(
        "etcd_debugging_auth_revision",
        "How often users and roles have changed, and one more.",
        figures.auth_revision,
    );
    if let Some(histogram) = &figures.backend_commit {
        out.histogram(
            "etcd_disk_backend_commit_duration_seconds",
            "How long the store's file takes to take a batch; no request waits for it.",
            histogram,
        );
    }
    render_ops(out, figures.ops);
    render_disk(out, figures.disk);
    render_watches(out, figures.watch);
}

/// What was carried out here; of ranges etcd tells twice.
fn render_ops(out: &mut Page, ops: OpCounts) {
    for (name, help, count) in [
        ("etcd_mvcc_put_total", "Puts that this member applied.", ops.puts),
        ("etcd_mvcc_range_total", "Ranges that it read.", ops.ranges),
        ("etcd_debugging_mvcc_range_total", "The same, by an older name.", ops.ranges),
        ("etcd_mvcc_delete_total", "Deletions that it applied.", ops.deletes),
        ("etcd_mvcc_txn_total", "Transactions of several operations.", ops.txns),
    ] {
        out.counter(name, help, count);
    }
}

/// Nothing of a disk that nobody looks at.
fn render_disk(out: &mut Page, disk: DiskRoom) {
    if disk.low_bytes == 0 {
        return;
    }
    out.gauge("quorate_disk_free_bytes", "What is free on the member's disk.", disk.free_bytes);
    out.gauge(
        "quorate_disk_reserve_bytes",
        "What the member holds in reserve there; 0 while it is used up.",
        disk.reserved_bytes,
    );
    out.gauge(
        "quorate_disk_low_bytes",
        "Below this, of both together, nothing is stored.",
        disk.low_bytes,
    );
    out.flag("quorate_disk_short", "Whether the disk is nearly full.", disk.is_short);
    out.flag(
        "quorate_disk_waiting",
        "Whether a write waits for room: nothing new is acknowledged until there is some.",
        disk.is_waited_for,
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    /// etcd's published alerts hold the first against the third, and the second against the first.
    #[test]
    fn the_size_that_alerts_hold_against_the_quota_is_the_one_that_the_quota_looks_at() {
        let mut page = Page::default();
        let sizes = Figures {
            db_size_bytes: 97,
            db_size_in_use_bytes: 3,
            quota_bytes: 100,
            ..Figures::default()
        };
        render(&mut page, &sizes);
        for line in [
            "etcd_mvcc_db_total_size_in_bytes 3",
            "etcd_mvcc_db_total_size_in_use_in_bytes 3",
            "etcd_server_quota_backend_bytes 100",
            "quorate_db_file_bytes 97",
        ] {
            assert!(page.text.lines().any(|found| found == line), "{line}: {}", page.text);
        }
    }

    #[test]
    fn a_disk_that_is_looked_at_is_shown() {
        let shown = |disk| {
            let mut page = Page::default();
            render(&mut page, &Figures { disk, ..Figures::default() });
            page.text
        };
        assert!(!shown(DiskRoom::default()).contains("quorate_disk"));
        let text = shown(DiskRoom {
            free_bytes: 1,
            reserved_bytes: 2,
            low_bytes: 6,
            is_short: true,
            is_waited_for: false,
        });
        for line in [
            "quorate_disk_free_bytes 1",
            "quorate_disk_reserve_bytes 2",
            "quorate_disk_low_bytes 6",
            "quorate_disk_short 1",
            "quorate_disk_waiting 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
