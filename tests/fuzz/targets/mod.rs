//! One module for each parser of untrusted text: `check` takes any bytes and panics when a promise about them is
//! broken.
//! `tests/corpus.rs` runs them over `tests/corpus/<target>/` and seeded mutations of it, `tests/fuzz` under libFuzzer.

pub(crate) mod request_head;
pub(crate) mod response_head;

pub(crate) mod chunked;

pub(crate) mod announced;
pub(crate) mod answer;
pub(crate) mod cached;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(crate) mod forwarded_for;

pub(crate) mod h2_frames;
pub(crate) mod hpack;
pub(crate) mod http2_frames;
pub(crate) mod socket_frames;

pub(crate) mod affinity;
pub(crate) mod cookie_field;
pub(crate) mod paths;
pub(crate) mod routes;
pub(crate) mod traceparent;

pub(crate) mod admin_json;
pub(crate) mod plans;
pub(crate) mod values;
pub(crate) mod weights_toml;
pub(crate) mod weir_toml;

mod http;
mod world;

/// A target: its name, which is that of its corpus and of its fuzzer, and its check.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const ALL: [Target; 23] = [
    ("admin_json", admin_json::check),
    ("affinity", affinity::check),
    ("announced", announced::check),
    ("answer", answer::check),
    ("cached", cached::check),
    ("chunked", chunked::check),
    ("cookie_field", cookie_field::check),
    ("forward", forward::check),
    ("forwarded", forwarded::check),
    ("forwarded_for", forwarded_for::check),
    ("h2_frames", h2_frames::check),
    ("hpack", hpack::check),
    ("http2_frames", http2_frames::check),
    ("paths", paths::check),
    ("plans", plans::check),
    ("request_head", request_head::check),
    ("response_head", response_head::check),
    ("routes", routes::check),
    ("socket_frames", socket_frames::check),
    ("traceparent", traceparent::check),
    ("values", values::check),
    ("weights_toml", weights_toml::check),
    ("weir_toml", weir_toml::check),
];
