//! Promises of the access log over real files and pipes.

use std::path::{Path, PathBuf};

use super::*;

fn record(path: &[u8]) -> Record<'_> {
    Record {
        unix_us: 1,
        request_id: b"r",
        trace_id: None,
        client_ip: None,
        method: b"GET",
        host: b"h",
        path,
        protocol: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: 0,
        duration_us: 1,
        upstream_us: None,
        service: None,
        pool: None,
        why: None,
        endpoint: None,
        attempts: "",
        generation: 1,
        fault: None,
        user_agent: None,
        grpc_status: None,
        bucket: None,
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("weir-access-log-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn policy(path: &Path) -> Policy {
    Policy { sink: LogSink::File(path.into()), format: LogFormat::Json, sample: 1.0 }
}

fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fact() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn everything_handed_over_is_in_the_file_after_stop() {
    let dir = scratch("stop");
    let log = AccessLog::start(&policy(&dir.join("a.log")));
    let mut logger = log.logger();
    (0..1_000).for_each(|i| logger.write(&record(format!("/{i}").as_bytes())));
    drop(logger);
    assert!(log.stop(Duration::from_secs(10)));
    assert_eq!((lines(&dir.join("a.log")), log.dropped()), (1_000, 0));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn lines_wait_a_tenth_of_a_second_and_no_longer() {
    let dir = scratch("due");
    let log = AccessLog::start(&policy(&dir.join("a.log")));
    let mut logger = log.logger();
    logger.flush_due(1_000);
    logger.write(&record(b"/"));
    logger.flush_due(1_000 + FLUSH_MS - 1);
    assert_eq!(logger.lines, 1);
    logger.flush_due(1_000 + FLUSH_MS);
    wait_for("the line", || lines(&dir.join("a.log")) == 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_rotated_file_is_opened_anew() {
    let dir = scratch("rotate");
    let (path, old) = (dir.join("a.log"), dir.join("a.log.1"));
    let log = AccessLog::start(&policy(&path));
    let mut logger = log.logger();
    logger.write(&record(b"/1"));
    logger.flush();
    wait_for("the first line", || lines(&path) == 1);
    std::fs::rename(&path, &old).unwrap();
    log.reopen();
    wait_for("the new file", || path.exists());
    logger.write(&record(b"/2"));
    logger.flush();
    wait_for("the second line", || lines(&path) == 1);
    assert_eq!(lines(&old), 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_reader_that_does_not_read_costs_lines_and_never_waiting() {
    let dir = scratch("slow");
    let pipe = dir.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    // Opened for both, so that opening the other end does not wait; nobody reads.
    let _end = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let log = AccessLog::start(&policy(&pipe));
    let mut logger = log.logger();
    let began = Instant::now();
    let path = vec![b'x'; 4_000];
    (0..4_000).for_each(|_| logger.write(&record(&path)));
    logger.flush();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(log.dropped() > 1_000, "16 MB do not fit into the queue, {} dropped", log.dropped());
    assert!(!log.stop(Duration::from_millis(50)), "a stuck writer is left behind");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_full_disk_counts_lines_and_serves_on() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let dir = scratch("full");
    let log = AccessLog::start(&policy(Path::new("/dev/full")));
    let mut logger = log.logger();
    (0..3).for_each(|_| logger.write(&record(b"/")));
    logger.flush();
    wait_for("the loss to be counted", || log.dropped() == 3);
    log.change(&policy(&dir.join("a.log")));
    logger.write(&record(b"/"));
    logger.flush();
    wait_for("the line in the new file", || lines(&dir.join("a.log")) == 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn failed_requests_are_logged_at_any_sample_and_nothing_when_off() {
    let mut policy = Policy { sink: LogSink::Stdout, format: LogFormat::Text, sample: 0.0 };
    let log = AccessLog::start(&policy);
    let logger = log.logger();
    assert!(logger.wants(503, u64::MAX) && !logger.wants(200, 0));
    policy.sample = 0.5;
    log.change(&policy);
    assert!(logger.wants(200, u64::MAX / 2 - 1_000) && !logger.wants(200, u64::MAX / 2 + 1_000));
    policy.sample = 1.0;
    log.change(&policy);
    assert!(logger.wants(200, u64::MAX));
    policy.sink = LogSink::Off;
    log.change(&policy);
    assert!(!logger.wants(503, 0));
}
