//! The request head as HTTP/2: what [`Outgoing`] writes for HTTP/1, said in pseudo-headers and fields.
//!
//! It is written once as text, so that both protocols send the same fields, and read from there without a copy of a
//! value.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::super::h1::request::Refused;
use super::super::outgoing::Outgoing;
use super::super::refusal::Refusal;

/// Room for an ordinary head.
const HEAD_BYTES: usize = 1024;

/// What is said of a head that holds what the types of HTTP/2 refuse.
pub(crate) const UNSAYABLE: Refusal = Refusal::Head(Refused::Malformed("the request cannot be said in HTTP/2"));

/// The head for an endpoint whose own authority is `authority`, to be [`read`].
pub(crate) fn text(outgoing: &Outgoing<'_>, authority: &str) -> Result<Bytes, Refusal> {
    let mut text = Vec::with_capacity(HEAD_BYTES);
    outgoing.write(authority, &mut text)?;
    Ok(Bytes::from(text))
}

/// Reads a head as [`Outgoing`] writes it. None: it holds what the types of HTTP/2 refuse.
pub(crate) fn read(text: &Bytes, scheme: Scheme) -> Option<Request<()>> {
    let line_end = memchr::memchr(b'\r', text)?;
    let method_end = memchr::memchr(b' ', &text[..line_end])?;
    let target_end = memchr::memrchr(b' ', &text[..line_end]).filter(|&end| end > method_end)?;
    let mut authority = None;
    let mut headers = HeaderMap::with_capacity(24);
    let mut at = line_end + 2;
    while let Some(length) = memchr::memchr(b'\r', text.get(at..)?).filter(|&length| length > 0) {
        let colon = at + memchr::memchr(b':', &text[at..at + length])?;
        let end = (colon + 2 <= at + length).then_some(at + length)?;
        let (name, value) = (&text[at..colon], text.slice(colon + 2..end));
        at += length + 2;
        match name {
            b"host" => authority = Some(Authority::from_maybe_shared(value).ok()?),
            // What frames a message and what belongs to a connection of HTTP/1 (RFC 9113 §8.2.2).
            b"transfer-encoding" | b"connection" | b"upgrade" => {}
            _ => {
                let mut value = HeaderValue::from_maybe_shared(value).ok()?;
                // What differs from request to request would push what does not out of the peer's table; so it is a
                // literal that is never indexed (RFC 7541 §6.2.3).
                value.set_sensitive(matches!(name, b"x-request-id" | b"traceparent" | b"x-forwarded-for"));
                headers.append(HeaderName::from_bytes(name).ok()?, value);
            }
        }
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = authority;
    uri.path_and_query = Some(PathAndQuery::from_maybe_shared(text.slice(method_end + 1..target_end)).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(&text[..method_end]).ok()?;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_the_same_in_both_protocols() {
        let text =
            b"POST /a?b=c HTTP/1.1\r\nhost: shop.example:80\r\nx-a: 1\r\nx-a: \r\ntransfer-encoding: chunked\r\n\
            te: trailers\r\nconnection: te\r\nvia: 1.1 weir\r\n\r\n";
        let request = read(&Bytes::from_static(text), Scheme::HTTP).expect("it can be said");
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "http://shop.example:80/a?b=c")
        );
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected = [("x-a", &b"1"[..]), ("x-a", b""), ("te", b"trailers"), ("via", b"1.1 weir")];
        assert_eq!(fields, expected);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            let _ = read(&Bytes::from(bytes), Scheme::HTTP);
        }
    }
}
