//! Long answers: whatever way their bytes take through weir, they arrive exactly, or visibly not at all.
//!
//! Sizes lie around the marks of `src/proxy/bodies/splice.rs` and `src/proxy/worker/buffers.rs`: 2, 16, 64, 256 and 512
//! KiB.

use std::io::Read;
use std::time::Duration;

use crate::harness::{Behaviour, Client, End, Reply, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(10);

/// One worker; `idle`: how long nothing may move.
fn house(idle: &str) -> (Upstream, Setup) {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable).workers(1).table("health", "kind = \"off\"");
    let setup = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000");
    let setup = setup.table("timeouts", &format!("idle = \"{idle}\""));
    (stable, setup)
}

/// Bytes of which no piece looks like another.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = count as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

fn same(answer: &[u8], sent: &[u8]) {
    let differs = answer.iter().zip(sent).position(|(a, b)| a != b);
    assert!(answer == sent, "{} bytes of {} came; the first wrong one is {differs:?}", answer.len(), sent.len());
}

fn pipes(weir: &Weir) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", weir.pid())).expect("weir runs");
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

#[test]
fn bodies_of_every_size_arrive_byte_for_byte_on_one_connection() {
    let (stable, setup) = house("500ms");
    let weir = setup.start();
    let mut client = weir.client();
    let marks = [2, 16, 32, 64, 256, 512, 1024].map(|kib| kib * 1024);
    let near = marks.iter().flat_map(|&mark| [mark - 200, mark - 1, mark, mark + 1, mark + 200]);
    let mut sizes: Vec<usize> = near.chain([1, 100_000, 3_000_000]).collect();
    // Long ones before short ones, and the other way round.
    sizes.extend(sizes.clone().iter().rev().step_by(2));
    sizes.extend([10, 100_000, 5_000, 100_000, 40_000, 10].iter());
    for size in sizes {
        let sent = bytes(size);
        stable.next(Behaviour::Reply(Reply::status(200).body(sent.clone())));
        let answer = client.get("/");
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{size} bytes");
        same(&answer.body, &sent);
    }
    assert_eq!(stable.accepted(), 1, "the connection to the endpoint is used again after every size");
}

#[test]
fn a_long_body_that_comes_in_pieces_is_passed_on_piece_by_piece() {
    let (stable, setup) = house("500ms");
    let weir = setup.start();
    stable.next(Behaviour::SlowBody { pieces: 12, piece: 30_000, pause: Duration::from_millis(60) });
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("weir reads");
    let head = client.head();
    assert_eq!(head.field("content-length"), Some("360000"));
    let mut got = client.wire().ahead().len();
    let mut steps = 0;
    let mut space = [0_u8; 100_000];
    while got < 360_000 {
        let n = client.wire().stream().read(&mut space).expect("more comes");
        assert!(n > 0 && space[..n].iter().all(|&b| b == b's'));
        got += n;
        steps += 1;
    }
    assert_eq!(got, 360_000);
    assert!(steps >= 6, "12 pieces came in {steps} steps");
}

#[test]
fn a_long_body_that_breaks_off_is_never_taken_for_whole() {
    let (stable, setup) = house("500ms");
    let weir = setup.start();
    let head = "HTTP/1.1 200 OK\r\nx-upstream: stable\r\ncontent-length: 400000\r\n\r\n";
    let part = |count: usize| [head.as_bytes(), &bytes(count)].concat();
    for (what, behaviour) in [
        ("closed at once", Behaviour::Raw(part(0), Then::Close)),
        ("closed early", Behaviour::Raw(part(1000), Then::Close)),
        ("closed on the way", Behaviour::Raw(part(200_000), Then::Close)),
        ("closed before the last byte", Behaviour::Raw(part(399_999), Then::Close)),
        ("reset", Behaviour::ResetMidBody { sent: 200_000, of: 400_000 }),
        ("stalled", Behaviour::StallMidBody { sent: 200_000, of: 400_000 }),
    ] {
        stable.next(behaviour);
        let answer = weir.client().get("/");
        assert_eq!((answer.status, answer.end), (200, End::Cut), "{what}");
        let sent = bytes(300_000);
        stable.next(Behaviour::Reply(Reply::status(200).body(sent.clone())));
        same(&weir.client().get("/").body, &sent);
    }
}

