//! Promises of the command line that need no running proxy: what is printed, exit codes, files changed without a weir,
//! the test upstream, the demo. Golden files in `tests/golden/cli` are refreshed with `WEIR_UPDATE_GOLDEN=1`.
//!
//! A stand-in for the admin API gives fixed answers, so that what a verb sends and prints can be compared as a whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const VERBS: [&str; 24] = [
    "run",
    "check",
    "diff",
    "doctor",
    "status",
    "set",
    "rollback",
    "undo",
    "rollout",
    "kill",
    "unkill",
    "maintenance",
    "events",
    "audit",
    "verify-split",
    "explain",
    "healthcheck",
    "reload",
    "log-level",
    "schema",
    "completions",
    "version",
    "demo",
    "upstream",
];

const ROLLOUT_VERBS: [&str; 18] = [
    "new", "check", "start", "status", "watch", "explain", "pause", "resume", "advance", "rollback", "approve",
    "retry", "cancel", "wait", "report", "drill", "history", "list",
];

const CONFIG: &str = "\
[services.engine.pools.stable]
endpoints = [\"http://127.0.0.1:1\"]
[services.engine.pools.canary]
endpoints = [\"http://127.0.0.1:2\"]
";

// === a directory with a configuration ===

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        Self(path)
    }

    fn with(self, name: &str, text: &str) -> Self {
        std::fs::write(self.0.join(name), text).expect("the temporary directory can be written");
        self
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect("the file is there")
    }

    /// A verb, started here and with nothing of the surroundings.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("WEIR_") || text == "COLUMNS" {
                command.env_remove(&name);
            }
        }
        command.args(arguments).current_dir(&self.0).env("USER", "ada").env_remove("SUDO_USER").stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end: exit code, stdout, stderr.
    fn weir(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(name);
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden directory can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, actual, "WEIR_UPDATE_GOLDEN=1 refreshes {}", path.display());
}

// === a stand-in for the admin API ===

/// Gives one fixed answer per connection and keeps what it was asked.
struct Admin {
    address: SocketAddr,
    thread: JoinHandle<Vec<String>>,
}

impl Admin {
    fn answering(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let thread = std::thread::spawn(move || answers.iter().map(|answer| serve(&listener, answer)).collect());
        Self { address, thread }
    }

    /// What it was asked, each request with its head in lower case.
    fn asked(self) -> Vec<String> {
        self.thread.join().expect("it was asked as often as expected")
    }
}

fn serve(listener: &TcpListener, (status, body): &(u16, String)) -> String {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        head += &format!("{line}\n");
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).expect("the body");
    let kind = if *status < 400 { "application/json" } else { "application/problem+json" };
    let length = body.len();
    let head_out = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head_out}{body}").as_bytes()).expect("the answer is taken");
    format!("{head}\n{}", String::from_utf8(sent).expect("text"))
}

/// Runs a verb against the stand-in.
fn against(admin: Admin, arguments: &[&str]) -> (Option<i32>, String, String, Vec<String>) {
    let dir = Dir::new();
    let address = admin.address.to_string();
    let (code, out, err) = dir.weir(&[&["--admin", &address], arguments].concat());
    (code, out, err, admin.asked())
}

// === what is printed ===

#[test]
fn the_help_of_every_verb_is_as_recorded() {
    let dir = Dir::new();
    let (code, mut text, _) = dir.weir(&["--help"]);
    assert_eq!(code, Some(0));
    for verb in VERBS {
        let (code, help, _) = dir.weir(&[verb, "--help"]);
        assert_eq!(code, Some(0), "{verb}");
        text += &format!("\n$ weir {verb} --help\n{help}");
    }
    for verb in ROLLOUT_VERBS {
        let (code, help, _) = dir.weir(&["rollout", verb, "--help"]);
        assert_eq!(code, Some(0), "{verb}");
        text += &format!("\n$ weir rollout {verb} --help\n{help}");
    }
    golden("help.txt", &text);
}

