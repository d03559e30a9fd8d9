//! The trace that a request belongs to: read from `traceparent`, or begun (W3C Trace Context, Recommendation of 2021,
//! <https://www.w3.org/TR/trace-context/>). It tells nobody: [`crate::proxy::record`] does.

use super::outgoing::hex;
use crate::model::{Believe, FieldId, Head, Tracing};
use crate::proxy::decide::dice::Rng;

/// Bytes of a `traceparent` of version 00: version, trace id, parent id, flags, and three dashes.
pub const TRACEPARENT_BYTES: usize = 55;

/// The flag of a trace that is recorded (§3.2.2.5.1).
const SAMPLED: u8 = 1;

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// 32 hexadecimal digits in lower case, not all 0.
    pub trace_id: [u8; 32],
    /// 16 hexadecimal digits in lower case, not all 0.
    pub parent_id: [u8; 16],
    /// Whether it is recorded.
    pub sampled: bool,
}

/// A request's trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    pub(crate) trace_id: [u8; 32],
    /// The span that the request came from.
    pub(crate) parent_id: Option<[u8; 16]>,
    /// weir's own span.
    pub(crate) span_id: [u8; 16],
    sampled: bool,
    /// Whether its span goes to a collector.
    pub(crate) told: bool,
}

// === impl TraceParent ===

impl TraceParent {
    /// Reads a field's value; none when it is to be ignored (§3.2.2, §4.3). From version 01 on, after a
    /// dash, more may stand behind the flags.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fixed, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
        let (version, trace_id) = (&fixed[..2], fixed[3..35].try_into().ok()?);
        let (parent_id, flags) = (fixed[36..52].try_into().ok()?, &fixed[53..]);
        let dashed = fixed[2] == b'-' && fixed[35] == b'-' && fixed[52] == b'-';
        let ended = match version {
            b"00" => rest.is_empty(),
            _ => rest.first().is_none_or(|&byte| byte == b'-'),
        };
        let digits = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let some = |id: &[u8]| digits(id) && id.iter().any(|&byte| byte != b'0');
        let legal = dashed && ended && digits(version) && version != b"ff" && digits(flags);
        let bits = u8::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok()?;
        let parent = Self { trace_id, parent_id, sampled: bits & SAMPLED != 0 };
        (legal && some(&parent.trace_id) && some(&parent.parent_id)).then_some(parent)
    }
}

// === impl Trace ===

impl Trace {
    /// The trace of a request, continued or begun. `trusted`: whether a trusted proxy sent it.
    pub(crate) fn new(head: &Head, tracing: &Tracing, trusted: bool, rng: &mut Rng) -> Self {
        let exported = tracing.otlp.is_some();
        let span_id = id(rng);
        let came = if tracing.believe == Believe::Everybody || trusted { came(head) } else { None };
        if let Some(TraceParent { trace_id, parent_id, sampled }) = came {
            return Self { trace_id, parent_id: Some(parent_id), span_id, sampled, told: exported && sampled };
        }
        let mut trace_id = [0; 32];
        let (first, second) = trace_id.split_at_mut(16);
        first.copy_from_slice(&id(rng));
        second.copy_from_slice(&id(rng));
        // The upper 53 bits are uniform over [0, 1).
        let sampled = (rng.draw() >> 11) as f64 / (1_u64 << 53) as f64 <= tracing.sample && tracing.sample > 0.0;
        Self { trace_id, parent_id: None, span_id, sampled, told: exported && sampled }
    }

    /// Whether the context that came goes on as it is: a hop that tells nobody of its span is no parent (§4.3).
    pub(crate) fn passes(&self) -> bool {
        self.parent_id.is_some() && !self.told
    }

    /// Whether a field of the context that came goes on.
    pub(crate) fn keeps(&self, name: &[u8]) -> bool {
        self.passes() || self.parent_id.is_some() && name != b"traceparent"
    }

    /// The `traceparent` that the endpoint gets in place of the one that came.
    pub(crate) fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id);
        text[36..52].copy_from_slice(&self.span_id);
        text[54] = b'0' + u8::from(self.sampled);
        text
    }
}

/// The context that came; none when there are two (§3.2 knows one).
fn came(head: &Head) -> Option<TraceParent> {
    let named = |name: &[u8]| name == b"traceparent";
    let mut values = head.fields.iter().filter(|it| it.id == FieldId::Trace && named(head.slice(it.name)));
    let (first, second) = (values.next(), values.next());
    first.filter(|_| second.is_none()).and_then(|field| TraceParent::parse(head.slice(field.value)))
}

