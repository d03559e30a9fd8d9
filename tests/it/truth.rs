//! The weights file is the truth: whoever changes the split changes the file, and the answer comes after both.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::harness::admin::find;
use crate::harness::{Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(2);

fn pair() -> (Upstream, Upstream) {
    (Upstream::named("stable"), Upstream::named("canary"))
}

fn all_reach(weir: &Weir, name: &str) -> bool {
    let mut client = weir.client();
    (0..50).all(|_| client.get("/").upstream() == name)
}

#[test]
fn after_the_answer_of_a_put_no_request_goes_by_the_old_weights() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 0]).start();
    let mut clients: Vec<_> = (0..8).map(|_| weir.client()).collect();
    for turn in 0..20 {
        let (weights, name) = if turn % 2 == 0 { ([0, 1], "canary") } else { ([1, 0], "stable") };
        let answer = weir.put_split(weights);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(clients.iter_mut().all(|client| client.get("/").upstream() == name), "turn {turn}");
    }
}

#[test]
fn a_put_changes_only_the_numbers_in_the_file() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).start();
    let text = "# who may edit: ops\n\n[engine]      # the main one\ncanary = 10   # careful\nstable = 90\n# end\n";
    weir.save_weights(text);
    eventually("the file is taken", SOON, || weir.status().to_string().contains("canary"));
    assert_eq!(weir.put_split([50, 50]).status, 200);
    assert_eq!(weir.weights_text(), text.replace("10 ", "50 ").replace("90", "50"));
    assert_eq!(weir.split(), [50, 50]);
}

#[test]
fn the_write_of_a_put_is_one_change_and_not_two() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).start();
    let before = weir.generation();
    assert_eq!(weir.put_split([50, 50]).status, 200);
    assert_eq!(weir.generation(), before + 1);
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(weir.generation(), before + 1, "weir does not take its own write for an edit");
}

#[test]
fn a_rollback_moves_everything_to_stable_and_writes_the_file() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [0, 100]).start();
    assert!(all_reach(&weir, "canary"));
    let answer = weir.rollback("errors on /pay");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(all_reach(&weir, "stable"));
    assert_eq!(weir.split()[1], 0);
    assert!(weir.weights_text().contains("canary = 0"), "{}", weir.weights_text());
    assert!(weir.status().to_string().contains("errors on /pay"), "the reason is kept");
}

#[test]
fn undo_returns_to_the_weights_before_the_last_change() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).start();
    weir.put_split([50, 50]);
    weir.rollback("no reason");
    assert_eq!(weir.undo().status, 200);
    assert_eq!(weir.split(), [50, 50]);
    assert!(weir.weights_text().contains("canary = 50"), "{}", weir.weights_text());
    weir.save_split([20, 80]);
    eventually("the edit applies", SOON, || weir.split() == [20, 80]);
    assert_eq!(weir.undo().status, 200);
    assert_eq!(weir.split(), [50, 50], "an edit by hand can be undone as well");
}

#[test]
fn of_writers_with_the_same_generation_one_wins_and_the_others_learn_the_current_one() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 0]).start();
    let generation = weir.generation().to_string();
    let put = |n: usize| {
        let body = format!("{{\"stable\":{n},\"canary\":1}}");
        weir.admin("PUT", "/api/v1/services/engine/weights", &[("if-match", generation.as_str())], &body)
    };
    let put = &put;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=8).map(|n| scope.spawn(move || put(n))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect()
    });
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    let now = weir.generation();
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(lost.status, 409);
        assert_eq!(lost.field("content-type"), Some("application/problem+json"));
        assert_eq!(find(&lost.json(), "generation").and_then(serde_json::Value::as_u64), Some(now));
    }
    let quoted = format!("\"{now}\"");
    let body = "{\"stable\":5,\"canary\":5}";
    let answer = weir.admin("PUT", "/api/v1/services/engine/weights", &[("if-match", &quoted)], body);
    assert_eq!(answer.status, 200, "an entity tag may be quoted: {}", answer.text());
}

