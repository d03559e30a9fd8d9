//! Programs that a plan starts and that are not where it says: noted by `weir rollout check`. They may lie elsewhere on
//! the machine that weir runs on, so they are no problem of the plan.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::model::rollout::{Ask, Gate, RolloutPlan};

/// A sentence for each program that is a path and cannot be started; paths begin in `directory`.
pub(super) fn missing(plan: &RolloutPlan, directory: &Path) -> Vec<String> {
    let gates = plan.gates.iter().chain(plan.phases.iter().flat_map(|phase| &phase.gates));
    let of = |gate: &Gate| {
        let Ask::Command(check) = &gate.ask else { return None };
        let program = check.command.first().filter(|program| program.contains('/'))?;
        let why = why(&directory.join(program))?;
        Some(format!("gate \"{}\" runs {program}, which {why}; relative paths begin beside weir.toml", gate.name))
    };
    let mut found: Vec<String> = gates.filter_map(of).collect();
    found.dedup();
    found
}

/// Why a file cannot be started; none when it can.
fn why(path: &Path) -> Option<&'static str> {
    let Ok(metadata) = std::fs::metadata(path) else { return Some("is not there") };
    match metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        true => None,
        false => Some("is no program: chmod +x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_or_cannot_be_started_is_said() {
        let directory = std::env::temp_dir().join(format!("weir-programs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("it can be made");
        let file = directory.join("smoke.sh");
        assert_eq!(why(&file), Some("is not there"));
        std::fs::write(&file, "#!/bin/sh\n").expect("it can be written");
        assert_eq!(why(&file), Some("is no program: chmod +x"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("it can be changed");
        assert_eq!(why(&file), None);
        assert!(why(&directory).is_some());
        std::fs::remove_dir_all(&directory).expect("it can be taken away");
    }
}
