//! Commands that go on until they are stopped, and the lines that they print meanwhile. Knows nothing of
//! what the lines say.

use super::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus};
use std::sync::mpsc;

/// A command that runs; it ends with this.
pub(crate) struct Ongoing {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Ongoing {
    /// Takes over a child whose standard output is piped.
    pub(crate) fn new(mut child: Child) -> Self {
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the command prints a line")
    }

    /// So many lines.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    /// Control-C, and how it ends then.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::INT)
            .expect("our child can be signalled");
        self.child.wait().expect("our child can be waited for")
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
