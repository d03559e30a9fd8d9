//! People are told what happens: by webhook, Slack and mail, over real sockets, against receivers that fail and hang;
//! who does not look is followed by who is next; and nothing of it holds anything up or gives a secret away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{Behaviour, Load, Reply, Setup, Upstream, Weir, eventually, never};

const SECRET: &str = "7b1c-a-secret-of-the-tests";

const PATIENCE: Duration = Duration::from_secs(20);

fn pools() -> (Upstream, Upstream) {
    (Upstream::named("stable"), Upstream::named("canary"))
}

/// A weir that tells as `lines` say.
fn started(pools: &(Upstream, Upstream), lines: &str) -> Weir {
    setup(pools, lines).start()
}

fn setup((stable, canary): &(Upstream, Upstream), lines: &str) -> Setup {
    let rollouts = format!("[rollouts]\ntick = \"50ms\"\n{lines}");
    Setup::pair(stable, canary, [100, 0]).text(&rollouts).file("secret", SECRET)
}

fn webhook(name: &str, receiver: &Upstream, more: &str) -> String {
    let url = receiver.url();
    format!("[[notifications.channels]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}/hook?k=quiet\"\n{more}\n")
}

#[track_caller]
fn posted(weir: &Weir, path: &str, body: &Value) -> Value {
    let answer = weir.admin("POST", path, &[], &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn kill(weir: &Weir, reason: &str) {
    posted(weir, "/api/v1/kill", &json!({ "service": "engine", "reason": reason }));
}

fn unkill(weir: &Weir) {
    posted(weir, "/api/v1/unkill", &json!({ "service": "engine" }));
}

/// What a receiver got, as JSON.
fn bodies(receiver: &Upstream) -> Vec<Value> {
    let seen = receiver.seen();
    seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap_or(Value::Null)).collect()
}

#[track_caller]
fn channel(weir: &Weir, name: &str) -> Value {
    let status = weir.admin_get("/api/v1/notifications").json();
    let channels = status["channels"].as_array().expect("a list").clone();
    channels.into_iter().find(|channel| channel["name"] == name).unwrap_or_else(|| panic!("{name} in {status}"))
}

#[test]
fn a_webhook_that_fails_twice_is_tried_again_and_its_signature_holds() {
    let (pools, receiver) = (pools(), Upstream::named("pager"));
    let refused = || Behaviour::Reply(Reply::status(503).body("not now"));
    receiver.next(refused());
    receiver.next(refused());
    let weir = started(&pools, &webhook("pager", &receiver, "secret_file = \"secret\""));
    kill(&weir, "errors on /pay");
    eventually("it is taken at last", PATIENCE, || channel(&weir, "pager")["sent"] == 1);
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3, "one, and two more tries");
    for seen in &seen {
        let (stamp, signature) = (seen.field("x-weir-timestamp").unwrap(), seen.field("x-weir-signature").unwrap());
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{stamp}.").as_bytes());
        mac.update(&seen.body);
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signature, format!("sha256={expected}"));
        assert_eq!((seen.target.as_str(), seen.field("x-weir-event")), ("/hook?k=quiet", Some("killed")));
    }
    let body = &bodies(&receiver)[2];
    assert_eq!(
        (&body["kind"], &body["severity"], &body["service"]),
        (&json!("killed"), &json!("critical"), &json!("engine"))
    );
    assert!(body["message"].as_str().is_some_and(|text| text.contains("errors on /pay")), "{body}");
    let events = weir.admin("GET", "/api/v1/events?after=0", &[("accept", "application/json")], "").json();
    for key in ["id", "atMs", "who", "data"] {
        assert_eq!(body[key], events["events"][0][key], "as the stream has it: {key}");
    }
    let state = channel(&weir, "pager");
    assert_eq!((&state["retried"], &state["failed"], &state["waiting"]), (&json!(2), &json!(0), &json!(0)), "{state}");
    assert_eq!(state["lastError"], "answered 503: not now");
    assert_eq!(weir.metrics().sum("weir_notifications_total", &[("channel", "pager"), ("outcome", "sent")]), 1.0);
    let shown = format!("{state}{}{}", weir.log().text(), weir.status());
    assert!(!shown.contains(SECRET) && !shown.contains("quiet"), "a secret is shown: {shown}");
}

