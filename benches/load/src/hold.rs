//! Connections for their own sake: many that idle, or many that come and go.

use crate::connection::{Connection, Desk};
use crate::report;
use crate::shape::Kind;
use crate::{Target, Time, Trouble, trouble};
use bench_kit::frame::PING;
use bench_kit::process::{self, Usage};
use rustix::event::epoll::Event;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const STDIN: u64 = u64::MAX;
/// How long opening all, or one answer from each, may take.
const PATIENCE: Duration = Duration::from_secs(60);
const TURN_MAX: Duration = Duration::from_millis(100);
const PING_ID: u32 = 1;

struct Held {
    desk: Desk,
    connections: Vec<Connection>,
    events: Vec<Event>,
    open: usize,
    answers: usize,
    stdin_ready: bool,
}

/// Opens `target.connections`, says so, and obeys standard input: `ping` and `echo` reach every connection and report
/// when all have answered, `close` or its end closes them.
pub(crate) fn idle(target: &Target, at_once: usize) -> Result<(), Trouble> {
    let (address, shape) = target.shape(Kind::Echo)?;
    let mut held = Held {
        desk: Desk::new(Arc::new(shape), address, target.sources)?,
        connections: Vec::with_capacity(target.connections),
        events: Vec::with_capacity(1024),
        open: 0,
        answers: 0,
        stdin_ready: false,
    };
    let retransmits = process::syn_retransmits()?;
    let begin = Instant::now();
    held.until(begin, |held| {
        while held.connections.len() < target.connections
            && held.connections.len() - held.open < at_once
        {
            let connection = held.desk.dial(held.connections.len() as u64)?;
            held.connections.push(connection);
        }
        Ok(held.open == target.connections)
    })?;
    say(json!({
        "event": "up",
        "connections": held.open,
        "seconds": begin.elapsed().as_secs_f64(),
        "syn_retransmits": process::syn_retransmits()?.saturating_sub(retransmits),
    }))?;
    held.desk.watch_stdin(STDIN)?;
    while let Some(command) = held.command()? {
        match command.as_str() {
            "ping" | "echo" => held.ask_all(&command)?,
            "close" => break,
            other => return trouble(format!("{other}: neither ping, echo nor close")),
        }
    }
    for connection in held.connections {
        connection.close(&mut held.desk);
    }
    say(json!({ "event": "closed" }))
}

impl Held {
    fn turn(&mut self) -> Result<(), Trouble> {
        let mut events = std::mem::take(&mut self.events);
        self.desk.wait(&mut events, TURN_MAX)?;
        for event in &events {
            if event.data.u64() == STDIN {
                self.stdin_ready = true;
                continue;
            }
            let connection = &mut self.connections[event.data.u64() as usize];
            let fed = connection.on_event(event.flags, &mut self.desk)?;
            self.open += usize::from(fed.opened);
            self.answers += (fed.messages + fed.pongs) as usize;
            if !connection.outbox.is_empty() {
                connection.flush(&mut self.desk)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn until(
        &mut self,
        begin: Instant,
        mut done: impl FnMut(&mut Self) -> Result<bool, Trouble>,
    ) -> Result<(), Trouble> {
        while !done(self)? {
            if begin.elapsed() > PATIENCE {
                return trouble(format!(
                    "{} of {} open, {} answers",
                    self.open,
                    self.connections.len(),
                    self.answers
                ));
            }
            self.turn()?;
        }
        Ok(())
    }

    fn ask_all(&mut self, what: &str) -> Result<(), Trouble> {
        let ping = what == "ping";
        if ping && self.desk.shape.version != 2 {
            return trouble("wire v1 has no ping; use echo");
        }
        self.answers = 0;
        let begin = Instant::now();
        for connection in &mut self.connections {
            if ping {
                self.desk.shape.push_control(
                    &mut connection.outbox.control,
                    PING,
                    PING_ID,
                    b"bench",
                );
            } else {
                connection.outbox.due += 1;
            }
            connection.flush(&mut self.desk)?;
        }
        self.until(begin, |held| Ok(held.answers >= held.connections.len()))?;
        say(
            json!({ "event": what, "answers": self.answers, "seconds": begin.elapsed().as_secs_f64() }),
        )
    }

    /// The next line of standard input, while the connections are served; `None` at its end.
    fn command(&mut self) -> Result<Option<String>, Trouble> {
        while !self.stdin_ready {
            self.turn()?;
        }
        self.stdin_ready = false;
        // One byte at a time from the descriptor itself: a buffered reader would hold lines that epoll cannot see.
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            match rustix::io::read(rustix::stdio::stdin(), &mut byte)? {
                0 if line.is_empty() => return Ok(None),
                1 if byte[0] != b'\n' => line.push(byte[0]),
                _ => return Ok(Some(String::from_utf8_lossy(&line).trim().to_owned())),
            }
        }
    }
}

/// All counters of a `connect` run at one moment.
struct Reading {
    at: Instant,
    done: u64,
    server: Option<Usage>,
    syn_retransmits: u64,
}

/// Keeps `target.connections` under way, each of which opens, has one message echoed and closes.
pub(crate) fn connect(target: &Target, time: &Time) -> Result<(), Trouble> {
    let (address, shape) = target.shape(Kind::Echo)?;
    let (warm_up, duration) = time.durations()?;
    let mut desk = Desk::new(Arc::new(shape), address, target.sources)?;
    let mut slots = Vec::new();
    for token in 0..target.connections {
        slots.push(Some(desk.dial(token as u64)?));
    }
    let mut events = Vec::with_capacity(1024);
    let reading = |done: u64| -> Result<Reading, Trouble> {
        let server = target.watch.map(Usage::of).transpose()?;
        Ok(Reading {
            at: Instant::now(),
            done,
            server,
            syn_retransmits: process::syn_retransmits()?,
        })
    };
    let (mut done, begin) = (0u64, Instant::now());
    let mut before: Option<Reading> = None;
    let after = loop {
        match &before {
            None if begin.elapsed() >= warm_up => before = Some(reading(done)?),
            Some(before) if before.at.elapsed() >= duration => break reading(done)?,
            _ => {}
        }
        desk.wait(&mut events, TURN_MAX)?;
        for event in &events {
            let slot = &mut slots[event.data.u64() as usize];
            // An event of the connection that was here before in this very turn.
            let Some(connection) = slot else { continue };
            let fed = connection.on_event(event.flags, &mut desk)?;
            if fed.opened {
                connection.outbox.due = 1;
            }
            if !connection.outbox.is_empty() {
                connection.flush(&mut desk)?;
            }
            if fed.messages > 0 {
                if let Some(ended) = slot.take() {
                    ended.close(&mut desk);
                }
                *slot = Some(desk.dial(event.data.u64())?);
                done += 1;
            }
        }
    };
    let before = before.ok_or_else(|| Trouble("no measured time".into()))?;
    let connections = after.done - before.done;
    let seconds = (after.at - before.at).as_secs_f64();
    let mut line = json!({
        "mode": "connect",
        "connections": connections,
        "seconds": seconds,
        "connections_per_s": connections as f64 / seconds,
        "syn_retransmits": after.syn_retransmits.saturating_sub(before.syn_retransmits),
    });
    if let (Some(after), Some(before)) = (after.server, before.server) {
        let used = report::difference(after, before);
        line["server_cpu_ns_per_connection"] =
            json!(used.cpu_ns as f64 / connections.max(1) as f64);
    }
    say(line)
}

fn say(line: serde_json::Value) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
