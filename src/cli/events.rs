//! `weir events`: what happened to rollouts and kill switches, and with `--follow` what happens. Followed over a
//! restart of weir: it takes up where it was by the id of the last event. Where no weir runs, what the state directory
//! holds.

use std::time::Duration;

use clap::Args;
use http::StatusCode;
use http_body_util::BodyExt;
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Answer, Client, ClientError, Question};
use super::failure::Failure;
use super::record::Offline;
use super::rollout::picture::event_line;
use super::rollout::view::EventView;
use super::screen::Paint;
use super::{Globals, near, screen};

/// Without `--follow`: what was kept has arrived when nothing came for so long.
const QUIET: Duration = Duration::from_millis(700);

/// Before another try when the stream broke.
const AGAIN: Duration = Duration::from_secs(1);

/// Largest event that is read.
const EVENT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir events
  weir events --follow --service engine
  weir events --follow --output json | jq -r .message")]
pub(super) struct Arguments {
    /// Go on with what happens, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only what came after the event of this id
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    since: u64,
    /// Of this service only
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    offline: Offline,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.offline.is_meant() {
        return recorded(arguments, globals);
    }
    let client = Client::new(globals)?;
    if let Some(service) = &arguments.service {
        // None are known when it cannot be asked, which is said below.
        let known = near::services(&client);
        if !known.is_empty() && !known.contains(service) {
            let advice = near::advice(service, &known.iter().map(String::as_str).collect::<Vec<_>>());
            screen::note(&format!("this weir has no service \"{service}\"{advice}"));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            biased;
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            ended = read(&client, arguments, globals) => ended,
        }
    })
}

/// What the state directory holds.
fn recorded(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.follow {
        return Err(Failure::wrong("a record does not go on; --follow asks a running weir"));
    }
    let events = arguments.offline.open(globals)?.events(arguments.since, u64::MAX)?;
    events.iter().try_for_each(|event| show(&serde_json::to_value(event)?, arguments, globals))
}

async fn read(client: &Client, arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let (mut last, mut reached) = (arguments.since, false);
    loop {
        let ended = stream(client, arguments, globals, &mut last, &mut reached).await;
        match ended {
            Ok(()) if !arguments.follow => return Ok(()),
            // The first try tells what is wrong; later ones wait for weir to come back.
            Err(failure) if !arguments.follow || !reached || matches!(failure, Failure::Said(_)) => {
                return Err(failure);
            }
            Ok(()) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Reads the stream until it ends or, without `--follow`, is quiet.
async fn stream(
    client: &Client,
    arguments: &Arguments,
    globals: &Globals,
    last: &mut u64,
    reached: &mut bool,
) -> Result<(), Failure> {
    let question = Question::get("/api/v1/events").header("accept", "text/event-stream");
    let question = question.header("last-event-id", &last.to_string());
    let response = match client.open(question).await {
        Ok(response) => response,
        Err(error @ ClientError::NotRunning { .. }) if !arguments.follow && !*reached => {
            screen::note(&format!("{error}; this is what the state directory says"));
            *reached = true;
            return recorded(arguments, globals);
        }
        Err(error) => return Err(client.unanswered(error)),
    };
    let status = response.status();
    let mut body = response.into_body();
    if status != StatusCode::OK {
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return client.document(&Answer { status, body: bytes }).map(|_| ());
    }
    *reached = true;
    let mut parser = Parser::default();
    loop {
        let frame = match arguments.follow {
            true => body.frame().await,
            false => match tokio::time::timeout(QUIET, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Ok(()),
            },
        };
        let Some(frame) = frame else { return Ok(()) };
        let Ok(frame) = frame else { return Err(broken()) };
        let Some(data) = frame.data_ref() else { continue };
        for event in parser.push(data).ok_or_else(broken)? {
            *last = event["id"].as_u64().unwrap_or(*last);
            show(&event, arguments, globals)?;
        }
    }
}

fn broken() -> Failure {
    Failure::failed("the stream of events broke off")
}

fn show(event: &Value, arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let view: EventView = serde_json::from_value(event.clone()).unwrap_or_default();
    if arguments.service.as_ref().is_some_and(|service| view.service != *service) {
        return Ok(());
    }
    if globals.json() {
        return screen::print(&format!("{event}\n"));
    }
    let columns = screen::size().map_or(usize::MAX, |(columns, _)| columns);
    let service = Some(super::screen::printable(&view.service)).filter(|service| !service.is_empty());
    let service = service.map(|service| format!("{service}: ")).unwrap_or_default();
    let view = EventView { message: format!("{service}{}", view.message), ..view };
    screen::print(&format!("{}\n", event_line(&view, &TimeZone::system(), columns, Paint::stdout())))
}

/// Puts `text/event-stream` together: WHATWG HTML 9.2, as far as weir uses it.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    data: String,
    id: Option<u64>,
}

impl Parser {
    /// The events that end within these bytes; none when one is larger than any event can be.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Value>> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => events.extend(self.line_ended()),
                b'\r' => {}
                byte => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return None;
            }
        }
        Some(events)
    }

    fn line_ended(&mut self) -> Option<Value> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let mut event: Value = serde_json::from_str(&data).ok()?;
            if let (Some(id), Some(object)) = (self.id, event.as_object_mut()) {
                object.entry("id").or_insert_with(|| id.into());
            }
            return Some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" if self.data.is_empty() => self.data.push_str(value),
            "data" => {
                self.data.push('\n');
                self.data.push_str(value);
            }
            "id" => self.id = value.parse().ok().or(self.id),
            _ => {}
        }
        None
    }
}

/// Hands every event to `take`, those that were kept first, for as long as it is polled; over restarts of weir.
pub(super) async fn feed(client: &Client, mut take: impl FnMut(&Value)) {
    let mut last = 0;
    loop {
        let question = Question::get("/api/v1/events").header("accept", "text/event-stream");
        let response = client.open(question.header("last-event-id", &last.to_string())).await;
        if let Some(mut body) = response.ok().filter(|it| it.status() == StatusCode::OK).map(|it| it.into_body()) {
            let mut parser = Parser::default();
            while let Some(Ok(frame)) = body.frame().await {
                for event in frame.data_ref().and_then(|data| parser.push(data)).into_iter().flatten() {
                    last = event["id"].as_u64().unwrap_or(last);
                    take(&event);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_however_the_bytes_arrive() {
        let text = ": hello\n\nid: 7\nevent: alarm\ndata: {\"message\":\"a\"}\n\n\
                    id: 8\r\ndata: {\"message\":\ndata: \"b\"}\r\n\r\n";
        for size in [1, 3, text.len()] {
            let mut parser = Parser::default();
            let events: Vec<Value> =
                text.as_bytes().chunks(size).flat_map(|chunk| parser.push(chunk).expect("small")).collect();
            assert_eq!(events.len(), 2, "{events:?}");
            assert_eq!((&events[0]["id"], &events[0]["message"]), (&7.into(), &"a".into()));
            assert_eq!((&events[1]["id"], &events[1]["message"]), (&8.into(), &"b".into()));
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.push(&vec![b'x'; EVENT_BYTES_MAX + 1]).is_none());
    }
}