#[test]
fn a_receiver_that_never_answers_and_a_flood_hold_nothing_up_and_cost_bounded_memory() {
    let (pools, dead, alive) = (pools(), Upstream::named("dead"), Upstream::named("alive"));
    dead.behave(Behaviour::StallBeforeHead);
    let quick = "cooldown = \"0s\"\nmin_severity = \"info\"\ntimeout = \"20s\"";
    let lines = [webhook("dead", &dead, quick), webhook("alive", &alive, quick)].concat();
    let weir = started(&pools, &lines);
    let load = Load::start(weir.address(), 2, Duration::from_millis(1));
    let before = weir.resident_bytes();
    let mut slowest = Duration::ZERO;
    for _ in 0..150 {
        let began = Instant::now();
        kill(&weir, "flood");
        unkill(&weir);
        slowest = slowest.max(began.elapsed());
    }
    eventually("the other channel has them all", PATIENCE, || {
        let state = channel(&weir, "alive");
        state["sent"].as_u64().unwrap() + state["dropped"].as_u64().unwrap() == 300 && state["waiting"] == 0
    });
    let state = channel(&weir, "dead");
    assert_eq!(
        (&state["sent"], &state["waiting"], &state["dropped"]),
        (&json!(0), &json!(100), &json!(200)),
        "{state}"
    );
    assert_eq!(weir.metrics().sum("weir_notifications_waiting", &[("channel", "dead")]), 100.0);
    assert_eq!(weir.metrics().sum("weir_notifications_total", &[("channel", "dead"), ("outcome", "dropped")]), 200.0);
    load.stop().assert_flawless();
    assert!(slowest < Duration::from_secs(3), "a kill waits for no notification: {slowest:?}");
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[test]
fn within_the_cooldown_one_is_told_and_the_newest_follows_with_the_number_of_the_others() {
    let (pools, receiver) = (pools(), Upstream::named("ops"));
    let weir = started(&pools, &webhook("ops", &receiver, "cooldown = \"2s\"\nevents = [\"killed\"]"));
    for number in 0..4 {
        kill(&weir, &format!("reason {number}"));
    }
    eventually("the newest", PATIENCE, || receiver.count() == 2);
    let bodies = bodies(&receiver);
    let message = |at: usize| bodies[at]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message(0).contains("reason 0") && message(1).contains("reason 3"), "{bodies:#?}");
    assert_eq!((&bodies[0]["heldBack"], &bodies[1]["heldBack"]), (&json!(0), &json!(2)));
    never("another one", Duration::from_millis(500), || receiver.count() != 2);
}

#[test]
fn slack_gets_a_text_and_a_colour() {
    let (pools, receiver) = (pools(), Upstream::named("slack"));
    let lines = "[[notifications.channels]]\nname = \"team\"\nkind = \"slack\"\nurl_file = \"slack.url\"\n";
    let weir = setup(&pools, lines).file("slack.url", &format!("{}/services/T0/B0/quiet\n", receiver.url())).start();
    kill(&weir, "<!channel> look");
    eventually("it is there", PATIENCE, || receiver.count() == 1);
    let body = &bodies(&receiver)[0];
    assert_eq!((receiver.last().target.as_str(), &body["text"]), ("/services/T0/B0/quiet", &json!("engine: killed")));
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["color"], "#e01e5a");
    let text = attachment["text"].as_str().unwrap_or_default();
    assert!(text.contains("&lt;!channel&gt; look"), "nobody is called by what a reason says: {text}");
    let shown = weir.admin_get("/api/v1/notifications").text();
    assert!(!shown.contains("quiet") && shown.contains(&receiver.url()), "{shown}");
}

/// A plan whose gate finds a canary that fails.
fn plan() -> String {
    json!({
        "service": "engine",
        "candidate": "canary",
        "phases": [{ "percent": 50, "min_duration": "10s" }, { "percent": 100, "min_duration": "10s" }],
        "gates": [{ "kind": "error_rate" }],
        "evidence": { "settle": "100ms", "warm_up": "0s" },
    })
    .to_string()
}

