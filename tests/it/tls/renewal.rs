//! Certificates are renewed while weir runs, and what does not hold changes nothing.

use std::time::Duration;

use super::{SOON, setup, shown};
use crate::harness::tls::replace;
use crate::harness::{Issued, Load, Tls, Upstream, Weir, eventually, never};

#[track_caller]
fn shows(weir: &Weir, name: &str, expected: &Issued) {
    eventually("the certificate is served", SOON, || shown(weir, &Tls::of(name)) == expected.der);
}

#[test]
fn certificates_are_renewed_under_load_and_no_request_fails() {
    let stable = Upstream::named("stable");
    let weir = setup(&stable, &Issued::for_names(&["test"]), "").start();
    let load = Load::over(weir.address(), &Tls::of("test"), 4, Duration::from_millis(2));
    for _ in 0..3 {
        let new = Issued::for_names(&["test"]);
        new.save(&weir.config_directory(), "site");
        shows(&weir, "test", &new);
    }
    load.stop().assert_flawless();
    assert_eq!(weir.metrics().sum("weir_tls_files_failed", &[]), 0.0);
}

#[test]
fn a_broken_or_mismatched_file_keeps_the_old_certificate_and_is_shown() {
    let stable = Upstream::named("stable");
    let (site, other) = (Issued::for_names(&["test"]), Issued::for_names(&["test"]));
    let weir = setup(&stable, &site, "").start();
    let directory = weir.config_directory();
    let failed = || weir.metrics().sum("weir_tls_files_failed", &[("listener", "public")]);
    let said = |what: &str| {
        eventually("it is shown", SOON, || weir.status()["tls"][0]["failed"].to_string().contains(what));
        let logged = || weir.log().lines().iter().any(|line| line.contains("ERROR") && line.contains(what));
        eventually("it is logged", SOON, logged);
        let (code, text, _) = weir.verb(&["status"]);
        assert!(
            code == Some(0) && text.contains(what) && text.contains("certificate's new files do not hold"),
            "{text}"
        );
        assert_eq!(failed(), 1.0);
        assert!(shown(&weir, &Tls::of("test")) == site.der, "the old one is served");
    };
    replace(&directory.join("site.key"), &other.key);
    said("the key does not fit the certificate");
    replace(&directory.join("site.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    said("this private key cannot be used");
    replace(&directory.join("site.crt"), &site.cert[..site.cert.len() / 2]);
    said("site.crt: is broken");
    std::fs::remove_file(directory.join("site.crt")).expect("it is there");
    said("site.crt: cannot be read");
    // Mended, and with it both are renewed.
    other.save(&directory, "site");
    shows(&weir, "test", &other);
    eventually("it is forgotten", SOON, || failed() == 0.0);
}

#[test]
fn certificates_come_into_a_directory_and_leave_it() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let weir = setup(&stable, &site, "certs_dir = \".\"").start();
    let directory = weir.config_directory();
    let new = Issued::for_names(&["new.example"]);
    assert!(shown(&weir, &Tls::of("new.example")) == site.der);
    new.save(&directory, "new");
    shows(&weir, "new.example", &new);
    // Half a pair is shown, and what it was is served.
    std::fs::remove_file(directory.join("new.key")).expect("it is there");
    eventually("it is shown", SOON, || weir.metrics().sum("weir_tls_files_failed", &[]) == 1.0);
    assert!(shown(&weir, &Tls::of("new.example")) == new.der);
    std::fs::remove_file(directory.join("new.crt")).expect("it is there");
    shows(&weir, "new.example", &site);
    eventually("nothing is wrong", SOON, || weir.metrics().sum("weir_tls_files_failed", &[]) == 0.0);
}

#[test]
fn a_connection_that_is_open_stays_when_its_certificate_is_renewed() {
    let stable = Upstream::named("stable");
    let weir = setup(&stable, &Issued::for_names(&["test"]), "").start();
    let mut client = Tls::of("test").connect(weir.address()).expect("weir shakes hands");
    assert_eq!(client.get("/").status, 200);
    let new = Issued::for_names(&["test"]);
    new.save(&weir.config_directory(), "site");
    shows(&weir, "test", &new);
    assert_eq!(client.get("/").status, 200);
    never("it is closed", Duration::from_millis(100), || client.closed_within(Duration::from_millis(1)));
}
