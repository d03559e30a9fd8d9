//! What a head may be: line ends, names, host, target, version, method, size.

use super::Verdict::{Refused, Served};
use super::{Verdict, get, raw, run, send};
use crate::harness::{Setup, Upstream};

#[test]
fn line_ends_are_crlf_and_nothing_else() {
    run(&[
        ("S-12 LF request line", raw("GET / HTTP/1.1\nHost: test\r\n\r\n"), Refused),
        ("S-12 LF header", raw("GET / HTTP/1.1\r\nHost: test\nX: y\r\n\r\n"), Refused),
        ("S-12 LF end", raw("GET / HTTP/1.1\r\nHost: test\r\n\n"), Refused),
        ("S-12 LF all", raw("GET / HTTP/1.1\nHost: test\n\n"), Refused),
        ("S-12 CR value", get(b"X: a\rb"), Refused),
        ("S-12 CR line", raw("GET / HTTP/1.1\rHost: test\r\n\r\n"), Refused),
        ("S-12 CR CR LF", raw("GET / HTTP/1.1\r\nHost: test\r\r\n\r\n"), Refused),
        ("S-12 CR LF CR X", raw("GET / HTTP/1.1\r\nHost: test\r\n\rX\r\n\r\n"), Refused),
        ("S-12 NUL name", get(b"X\0Y: a"), Refused),
        ("S-12 NUL value", get(b"X: a\0b"), Refused),
        ("S-12 NUL path", raw("GET /\0 HTTP/1.1\r\nHost: test\r\n\r\n"), Refused),
        ("S-12 control", get(b"X: a\x07b"), Refused),
        ("S-12 DEL", get(b"X: a\x7fb"), Refused),
        ("S-12 leading", raw("\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n"), Refused),
        ("S-13", get(b"X: a\r\n b"), Refused),
        ("S-13 tab", get(b"X: a\r\n\tb"), Refused),
        ("S-13 first", raw("GET / HTTP/1.1\r\n Host: test\r\n\r\n"), Refused),
        ("S-13 host", raw("GET / HTTP/1.1\r\nHost: te\r\n st\r\n\r\n"), Refused),
        ("S-12 tab value", get(b"X: a\tb"), Served),
        ("S-12 high bytes", get(b"X: \xe9\xff"), Served),
    ]);
}

#[test]
fn field_names_are_tokens_with_a_colon_right_behind() {
    let names: &[&[u8]] = &[
        b"X : a",
        b"X\t: a",
        b" X: a",
        b": a",
        b":",
        b"X",
        b"[X]: a",
        b"\"X\": a",
        b"\x80: a",
        b"X(Y): a",
        b"X Y: a",
        b"Content-Length\xa0: 5",
        b"Content-Length\x85: 5",
        b"X@: a",
        b"X/Y: a",
        b"{X}: a",
        b"X\\: a",
    ];
    let rows: Vec<_> = names.iter().map(|line| ("S-14", get(line), Refused)).collect();
    run(&rows);
}

#[test]
fn there_is_one_host_and_it_is_an_authority() {
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("S-16 missing", raw("GET / HTTP/1.1\r\n\r\n"), Refused),
        ("S-16 equal", raw("GET / HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n"), Refused),
        ("S-16 different", raw("GET / HTTP/1.1\r\nHost: test\r\nHost: evil\r\n\r\n"), Refused),
    ];
    let long = "h".repeat(300);
    for host in [
        "", "a,b", "a, b", "user@h", "h/path", "h:99999", "h:-1", "h:x", "[::1", "::1", "h\u{e9}", "h h", "h?x", "h#x",
        "h\\x", "<h>", "[h]", "h:80:80", &long,
    ] {
        rows.push(("S-16", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(), Refused));
    }
    for host in ["test.", "TEST", "test:80", "[::1]:80", "127.0.0.1", "a_b.example"] {
        rows.push(("S-16", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(), Served));
    }
    run(&rows);
}

