//! The admin API over TLS: whom verbs trust, who comes in, and tokens that are kept as hashes.

use sha2::{Digest, Sha256};

use super::SOON;
use crate::harness::weir::command;
use crate::harness::{Authority, Issued, Setup, Tls, Upstream, Weir, eventually};

const TOKEN: &str = "correct-horse-battery";

/// A weir whose admin API speaks TLS, with these further lines.
fn guarded(stable: &Upstream, site: &Issued, lines: &str) -> Setup {
    let certificates = "certificates = [{ cert = \"site.crt\", key = \"site.key\" }]";
    Setup::single(stable)
        .text(&format!("[admin.tls]\n{certificates}\n{lines}"))
        .file("site.crt", &site.cert)
        .file("site.key", &site.key)
}

/// A verb of somebody who has no configuration of this weir, only its address and these variables.
fn from_afar(weir: &Weir, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut verb = command();
    let nowhere = weir.config_directory().join("elsewhere.toml");
    verb.args(["status", "--admin", &format!("https://{}", weir.admin_address())]).env("WEIR_CONFIG", nowhere);
    verb.envs(variables.iter().copied());
    let done = verb.output().expect("it runs");
    (done.status.code(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

#[test]
fn verbs_trust_the_certificate_of_their_own_configuration_whatever_its_names() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["weir.internal"]);
    let weir = guarded(&stable, &site, "").start();
    let (code, out, err) = weir.verb(&["status"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = weir.verb(&["healthcheck"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let mut client = Tls::of("weir.internal").connect(weir.admin_address()).expect("it shakes hands");
    client = client.host("localhost");
    assert_eq!(client.get("/healthz").status, 200);
    let (code, _, err) = weir.verb(&["status", "--admin", &format!("http://{}", weir.admin_address())]);
    assert!(code == Some(1) && err.contains("if it speaks TLS, write https://"), "{err}");
    let mut plain = crate::harness::Client::to(weir.admin_address()).lenient();
    assert!(plain.try_ask("GET", "/healthz", &[], b"").is_err(), "plain HTTP is not spoken there");
}

#[test]
fn others_need_an_authority_they_know_and_the_name_they_asked_for() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["127.0.0.1"]);
    let weir = guarded(&stable, &site, "").start();
    let (code, said) = from_afar(&weir, &[]);
    assert!(code == Some(1) && said.contains("UnknownIssuer"), "{said}");
    let file = weir.config_directory().join("site.crt").display().to_string();
    let (code, said) = from_afar(&weir, &[("WEIR_ADMIN_CA", &file)]);
    assert_eq!(code, Some(0), "{said}");
    let other = Issued::for_names(&["weir.internal"]);
    let weir = guarded(&stable, &other, "").start();
    let file = weir.config_directory().join("site.crt").display().to_string();
    let (code, said) = from_afar(&weir, &[("WEIR_ADMIN_CA", &file)]);
    assert!(code == Some(1) && said.contains("not valid for name"), "{said}");
}

#[test]
fn where_certificates_are_required_nobody_else_comes_in_and_no_token_is_needed() {
    let stable = Upstream::named("stable");
    let (site, authority, stranger) = (Issued::for_names(&["weir"]), Authority::new(), Authority::new());
    let ann = authority.issue("ann");
    let weir = guarded(&stable, &site, "client_ca = \"ca.pem\"").file("ca.pem", &authority.pem()).start();
    let put = |variables: &[(&str, &str)]| {
        let mut verb = command();
        verb.args(["rollback", "engine", "--reason", "x"]).env("WEIR_CONFIG", weir.config_path());
        verb.env("WEIR_ADMIN", weir.admin_address().to_string()).envs(variables.iter().copied());
        let done = verb.output().expect("it runs");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let keep = |name: &str, own: &Issued| {
        let file = weir.config_directory().join(name);
        std::fs::write(&file, format!("{}{}", own.cert, own.key)).expect("it is written");
        file.display().to_string()
    };
    let (own, strange) = (keep("ann.pem", &ann), keep("eve.pem", &stranger.issue("eve")));
    let (code, said) = put(&[]);
    assert!(code == Some(1) && said.contains("CertificateRequired"), "{said}");
    let (code, said) = put(&[("WEIR_ADMIN_CERT", &strange)]);
    assert!(code == Some(1) && !said.is_empty(), "{said}");
    assert_eq!(put(&[("WEIR_ADMIN_CERT", &own)]), (Some(0), String::new()));
    let (code, said) = put(&[("WEIR_ADMIN_CERT", "/nowhere/own.pem")]);
    assert!(code == Some(1) && said.contains("/nowhere/own.pem does not hold a private key"), "{said}");
}

#[test]
fn a_certificate_of_the_admin_api_is_renewed_while_weir_runs() {
    let stable = Upstream::named("stable");
    let (old, new) = (Issued::for_names(&["weir"]), Issued::for_names(&["weir"]));
    let weir = guarded(&stable, &old, "").start();
    let shown = || {
        let mut client = Tls::of("weir").connect(weir.admin_address()).expect("it shakes hands");
        client.wire().tls().peer_certificates().expect("one")[0].to_vec()
    };
    assert_eq!(shown(), old.der);
    new.save(&weir.config_directory(), "site");
    eventually("the new one is shown", SOON, || shown() == new.der);
    assert_eq!(weir.verb(&["status"]).0, Some(0));
}

#[test]
fn a_token_may_be_kept_as_its_hash() {
    let stable = Upstream::named("stable");
    let digits: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
    let hashed = format!("sha256:{digits}\n");
    let weir = Setup::single(&stable).admin("token_file = \"token\"").file("token", &hashed).start();
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        weir.admin("GET", "/api/v1/status", &[("authorization", bearer.as_str())], "").status
    };
    assert_eq!(status(TOKEN), 200);
    assert_eq!(status(hashed.trim()), 401, "who reads the file has no token");
    let broken = Setup::single(&stable).admin("token_file = \"token\"").file("token", "sha256:abc").try_start();
    assert!(broken.is_err_and(|failure| failure.log.contains("sha256: and 64 hexadecimal digits")));
}
