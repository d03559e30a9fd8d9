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
    Files { ok: report.ok, config, weights, findings }
}
