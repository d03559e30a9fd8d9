//! Where things are when nobody says so: the configuration, and the admin API of the weir that runs by it.
//!
//! The admin address is found even in a configuration that does not hold: exactly then somebody wants `weir status`.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Globals;
use super::failure::Failure;
use super::trust::Trust;
use crate::config::{AdminSpec, Config};

/// Where a configuration is looked for, in order.
const CONFIG_PATHS: [&str; 3] = ["/etc/weir/weir.toml", "config/weir.toml", "weir.toml"];

/// The admin address of a configuration that does not name one.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

/// The admin API of a running weir.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `host:port`, as it goes into `Host`.
    pub(super) authority: String,
    /// The file that holds the token.
    pub(super) token_file: Option<PathBuf>,
    /// Whom to trust over TLS; none: plain HTTP.
    pub(super) tls: Option<Trust>,
    /// Nobody named an address and no configuration was found that could: it is the usual one.
    pub(super) guessed: bool,
}

/// The configuration file: named, else the first that exists, else the first of those that are looked for.
pub(super) fn config_path(globals: &Globals) -> PathBuf {
    let named = globals.config.clone();
    let existing = || CONFIG_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(existing).unwrap_or_else(|| CONFIG_PATHS[0].into())
}

/// Whether nobody named a configuration and none is where one is looked for.
fn nowhere(globals: &Globals) -> bool {
    globals.config.is_none() && !CONFIG_PATHS.iter().any(|path| Path::new(path).exists())
}

/// The configuration, or every problem of it.
pub(super) fn config(globals: &Globals) -> Result<Config, Failure> {
    if nowhere(globals) {
        let places = CONFIG_PATHS.join(", ");
        return Err(Failure::wrong(format!("there is none of {places}; name the file with --config or WEIR_CONFIG")));
    }
    Config::load_with(config_path(globals), globals.token_file())
        .map_err(|problems| Failure::wrong(problems.to_string()))
}

/// Where the running weir takes commands.
pub(super) fn admin(globals: &Globals) -> Result<Place, Failure> {
    let asked = globals.admin.as_deref().filter(|url| !url.is_empty());
    if asked.is_none() {
        named_is_there(globals)?;
    }
    let found = admin_of(&config_path(globals));
    let token_file = globals.token_file().map(Path::to_owned).or(found.token_file);
    let (authority, tls) = match asked {
        // Without a scheme it is as the configuration says.
        Some(url) => {
            let (authority, tls) = authority(url)?;
            (authority, tls.unwrap_or(found.pinned.is_some()))
        }
        None => (reachable(found.address).to_string(), found.pinned.is_some()),
    };
    let file = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
    let (authorities, own) = (file(&globals.admin_ca), file(&globals.admin_cert));
    let tls = tls.then(|| Trust { pinned: found.pinned.unwrap_or_default(), authorities, own });
    let guessed = asked.is_none() && nowhere(globals);
    Ok(Place { authority, token_file, tls, guessed })
}

/// Refuses a configuration that was named and cannot be read: the usual address would be another weir's.
fn named_is_there(globals: &Globals) -> Result<(), Failure> {
    let Some(path) = &globals.config else { return Ok(()) };
    std::fs::File::open(path).and_then(|mut file| file.read(&mut [0])).map(drop).map_err(|error| {
        let path = path.display();
        Failure::wrong(format!(
            "cannot read {path}: {error}\n  it was named by --config or WEIR_CONFIG and says which weir to ask; \
             name that one with --admin URL, or mend the name"
        ))
    })
}

/// What a configuration says of the admin API.
struct Found {
    address: SocketAddr,
    token_file: Option<PathBuf>,
    /// The files of its certificates; none over plain HTTP.
    pinned: Option<Vec<PathBuf>>,
}

/// The admin API of a configuration, as far as it can be read.
fn admin_of(path: &Path) -> Found {
    if let Ok(config) = Config::load(path) {
        let AdminSpec { address, token_file, tls } = config.admin;
        let pinned = tls.map(|tls| tls.certificates.into_iter().map(|files| files.cert).collect());
        return Found { address, token_file, pinned };
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let admin = table.get_ref().get("admin").and_then(|value| value.get_ref().as_table());
    let member = |key: &str| admin?.get(key)?.get_ref().as_str();
    let address = member("address").and_then(|text| text.parse().ok()).unwrap_or(ADMIN);
    let beside = path.parent().unwrap_or(Path::new(""));
    let file = |value: &toml::Spanned<toml::de::DeValue<'_>>| {
        value.get_ref().get("cert").and_then(|cert| cert.get_ref().as_str()).map(|cert| beside.join(cert))
    };
    let tls = admin.and_then(|admin| admin.get("tls")).and_then(|tls| tls.get_ref().as_table());
    let pinned = tls.map(|tls| {
        let listed = tls.get("certificates").and_then(|list| list.get_ref().as_array());
        listed.into_iter().flat_map(|list| list.iter().filter_map(file)).collect()
    });
    Found { address, token_file: member("token_file").map(|file| beside.join(file)), pinned }
}

/// An address to connect to for an address to listen on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The authority of `http://host:port`, `https://host:port`, `host:port` or `host`, and whether TLS is spoken there.
fn authority(url: &str) -> Result<(String, Option<bool>), Failure> {
    let wrong =
        |why: &str| Failure::wrong(format!("\"{url}\" is no admin address: {why}; write http://127.0.0.1:9901"));
    let (rest, tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (rest, Some(false)),
        (_, Some(rest)) => (rest, Some(true)),
        _ => (url, None),
    };
    let rest = rest.trim_end_matches('/');
    let parsed: http::uri::Authority = rest.parse().map_err(|_| wrong("host and port are expected"))?;
    if rest.contains('@') {
        return Err(wrong("a token goes into a file, see --token-file"));
    }
    Ok((if parsed.port().is_some() { rest.to_owned() } else { format!("{rest}:{}", ADMIN.port()) }, tls))
}

// === impl Place ===

impl Place {
    /// `http://host:port`, as it is shown.
    pub(super) fn url(&self) -> String {
        format!("http{}://{}", if self.tls.is_some() { "s" } else { "" }, self.authority)
    }

    /// The host, without its port and brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_may_be_a_url_or_a_host() {
        for (given, meant, tls) in [
            ("http://127.0.0.1:9901", "127.0.0.1:9901", Some(false)),
            ("http://127.0.0.1:9901/", "127.0.0.1:9901", Some(false)),
            ("https://weir.internal", "weir.internal:9901", Some(true)),
            ("127.0.0.1:19901", "127.0.0.1:19901", None),
            ("localhost", "localhost:9901", None),
            ("http://[::1]:9901", "[::1]:9901", Some(false)),
        ] {
            assert_eq!(authority(given).ok(), Some((meant.to_owned(), tls)), "{given}");
        }
        for wrong in ["ftp://127.0.0.1:9901", "http://a/b", "user@host:1", "http://"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_to_listen_everywhere_is_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:9901".parse().expect("one")).to_string(), "127.0.0.1:9901");
        assert_eq!(reachable("[::]:9901".parse().expect("one")).to_string(), "[::1]:9901");
        assert_eq!(reachable("10.0.0.1:9901".parse().expect("one")).to_string(), "10.0.0.1:9901");
    }
}
