//! The sources as the checks read them.

use std::path::{Path, PathBuf};

/// A source file.
pub(crate) struct Source {
    /// From the root of the repository, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of that extension below a directory, `target` left out.
pub(crate) fn files(below: &str, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root().join(below)]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("the directory is part of the repository") {
            let path = entry.expect("the directory can be read").path();
            match path.is_dir() {
                true if path.ends_with("target") => {}
                true => waiting.push(path),
                false if path.extension().is_some_and(|it| it == extension) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} below {below}");
    found
}

pub(crate) fn sources(below: &[&str]) -> Vec<Source> {
    let paths = below.iter().flat_map(|below| files(below, "rs"));
    let source = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("it lies below the root").display().to_string();
        Source { text: read(&path), path: name }
    };
    paths.map(source).collect()
}

/// Fails with everything that is wrong, one line each.
#[track_caller]
pub(crate) fn nothing(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} to tidy:\n{}\n", wrong.len(), wrong.join("\n"));
}

impl Source {
    /// The room: the folder under `src`, or the name of the file there.
    pub(crate) fn room(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap_or(&self.path);
        rest.split(['/', '.']).next().unwrap_or_default()
    }

    /// How many modules lie between the root of the crate and the items of this file.
    pub(crate) fn depth(&self) -> usize {
        let parts = self.path.trim_start_matches("src/").trim_end_matches(".rs").split('/');
        parts.filter(|part| !matches!(*part, "mod" | "lib" | "main")).count()
    }

    /// Line number and text of everything but comments, up to the tests at the end.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take(self.lines_without_tests()).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    pub(crate) fn lines_without_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_tests =
            |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        lines.windows(2).position(is_tests).unwrap_or(lines.len())
    }

    pub(crate) fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}
