//! A clean stop at Ctrl-C. Knows nothing of what is stopped.

use std::io::{self, Write};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// How a program ends that Ctrl-C ended.
const EXIT_BY_SIGINT: i32 = 130;

/// The first Ctrl-C lets the running worlds end; the second ends everything.
///
/// # Errors
///
/// What the operating system says.
pub(super) fn stop_at_ctrl_c(stop: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            let [interrupt, terminate] = &mut signals;
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            stop.store(true, Ordering::Relaxed);
            let _ = writeln!(io::stderr(), "\nstopping after the running worlds");
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            exit(EXIT_BY_SIGINT);
        });
    });
    Ok(())
}
