//! A provider of numbers, as it should be and as it is: down, without data, and the real one.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::{A_WHILE, PATIENCE, gate, messages, plan, reaches, start, started, state, with};
use crate::harness::temp::TempDir;
use crate::harness::{Behaviour, Client, Load, Reply, Upstream, Weir, eventually, never};

/// An answer of Prometheus with one sample.
fn sample(value: &str) -> Behaviour {
    let body = format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\
         \"value\":[1,\"{value}\"]}}]}}}}"
    );
    Behaviour::Reply(Reply::status(200).body(body))
}

fn query(url: &str) -> Value {
    json!({ "kind": "prometheus", "url": url, "query": "sum(errors{job=\"engine\"})", "max": 5, "interval": "30ms",
            "timeout": "500ms", "consecutive_failures": 2 })
}

#[test]
fn a_provider_that_is_down_holds_the_phase_and_never_rolls_back() {
    let (_stable, _canary, weir) = started();
    let mut provider = Upstream::down("prometheus");
    let id = start(&weir, &with(plan(query(&provider.url())), json!({ "on_provider_error": "hold" })));
    eventually("it cannot be asked", PATIENCE, || gate(&weir, &id, "prometheus").0 == "error");
    never("it goes on or back", A_WHILE, || weir.split() != [80, 20] || state(&weir, &id) != "rolling_out");
    assert!(gate(&weir, &id, "prometheus").1.starts_with(&format!("no connection to {}", provider.url())));
    provider.restart();
    provider.behave(sample("4.5"));
    reaches(&weir, &id, "completed");
    let asked = provider.last();
    assert_eq!((&*asked.method, &*asked.target), ("POST", "/api/v1/query"));
    assert!(String::from_utf8_lossy(&asked.body).starts_with("query=sum%28errors%7Bjob%3D%22engine%22%7D%29&"));
}

#[test]
fn a_provider_that_is_down_warns_and_does_not_stand_in_the_way_when_the_plan_says_so() {
    let (_stable, _canary, weir) = started();
    let provider = Upstream::down("prometheus");
    let id = start(&weir, &with(plan(query(&provider.url())), json!({ "on_provider_error": "warn" })));
    let done = reaches(&weir, &id, "completed");
    assert_eq!(done["gates"][0]["verdict"], "error");
    assert!(messages(&weir, "gate_changed").iter().any(|told| told.starts_with("prometheus: no connection")));
}

#[test]
fn a_number_that_is_missing_advances_nothing_and_one_that_is_too_high_twice_rolls_back() {
    let (_stable, _canary, weir) = started();
    let provider = Upstream::named("prometheus");
    provider.behave(sample("NaN"));
    let id = start(&weir, &plan(query(&provider.url())));
    eventually("it is asked", PATIENCE, || gate(&weir, &id, "prometheus").1.contains("NaN"));
    never("it goes on or back", A_WHILE, || weir.split() != [80, 20] || state(&weir, &id) != "rolling_out");
    provider.behave(sample("6"));
    let done = reaches(&weir, &id, "rolled_back");
    let because = done["because"].as_str().unwrap_or_default();
    assert_eq!(because, "prometheus: 6, must be at most 5 (2 looks in a row)");
    assert_eq!(weir.split(), [100, 0]);
}

/// Debian's Prometheus, on a port of its own, looking at one weir. Stopped when it is dropped.
struct Prometheus {
    process: std::process::Child,
    address: String,
    directory: TempDir,
}

