//! A listener that sends everybody to `https`.

use crate::harness::{Client, H2Client, Setup, Upstream};

#[test]
fn a_redirecting_listener_sends_every_request_to_https_with_host_and_target_kept() {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable).listener("plain", "redirect = \"https\"");
    let weir = setup.listener("other", "redirect = \"https\"\nredirect_port = 8443").start();
    let mut client = Client::to(weir.listener("plain")).host("shop.example:8080");
    for (method, target, body) in [("GET", "/a/b?c=d&e", &b""[..]), ("POST", "/pay", b"1"), ("HEAD", "/", b"")] {
        let answer = client.ask(method, target, &[], body);
        assert_eq!(answer.status, 308, "{method}");
        assert_eq!(answer.field("location"), Some(&*format!("https://shop.example{target}")));
    }
    let mut client = Client::to(weir.listener("other")).host("[::1]:8080");
    assert_eq!(client.get("/x").field("location"), Some("https://[::1]:8443/x"));
    client.send(b"GET http://shop.example/y HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").field("location"), Some("https://shop.example:8443/y"));
    client.send(b"GET / HTTP/1.0\r\n\r\n").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 400, "without a host there is nowhere to go");
    let answer = H2Client::to(weir.listener("plain")).get("/h2?x");
    assert_eq!((answer.status, answer.field("location")), (308, Some("https://test/h2?x")));
    assert_eq!(stable.count(), 0);
    assert_eq!(weir.client().get("/").status, 200, "other listeners serve");
}

#[test]
fn a_redirect_beside_tls_or_a_pool_or_without_its_word_is_refused() {
    let stable = Upstream::named("stable");
    for (lines, said) in [
        ("redirect = \"https\"\npool = \"stable\"", "redirects everything and has `pool` too"),
        ("redirect = \"https\"\ntls = { certs_dir = \".\" }", "redirects everything and has `tls` too"),
        ("redirect_port = 8443", "without a redirect"),
        ("redirect = \"http\"", "redirect"),
        ("tls = { client_auth = \"optional\", certs_dir = \".\" }", "without the authorities"),
        ("tls = { min_version = \"1.1\", certs_dir = \".\" }", "min_version"),
        ("tls = {}", "has no certificate"),
        ("tls = { certificates = [] }", "is empty"),
        ("tls = { certificates = [{ key = \"a.key\" }] }", "names no certificate"),
    ] {
        let failure = Setup::single(&stable).listener("other", lines).try_start().expect_err(said);
        assert_eq!(failure.code, Some(2), "{lines}: {failure:?}");
        assert!(failure.log.contains(said), "{lines}: {}", failure.log);
    }
}
