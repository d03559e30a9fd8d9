//! `[policy]`: what an operator demands of the rest of the file. Whoever edits the file later, or has it made, gets an
//! error at the place that breaks it; nothing is mended silently. It looks at what the file says, not at the network.

use crate::config::AdminSpec;
use crate::config::cursor::{At, Fields};
use crate::model::{AffinityBy, Bind, Limits, ListenerSpec, Origin, PolicySpec, Protocol, ServiceSpec, TlsVersion};

/// What every problem says would be right besides.
const OR: &str = "or take the demand out of [policy]";

/// What the demands are compared with.
pub(super) struct Said<'a> {
    pub(super) services: &'a [At<ServiceSpec>],
    pub(super) listeners: &'a [ListenerSpec],
    pub(super) admin: &'a AdminSpec,
    pub(super) limits: &'a Limits,
    /// Whether proxies are trusted that may speak TLS before weir.
    pub(super) trusts_proxies: bool,
}

/// Reads the demands and refuses what breaks them.
pub(super) fn policy(root: &Fields<'_>, said: &Said<'_>) -> PolicySpec {
    let spec = demands(root);
    for service in said.services {
        self::service(root, &spec, &service.value);
    }
    for listener in said.listeners {
        self::listener(root, &spec, listener, said);
    }
    admin(root, &spec, said.admin);
    if spec.no_leniency && said.limits.glitches_max == 0 {
        refuse(root, &["limits", "glitches_max"], "no_leniency", "is 0: floods over HTTP/2 have no bound", "1000");
    }
    spec
}

/// The demands alone; they are read first by what goes by them.
pub(super) fn demands(root: &Fields<'_>) -> PolicySpec {
    let fields = root.table("policy", "policy");
    let flag = |key| fields.flag(key).unwrap_or(false);
    let version = fields.word("min_tls_version").map(|word| word.value);
    let admin = fields.word("admin").map(|word| word.value);
    PolicySpec {
        endpoints_tls: flag("endpoints_tls"),
        listeners_tls: flag("listeners_tls"),
        secure_cookies: flag("secure_cookies"),
        no_leniency: flag("no_leniency"),
        admin_tls: admin == Some("tls"),
        admin_loopback: admin == Some("loopback"),
        min_tls_version: version.map(|word| if word == "1.3" { TlsVersion::V13 } else { TlsVersion::V12 }),
    }
}

fn service(root: &Fields<'_>, policy: &PolicySpec, service: &ServiceSpec) {
    for pool in &service.pools {
        let place = ["services", service.name.as_str(), "pools", pool.name.as_str()];
        let plain = |origin: &&Origin| !matches!(origin.protocol, Protocol::Https | Protocol::Unix);
        if let Some(origin) = pool.origins.iter().find(plain).filter(|_| policy.endpoints_tls) {
            let found = format!("has {origin}, which is spoken to without TLS");
            refuse(root, &[&place[..], &["endpoints"]].concat(), "endpoints_tls", &found, "https:// or unix:");
        }
        if pool.tls.insecure_skip_verify && (policy.no_leniency || policy.endpoints_tls) {
            let demand = if policy.no_leniency { "no_leniency" } else { "endpoints_tls" };
            let place = [&place[..], &["tls", "insecure_skip_verify"]].concat();
            refuse(root, &place, demand, "is true: nobody checks who the endpoints are", "roots = \"ca.pem\"");
        }
    }
}

fn listener(root: &Fields<'_>, policy: &PolicySpec, listener: &ListenerSpec, said: &Said<'_>) {
    let place = ["listeners", listener.name.as_str()];
    let plain = listener.tls.is_none() && listener.redirect.is_none() && matches!(listener.address, Bind::Tcp(_));
    if plain && policy.listeners_tls {
        refuse(root, &place, "listeners_tls", "speaks plain HTTP", "[listeners.NAME.tls], or redirect = \"https\"");
    }
    let cookie = |service: &&At<ServiceSpec>| matches!(service.value.affinity.by, AffinityBy::Cookie { .. });
    let service = said.services.iter().find(cookie);
    if let Some(service) = service.filter(|_| plain && policy.secure_cookies && !said.trusts_proxies) {
        let name = &service.value.name;
        let found = format!("speaks plain HTTP, where no browser keeps the cookie of service \"{name}\"");
        let right = "TLS there, redirect = \"https\", or the balancer that speaks TLS in trusted_proxies";
        refuse(root, &place, "secure_cookies", &found, right);
    }
    if let Some(tls) = listener.tls.as_ref().filter(|tls| policy.is_older(tls.min_version)) {
        let place = [&place[..], &["tls", "min_version"]].concat();
        refuse(root, &place, "min_tls_version", &format!("is {}", version(tls.min_version)), "min_version = \"1.3\"");
    }
}

fn admin(root: &Fields<'_>, policy: &PolicySpec, admin: &AdminSpec) {
    let loopback = admin.address.ip().to_canonical().is_loopback();
    let found = format!("is {}, where other machines come in", admin.address);
    if policy.admin_loopback && !loopback {
        refuse(root, &["admin", "address"], "admin = \"loopback\"", &found, "127.0.0.1:9901");
    }
    if policy.admin_tls && !loopback && admin.tls.is_none() {
        let found = format!("{found}, and speaks plain HTTP");
        refuse(root, &["admin", "address"], "admin = \"tls\"", &found, "[admin.tls]");
    }
    if let Some(tls) = admin.tls.as_ref().filter(|tls| policy.is_older(tls.min_version)) {
        let found = format!("is {}", version(tls.min_version));
        refuse(root, &["admin", "tls", "min_version"], "min_tls_version", &found, "min_version = \"1.3\"");
    }
}

fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V12 => "\"1.2\"",
        TlsVersion::V13 => "\"1.3\"",
    }
}

/// A problem at the nearest place that the file has on the way to what breaks a demand.
fn refuse(root: &Fields<'_>, place: &[&str], demand: &str, found: &str, right: &str) {
    let path = place.join(".");
    let found = format!("{path} {found}; [policy] demands {demand}");
    root.sink.whole(root.span_at(place), &path, found, format!("write {right}, {OR}"));
}
