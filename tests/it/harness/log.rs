//! The lines that the program writes, collected while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::ChildStdout;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Lines of one output stream.
#[derive(Debug)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    unread: Option<ChildStdout>,
}

impl Log {
    /// Reads until the stream ends.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { return };
                sink.lock().expect("nobody panics with it").push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { lines, reader: Some(reader), unread: None }
    }

    /// Keeps the stream open and never reads it.
    pub fn unread(stream: ChildStdout) -> Self {
        Self { lines: Arc::default(), reader: None, unread: Some(stream) }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics with it").clone()
    }

    /// All lines so far, as one text.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// How many lines hold this text.
    pub fn count(&self, needle: &str) -> usize {
        self.lines.lock().expect("nobody panics with it").iter().filter(|line| line.contains(needle)).count()
    }

    /// Waits for the end of the stream.
    pub fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