impl Prometheus {
    /// None when it is not installed; `tests/run` installs it.
    fn start(weir: &Weir) -> Option<Self> {
        let directory = TempDir::new();
        let config = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
             scrape_configs:\n\
             - job_name: weir\n  metrics_path: /metrics\n  static_configs: [{{ targets: [\"{}\"] }}]\n",
            weir.admin_address()
        );
        std::fs::write(directory.path().join("prometheus.yml"), config).expect("its configuration");
        let (process, address) = Self::run(&directory, "127.0.0.1:0")?.expect("it becomes ready");
        Some(Self { process, address, directory })
    }

    /// None when it is not installed; its last words when it ended before it was ready.
    fn run(directory: &TempDir, listen: &str) -> Option<Result<(std::process::Child, String), String>> {
        let at = |name: &str| directory.path().join(name).display().to_string();
        let mut command = std::process::Command::new("prometheus");
        command.arg(format!("--config.file={}", at("prometheus.yml")));
        command.arg(format!("--storage.tsdb.path={}", at("data")));
        command.arg(format!("--web.listen-address={listen}"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("prometheus does not start: {error}"),
        };
        let mut log = BufReader::new(process.stderr.take().expect("its log")).lines();
        let (mut address, mut last, mut ready) = (String::new(), String::new(), false);
        for line in log.by_ref() {
            let line = line.expect("its log is text");
            if let Some((_, found)) = line.split_once("msg=\"Listening on\" address=") {
                address = found.to_owned();
            }
            // Either may come first.
            ready |= line.contains("ready to receive web requests");
            if ready && !address.is_empty() {
                // Read on, so that it never waits for a reader.
                std::thread::spawn(move || log.for_each(drop));
                return Some(Ok((process, address)));
            }
            last = line;
        }
        let _ = process.wait();
        Some(Err(last))
    }

    /// Waits until it has looked once; it takes its time for that after its start.
    fn sees(&self, weir: &Weir) {
        let address = self.address.parse().expect("an address");
        let asked = || Client::to(address).lenient().get("/api/v1/query?query=up").text();
        let seen = format!("\"instance\":\"{}\"", weir.admin_address());
        eventually("it looks at weir", PATIENCE, || asked().contains(&seen) && asked().contains("\"1\"]"));
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn restart(&mut self) {
        self.stop();
        // Somebody else may have its port for a moment: every connection of the machine takes one.
        eventually("it becomes ready again", PATIENCE, || match Self::run(&self.directory, &self.address) {
            Some(Ok((process, _))) => {
                self.process = process;
                true
            }
            Some(Err(last)) => {
                println!("prometheus ended: {last}");
                false
            }
            None => panic!("it is installed"),
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn a_real_prometheus_lets_a_good_canary_through_takes_a_bad_one_back_and_holds_when_it_is_gone() {
    let (_stable, canary, weir) = started();
    let Some(mut prometheus) = Prometheus::start(&weir) else {
        return eprintln!("left out: prometheus is not installed, tests/run installs it");
    };
    prometheus.sees(&weir);
    let query = "sum(weir_lane_errors_total{service=\"engine\",pool=\"canary\"}) or vector(0)";
    let gate_of = json!({ "kind": "prometheus", "url": format!("http://{}", prometheus.address), "query": query,
                          "delta": "absolute", "max": 5, "interval": "100ms" });
    let phases = json!([{ "percent": 50, "min_duration": "2s" }, { "percent": 100, "min_duration": "1s" }]);
    let plan = with(plan(gate_of), json!({ "phases": phases, "on_provider_error": "hold" }));
    let load = Load::start(weir.address(), 2, Duration::from_millis(1));
    let good = start(&weir, &plan);
    let done = reaches(&weir, &good, "completed");
    assert_eq!(done["gates"][0]["detail"], "0 since the start, must be at most 5");
    load.stop().assert_flawless();
    weir.put_split([100, 0]);
    let load = Load::start(weir.address(), 2, Duration::from_millis(1));
    let bad = start(&weir, &plan);
    eventually("it is asked", PATIENCE, || gate(&weir, &bad, "prometheus").0 == "shown_safe");
    // One of twenty: what weir itself judges by is not alarmed by that.
    for _ in 0..20 {
        let seen = canary.count();
        eventually("requests come", PATIENCE, || canary.count() >= seen + 20 || state(&weir, &bad) == "rolled_back");
        canary.next(Behaviour::status(500));
    }
    let done = reaches(&weir, &bad, "rolled_back");
    let because = done["because"].as_str().unwrap_or_default();
    assert!(
        because.starts_with("prometheus: ") && because.ends_with(" since the start, must be at most 5"),
        "{because}"
    );
    load.stop();
    eventually("the service is free", PATIENCE, || weir.status()["services"][0]["rollout"].is_null());
    prometheus.stop();
    let held = start(&weir, &plan);
    eventually("it cannot be asked", PATIENCE, || gate(&weir, &held, "prometheus").0 == "error");
    never("it goes on or back", Duration::from_secs(2), || {
        weir.split() != [50, 50] || state(&weir, &held) != "rolling_out"
    });
    prometheus.restart();
    prometheus.sees(&weir);
    reaches(&weir, &held, "completed");
}
