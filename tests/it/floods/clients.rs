//! Clients. The resource vectors of HTTP/2, each on a connection of its own.

use std::time::Duration;

use super::{CALM, GROWTH_MAX, House, SOON, Way};
use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, block, frame, get, get_with, indexed, literal, post, setting,
};
use crate::harness::{Behaviour, Load, eventually};

/// Rounds that are offered; none of the attacks gets as far.
const ROUNDS: u32 = 20_000;

/// Rounds that may be written until the end is seen: what is taken, and what was under way by then.
const TAKEN_MAX: u32 = 6_000;

/// Requests of one attack that reach the endpoint at most.
const PASSED_MAX: usize = 400;

struct Attack {
    name: &'static str,
    /// As the metric names it.
    kind: &'static str,
    /// Sent once.
    opening: fn() -> Vec<u8>,
    round: fn(u32) -> Vec<u8>,
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

/// A stream that stays open: a request whose body does not end.
fn an_upload() -> Vec<u8> {
    post(1, "/hang")
}

/// The n-th stream of a client.
fn stream(n: u32) -> u32 {
    2 * n + 3
}

fn increment(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn pair(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
    [first, second].concat()
}

const ATTACKS: &[Attack] = &[
    Attack { name: "PING", kind: "ping", opening: nothing, round: |_| frame(PING, 0, 0, &[1; 8]) },
    Attack { name: "PING acknowledged unasked", kind: "ping", opening: nothing, round: |_| frame(PING, 1, 0, &[1; 8]) },
    Attack { name: "SETTINGS", kind: "settings", opening: nothing, round: |_| frame(SETTINGS, 0, 0, b"") },
    Attack {
        name: "SETTINGS of 1,000 entries",
        kind: "settings",
        opening: nothing,
        round: |_| frame(SETTINGS, 0, 0, &setting(4, 65_535).repeat(1_000)),
    },
    Attack {
        name: "SETTINGS that flip the size of the table",
        kind: "settings",
        opening: nothing,
        round: |n| frame(SETTINGS, 0, 0, &setting(1, n % 2 * 4_096)),
    },
    Attack {
        name: "SETTINGS that flip the windows of open streams",
        kind: "settings",
        opening: an_upload,
        round: |n| frame(SETTINGS, 0, 0, &setting(4, 1 + n % 2 * 65_535)),
    },
    Attack {
        name: "PRIORITY",
        kind: "priority",
        opening: nothing,
        round: |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1]),
    },
    Attack {
        name: "WINDOW_UPDATE of the connection",
        kind: "window_update",
        opening: nothing,
        round: |_| increment(0, 1),
    },
    Attack { name: "WINDOW_UPDATE of a stream", kind: "window_update", opening: an_upload, round: |_| increment(1, 1) },
    Attack { name: "empty DATA", kind: "data", opening: an_upload, round: |_| frame(DATA, 0, 1, b"") },
    Attack {
        name: "DATA that is padding",
        kind: "data",
        opening: an_upload,
        round: |_| frame(DATA, PADDED, 1, &[&[255_u8][..], &[0; 255]].concat()),
    },
    Attack {
        name: "rapid reset (CVE-2023-44487)",
        kind: "reset",
        opening: nothing,
        round: |n| pair(get(stream(n), "/hang"), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])),
    },
    Attack {
        name: "made you reset (CVE-2025-8671) by an increment of 0",
        kind: "error",
        opening: nothing,
        round: |n| pair(get(stream(n), "/hang"), increment(stream(n), 0)),
    },
    Attack {
        name: "made you reset by a window too large",
        kind: "error",
        opening: nothing,
        round: |n| pair(get(stream(n), "/hang"), increment(stream(n), 0x7fff_ffff)),
    },
    Attack {
        name: "made you reset by a priority on itself",
        kind: "error",
        opening: nothing,
        round: |n| {
            let own = [&stream(n).to_be_bytes()[..], &[1]].concat();
            pair(get(stream(n), "/hang"), frame(PRIORITY, 0, stream(n), &own))
        },
    },
    Attack {
        name: "made you reset by DATA behind the end",
        kind: "error",
        opening: nothing,
        round: |n| pair(get(stream(n), "/hang"), frame(DATA, 0, stream(n), b"more")),
    },
    Attack {
        name: "malformed requests",
        kind: "error",
        opening: nothing,
        round: |n| get_with(stream(n), &literal("connection", "close")),
    },
    Attack {
        name: "CONTINUATION without end",
        kind: "continuation",
        opening: || frame(HEADERS, END_STREAM, 1, &block("GET", "/")),
        round: |n| frame(CONTINUATION, 0, 1, &literal(&format!("x-{n}"), "v")),
    },
    Attack {
        name: "empty CONTINUATION without end",
        kind: "continuation",
        opening: || frame(HEADERS, END_STREAM, 1, &block("GET", "/")),
        round: |_| frame(CONTINUATION, 0, 1, b""),
    },
    Attack {
        name: "heads in pieces",
        kind: "continuation",
        opening: nothing,
        round: |n| {
            let whole = block("GET", "/hang");
            let pieces = [
                frame(HEADERS, END_STREAM, stream(n), b""),
                frame(CONTINUATION, 0, stream(n), b""),
                frame(CONTINUATION, 0, stream(n), b""),
                frame(CONTINUATION, END_HEADERS, stream(n), &whole),
            ];
            pair(pieces.concat(), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8]))
        },
    },
    Attack {
        name: "heads of 30 kB in 200 bytes",
        kind: "head_size",
        opening: || get_with(1, &indexed("x-many", "v".repeat(280))),
        // 62: the first of the dynamic table.
        round: |n| get_with(stream(n), &[0x80 | 62; 90]),
    },
    Attack { name: "frames of an unknown type", kind: "unknown", opening: nothing, round: |_| frame(0xbe, 0, 0, b"") },
    Attack {
        name: "large frames of an unknown type",
        kind: "unknown",
        opening: nothing,
        round: |_| frame(0xbe, 0, 0, &[0; 16_000]),
    },
];

