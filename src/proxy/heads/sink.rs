//! What takes in the fields of a head that weir writes: the lines of HTTP/1 here, those of HTTP/2 in `h2up::request`.
//! What is said is for [`super::outgoing`]; here it is only put in form.

use std::ops::Range;

/// Takes in the fields of a head, one after the other. Names are in lower case.
pub(crate) trait Sink {
    /// A field.
    fn field(&mut self, name: &[u8], value: &[u8]);

    /// A field that stands in `bytes`.
    fn copied(&mut self, bytes: &[u8], name: Range<usize>, value: Range<usize>);

    /// A field whose value is put together: `begins`, and what is appended until [`Sink::end`].
    fn begin(&mut self, begins: &'static Fixed) -> &mut Vec<u8>;

    /// The end of a value that was put together.
    fn end(&mut self);

    /// The same, and a field that is known beforehand.
    fn end_with(&mut self, fixed: &'static Fixed);

    /// A field that is known beforehand.
    fn fixed(&mut self, fixed: &'static Fixed);

    /// Lines that concern a connection of HTTP/1 alone.
    fn of_http1(&mut self, lines: &'static [u8]);
}

/// A field that is known beforehand, or the beginning of one.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) name: &'static [u8],
    pub(crate) value: &'static [u8],
    /// It as a line, behind the end of the one before.
    after: &'static [u8],
}

/// A field that is known beforehand.
macro_rules! fixed {
    ($name:literal, $value:literal) => {
        $crate::proxy::heads::sink::Fixed::new(
            $name.as_bytes(),
            $value.as_bytes(),
            concat!("\r\n", $name, ": ", $value, "\r\n").as_bytes(),
        )
    };
}
pub(crate) use fixed;

// === impl Fixed ===

impl Fixed {
    /// For [`fixed`] alone.
    pub(crate) const fn new(name: &'static [u8], value: &'static [u8], after: &'static [u8]) -> Self {
        Self { name, value, after }
    }
}

/// As lines of HTTP/1.1.
impl Sink for Vec<u8> {
    #[inline(always)]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }

    #[inline(always)]
    fn copied(&mut self, bytes: &[u8], name: Range<usize>, value: Range<usize>) {
        // A line that is in this form already is copied in one piece.
        let whole = bytes.get(name.start..value.end + 2);
        match whole.filter(|line| value.start == name.end + 2 && line.ends_with(b"\r\n")) {
            Some(whole) => self.extend_from_slice(whole),
            None => self.field(&bytes[name], &bytes[value]),
        }
    }

    #[inline(always)]
    fn begin(&mut self, begins: &'static Fixed) -> &mut Vec<u8> {
        self.extend_from_slice(&begins.after[2..begins.after.len() - 2]);
        self
    }

    #[inline(always)]
    fn end(&mut self) {
        self.extend_from_slice(b"\r\n");
    }

    #[inline(always)]
    fn end_with(&mut self, fixed: &'static Fixed) {
        self.extend_from_slice(fixed.after);
    }

    #[inline(always)]
    fn fixed(&mut self, fixed: &'static Fixed) {
        self.extend_from_slice(&fixed.after[2..]);
    }

    #[inline(always)]
    fn of_http1(&mut self, lines: &'static [u8]) {
        self.extend_from_slice(lines);
    }
}
