//! `[listeners.NAME]`: where clients connect.

use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;

use super::{bind, routes, services, tls};
use crate::config::cursor::{At, Fields};
use crate::model::{AcmeSpec, Bind, ListenerSpec, Name, Pin, ServiceSpec};

/// Where the data plane listens when nothing is said.
const PUBLIC: ([u8; 4], u16) = ([0, 0, 0, 0], 8080);

/// The port that `https` means when a URL names none.
const HTTPS: u16 = 443;

/// Reads every listener; without any, `public` on 0.0.0.0:8080. `admin` may not be taken by one of them.
pub(super) fn listeners(
    root: &Fields<'_>,
    services: &[At<ServiceSpec>],
    admin: SocketAddr,
    dir: &Path,
    acme: Option<&AcmeSpec>,
) -> Vec<ListenerSpec> {
    let admin = Bind::Tcp(admin);
    let mut listeners: Vec<ListenerSpec> = Vec::new();
    for (key, value) in root.entries("listeners") {
        let name = services::name(root, &key);
        let Some(fields) = root.as_table(value, key.span.clone(), "listeners.*") else { continue };
        let pin = pin(&fields, services);
        let networks = fields.networks("networks");
        let tls = fields.table_if_present("tls", "listeners.*.tls").map(|table| tls::tls(&table, dir, acme));
        let redirect = redirect(&fields);
        let proxy_protocol = fields.table_if_present("proxy_protocol", "listeners.*.proxy_protocol");
        let proxy_protocol = proxy_protocol.map(|table| proxies(&table));
        let Some(address) = bind::bind(&fields) else {
            if fields.value("address").is_none() {
                let found = format!("{} has no address", fields.path);
                fields.sink.local(fields.span.clone(), &fields.path, found, "add address = \"0.0.0.0:8080\"");
            }
            continue;
        };
        let taken = listeners.iter().find(|other| clash(&other.address, &address.value));
        let taken = taken.map(|other| format!("listener \"{}\"", other.name));
        if let Some(other) = taken.or_else(|| clash(&admin, &address.value).then(|| "the admin address".into())) {
            let found = format!("{}: {} is taken by {other}", address.path, address.value);
            fields.sink.whole(address.span, &address.path, found, "give each its own port");
        }
        if let Some(name) = name {
            let address = address.value;
            listeners.push(ListenerSpec { name, address, pin, networks, tls, redirect, proxy_protocol });
        }
    }
    if listeners.is_empty() && root.value("listeners").is_none() {
        let name = Name::new("public").expect("a constant that is a name");
        let address = Bind::Tcp(PUBLIC.into());
        if clash(&admin, &address) {
            let found = format!("the admin address {admin} is where the default listener is");
            root.sink.whole(
                root.key_span("admin"),
                "admin.address",
                found,
                "use another port, or add [listeners.public]",
            );
        }
        let (pin, networks) = (None, Vec::new());
        let (tls, redirect, proxy_protocol) = (None, None, None);
        listeners.push(ListenerSpec { name, address, pin, networks, tls, redirect, proxy_protocol });
    }
    listeners
}

/// Whether both cannot be bound: the same port, and the same address or one of them every address; or the same file.
fn clash(a: &Bind, b: &Bind) -> bool {
    match (a, b) {
        (Bind::Tcp(a), Bind::Tcp(b)) => {
            let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() != 0 && a.port() == b.port() && overlap
        }
        (a, b) => a.path().is_some() && a.path() == b.path(),
    }
}

/// The networks whose connections begin with a PROXY protocol header.
fn proxies(fields: &Fields<'_>) -> Vec<IpNet> {
    let from = fields.networks("from");
    if from.is_empty()
        && fields.value("from").is_none_or(|from| from.value.as_array().is_some_and(|list| list.is_empty()))
    {
        let found = format!("{} trusts nobody", fields.place());
        let help = "add from = [\"10.0.0.0/8\"]: the networks of the balancers that send the header";
        fields.sink.local(fields.span.clone(), &fields.path, found, help);
    }
    from
}

/// The port of `https` that every request is sent to.
fn redirect(fields: &Fields<'_>) -> Option<u16> {
    let port = fields.integer("redirect_port").and_then(|port| u16::try_from(port).ok());
    if fields.word("redirect").is_none() {
        if let Some(value) = fields.value("redirect_port").filter(|_| fields.value("redirect").is_none()) {
            let found = format!("{} without a redirect", value.path);
            fields.sink.whole(value.span, &value.path, found, "add redirect = \"https\"");
        }
        return None;
    }
    let clash = ["tls", "pool", "service"].into_iter().find_map(|key| fields.value(key).map(|_| key));
    if let Some(key) = clash {
        let (path, place) = (fields.path_of("redirect"), fields.place());
        let found = format!("{place} redirects everything and has `{key}` too");
        fields.sink.whole(fields.key_span("redirect"), &path, found, "give each a listener of its own");
    }
    Some(port.unwrap_or(HTTPS))
}

fn pin(fields: &Fields<'_>, services: &[At<ServiceSpec>]) -> Option<Pin> {
    let Some(text) = fields.text("pool") else {
        if let Some(service) = fields.value("service") {
            let found = format!("{} without a pool", service.path);
            let help = "add pool = \"NAME\", or take it out: routes decide the service";
            fields.sink.whole(service.span, &service.path, found, help);
        }
        return None;
    };
    let service = routes::service(fields, &fields.path, services)?;
    let pool = routes::pool(fields, &text, Some(service))?;
    Some(Pin { service: service.name.clone(), pool })
}