#[test]
fn a_client_that_has_weir_work_for_nothing_is_ended_and_nobody_else_notices() {
    let house = House::new("");
    house.stable.behave_on("/hang", Behaviour::StallBeforeHead);
    house.serves("the start");
    for way in [Way::Cleartext, Way::Tls] {
        for attack in ATTACKS {
            let what = format!("{} over {way:?}", attack.name);
            let (before, ended) = (house.weir.resident_bytes(), house.ended("client", attack.kind));
            house.stable.forget();
            let mut client = house.client(way);
            client.send(&(attack.opening)()).expect("weir reads");
            let written = client.flood(ROUNDS, attack.round);
            let reaction = client.reaction.clone();
            assert!(reaction.closed && written <= TAKEN_MAX, "{what}: {written} written, {reaction:?}");
            assert_eq!(reaction.goaway.as_ref().map(|(code, _)| *code), Some(CALM), "{what}: {reaction:?}");
            drop(client);
            // Frames of two kinds are booked in some; which of them is the one too many depends on the time.
            if attack.kind != "error" && attack.name != "heads in pieces" {
                house.counts("client", attack.kind, ended + 1, &what);
            }
            assert!(house.stable.count() <= PASSED_MAX, "{what}: {} reached the endpoint", house.stable.count());
            let growth = house.weir.resident_bytes().saturating_sub(before);
            assert!(growth < GROWTH_MAX, "{what}: {growth} bytes more");
            house.serves(&what);
        }
    }
    let log = house.weir.access_log();
    eventually("the log names them", SOON, || {
        let text = log.text();
        ["http2:ping", "http2:settings", "http2:reset", "http2:error"].iter().all(|kind| text.contains(kind))
    });
}

