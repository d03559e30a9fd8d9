//! `POST /api/v1/explain`: a request is described, what would become of it is told. Nothing is sent anywhere.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::Value;

use super::body::{self, Fields};
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::model::Head;

/// A request as somebody describes it.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its head, in canonical form.
    pub head: Head,
    /// The client; 127.0.0.1 when it is not told.
    pub client_ip: IpAddr,
    /// The listener it comes in by; none: one without a pinned pool.
    pub listener: Option<String>,
}

/// `POST /api/v1/explain`.
pub(super) async fn explain(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let described = Described::read(body::read(request.into_body()).await?)?;
    let snapshot = admin.board.switchboard.snapshot().load_full();
    (admin.board.explain)(&snapshot, &described).map(Json).map_err(|why| Problem::new(Code::Invalid, why))
}

// === impl Described ===

impl Described {
    pub(super) fn read(mut fields: Fields) -> Result<Self, Problem> {
        let method = fields.text("method")?.unwrap_or_else(|| "GET".into());
        let host = fields.text("host")?.unwrap_or_else(|| "localhost".into());
        let path = fields.text("path")?;
        let listener = fields.text("listener")?;
        let client_ip = fields.text("client_ip")?.map(|text| text.parse().map_err(|_| not("client_ip", "an address")));
        let client_ip = client_ip.transpose()?.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut headers = fields.pairs("headers")?;
        let cookies = fields.pairs("cookies")?;
        fields.finish("method, host, path, headers, cookies, client_ip, listener")?;
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(not("method", "a method"));
        }
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)) {
            return Err(not("host", "a host, perhaps with a port"));
        }
        // A CONNECT names an authority and nothing else (RFC 9110 §9.3.6).
        let connect = method == "CONNECT";
        if connect && path.is_some() {
            return Err(not("path", "part of a CONNECT; its \"host\" is what it asks for, such as db.internal:5432"));
        }
        if connect && host.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(not("host", "a host and a port, which a CONNECT asks for"));
        }
        let path = path.unwrap_or_else(|| if connect { String::new() } else { "/".into() });
        if !connect && !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(not("path", "a path such as /a?b=c, escaped as it would be sent"));
        }
        for (name, value) in &mut headers {
            name.make_ascii_lowercase();
            if name.is_empty()
                || !name.bytes().all(is_token)
                || value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f)
            {
                return Err(not("headers", "an object of header names and values"));
            }
        }
        let legal = |text: &str| !text.bytes().any(|b| b <= 0x20 || b == 0x7f || b == b';');
        if cookies.iter().any(|(name, value)| !name.bytes().all(is_token) || !legal(value)) {
            return Err(not("cookies", "an object of cookie names and values"));
        }
        if !cookies.is_empty() {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.push(("cookie".into(), pairs.join("; ")));
        }
        let sent = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Ok(Self { head: Head::describe(&method, &host, &path, sent), client_ip, listener })
    }
}

fn not(member: &str, what: &str) -> Problem {
    Problem::new(Code::Invalid, format!("\"{member}\" is not {what}"))
}

/// A character of a method or header name (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
