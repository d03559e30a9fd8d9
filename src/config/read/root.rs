//! The root of `weir.toml` and the tables that are not of a service.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{acme, engine, limits, listeners, notify, policy, routes, services, switches, tls, tracing};
use crate::config::cursor::{At, Fields, shorten};
use crate::config::{AdminSpec, AppLogFormat, Config, DnsSpec, LogLevel, LogSpec, TOKEN_FILE_ENV, WORKERS_ENV};
use crate::model::{
    AccessLog, AcmeSpec, AffinityBy, DockerSpec, Engine, HostMatch, Limits, LogFormat, LogSink, Plan, RouteSpec,
    ServiceSpec,
};

/// Where the admin surface listens when nothing is said (the port that Envoy's users guess).
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9901);

/// Port of a name server that names none.
const DNS_PORT: u16 = 53;

/// Reads everything; what it returns is only worth something when no problem was recorded.
pub(in crate::config) fn root(root: &Fields<'_>, path: &Path) -> Config {
    let dir = path.parent().unwrap_or(Path::new(""));
    let file = |key| root.text(key).and_then(|text| not_empty(root, text)).map(|text| dir.join(text));
    let weights_path = file("weights").unwrap_or_else(|| dir.join("weights.toml"));
    let key_file = file("key_file");
    let services = services::services(root, dir);
    let tokens = engine::tokens(root, dir);
    let acme = acme::acme(root, dir);
    let admin = admin(&root.table("admin", "admin"), dir, !tokens.is_empty(), acme.as_ref());
    let listeners = listeners::listeners(root, &services, admin.address, dir, acme.as_ref());
    let all_tls = listeners.iter().filter_map(|listener| listener.tls.as_ref()).chain(&admin.tls);
    let acme = acme::finish(root, acme, &listeners, all_tls);
    let routes = routes::routes(root, &services);
    let kill_switches = switches::switches(root, &services);
    let notifications = notify::notifications(&root.table("notifications", "notifications"), dir, &services);
    note_unreached(root, &services, &routes, &listeners);
    note_shared_cookies(root, &services, &routes);
    let trusted_proxies = root.networks("trusted_proxies");
    let limits = data_plane(&root.table("limits", "limits"));
    let said = policy::Said {
        services: &services,
        listeners: &listeners,
        admin: &admin,
        limits: &limits,
        trusts_proxies: !trusted_proxies.is_empty(),
    };
    let policy = policy::policy(root, &said);
    let mut services = services;
    services.iter_mut().for_each(|service| service.value.affinity.secure = policy.secure_cookies);
    let plan = Plan {
        rate_limits: limits::rate_limits(root, &services, &routes),
        routes,
        trusted_proxies,
        limits,
        access_log: access_log(&root.table("access_log", "access_log"), dir),
        tracing: tracing::tracing(root, dir),
        services: services.into_iter().map(|service| service.value).collect(),
    };
    let rollouts = engine::engine(&root.table("rollouts", "rollouts"), &weights_path, dir);
    if !rollouts.enabled && kill_switches.iter().any(|switch| !switch.triggers.is_empty()) {
        let found = "kill switches have triggers, and the engine that looks at them is switched off";
        root.sink.note(root.key_span("kill_switches"), "kill_switches", found, "set [rollouts] enabled = true");
    }
    Config {
        path: path.to_owned(),
        rollouts,
        kill_switches: kill_switches.into(),
        tokens,
        notifications,
        weights_path,
        given_token_file: None,
        listeners,
        admin,
        policy,
        workers: workers(root),
        dns: dns(&root.table("dns", "dns")),
        docker: docker(&root.table("docker", "docker")),
        acme,
        log: log(&root.table("log", "log")),
        key_file,
        pid_file: file("pid_file"),
        plan: Arc::new(plan),
        notes: Vec::new(),
    }
}

pub(super) fn not_empty(fields: &Fields<'_>, text: At<String>) -> Option<PathBuf> {
    if text.value.is_empty() || text.value.contains('\0') {
        fields.refuse(&text, "is not a path", "name a file");
        return None;
    }
    Some(text.value.into())
}

fn workers(root: &Fields<'_>) -> Option<usize> {
    let file = root.integer("workers").map(|n| n as usize);
    let Some(text) = root.sink.env(WORKERS_ENV).filter(|text| !text.trim().is_empty()) else { return file };
    match text.trim().parse::<usize>() {
        Ok(workers) if (1..=1024).contains(&workers) => Some(workers),
        _ => {
            let found = format!("{WORKERS_ENV} is \"{}\"", shorten(&text));
            root.sink.outside("environment", found, "write an integer from 1 to 1024");
            file
        }
    }
}

