//! Integers of RFC 7541 §5.1: in the low bits of an octet if they fit, else in octets of seven bits after it.

use super::Malformed;

/// Octets after the first. With four an integer is below 2^28 + 2^7, more than any block that is taken holds; the RFC
/// has each side choose.
const OCTETS_MAX: usize = 4;

/// Reads one whose first octet keeps `prefix` bits for it (1 to 7), and moves `block` behind it.
#[inline]
pub(super) fn read(block: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let [first, rest @ ..] = *block else { return Err(Malformed::Truncated) };
    let most = (1 << prefix) - 1;
    let value = usize::from(first & most);
    *block = rest;
    if value < usize::from(most) { Ok(value) } else { read_on(block, value) }
}

/// Reads the octets after the first, which add to `value`.
fn read_on(block: &mut &[u8], mut value: usize) -> Result<usize, Malformed> {
    for at in 0..OCTETS_MAX {
        let [octet, rest @ ..] = *block else { return Err(Malformed::Truncated) };
        *block = rest;
        value += usize::from(octet & 0x7f) << (7 * at);
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed::Integer)
}

/// Appends one; `pattern` is what the first octet holds above its `prefix` bits.
#[inline]
pub(super) fn write(value: usize, prefix: u32, pattern: u8, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut left = value - most;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: usize, prefix: u32, pattern: u8) -> Vec<u8> {
        let mut out = Vec::new();
        write(value, prefix, pattern, &mut out);
        out
    }

    /// RFC 7541 Appendix C.1.
    #[test]
    fn the_examples_of_the_appendix_come_out() {
        for (value, prefix, octets) in [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])] {
            assert_eq!(written(value, prefix, 0), octets);
            if prefix < 8 {
                assert_eq!(read(&mut &octets[..], prefix), Ok(value));
            }
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_refused() {
        assert_eq!(read(&mut &[][..], 7), Err(Malformed::Truncated));
        assert_eq!(read(&mut &[0x7f][..], 7), Err(Malformed::Truncated));
        assert_eq!(read(&mut &[0x7f, 0xff, 0xff, 0xff][..], 7), Err(Malformed::Truncated));
        assert_eq!(read(&mut &[0x7f, 0xff, 0xff, 0xff, 0x7f][..], 7), Ok(0x7f + (1 << 28) - 1));
        assert_eq!(read(&mut &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x00][..], 7), Err(Malformed::Integer));
        assert_eq!(read(&mut &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00][..], 7), Err(Malformed::Integer));
        assert_eq!(read(&mut &[0x7f; 1][..], 7), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0_usize..1 << 28, short in 0_usize..300, prefix in 4_u32..=7) {
            for value in [value, short] {
                let octets = [written(value, prefix, 0x80), vec![9]].concat();
                let mut rest = &octets[..];
                prop_assert_eq!(read(&mut rest, prefix), Ok(value));
                prop_assert_eq!(rest, [9]);
            }
        }
    }
}