#[test]
fn check_tells_every_problem_of_both_files_at_once() {
    let wrong = CONFIG.replace("endpoints = [\"http://127.0.0.1:2\"]", "endponts = [\"http://127.0.0.1:2\"]");
    let dir = Dir::new().with("weir.toml", &format!("workers = \"two\"\n{wrong}"));
    let dir = dir.with("weights.toml", "[engine]\nstable = -1\ncanray = 10\n");
    let (code, out, err) = dir.weir(&["check"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    golden("check.txt", &err);
    let (code, out, _) = dir.weir(&["check", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, Some(2));
    assert_eq!(report["ok"], false);
    assert!(report["problems"].as_array().is_some_and(|list| list.len() >= 4), "{report}");
}

#[test]
fn check_of_good_files_is_one_line() {
    let dir = Dir::new().with("weir.toml", CONFIG).with("weights.toml", "[engine]\nstable = 90\ncanary = 10\n");
    for verb in ["check", "validate"] {
        let (code, out, err) = dir.weir(&[verb]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert_eq!(out, "ok weir.toml: engine stable=90 canary=10; 1 route; on 0.0.0.0:8080\n");
    }
}

#[test]
fn check_refuses_an_admin_address_that_run_would_refuse() {
    let dir = Dir::new().with("weir.toml", &format!("[admin]\naddress = \"0.0.0.0:9901\"\n{CONFIG}"));
    let (code, _, err) = dir.weir(&["check"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("token"), "{err}");
}

#[test]
fn a_start_without_its_key_file_says_the_reason_once() {
    let listen = "[listeners.public]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    let dir = Dir::new().with("weir.toml", &format!("key_file = \"gone.key\"\n{listen}{CONFIG}"));
    let (code, _, err) = dir.weir(&["run", "-c", "weir.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("cannot read the key file gone.key: No such file"), "{err}");
    assert_eq!(err.matches("No such file").count(), 1, "{err}");
}

#[test]
fn diff_says_what_would_change_in_words_and_as_data() {
    let dir = Dir::new().with("weir.toml", CONFIG).with("weights.toml", "[engine]\nstable = 90\ncanary = 10\n");
    let next = CONFIG.replace("127.0.0.1:2", "127.0.0.1:3");
    let dir = dir.with("next.toml", &format!("workers = 3\n{next}[services.engine.health]\npath = \"/ready\"\n"));
    let dir = dir.with("half.toml", "[engine]\nstable = 50\ncanary = 50\n").with("bad.toml", "[engine]\nx = 1\n");
    let (code, out, err) = dir.weir(&["diff", "--weights", "half.toml", "--to", "next.toml"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    golden("diff.txt", &out);
    let (_, out, _) = dir.weir(&["diff", "--weights", "half.toml", "-o", "json"]);
    let changes: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(1), "{changes}");
    let (code, out, _) = dir.weir(&["diff", "--weights", "weights.toml"]);
    assert_eq!((code, out.as_str()), (Some(0), "nothing would change\n"));
    let (code, _, err) = dir.weir(&["diff", "--weights", "bad.toml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("bad.toml:2:1"), "{err}");
}

#[test]
fn diff_names_every_policy_by_its_keys_and_shows_no_token() {
    let old = format!(
        "{CONFIG}[services.engine.override]\ntoken = \"first-secret\"\n\
         [services.old.pools.only]\nendpoints = [\"http://127.0.0.1:4\"]\n\
         [[routes]]\nname = \"beta\"\nservice = \"engine\"\npool = \"canary\"\n\
         match.headers = {{ x-beta = \"true\" }}\n\
         [[routes]]\nname = \"gone\"\nservice = \"engine\"\nmatch.path = \"/gone\"\n\
         [[routes]]\nname = \"all\"\nservice = \"engine\"\n"
    );
    let new = r#"
trusted_proxies = ["10.0.0.0/8"]
[limits]
head_bytes_max = "64KiB"
drain = "90s"
[access_log]
to = "stdout"
sample = 0.1
[services.engine]
stable = "canary"
direct_paths = { networks = ["10.0.0.0/8"] }
on_pool_down = "strict"
preserve_host = false
[services.engine.pools.stable]
endpoints = ["http://127.0.0.1:1"]
[services.engine.pools.canary]
endpoints = ["http://127.0.0.1:2"]
[services.engine.affinity]
by = "cookie"
name = "sticky"
max_age = "1h"
on_zero = "drain"
[services.engine.health]
interval = "5s"
fall = 1
[services.engine.breaker]
failures = 9
error_ratio = 0.25
[services.engine.timeouts]
response_header = "1500ms"
[services.engine.retry]
attempts = 0
[services.engine.override]
header = "x-pool"
token = "second-secret"
networks = ["127.0.0.1"]
[[routes]]
name = "all"
service = "engine"
match.path_prefix = "/api"
rewrite_prefix = "/v2"
[[routes]]
name = "beta"
service = "engine"
priority = 7
[routes.match]
host = ["shop.example", "*.example"]
path_regex = "/v[0-9]+"
method = "GET"
headers = { x-beta = { regex = "t.*" } }
query = { debug = { present = true } }
cookies = { who = { exact = "me", case_sensitive = false } }
client_networks = "10.0.0.0/8"
"#;
    let dir = Dir::new().with("weir.toml", &old).with("next.toml", new);
    let (code, out, err) = dir.weir(&["diff", "--to", "next.toml"]);
    assert_eq!(code, Some(0), "{err}");
    golden("diff-policies.txt", &out);
    assert!(!out.contains("secret"), "{out}");
}

#[test]
fn explain_tells_where_a_request_goes_and_why() {
    let canary = r#"{"generation":7,"routes":[{"name":"beta","matched":false},{"name":"default","matched":true}],
        "route":"default","service":"engine","pool":"canary","why":"cookie","reason":"bucket 912345 belongs to canary",
        "bucket":912345,"shares":[{"pool":"stable","weight":90,"share":0.9},{"pool":"canary","weight":10,"share":0.1}],
        "endpoint":"10.0.3.9:8080","forwarded_path":"/pay","status":null}"#;
    let arguments = ["explain", "-H", "X-User: 7", "--client-ip", "10.0.0.1", "http://shop.example/canary/pay?x=1"];
    let (code, out, _, asked) = against(Admin::answering(&[(200, canary)]), &arguments);
    assert_eq!(code, Some(0));
    let body = asked[0].split("\n\n").nth(1).expect("a body");
    let described: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let meant = serde_json::json!({
        "method": "GET", "path": "/canary/pay?x=1", "host": "shop.example", "client_ip": "10.0.0.1",
        "headers": { "x-user": ["7"] },
    });
    assert_eq!(described, meant);
    let refused = r#"{"generation":7,"reason":"no endpoint of pool stable of service engine can serve","status":503}"#;
    let (_, refused, _, _) = against(Admin::answering(&[(200, refused)]), &["explain", "/"]);
    golden("explain.txt", &format!("{out}\n{refused}"));
}

// === changes ===

const LIVE: &str = r#"{"service":"engine","generation":7,"weights":{"stable":90,"canary":10},"stable":"stable"}"#;

#[test]
fn set_says_who_and_why_and_tells_what_is_live() {
    let done = r#"{"service":"engine","generation":8,"weights":{"stable":50,"canary":50},"stable":"stable",
        "pending":null,"undo":{"stable":90,"canary":10},"changed":true}"#;
    let arguments = ["set", "engine", "stable=50", "canary=50", "--if-match", "7", "--reason", "half of it"];
    let (code, out, err, asked) = against(Admin::answering(&[(200, LIVE), (200, done)]), &arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines =
        "engine is at stable=50 canary=50 (generation 8)\nbefore: stable=90 canary=10; `weir undo engine` goes back\n";
    assert_eq!(out, lines);
    let put = &asked[1];
    assert!(put.starts_with("put /api/v1/services/engine/weights http/1.1"), "{put}");
    assert!(put.ends_with(r#"{"stable":50,"canary":50}"#), "{put}");
    for field in ["x-weir-who: ada", "x-weir-reason: half of it", "if-match: \"7\"", "content-type: application/json"] {
        assert!(put.contains(&format!("\n{field}\n")), "{field} is not in {put}");
    }
}

#[test]
fn a_refusal_is_told_in_words_or_as_the_document_and_exits_one() {
    let conflict = r#"{"type":"urn:weir:problem:conflict","title":"Somebody else was first","status":409,
        "code":"conflict","detail":"the generation is 9 now, not 7","generation":9}"#;
    let arguments = ["undo", "engine", "--if-match", "7"];
    let (code, out, err, _) = against(Admin::answering(&[(409, conflict)]), &arguments);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let words =
        "error: somebody else was first: the generation is 9 now, not 7\n  look with `weir status` and decide anew\n";
    assert_eq!(err, words);
    let (code, out, _, _) = against(Admin::answering(&[(409, conflict)]), &[&["-o", "json"], &arguments[..]].concat());
    let document: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &document["generation"]), (Some(1), &9.into()));
}

#[test]
fn a_pool_that_has_traffic_cannot_be_forgotten() {
    let (code, _, err, asked) = against(Admin::answering(&[(200, LIVE)]), &["set", "engine", "canary=10"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("stable=0"), "{err}");
    assert_eq!(asked.len(), 1, "nothing was changed");
}

#[test]
fn a_mistyped_pool_or_service_is_one_sentence_with_the_right_name() {
    let status = r#"{"services":[{"name":"engine","pools":[{"name":"stable"},{"name":"canary"}]},{"name":"shop"}]}"#;
    let answers = [(200, LIVE), (200, status)];
    let (code, _, err, asked) = against(Admin::answering(&answers), &["set", "engine", "stable=90", "canray=10"]);
    assert_eq!(err, "error: service \"engine\" has no pool \"canray\"; did you mean \"canary\"?\n");
    assert_eq!((code, asked.len()), (Some(2), 2), "nothing was changed");
    let unknown = r#"{"title":"There is no such service","status":404,"code":"unknown_service",
        "detail":"there is no service \"engin\""}"#;
    let answers = [(404, unknown), (200, status)];
    let (code, _, err, _) = against(Admin::answering(&answers), &["rollback", "engin"]);
    assert_eq!((code, err.as_str()), (Some(2), "error: there is no service \"engin\"; did you mean \"engine\"?\n"));
}

#[test]
fn a_change_to_a_pool_where_nothing_serves_warns() {
    let done = r#"{"service":"engine","generation":8,"weights":{"stable":100,"canary":0},"changed":true}"#;
    let status = r#"{"services":[{"name":"engine","stable":"stable","pools":[
        {"name":"stable","weight":100,"endpoints":[{"state":"down"}]},{"name":"canary","weight":0,"endpoints":[]}]}]}"#;
    let (code, _, err, _) = against(Admin::answering(&[(200, done), (200, status)]), &["rollback", "engine"]);
    assert_eq!(code, Some(0));
    assert_eq!(err, "WARNING: nothing serves in stable: clients of engine get 503 NOW\n");
    let some = r#"{"services":[{"name":"engine","stable":"stable","pools":[
        {"name":"stable","weight":9,"endpoints":[{"state":"serving"}]},
        {"name":"canary","weight":1,"endpoints":[]}]}]}"#;
    let (_, _, err, _) = against(Admin::answering(&[(200, done), (200, some)]), &["rollback", "engine"]);
    assert_eq!(err, "note: nothing serves in pool canary: its traffic goes elsewhere or gets 503\n");
}

