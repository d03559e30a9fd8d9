//! Who holds a service: a process on a host, told from a later one with the same number.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the host.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// The boot of the host and the start of the process: two processes never share both.
    pub born: String,
}

// === impl Holder ===

impl Holder {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        let host = read("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".into());
        Self { host, pid, born: born(pid).unwrap_or_default() }
    }

    /// Whether that process still lives, as far as can be seen from here: another host's is taken to live.
    pub fn lives(&self) -> bool {
        let own = Self::own();
        self.host != own.host || born(self.pid).is_some_and(|born| born == self.born)
    }
}

/// Boot id and start time (field 22 of `/proc/PID/stat`, counted after the name, which may hold blanks).
fn born(pid: u32) -> Option<String> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned();
    Some(format!("{} {started}", read("/proc/sys/kernel/random/boot_id")?))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_was_born_at_another_time_does_not() {
        let own = Holder::own();
        assert!(own.lives() && !own.born.is_empty());
        assert!(!Holder { born: "another boot".into(), ..own.clone() }.lives());
        assert!(!Holder { pid: u32::MAX, ..own.clone() }.lives());
        assert!(Holder { host: "elsewhere".into(), pid: u32::MAX, ..own }.lives());
    }
}
