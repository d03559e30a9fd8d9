//! `[rollouts]` and `[[tokens]]`: the engine of the rollouts, and who may do what over the API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::cursor::{Fields, shorten};
use crate::config::{EngineSpec, TokenRole, TokenSpec};
use crate::model::rollout::Share;

/// The variable that switches rollouts on or off; it wins over the file.
pub(in crate::config) const ENABLED_ENV: &str = "WEIR_ROLLOUTS_ENABLED";

/// Most tokens; more people than ever look after one proxy.
const TOKENS_MAX: usize = 100;

pub(super) fn engine(fields: &Fields<'_>, weights: &Path, dir: &Path) -> EngineSpec {
    let said = fields.flag("enabled").unwrap_or(true);
    let enabled = match fields.sink.env(ENABLED_ENV).filter(|text| !text.trim().is_empty()) {
        None => said,
        Some(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                let found = format!("{ENABLED_ENV} is \"{}\"", shorten(&text));
                fields.sink.outside("environment", found, "write true or false");
                said
            }
        },
    };
    let beside = || weights.parent().unwrap_or(Path::new("")).join(".weir");
    let state_dir = fields.text("state_dir").filter(|text| !text.value.is_empty() && !text.value.contains('\0'));
    EngineSpec {
        enabled,
        tick: fields.duration("tick").unwrap_or(Duration::from_secs(1)),
        state_dir: state_dir.map_or_else(beside, |text| dir.join(text.value)),
        max_percent: fields.number("max_percent").and_then(Share::from_percent).unwrap_or(Share::ALL),
        max_rollback: fields.duration("max_rollback"),
        retention: fields.duration("retention"),
    }
}

pub(super) fn tokens(root: &Fields<'_>, dir: &Path) -> Vec<TokenSpec> {
    let mut tokens: Vec<TokenSpec> = Vec::new();
    for fields in root.list("tokens", "tokens[]") {
        let (name, file) = (fields.text("name"), fields.text("file"));
        let role = match fields.word("role").map(|word| word.value) {
            Some("viewer") => TokenRole::Viewer,
            Some("operator") => TokenRole::Operator,
            Some("admin") => TokenRole::Admin,
            // What stands there is refused as no role already.
            _ if fields.has("role") => continue,
            _ => {
                let found = format!("{} has no role", fields.path);
                fields.sink.local(fields.span.clone(), &fields.path, found, "add role = \"viewer\"");
                continue;
            }
        };
        let (Some(name), Some(file)) = (name, file) else {
            let found = format!("{} needs a name and a file", fields.path);
            fields.sink.local(fields.span.clone(), &fields.path, found, "add name = \"ann\" and file = \"ann.token\"");
            continue;
        };
        if tokens.iter().any(|other| other.name == name.value) {
            let found = format!("token \"{}\" is named twice", shorten(&name.value));
            fields.refuse(&name, found, "give each its own name");
        }
        let file: PathBuf = dir.join(file.value);
        tokens.push(TokenSpec { name: name.value, role, file });
    }
    if tokens.len() > TOKENS_MAX {
        let found = format!("{} tokens; at most {TOKENS_MAX}", tokens.len());
        root.sink.whole(root.key_span("tokens"), "tokens", found, "take some out");
    }
    tokens
}
