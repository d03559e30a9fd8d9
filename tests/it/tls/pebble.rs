//! Certificates from pebble, the authority that Let's Encrypt tests clients with: it checks every signature, refuses a
//! fifth of all nonces, and looks at names itself.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::dns::Dns;
use crate::harness::temp::TempDir;
use crate::harness::upstream::own_address;
use crate::harness::{Authority, Setup, Tls, Upstream, Weir, eventually};

/// It refuses at random, and weir waits between its tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key of an external account, as pebble wants it.
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

struct Pebble {
    process: Child,
    _directory: TempDir,
}

impl Pebble {
    /// None when it is not installed.
    fn start(at: SocketAddr, own: &Authority, weir: &Weir, dns: &Dns) -> Option<Self> {
        let directory = TempDir::new();
        let shown = own.issue_for(&[&at.ip().to_string()]);
        shown.save(directory.path(), "own");
        let file = |name: &str| directory.path().join(name).display().to_string();
        let config = json!({ "pebble": {
            "listenAddress": at.to_string(), "managementListenAddress": format!("{}:0", at.ip()),
            "certificate": file("own.crt"), "privateKey": file("own.key"),
            "httpPort": weir.address().port(), "tlsPort": weir.listener("secure").port(),
            "ocspResponderURL": "", "externalAccountBindingRequired": true, "externalAccountMACKeys": { "kid-1": KEY },
        }});
        std::fs::write(directory.path().join("pebble.json"), config.to_string()).expect("it can be written");
        let mut command = Command::new("pebble");
        command.args(["-strict", "-config", &file("pebble.json"), "-dnsserver", &dns.address().to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "20").env("PEBBLE_AUTHZREUSE", "0");
        let mut process = match command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("pebble does not start: {error}"),
        };
        let log = BufReader::new(process.stdout.take().expect("its log"));
        // Read on, so that it never waits for a reader; it is shown when the test fails.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| println!("pebble: {line}")));
        Some(Self { process, _directory: directory })
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_authority_that_clients_are_tested_with_issues_by_either_challenge_and_again() {
    for kind in ["http-01", "tls-alpn-01"] {
        let (stable, own) = (Upstream::named("stable"), Authority::new());
        let free = TcpListener::bind((own_address(), 0)).and_then(|free| free.local_addr()).expect("a free port");
        let dns = Dns::serving(&["127.0.0.1:1".parse().expect("an address")]);
        let weir = Setup::single(&stable)
            .listener("secure", "tls = { acme = [\"a.shop.example\", \"b.shop.example\"] }")
            .file("roots.pem", &own.pem())
            .file("external.key", KEY)
            .text(&format!(
                "[acme]\nagree_to_terms = true\ndirectory = \"https://{free}/dir\"\nroots = \"roots.pem\"\n\
                 challenge = \"{kind}\"\nretry_min = \"500ms\"\nretry_max = \"1s\"\ncontact = \"ops@shop.example\"\n\
                 external_account = {{ key_id = \"kid-1\", key_file = \"external.key\" }}"
            ))
            .start();
        let Some(_pebble) = Pebble::start(free, &own, &weir, &dns) else {
            return eprintln!("left out: pebble is not installed, tests/run installs it");
        };
        let issued = || weir.metrics().sum("weir_acme_orders_total", &[("result", "issued")]);
        eventually("both names have one", PATIENCE, || issued() == 2.0);
        let shown = |name: &str| {
            let mut client = Tls::of(name).connect(weir.listener("secure")).ok()?;
            assert_eq!(client.get("/").status, 200);
            client.wire().tls().peer_certificates().map(|chain| chain[0].to_vec())
        };
        eventually("both are served", PATIENCE, || {
            let [a, b] = ["a.shop.example", "b.shop.example"].map(shown);
            a.is_some() && b.is_some() && a != b
        });
        let before = shown("a.shop.example");
        let home = weir.config_directory().join("acme").join(format!("{free}/dir").replace([':', '/'], "-"));
        std::fs::remove_file(home.join("a.shop.example.pem")).expect("it is there");
        // The next process finds it missing, on the ports that pebble looks at.
        weir.upgrade(&[]);
        eventually("another one was issued", PATIENCE, || issued() == 1.0);
        eventually("and is served", PATIENCE, || {
            let now = shown("a.shop.example");
            now != before && now != shown("b.shop.example")
        });
    }
}
