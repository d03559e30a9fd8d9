//! One thing that is not as it should be, as people read it and as data. What is found is for the looks beside this.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::screen::{Paint, printable, wrapped};
use crate::config::Problem;

/// Columns of the screen: what every terminal has.
const COLUMNS: usize = 80;

/// How much it matters; the order is that of what to mend first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Clients get errors, or what the files say is not what is done.
    Error,
    /// Nobody notices yet, or the traffic is not where one may think.
    Warning,
    /// Worth knowing; nothing has to be done.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Where: a file with line and column, or the service, pool or endpoint.
    pub(super) place: String,
    /// What was found.
    pub(super) found: String,
    /// What would be right; may be empty.
    pub(super) right: String,
    /// The command to run next; may be empty.
    pub(super) next: String,
}

// === impl Severity ===

impl Severity {
    /// A finding of this kind.
    pub(super) fn of(self, place: impl Into<String>, found: impl Into<String>) -> Finding {
        let (right, next) = (String::new(), String::new());
        Finding { severity: self, place: place.into(), found: found.into(), right, next }
    }
}

// === impl Finding ===

impl Finding {
    /// A problem of a file.
    pub(super) fn of_problem(severity: Severity, problem: &Problem) -> Self {
        let place = if problem.line == 0 {
            problem.file.clone()
        } else {
            format!("{}:{}:{}", problem.file, problem.line, problem.column)
        };
        severity.of(place, &problem.message).right(&problem.help)
    }

    /// With what would be right.
    pub(super) fn right(self, right: impl Into<String>) -> Self {
        Self { right: right.into(), ..self }
    }

    /// With the command to run next.
    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }
}

/// Everything that was found as a screen of at most 80 columns, in the order in which it is to be mended.
pub(super) fn screen(asked: &str, findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = match finding.severity {
            Severity::Error => paint.red("ERROR"),
            Severity::Warning => paint.yellow("WARNING"),
            Severity::Note => paint.dim("note"),
        };
        let _ = writeln!(text, "{word}  {}", paint.bold(&printable(&finding.place)));
        let _ = writeln!(text, "    {}", printable(&finding.found));
        if !finding.right.is_empty() {
            let _ = writeln!(text, "    right: {}", printable(&finding.right));
        }
        if !finding.next.is_empty() {
            let _ = writeln!(text, "    next:  {}", printable(&finding.next));
        }
        text.push('\n');
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let said = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let verdict = match (errors, warnings) {
        (0, 0) => paint.green("nothing is wrong"),
        (0, _) => paint.yellow(&said(warnings, "warning")),
        (_, 0) => paint.red(&said(errors, "error")),
        _ => paint.red(&format!("{}, {}", said(errors, "error"), said(warnings, "warning"))),
    };
    let _ = writeln!(text, "{verdict}; {}", printable(asked));
    wrapped(&text, COLUMNS)
}
