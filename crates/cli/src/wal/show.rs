//! What was seen of a log as lines: for people, or one JSON object each. Decides which records are shown
//! and nothing else.

use super::words;
use quorate::core::LogIndex;
use quorate::wal::{
    CutSight, MarkSight, MetaSight, RecordSight, SegmentSight, Sight, Standing, Verdict, WalError,
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Writes line after line. A reader that went away ends it silently.
pub(super) struct Show {
    is_json: bool,
    from: LogIndex,
    /// How many more records are shown.
    left: u64,
    hidden_count: u64,
    failure: Option<io::Error>,
}

impl Show {
    pub(super) fn new(is_json: bool, from: LogIndex, limit: Option<u64>) -> Self {
        let left = limit.unwrap_or(u64::MAX);
        Self { is_json, from, left, hidden_count: 0, failure: None }
    }

    pub(super) fn sight(&mut self, sight: &Sight<'_>) {
        match sight {
            Sight::Meta(name, Ok(meta)) => {
                self.line(|| meta_text(name, meta), || meta_json(name, meta));
            }
            Sight::Meta(name, Err(why)) => {
                self.line(|| bad_text(name, why), || bad_json(name, why));
            }
            Sight::Mark(mark) => self.line(|| mark_text(*mark), || mark_json(*mark)),
            Sight::Record(record) if self.takes(record) => {
                self.line(|| record_text(record), || record_json(record));
            }
            Sight::Record(_) => self.hidden_count += 1,
            Sight::Segment(segment) => {
                self.line(|| segment_text(segment), || segment_json(segment));
            }
        }
    }

    /// The last line.
    ///
    /// # Errors
    ///
    /// If standard output could not be written.
    pub(super) fn verdict(mut self, verdict: &Verdict) -> anyhow::Result<()> {
        let hidden = self.hidden_count;
        let text = || {
            let hidden =
                if hidden == 0 { String::new() } else { format!("{hidden} records not shown\n") };
            format!("{hidden}verdict: {verdict}")
        };
        let json = || {
            let takes = matches!(verdict, Verdict::Whole { .. });
            let (case, text) = (verdict.word(), verdict.to_string());
            json!({ "type": "verdict", "case": case, "taken_as_it_is": takes, "text": text,
                "hidden_records": hidden })
        };
        self.line(text, json);
        self.failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn takes(&mut self, record: &RecordSight<'_>) -> bool {
        let takes = record.log_id.index >= self.from && self.left > 0;
        self.left -= u64::from(takes);
        takes
    }

    fn line(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        if self.failure.is_some() {
            return;
        }
        let line = if self.is_json { json().to_string() } else { text() };
        self.failure = writeln!(io::stdout().lock(), "{line}").err();
    }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Unproven => "unproven",
        Standing::Proven => "proven",
    }
}

fn meta_text(name: &str, meta: &MetaSight) -> String {
    let MetaSight { identity, hard_state, segments: (first, last), .. } = meta;
    let vote = hard_state.voted_for.map_or("nobody".to_owned(), |id| format!("{:x}", id.get()));
    let text = format!(
        "{name}: generation {}, format {}: cluster {:x}, node {:x}, disk {:032x} ({}), opened {} times; \
         term {}, voted for {vote}; starts after {}, segments {first} to {last}, durable up to byte {}",
        meta.generation,
        meta.format,
        identity.cluster_id,
        identity.node_id.get(),
        identity.storage_id,
        standing(meta.standing),
        meta.era,
        hard_state.current_term,
        meta.base.last_included,
        meta.synced_bytes,
    );
    let cuts: String = meta.cuts.iter().map(cut_text).collect();
    let horizon = meta
        .horizon
        .map_or_else(String::new, |horizon| format!("; held {horizon}, and has to get it back"));
    format!("{text}{cuts}{horizon}")
}

fn cut_text(cut: &CutSight) -> String {
    let CutSight { segment, position, resumed, end_bytes } = *cut;
    let spare_last = resumed.saturating_sub(1);
    format!(
        "; cut at byte {position} of segment {segment}, goes on in segment {resumed} (what stands behind \
         the cut, up to byte {end_bytes} of segment {spare_last}, is spare)"
    )
}

fn meta_json(name: &str, meta: &MetaSight) -> Value {
    let MetaSight { identity, hard_state, segments: (first, last), .. } = meta;
    json!({
        "type": "meta", "name": name, "whole": true,
        "generation": meta.generation, "format": meta.format, "era": meta.era,
        "cluster_id": format!("{:x}", identity.cluster_id),
        "node_id": format!("{:x}", identity.node_id.get()),
        "storage_id": format!("{:032x}", identity.storage_id),
        "standing": standing(meta.standing),
        "term": hard_state.current_term.get(),
        "voted_for": hard_state.voted_for.map(|id| format!("{:x}", id.get())),
        "first_segment": first, "last_segment": last, "synced_bytes": meta.synced_bytes,
        "base_index": meta.base.last_included.index.get(),
        "base_term": meta.base.last_included.term.get(),
        "horizon_index": meta.horizon.map(|horizon| horizon.index.get()),
        "horizon_term": meta.horizon.map(|horizon| horizon.term.get()),
        "cuts": meta.cuts.iter().map(cut_json).collect::<Vec<_>>(),
    })
}

/// A cut, and the region behind it: from there to the end of the segment before the one that resumes.
fn cut_json(cut: &CutSight) -> Value {
    let CutSight { segment, position, resumed, end_bytes } = *cut;
    json!({
        "segment": segment, "position": position, "resumed": resumed,
        "spare_last_segment": resumed.saturating_sub(1), "spare_end_bytes": end_bytes,
    })
}

fn bad_text(name: &str, why: &WalError) -> String {
    format!("{name}: not whole: {why}")
}

fn bad_json(name: &str, why: &WalError) -> Value {
    json!({ "type": "meta", "name": name, "whole": false, "text": why.to_string() })
}

fn mark_text(mark: Option<MarkSight>) -> String {
    match mark {
        None => "mark: gone, or not whole: it proves nothing".to_owned(),
        Some(MarkSight { era, generation, segment, position, last_log }) => format!(
            "mark: durable up to byte {position} of segment {segment}, which is entry {last_log} \
             (opened {era} times, generation {generation})"
        ),
    }
}

fn mark_json(mark: Option<MarkSight>) -> Value {
    match mark {
        None => json!({ "type": "mark", "whole": false }),
        Some(MarkSight { era, generation, segment, position, last_log }) => json!({
            "type": "mark", "whole": true, "era": era, "generation": generation,
            "segment": segment, "position": position,
            "index": last_log.index.get(), "term": last_log.term.get(),
        }),
    }
}

fn record_text(record: &RecordSight<'_>) -> String {
    let (kind, says) = (words::kind(&record.content), words::content(&record.content));
    let size_bytes = record.payload.len();
    format!("  {}  {kind}  {size_bytes} bytes  {says}", record.log_id)
}

fn record_json(record: &RecordSight<'_>) -> Value {
    json!({
        "type": "record",
        "index": record.log_id.index.get(), "term": record.log_id.term.get(),
        "kind": words::kind(&record.content), "payload_bytes": record.payload.len(),
        "words": words::content(&record.content),
        "segment": record.segment, "position": record.position, "record_bytes": record.size_bytes,
        "era": record.era, "synced_bytes": record.synced_bytes,
    })
}

fn segment_text(segment: &SegmentSight<'_>) -> String {
    let says = segment.finding.map_or_else(
        || "whole, up to where the next one says".to_owned(),
        |finding| finding.to_string(),
    );
    format!(
        "segment {} ({}): begun in era {} after {}, its records end at byte {}: {says}",
        segment.number,
        segment.path.display(),
        segment.era,
        segment.last_log,
        segment.end_bytes
    )
}

fn segment_json(segment: &SegmentSight<'_>) -> Value {
    let finding = segment.finding.map(|finding| {
        json!({
            "segment": finding.segment, "stop": finding.stop, "durable": finding.durable,
            "later": finding.later, "anchor": finding.anchor, "case": finding.case,
        })
    });
    json!({
        "type": "segment", "number": segment.number, "path": segment.path.display().to_string(),
        "era": segment.era, "end_bytes": segment.end_bytes, "finding": finding,
        "after_index": segment.last_log.index.get(), "after_term": segment.last_log.term.get(),
    })
}
