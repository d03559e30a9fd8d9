//! The soak: a weir under mixed load for minutes or hours, while endpoints fail, files change and certificates are
//! renewed. Every protocol has clients of its own (`clients`, `streams`, `sockets`); `faults` says what may fail and
//! when; `sample` looks at the process; `report` prints the table and the verdict. `benches/soak` builds and starts it.
//!
//! It measures no speed: the load is a steady part of what the machine can do.

mod clients;
mod faults;
mod ledger;
mod link;
mod origin;
mod process;
mod report;
mod sample;
mod site;
mod sockets;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::Faults;
use ledger::Ledger;
use process::Process;
use site::Site;
use tokio::sync::watch;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Part of the time that counts as warm-up: caches fill, pools of buffers reach their size. At least, and at most.
const WARM_UP: f64 = 0.25;
const WARM_UP_MAX: Duration = Duration::from_secs(180);

/// What all tasks share.
struct Stage {
    site: Site,
    faults: Faults,
    ledger: Ledger,
    stop: watch::Receiver<bool>,
}

impl Stage {
    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }
}

fn main() -> ExitCode {
    let (weir, minutes) = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("soak: {error}\nusage: soak --weir PROGRAM [--minutes N]");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&weir, Duration::from_secs_f64(minutes * 60.0))),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(PathBuf, f64), Error> {
    let (mut weir, mut minutes) = (None, 30.0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--weir" => weir = Some(PathBuf::from(value).canonicalize()?),
            "--minutes" => minutes = value.parse()?,
            _ => return Err(format!("no option {word}").into()),
        }
    }
    Ok((weir.ok_or("--weir is missing")?, minutes))
}

async fn run(weir: &std::path::Path, time: Duration) -> Result<bool, Error> {
    let site = Site::build().await?;
    let mut process = Process::start(weir, site.room.path()).await?;
    let at_rest = sample::take(process.id())?;
    let (stop, stopped) = watch::channel(false);
    let stage = Arc::new(Stage { site, faults: Faults::default(), ledger: Ledger::default(), stop: stopped });
    let mut load = clients::start(&stage, process.addresses());
    load.extend(streams::start(&stage, process.addresses()));
    load.extend(sockets::start(&stage, process.addresses()));
    let around = [
        tokio::spawn(faults::run(Arc::clone(&stage))),
        tokio::spawn(site::change_weights(Arc::clone(&stage))),
        tokio::spawn(site::change_config(Arc::clone(&stage))),
        tokio::spawn(site::renew_certificates(Arc::clone(&stage))),
    ];
    let began = Instant::now();
    let warm_up = time.mul_f64(WARM_UP).min(WARM_UP_MAX);
    tokio::time::sleep(warm_up / 4).await;
    process.upgrade().await?;
    let mut samples = Vec::new();
    while began.elapsed() < time {
        tokio::time::sleep(Duration::from_secs(1)).await;
        samples.push((began.elapsed(), sample::take(process.id())?));
        report::progress(began.elapsed(), samples.last(), &stage.ledger);
    }
    stop.send(true)?;
    for task in around.into_iter().chain(load) {
        tokio::time::timeout(Duration::from_secs(60), task).await??;
    }
    let left = sample::settled(process.id(), at_rest.descriptors).await?;
    let status = process.status().await?;
    process.stop().await?;
    Ok(report::Report { stage: &stage, time, warm_up, samples, at_rest, left, status }.print())
}
