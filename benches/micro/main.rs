//! What one request costs in the pure rooms, piece by piece: `cargo bench --bench micro`. Whole requests over sockets
//! are measured elsewhere.

#[path = "../../tests/fuzz/stage.rs"]
mod stage;

mod deciding;
mod exchanging;
mod heads;
mod hpack;
mod telling;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::model::{
    FieldMatch, Head, HostMatch, Matches, Name, PathMatch, Rewrite, RouteSpec, ValueMatch, Weight, Weights,
};
use weir::routing::bucket::{bucket_of, client_unit};
use weir::routing::cookie::{Key, Keys, TicketCache};
use weir::routing::path;
use weir::routing::split::Split;
use weir::routing::splitter::Splitter;
use weir::routing::table::Table;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn split(weights: &[(&str, u32)]) -> Split {
    let pools: Vec<Name> = weights.iter().map(|(pool, _)| name(pool)).collect();
    let entries = weights.iter().map(|(pool, weight)| (name(pool), Weight::Relative(*weight))).collect();
    Split::new(&Weights::new(entries).expect("legal weights"), &pools, "stable")
}

fn splitting(c: &mut Criterion) {
    let two = split(&[("stable", 90), ("canary", 10)]);
    let five = split(&[("stable", 60), ("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    let mut splitter = Splitter::new(1);
    c.bench_function("splitter draw", |b| b.iter(|| splitter.draw()));
    c.bench_function("splitter draw + by_draw, 2 pools", |b| b.iter(|| black_box(&two).by_draw(splitter.draw())));
    c.bench_function("splitter draw + by_draw, 5 pools", |b| b.iter(|| black_box(&five).by_draw(splitter.draw())));
    c.bench_function("bucket_of header + by_bucket", |b| {
        b.iter(|| black_box(&two).by_bucket(bucket_of("engine", black_box(b"user-4711"))));
    });
    c.bench_function("bucket_of client address", |b| {
        b.iter(|| bucket_of("engine", client_unit(black_box(CLIENT)).as_bytes()))
    });
}

fn affinity(c: &mut Criterion) {
    let two = split(&[("stable", 90), ("canary", 10)]);
    let keys = Keys::new(Key::from_bytes(std::array::from_fn(|i| i as u8)));
    let values: Vec<_> = (0..256).map(|i| keys.issue("engine", i * 3_000, 1_700_000_000)).collect();
    let mut cache = TicketCache::new();
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 1) % values.len();
        values[turn].as_str().as_bytes()
    };
    c.bench_function("cookie issue", |b| b.iter(|| keys.issue("engine", black_box(123_456), 1_700_000_000)));
    c.bench_function("cookie verify + by_bucket", |b| {
        b.iter(|| keys.verify("engine", next()).map(|ticket| two.by_bucket(ticket.bucket)));
    });
    c.bench_function("cookie verify, 256 clients cached + by_bucket", |b| {
        b.iter(|| cache.verify(&keys, "engine", next()).map(|ticket| two.by_bucket(ticket.bucket)));
    });
}

fn route(matches: Matches) -> RouteSpec {
    RouteSpec { name: "r".into(), service: name("engine"), pool: None, matches, rewrite: Rewrite::Keep, priority: 0 }
}

fn prefix(path: &str) -> Matches {
    Matches { path: Some(PathMatch::Prefix(path.into())), ..Matches::default() }
}

fn routing(c: &mut Criterion) {
    let fields: [(&str, &[u8]); 6] = [
        ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
        ("accept", b"text/html,application/xhtml+xml"),
        ("accept-language", b"en-GB,en;q=0.5"),
        ("accept-encoding", b"gzip, deflate, br"),
        ("cookie", b"session=0123456789abcdef"),
        ("x-trace", b"1"),
    ];
    let head = Head::describe("GET", "host777.example.com:8080", "/part777/items?page=2", fields);
    let beta = FieldMatch {
        name: "x-beta-user".into(),
        value: ValueMatch::Exact { value: "true".into(), case_sensitive: true },
    };
    let small = [route(Matches { headers: vec![beta], ..Matches::default() }), route(prefix("/"))];
    let paths: Vec<_> = (0..5_000).map(|i| route(prefix(&format!("/part{i}")))).collect();
    let hosts: Vec<_> = (0..5_000)
        .map(|i| Matches { hosts: vec![HostMatch::Exact(format!("host{i}.example.com"))], ..prefix("/part777") })
        .map(route)
        .collect();
    for (label, specs) in [
        ("a catch-all", &small[1..]),
        ("the example's 2 routes", &small),
        ("5 000 prefixes", &paths),
        ("5 000 hosts", &hosts),
    ] {
        let table = Table::new(specs, |_| (0, None));
        assert!(table.find(&head, CLIENT).is_some());
        c.bench_function(&format!("table find, {label}"), |b| {
            b.iter(|| table.find(black_box(&head), CLIENT).is_some())
        });
    }
    c.bench_function("path is_ambiguous", |b| b.iter(|| path::is_ambiguous(black_box("/part777/items.html"))));
    c.bench_function("path strip", |b| b.iter(|| path::strip(black_box("/canary/items?page=2"), "/canary").is_some()));
}

criterion_group!(
    benches,
    splitting,
    affinity,
    routing,
    deciding::all,
    heads::all,
    hpack::all,
    telling::all,
    exchanging::exchanging
);
criterion_main!(benches);
