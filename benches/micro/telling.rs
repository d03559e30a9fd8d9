//! What is told of a request when it is over.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use weir::model::{AccessLog as Policy, LogFormat, LogSink, Why};
use weir::telemetry::access_log::{AccessLog, Record};
use weir::telemetry::histogram::Histogram;

use crate::CLIENT;

fn record(client_ip: IpAddr) -> Record<'static> {
    Record {
        unix_us: 1_790_000_000_123_456,
        request_id: b"0123456789abcdef0123456789abcdef",
        trace_id: None,
        client_ip: Some(client_ip),
        method: b"GET",
        host: b"www.example.com",
        path: b"/items/4711?page=2&sort=name",
        protocol: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: 5_120,
        duration_us: 1_234,
        upstream_us: Some(1_100),
        service: Some("engine"),
        pool: Some("canary"),
        why: Some(Why::Bucket),
        endpoint: Some("172.18.0.3:8080"),
        attempts: "canary:200",
        generation: 7,
        fault: None,
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        grpc_status: None,
        bucket: Some(123_456),
    }
}

pub(crate) fn all(c: &mut Criterion) {
    let (histogram, mut us) = (Histogram::default(), 1_u64);
    c.bench_function("histogram record", |b| {
        b.iter(|| {
            // From 1 µs to about 65 ms, in no order.
            us = us.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            histogram.record_us(black_box(us >> 48));
        });
    });
    for (label, format) in [("JSON", LogFormat::Json), ("text", LogFormat::Text)] {
        // The chunks go to the writer thread as they do in service; what it cannot take is dropped at the same cost.
        let policy = Policy { sink: LogSink::File("/dev/null".into()), format, sample: 1.0 };
        let mut logger = AccessLog::start(&policy).logger();
        let record = record(CLIENT);
        c.bench_function(&format!("access log line, {label}"), |b| b.iter(|| logger.write(black_box(&record))));
    }
}