#[test]
fn a_rollout_that_rolls_back_is_told_and_escalated_until_somebody_acknowledges_it() {
    let pools = pools();
    let (ops, lead, boss) = (Upstream::named("ops"), Upstream::named("lead"), Upstream::named("boss"));
    let rule = |after: &str, channel: &str, until: &str| {
        format!(
            "[[notifications.escalations]]\nafter = \"{after}\"\nchannels = [\"{channel}\"]\nuntil = \"{until}\"\n\
             events = [\"rollback_initiated\"]\n"
        )
    };
    let lines = [
        webhook("ops", &ops, "events = [\"rollback_initiated\", \"rollback_completed\"]"),
        webhook("lead", &lead, "only_escalated = true"),
        webhook("boss", &boss, "only_escalated = true"),
        // A rollback that is verified has ended; only who insists on somebody who looks is followed up.
        rule("4s", "boss", "ended"),
        rule("1s", "lead", "acknowledged"),
        rule("1h", "boss", "acknowledged"),
    ];
    let weir = started(&pools, &lines.concat());
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    pools.1.behave(Behaviour::Reply(Reply::status(500)));
    let began = Instant::now();
    let answer = weir.admin("POST", "/api/v1/rollouts", &[], &plan());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = answer.json()["rolloutId"].clone();
    eventually("the lead is told", PATIENCE, || lead.count() == 1);
    assert!(began.elapsed() >= Duration::from_secs(1));
    drop(load.stop());
    eventually("the rollback is verified", PATIENCE, || ops.count() == 2);
    let verified = began.elapsed();
    assert!(verified < Duration::from_secs(4), "{verified:?}");
    let told = bodies(&ops);
    assert_eq!(told.iter().map(|body| &body["kind"]).collect::<Vec<_>>(), ["rollback_initiated", "rollback_completed"]);
    let escalated = &bodies(&lead)[0];
    assert_eq!((&escalated["id"], &escalated["rolloutId"]), (&told[0]["id"], &id));
    assert_eq!(escalated["escalation"]["afterMs"], 1000);
    never("the boss is told of what has ended", Duration::from_millis(4500), || boss.count() > 0);
    let open = weir.admin_get("/api/v1/notifications").json()["open"].clone();
    assert_eq!((&open[0]["rolloutId"], &open[0]["next"][0]["channel"]), (&id, &json!("boss")), "{open}");
    let (code, out, err) = weir.verb(&["notify", "ack", "engine", "--reason", "I look"]);
    assert_eq!((code, out.as_str()), (Some(0), "1 incident is acknowledged; it is not escalated\n"), "{err}");
    assert_eq!(weir.admin_get("/api/v1/notifications").json()["open"], json!([]));
    let audit = weir.admin_get("/api/v1/audit").text();
    assert!(audit.contains("notifications.acknowledge") && audit.contains("I look"), "{audit}");
}

#[test]
fn what_was_not_told_and_what_nobody_looked_at_survives_kill_9() {
    let pools = pools();
    let (pager, boss, ops) = (Upstream::named("pager"), Upstream::named("boss"), Upstream::named("ops"));
    pager.behave(Behaviour::StallBeforeHead);
    let lines = [
        webhook("pager", &pager, "events = [\"rollback_initiated\"]"),
        webhook("boss", &boss, "only_escalated = true"),
        webhook("ops", &ops, "events = [\"rollback_initiated\"]"),
        "[[notifications.escalations]]\nafter = \"3s\"\nchannels = [\"boss\"]\nuntil = \"acknowledged\"\n".into(),
    ];
    let weir = started(&pools, &lines.concat());
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    pools.1.behave(Behaviour::Reply(Reply::status(500)));
    assert_eq!(weir.admin("POST", "/api/v1/rollouts", &[], &plan()).status, 201);
    eventually("it is tried", PATIENCE, || pager.count() == 1 && channel(&weir, "ops")["sent"] == 1);
    // What is kept is kept twice a second; a crash before that would only tell more than once.
    std::thread::sleep(Duration::from_millis(1200));
    drop(load.stop());
    let event = bodies(&pager)[0].clone();
    pager.behave(Behaviour::Answer);
    let weir = weir.restart().expect("it starts again");
    eventually("it is told after all", PATIENCE, || channel(&weir, "pager")["sent"] == 1);
    eventually("and the boss, since nobody looked", PATIENCE, || boss.count() == 1);
    assert_eq!(bodies(&pager)[1]["id"], event["id"]);
    assert_eq!(bodies(&boss)[0]["escalation"]["afterMs"], 3000);
    // Everything was told and stays told.
    eventually("it is kept", PATIENCE, || channel(&weir, "boss")["sent"] == 1);
    std::thread::sleep(Duration::from_millis(1500));
    let weir = weir.restart().expect("it starts again");
    never("told once more", Duration::from_millis(1500), || pager.count() != 2 || boss.count() != 1);
    assert_eq!(ops.count(), 1, "who was told is not told again");
    assert_eq!(weir.admin_get("/api/v1/notifications").json()["open"], json!([]));
}

