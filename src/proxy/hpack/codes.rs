//! The Huffman code of RFC 7541 Appendix B, and the tables to write and read it. The code is canonical: lengths alone
//! say all of it, and everything else here is worked out of them when weir is compiled.

/// Length of each symbol's code, bits; the last is EOS (RFC 7541 Appendix B).
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30, digits
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40, A to O
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50, P to Z
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60, a to o
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70, p to z
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30,
];

/// The symbol that no string may hold.
pub(super) const EOS: u16 = 256;

/// The longest code, bits.
pub(super) const CODE_MAX: u32 = 30;

/// Bits that [`STEPS`] reads at once. Two codes of five and six bits fit, which are digits and most small letters.
/// Measured over an answer of nginx: 4 570 instructions with 11 bits, 4 200 with 12, 4 070 with 13 and twice the table.
pub(super) const STEP: u32 = 12;

/// The code of a symbol and its length, bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code {
    /// Its bits, the last of them lowest.
    pub(super) bits: u32,
    /// How many.
    pub(super) len: u32,
}

/// The code of each byte.
pub(super) static CODES: [Code; 256] = codes();

/// Length of each byte's code, bits: all that is asked of most strings twice.
pub(super) static BITS: [u8; 256] = {
    let (mut bits, mut byte) = ([0; 256], 0);
    while byte < 256 {
        bits[byte] = LENGTHS[byte];
        byte += 1;
    }
    bits
};

/// What the next [`STEP`] bits begin with: one symbol, two, or (none) a part of a longer code.
pub(super) static STEPS: [Step; 1 << STEP] = steps();

/// What stands in `STEP` bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The symbols, of which `count` are meant.
    pub(super) symbols: [u8; 2],
    /// 0, 1 or 2; with the bits that the first takes in the upper four.
    count_and_first: u8,
    /// Bits that all of them take.
    bits: u8,
}

// === impl Step ===

impl Step {
    /// How many symbols; 0: the code is longer than this.
    #[inline]
    pub(super) fn count(self) -> usize {
        usize::from(self.count_and_first & 0xf)
    }

    /// Bits that all of them take.
    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.bits.into()
    }

    /// Bits that the first takes.
    #[inline]
    pub(super) fn first_bits(self) -> u32 {
        (self.count_and_first >> 4).into()
    }
}

/// The codes of one length: those from `first` up to `end` mean the symbols in [`ORDER`] from `at` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) at: u16,
}

/// By length of code, bits.
pub(super) static BY_LENGTH: [Length; CODE_MAX as usize + 1] = by_length();

/// Symbols in the order of their codes.
pub(super) static ORDER: [u16; 257] = order();

const fn by_length() -> [Length; CODE_MAX as usize + 1] {
    let mut lengths = [Length { first: 0, end: 0, at: 0 }; CODE_MAX as usize + 1];
    let (mut code, mut at, mut len) = (0, 0, 1);
    while len < lengths.len() {
        let first = code;
        let (mut symbol, mut count) = (0, 0);
        while symbol < LENGTHS.len() {
            count += (LENGTHS[symbol] as usize == len) as u16;
            symbol += 1;
        }
        code += count as u32;
        lengths[len] = Length { first, end: code, at };
        at += count;
        code <<= 1;
        len += 1;
    }
    lengths
}

const fn order() -> [u16; 257] {
    let mut order = [0; 257];
    let (mut at, mut len) = (0, 1);
    while len <= CODE_MAX as u8 {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == len {
                order[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    order
}

const fn codes() -> [Code; 256] {
    let (lengths, order) = (by_length(), order());
    let mut codes = [Code { bits: 0, len: 0 }; 256];
    let mut len = 1;
    while len < lengths.len() {
        let Length { first, end, at } = lengths[len];
        let mut code = first;
        while code < end {
            let symbol = order[at as usize + (code - first) as usize];
            if symbol != EOS {
                codes[symbol as usize] = Code { bits: code, len: len as u32 };
            }
            code += 1;
        }
        len += 1;
    }
    codes
}

const fn steps() -> [Step; 1 << STEP] {
    let codes = codes();
    let mut steps = [Step { symbols: [0; 2], count_and_first: 0, bits: 0 }; 1 << STEP];
    let mut byte = 0;
    while byte < 256 {
        let Code { bits, len } = codes[byte];
        if len <= STEP {
            let from = (bits as usize) << (STEP - len);
            let mut at = from;
            while at < from + (1 << (STEP - len)) {
                steps[at] = Step { symbols: [byte as u8, 0], count_and_first: (len as u8) << 4 | 1, bits: len as u8 };
                at += 1;
            }
        }
        byte += 1;
    }
    let singles = steps;
    let mut at = 0;
    while at < steps.len() {
        let first = singles[at];
        let second = singles[(at << first.bits) & (steps.len() - 1)];
        if first.bits > 0 && second.bits > 0 && (first.bits + second.bits) as u32 <= STEP {
            steps[at] = Step {
                symbols: [first.symbols[0], second.symbols[0]],
                count_and_first: first.bits << 4 | 2,
                bits: first.bits + second.bits,
            };
        }
        at += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes as RFC 7541 Appendix B prints them.
    #[test]
    fn codes_worked_out_of_their_lengths_are_those_of_the_appendix() {
        let rows = [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b'u', 0x2d, 6),
            (b':', 0x5c, 7),
            (b'z', 0x7b, 7),
            (b'&', 0xf8, 8),
            (b'Z', 0xfd, 8),
            (b'!', 0x3f8, 10),
            (b'?', 0x3fc, 10),
            (b'\'', 0x7fa, 11),
            (b'|', 0x7fc, 11),
            (b'#', 0xffa, 12),
            (0, 0x1ff8, 13),
            (b'~', 0x1ffd, 13),
            (b'^', 0x3ffc, 14),
            (b'<', 0x7ffc, 15),
            (b'\\', 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (1, 0x7fffd8, 23),
            (9, 0xffffea, 24),
            (199, 0x1ffffec, 25),
            (255, 0x3ffffee, 26),
            (203, 0x7ffffde, 27),
            (2, 0xfffffe2, 28),
            (249, 0xffffffe, 28),
            (10, 0x3ffffffc, 30),
            (22, 0x3ffffffe, 30),
        ];
        for (byte, bits, len) in rows {
            let code = CODES[usize::from(byte)];
            assert_eq!((code.bits, code.len), (bits, len), "{byte}");
        }
        let eos = BY_LENGTH[CODE_MAX as usize];
        assert_eq!((eos.end - 1, ORDER[256]), (0x3fff_ffff, EOS));
    }

    #[test]
    fn the_code_is_complete() {
        let taken: u64 = LENGTHS.iter().map(|&len| 1 << (CODE_MAX - u32::from(len))).sum();
        assert_eq!(taken, 1 << CODE_MAX);
    }
}
