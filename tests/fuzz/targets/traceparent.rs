//! A `traceparent` that is read says exactly what stands in it, whatever the version; anything else is none.

use weir::proxy::heads::trace::{TRACEPARENT_BYTES, TraceParent};

/// Takes the input for a field's value.
pub(crate) fn check(bytes: &[u8]) {
    let Some(TraceParent { trace_id, parent_id, sampled }) = TraceParent::parse(bytes) else { return };
    let text = std::str::from_utf8(&bytes[..TRACEPARENT_BYTES]).expect("all of it is ASCII");
    let mut parts = text.split('-');
    let version = parts.next().expect("a version");
    assert_eq!(parts.next().map(str::as_bytes), Some(&trace_id[..]));
    assert_eq!(parts.next().map(str::as_bytes), Some(&parent_id[..]));
    let flags = parts.next().and_then(|flags| u8::from_str_radix(flags, 16).ok());
    assert_eq!(flags.map(|flags| flags & 1 == 1), Some(sampled));
    assert!(version != "ff" && (version != "00" || bytes.len() == TRACEPARENT_BYTES));
    assert!(u128::from_str_radix(std::str::from_utf8(&trace_id).expect("digits"), 16).is_ok_and(|id| id != 0));
    assert!(u64::from_str_radix(std::str::from_utf8(&parent_id).expect("digits"), 16).is_ok_and(|id| id != 0));
}