#[test]
fn what_was_taken_is_not_told_again_after_kill_9_although_something_before_it_waits() {
    let (pools, receiver) = (pools(), Upstream::named("ops"));
    let weir = started(&pools, &webhook("ops", &receiver, ""));
    kill(&weir, "one");
    kill(&weir, "two");
    posted(&weir, "/api/v1/kill", &json!({ "scope": "system", "reason": "three" }));
    eventually("one and three", PATIENCE, || {
        channel(&weir, "ops")["sent"] == 2 && channel(&weir, "ops")["holding"] == 1
    });
    // What is kept is kept twice a second.
    std::thread::sleep(Duration::from_millis(1200));
    let weir = weir.restart().expect("it starts again");
    eventually("two, which was held back", PATIENCE, || channel(&weir, "ops")["sent"] == 1);
    never("another one", Duration::from_millis(1500), || receiver.count() != 3);
    let told: Vec<String> = bodies(&receiver).iter().map(|body| body["message"].to_string()).collect();
    assert!(["one", "three", "two"].iter().zip(&told).all(|(word, told)| told.contains(word)), "{told:?}");
}

#[test]
fn a_kill_after_the_one_before_was_let_go_is_told_at_once() {
    let (pools, receiver) = (pools(), Upstream::named("ops"));
    let weir = started(&pools, &webhook("ops", &receiver, "events = [\"killed\"]"));
    for number in 0..3 {
        kill(&weir, &format!("reason {number}"));
        unkill(&weir);
    }
    eventually("each of them", PATIENCE, || receiver.count() == 3);
    let told = bodies(&receiver);
    assert!(told.iter().all(|body| body["heldBack"] == 0), "{told:#?}");
}

#[test]
fn other_channels_are_told_as_soon_as_the_file_is_saved_and_a_broken_one_changes_nothing() {
    let (pools, first, second) = (pools(), Upstream::named("first"), Upstream::named("second"));
    let setup = setup(&pools, "");
    let weir = setup.start();
    let with = |lines: &str| weir.save_config(&format!("{}\n{lines}", setup.config_text()));
    let channels = |names: &[&str]| {
        let status = weir.admin_get("/api/v1/notifications").json();
        status["channels"].as_array().is_some_and(|list| list.iter().map(|it| &it["name"]).eq(names))
    };
    with(&webhook("ops", &first, ""));
    eventually("the first is there", PATIENCE, || channels(&["ops"]));
    kill(&weir, "one");
    eventually("the first is told", PATIENCE, || first.count() == 1);
    with(&webhook("ops", &second, "min_severity = \"loud\""));
    eventually("it is refused", PATIENCE, || weir.status().to_string().contains("loud"));
    assert!(channels(&["ops"]));
    with(&[webhook("ops", &second, ""), webhook("more", &second, "")].concat());
    eventually("the second is there", PATIENCE, || channels(&["ops", "more"]));
    unkill(&weir);
    eventually("both are told", PATIENCE, || second.count() == 2);
    assert_eq!(first.count(), 1);
}