#[test]
fn resets_that_wait_for_their_streams_to_be_taken_are_bounded_too() {
    let house = House::new("");
    house.stable.behave_on("/hang", Behaviour::StallBeforeHead);
    let mut client = house.client(Way::Cleartext);
    let mut rounds = 0;
    // Each is given time to reach the endpoint, so that none is reset before weir has begun to work on it.
    while !client.reaction.closed && rounds < 2_000 {
        if client.send(&get(stream(rounds), "/hang")).is_err() {
            break;
        }
        let arrived = || house.stable.count() > rounds as usize;
        while !arrived() && !client.listen(Duration::from_millis(1), |_| false).closed {}
        if client.send(&frame(RST_STREAM, 0, stream(rounds), &[0, 0, 0, 8])).is_err() {
            break;
        }
        rounds += 1;
    }
    client.listen(SOON, |_| false);
    assert_eq!(client.reaction.goaway.as_ref().map(|(code, _)| *code), Some(CALM), "{rounds}: {:?}", client.reaction);
    assert!((150..1_000).contains(&rounds), "{rounds}");
    drop(client);
    house.counts("client", "reset", 1, "resets");
    eventually("nothing is left at the endpoint", SOON, || house.stable.open() == 0);
}

#[test]
fn a_head_that_drips_is_ended_by_the_time_for_heads() {
    let house = House::new("header_timeout = \"500ms\"");
    for way in [Way::Cleartext, Way::Tls] {
        for cut in [12, 30] {
            let ended = house.ended("client", "slow_head");
            let mut client = house.client(way);
            client.send(&get(1, "/")[..cut]).expect("weir reads");
            client.listen(SOON, |_| false);
            let reaction = &client.reaction;
            assert!(reaction.closed && reaction.goaway.as_ref().is_some_and(|(code, _)| *code == CALM), "{reaction:?}");
            drop(client);
            house.counts("client", "slow_head", ended + 1, "a slow head");
        }
        let ended = house.ended("client", "slow_head");
        let mut client = house.client(way);
        let mut pieces = 0;
        client.send(&frame(HEADERS, END_STREAM, 1, &block("GET", "/"))).expect("weir reads");
        while !client.listen(Duration::from_millis(100), |_| false).closed && pieces < 50 {
            let _ = client.send(
                &literal("x", "y").first().map_or(vec![], |byte| vec![0, 0, 1, CONTINUATION, 0, 0, 0, 0, 1, *byte]),
            );
            pieces += 1;
        }
        assert!(client.reaction.closed && pieces < 20, "{pieces} {:?}", client.reaction);
        drop(client);
        house.counts("client", "slow_head", ended + 1, "a slow head in pieces");
        house.serves("slow heads");
    }
}

#[test]
fn few_bytes_never_become_a_hundred_times_as_many() {
    let house = House::new("");
    house.stable.behave(Behaviour::StallBeforeHead);
    let fill = |fields: &dyn Fn(u32) -> Vec<u8>| -> (u64, u64) {
        let before = house.weir.resident_bytes();
        let mut sent = 0;
        let mut clients: Vec<Raw> = Vec::new();
        for _ in 0..10 {
            let mut client = house.client(Way::Cleartext);
            for n in 0..100 {
                let bytes = get_with(stream(n), &fields(n));
                sent += bytes.len() as u64;
                let _ = client.send(&bytes);
            }
            // Some of it is more than a connection may bring.
            let calmed = !client.is_alive(SOON);
            let told = client.reaction.goaway.as_ref().map(|(code, _)| *code);
            assert!(told == calmed.then_some(CALM), "{:?}", client.reaction);
            clients.push(client);
        }
        (house.weir.resident_bytes().saturating_sub(before), sent)
    };
    // What a thousand streams cost that hold nothing, in weir and towards the endpoint.
    let (bare, _) = fill(&|_| Vec::new());
    eventually("they are gone", SOON, || house.stable.open() == 0);
    // 62: the first of the dynamic table.
    let large = |n: u32| if n == 0 { indexed("x-large", "v".repeat(3_900)) } else { vec![0x80 | 62; 7] };
    let many = |n: u32| if n == 0 { indexed("x-many", "v".repeat(10)) } else { vec![0x80 | 62; 400] };
    let fitting = |n: u32| if n == 0 { indexed("x-many", "v".repeat(280)) } else { vec![0x80 | 62; 90] };
    for (name, fields) in [("large", &large as &dyn Fn(u32) -> Vec<u8>), ("many", &many), ("fitting", &fitting)] {
        let (grown, sent) = fill(fields);
        let net = grown.saturating_sub(bare);
        println!("{name}: {sent} bytes sent, {grown} bytes more, {bare} without fields");
        assert!(net < sent * 100, "{name}: {sent} bytes became {net} (and {bare} without fields)");
        eventually("they are gone", SOON, || house.stable.open() == 0);
    }
}