#[test]
fn a_missing_token_and_a_wrong_one_are_told_apart() {
    let refused = r#"{"title":"A token is needed","status":401,"code":"unauthorized","detail":"send Authorization"}"#;
    let (code, _, err, _) = against(Admin::answering(&[(401, refused)]), &["undo", "engine"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: this weir takes commands only with a token\n"), "{err}");
    let admin = Admin::answering(&[(401, refused)]);
    let dir = Dir::new().with("token", "0123456789abcdef\n");
    let (_, _, err) = dir.weir(&["--admin", &admin.address.to_string(), "--token-file", "token", "undo", "engine"]);
    assert!(err.starts_with("error: weir does not take the token in token\n"), "{err}");
    drop(admin.asked());
}

// === rollouts ===

fn rollout(state: &str, because: &str) -> String {
    serde_json::json!({
        "rolloutId": "engine-2-01", "plan": "engine-2", "service": "engine", "candidate": "canary", "state": state,
        "currentPercentage": 5.0, "phase": 0, "verdict": "inconclusive", "because": because,
        "startedAt": "2026-11-21T02:41:10Z",
    })
    .to_string()
}

#[test]
fn start_asks_for_a_plan_or_for_a_profile_and_says_the_id() {
    let started = rollout("pending", "");
    let (code, out, err, asked) =
        against(Admin::answering(&[(201, &started)]), &["rollout", "start", "engine-2", "--reason", "nightly"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "rollout engine-2-01 is pending at 5 %; watch it with `weir rollout watch engine-2-01`\n");
    assert!(asked[0].starts_with("post /api/v1/rollouts http/1.1\n") && asked[0].contains("\nx-weir-who: ada\n"));
    assert!(asked[0].ends_with(r#"{"plan":"engine-2","reason":"nightly"}"#), "{}", asked[0]);
    let arguments = ["rollout", "start", "engine", "--profile", "stable-channel", "--dry-run", "--supersede"];
    let (_, _, _, asked) = against(Admin::answering(&[(201, &started)]), &arguments);
    let body = r#"{"service":"engine","profile":"stable-channel","dryRun":true,"supersede":true}"#;
    assert!(asked[0].ends_with(body), "{}", asked[0]);
}

#[test]
fn a_second_start_is_refused_with_the_id_of_the_first() {
    let conflict = r#"{"title":"A rollout runs already","status":409,"code":"rollout_running",
        "detail":"engine-2-01 runs for engine","rolloutId":"engine-2-01"}"#;
    let (code, _, err, _) = against(Admin::answering(&[(409, conflict)]), &["rollout", "start", "engine-2"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("engine-2-01 runs for engine"), "{err}");
}

#[test]
fn wait_tells_the_end_by_its_exit_code_and_a_banner() {
    for (state, code, banner) in [
        ("completed", 0, "CANARY PASSED"),
        ("rolled_back", 1, "CANARY FAILED"),
        ("rolling_out", 2, "CANARY INCONCLUSIVE"),
    ] {
        let answer = rollout(state, "golden_mismatch increased: 0 -> 1");
        let arguments = ["rollout", "wait", "engine-2-01", "--timeout", "0"];
        let (exit, out, _, asked) = against(Admin::answering(&[(200, &answer)]), &arguments);
        assert_eq!(exit, Some(code), "{state}: {out}");
        assert!(out.contains(banner), "{out}");
        assert_eq!(out.contains("Rollback reason: golden_mismatch increased: 0 -> 1"), code == 1, "{out}");
        assert!(asked[0].starts_with("get /api/v1/rollouts/engine-2-01 http/1.1\n"), "{}", asked[0]);
    }
    // A weir that cannot be asked is no rollback.
    let dir = Dir::new();
    assert_eq!(dir.weir(&["--admin", "127.0.0.1:1", "rollout", "wait", "engine"]).0, Some(2));
}

#[test]
fn a_command_may_name_the_service_instead_of_the_id() {
    let missing = r#"{"title":"There is nothing here","status":404,"code":"not_found","detail":"no rollout engine"}"#;
    let one = rollout("rolling_out", "");
    let list = format!(r#"{{"rollouts":[{one}]}}"#);
    let paused = rollout("paused", "ada asked for it");
    let answers = [(404, missing), (200, &list), (200, one.as_str()), (200, paused.as_str())];
    let arguments = ["rollout", "pause", "engine", "--reason", "lunch"];
    let (code, out, err, asked) = against(Admin::answering(&answers), &arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, "engine is paused at 5 %  engine-2-01\n");
    let asked: Vec<&str> = asked.iter().filter_map(|asked| asked.lines().next()).collect();
    assert_eq!(
        asked,
        [
            "get /api/v1/rollouts/engine http/1.1",
            "get /api/v1/rollouts http/1.1",
            "get /api/v1/rollouts/engine-2-01 http/1.1",
            "post /api/v1/rollouts/engine-2-01/pause http/1.1",
        ]
    );
}

#[test]
fn kill_and_unkill_name_their_scope_and_reason() {
    for (arguments, body, said) in [
        (
            &["kill", "engine", "--reason", "errors"][..],
            r#"{"scope":"service","service":"engine","reason":"errors"}"#,
            "service engine is killed: everything goes to stable; `weir unkill engine` lets it go\n",
        ),
        (
            &["kill", "--all"],
            r#"{"scope":"system"}"#,
            "every service is killed: everything goes to stable; `weir unkill --all` lets it go\n",
        ),
        (
            &["unkill", "engine"],
            r#"{"scope":"service","service":"engine"}"#,
            "service engine is let go; its weights count again\n",
        ),
    ] {
        let (code, out, err, asked) = against(Admin::answering(&[(200, r#"{"killed":true}"#)]), arguments);
        assert_eq!((code, err.as_str(), out.as_str()), (Some(0), "", said));
        assert!(asked[0].starts_with(&format!("post /api/v1/{} http/1.1\n", arguments[0])), "{}", asked[0]);
        assert!(asked[0].ends_with(body), "{}", asked[0]);
    }
    assert_eq!(Dir::new().weir(&["kill"]).0, Some(2));
}

#[test]
fn events_are_lines_and_on_demand_json() {
    let stream = "id: 7\nevent: rollout_paused\ndata: {\"atMs\":1795228870000,\"kind\":\"rollout_paused\",\
                  \"severity\":\"warning\",\"service\":\"engine\",\"who\":\"ada\",\"message\":\"paused: lunch\"}\n\n";
    let (code, out, err, asked) = against(Admin::answering(&[(200, stream)]), &["events", "--since", "6"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("rollout paused") && out.contains("engine: paused: lunch"), "{out}");
    assert!(asked[0].contains("\nlast-event-id: 6\n"), "{}", asked[0]);
    let (_, out, _, _) = against(Admin::answering(&[(200, stream)]), &["-o", "json", "events"]);
    let event: serde_json::Value = serde_json::from_str(&out).expect("one document a line");
    assert_eq!(event["id"], 7);
}

#[test]
fn a_plan_is_written_once_checked_and_its_problems_told_with_their_places() {
    let dir = Dir::new().with("weir.toml", CONFIG);
    let (code, _, err) = dir.weir(&["rollout", "check"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("rollouts holds no plan; `weir rollout new` writes one"), "{err}");
    let (code, out, err) = dir.weir(&["rollout", "new", "engine-2"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("rollouts/engine-2.toml holds a plan for engine; "), "{out}");
    let (code, _, err) = dir.weir(&["rollout", "new", "engine-2"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("is there already"), "{err}");
    let (code, out, err) = dir.weir(&["rollout", "check", "engine-2", "--strict"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "ok rollouts/engine-2.toml: engine to canary by 1 %, 5 %, 25 %, 100 %; 2 gates; at least 20 min\n");
    let (code, _, err) = dir.weir(&["rollout", "check", "engine-3"]);
    assert_eq!((code, err.as_str()), (Some(2), "error: there is no plan \"engine-3\"; did you mean \"engine-2\"?\n"));
    let wrong = "service = \"engine\"\ncandidate = \"canary\"\n[[phases]]\npercent = 50\n[[phases]]\npercent = 5\n";
    let dir = dir.with("rollouts/falls.toml", wrong);
    let (code, _, err) = dir.weir(&["rollout", "check", "rollouts/falls.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("rollouts/falls.toml:6:1"), "{err}");
    let (code, out, err) = dir.weir(&["check"]);
    assert!(
        code == Some(0) && format!("{out}{err}").contains("rollouts/falls.toml:6:1"),
        "check notes plans: {out}{err}"
    );
    let (code, out, _) = dir.weir(&["rollout", "check", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, report["ok"].as_bool()), (Some(2), Some(false)), "{report}");
    assert_eq!(report["plans"].as_array().map(Vec::len), Some(2), "{report}");
}

#[test]
fn the_audit_log_is_read_and_verified_without_a_running_weir() {
    use weir::rollout::journal::{FILE, Journal, audit::Entry};
    let dir = Dir::new().with("weir.toml", CONFIG);
    let state = dir.0.join(".weir");
    let (code, _, err) = dir.weir(&["audit", "--offline"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no record in .weir"), "{err}");
    let journal = Journal::open(&state).expect("a new journal");
    for reason in ["lunch", "errors on /pay"] {
        let (action, service) = ("rollout.pause".into(), "engine".into());
        journal.audit(Entry { who: "ada".into(), action, service, reason: reason.into(), ..Entry::default() });
    }
    // What closes the journal is a thread of its own.
    drop(journal);
    let whole = |out: &str| out.contains("lunch") && out.contains("errors on /pay");
    let began = std::time::Instant::now();
    let (code, out, err) = loop {
        let answer = dir.weir(&["audit", "--offline"]);
        if whole(&answer.1) || began.elapsed().as_secs() > 10 {
            break answer;
        }
    };
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let at = |part: &str| out.find(part).unwrap_or_else(|| panic!("{part} is not in\n{out}"));
    assert!(at("lunch") < at("errors on /pay"), "the newest last: {out}");
    let (code, out, _) = dir.weir(&["audit", "verify", "--offline"]);
    assert!(code == Some(0) && out.starts_with("ok 2 entries"), "{code:?} {out}");
    // Somebody changes the past.
    let read = || {
        let bytes = std::fs::read(state.join(FILE)).expect("the file is there");
        let place = bytes.windows(5).position(|five| five == b"lunch")?;
        Some((bytes, place))
    };
    while read().is_none() && began.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let (mut changed, place) = read().expect("it is in it");
    changed[place..place + 5].copy_from_slice(b"munch");
    std::fs::write(state.join(FILE), changed).expect("it can be written");
    let (code, _, err) = dir.weir(&["audit", "verify", "--offline"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("the record was changed"), "{err}");
}

#[test]
fn a_kept_report_is_drawn_without_a_running_weir() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report/rolled-back.json");
    let dir = Dir::new();
    let kept = kept.display().to_string();
    let (code, _, err) = dir.weir(&["rollout", "report", "--from", &kept, "--html", "--out", "page.html"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(dir.read("page.html").starts_with("<!doctype html>"));
}

#[test]
fn a_rollback_that_the_file_does_not_say_yet_says_so() {
    let done = r#"{"service":"engine","generation":8,"weights":{"stable":100,"canary":0},"changed":true,
        "pending":"weights.toml is read-only: save it","undo":null}"#;
    let (code, out, err, asked) = against(Admin::answering(&[(200, done)]), &["rollback", "engine", "--reason", "p95"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "engine is at stable=100 canary=0 (generation 8)\n");
    assert_eq!(err, "note: weights.toml is read-only: save it\n");
    assert!(asked[0].ends_with(r#"{"reason":"p95"}"#), "{}", asked[0]);
}

#[test]
fn the_token_that_the_configuration_names_is_sent() {
    let admin = Admin::answering(&[(200, "ok"), (200, "ok")]);
    let config = format!("[admin]\naddress = \"{}\"\ntoken_file = \"token\"\n{CONFIG}", admin.address);
    let dir = Dir::new().with("weir.toml", &config).with("token", "0123456789abcdef\n");
    assert_eq!(dir.weir(&["healthcheck"]).0, Some(0));
    // Also from a configuration that does not hold at the moment.
    let dir = dir.with("weir.toml", &format!("{config}\nno_such_key = 1\n"));
    assert_eq!(dir.weir(&["healthcheck", "--strict"]).0, Some(0));
    for asked in admin.asked() {
        assert!(asked.contains("\nauthorization: bearer 0123456789abcdef\n"), "{asked}");
    }
}

#[test]
fn a_configuration_that_is_named_and_not_there_commands_no_other_weir() {
    let admin = Admin::answering(&[(200, "ok"), (200, "ok")]);
    let address = admin.address.to_string();
    let dir = Dir::new();
    for verb in
        [&["rollback", "engine"][..], &["status"], &["reload"], &["undo", "engine"], &["diff"], &["healthcheck"]]
    {
        let (code, _, err) = dir.weir(&[verb, &["--config", "wier.toml"]].concat());
        assert_eq!(code, Some(2), "{verb:?}: {err}");
        assert!(err.contains("cannot read wier.toml: No such file") && err.contains("--admin URL"), "{verb:?}: {err}");
        let output = dir.command(verb).env("WEIR_CONFIG", "wier.toml").output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(2), "{verb:?}");
    }
    assert_eq!(dir.weir(&["healthcheck", "--config", "wier.toml", "--admin", &address]).0, Some(0));
    let command = dir.command(&["healthcheck"]).env("WEIR_CONFIG", "wier.toml").env("WEIR_ADMIN", &address).output();
    assert_eq!(command.expect("the binary starts").status.code(), Some(0));
    drop(admin.asked());
}

#[test]
fn diff_without_a_file_tells_what_the_running_weir_sees() {
    let body = r#"{"changes":["service engine: stable=1 canary=1"],"restart":["listeners.public"]}"#;
    let (code, out, _, asked) = against(Admin::answering(&[(200, body)]), &["diff"]);
    assert_eq!(code, Some(0));
    assert!(asked[0].starts_with("get /api/v1/diff "), "{}", asked[0]);
    assert!(out.contains("stable=1 canary=1\n") && out.contains("listeners.public: needs a restart"), "{out}");
}

#[test]
fn without_a_running_weir_the_verbs_say_so_and_exit_one() {
    // A port that was free a moment ago and that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let dir = Dir::new().with("weir.toml", &format!("[admin]\naddress = \"{address}\"\n{CONFIG}"));
    let verbs: [&[&str]; 5] =
        [&["status"], &["set", "engine", "stable=1"], &["rollback", "engine"], &["undo", "engine"], &["reload"]];
    for verb in verbs {
        let (code, _, err) = dir.weir(verb);
        assert_eq!(code, Some(1), "{verb:?}: {err}");
        assert!(err.contains(&format!("no weir answers at http://{address}")) && err.contains("weir run"), "{err}");
        let offline = matches!(verb[0], "set" | "rollback" | "undo");
        assert_eq!(err.contains("--offline"), offline, "{verb:?}: {err}");
    }
    assert_eq!(dir.weir(&["healthcheck"]).0, Some(1));
}

#[test]
fn offline_changes_keep_the_comments_of_the_weights_file() {
    let dir = Dir::new().with("weir.toml", CONFIG);
    let dir = dir.with("weights.toml", "# ours\n[engine]\nstable = 90 # most\ncanary = 10\n");
    let (code, out, err) = dir.weir(&["set", "engine", "stable=50", "canary=50", "--offline"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("weights.toml says engine stable=50 canary=50"), "{out}");
    assert_eq!(dir.read("weights.toml"), "# ours\n[engine]\nstable = 50 # most\ncanary = 50\n");
    assert_eq!(dir.weir(&["set", "engine", "canary=1", "--offline"]).0, Some(2));
    assert_eq!(dir.weir(&["rollback", "engine", "--offline"]).0, Some(0));
    assert_eq!(dir.read("weights.toml"), "# ours\n[engine]\nstable = 100 # most\ncanary = 0\n");
    let dir = dir.with("weights.toml", "[engine\nstable == 90");
    assert_eq!(dir.weir(&["rollback", "engine", "--offline"]).0, Some(0), "also over a file that does not hold");
    assert_eq!(dir.read("weights.toml"), "[engine]\ncanary = 0\nstable = 100");
}

#[test]
fn a_rollback_offline_changes_nothing_that_it_was_not_asked_to() {
    let config = format!(
        "{CONFIG}{}[[routes]]\nmatch.path_prefix = \"/b\"\nservice = \"b\"\n[[routes]]\nservice = \"engine\"\n",
        CONFIG.replace("engine", "b")
    );
    let dir = Dir::new().with("weir.toml", &config);
    let other = "[b]\nstable = 0\ncanary = 100\nkill = \"do not touch\"\n";
    let text = format!("# precious\n[engine]\nstable = 90 # most\ncanary = 10x\n{other}");
    let dir = dir.with("weights.toml", &text);
    // The error is on the service's own line: mended with it.
    let (code, out, err) = dir.weir(&["rollback", "engine", "--offline", "--reason", "x"]);
    assert_eq!(
        (code, &*out),
        (Some(0), "weights.toml says engine stable=100 canary=0 now; no running weir was asked\n"),
        "{err}"
    );
    assert_eq!(dir.read("weights.toml"), text.replace("= 90", "= 100").replace("10x", "0"));
    // It is elsewhere: the rollback is written all the same, and it is said that the file does not hold.
    let dir = dir.with("weights.toml", &text);
    let (code, _, err) = dir.weir(&["rollback", "b", "--offline"]);
    assert_eq!(code, Some(1), "{err}");
    for part in
        ["weights.toml says b stable=100 canary=0 now", "weights.toml:4:10: 10x is no value", "before that is mended"]
    {
        assert!(err.contains(part), "{err}");
    }
    assert_eq!(dir.read("weights.toml"), text.replace("stable = 0\ncanary = 100", "stable = 100\ncanary = 0"));
    // Lines that cannot be told apart stay as they are.
    let text = format!("kill = \"\"\"\n[engine]\n\"\"\"\n{text}");
    let dir = dir.with("weights.toml", &text);
    let (code, _, err) = dir.weir(&["rollback", "engine", "--offline"]);
    assert_eq!((code, dir.read("weights.toml")), (Some(2), text));
    assert!(
        err.contains("nothing was changed") && err.contains("write it by hand: [engine] stable=100 canary=0"),
        "{err}"
    );
    // A change that is not to stable waits for a file that holds, and says where it does not.
    let dir = dir.with("weights.toml", "[engine]\nstable = 90\ncanary = 10x\n");
    for verb in [&["set", "engine", "stable=50", "canary=50", "--offline"][..], &["maintenance", "engine", "--offline"]]
    {
        let (code, _, err) = dir.weir(verb);
        assert!(code == Some(2) && err.contains("3:10: 10x is no value"), "{err}");
    }
}

#[test]
fn a_kill_offline_is_one_word_in_the_file() {
    let text = "# ours\n[engine]\nstable = 90 # most\ncanary = 10\n";
    let dir = Dir::new().with("weir.toml", CONFIG).with("weights.toml", text);
    let (code, out, err) = dir.weir(&["kill", "engine", "--offline", "--reason", "leaks"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("weights.toml says that service engine is killed"), "{out}");
    assert_eq!(dir.read("weights.toml"), format!("{text}kill = \"leaks\"\n"));
    assert_eq!(dir.weir(&["unkill", "engine", "--offline"]).0, Some(0));
    assert_eq!(dir.read("weights.toml"), text);
    assert_eq!(dir.weir(&["kill", "--all", "--offline"]).0, Some(0));
    assert!(dir.read("weights.toml").contains("kill = \"\""), "{}", dir.read("weights.toml"));
    let (code, _, err) = dir.weir(&["kill", "engin", "--offline"]);
    assert!(code == Some(2) && err.contains("did you mean \"engine\"?"), "{err}");
}

#[test]
fn what_cannot_be_asked_for_exits_two_wherever_it_is_found_out() {
    let refusal = |code: &str| format!("{{\"code\":\"{code}\",\"title\":\"No\",\"detail\":\"no such thing\"}}");
    for (verb, status, code, exit) in [
        (&["log-level", "loud"][..], 422, "invalid", 2),
        (&["notify", "test", "ops"], 400, "bad_body", 2),
        (&["kill", "--switch", "nope"], 404, "unknown_kill_switch", 2),
        (&["explain", "nopath"], 400, "bad_body", 2),
        (&["reload"], 409, "conflict", 1),
    ] {
        for form in ["human", "json"] {
            let refused = Admin::answering(&[(status, &*refusal(code))]);
            let (exited, _, err, _) = against(refused, &[verb, &["-o", form]].concat());
            assert_eq!(exited, Some(exit), "{verb:?} {form}: {err}");
        }
    }
}

#[test]
fn a_usage_shows_what_is_missing_and_not_what_the_environment_says() {
    let dir = Dir::new().with("weir.toml", CONFIG);
    let output = dir.command(&["set"]).env("WEIR_CONFIG", "weir.toml").output().expect("the binary starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && err.contains("weir set") && !err.contains("--config"), "{err}");
}

#[test]
fn the_hash_of_a_token_is_not_sent_as_one() {
    let hash = format!("sha256:{}\n", "0".repeat(64));
    let dir = Dir::new().with("token", &hash);
    let (code, _, err) = dir.weir(&["status", "--admin", "127.0.0.1:1", "--token-file", "token"]);
    assert!(code == Some(1) && err.contains("it holds the hash of a token"), "{err}");
}

#[test]
fn wrong_usage_exits_two() {
    let dir = Dir::new().with("weir.toml", CONFIG);
    let lines: [&[&str]; 10] = [
        &[],
        &["no-such-verb"],
        &["set", "engine"],
        &["set", "engine", "stable"],
        &["set", "engine", "stable=-1"],
        &["set", "engine", "stable=0", "canary=0"],
        &["set", "engine", "stable=50%", "canary=40%"],
        &["set", "../engine", "stable=1"],
        &["status", "--admin", "ftp://127.0.0.1:9901"],
        &["status", "--output", "yaml"],
    ];
    for line in lines {
        let (code, _, err) = dir.weir(line);
        assert_eq!(code, Some(2), "{line:?}: {err}");
        assert!(!err.is_empty(), "{line:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = Dir::new();
    let mut child = dir.command(&["schema"]).stdout(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

// === the test upstream and the demo ===

/// A child that is killed when its test ends early.
struct Running(Child);

impl Running {
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        let out = self.0.stdout.as_mut().expect("stdout is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        line
    }

    fn terminate(mut self) -> Option<i32> {
        let pid = i32::try_from(self.0.id()).expect("a process id fits");
        // SAFETY: the process was started here and not waited for, so the id is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer to its end");
    answer
}

#[test]
fn the_test_upstream_answers_with_its_name_and_echoes() {
    let dir = Dir::new();
    let arguments = ["upstream", "--name", "blue", "--listen", "127.0.0.1:0", "--workers", "2"];
    let mut upstream = Running(dir.command(&arguments).stdout(Stdio::piped()).spawn().expect("it starts"));
    let line = upstream.first_line();
    let address = line.trim().strip_prefix("blue listens on ").expect("its address").to_owned();
    let answer = ask(&address, "GET /any?x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-upstream: blue\r\n") && answer.ends_with("\r\n\r\nblue\n"), "{answer}");
    let echo = "POST /echo HTTP/1.1\r\nhost: a\r\nx-y: Z\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let answer = ask(&address, echo);
    assert!(answer.contains("POST /echo HTTP/1.1\n") && answer.contains("x-y: Z\n"), "{answer}");
    assert!(answer.ends_with("\n\nhello"), "{answer}");
    assert!(ask(&address, "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ends_with("ok\n"));
    assert_eq!(upstream.terminate(), Some(0));
}

#[test]
fn the_test_upstream_can_fail_as_often_as_it_is_told() {
    let dir = Dir::new();
    let arguments = ["upstream", "--listen", "127.0.0.1:0", "--error-rate", "1", "--body-bytes", "3"];
    let mut upstream = Running(dir.command(&arguments).stdout(Stdio::piped()).spawn().expect("it starts"));
    let address = upstream.first_line().trim().rsplit(' ').next().expect("its address").to_owned();
    for _ in 0..10 {
        let answer = ask(&address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
    let health = ask(&address, "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
}

#[test]
fn the_demo_splits_its_own_load_and_ends_without_a_failed_request() {
    let dir = Dir::new();
    let (code, out, err) = dir.weir(&["demo", "--load", "--seconds", "2", "--port", "0", "--dir", "try"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("set engine stable=50 canary=50") && out.contains("weights.toml"), "{out}");
    assert!(out.contains("generation 1 stable=90 canary=10") && out.contains("failed 0"), "{out}");
    assert!(out.contains(" requests sent, 0 failed\n"), "{out}");
    assert!(!out.contains('\u{1b}'), "no terminal, no colours: {out}");
    assert!(dir.read("try/weights.toml").contains("canary = 10"));
    // A directory of its own is not the demo's to overwrite.
    let dir = dir.with("try/weir.toml", CONFIG);
    let (code, _, err) = dir.weir(&["demo", "--seconds", "1", "--port", "0", "--dir", "try"]);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(dir.read("try/weir.toml"), CONFIG);
}
