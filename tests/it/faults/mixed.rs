//! F40: the faults of the other files at random and all at once, in a short form of the soak. What a request may meet
//! here can be repeated, so nothing may be lost; what cannot is never run twice; and nothing is left behind.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::*;
use crate::harness::{Behaviour, Load, eventually};

/// How long it goes on.
const DURATION: Duration = Duration::from_secs(10);

/// splitmix64 (Steele et al. 2014), so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[test]
fn f40_faults_at_random_lose_nothing_run_nothing_twice_and_leave_nothing_behind() {
    let seed: u64 = match std::env::var("WEIR_SEED") {
        Ok(text) => text.parse().expect("a seed is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos().into(),
    };
    println!("WEIR_SEED={seed}");
    let mut dice = Dice(seed);
    let (mut one, two, setup) = twins();
    // Probes alone decide: an ejection outlasts a restart, and then nothing might be left to serve.
    let setup = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000");
    let setup = setup.table("retry", "attempts = 2\nbudget = 1.0\nmin_per_second = 100000");
    let weir = setup.start();
    two.behave_on("/stall", Behaviour::StallMidBody { sent: 10, of: 1_000 });
    one.behave_on("/stall", Behaviour::StallMidBody { sent: 10, of: 1_000 });
    let load = Load::start(weir.address(), 4, PAUSE);
    let (mut down, mut posts, mut refused, mut memory) = (false, 0_u32, 0_u32, None);
    let began = Instant::now();
    while began.elapsed() < DURATION {
        match dice.below(6) {
            // F01: dies as by kill -9, and comes back.
            0 if down => {
                one.restart();
                down = false;
            }
            0 => {
                one.kill();
                down = true;
            }
            // F05: every idle connection goes at once.
            1 => one.drop_connections(),
            // F17: a client leaves in the middle of an answer.
            2 => {
                let mut client = weir.client();
                client.send(b"GET /stall HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
                wait(5 + dice.below(20));
                client.reset();
            }
            // F21: a reload.
            3 => weir.replace_weights(&format!("# {}\n[engine]\nstable = 1\n", dice.below(1 << 40))),
            // What cannot be repeated, with an id of its own.
            _ => {
                let id = format!("/once/{posts}");
                posts += 1;
                let answer = weir.client().try_ask("POST", &id, &[], b"x");
                refused += u32::from(!answer.is_ok_and(|answer| answer.status == 200));
                let runs = one.count_on(&id) + two.count_on(&id);
                assert!(runs <= 1, "seed {seed}: {id} ran {runs} times");
            }
        }
        wait(dice.below(40));
        if memory.is_none() && began.elapsed() > DURATION / 2 {
            memory = Some((weir.resident_bytes(), weir.descriptors()));
        }
    }
    if down {
        one.restart();
    }
    let report = load.stop();
    let lost = report.failures.len();
    assert!(lost == 0 && report.good > 500, "seed {seed}: {lost} of {}: {:?}", report.good, report.failures.first());
    assert!(posts > 20 && refused < posts / 4, "seed {seed}: {refused} of {posts} were not served");
    let (memory, descriptors) = memory.expect("it was looked at");
    let grown = weir.resident_bytes().saturating_sub(memory);
    assert!(grown < memory / 10 + (2 << 20), "seed {seed}: {grown} bytes more over {memory}");
    eventually("descriptors are given back", SOON, || weir.descriptors() <= descriptors + 4);
    assert!(!weir.log().text().contains("panicked"), "seed {seed}");
}
