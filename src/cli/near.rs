//! Names that were mistyped: what they may have meant. Used where a verb can say it better than an error would.

use serde_json::Value;

use super::client::{Client, Question};

/// How alike two names must be to be suggested: one or two letters of a short name.
const ALIKE: f64 = 0.75;

/// Most names that are listed when none is alike.
const LISTED: usize = 8;

/// `; did you mean "engine"?`, or the names there are, or nothing.
pub(super) fn advice(name: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(name, known) {
        return format!("; did you mean \"{nearest}\"?");
    }
    match known {
        [] => String::new(),
        known if known.len() > LISTED => format!("; there are {}, …", known[..LISTED].join(", ")),
        [one] => format!("; there is {one}"),
        known => format!("; there are {}", known.join(", ")),
    }
}

/// The name that is most alike, when one is alike at all.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let alike = |other: &&'n str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let best = known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= ALIKE).then_some(best)
}

/// The names of the services that a running weir has; none when it cannot be asked.
pub(super) fn services(client: &Client) -> Vec<String> {
    let status = client.ask(Question::get("/api/v1/status")).unwrap_or_default();
    names(&status["services"])
}

/// The names of a list of objects.
pub(super) fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_gets_the_nearest_one() {
        assert_eq!(advice("canray", &["stable", "canary"]), "; did you mean \"canary\"?");
        assert_eq!(advice("engin", &["shop", "engine"]), "; did you mean \"engine\"?");
        assert_eq!(advice("xyz", &["stable", "canary"]), "; there are stable, canary");
        assert_eq!(advice("xyz", &[]), "");
    }
}
