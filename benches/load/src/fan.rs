//! Broadcast: one message from the first connection, and every connection must hear it, in turns.

use crate::connection::{Connection, Desk};
use crate::report::{self, Measured};
use crate::shape::Kind;
use crate::{Target, Time, Trouble, WireName, trouble};
use bench_kit::process::Usage;
use rustix::event::epoll::Event;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long opening all, and one message to all, may take.
const PATIENCE: Duration = Duration::from_secs(60);
const TURN_MAX: Duration = Duration::from_millis(20);

struct Fan {
    desk: Desk,
    connections: Vec<Connection>,
    events: Vec<Event>,
    open: usize,
    heard: u64,
}

/// What was counted so far.
struct Reading {
    at: Instant,
    heard: u64,
    own: Usage,
    server: Option<Usage>,
    reads: u64,
    writes: u64,
}

/// Opens `target.connections`; then the first of them sends a message and all wait for it, over and over. The next one
/// leaves when the last has been heard everywhere, so a server never has two broadcasts to join into one write.
pub(crate) fn run(target: &Target, time: &Time) -> Result<(), Trouble> {
    if target.wire != WireName::V2 {
        return trouble("only the handshake of v2 says that the server knows a connection");
    }
    let (address, shape) = target.shape(Kind::Echo)?;
    let (warm_up, duration) = time.durations()?;
    let mut fan = Fan {
        desk: Desk::new(Arc::new(shape), address, target.sources)?,
        connections: Vec::with_capacity(target.connections),
        events: Vec::with_capacity(1024),
        open: 0,
        heard: 0,
    };
    for token in 0..target.connections {
        let connection = fan.desk.dial(token as u64)?;
        fan.connections.push(connection);
    }
    fan.until(|fan| fan.open == target.connections)?;
    let mut latency = report::histogram();
    let begin = Instant::now();
    let mut before: Option<Reading> = None;
    let after = loop {
        match &before {
            None if begin.elapsed() >= warm_up => before = Some(fan.reading(target.watch)?),
            Some(before) if before.at.elapsed() >= duration => break fan.reading(target.watch)?,
            _ => {}
        }
        let sent = Instant::now();
        fan.round()?;
        if before.is_some() {
            let taken = (sent.elapsed().as_nanos() as u64).clamp(1, latency.high());
            latency
                .record(taken)
                .map_err(|error| Trouble(error.to_string()))?;
        }
    };
    let before = before.ok_or_else(|| Trouble("no measured time".into()))?;
    let measured = Measured {
        time: after.at - before.at,
        messages: after.heard - before.heard,
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
        bytes_per_message: fan.desk.shape.frame_len,
        own: report::difference(after.own, before.own),
        server: after
            .server
            .zip(before.server)
            .map(|(after, before)| report::difference(after, before)),
        latency,
    };
    if measured.messages == 0 {
        return trouble("not one broadcast was heard in the measured time");
    }
    let mut line = measured.to_json();
    line["mode"] = json!("fan");
    line["connections"] = json!(target.connections);
    line["payload_bytes"] = json!(target.payload);
    println!("{line}");
    for connection in fan.connections {
        connection.close(&mut fan.desk);
    }
    Ok(())
}

impl Fan {
    /// One broadcast, heard by all.
    fn round(&mut self) -> Result<(), Trouble> {
        let due = self.heard + self.connections.len() as u64;
        self.connections[0].outbox.due += 1;
        self.connections[0].flush(&mut self.desk)?;
        self.until(|fan| fan.heard >= due)
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Trouble> {
        let begin = Instant::now();
        while !done(self) {
            if begin.elapsed() > PATIENCE {
                return trouble(format!(
                    "{} of {} open, {} deliveries",
                    self.open,
                    self.connections.len(),
                    self.heard
                ));
            }
            let mut events = std::mem::take(&mut self.events);
            self.desk.wait(&mut events, TURN_MAX)?;
            for event in &events {
                let connection = &mut self.connections[event.data.u64() as usize];
                let fed = connection.on_event(event.flags, &mut self.desk)?;
                self.open += usize::from(fed.opened);
                self.heard += fed.messages;
                if !connection.outbox.is_empty() {
                    connection.flush(&mut self.desk)?;
                }
            }
            self.events = events;
        }
        Ok(())
    }

    fn reading(&self, watch: Option<u32>) -> Result<Reading, Trouble> {
        Ok(Reading {
            server: watch.map(Usage::of).transpose()?,
            own: Usage::of(std::process::id())?,
            at: Instant::now(),
            heard: self.heard,
            reads: self.desk.reads,
            writes: self.desk.writes,
        })
    }
}