#[test]
fn a_put_that_cannot_be_served_is_refused_with_a_reason_and_changes_nothing() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).start();
    let before = weir.weights_text();
    for body in [
        "{\"stable\":0,\"canary\":0}",
        "{\"stable\":1,\"canary\":-1}",
        "{\"stable\":1,\"canray\":1}",
        "{\"stable\":1,\"canary\":0.5}",
        "{\"stable\":1,\"canary\":1e999}",
        "{\"stable\":1,\"canary\":NaN}",
        "{\"stable\":1,\"canary\":\"many\"}",
        "{\"stable\":1,\"canary\":1,\"canary\":2}",
        "[]",
        "{}",
        "{\"stable\":1",
        "null",
    ] {
        let answer = weir.admin("PUT", "/api/v1/services/engine/weights", &[], body);
        assert!(matches!(answer.status, 400 | 422), "{body}: {}", answer.status);
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{body}");
        assert!(answer.json()["detail"].is_string() || answer.json()["title"].is_string(), "{body}");
    }
    let answer = weir.admin("PUT", "/api/v1/services/nobody/weights", &[], "{\"stable\":1}");
    assert_eq!(answer.status, 404);
    assert_eq!((weir.split(), weir.weights_text()), ([90, 10], before));
}

#[test]
fn a_put_works_where_no_file_was_before() {
    let (stable, canary) = pair();
    let weir = Setup::new().pool("stable", &[&stable]).pool("canary", &[&canary]).start();
    let answer = weir.put_split([0, 1]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(all_reach(&weir, "canary"));
    assert!(weir.weights_text().contains("canary = 1"));
}

#[test]
fn a_file_that_may_not_be_written_is_a_clear_conflict_but_a_rollback_moves_the_traffic() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [0, 100]).read_only().start();
    let answer = weir.put_split([50, 50]);
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("read"), "it says that the file is read-only: {}", answer.text());
    assert!(all_reach(&weir, "canary"), "a refused change changes nothing");
    let answer = weir.rollback("it burns");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(all_reach(&weir, "stable"));
    assert!(answer.text().contains("weights.toml"), "it says that the file has to be changed: {}", answer.text());
    assert!(weir.weights_text().contains("canary = 100"));
    std::thread::sleep(Duration::from_millis(1_300));
    assert!(all_reach(&weir, "stable"), "the unchanged file does not bring the canary back");
    let pending = weir.status().to_string();
    assert!(pending.contains("weights.toml") && pending.contains("rollback"), "{pending}");
    let permissions = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(weir.weights_path(), permissions).expect("the mode can be changed");
    weir.save_split([100, 0]);
    eventually("the status is calm again", SOON, || weir.split() == [100, 0]);
}

#[test]
fn where_no_file_can_be_made_beside_it_the_weights_file_is_written_in_place() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).read_only().start();
    let permissions = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(weir.weights_path(), permissions).expect("the mode can be changed");
    let answer = weir.put_split([50, 50]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(weir.weights_text().contains("canary = 50"));
}

#[test]
fn the_last_twenty_generations_are_kept_with_their_cause() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1_000, 0]).start();
    for turn in 1..=25 {
        assert_eq!(weir.put_split([1_000, turn]).status, 200);
    }
    let status = weir.status();
    let history = find(&status, "history").and_then(serde_json::Value::as_array).expect("a history");
    assert_eq!(history.len(), 20, "{history:#?}");
    let newest = history.iter().filter_map(|entry| find(entry, "generation")?.as_u64()).max();
    assert_eq!(newest, Some(weir.generation()));
    for entry in history {
        assert!(find(entry, "cause").is_some(), "{entry}");
    }
}

#[test]
fn over_a_mount_of_the_single_file_a_put_writes_in_place() {
    let (stable, canary) = pair();
    let weir = match Setup::pair(&stable, &canary, [90, 10]).mounted().try_start() {
        Ok(weir) => weir,
        Err(failure) if failure.log.contains("not permitted") => {
            println!("left out: this machine does not allow mounts ({})", failure.log);
            return;
        }
        Err(failure) => panic!("{failure:?}"),
    };
    let answer = weir.put_split([50, 50]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = std::fs::read_to_string(weir.outside_path()).expect("the file is there");
    assert!(text.contains("canary = 50"), "{text}");
    assert_eq!(weir.split(), [50, 50]);
}