fn admin(fields: &Fields<'_>, dir: &Path, has_tokens: bool, acme: Option<&AcmeSpec>) -> AdminSpec {
    let address = fields.address("address");
    let token_file = fields.text("token_file").and_then(|text| not_empty(fields, text)).map(|file| dir.join(file));
    let tls = fields.table_if_present("tls", "listeners.*.tls").map(|table| tls::tls(&table, dir, acme));
    let from_env = fields.sink.env(TOKEN_FILE_ENV).filter(|text| !text.trim().is_empty());
    let token_file = from_env.map(PathBuf::from).or(token_file);
    let address_of = address.as_ref().map_or(SocketAddr::from(ADMIN), |address| address.value);
    let spec = AdminSpec { address: address_of, token_file, tls };
    if let Some(address) = &address
        && !address.value.ip().to_canonical().is_loopback()
        && spec.token_file.is_none()
        && !has_tokens
        && !spec.asks_certificates()
    {
        let found = format!("{}: {} is not loopback and there is no token", address.path, address.value);
        let help = "add token_file = \"admin.token\" (or WEIR_ADMIN_TOKEN_FILE), or use a 127.0.0.1 address";
        fields.sink.whole(address.span.clone(), &address.path, found, help);
    }
    spec
}

fn dns(fields: &Fields<'_>) -> DnsSpec {
    let default = DnsSpec::default();
    let server = |text: At<String>| {
        let address = text.value.parse::<SocketAddr>().ok();
        let address = address.or_else(|| Some(SocketAddr::new(text.value.parse::<IpAddr>().ok()?, DNS_PORT)));
        if address.is_none() {
            let found = format!("\"{}\" is not the address of a name server", shorten(&text.value));
            fields.refuse(&text, found, "write ADDRESS or ADDRESS:PORT, such as \"127.0.0.11:53\"");
        }
        address
    };
    let spec = DnsSpec {
        servers: fields.texts("servers").into_iter().filter_map(server).collect(),
        min_ttl: fields.duration("min_ttl").unwrap_or(default.min_ttl),
        max_ttl: fields.duration("max_ttl").unwrap_or(default.max_ttl),
    };
    if spec.min_ttl > spec.max_ttl {
        let key = if fields.value("max_ttl").is_some() { "max_ttl" } else { "min_ttl" };
        let help = "max_ttl must be at least as long";
        fields.sink.whole(fields.key_span(key), &fields.path_of(key), "dns: min_ttl is longer than max_ttl", help);
    }
    spec
}

fn docker(fields: &Fields<'_>) -> DockerSpec {
    let default = DockerSpec::default();
    let engine = fields.text("engine").and_then(|text| {
        let engine = Engine::parse(&text.value);
        if engine.is_none() {
            let found = format!("\"{}\" is not where an engine is", shorten(&text.value));
            fields.refuse(&text, found, "write \"unix:///var/run/docker.sock\" or \"tcp://HOST:PORT\"");
        }
        engine
    });
    let word = |key| {
        let text: At<String> = fields.text(key)?;
        if text.value.is_empty() || !text.value.bytes().all(|b| b.is_ascii_graphic()) {
            fields.refuse(&text, "is not a name", "write a name without blanks");
            return None;
        }
        Some(text.value)
    };
    let (label, network) = (word("label").unwrap_or(default.label), word("network"));
    DockerSpec { engine: engine.unwrap_or(default.engine), label, network }
}

fn log(fields: &Fields<'_>) -> LogSpec {
    let level = match fields.word("level").map(|word| word.value) {
        Some("error") => LogLevel::Error,
        Some("warn") => LogLevel::Warn,
        Some("debug") => LogLevel::Debug,
        Some("trace") => LogLevel::Trace,
        _ => LogLevel::Info,
    };
    let format = match fields.word("format").map(|word| word.value) {
        Some("text") => AppLogFormat::Text,
        Some("json") => AppLogFormat::Json,
        _ => AppLogFormat::Auto,
    };
    LogSpec { level, format }
}

fn access_log(fields: &Fields<'_>, dir: &Path) -> AccessLog {
    let sink = match fields.text("to") {
        None => LogSink::Off,
        Some(text) => match text.value.as_str() {
            "off" => LogSink::Off,
            "stdout" | "-" => LogSink::Stdout,
            file if file.contains(['/', '.']) && !file.contains('\0') => LogSink::File(dir.join(file)),
            other => {
                let help =
                    "write \"off\", \"stdout\", or the path of a file with a '/' or '.' in it, such as \"access.log\"";
                fields.refuse(&text, format!("\"{}\" is not a place for a log", shorten(other)), help);
                LogSink::Off
            }
        },
    };
    let format = match fields.word("format").map(|word| word.value) {
        Some("text") => LogFormat::Text,
        _ => LogFormat::Json,
    };
    AccessLog { sink, format, sample: fields.ratio("sample").unwrap_or(1.0) }
}

