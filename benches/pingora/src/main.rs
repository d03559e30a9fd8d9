//! The smallest Pingora program that does weir's job in `benches/compare`: one listener, two upstreams, a 90/10 split.
//!
//! One worker thread, HTTP/1.1 and h2c from clients, HTTP/1.1 to upstreams, no log, no health checks, no affinity.
//! Usage: `pingora-split LISTEN STABLE CANARY`, each an `address:port`.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// Sends every tenth request to the canary.
struct Split {
    stable: String,
    canary: String,
    picks: AtomicU32,
}

#[async_trait]
impl ProxyHttp for Split {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let pick = self.picks.fetch_add(1, Ordering::Relaxed);
        let address = if pick.is_multiple_of(10) { &self.canary } else { &self.stable };
        Ok(Box::new(HttpPeer::new(address.as_str(), false, String::new())))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, stable, canary] = arguments.as_slice() else {
        eprintln!("usage: pingora-split LISTEN STABLE CANARY");
        std::process::exit(2);
    };
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 256, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let split = Split { stable: stable.clone(), canary: canary.clone(), picks: AtomicU32::new(0) };
    let mut service = http_proxy_service(&server.configuration, split);
    if let Some(logic) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        logic.server_options = Some(options);
    }
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
