//! The two files as the switchboard knows them: what stood in them when they were last read, and putting weights into
//! the weights file. What a text means is decided in [`crate::config`].

use std::io;
use std::path::{Path, PathBuf};

use super::change::Refused;
use super::history::History;
use super::reconcile::check_pools;
use super::weights::complete;
use super::writer::Mode;
use crate::config::watch::ContentHash;
use crate::config::{self, Config, Problem, Problems, WeightsFile, WriteError};
use crate::model::{Kills, Name, Plan, Scope, ServiceSpec, Weights};

/// Both files, at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) config: Content,
    pub(super) weights: Content,
}

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// There is no such file.
    Missing,
    /// Its text.
    Text(String),
    /// Why it gives none.
    Unreadable(String),
}

/// The paths.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) config: PathBuf,
    pub(super) weights: PathBuf,
    /// The token file that the command line names; what `config` says is read with it.
    pub(super) token_file: Option<PathBuf>,
}

// === impl Files ===

impl Files {
    /// The files that a configuration was read from and names.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            config: config.path.clone(),
            weights: config.weights_path.clone(),
            token_file: config.given_token_file.clone(),
        }
    }

    /// Reads both.
    pub(super) fn look(&self) -> Look {
        Look { config: Content::of(&self.config), weights: Content::of(&self.weights) }
    }

    /// Reads the files that somebody saw another content in. What is another one again by now stays as it was `seen`.
    pub(super) fn look_for(&self, seen: &Look, config: Option<ContentHash>, weights: Option<ContentHash>) -> Look {
        let read = |path: &Path, seen: &Content, hash: Option<ContentHash>| {
            let content = hash.map(|hash| (hash, Content::of(path))).filter(|(hash, content)| content.hash() == *hash);
            content.map_or_else(|| seen.clone(), |(_, content)| content)
        };
        Look { config: read(&self.config, &seen.config, config), weights: read(&self.weights, &seen.weights, weights) }
    }

    /// What the configuration says.
    pub(super) fn parse_config(&self, content: &Content) -> Result<Config, Problems> {
        match content {
            Content::Text(text) => Config::parse_with(text, &self.config, self.token_file.as_deref()),
            Content::Missing => {
                Err(problem(&self.config, "there is no such file", "put it back; what was loaded stays"))
            }
            Content::Unreadable(why) => Err(problem(&self.config, why, "check its permissions")),
        }
    }

    /// What the weights file says. A missing or unfinished one is a problem here; see [`Files::first_weights`].
    pub(super) fn parse_weights(&self, content: &Content, plan: &Plan) -> Result<WeightsFile, Problems> {
        match content {
            Content::Text(text) => WeightsFile::parse(text, &self.weights.display().to_string(), plan),
            Content::Missing => {
                let help = "put it back, or use `weir set`; the last weights stay";
                Err(problem(&self.weights, "the weights file is gone", help))
            }
            Content::Unreadable(why) => Err(problem(&self.weights, why, "check its permissions")),
        }
    }

    /// What the process starts by. A file that does not hold, or is gone, changes nothing over a restart either: every
    /// service goes by the weights that it had last, as far as they fit the plan, else to stable. What brings traffic
    /// to stable counts as far as it can be read. The problems come with it; none where there was nothing before and
    /// nothing is wrong.
    ///
    /// # Errors
    ///
    /// A file that does not hold while nothing is on record that fits: nobody knows what is right. Safe mode needs not.
    pub(super) fn start(
        &self,
        content: &Content,
        plan: &Plan,
        history: &History,
        mode: Mode,
    ) -> Result<(WeightsFile, Option<Problems>), Problems> {
        let own = |spec: &ServiceSpec| history.own(&spec.name).filter(|own| check_pools(spec, own).is_ok());
        let known = plan.services.iter().any(|spec| own(spec).is_some());
        let problems = match self.parse_weights(content, plan) {
            Ok(file) => return Ok((file, None)),
            Err(_) if !known && self.first_weights(content, plan).is_ok() => {
                return Ok((WeightsFile::all_to_stable(plan), None));
            }
            Err(problems) => problems,
        };
        if !known && mode == Mode::Normal {
            let found = "no weights are on record that weir could start by";
            let help = "mend the file, or start with --safe-mode: everything to stable";
            return Err(problems.join(problem(&self.weights, found, help)));
        }
        let mut file = WeightsFile::all_to_stable(plan);
        let (kills, to_stable) = match content {
            Content::Text(text) => WeightsFile::salvage(text, plan),
            Content::Missing | Content::Unreadable(_) => (Kills::default(), Vec::new()),
        };
        file.kills = kills;
        for said in history.said_kills() {
            let scope = said.service.clone().map_or(Scope::System, Scope::Service);
            if file.kills.at(&scope).is_none() {
                file.kills.put(&scope, Some(said.reason.clone()));
            }
        }
        for spec in plan.services.iter().filter(|spec| !to_stable.contains(&spec.name)) {
            if let Some(own) = own(spec).and_then(|own| complete(spec, own.clone()).ok()) {
                file.set(&spec.name, own);
            }
        }
        let by: Vec<String> = file.services.iter().map(|(name, weights)| format!("{name} {weights}")).collect();
        let found = format!("weir was started by what was live before: {}", by.join("; "));
        let more = problem(&self.weights, &found, "mend the file, or save another one");
        Ok((file, Some(problems.join(more))))
    }

    /// What the weights file says to a process that was started without one: all goes to stable.
    pub(super) fn first_weights(&self, content: &Content, plan: &Plan) -> Result<WeightsFile, Problems> {
        let path = self.weights.display();
        match self.parse_weights(content, plan) {
            Err(_) if *content == Content::Missing => {
                tracing::warn!(%path, "there is no weights file: everything goes to stable");
                Ok(WeightsFile::all_to_stable(plan))
            }
            Err(problems) if problems.unfinished() => {
                tracing::warn!(%path, "the weights file holds no weights yet: everything goes to stable");
                Ok(WeightsFile::all_to_stable(plan))
            }
            other => other,
        }
    }

    /// The text of the weights file with other weights for one service. A file that is missing or holds no weights gets
    /// those of every service, so that it says all that is live.
    pub(super) fn edited(
        &self,
        content: &Content,
        service: &Name,
        weights: &Weights,
        live: &[(Name, Weights)],
    ) -> Result<Content, Refused> {
        let (mut text, whole) = match content {
            Content::Text(text) => (text.clone(), config::is_blank(text)),
            Content::Missing => (String::new(), true),
            Content::Unreadable(why) => {
                return Err(Refused::FileBroken(problem(&self.weights, why, "check its permissions")));
            }
        };
        let others = live.iter().filter(|(name, _)| whole && name != service).map(|(name, weights)| (name, weights));
        for (name, weights) in others.chain([(service, weights)]) {
            text = config::edit(&text, name, weights)
                .map_err(|error| Refused::FileBroken(problem(&self.weights, &error.to_string(), "mend it by hand")))?;
        }
        Ok(Content::Text(text))
    }

    /// The text of the weights file with a kill put in (a reason) or taken out (none). `written` is what a service gets
    /// that the file does not name yet.
    pub(super) fn edited_kill(
        &self,
        content: &Content,
        scope: &Scope,
        reason: Option<&str>,
        written: &[(Name, Weights)],
    ) -> Result<Content, Refused> {
        self.with_word(content, scope, written, &|text| config::edit_kill(text, scope, reason))
    }

    /// The same with a maintenance.
    pub(super) fn edited_maintenance(
        &self,
        content: &Content,
        scope: &Scope,
        reason: Option<&str>,
        written: &[(Name, Weights)],
    ) -> Result<Content, Refused> {
        self.with_word(content, scope, written, &|text| config::edit_maintenance(text, scope, reason))
    }

    fn with_word(
        &self,
        content: &Content,
        scope: &Scope,
        written: &[(Name, Weights)],
        edit: &dyn Fn(&str) -> Result<String, config::NotEditable>,
    ) -> Result<Content, Refused> {
        let broken = |why: &str, help: &str| Refused::FileBroken(problem(&self.weights, why, help));
        let (mut text, whole) = match content {
            Content::Text(text) => (text.clone(), config::is_blank(text)),
            Content::Missing => (String::new(), true),
            Content::Unreadable(why) => return Err(broken(why, "check its permissions")),
        };
        let named = |name: &Name| matches!(scope, Scope::Service(service) if service == name);
        for (name, weights) in written.iter().filter(|(name, _)| whole || named(name)) {
            if !config::has_table(&text, name) {
                text = config::edit(&text, name, weights)
                    .map_err(|error| broken(&error.to_string(), "mend it by hand"))?;
            }
        }
        edit(&text).map(Content::Text).map_err(|error| broken(&error.to_string(), "mend it by hand"))
    }

    /// Puts a text on disk.
    pub(super) fn write(&self, content: &Content) -> Result<(), Refused> {
        let Content::Text(text) = content else { return Ok(()) };
        let path = self.weights.display().to_string();
        match config::write_weights(&self.weights, text) {
            Ok(_) => Ok(()),
            Err(source @ WriteError::ReadOnly { .. }) => Err(Refused::ReadOnly { path, source }),
            Err(source) => Err(Refused::Write { path, source }),
        }
    }
}

// === impl Content ===

impl Content {
    pub(super) fn of(path: &Path) -> Self {
        match config::read_text(path) {
            Ok(text) => Content::Text(text),
            Err(config::ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Content::Missing,
            Err(error) => Content::Unreadable(error.to_string()),
        }
    }

    /// As the watcher hashes it: a file that gives no text counts as empty.
    pub(super) fn hash(&self) -> ContentHash {
        match self {
            Content::Text(text) => ContentHash::of(text),
            Content::Missing | Content::Unreadable(_) => ContentHash::of(""),
        }
    }

    /// A short name of the content, the same in every process.
    pub(super) fn fingerprint(&self) -> String {
        format!("{:?}", self.hash())
    }
}

/// A problem of a whole file.
pub(super) fn problem(path: &Path, message: &str, help: &str) -> Problems {
    Problems::one(Problem::without_place(&path.display().to_string(), message.to_owned(), help))
}
