//! `msgtrans listen`: messages on standard output as they arrive.

use std::future::pending;
use std::time::Duration;

use msgtrans::{CloseReason, Code, EventStream, TransportError, TransportEvent};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::connect::{self, Target};
use crate::failure::Failure;
use crate::output::{Output, packet_object};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time; with --count it is an error if fewer came
    #[arg(long, value_name = "SECONDS", value_parser = connect::seconds)]
    timeout: Option<Duration>,
}

/// Why listening ended.
enum End {
    Count,
    Time,
    CtrlC,
    Closed(CloseReason),
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let url = &args.target.url;
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let connect_timeout = args.timeout.unwrap_or(connect::TIMEOUT);
    let client = args
        .target
        .connect(connect_timeout.min(connect::TIMEOUT))
        .await?;
    let mut events = client.events();
    let mut seen = 0;
    let end = listen(&mut events, args.count, &mut seen, deadline, output).await;
    if !matches!(end, Ok(End::Closed(_))) {
        // Nothing that still comes is of interest.
        drop(events);
        connect::leave(&client).await;
    }
    let end = end?;
    if output.is_json() {
        let reason = match &end {
            End::Count => "count".to_owned(),
            End::Time => "timeout".to_owned(),
            End::CtrlC => "interrupted".to_owned(),
            End::Closed(reason) => reason.to_string(),
        };
        output.object(&json!({ "event": "closed", "reason": reason, "messages": seen }))?;
    }
    let missing = args.count.filter(|count| seen < *count);
    match (end, missing) {
        (End::Closed(reason), None) if reason.is_clean() => {
            output.chat(&format!("{url}: {reason}"));
            Ok(())
        }
        (End::Closed(reason), None) => Err(Failure::failed(format!("{url}: {reason}"))),
        (End::Closed(reason), Some(count)) => Err(Failure::failed(format!(
            "{url}: {reason}: {seen} of {count} messages came before"
        ))),
        (End::Time, Some(count)) => Err(Failure::failed(format!(
            "{url}: {seen} of {count} messages came within {:?}",
            args.timeout.unwrap_or_default()
        ))),
        (End::Count | End::Time | End::CtrlC, _) => Ok(()),
    }
}

async fn listen(
    events: &mut EventStream,
    count: Option<u64>,
    seen: &mut u64,
    deadline: Option<Instant>,
    output: &Output,
) -> Result<End, Failure> {
    let stop = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    };
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(stop, ctrl_c);
    loop {
        let event = tokio::select! {
            // First, so that it is listened for before anything is printed.
            biased;
            _ = &mut ctrl_c => return Ok(End::CtrlC),
            () = &mut stop => return Ok(End::Time),
            event = events.next() => event,
        };
        match event {
            Some(TransportEvent::MessageReceived { packet, .. }) => {
                if output.is_json() {
                    let mut object = packet_object(&packet);
                    object["event"] = json!("message");
                    output.object(&object)?;
                } else {
                    output.payload(&packet.payload)?;
                }
                *seen += 1;
                if count.is_some_and(|count| *seen >= count) {
                    return Ok(End::Count);
                }
            }
            Some(TransportEvent::ConnectionEstablished { session_id, info }) => {
                if output.is_json() {
                    output.object(&json!({
                        "event": "connected",
                        "session": session_id.to_string(),
                        "protocol": info.protocol,
                        "peer": info.peer.to_string(),
                    }))?;
                } else {
                    output.chat(&format!(
                        "connected over {} to {} as {session_id}; Ctrl-C ends it",
                        info.protocol, info.peer
                    ));
                }
            }
            Some(TransportEvent::RequestReceived { responder, .. }) => {
                responder.fail(Code::UNSUPPORTED, "this client only listens");
                output.note("the server made a request, which a listener does not answer");
            }
            Some(TransportEvent::Gap { .. }) => {
                output.note("the server dropped messages here because they were not taken in time");
            }
            Some(TransportEvent::GoingAway { goodbye, .. }) => {
                output.chat(&format!("the server is about to leave: {}", goodbye.reason));
            }
            Some(TransportEvent::ConnectionClosed { reason, .. }) => {
                return Ok(End::Closed(reason));
            }
            // Dialling once more as version 1 is logged already.
            Some(TransportEvent::Error {
                error: TransportError::Connect(_),
                ..
            }) => {}
            Some(TransportEvent::Error { error, .. }) => output.note(&error.to_string()),
            Some(_) => {}
            None => return Ok(End::Closed(CloseReason::normal())),
        }
    }
}
