//! How long proposals take, as a whole and stage by stage. Must not know what a stage is.

use super::{Histogram, Page};
use quorate::ProposalTimes;

/// What is known of those of this member's clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProposalFigures {
    whole: Histogram,
    /// By name, in their order.
    stages: Vec<(&'static str, Histogram)>,
}

impl From<&ProposalTimes> for ProposalFigures {
    fn from(times: &ProposalTimes) -> Self {
        // In this order: what is counted as a whole was counted by stage before.
        let whole = Histogram::from(&times.whole);
        let stages = times.stages().map(|(name, histogram)| (name, Histogram::from(histogram)));
        Self { whole, stages: stages.into() }
    }
}

pub(super) fn render(out: &mut Page, figures: &ProposalFigures) {
    out.histogram(
        "quorate_proposal_duration_seconds",
        "How long proposals took that were applied, from their arrival to their answer.",
        &figures.whole,
    );
    let name = "quorate_proposal_stage_duration_seconds";
    out.head(name, "histogram", "The same by stage, of those that this member appended itself.");
    for (stage, histogram) in &figures.stages {
        out.buckets(name, &format!("stage=\"{stage}\""), histogram);
    }
}
