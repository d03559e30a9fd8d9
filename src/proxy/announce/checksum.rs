//! CRC-32C (Castagnoli), as a header of the PROXY protocol may carry it (RFC 3720 §12.1). Pure; a few bytes for each
//! connection, so a bit at a time is enough.

/// The polynomial 0x1EDC6F41, its bits turned round.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of all these bytes.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_the_examples_of_rfc_3720() {
        // RFC 3720 §B.4 prints them byte by byte, the least significant first.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        assert_eq!(crc32c((0..32).rev()), 0x113f_db5c);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }
}
