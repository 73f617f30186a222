//! What the system says of this process, with the names that every Prometheus client library has. Must
//! not know what the process does.

use super::Page;
use std::fs::read_to_string;

/// The unit of times in `/proc`, per second: the same on every Linux that programs see.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the system says; absent where it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessFigures {
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    virtual_bytes_max: Option<f64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
    cpu_seconds: Option<f64>,
    started_at_seconds: Option<f64>,
}

impl ProcessFigures {
    /// Asks the system; on systems without `/proc` there is no answer.
    pub(crate) fn now() -> Self {
        // In the file's units of pages; every system that has the file uses pages of 4 KiB or
        // says so in `smaps`, which is slow to read.
        const PAGE_BYTES: u64 = 4096;
        let statm = read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').map_while(|pages| pages.parse::<u64>().ok());
        let mut bytes = pages.map(|pages| pages.saturating_mul(PAGE_BYTES));
        let (virtual_bytes, resident_bytes) = (bytes.next(), bytes.next());
        let files = std::fs::read_dir("/proc/self/fd").ok();
        let limits = read_to_string("/proc/self/limits").unwrap_or_default();
        let stat = read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = read_to_string("/proc/stat").unwrap_or_default();
        Self {
            resident_bytes,
            virtual_bytes,
            virtual_bytes_max: virtual_bytes_max(&limits),
            open_files: files.map(|entries| entries.count() as u64),
            open_files_max: open_files_max(&limits),
            cpu_seconds: cpu_seconds(&stat),
            started_at_seconds: started_at_seconds(&stat, &boot),
        }
    }

    pub(super) fn render(self, out: &mut Page) {
        let gauges = [
            ("process_resident_memory_bytes", "Memory in RAM.", self.resident_bytes),
            ("process_virtual_memory_bytes", "Memory that is addressed.", self.virtual_bytes),
            ("process_open_fds", "Open file descriptors.", self.open_files),
            ("process_max_fds", "How many may be open.", self.open_files_max),
            ("os_fd_used", "Open file descriptors, by etcd's name.", self.open_files),
            ("os_fd_limit", "How many may be open, by etcd's name.", self.open_files_max),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                out.gauge(name, help, value);
            }
        }
        if let Some(bytes) = self.virtual_bytes_max {
            let help = "How much memory may be addressed.";
            out.gauge("process_virtual_memory_max_bytes", help, bytes);
        }
        if let Some(seconds) = self.cpu_seconds {
            let name = "process_cpu_seconds_total";
            out.head(name, "counter", "Processor time spent, in seconds.");
            out.line(name, seconds);
        }
        if let Some(seconds) = self.started_at_seconds {
            let help = "When the process began, in seconds since 1970.";
            out.gauge("process_start_time_seconds", help, seconds);
        }
    }
}

fn open_files_max(limits: &str) -> Option<u64> {
    limit(limits, "Max open files")?.parse().ok()
}

/// Without a limit all that 64 bits can say, as others have it.
fn virtual_bytes_max(limits: &str) -> Option<f64> {
    const UNLIMITED: f64 = 18_446_744_073_709_551_615.0;
    let value = limit(limits, "Max address space")?;
    if value == "unlimited" { Some(UNLIMITED) } else { value.parse().ok() }
}

/// The limit that holds now, in the words of the system.
fn limit<'a>(limits: &'a str, name: &str) -> Option<&'a str> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

/// A field of `/proc/self/stat` by its number there. The second, the program's name, may hold
/// anything; it ends with the last bracket.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

fn started_at_seconds(stat: &str, boot: &str) -> Option<f64> {
    let line = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(line.trim().parse::<f64>().ok()? + field(stat, 22)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 6000 1 2";

    #[test]
    fn the_fields_are_found_whatever_the_program_is_called() {
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(started_at_seconds(STAT, "cpu 1\nbtime 1000\nx 1\n"), Some(1060.0));
        let limits = "Limit  Soft  Hard\nMax open files            1024       4096      files\n";
        assert_eq!(open_files_max(limits), Some(1024));
        assert_eq!(virtual_bytes_max("Max address space  4096  unlimited  bytes\n"), Some(4096.0));
        let none = virtual_bytes_max("Max address space  unlimited  unlimited  bytes\n");
        assert!(none.is_some_and(|bytes| bytes > 1e19));
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert_eq!(started_at_seconds(STAT, ""), None);
        assert_eq!(open_files_max("Max open files  unlimited  unlimited"), None);
        let mut page = Page::default();
        ProcessFigures::default().render(&mut page);
        assert_eq!(page.text, "");
    }
}