fn data_plane(fields: &Fields<'_>) -> Limits {
    let default = Limits::default();
    let count = |key| fields.integer(key).map(|n| n as usize);
    Limits {
        head_bytes_max: fields.size("head_bytes_max").map_or(default.head_bytes_max, |n| n as usize),
        fields_max: count("fields_max").unwrap_or(default.fields_max),
        target_bytes_max: fields.size("target_bytes_max").map_or(default.target_bytes_max, |n| n as usize),
        header_timeout: fields.duration("header_timeout").unwrap_or(default.header_timeout),
        keep_alive: fields.duration("keep_alive").unwrap_or(default.keep_alive),
        upstream_keep_alive: fields.duration("upstream_keep_alive").unwrap_or(default.upstream_keep_alive),
        upstream_idle_max: count("upstream_idle_max").unwrap_or(default.upstream_idle_max),
        connections_max: count("connections_max").unwrap_or(default.connections_max),
        connections_per_address: count("connections_per_address").map_or(default.connections_per_address, |n| n as u32),
        offences_per_address: count("offences_per_address").map_or(default.offences_per_address, |n| n as u32),
        streams_max: count("streams_max").map_or(default.streams_max, |n| n as u32),
        glitches_max: count("glitches_max").map_or(default.glitches_max, |n| n as u32),
        h2_buffered_max: fields.size("h2_buffered_max").map_or(default.h2_buffered_max, |n| n as usize),
        delay_max: fields.duration("delay_max").unwrap_or(default.delay_max),
        drain: fields.duration("drain").unwrap_or(default.drain),
    }
}

/// A service that nothing leads to is legal (somebody may have commented a route out), and worth a line.
fn note_unreached(
    root: &Fields<'_>,
    services: &[At<ServiceSpec>],
    routes: &[crate::model::RouteSpec],
    listeners: &[crate::model::ListenerSpec],
) {
    for service in services {
        let name = &service.value.name;
        let pinned = listeners.iter().filter_map(|listener| listener.pin.as_ref()).any(|pin| pin.service == *name);
        if !pinned && !routes.iter().any(|route| route.service == *name) {
            let found = format!("no route and no listener leads to service \"{name}\"");
            root.sink.note(service.span.clone(), &service.path, found, "add a [[routes]] table for it");
        }
    }
}

/// Two services with an affinity cookie of one name: on a host of both, each takes the other's cookie away, so that its
/// clients are drawn anew whenever they come back.
fn note_shared_cookies(root: &Fields<'_>, services: &[At<ServiceSpec>], routes: &[RouteSpec]) {
    let cookie = |service: &ServiceSpec| match &service.affinity.by {
        AffinityBy::Cookie { name, .. } => Some(name.clone()),
        _ => None,
    };
    for (index, second) in services.iter().enumerate() {
        let Some(name) = cookie(&second.value) else { continue };
        let shares = |first: &&At<ServiceSpec>| {
            cookie(&first.value).as_ref() == Some(&name) && share_a_host(&first.value, &second.value, routes)
        };
        if let Some(first) = services[..index].iter().find(shares) {
            let (first, second_name) = (&first.value.name, &second.value.name);
            let found = format!("services \"{first}\" and \"{second_name}\" set one cookie, \"{name}\"");
            let help = format!("give each its own: name = \"{name}-{second_name}\"");
            root.sink.note(second.span.clone(), &second.path, found, help);
        }
    }
}

/// Whether routes of both services may be reached by one host; only exact hosts say for sure that none is.
fn share_a_host(a: &ServiceSpec, b: &ServiceSpec, routes: &[RouteSpec]) -> bool {
    let of = |service: &ServiceSpec| -> Vec<Option<String>> {
        let own = routes.iter().filter(|route| route.service == service.name);
        own.flat_map(|route| match route.matches.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().map(exact).collect(),
        })
        .collect()
    };
    let (a, b) = (of(a), of(b));
    a.iter().any(|host| b.iter().any(|other| host.is_none() || other.is_none() || host == other))
}

fn exact(host: &HostMatch) -> Option<String> {
    match host {
        HostMatch::Exact(host) => Some(host.to_ascii_lowercase()),
        HostMatch::Suffix(_) => None,
    }
}
