//! The command line of the load clients: a command, then `--name value` pairs. It does not know which command needs
//! what.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// A command and its named values.
pub(crate) struct Options {
    pub(crate) command: String,
    values: HashMap<String, String>,
    headers: Vec<String>,
}

impl Options {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Self> {
        let command = words.next().ok_or_else(|| io::Error::other("no command"))?;
        let mut options = Self { command, values: HashMap::new(), headers: Vec::new() };
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| io::Error::other(format!("unexpected word {word}")))?;
            let value = words.next().ok_or_else(|| io::Error::other(format!("--{name} needs a value")))?;
            if name == "header" {
                options.headers.push(value);
            } else {
                options.values.insert(name.to_owned(), value);
            }
        }
        Ok(options)
    }

    /// The value of `--name`, which must be given.
    pub(crate) fn value<T: FromStr>(&self, name: &str) -> io::Result<T> {
        let text = self.text(name)?;
        text.parse().map_err(|_| io::Error::other(format!("--{name} cannot be {text}")))
    }

    /// The text of `--name`, which must be given.
    pub(crate) fn text(&self, name: &str) -> io::Result<&str> {
        self.values.get(name).map(String::as_str).ok_or_else(|| io::Error::other(format!("--{name} is missing")))
    }

    /// `--name` in seconds, fractions allowed.
    pub(crate) fn seconds(&self, name: &str) -> io::Result<Duration> {
        self.value(name).map(Duration::from_secs_f64)
    }

    pub(crate) fn target(&self) -> io::Result<SocketAddr> {
        self.value("target")
    }

    /// The bytes of the one request that is sent again and again.
    pub(crate) fn request(&self) -> io::Result<Vec<u8>> {
        let path = self.values.get("path").map_or("/", String::as_str);
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.target()?);
        for header in &self.headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        Ok(text.into_bytes())
    }
}
