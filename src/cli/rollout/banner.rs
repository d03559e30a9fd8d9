//! How a rollout ended, in the words that scripts look for: `CANARY PASSED`, `CANARY FAILED`, `Rollback reason: …`.
//! The form is that of the canary runners that operators know, level words included.

use super::super::figures::percent;
use super::super::screen::{Paint, columns, printable, wrapped};
use super::view::{Standing, View};

/// The rule above and below.
const RULE: &str = "============================================================";

/// The banner for who reads it now: on a terminal within its width, elsewhere a line for each thing, for scripts.
pub(in crate::cli) fn shown(view: &View, standing: Standing) -> String {
    wrapped(&render(view, standing, Paint::stdout()), columns())
}

/// The banner of a rollout that stands like this.
pub(in crate::cli) fn render(view: &View, standing: Standing, paint: Paint) -> String {
    let why = Some(view.why()).filter(|why| !why.is_empty());
    let line = |level: &str, text: &str| format!("[{level}] {text}\n");
    let word = |level: &str, text: &str| line(level, &format!("         {text}"));
    match standing {
        Standing::Passed => {
            let body = line("INFO", RULE) + &word("INFO", "CANARY PASSED") + &line("INFO", RULE);
            paint.green(body.trim_end()) + "\n"
        }
        Standing::Failed => {
            let head = paint.red((line("ERROR", RULE) + &word("ERROR", "CANARY FAILED")).trim_end()) + "\n";
            let why = why.unwrap_or_else(|| "no reason was given".into());
            let word_of_reason = if view.never_began() { "It did not begin" } else { "Rollback reason" };
            head + &paint.yellow(word("WARN", &format!("{word_of_reason}: {why}")).trim_end())
                + "\n"
                + &line("INFO", RULE)
        }
        Standing::Inconclusive => {
            let head = paint.yellow((line("WARN", RULE) + &word("WARN", "CANARY INCONCLUSIVE")).trim_end()) + "\n";
            let at = format!("{} at {}", view.state.replace('_', " "), percent(view.current_percentage));
            let bound = view.bound.filter(|bound| bound.is_finite());
            let bound = bound.map(|bound| format!("; {}", super::picture::excludes(bound))).unwrap_or_default();
            let why = why.map(|why| word("WARN", &why)).unwrap_or_default();
            head + &word("WARN", &printable(&format!("{at}{bound}"))) + &why + &line("INFO", RULE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banners_are_as_scripts_expect_them() {
        let view = View { because: "golden_mismatch increased: 0 -> 1".into(), ..View::default() };
        assert_eq!(
            render(&view, Standing::Failed, Paint::plain()),
            format!(
                "[ERROR] {RULE}\n[ERROR]          CANARY FAILED\n\
                 [WARN]          Rollback reason: golden_mismatch increased: 0 -> 1\n[INFO] {RULE}\n"
            )
        );
        assert_eq!(
            render(&view, Standing::Passed, Paint::plain()),
            format!("[INFO] {RULE}\n[INFO]          CANARY PASSED\n[INFO] {RULE}\n")
        );
        let view = View { state: "rolling_out".into(), current_percentage: 5.0, bound: Some(2.4), ..view };
        let text = render(&view, Standing::Inconclusive, Paint::plain());
        assert!(
            text.contains("CANARY INCONCLUSIVE") && text.contains("rolling out at 5 %; excludes 2.4× or more"),
            "{text}"
        );
    }
}
