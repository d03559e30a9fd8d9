//! The `process_*` metrics, read from `/proc/self`. On a system without it they are left out.

use super::names;
use super::text::Text;

/// What the process uses now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu_s: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Soft limit of file descriptors.
    pub max_fds: u64,
    /// Unix time at which it began, seconds.
    pub started_s: f64,
}

// === impl Usage ===

impl Usage {
    /// Reads `/proc`; none where that fails.
    pub fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Fields are counted from behind the command, which may hold blanks and parentheses (proc(5)).
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks_per_s = system(libc::_SC_CLK_TCK)? as f64;
        let booted_s = std::fs::read_to_string("/proc/stat").ok()?;
        let booted_s: f64 = booted_s.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        Some(Self {
            cpu_s: (field(11)? + field(12)?) as f64 / ticks_per_s,
            resident_bytes: field(21)? * system(libc::_SC_PAGESIZE)?,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_fds: files.split_ascii_whitespace().next()?.parse().unwrap_or(u64::MAX),
            started_s: booted_s + field(19)? as f64 / ticks_per_s,
        })
    }

    /// Writes the families.
    pub fn render(&self, text: &mut Text) {
        text.family(&names::PROCESS_CPU).ratio(&names::PROCESS_CPU, &[], self.cpu_s);
        text.family(&names::PROCESS_MEMORY).count(&names::PROCESS_MEMORY, &[], self.resident_bytes);
        text.family(&names::PROCESS_OPEN_FDS).count(&names::PROCESS_OPEN_FDS, &[], self.open_fds);
        text.family(&names::PROCESS_MAX_FDS).count(&names::PROCESS_MAX_FDS, &[], self.max_fds);
        text.family(&names::PROCESS_START_TIME).ratio(&names::PROCESS_START_TIME, &[], self.started_s);
    }
}

fn system(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|&value| value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_uses_something() {
        let usage = Usage::now().expect("/proc is there on Linux");
        assert!(usage.resident_bytes > 100_000 && usage.open_fds >= 3 && usage.max_fds >= usage.open_fds);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - usage.started_s) > -2.0 && (now - usage.started_s) < 3_600.0 * 24.0, "{usage:?}");
    }
}
