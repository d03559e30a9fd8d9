//! Where things are when nobody says so: the configuration, and the admin API of the weir that runs by it.
//!
//! The admin address is found even in a configuration that does not hold: exactly then somebody wants `weir status`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Globals;
use super::failure::Failure;
use crate::config::Config;

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
}

/// The configuration file: named, else the first that exists, else the first of those that are looked for.
pub(super) fn config_path(globals: &Globals) -> PathBuf {
    let named = globals.config.clone();
    let existing = || CONFIG_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(existing).unwrap_or_else(|| CONFIG_PATHS[0].into())
}

/// The configuration, or every problem of it.
pub(super) fn config(globals: &Globals) -> Result<Config, Failure> {
    Config::load_with(config_path(globals), globals.token_file())
        .map_err(|problems| Failure::wrong(problems.to_string()))
}

/// Where the running weir takes commands.
pub(super) fn admin(globals: &Globals) -> Result<Place, Failure> {
    let (address, token_file) = admin_of(&config_path(globals));
    let token_file = globals.token_file().map(Path::to_owned).or(token_file);
    let authority = match globals.admin.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => authority(url)?,
        None => reachable(address).to_string(),
    };
    Ok(Place { authority, token_file })
}

/// The address and the token file that a configuration names, as far as it can be read.
fn admin_of(path: &Path) -> (SocketAddr, Option<PathBuf>) {
    if let Ok(config) = Config::load(path) {
        return (config.admin.address, config.admin.token_file);
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let admin = table.get_ref().get("admin").and_then(|value| value.get_ref().as_table());
    let member = |key: &str| admin?.get(key)?.get_ref().as_str();
    let address = member("address").and_then(|text| text.parse().ok()).unwrap_or(ADMIN);
    let beside = path.parent().unwrap_or(Path::new(""));
    (address, member("token_file").map(|file| beside.join(file)))
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

/// The authority of `http://host:port`, `host:port` or `host`.
fn authority(url: &str) -> Result<String, Failure> {
    let wrong =
        |why: &str| Failure::wrong(format!("\"{url}\" is no admin address: {why}; write http://127.0.0.1:9901"));
    if url.starts_with("https://") {
        return Err(wrong("the admin API speaks plain HTTP"));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let parsed: http::uri::Authority = rest.parse().map_err(|_| wrong("host and port are expected"))?;
    if rest.contains('@') {
        return Err(wrong("a token goes into a file, see --token-file"));
    }
    Ok(if parsed.port().is_some() { rest.to_owned() } else { format!("{rest}:{}", ADMIN.port()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_may_be_a_url_or_a_host() {
        for (given, meant) in [
            ("http://127.0.0.1:9901", "127.0.0.1:9901"),
            ("http://127.0.0.1:9901/", "127.0.0.1:9901"),
            ("127.0.0.1:19901", "127.0.0.1:19901"),
            ("localhost", "localhost:9901"),
            ("http://[::1]:9901", "[::1]:9901"),
        ] {
            assert_eq!(authority(given).ok().as_deref(), Some(meant), "{given}");
        }
        for wrong in ["https://127.0.0.1:9901", "http://a/b", "user@host:1", "http://"] {
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
