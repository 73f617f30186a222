//! How much memory an endpoint's process has, as its metrics say. Must not know what for.

use crate::client::connection::{Address, Connection};
use anyhow::{Context, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The figure's name.
const NAME: &str = "process_resident_memory_bytes";

/// A page of metrics is not longer.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// Asks an endpoint for its metrics.
///
/// # Errors
///
/// If it does not answer, or does not say.
pub(super) async fn resident_bytes(
    connection: &Connection,
    address: &Address,
) -> anyhow::Result<f64> {
    let page = async {
        let stream = connection.dialler().stream(address).await.map_err(anyhow::Error::msg)?;
        page(stream, address).await
    };
    let page = tokio::time::timeout(connection.command_timeout, page).await;
    let page = page.context("no answer in time").flatten();
    let page = page.with_context(|| format!("asking {address} for /metrics"))?;
    let bytes = figure(&page).with_context(|| format!("{address} does not say {NAME}"))?;
    ensure!(bytes > 0.0, "FAIL: Could not read {NAME}.");
    Ok(bytes)
}

/// Of HTTP/1.0, which knows no pieces: all up to the end of the connection.
async fn page(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &Address,
) -> anyhow::Result<String> {
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "it says {status:?}");
    Ok(answer)
}

fn figure(page: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(NAME)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_found_among_others_however_it_is_written() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP process_resident_memory_bytes x\n\
                    process_resident_memory_bytes 5.0548736e+07\nother 1\n";
        assert_eq!(figure(page), Some(50_548_736.0));
        assert_eq!(figure("process_resident_memory_bytes_max 7\n"), None);
    }
}
