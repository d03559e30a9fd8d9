//! Strings in the Huffman code (RFC 7541 §5.2): how long one would be, written, read. Which strings are written so is
//! decided by the encoder.

use super::Malformed;
use super::codes::{BITS, BY_LENGTH, CODE_MAX, CODES, EOS, Length, ORDER, STEP, STEPS, Step};

/// The shortest code, bits: no string is longer than its bits over this.
const CODE_MIN: usize = 5;

/// Padding is shorter than this, bits.
const PADDING_END: u32 = 8;

/// Bytes that a string takes in the code.
#[inline]
pub(super) fn coded_len(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(BITS[usize::from(byte)])).sum::<usize>().div_ceil(8)
}

/// Appends a string in the code, padded with ones. `coded` is its [`coded_len`].
pub(super) fn encode(bytes: &[u8], coded: usize, out: &mut Vec<u8>) {
    let end = out.len() + coded;
    out.reserve(coded);
    // Bits that wait for their octets stand lowest in `word`: fewer than 32.
    let (mut word, mut held) = (0_u64, 0);
    for &byte in bytes {
        let code = CODES[usize::from(byte)];
        word = word << code.len | u64::from(code.bits);
        held += code.len;
        if held >= 32 {
            held -= 32;
            out.extend_from_slice(&((word >> held) as u32).to_be_bytes());
        }
    }
    let last = (word << (32 - held)) as u32 | u32::MAX >> held;
    out.extend_from_slice(&last.to_be_bytes()[..end - out.len()]);
}

/// Appends what the first `len` bytes of a block, a string in the code, say. What was appended before an error is of no
/// use. The bytes behind them are not asked; that they are there makes it faster.
pub(super) fn decode(block: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = out.len();
    // Two symbols are written at a time, of which one may not be meant.
    out.resize(start + len * 8 / CODE_MIN + 2, 0);
    let symbols = &mut out[start..];
    let mut count = 0;
    // The next bits stand highest in `word`; `held` of them count, and those below are zeros or the bits that are read
    // into their place later.
    let (mut word, mut held, mut at) = (0_u64, 0_u32, 0);
    loop {
        let taken = ((63 - held) as usize / 8).min(len - at);
        word |= eight(&block[at..]) >> held;
        held += 8 * taken as u32;
        at += taken;
        if at == len {
            break;
        }
        while held >= STEP {
            let step = step(word);
            if step.count() == 0 {
                if held < CODE_MAX {
                    break;
                }
                let (symbol, bits) = long(word);
                symbols[count] = u8::try_from(symbol).map_err(|_| Malformed::Eos)?;
                (count, word, held) = (count + 1, word << bits, held - bits);
            } else {
                symbols[count..count + 2].copy_from_slice(&step.symbols);
                (count, word, held) = (count + step.count(), word << step.bits(), held - step.bits());
            }
        }
    }
    // What is left, with ones behind it.
    loop {
        let padded = word | u64::MAX >> held;
        let step = step(padded);
        if step.count() > 0 && step.bits() <= held {
            symbols[count..count + 2].copy_from_slice(&step.symbols);
            (count, word, held) = (count + step.count(), word << step.bits(), held - step.bits());
            continue;
        }
        if held < PADDING_END && padded == u64::MAX {
            break;
        }
        let (symbol, bits) = if step.count() == 0 { long(padded) } else { (step.symbols[0].into(), step.first_bits()) };
        if bits > held {
            return Err(Malformed::Padding);
        }
        symbols[count] = u8::try_from(symbol).map_err(|_| Malformed::Eos)?;
        (count, word, held) = (count + 1, word << bits, held - bits);
    }
    out.truncate(start + count);
    Ok(())
}

/// The first eight bytes as a number, zeros for those that are not there.
#[inline]
fn eight(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => bytes.iter().zip((0..8).rev()).fold(0, |word, (&byte, at)| word | u64::from(byte) << (8 * at)),
    }
}

