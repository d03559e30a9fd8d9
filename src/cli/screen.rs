//! Writing to people: colours where a terminal wants them, and readers that go away.
//!
//! Colours follow `NO_COLOR` (<https://no-color.org>) and are left out when the output is no terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::failure::Failure;

/// Puts colour on text, or leaves it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

// === impl Paint ===

impl Paint {
    /// For stdout.
    pub(super) fn stdout() -> Self {
        Self(wanted() && io::stdout().is_terminal())
    }

    /// For stderr.
    fn stderr() -> Self {
        Self(wanted() && io::stderr().is_terminal())
    }

    /// Never.
    pub(super) fn never() -> Self {
        Self(false)
    }

    /// Never.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self::never()
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.sgr("1;31", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.sgr("33", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.sgr("32", text)
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether stdout is a terminal, so that a line may be rewritten in place.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns and rows of the terminal; none when stdout is no terminal.
pub(super) fn size() -> Option<(usize, usize)> {
    // SAFETY: a zeroed winsize is a valid one.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: ioctl writes a winsize to where one is; stdout may be no terminal, then it fails and writes nothing.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// Columns of the terminal; without one, more than any line has.
pub(super) fn columns() -> usize {
    size().map_or(usize::MAX, |(columns, _)| columns)
}

/// The text with its long lines broken between words, what follows further in. Colours take no column; a word that is
/// longer than a line stays whole.
pub(super) fn wrapped(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        if breadth(line) <= columns {
            out.push_str(line);
        } else {
            broken(line, columns, &mut out);
        }
        out.push_str(end);
    }
    out
}

/// Breaks one line.
fn broken(line: &str, columns: usize, out: &mut String) {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let further = " ".repeat((indent + 4).min(columns / 2));
    let mut at = 0;
    for word in line.split_inclusive(' ') {
        let long = breadth(word);
        if at + breadth(word.trim_end()) > columns && at > further.len() {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&further);
            at = further.len();
        }
        out.push_str(word);
        at += long;
    }
    out.truncate(out.trim_end_matches(' ').len());
}

/// Columns that a text takes: its characters without the sequences that colour it.
fn breadth(text: &str) -> usize {
    let (mut columns, mut escape) = (0, false);
    for c in text.chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            _ if escape => {}
            _ => columns += 1,
        }
    }
    columns
}

/// What draws `text` over what was there: home, each line erased to its end, then everything below; no flicker. Lines
/// are not wrapped and rows beyond the last are left out, because either would scroll the first ones away.
pub(super) fn frame(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().take(rows.saturating_sub(1)).collect();
    format!("\x1b[?7l\x1b[H{}\x1b[K\n\x1b[J\x1b[?7h", lines.join("\x1b[K\n"))
}

/// The terminal's other screen, for a picture that is drawn over itself: what was on the terminal before comes back
/// when it is dropped, however the verb ends.
#[derive(Debug)]
pub(super) struct Canvas(());

impl Canvas {
    /// Takes the other screen and hides the cursor.
    pub(super) fn open() -> Self {
        let _ = print("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self(())
    }

    /// Draws over what was there.
    pub(super) fn draw(&self, text: &str, rows: usize) -> Result<(), Failure> {
        print(&frame(text, rows))
    }

    /// Gives the terminal back.
    pub(super) fn close(self) {}
}

impl Drop for Canvas {
    fn drop(&mut self) {
        let _ = print("\x1b[?25h\x1b[?1049l");
    }
}

/// Writes to stdout, as it is. A reader that went away ends the verb well: it saw what it wanted.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Said(0),
        _ => Failure::Failed(anyhow::Error::new(error).context("cannot write to stdout")),
    })
}

/// Writes a document as indented JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)?;
    print(&format!("{text}\n"))
}

/// Writes an error to stderr. Nothing can be done when that fails too.
pub(super) fn complain(text: &str) {
    let word = Paint::stderr().red("error:");
    let _ = writeln!(io::stderr().lock(), "{word} {text}");
}

/// Writes something worth knowing to stderr.
pub(super) fn note(text: &str) {
    let word = Paint::stderr().yellow("note:");
    let _ = writeln!(io::stderr().lock(), "{word} {text}");
}

/// Writes to stderr what nobody may overlook.
pub(super) fn alarm(text: &str) {
    let word = Paint::stderr().red("WARNING:");
    let _ = writeln!(io::stderr().lock(), "{word} {text}");
}

/// Text from a foreign source, made safe for a terminal: control characters cannot move the cursor or change colours.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words_and_colours_take_no_column() {
        let text = "  one two three four\nshort\n";
        assert_eq!(wrapped(text, 80), text);
        assert_eq!(wrapped(text, 14), "  one two\n      three\n      four\nshort\n");
        assert_eq!(wrapped("\x1b[31mone two\x1b[0m\n", 7), "\x1b[31mone two\x1b[0m\n");
        assert_eq!(wrapped("\x1b[31mone two\x1b[0m\n", 5), "\x1b[31mone\n  two\x1b[0m\n");
        assert_eq!(wrapped("wordlongerthanaline x", 8), "wordlongerthanaline\n    x");
        assert_eq!(wrapped(text, usize::MAX), text);
    }

    #[test]
    fn a_frame_never_scrolls_its_first_line_away() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!(frame(&text, 24).matches('\n').count(), 23);
        assert!(frame(&text, 24).starts_with("\x1b[?7l\x1b[H0\x1b[K\n1"));
    }
}