#[test]
fn others_are_served_as_before_while_attacks_go_on() {
    let house = House::new("");
    house.stable.behave_on("/hang", Behaviour::StallBeforeHead);
    let measure = || {
        let load = Load::start(house.weir.address(), 4, Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(1500));
        load.stop()
    };
    let quiet = measure();
    quiet.assert_flawless();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for attacks in ATTACKS.chunks(ATTACKS.len().div_ceil(2)) {
            let (house, stop) = (&house, &stop);
            scope.spawn(move || {
                for attack in attacks.iter().cycle() {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let mut client = house.client(Way::Cleartext);
                    let _ = client.send(&(attack.opening)());
                    let _ = (0..64).try_for_each(|n| {
                        client.send(&(n * 64..n * 64 + 64).flat_map(attack.round).collect::<Vec<u8>>())
                    });
                }
            });
        }
        let beside = measure();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        beside.assert_flawless();
        println!("p99 quiet {:?}, beside attacks {:?}", quiet.p99(), beside.p99());
        // The attackers take processors as well, and this is no optimized build: a fixed part is granted for these.
        let most = quiet.p99() * 2 + Duration::from_millis(50);
        assert!(beside.p99() < most, "quiet {:?}, beside attacks {:?}", quiet.p99(), beside.p99());
    });
}

#[test]
fn what_clients_send_for_the_answers_that_they_get_is_free() {
    let house = House::new("glitches_max = 100");
    let mut client = house.client(Way::Cleartext);
    // Two windows, a bandwidth PING, a priority and a late reset for every answer.
    for n in 0..1_000 {
        let id = stream(n);
        let rounds =
            [frame(PRIORITY, 0, id, &[0, 0, 0, 0, 1]), get(id, "/"), frame(PING, 0, 0, &[3; 8]), increment(0, 7)];
        client.send(&rounds.concat()).expect("weir reads");
        let answered = client.listen(SOON, |reaction| reaction.answers.iter().any(|(it, _)| *it == id));
        assert_eq!(answered.answers.last(), Some(&(id, 200)), "{answered:?}");
        client.reaction.answers.clear();
    }
    assert!(client.is_alive(SOON));
    let mut unbounded = House::new("glitches_max = 0").client(Way::Cleartext);
    unbounded.flood(3_000, |_| frame(PING, 0, 0, &[1; 8]));
    assert!(!unbounded.reaction.closed || unbounded.reaction.goaway.is_none());
}

#[test]
fn an_empty_frame_with_each_body_is_free_however_many_there_are() {
    let house = House::new("glitches_max = 100");
    let mut client = house.client(Way::Cleartext);
    // Others end a connection at its 101st.
    for n in 0..500 {
        let id = stream(n);
        let rounds = [post(id, "/"), frame(DATA, 0, id, b""), frame(DATA, END_STREAM, id, b"x")];
        client.send(&rounds.concat()).expect("weir reads");
        let answered = client.listen(SOON, |reaction| reaction.answers.iter().any(|(it, _)| *it == id));
        assert_eq!(answered.answers.last(), Some(&(id, 200)), "{answered:?}");
        client.reaction.answers.clear();
    }
    assert!(client.is_alive(SOON));
}