#[inline]
fn step(word: u64) -> Step {
    STEPS[(word >> (64 - STEP)) as usize]
}

/// The symbol whose code is longer than a step, and the bits of it.
#[cold]
fn long(word: u64) -> (u16, u32) {
    for bits in STEP + 1..CODE_MAX {
        let Length { first, end, at } = BY_LENGTH[bits as usize];
        let code = (word >> (64 - bits)) as u32;
        if code < end {
            return (ORDER[usize::from(at) + (code - first) as usize], bits);
        }
    }
    let Length { first, at, .. } = BY_LENGTH[CODE_MAX as usize];
    let code = (word >> (64 - CODE_MAX)) as u32;
    (ORDER.get(usize::from(at) + (code - first) as usize).copied().unwrap_or(EOS), CODE_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coded(bytes: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        encode(bytes, coded_len(bytes), &mut out);
        out.split_off(6)
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = b"before".to_vec();
        decode(coded, coded.len(), &mut out)?;
        // The same in the middle of a block.
        for behind in [[0; 9], [0xff; 9]] {
            let mut again = b"before".to_vec();
            decode(&[coded, &behind].concat(), coded.len(), &mut again)?;
            assert_eq!(again, out);
        }
        Ok(out.split_off(6))
    }

    /// Bit by bit, by the codes alone.
    fn reference(coded: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut code, mut len) = (Vec::new(), 0_u32, 0);
        for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
            (code, len) = (code << 1 | u32::from(bit), len + 1);
            if len > CODE_MAX {
                return None;
            }
            if let Some(byte) = (0..256).find(|&byte| (CODES[byte].bits, CODES[byte].len) == (code, len)) {
                out.push(byte as u8);
                (code, len) = (0, 0);
            }
        }
        (len < 8 && code == (1 << len) - 1).then_some(out)
    }

    #[test]
    fn every_byte_comes_back_wherever_it_stands() {
        for byte in 0..=255 {
            for (before, after) in (0..20).flat_map(|before| (0..20).map(move |after| (before, after))) {
                let text = [&b"0a&z!"[..].repeat(4)[..before], &[byte], &b"o~1"[..].repeat(7)[..after]].concat();
                assert_eq!(decoded(&coded(&text)).as_deref(), Ok(&text[..]), "{byte} at {before}");
            }
        }
    }

    #[test]
    fn a_string_may_be_empty() {
        assert_eq!((coded(b""), decoded(b"")), (vec![], Ok(vec![])));
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        let rows: [(&[u8], Malformed); 8] = [
            (&[0b0000_0110], Malformed::Padding),
            (&[0b0000_0000], Malformed::Padding),
            (&[0xff], Malformed::Padding),
            (&[0b0000_0111, 0xff], Malformed::Padding),
            (&[0xff; 3], Malformed::Padding),
            (&[0xff; 4], Malformed::Eos),
            (&[0xff; 40], Malformed::Eos),
            // '0', EOS, then the padding.
            (&[0b0000_0111, 0xff, 0xff, 0xff, 0b1110_0000], Malformed::Eos),
        ];
        for (coded, error) in rows {
            assert_eq!(decoded(coded), Err(error), "{coded:02x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let coded = coded(&text);
            prop_assert_eq!(coded.len(), coded_len(&text));
            prop_assert_eq!(decoded(&coded), Ok(text));
        }

        #[test]
        fn any_bytes_are_what_a_reader_of_bits_finds(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(decoded(&bytes).ok(), reference(&bytes));
        }

        #[test]
        fn long_codes_are_what_a_reader_of_bits_finds(
            bytes in prop::collection::vec(prop::sample::select(vec![0xff, 0xfe, 0xef, 0xfc, 0x7f, 0x00]), 0..60)
        ) {
            prop_assert_eq!(decoded(&bytes).ok(), reference(&bytes));
        }
    }
}