#[test]
fn bytes_behind_a_long_body_reach_nobody() {
    let (stable, setup) = house("500ms");
    let weir = setup.start();
    let mut client = weir.client();
    let body = bytes(100_000);
    let head = b"HTTP/1.1 200 OK\r\nx-upstream: stable\r\ncontent-length: 100000\r\n\r\n";
    let smuggled = b"HTTP/1.1 200 OK\r\nx-upstream: smuggled\r\ncontent-length: 0\r\n\r\n";
    stable.next(Behaviour::Raw([head.as_slice(), &body, smuggled].concat(), Then::Keep));
    same(&client.get("/").body, &body);
    let next = client.get("/");
    assert_eq!((next.upstream(), next.text().as_str()), ("stable", "stable\n"));
    assert_eq!(stable.accepted(), 2, "the connection that said too much is closed");
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_long_body_frees_everything() {
    let (stable, setup) = house("500ms");
    let weir = setup.start();
    assert_eq!(weir.client().get("/").status, 200);
    let before = weir.descriptors();
    stable.behave(Behaviour::Large(1 << 30));
    for _ in 0..20 {
        let mut client = weir.client();
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("weir reads");
        client.head();
        client.reset();
    }
    eventually("the endpoint is rid of them", SOON, || stable.open() == 0);
    // What is left is no more than there was, and an idle connection with the watch over it.
    eventually("no descriptor is left over", SOON, || weir.descriptors() <= before + 2);
    stable.behave(Behaviour::Answer);
    assert_eq!(weir.client().get("/").status, 200);
}

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    let (stable, setup) = house("30s");
    let weir = setup.start();
    stable.behave_on("/large", Behaviour::Large(1 << 30));
    let slow: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = weir.client();
            client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").expect("weir reads");
            client.head();
            client
        })
        .collect();
    let sent = bytes(300_000);
    stable.behave(Behaviour::Reply(Reply::status(200).body(sent.clone())));
    let mut quick = weir.client();
    for _ in 0..50 {
        same(&quick.get("/").body, &sent);
    }
    let before = weir.processor_time();
    std::thread::sleep(Duration::from_millis(500));
    let spent = weir.processor_time() - before;
    assert!(spent < Duration::from_millis(200), "{spent:?} spent on waiting for {} slow readers", slow.len());
}

/// Clients that have read the head of an answer and no more.
fn started(weir: &Weir, count: usize) -> Vec<Client> {
    let start = |_| {
        let mut client = weir.client();
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("weir reads");
        client.head();
        client
    };
    (0..count).map(start).collect()
}

/// Reads the rest of a body of [`Behaviour::Large`].
fn finish(mut client: Client, length: usize) {
    let mut space = vec![0_u8; 256 * 1024];
    let mut got = client.wire().take_ahead().len();
    while got < length {
        let n = client.wire().stream().read(&mut space).expect("more comes");
        assert!(n > 0 && space[..n].iter().all(|&b| b == b'l'), "after {got} bytes");
        got += n;
    }
    assert_eq!(got, length);
}

#[test]
fn five_hundred_long_answers_at_once_keep_within_the_descriptors() {
    const LENGTH: usize = 300_000;
    let (stable, setup) = house("60s");
    // Two for each client, and what the pipes and the process need.
    let weir = setup.descriptors(1300).start();
    stable.behave(Behaviour::Large(LENGTH as u64));
    for client in started(&weir, 500) {
        finish(client, LENGTH);
    }
    eventually("idle pipes are closed", SOON, || pipes(&weir) < 12);
}

#[test]
fn transfers_beyond_the_pipes_are_copied() {
    // More than the socket buffers of the way hold, so that every transfer comes to a halt with something in its pipe.
    const LENGTH: usize = 16_000_000;
    let (stable, setup) = house("60s");
    // A sixteenth of the descriptors may be pipes.
    let weir = setup.descriptors(256).start();
    let before = pipes(&weir);
    stable.behave(Behaviour::Large(LENGTH as u64));
    let clients = started(&weir, 20);
    eventually("all pipes are in use", SOON, || pipes(&weir) == before + 2 * 16);
    for client in clients {
        finish(client, LENGTH);
    }
    eventually("idle pipes are closed", SOON, || pipes(&weir) == before);
}
