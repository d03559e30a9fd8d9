//! The files: whether they hold, whether strangers could command weir, and who else reads its secrets.

use std::path::Path;

use super::finding::{Finding, Severity};
use crate::cli::check;
use crate::config::{Config, WeightsFile, read_weights};

/// What the files are.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Whether they hold.
    pub(super) ok: bool,
    pub(super) config: Option<Config>,
    pub(super) weights: Option<WeightsFile>,
    pub(super) findings: Vec<Finding>,
}

/// Reads everything that `weir check` reads.
pub(super) fn look(path: &Path, token_file: Option<&Path>) -> Files {
    let (report, _) = check::examine(path, token_file);
    let problems = report.problems.iter().map(|problem| Finding::of_problem(Severity::Error, problem));
    let mut findings: Vec<Finding> = problems.map(|finding| finding.next("weir check")).collect();
    findings.extend(report.notes.iter().map(|problem| Finding::of_problem(Severity::Warning, problem)));
    let config = Config::load_with(path, token_file).ok();
    let weights = config.as_ref().and_then(|config| read_weights(&config.weights_path, &config.plan).ok());
    if let Some(config) = config.as_ref().filter(|config| open_admin(config)) {
        let found = format!("the admin API at {} speaks plain HTTP to other machines", config.admin.address);
        let right = "address = \"127.0.0.1:9901\", or [admin.tls]; [policy] require_admin_tls keeps it so";
        findings.push(Severity::Warning.of(format!("{}: [admin]", path.display()), found).right(right));
    }
    Files { ok: report.ok, config, weights, findings }
}

/// Whether tokens travel in the clear between machines.
fn open_admin(config: &Config) -> bool {
    !config.admin.address.ip().to_canonical().is_loopback() && config.admin.tls.is_none()
}
