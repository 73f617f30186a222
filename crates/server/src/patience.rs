//! Waiting for a moment that may never come. Must not know what for.

use tokio::time::Instant;

/// Returns at that time; without one, never.
pub(crate) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