#[test]
fn a_target_is_a_path_or_the_own_authority() {
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes();
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = Vec::new();
    for target in [
        "*",
        "admin",
        "http:///x",
        "test:80",
        "/a b",
        "/a\tb",
        "/\u{80}",
        "/caf\u{e9}",
        "/#frag",
        "http://evil/x",
        "http://evil@test/x",
        "http://test@evil/x",
        "ftp://test/x",
        "unix:/x",
        "http://test:81/x",
        "",
        "?x",
        "\\x",
        "http:/x",
        "//",
        "javascript:1",
    ] {
        let verdict = if target == "//" { Served } else { Refused };
        rows.push(("S-17", line(target), verdict));
    }
    rows.push(("S-17 long", line(&format!("/{}", "a".repeat(64 * 1024 + 1))), Refused));
    rows.push(("S-17 //", line("//evil/x"), Served));
    rows.push(("S-18 own", line("http://test/x"), Served));
    run(&rows);
}

#[test]
fn versions_and_methods_are_the_known_ones() {
    let version = |v: &str| format!("GET / {v}\r\nHost: test\r\n\r\n").into_bytes();
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = Vec::new();
    for v in [
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "HTTP/1.10",
        "HTTP/01.1",
        "http/1.1",
        "HTTP/4294967295.255",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/ 1.1",
        "HTTP/1.1 ",
        " HTTP/1.1",
        "HTTPS/1.1",
        "HTTP/1.1x",
    ] {
        rows.push(("S-19", version(v), Refused));
    }
    rows.push(("S-19 none", raw("GET /\r\nHost: test\r\n\r\n"), Refused));
    for method in ["G=T:", "G{T", "CONNECT", "TRACE", "(GET)", &"M".repeat(8 * 1024)] {
        rows.push(("S-20", format!("{method} / HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes(), Refused));
    }
    rows.push(("S-20 CONNECT", raw("CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n"), Refused));
    let trace = raw("TRACE / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nMax-Forwards: 0\r\n\r\nhello");
    rows.push(("S-20 TRACE", trace, Refused));
    run(&rows);
}

#[test]
fn a_name_with_an_underscore_is_never_read_as_the_one_with_a_dash() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let fields = [
        ("Content_Length", "3"),
        ("Transfer_Encoding", "chunked"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X_Request_Id", "forged"),
        ("X_Weir_Pool", "canary"),
    ];
    let answer = weir.client().ask("POST", "/", &fields, b"hello");
    assert_eq!(answer.status, 200);
    let seen = stable.last();
    assert_eq!(seen.body, b"hello");
    assert!(seen.head.fields.iter().all(|(name, _)| !name.contains('_')), "{:?}", seen.head.fields);
}

#[test]
fn a_head_over_its_limits_is_431_or_414_and_costs_no_memory() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).text("[limits]\nhead_bytes_max = \"4KiB\"\nfields_max = 20").start();
    let with = |count: usize| -> Vec<u8> {
        let lines: String = (0..count - 1).map(|n| format!("X-{n}: v\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n").into_bytes()
    };
    assert_eq!(send(&weir, &with(20)).statuses, [200]);
    assert_eq!(send(&weir, &with(21)).statuses, [431]);
    let sized = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: test\r\nX: ";
        format!("{start}{}\r\n\r\n", "v".repeat(bytes - start.len() - 4)).into_bytes()
    };
    assert_eq!(send(&weir, &sized(4_096)).statuses, [200]);
    assert_eq!(send(&weir, &sized(4_097)).statuses, [431]);
    assert!(matches!(send(&weir, &sized(3 << 20)).statuses[..], [431] | []));
    let target = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "t".repeat(9_000));
    assert!(matches!(send(&weir, target.as_bytes()).statuses[..], [414 | 431]));
    let before = weir.resident_bytes();
    for _ in 0..200 {
        send(&weir, &sized(8_000));
    }
    assert!(weir.resident_bytes().saturating_sub(before) < 8 << 20);
}
