//! The alert rules of `config/alerts.yml`: they speak of metrics that weir has, Prometheus's own tool takes them, and
//! they fire when they should and not otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

use weir::telemetry::names;

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/alerts.yml")
}

#[test]
fn alerts_speak_of_metrics_that_there_are() {
    let text = std::fs::read_to_string(rules()).expect("it is in the repository");
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = words.filter(|word| word.starts_with("weir_") || word.starts_with("process_"));
    let mut count = 0;
    for word in named {
        let family = word.strip_suffix("_bucket").unwrap_or(word);
        assert!(names::ALL.iter().any(|metric| metric.name == family), "{word} is no metric of weir");
        count += 1;
    }
    assert!(count >= 15, "{count}");
}

/// What the rules are tried with: a pool that fails 1 of 100 and one that fails none, a certificate, a kill.
const TRIAL: &str = r#"
rule_files: [RULES]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series:
      - { series: 'weir_lane_attempts_total{service="engine",pool="canary",lane="a"}', values: '0+1000x20' }
      - { series: 'weir_lane_errors_total{service="engine",pool="canary",lane="a"}', values: '0+10x20' }
      - { series: 'weir_lane_attempts_total{service="engine",pool="stable",lane="a"}', values: '0+1000x20' }
      - { series: 'weir_lane_errors_total{service="engine",pool="stable",lane="a"}', values: '0+4x20' }
      - { series: 'weir_endpoint_up{service="engine",pool="canary",endpoint="x"}', values: '0x20' }
      - { series: 'weir_endpoint_up{service="engine",pool="stable",endpoint="y"}', values: '1x20' }
      - { series: 'weir_pool_weight{service="engine",pool="canary"}', values: '10x20' }
      - { series: 'weir_pool_weight{service="engine",pool="stable"}', values: '90x20' }
      - { series: 'weir_config_last_reload_successful', values: '1x20' }
    alert_rule_test:
      - eval_time: 9m
        alertname: WeirPoolErrors
        exp_alerts:
          - exp_labels: { severity: critical, service: engine, pool: canary }
            exp_annotations:
              summary: "pool canary of engine fails 1% of its attempts"
              next: "weir doctor; weir rollback engine --reason TEXT"
      - eval_time: 9m
        alertname: WeirPoolGone
        exp_alerts:
          - exp_labels: { severity: critical, service: engine, pool: canary }
            exp_annotations:
              summary: "no endpoint serves in pool canary of engine"
              next: "weir doctor"
      - { eval_time: 9m, alertname: WeirReloadFailed, exp_alerts: [] }
"#;

#[test]
fn the_tool_of_prometheus_takes_them_and_they_fire_when_they_should() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return eprintln!("left out: promtool is not installed, tests/run installs it with prometheus");
    }
    let path = std::env::temp_dir().join(format!("weir-alerts-{}.yml", std::process::id()));
    std::fs::write(&path, TRIAL.replace("RULES", &rules().display().to_string())).expect("it can be written");
    let check = [["check", "rules"].map(String::from).to_vec(), vec![rules().display().to_string()]].concat();
    let trial = [["test", "rules"].map(String::from).to_vec(), vec![path.display().to_string()]].concat();
    for arguments in [check, trial] {
        let output = Command::new("promtool").args(&arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    let _ = std::fs::remove_file(&path);
}