#[test]
fn a_test_says_which_channel_took_it_and_ends_with_1_when_one_did_not() {
    let (pools, dead, alive) = (pools(), Upstream::named("dead"), Upstream::named("alive"));
    dead.behave(Behaviour::Reply(Reply::status(403).body("no such hook")));
    let weir = started(&pools, &[webhook("dead", &dead, ""), webhook("alive", &alive, "")].concat());
    let (code, out, err) = weir.verb(&["notify", "test"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("failed dead: answered 403: no such hook\n") && out.contains("alive took it in "), "{out}");
    let (code, out, _) = weir.verb(&["notify", "test", "alive"]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(bodies(&alive)[1]["data"], json!({ "test": true }));
    let (code, _, err) = weir.verb(&["notify", "test", "alife"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("there is no channel \"alife\"") && err.contains("dead, alive"), "{err}");
    let (code, out, _) = weir.verb(&["notify"]);
    assert!(code == Some(0) && out.contains("alive  webhook  http://127."), "{out}");
}

// === mail ===

/// What a mail server heard of one client.
#[derive(Debug, Default)]
struct Heard {
    commands: Vec<String>,
    mails: Vec<String>,
}

/// A mail server as small as RFC 5321 allows: each connection is served to its end, one after the other.
struct MailServer {
    port: u16,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    None,
    Starttls,
    Implicit,
}

impl MailServer {
    /// The first `busy` mails are refused for now (451).
    fn start(protection: Protection, busy: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let own = Arc::clone(&heard);
        // It ends with the test program.
        std::thread::spawn(move || {
            let mut busy = busy;
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                // A client may leave at any moment.
                let _ = match protection {
                    Protection::Implicit => serve(&mut tls(&mut stream), &own, false, true, &mut busy).map(drop),
                    _ => plain(&mut stream, &own, protection == Protection::Starttls, &mut busy),
                };
            }
        });
        Self { port, heard }
    }

    fn mails(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").mails.clone()
    }

    fn commands(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").commands.clone()
    }
}

fn plain(
    stream: &mut std::net::TcpStream,
    heard: &Mutex<Heard>,
    starttls: bool,
    busy: &mut usize,
) -> std::io::Result<()> {
    if serve(stream, heard, starttls, true, busy)? {
        serve(&mut tls(stream), heard, false, false, busy)?;
    }
    Ok(())
}

/// Serves one client; whether it wants TLS now.
fn serve<S: Read + Write>(
    stream: &mut S,
    heard: &Mutex<Heard>,
    starttls: bool,
    greets: bool,
    busy: &mut usize,
) -> std::io::Result<bool> {
    if greets {
        stream.write_all(b"220 mail.test ESMTP\r\n")?;
    }
    let mut reader = BufReader::with_capacity(1, stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let command = line.trim_end().to_owned();
        heard.lock().expect("no panic").commands.push(command.clone());
        let verb = command.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" if starttls => b"250-mail.test\r\n250 STARTTLS\r\n",
            "EHLO" => b"250-mail.test\r\n250 AUTH PLAIN\r\n",
            "STARTTLS" => {
                reader.get_mut().write_all(b"220 go ahead\r\n")?;
                return Ok(true);
            }
            "AUTH" => b"235 welcome\r\n",
            "MAIL" | "RCPT" => b"250 fine\r\n",
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    if reader.read_line(&mut mail)? == 0 {
                        return Ok(false);
                    }
                }
                if *busy > 0 {
                    *busy -= 1;
                    b"451 later\r\n"
                } else {
                    heard.lock().expect("no panic").mails.push(mail);
                    b"250 taken\r\n"
                }
            }
            "QUIT" => {
                reader.get_mut().write_all(b"221 bye\r\n")?;
                return Ok(false);
            }
            _ => b"502 what?\r\n",
        };
        reader.get_mut().write_all(answer)?;
    }
}

/// Made for these tests and trusted by nobody else: `localhost` and 127.0.0.1, until 2126.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBlzCCAT6gAwIBAgIUQ74g1RShVxIbeuhkdH6a1z+7oCowCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJd2VpciB0ZXN0MCAXDTI2MTEyMTA3MjUwOVoYDzIxMjYxMDI4\n\
MDcyNTA5WjAUMRIwEAYDVQQDDAl3ZWlyIHRlc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAARL5xMHK6hsIeCAp049iPyaWbLK0wbyAnNCGxxA9HeqwPBoQDB3m3Kg\n\
ljDntsv4ACvkKW08pqj+SgCLLKj6SMl4o2wwajAdBgNVHQ4EFgQUWd1baelXalq+\n\
hnGg3rgkEhDGfYcwHwYDVR0jBBgwFoAUWd1baelXalq+hnGg3rgkEhDGfYcwGgYD\n\
VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0E\n\
AwIDRwAwRAIgLSPYMm9XcYkapE96OSFggqQ7d47OgsF/wrWd/PKJbKoCICrRKhQS\n\
8+Q2AAZqYk97mOs2OSYFpgsxK5Q6QBpa9lxy\n\
-----END CERTIFICATE-----\n";

