//! Numbers and addresses as text, appended without the machinery of `fmt`, which costs more than the rest of a head.

use std::io::Write;
use std::net::IpAddr;

/// Appends `n` in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(decimal(n, &mut [0; 20]));
}

/// `n` in decimal.
pub(crate) fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    &digits[at..]
}

/// Appends `n` in hexadecimal.
pub(crate) fn push_hexadecimal(out: &mut Vec<u8>, mut n: usize) {
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[n % 16];
        n /= 16;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an address as it stands in header fields.
pub(crate) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let IpAddr::V4(ip) = ip else {
        let _ = write!(out, "{ip}");
        return;
    };
    let [first, rest @ ..] = ip.octets();
    push_octet(out, first);
    for octet in rest {
        out.push(b'.');
        push_octet(out, octet);
    }
}

fn push_octet(out: &mut Vec<u8>, octet: u8) {
    if octet >= 100 {
        out.push(b'0' + octet / 100);
    }
    if octet >= 10 {
        out.push(b'0' + octet / 10 % 10);
    }
    out.push(b'0' + octet % 10);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_read_as_the_standard_library_writes_them(n: u64, small in 0_u64..200, ip: IpAddr) {
            prop_assert_eq!(text(|out| push_decimal(out, n)), n.to_string());
            prop_assert_eq!(text(|out| push_decimal(out, small)), small.to_string());
            prop_assert_eq!(text(|out| push_hexadecimal(out, n as usize)), format!("{:x}", n as usize));
            prop_assert_eq!(text(|out| push_hexadecimal(out, small as usize)), format!("{small:x}"));
            prop_assert_eq!(text(|out| push_ip(out, ip)), ip.to_string());
        }
    }
}
