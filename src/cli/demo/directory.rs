//! The files of the demo: the configuration and the weights, with comments that say what may be tried.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;

/// First line of a configuration that the demo may write again.
const MARK: &str = "# Written by `weir demo`";

/// The text of weights.toml.
const WEIGHTS: &str = "\
# Who gets what: change the numbers, save, and the next request goes by them.
# They are relative (90 and 10, 9 and 1 are the same); 0 means no new request.
# \"10%\" works too, then all must be percents.
# Try 0 and 100, or a mistake such as canray = 5: nothing changes, and the demo says what is wrong.

[engine]
stable = 90
canary = 10
";

/// Where the files are; removed at the end when nobody named it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: bool,
}

// === impl Directory ===

impl Directory {
    /// Writes the files into `named`, or into a new directory that only this user can read.
    pub(super) fn new(
        named: Option<&Path>,
        public: SocketAddr,
        admin: SocketAddr,
        upstreams: &[SocketAddr; 2],
    ) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("weir-demo-{}", std::process::id())),
        };
        let cannot = |what: &Path, error: io::Error| {
            Failure::Failed(anyhow::Error::new(error).context(format!("cannot write {}", what.display())))
        };
        // A directory that is there already is fine only when it was named: the name of the other one can be guessed.
        let made = fs::DirBuilder::new().recursive(named.is_some()).mode(0o700).create(&path);
        made.map_err(|error| cannot(&path, error))?;
        let path = path.canonicalize().map_err(|error| cannot(&path, error))?;
        let directory = Self { path, temporary: named.is_none() };
        let config = directory.config();
        if fs::read_to_string(&config).is_ok_and(|text| !text.starts_with(MARK)) {
            let why = "was not written by the demo; name another directory with --dir";
            return Err(Failure::failed(format!("{} {why}", config.display())));
        }
        fs::write(&config, text(public, admin, upstreams)).map_err(|error| cannot(&config, error))?;
        let weights = directory.weights();
        if !weights.exists() {
            fs::write(&weights, WEIGHTS).map_err(|error| cannot(&weights, error))?;
        }
        Ok(directory)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path.join("weir.toml")
    }

    /// Writes the plan of a rollout, beside the configuration where plans are.
    pub(super) fn plan(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let file = self.path.join("rollouts").join(format!("{name}.toml"));
        let written = fs::create_dir_all(self.path.join("rollouts")).and_then(|()| fs::write(&file, text));
        written.map_err(|error| {
            Failure::Failed(anyhow::Error::new(error).context(format!("cannot write {}", file.display())))
        })?;
        Ok(file)
    }

    pub(super) fn weights(&self) -> PathBuf {
        self.path.join("weights.toml")
    }

    /// The log of weir.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("weir.log")
    }

    /// Where weir tells that it listens.
    pub(super) fn ports(&self) -> PathBuf {
        self.path.join(".ports.json")
    }

    /// The directory, when it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        (!self.temporary).then_some(self.path.as_path())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is left for the system's own cleaning of temporary files.
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The text of weir.toml.
fn text(public: SocketAddr, admin: SocketAddr, [stable, canary]: &[SocketAddr; 2]) -> String {
    format!(
        "{MARK}; it is written again at the next start.\n\
         # Everything below is hot except the addresses of [listeners] and [admin]: save, and it is live.\n\n\
         weights = \"weights.toml\"        # beside this file; the file to edit\n\n\
         [listeners.public]\n\
         address = \"{public}\"\n\n\
         [admin]\n\
         address = \"{admin}\"\n\n\
         [services.engine]\n\
         direct_paths = true             # http://{public}/canary/ always reaches the canary, prefix stripped\n\n\
         [services.engine.pools.stable]\n\
         endpoints = [\"http://{stable}\"]\n\n\
         [services.engine.pools.canary]\n\
         endpoints = [\"http://{canary}\"]\n\n\
         [services.engine.health]\n\
         path = \"/healthz\"\n\
         interval = \"2s\"\n\n\
         # Take the # away and save: from then on every client stays with the pool it was drawn to.\n\
         # [services.engine.affinity]\n\
         # by = \"cookie\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, WeightsFile};

    #[test]
    fn the_files_of_the_demo_hold_with_and_without_affinity() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = text(address(8080), address(9901), &[address(1001), address(1002)]);
        for text in [text.clone(), text.replace("# [services", "[services").replace("# by", "by")] {
            let config = Config::parse(&text, "weir.toml", &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
            let weights = WeightsFile::parse(WEIGHTS, "weights.toml", &config.plan);
            assert_eq!(weights.unwrap_or_else(|problems| panic!("{problems}")).notes, []);
        }
    }
}