const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEtrgxukiIQ9NPb+i\n\
d7TKQoFwF7f+uo99V9nNAID9J9OhRANCAARL5xMHK6hsIeCAp049iPyaWbLK0wby\n\
AnNCGxxA9HeqwPBoQDB3m3KgljDntsv4ACvkKW08pqj+SgCLLKj6SMl4\n\
-----END PRIVATE KEY-----\n";

fn tls(stream: &mut std::net::TcpStream) -> rustls::StreamOwned<rustls::ServerConnection, &mut std::net::TcpStream> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    let server =
        rustls::ServerConnection::new(Arc::new(config.expect("they fit"))).expect("a configuration that holds");
    rustls::StreamOwned::new(server, stream)
}

fn email(host: &str, port: u16, more: &str) -> String {
    format!(
        "[[notifications.channels]]\nname = \"mail\"\nkind = \"email\"\nhost = \"{host}\"\nport = {port}\n\
         from = \"weir <weir@shop.example>\"\nto = [\"ops@shop.example\", \"Ann <ann@shop.example>\"]\n{more}\n"
    )
}

#[test]
fn a_mail_arrives_with_subject_and_text_also_when_the_server_is_busy_at_first() {
    let (pools, server) = (pools(), MailServer::start(Protection::None, 1));
    let weir = started(&pools, &email("127.0.0.1", server.port, "tls = \"none\""));
    kill(&weir, "Zahlungen schlagen fehl: café");
    eventually("it is taken", PATIENCE, || server.mails().len() == 1 && channel(&weir, "mail")["sent"] == 1);
    let mail = &server.mails()[0];
    for line in [
        "From: weir <weir@shop.example>\r\n",
        "To: ops@shop.example, Ann <ann@shop.example>\r\n",
        "Subject: [weir] critical: engine: killed\r\n",
        "severity  critical\r\n",
        "service   engine\r\n",
    ] {
        assert!(mail.contains(line), "{line:?} in {mail}");
    }
    assert!(mail.contains("Message-ID: <") && mail.contains("Date: "), "{mail}");
    let commands = server.commands();
    for command in ["MAIL FROM:<weir@shop.example>", "RCPT TO:<ops@shop.example>", "RCPT TO:<ann@shop.example>"] {
        assert!(commands.iter().any(|line| line.starts_with(command)), "{command} in {commands:?}");
    }
    assert_eq!(channel(&weir, "mail")["retried"], 1);
}

#[test]
fn a_password_goes_over_tls_only_and_only_to_a_server_that_is_trusted() {
    let pools = pools();
    for (protection, word) in [(Protection::Starttls, "starttls"), (Protection::Implicit, "implicit")] {
        let server = MailServer::start(protection, 0);
        let login = format!("tls = \"{word}\"\nuser = \"weir\"\npassword_file = \"secret\"\nattempts = 1");
        let setup = setup(&pools, &email("localhost", server.port, &login)).file("own.pem", CERTIFICATE);
        let stranger = setup.start();
        let (code, out, _) = stranger.verb(&["notify", "test", "mail"]);
        assert!(code == Some(1) && out.contains("certificate"), "{word}: {out}");
        assert!(!server.commands().iter().any(|line| line.starts_with("AUTH")), "{:?}", server.commands());
        let authorities = stranger.config_directory().join("own.pem").display().to_string();
        let weir = setup.clone().env("SSL_CERT_FILE", &authorities).start();
        let (code, out, err) = weir.verb(&["notify", "test", "mail"]);
        assert_eq!(code, Some(0), "{word}: {out}{err}");
        let expected = base64(format!("\0weir\0{SECRET}").as_bytes());
        assert!(server.commands().contains(&format!("AUTH PLAIN {expected}")), "{:?}", server.commands());
        assert!(server.mails()[0].contains("Subject: [weir] info: all services: a test\r\n"), "{:?}", server.mails());
        let shown = format!("{}{}", weir.log().text(), channel(&weir, "mail"));
        assert!(!shown.contains(SECRET) && !shown.contains(&expected), "{shown}");
    }
    let open = MailServer::start(Protection::None, 0);
    let weir = started(&pools, &email("localhost", open.port, "user = \"weir\"\npassword_file = \"secret\""));
    let (code, out, _) = weir.verb(&["notify", "test", "mail"]);
    assert!(code == Some(1) && out.contains("STARTTLS"), "{out}");
    assert!(open.commands().iter().all(|line| line.starts_with("EHLO") || line == "QUIT"), "{:?}", open.commands());
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
