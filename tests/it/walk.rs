//! A random walk over weights, saves, kills and requests, checked against a model of a few lines.
//!
//! The seed is printed with every failure; `WEIR_SEED` walks the same way again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{Client, Setup, Upstream, Weir, eventually};

const STEPS: usize = 60;
const REQUESTS: usize = 25;
const POOLS: [&str; 3] = ["stable", "canary", "blue"];

/// A small generator (xorshift64*), so that a seed is all that a walk depends on.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// What the walk knows to be true.
struct Model {
    weights: [u32; 3],
    /// Which upstream is down, if one is.
    down: Option<usize>,
    /// When one was last down; its ejection may outlast it.
    disturbed: Option<Instant>,
}

impl Model {
    /// Whether a pool may answer now.
    fn may_answer(&self, pool: usize) -> bool {
        let settling = self.disturbed.is_some_and(|at| at.elapsed() < Duration::from_secs(8));
        self.weights[pool] > 0 || pool == 0 && (self.down.is_some() || settling)
    }
}

fn text(weights: [u32; 3]) -> String {
    let lines: Vec<String> = POOLS.iter().zip(weights).map(|(pool, weight)| format!("{pool} = {weight}\n")).collect();
    format!("[engine]\n{}", lines.concat())
}

fn live(weir: &Weir) -> [u32; 3] {
    let document = weir.admin_get("/api/v1/services/engine/weights").json();
    POOLS.map(|pool| document["weights"][pool].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0))
}

/// Changes the weights one way or another; returns when the change is live.
fn change(weir: &Weir, dice: &mut Dice, model: &mut Model) {
    let drawn = [0; 3].map(|_: u32| [0, 0, 1, 10, 90][dice.below(5) as usize]);
    let next = if drawn == [0; 3] { [1, 0, 0] } else { drawn };
    match dice.below(4) {
        0 => {
            let [stable, canary, blue] = next;
            let body = format!("{{\"stable\":{stable},\"canary\":{canary},\"blue\":{blue}}}");
            assert_eq!(weir.admin("PUT", "/api/v1/services/engine/weights", &[], &body).status, 200);
        }
        1 => weir.save_weights(&text(next)),
        2 => weir.replace_weights(&text(next)),
        _ => {
            assert_eq!(weir.rollback("the walk").status, 200);
            model.weights = [model.weights[0], 0, 0];
            let now = live(weir);
            assert!(now[0] > 0 && now[1..] == [0, 0], "after a rollback: {now:?}");
            model.weights = now;
            return;
        }
    }
    model.weights = next;
    eventually("the change is live", Duration::from_secs(3), || live(weir) == next);
}

/// Whether probes have passed for every endpoint.
fn proved(weir: &Weir) -> bool {
    let status = weir.status();
    let pools = status["services"][0]["pools"].as_array().expect("pools").clone();
    let endpoints = pools.iter().flat_map(|pool| pool["endpoints"].as_array().expect("endpoints").clone());
    endpoints.into_iter().all(|endpoint| endpoint["state"] == "serving")
}

#[test]
fn whatever_happens_weight_zero_gets_nothing_and_no_client_notices() {
    let seed: u64 = match std::env::var("WEIR_SEED") {
        Ok(text) => text.parse().expect("a seed is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos().into(),
    };
    println!("WEIR_SEED={seed}");
    let mut dice = Dice(seed | 1);
    let mut upstreams = ["stable", "stable-two", "canary", "blue"].map(Upstream::named);
    let pool_of = |name: &str| POOLS.iter().position(|pool| name.starts_with(pool)).expect("a known upstream");
    let [one, two, canary, blue] = &upstreams;
    let setup = Setup::new().pool("stable", &[one, two]).pool("canary", &[canary]).pool("blue", &[blue]).probed();
    // Probes alone decide here: an ejection by answers outlasts a restart, and then nothing might be left to serve.
    let setup = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000");
    let weir = setup.weights("stable = 1\ncanary = 0\nblue = 0\n").start();
    let mut model = Model { weights: [1, 0, 0], down: None, disturbed: None };
    let mut clients: Vec<Client> = (0..4).map(|_| weir.client()).collect();
    for step in 0..STEPS {
        match dice.below(3) {
            0 => change(&weir, &mut dice, &mut model),
            1 => match model.down.take() {
                Some(down) => {
                    upstreams[down].restart();
                    // It serves again after two passes; until then another death could leave nothing.
                    eventually("it is back", Duration::from_secs(5), || proved(&weir));
                    model.disturbed = Some(Instant::now());
                }
                None => {
                    let victim = dice.below(4) as usize;
                    upstreams[victim].kill();
                    (model.down, model.disturbed) = (Some(victim), Some(Instant::now()));
                }
            },
            _ => weir
                .save_config(&format!("# step {step}\n{}", std::fs::read_to_string(weir.config_path()).expect("it"))),
        }
        for turn in 0..REQUESTS {
            let client = &mut clients[dice.below(4) as usize];
            let answer = client.get(&format!("/{step}/{turn}"));
            let told = format!("seed {seed}, step {step}: {:?}, down {:?}", model.weights, model.down);
            assert_eq!(answer.status, 200, "{told}");
            let pool = pool_of(answer.upstream());
            assert!(model.may_answer(pool), "{} answered; {told}", answer.upstream());
        }
    }
    let document = std::fs::read_to_string(weir.weights_path()).expect("the file is there");
    for (pool, weight) in POOLS.iter().zip(model.weights) {
        assert!(document.contains(&format!("{pool} = {weight}")), "seed {seed}: the file is the truth: {document}");
    }
}
