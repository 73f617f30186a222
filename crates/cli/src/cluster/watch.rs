//! Asks every node, again and again, how it is. What the answers mean is the supervisor's business.

use super::plan::NodePlan;
use crate::client::{Address, member_status};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How often each node is asked.
const INTERVAL: Duration = Duration::from_millis(150);
/// A node that does not answer for this long is silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a node last said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// `None` if it did not answer.
    pub(super) view: Option<View>,
}

/// How a node sees the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Its term.
    pub(super) term: u64,
    /// The leader's id, if it knows one.
    pub(super) leader: Option<u64>,
}

/// Starts asking; each answer that differs from the last is sent, with the node's number.
///
/// # Errors
///
/// If an address is none.
pub(super) fn start(
    nodes: &[NodePlan],
    sender: &UnboundedSender<(usize, Seen)>,
) -> anyhow::Result<()> {
    for (number, node) in nodes.iter().enumerate() {
        let address: Address = node.client.parse()?;
        tokio::spawn(ask_forever(number, address, sender.clone()));
    }
    Ok(())
}

async fn ask_forever(number: usize, address: Address, sender: UnboundedSender<(usize, Seen)>) {
    let Ok(channel) = address.connect_lazy(PATIENCE) else { return };
    let mut last = Seen::default();
    loop {
        let answer = member_status(channel.clone().into(), PATIENCE).await.ok();
        let view = answer.map(|status| View {
            term: status.raft_term,
            leader: Some(status.leader).filter(|leader| *leader != 0),
        });
        let seen = Seen { view };
        if seen != last && sender.send((number, seen)).is_err() {
            return;
        }
        last = seen;
        tokio::time::sleep(INTERVAL).await;
    }
}
