//! What a refusal of the admin API means, in words: what, why, every single problem, and what to do.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::Value;

use super::screen::printable;

/// What a 401 means: no token was sent, or another than weir takes.
pub(super) fn unauthorized(token_file: Option<&std::path::Path>) -> String {
    match token_file {
        None => "this weir takes commands only with a token\n  name the file that holds it with --token-file or \
                 WEIR_ADMIN_TOKEN_FILE"
            .into(),
        Some(file) => format!(
            "weir does not take the token in {}\n  it was changed since weir started, or is of another weir; name \
             another with --token-file or WEIR_ADMIN_TOKEN_FILE",
            file.display()
        ),
    }
}

/// Whether the refusal is that a service is killed: nobody was first, and there is nothing to look at.
fn killed(document: &Value) -> bool {
    document["code"] == "conflict" && document["killed"].is_string()
}

/// Whether a text says, but for one word, what a title says: both together would say it twice.
fn says(text: &str, title: &str) -> bool {
    let (text, title) = (text.to_lowercase(), title.to_lowercase());
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let missing = title.split_whitespace().filter(|word| !words.contains(word)).count();
    title.split_whitespace().count() > 2 && missing <= 1
}

/// A problem document in words: what, why, every single problem, and what to do.
pub(super) fn words(status: StatusCode, document: &Value) -> String {
    // The title would only say the same once more.
    let alone = matches!(document["code"].as_str(), Some("unknown_service" | "unknown_plan" | "rollout_running"))
        || killed(document);
    if alone && document["detail"].is_string() {
        return document["detail"].as_str().map(printable).unwrap_or_default();
    }
    let member = |key: &str| document[key].as_str().map(printable).unwrap_or_default();
    let (title, detail) = (member("title"), member("detail"));
    let title = if says(&detail, &title) { String::new() } else { title };
    let listed = document["problems"].as_array().is_some_and(|problems| !problems.is_empty());
    // With a list of problems the detail only repeats it.
    let detail = if listed { detail.lines().next().unwrap_or_default().to_owned() } else { detail };
    let detail = if listed && !title.is_empty() { String::new() } else { detail };
    let mut text = match (title.is_empty(), detail.is_empty()) {
        (true, true) => format!("weir answered {status}"),
        (false, true) => lower_first(&title),
        (true, false) => detail,
        (false, false) => format!("{}: {detail}", lower_first(&title)),
    };
    for problem in document["problems"].as_array().into_iter().flatten() {
        let line = problem.as_str().map_or_else(|| placed(problem), printable);
        let _ = write!(text, "\n  {line}");
    }
    if let Some(cause) = document["cause"].as_str() {
        let _ = write!(text, ": {}", printable(cause));
    }
    if document["code"] == "conflict" {
        text += "\n  look with `weir status` and decide anew";
    }
    text
}

/// `file:line:column: what was found; what would be right` of a problem object.
fn placed(problem: &Value) -> String {
    let member = |key: &str| problem[key].as_str().map(printable).unwrap_or_default();
    let line = problem["line"].as_u64().filter(|line| *line > 0);
    let place = line.map(|line| format!(":{line}:{}", problem["column"].as_u64().unwrap_or(1))).unwrap_or_default();
    let help = Some(member("help")).filter(|help| !help.is_empty()).map(|help| format!("; {help}")).unwrap_or_default();
    format!("{}{place}: {}{help}", member("file"), member("message"))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_token_and_a_wrong_one_are_told_apart() {
        assert!(unauthorized(None).starts_with("this weir takes commands only with a token\n"));
        let wrong = unauthorized(Some(std::path::Path::new("/run/token")));
        assert!(wrong.starts_with("weir does not take the token in /run/token\n"), "{wrong}");
    }

    #[test]
    fn a_refusal_is_told_with_every_problem_and_what_to_do() {
        let document = json!({
            "title": "Somebody else was first", "code": "conflict", "detail": "the generation is 9 now, not 7",
        });
        assert_eq!(
            words(StatusCode::CONFLICT, &document),
            "somebody else was first: the generation is 9 now, not 7\n  look with `weir status` and decide anew"
        );
        let document = json!({ "title": "weir runs in safe mode", "detail": "weir runs in safe mode, all to stable" });
        assert_eq!(words(StatusCode::CONFLICT, &document), "weir runs in safe mode, all to stable");
        let document = json!({ "title": "There is no such kill switch", "detail": "there is no kill switch \"x\"" });
        assert_eq!(words(StatusCode::NOT_FOUND, &document), "there is no kill switch \"x\"");
        let document = json!({ "title": "The files do not hold", "problems": [
            { "file": "weights.toml", "line": 3, "column": 1, "message": "no pool \"canray\"", "help": "write canary" },
            "another\u{1b}[31m",
        ]});
        assert_eq!(
            words(StatusCode::UNPROCESSABLE_ENTITY, &document),
            "the files do not hold\n  weights.toml:3:1: no pool \"canray\"; write canary\n  another\u{fffd}[31m"
        );
    }
}
