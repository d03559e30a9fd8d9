//! Load clients that `benches/compare`, `benches/floods` and `benches/instructions` need and that wrk and h2load do not
//! offer.
//!
//! One thread per client, raw sockets and epoll, HTTP/1.1 with `Content-Length` answers only, or WebSocket messages of
//! one length; endpoints for these and for HTTP/2, which must not be what sets the rate; and clients that mean no good
//! (`attack`). Every client prints one JSON object. It is not a general load generator and not part of weir: it refuses
//! answers it cannot count exactly.

mod attack;
mod calls;
mod connection;
mod echo;
mod endpoint;
mod epoll;
mod fetch;
mod histogram;
mod hold;
mod options;
mod polite;
mod rate;
mod shift;
mod socket;

use std::process::ExitCode;

use crate::options::Options;

const USAGE: &str = "\
usage: load COMMAND --target ADDRESS:PORT [--path /] [--header 'name: value']…
  fetch  --requests N                              one connection, one request after the other
  rate   --rate PER_SECOND --connections N --seconds S --warm-up S   open loop: latency from the intended start
  polite --rate PER_SECOND --fresh-rate PER_SECOND --connections N --seconds S --warm-up S   the same, also on new ones
  attack --kind KIND --connections N --rate PER_SECOND --threads N --network N --seconds S
                                                   connections that mean no good, from 127.0.N.0
  hold   --connections N                           one request each, then hold them until standard input ends
  socket --connections N --seconds S [--through HOST:PORT]   WebSocket messages and their echo, one in flight per
                                                   connection; within a tunnel that a CONNECT opens
  echo   --also ADDRESS:PORT                       the echo of these, on both addresses, until it is ended
  calls  --also ADDRESS:PORT                       an endpoint that speaks cleartext HTTP/2, on both addresses, likewise
  shift  --connections N --shifts N --gap-ms MS --how file|rename|put --file PATH --admin ADDRESS:PORT --service NAME
  reload --connections N --shifts N --gap-ms MS --file PATH --service NAME    many rewrites, then one decisive shift";

fn main() -> ExitCode {
    let result = Options::parse(std::env::args().skip(1)).and_then(|options| match options.command.as_str() {
        "fetch" => fetch::run(&options),
        "rate" => rate::run(&options),
        "polite" => polite::run(&options),
        "attack" => attack::run(&options),
        "hold" => hold::run(&options),
        "socket" => socket::run(&options),
        "echo" => endpoint::run::<echo::Echo>(&options),
        "calls" => endpoint::run::<calls::Caller>(&options),
        "shift" => shift::run(&options),
        "reload" => shift::run_reloads(&options),
        other => Err(std::io::Error::other(format!("no command {other}"))),
    });
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}
