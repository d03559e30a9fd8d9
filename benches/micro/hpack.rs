//! Blocks of fields over HTTP/2, read and written on a connection that has seen the like before.

use std::hint::black_box;

use criterion::Criterion;
use weir::proxy::seam::Hpack;

/// Larger than any list here.
const LIST_MAX: usize = 16 * 1024;

/// What h2load sends: six octets from the second time on.
const H2LOAD: [(&str, &str); 6] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "127.0.0.1:8080"),
    ("accept", "*/*"),
    ("user-agent", "h2load nghttp2/1.52.0"),
];

/// What nginx answers with: written out each time, in the Huffman code, since it holds no table.
const NGINX: [(&str, &str); 8] = [
    (":status", "200"),
    ("server", "nginx/1.22.1"),
    ("date", "Sat, 21 Nov 2026 16:40:00 GMT"),
    ("content-type", "text/html"),
    ("content-length", "615"),
    ("last-modified", "Tue, 13 Jun 2023 15:08:10 GMT"),
    ("etag", "\"6488865a-267\""),
    ("accept-ranges", "bytes"),
];

/// A request as it goes to an endpoint, and how each field is indexed; none: never.
const PROXIED: [(&str, &str, Option<bool>); 10] = [
    (":method", "GET", Some(true)),
    (":scheme", "http", Some(true)),
    (":path", "/items/4711?page=2", Some(true)),
    (":authority", "10.0.0.7:8080", Some(true)),
    ("user-agent", "h2load nghttp2/1.52.0", Some(true)),
    ("x-forwarded-for", "192.0.2.7", None),
    ("x-forwarded-proto", "http", Some(true)),
    ("x-request-id", "0123456789abcdef0123456789abcdef", None),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
    ("via", "2.0 weir-1", Some(true)),
];

/// An answer as it goes to a client, after its status.
const ANSWERED: [(&str, &str, Option<bool>); 8] = [
    ("server", "nginx/1.22.1", Some(true)),
    ("date", "Sat, 21 Nov 2026 16:40:00 GMT", Some(false)),
    ("content-type", "text/html", Some(true)),
    ("content-length", "615", Some(false)),
    ("last-modified", "Tue, 13 Jun 2023 15:08:10 GMT", Some(false)),
    ("etag", "\"6488865a-267\"", Some(false)),
    ("accept-ranges", "bytes", Some(true)),
    ("via", "2.0 weir-1", Some(true)),
];

/// The next block of a connection with all of these indexed.
fn block(writer: &mut Hpack, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    writer.begin(&mut out);
    fields.iter().for_each(|(name, value)| writer.field(name.as_bytes(), value.as_bytes(), Some(true), &mut out));
    out
}

pub(crate) fn all(c: &mut Criterion) {
    let (mut writer, mut reader) = (Hpack::new(4096), Hpack::new(4096));
    assert_eq!(reader.decode(&block(&mut writer, &H2LOAD), LIST_MAX), Ok(true));
    let again = block(&mut writer, &H2LOAD);
    assert_eq!(again.len(), H2LOAD.len());
    c.bench_function("HPACK block read, 6 fields indexed", |b| b.iter(|| reader.decode(black_box(&again), LIST_MAX)));

    // A size update to 0, so that nothing stays in the table.
    let mut reader = Hpack::new(4096);
    assert_eq!(reader.decode(&[0x20], LIST_MAX), Ok(true));
    let coded = block(&mut Hpack::new(4096), &NGINX);
    c.bench_function("HPACK block read, status and 7 fields in the Huffman code", |b| {
        b.iter(|| reader.decode(black_box(&coded), LIST_MAX));
    });

    let (mut writer, mut out) = (Hpack::new(4096), Vec::new());
    c.bench_function("HPACK block written, request of 10 fields, 3 of them never indexed", |b| {
        b.iter(|| {
            out.clear();
            writer.begin(&mut out);
            for (name, value, indexed) in black_box(&PROXIED) {
                writer.field(name.as_bytes(), value.as_bytes(), *indexed, &mut out);
            }
        });
    });
    c.bench_function("HPACK block written, status and 8 fields, 4 of them not indexed", |b| {
        b.iter(|| {
            out.clear();
            writer.begin(&mut out);
            writer.status(black_box(200), &mut out);
            for (name, value, indexed) in black_box(&ANSWERED) {
                writer.field(name.as_bytes(), value.as_bytes(), *indexed, &mut out);
            }
        });
    });
}