/// Sixteen hexadecimal digits, not all 0.
fn id(rng: &mut Rng) -> [u8; 16] {
    hex(rng.draw().max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::model::Collector;
    use crate::model::notify::Address;

    const CAME: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(fields: &[(&str, &str)]) -> Head {
        Head::describe("GET", "example", "/", fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    fn policy(sample: f64, believe: Believe, otlp: bool) -> Tracing {
        let url = Address::new("http://127.0.0.1:4318/v1/traces").expect("it is one");
        let otlp = otlp.then_some(Collector { url, authorization: None });
        Tracing { sample, believe, otlp, service_name: "weir".into() }
    }

    #[test]
    fn what_the_recommendation_forbids_is_ignored() {
        let good = TraceParent::parse(CAME.as_bytes()).expect("it is legal");
        assert!(good.sampled);
        assert_eq!(&good.trace_id, b"0af7651916cd43dd8448eb211c80319c");
        assert_eq!(&good.parent_id, b"b7ad6b7169203331");
        let later = CAME.replacen("00", "cc", 1);
        for legal in [later.clone(), format!("{later}-what-the-future-holds"), CAME.replace("-01", "-00")] {
            assert!(TraceParent::parse(legal.as_bytes()).is_some(), "{legal}");
        }
        let zeros = "0".repeat(32);
        for illegal in [
            String::new(),
            CAME[..54].to_owned(),
            format!("{CAME}-more"),
            format!("{later}.more"),
            CAME.replacen("00", "ff", 1),
            CAME.to_uppercase(),
            CAME.replace("0af7651916cd43dd8448eb211c80319c", &zeros),
            CAME.replace("b7ad6b7169203331", &zeros[..16]),
            CAME.replace('-', "_"),
            CAME.replace("-01", "-0x"),
            CAME.replace("-01", "-+1"),
        ] {
            assert_eq!(TraceParent::parse(illegal.as_bytes()), None, "{illegal}");
        }
    }

    #[test]
    fn a_trace_that_came_goes_on_as_it_is_unless_weir_has_a_span_in_it() {
        let (head, rng) = (with(&[("traceparent", CAME)]), &mut Rng::new(1));
        let silent = Trace::new(&head, &policy(0.0, Believe::Everybody, false), false, rng);
        assert!(silent.passes() && silent.keeps(b"traceparent") && silent.keeps(b"tracestate") && !silent.told);
        let told = Trace::new(&head, &policy(0.0, Believe::Everybody, true), false, rng);
        assert!(told.told && !told.keeps(b"traceparent") && told.keeps(b"tracestate"));
        let sent = TraceParent::parse(&told.traceparent()).expect("it is legal");
        assert_eq!((sent.trace_id, sent.sampled), (silent.trace_id, true));
        assert_eq!((sent.parent_id, told.parent_id), (told.span_id, silent.parent_id));
    }

    #[test]
    fn a_trace_begins_where_none_came_or_whoever_sent_it_is_not_believed() {
        let rng = &mut Rng::new(1);
        let doubled = with(&[("traceparent", CAME), ("traceparent", CAME)]);
        let stranger = with(&[("traceparent", CAME), ("tracestate", "a=b")]);
        for (head, believe, trusted) in [
            (with(&[("tracestate", "a=b")]), Believe::Everybody, true),
            (doubled, Believe::Everybody, true),
            (stranger.clone(), Believe::Trusted, false),
        ] {
            let begun = Trace::new(&head, &policy(1.0, believe, true), trusted, rng);
            assert!(begun.told && begun.parent_id.is_none());
            assert!(!begun.keeps(b"traceparent") && !begun.keeps(b"tracestate"));
            assert!(TraceParent::parse(&begun.traceparent()).is_some_and(|sent| sent.sampled));
        }
        let trusted = Trace::new(&stranger, &policy(1.0, Believe::Trusted, false), true, rng);
        assert!(trusted.passes());
    }

    #[test]
    fn as_many_traces_are_recorded_as_the_sample_says() {
        let (head, rng) = (with(&[]), &mut Rng::new(7));
        let mut told = |sample| {
            (0..10_000)
                .filter(|_| Trace::new(&head, &policy(sample, Believe::Everybody, true), false, rng).told)
                .count()
        };
        assert_eq!((told(0.0), told(1.0)), (0, 10_000));
        assert!((800..1200).contains(&told(0.1)));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_what_was_written(
            trace in 1_u128..,
            parent in 1_u64..,
            flags in any::<u8>(),
            junk in ".{0,60}",
        ) {
            let text = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
            let read = TraceParent::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(std::str::from_utf8(&read.trace_id).unwrap(), format!("{trace:032x}"));
            prop_assert_eq!(std::str::from_utf8(&read.parent_id).unwrap(), format!("{parent:016x}"));
            prop_assert_eq!(read.sampled, flags & 1 == 1);
            prop_assert_eq!(TraceParent::parse(junk.as_bytes()), None);
        }
    }
}
