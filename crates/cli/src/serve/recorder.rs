//! SIGUSR1: leaves a recording of what happened to this node lately in its data folder. Knows nothing
//! of what is in one.

use anyhow::Context;
use quorate::Node;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The wish for recordings, from the moment on that this is made: before, the signal ends the process.
pub(super) fn wishes() -> anyhow::Result<Signal> {
    signal(SignalKind::user_defined1()).context("catching SIGUSR1")
}

/// Writes a recording at each wish, and goes on for ever.
pub(super) async fn record(
    mut wishes: Signal,
    node: &Node,
    dir: &Path,
) -> std::convert::Infallible {
    loop {
        if wishes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        match write(node, dir).await {
            Ok(path) => tracing::info!(
                path = %path.display(),
                "recorded what happened to this node lately: `quorate sim --replay` plays it; nothing \
                 that clients wrote is in it"
            ),
            Err(error) => tracing::warn!("SIGUSR1: {error:#}"),
        }
    }
}

async fn write(node: &Node, dir: &Path) -> anyhow::Result<PathBuf> {
    let recording = node.recording().await.context("there is no recording: the node has ended")?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = dir.join(format!("{}.recording", since_epoch.as_millis()));
    let (bytes, to) = (recording.to_bytes(), path.clone());
    let written = tokio::task::spawn_blocking(move || {
        let mut file = fs::File::create_new(&to)?;
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.await?.with_context(|| format!("writing a recording to {}", path.display()))?;
    Ok(path)
}
